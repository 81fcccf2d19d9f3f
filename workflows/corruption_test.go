package workflows

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"github.com/battwheels/runbook/activities"
)

func newIncident(t *testing.T) *world {
	w := newWorld(t)
	w.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: IncidentID("battwheels"), TaskQueue: TaskQueue})
	w.relaySignals()
	return w
}

func (w *world) corruption(in CorruptionInput) IncidentResult {
	w.t.Helper()
	w.ExecuteWorkflow(DatabaseCorruption, in)
	require.True(w.t, w.IsWorkflowCompleted())
	require.NoError(w.t, w.GetWorkflowError())
	var r IncidentResult
	require.NoError(w.t, w.GetWorkflowResult(&r))
	return r
}

func TestCorruptionDumpsRestoresTellsAndReports(t *testing.T) {
	w := newIncident(t)
	w.approves()
	r := w.corruption(CorruptionInput{Alert: &Alert{Name: "MongoDBCorruption", StartsAt: damageBegan}})
	require.Equal(t, Recovered, r.Outcome)
	require.Equal(t, 148, r.MailsSent)
	require.Equal(t, 2, r.MailsUndeliverable)
	require.Equal(t, 150, r.OrganizationsActive)
	require.Equal(t, "report/"+r.Incident, r.Report)
	require.Equal(t, 1, w.times("Dump emergency"))
	w.before("OpenIncident", "Dump emergency")
	w.before("Dump emergency", "ChooseBackup")
	w.before("StartApplication", "FreezeMails")
	w.before("SendBatch 1", "CloseIncident")
}

func TestPeopleKnockAtTheIncidentOrAtTheRestore(t *testing.T) {
	w := newIncident(t)
	w.at(time.Minute, func() { w.says(DoorApprove, Answer{Plan: "OLD-999"}, "plan OLD-999 is not the one") })
	w.approves()
	r := w.corruption(CorruptionInput{})
	require.Equal(t, "Asha", r.Restore.ApprovedBy)
	require.Len(t, r.Restore.Answers, 2)
}

func TestRejectedIncidentTellsNoOrganization(t *testing.T) {
	w := newIncident(t)
	w.at(time.Minute, func() { w.says(DoorReject, Answer{}, "") })
	r := w.corruption(CorruptionInput{})
	require.Equal(t, Rejected, r.Outcome)
	require.False(t, w.ran("FreezeMails"))
	require.Empty(t, r.Report)
	require.True(t, w.ran("TellPeople done"))
	require.True(t, w.ran("CloseIncident"))
}

func TestMailServiceDownForAnHourDelaysOnlyTheMails(t *testing.T) {
	w := newIncident(t)
	w.approves()
	down := damageBegan.Add(time.Hour)
	w.fail["SendBatch 0"] = func(int) error {
		if w.Now().Before(down) {
			return errors.New("connection refused")
		}
		return nil
	}
	w.at(30*time.Minute, func() {
		require.Contains(t, w.statusNow().Steps, Step{stepMails, Running, "batch 1 of 2; 0 mails sent, 2 undeliverable so far"})
	})
	r := w.corruption(CorruptionInput{})
	require.Equal(t, Recovered, r.Outcome)
	require.Equal(t, 148, r.MailsSent, "%v", r.Warnings)
	require.Less(t, r.RTOSeconds, time.Hour.Seconds())
	require.Greater(t, w.times("SendBatch 0"), 5)
}

func TestMailServiceDownForDaysListsTheBatchForAPerson(t *testing.T) {
	w := newIncident(t)
	w.approves()
	w.fail["SendBatch 0"] = always(errors.New("connection refused"))
	r := w.corruption(CorruptionInput{})
	require.Equal(t, Recovered, r.Outcome)
	require.Equal(t, 48, r.MailsSent)
	require.Equal(t, 100, r.MailsUnknown)
	require.NotEmpty(t, r.Warnings)
}

// TestThePlanShowsWhoWillBeTold in the details that the Temporal UI shows.
func TestThePlanShowsWhoWillBeTold(t *testing.T) {
	told := &activities.Told{Preview: "/incidents/i1/preview-mail.html"}
	told.Organizations, told.Mails, told.ThroughOwner, told.WithoutAddress, told.FromBackup = 5000, 4997, 12, 3, true
	s := Status{Target: "battwheels", Plan: &activities.Plan{Code: "AAA-111", RadiusKnown: true, Told: told}, Asked: "approve"}
	require.Contains(t, s.Markdown(), "4,997 organizations will be told, in 4,997 mails; 12 of them through their owner's address; 3 more have no address. "+
		"The addresses are the backup's: the database could not be read. Who, and a preview of the mail: `/incidents/i1/preview-mail.html`")
}

func TestAbortDuringTheEmergencyDumpChangesNothing(t *testing.T) {
	w := newIncident(t)
	w.when["Dump emergency"] = func() {
		w.SignalWorkflow(DoorAbort, Answer{By: "Asha", Reason: "false alarm"})
	}
	w.fail["Dump emergency"] = always(errors.New("still reading"))
	r := w.corruption(CorruptionInput{})
	require.Equal(t, Aborted, r.Outcome)
	require.False(t, w.ran("StageBackup"))
}

func TestSecondAlertJoinsTheIncident(t *testing.T) {
	w := newIncident(t)
	w.at(30*time.Second, func() { w.SignalWorkflow(SignalAlert, Alert{Name: "MongoDBCorruption"}) })
	w.at(31*time.Second, func() { w.SignalWorkflow(SignalAlert, Alert{Name: "MongoDBCorruption"}) })
	w.approves()
	w.corruption(CorruptionInput{})
	v, err := w.QueryWorkflow(QueryStatus)
	require.NoError(t, err)
	var s Status
	require.NoError(t, v.Get(&s))
	require.Equal(t, 2, s.Alerts)
	require.Equal(t, 1, w.times("Dump emergency"))
}

func TestSinceOfTheAlertChoosesTheBackup(t *testing.T) {
	said := CorruptionInput{Since: "2026-02-24T01:00:00Z", Alert: &Alert{StartsAt: damageBegan}}
	require.Equal(t, Since("2026-02-24T01:00:00Z"), said.since())
	said.Since = ""
	require.Equal(t, Since("2026-02-24T03:12:00Z"), said.since())
}

func TestReportRemindsEscalatesAndClosesWhenPosted(t *testing.T) {
	w := newWorld(t)
	w.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: ReportID("i1"), TaskQueue: TaskQueue})
	w.at(50*time.Hour, func() {
		require.Equal(t, 4, w.times("TellPeople report-reminder"))
		require.Equal(t, 1, w.times("TellPeople report-overdue"))
		w.UpdateWorkflow(DoorPostReport, "1", &updateIgnored{}, Posting{URL: "https://status.example.com/7", By: "Asha"})
	})
	w.ExecuteWorkflow(IncidentReport, ReportInput{Target: "battwheels", Incident: "i1", DetectedAt: damageBegan})
	require.NoError(t, w.GetWorkflowError())
	var r ReportResult
	require.NoError(t, w.GetWorkflowResult(&r))
	require.True(t, r.Late)
	require.Equal(t, "https://status.example.com/7", r.Posting.URL)
	require.Equal(t, 2, w.times("DraftReport"))
}

func TestReportPostedInTimeSendsNoReminder(t *testing.T) {
	w := newWorld(t)
	w.at(time.Hour, func() {
		w.UpdateWorkflow(DoorPostReport, "1", &updateIgnored{}, Posting{URL: "https://status.example.com/7", By: "Asha"})
	})
	w.ExecuteWorkflow(IncidentReport, ReportInput{Target: "battwheels", Incident: "i1", DetectedAt: damageBegan})
	require.NoError(t, w.GetWorkflowError())
	require.Empty(t, w.told)
}

func TestInputsRefuseWhatIsMisspelt(t *testing.T) {
	var in CorruptionInput
	err := in.UnmarshalJSON([]byte(`{"traget":"battwheels"}`))
	require.EqualError(t, err, `input has no field "traget"; the fields are: target, backup, since, dryRun, alert, by, reason`)
	require.ErrorContains(t, in.UnmarshalJSON([]byte(`{"target":7}`)), `"target" must be a string, not a number`)
	require.ErrorContains(t, in.UnmarshalJSON([]byte(`["battwheels"]`)), "must be one JSON object")
	require.NoError(t, in.UnmarshalJSON([]byte(`null`)))
	require.NoError(t, in.UnmarshalJSON([]byte(`{}`)))
}

func TestDetailsFitIntoAQueryString(t *testing.T) {
	s := Status{Target: "battwheels", Plan: &activities.Plan{Code: "AAA-111", RadiusKnown: true}, Asked: "approve"}
	for range 60 {
		s.Steps = append(s.Steps, Step{Name: "Stage it beside the live data", State: Done, Note: strings.Repeat("x", 60)})
		s.Plan.Warnings = append(s.Plan.Warnings, strings.Repeat("w", 80))
	}
	require.LessOrEqual(t, len(s.Markdown()), detailsLimit)
	require.Contains(t, s.Markdown(), "A person is asked")
}

type updateIgnored struct{}

func (*updateIgnored) Accept()             {}
func (*updateIgnored) Reject(error)        {}
func (*updateIgnored) Complete(any, error) {}
