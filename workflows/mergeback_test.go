package workflows

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"github.com/battwheels/runbook/activities"
	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/internal/undelete"
)

// merging is a world in which a restore left 1,311 newer documents in the safety dump of the incident lostIn.
type merging struct {
	*shop
	open bool // the report of that incident is
	from activities.NewerSource
	note activities.MergedBack
}

const lostIn = "20260224T010000Z-aaaaaa"

func newMerging(t *testing.T) *merging {
	m := &merging{shop: newShop(t), open: true}
	m.from = activities.NewerSource{Of: lostIn, Safety: activities.BackupRef{ID: "safety", Documents: 5000}, Backup: activities.BackupRef{ID: "restored"}, Only: []string{"invoices"}}
	m.missing.Without, m.missing.Audited = "restored", 0
	anything := mock.Anything
	m.OnActivity(lost.CheckSafetyDump, anything, anything).Return(func(_ context.Context, in activities.NewerInput) (activities.NewerSource, error) {
		if in.Of != "" && in.Of != lostIn {
			return activities.NewerSource{}, final(activities.BadInput, "incident "+in.Of+" has no safety dump")
		}
		return m.from, m.hit("CheckSafetyDump")
	})
	m.OnActivity(records.NoteMergedBack, anything, anything).Return(func(_ context.Context, in activities.MergedBack) (bool, error) {
		m.note = in
		return m.open, m.hit("NoteMergedBack")
	})
	return m
}

func (m *merging) merge(in MergeBackInput) IncidentResult {
	m.t.Helper()
	m.ExecuteWorkflow(MergeBack, in)
	require.True(m.t, m.IsWorkflowCompleted())
	require.NoError(m.t, m.GetWorkflowError())
	var r IncidentResult
	require.NoError(m.t, m.GetWorkflowResult(&r))
	return r
}

// TestMergeBackShowsAllThatIsNewerAndBringsBackWhatWasApproved proves the order of things: the safety dump is checked before anything is
// searched, a plan of everything is shown at once, nothing is written without the lease, and the first incident's report tells it.
func TestMergeBackShowsAllThatIsNewerAndBringsBackWhatWasApproved(t *testing.T) {
	s := newMerging(t)
	s.at(time.Minute, func() {
		st := s.status()
		require.Contains(t, st.Markdown(), "Plan `UND-001`")
		require.Contains(t, st.Asked, "approve")
		require.False(t, s.ran("AcquireLease"))
		s.says(DoorApprove, Answer{Plan: "UND-001"}, "")
	})
	s.at(2*time.Minute, func() { s.says(DoorDecide, Answer{Choice: CarryOn}, "") })
	r := s.merge(MergeBackInput{Incident: lostIn})
	require.Equal(t, Recovered, r.Outcome, r.Summary)
	require.Equal(t, []string{"safety"}, r.Undelete.Backups)
	require.Equal(t, "restored", r.Undelete.From.Backup.ID)
	for _, never := range []string{"ReadDeletions", "BackupsToCompare", "StopApplication", "FreezeMails", "DraftReport"} {
		require.False(t, s.ran(never), never)
	}
	s.before("OpenIncident", "CheckSafetyDump")
	s.before("CheckSafetyDump", "FindMissing")
	s.before("AcquireLease", "UndeleteDocuments digest-1")
	s.before("VerifyUndelete", "NoteMergedBack")
	s.before("NoteMergedBack", "TellPeople done")
	require.Empty(t, r.Report)
	require.Equal(t, lostIn, s.note.Of)
	require.Equal(t, "report/"+lostIn, s.note.Report)
	require.Equal(t, "UND-001", s.note.Plan)
	require.Equal(t, "Asha", s.note.ApprovedBy)
	require.EqualValues(t, 1200, s.note.PutBack.Insert)
	require.Len(t, s.note.Histories, 2)
	for _, told := range s.told {
		if told.Kind == activities.MailDone {
			require.True(t, told.Ended.ReportDue.IsZero(), "no report of its own is due")
		}
	}
}

func TestMergeBackIsNarrowedAndNeverTakesAnotherBackup(t *testing.T) {
	s := newMerging(t)
	s.at(time.Minute, func() { s.says(DoorChooseBackup, Answer{Backup: "older"}, "this safety dump alone") })
	s.at(2*time.Minute, func() { s.says(DoorNarrow, Answer{Narrowing: Narrowing{IDs: []string{"inv_1"}}}, "") })
	s.at(3*time.Minute, func() { s.says(DoorApprove, Answer{Plan: "UND-001"}, "is not the one that waits") })
	s.at(4*time.Minute, func() { s.says(DoorApprove, Answer{Plan: "UND-002"}, "") })
	r := s.merge(MergeBackInput{Collections: []string{"invoices"}, Organization: "org_1"})
	require.Equal(t, Recovered, r.Outcome)
	require.Equal(t, []undelete.Filter{
		{Collections: []string{"invoices"}, Organizations: []string{"org_1"}}, {IDs: []string{"inv_1"}},
	}, s.narrowed)
	require.True(t, s.ran("UndeleteDocuments digest-2"))
}

// TestMergeBackIsNeverApprovedByPolicy proves that a policy that would approve any restore approves no merge.
func TestMergeBackIsNeverApprovedByPolicy(t *testing.T) {
	s := newMerging(t)
	s.snap.AutoApprove = &config.AutoApprove{MaxMissing: 1 << 40, MaxChanged: 1 << 40}
	s.at(time.Hour, func() {
		require.False(t, s.ran("AcquireLease"))
		s.says(DoorReject, Answer{}, "")
	})
	r := s.merge(MergeBackInput{})
	require.Equal(t, Rejected, r.Outcome)
	require.False(t, s.ran("NoteMergedBack"), "nothing was written")
	require.True(t, s.ran("CloseIncident"))
}

func TestMergeBackIsRolledBackByOneAnswer(t *testing.T) {
	s := newMerging(t)
	s.approvesUndelete(time.Minute)
	s.at(2*time.Minute, func() { s.says(DoorDecide, Answer{Choice: RollBack}, "") })
	r := s.merge(MergeBackInput{})
	require.Equal(t, RolledBack, r.Outcome)
	require.EqualValues(t, 1199, s.note.Undone.Removed)
}

// TestMergeBackAfterTheReportWasPostedGetsAReportOfItsOwn proves that no insert stays untold.
func TestMergeBackAfterTheReportWasPostedGetsAReportOfItsOwn(t *testing.T) {
	for name, make := range map[string]func(*merging){
		"posted":            func(s *merging) { s.open = false },
		"cannot be told it": func(s *merging) { s.fail["NoteMergedBack"] = always(errors.New("disk full")) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newMerging(t)
			make(s)
			s.approvesUndelete(time.Minute)
			r := s.merge(MergeBackInput{})
			require.Equal(t, Recovered, r.Outcome)
			require.Equal(t, "report/"+r.Incident, r.Report)
		})
	}
}

func TestMergeBackSaysThatNothingIsNewer(t *testing.T) {
	s := newMerging(t)
	s.missing = activities.Missing{Without: "restored", Gone: []string{"rubbish"}, Skipped: map[string]string{"log": "it is capped", "a": "x", "b": "x", "c": "x", "d": "x", "e": "x"}}
	r := s.merge(MergeBackInput{})
	require.Equal(t, NothingMissing, r.Outcome)
	require.Contains(t, r.Summary, "what is newer in safety dump safety is there")
	require.Contains(t, strings.Join(r.Undelete.Warnings, " "), "rubbish", "what lies aside whole is named")
	require.Contains(t, strings.Join(r.Undelete.Warnings, " "), "Not searched: a (x), b (x), c (x), d (x), e (x), 1 more.")
	require.Contains(t, strings.Join(r.Undelete.Warnings, " "), "runbook start Restore battwheels --backup safety --collection COLLECTION")
}

func TestMergeBackOfADamagedSafetyDumpAsks(t *testing.T) {
	s := newMerging(t)
	s.fail["CheckSafetyDump"] = once(final(activities.CorruptBackup, "invoices.bson.gz differs"))
	s.at(time.Minute, func() {
		require.Contains(t, s.status().Asked, "invoices.bson.gz differs")
		require.NotContains(t, s.status().Choices, OtherBackup)
		s.says(DoorDecide, Answer{Choice: Retry}, "")
	})
	s.approvesUndelete(2 * time.Minute)
	require.Equal(t, Recovered, s.merge(MergeBackInput{}).Outcome)
}

func TestMergeBackOfAnUnknownIncidentFails(t *testing.T) {
	s := newMerging(t)
	s.ExecuteWorkflow(MergeBack, MergeBackInput{Incident: "20200101T000000Z-bbbbbb"})
	require.ErrorContains(t, s.GetWorkflowError(), "has no safety dump")
	require.False(t, s.ran("FindMissing"))
	require.True(t, s.ran("CloseIncident"))
}

func TestDryRunOfAMergeWritesNothingAndTellsNobody(t *testing.T) {
	s := newMerging(t)
	s.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: DryRunID("battwheels"), TaskQueue: TaskQueue})
	r := s.merge(MergeBackInput{DryRun: true})
	require.Equal(t, Planned, r.Outcome)
	require.Equal(t, "UND-001", r.Undelete.Plan.Code)
	require.Equal(t, []string{"LoadTarget", "CheckSafetyDump", "FindMissing", "PlanUndelete"}, s.calls)
	under := newMerging(t)
	under.ExecuteWorkflow(MergeBack, MergeBackInput{DryRun: true})
	require.ErrorContains(t, under.GetWorkflowError(), "an alert would join it")
}

func TestMergeBackInputRefusesWhatIsMisspelt(t *testing.T) {
	var in MergeBackInput
	require.ErrorContains(t, json.Unmarshal([]byte(`{"incidents":"x"}`), &in), `the fields are: target, incident, collections, organization, dryRun, by, reason`)
	require.NoError(t, json.Unmarshal([]byte(`null`), &in))
}

// TestARestoreSaysWhatIsNewerAndHowItComesBack proves that the result, the page and the report are told what the last count found, and
// that a restore that was rolled back says nothing: all of it is there again.
func TestARestoreSaysWhatIsNewerAndHowItComesBack(t *testing.T) {
	newer := &activities.Newer{Documents: 1234, Collections: []activities.NewerOf{{Name: "invoices", Documents: 1234}}}
	t.Run("recovered", func(t *testing.T) {
		w := newWorld(t)
		w.plan.Newer = newer
		w.approves()
		r := w.restore(RestoreInput{})
		require.Equal(t, newer, r.Newer)
		require.Contains(t, r.Summary, "1,234 documents are newer than the backup and stand in safety dump "+r.SafetyDump+" alone")
		require.Contains(t, r.Summary, "runbook merge-back battwheels --incident "+r.Incident)
		d := ReportInput{Result: &IncidentResult{Restore: r}}.draft(nil, w.snap, nil, &followUps{})
		require.Equal(t, newer, d.Newer)
	})
	t.Run("rolled back", func(t *testing.T) {
		w := newWorld(t)
		w.plan.Newer = newer
		w.approves()
		w.fail["VerifyRestored"] = always(final(activities.NotVerified, "1 document differs"))
		w.at(10*time.Minute, func() { w.says(DoorDecide, Answer{Choice: RollBack}, "") })
		r := w.restore(RestoreInput{})
		require.Equal(t, RolledBack, r.Outcome)
		require.Nil(t, r.Newer)
		require.NotContains(t, r.Summary, "merge-back")
	})
}

// TestTheStatusOfAMergeWarnsOfTheDamagesDocuments proves that who approves is told, and sees some of each collection.
func TestTheStatusOfAMergeWarnsOfTheDamagesDocuments(t *testing.T) {
	p := activities.Plan{Code: "MRG-001", Undelete: &activities.UndeletePlan{
		Without: "restored", Outcomes: undelete.Outcomes{Insert: 7}, File: "/storage/preview.jsonl",
		Collections:   []undelete.Previewed{{Collection: "invoices", Outcomes: undelete.Outcomes{Insert: 7}}},
		Organizations: []undelete.InOrganization{{Organization: "org_1", Documents: 5}, {Documents: 2}}, MoreOrganizations: 0,
		Samples: []undelete.Sample{{Collection: "invoices", Documents: []string{"inv_1", "inv_7"}}},
	}}
	text := plain(Status{Plan: &p, Asked: strings.Repeat("read ", 40)})
	for _, want := range []string{"The damage may have made some of them", "newer than backup restored", "| invoices | inv_1, inv_7 |", "| org_1 | 5 |", "| (none) | 2 |", "/storage/preview.jsonl"} {
		require.Contains(t, text, want)
	}
	m := Status{Missing: &activities.Missing{Without: "restored", Documents: 9, TooMany: []string{"tickets"}}}.Markdown()
	require.Contains(t, m, "9 documents are newer than backup restored, and absent")
	require.Contains(t, m, "Made between")
	require.Contains(t, m, "--backup SAFETY-DUMP --collection COLLECTION")
}
