package workflows

import (
	"fmt"
	"slices"
	"time"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/workflow"

	"github.com/battwheels/runbook/activities"
)

// Alert is what an alert webhook said.
type Alert struct {
	Name     string    `json:"name"`
	Summary  string    `json:"summary,omitempty"`
	StartsAt time.Time `json:"startsAt,omitzero"`
	Source   string    `json:"source,omitempty"` // the sender's link to the alert
}

// IncidentResult is what came of an incident.
type IncidentResult struct {
	Incident            string        `json:"incident"`
	Outcome             Outcome       `json:"outcome"`
	Summary             string        `json:"summary"`
	Restore             RestoreResult `json:"restore"`
	EmergencyDump       string        `json:"emergencyDump,omitempty"`
	DetectedAt          time.Time     `json:"detectedAt"`
	RTOSeconds          float64       `json:"rtoSeconds"` // from detection until healthy
	OrganizationsActive int           `json:"organizationsActive"`
	MailsSent           int           `json:"mailsSent"`
	MailsUndeliverable  int           `json:"mailsUndeliverable"`
	MailsUnknown        int           `json:"mailsUnknown,omitempty"` // outcome never learned; listed for a person
	Report              string        `json:"report,omitempty"`       // workflow id of the report
	// GoneAt is when the database itself was lost, where it was: from then on nothing was entered.
	GoneAt   time.Time            `json:"goneAt,omitzero"`
	Compared *activities.Compared `json:"compared,omitempty"` // a recovered volume with the last backup
	Undelete *UndeleteResult      `json:"undelete,omitempty"` // what AccidentalDeletion or MergeBack did; they restore nothing else
	Answers  []Answer             `json:"answers,omitempty"`  // what people said to the playbook itself
	Warnings []string             `json:"warnings,omitempty"`
	// Simulation is what a dry run has found, which does nothing else.
	Simulation *Simulation `json:"simulation,omitempty"`
}

const (
	stepRestore = "Restore"
	stepMails   = "Tell every organization"
	stepReport  = "Open the incident report"
)

// incident is what every playbook of an incident has: a folder, one page that shows everything and hears everybody, the mails,
// and the report at the end.
type incident struct {
	forward
	announcer
	playbook string
	snap     activities.Snapshot
	id       string
	cause    string // what raised it, in a few words
	since    Since  // when the damage began, where that is known
	// reportedIn is the incident whose report tells of this one, so that none is opened; empty where there is none.
	reportedIn string
	bodyStep   string // the step in whose place the child's steps are shown
	status     Status
	result     IncidentResult
	abort      *Answer
	stop       workflow.CancelFunc // of the playbook's own steps, before its child begins
	// answer hears what is said to the playbook itself, and says whether it was. Nil where only its child is asked.
	answer func(workflow.Context, string, Answer) (reply string, mine bool, err error)
	own    []door
}

// setup opens the doors of a playbook with these steps; what the child does stands in the place of the step body.
func (i *incident) setup(ctx workflow.Context, body string, steps ...string) error {
	i.id, i.bodyStep = incidentID(ctx), body
	i.status = Status{Incident: i.id, Target: i.snap.Target, Phase: "opening"}
	for _, name := range steps {
		i.status.Steps = append(i.status.Steps, Step{Name: name, State: Pending})
	}
	i.result = IncidentResult{Incident: i.id, DetectedAt: workflow.GetInfo(ctx).WorkflowStartTime.UTC()}
	err := workflow.SetQueryHandlerWithOptions(ctx, QueryStatus, func() (Status, error) { return i.merged(), nil },
		workflow.QueryHandlerOptions{Description: "What is done, what runs, and what is asked of people"})
	if err != nil {
		return fmt.Errorf("register query: %w", err)
	}
	i.listen(ctx, func() { i.publish(ctx) })
	workflow.GoNamed(ctx, "alerts", func(ctx workflow.Context) {
		for {
			var a Alert
			if !workflow.GetSignalChannel(ctx, SignalAlert).Receive(ctx, &a) {
				return
			}
			i.status.Alerts++
			i.publish(ctx)
		}
	})
	workflow.GoNamed(ctx, "abort signal", func(ctx workflow.Context) {
		for {
			var a Answer
			if !workflow.GetSignalChannel(ctx, DoorAbort).Receive(ctx, &a) {
				return
			}
			_, _ = i.hear(ctx, DoorAbort, a) // a second abort changes nothing
		}
	})
	serveParent(ctx, i.hear)
	i.announce(ctx, i.merged)
	return openDoors(ctx, i.hear, i.own...)
}

// hear takes what people say at this playbook's page: to the child, or to the steps before it.
func (i *incident) hear(ctx workflow.Context, door string, a Answer) (string, error) {
	if door == DoorAbort && !i.started {
		a.Door, a.At = door, workflow.Now(ctx).UTC()
		i.abort = &a
		i.stop()
		return "aborting", nil
	}
	if i.answer != nil {
		if reply, mine, err := i.answer(ctx, door, a); mine {
			return reply, err
		}
	}
	return i.forward.hear(ctx, door, a)
}

// open makes the incident's folder: from now on retention is frozen, and backups are marked.
func (i *incident) open(ctx workflow.Context) error {
	i.publish(ctx)
	in := activities.OpenInput{Target: i.snap.Target, Incident: i.id, Playbook: i.playbook, DetectedAt: i.result.DetectedAt, Cause: i.cause}
	return workflow.ExecuteActivity(onHost(ctx, i.snap.HostQueue, "Open the incident"), records.OpenIncident, in).Get(ctx, nil)
}

// tellOrganizations writes to every active organization, once each. Recipients and words are frozen before the first mail.
func (i *incident) tellOrganizations(ctx workflow.Context) {
	if !i.snap.Tenants {
		i.end(ctx, stepMails, Skipped, "no organizations are configured")
		return
	}
	i.begin(ctx, stepMails)
	r := i.result.Restore
	since, err := i.since.time()
	if err != nil {
		i.warn("The mails do not say since when: " + err.Error())
	}
	var until time.Time
	if !i.result.GoneAt.IsZero() && r.DocumentsLost > 0 {
		until = r.StoppedAt // the new database had taken entries
	}
	var box activities.Outbox
	err = workflow.ExecuteActivity(
		long(ctx, i.snap.HostQueue, "Freeze recipients and words of the mail", time.Hour),
		mails.FreezeMails, activities.FreezeInput{
			Target: i.snap.Target, Incident: i.id, DetectedAt: i.result.DetectedAt, BackupAt: r.Backup.Time,
			StoppedAt: r.StoppedAt, HealthyAt: r.HealthyAt, Since: since, Backup: r.Backup.ID, SafetyDump: r.SafetyDump,
			GoneAt: i.result.GoneAt, Until: until,
		}).Get(ctx, &box)
	if err != nil {
		i.end(ctx, stepMails, Failed, "not sent: "+explain(err))
		i.warn("The organizations were not told: " + explain(err))
		return
	}
	i.result.OrganizationsActive = box.Organizations
	i.result.MailsUndeliverable = box.WithoutAddress
	sum := sendBatches(ctx, i.snap.HostQueue, activities.SendInput{Target: i.snap.Target, Incident: i.id}, box, i.warn, func(note string) {
		i.status.end(stepMails, Running, note)
		showOnly(ctx, i.merged())
		i.news = true
	})
	i.result.MailsSent, i.result.MailsUnknown = sum.Sent, sum.Unknown
	i.result.MailsUndeliverable += sum.Refused
	i.end(ctx, stepMails, Done, tally(sum, box.WithoutAddress))
}

// tellContacts tells the people on call how it ended.
func (i *incident) tellContacts(ctx workflow.Context) {
	if !i.snap.OnCall {
		return
	}
	in := activities.TellInput{
		Target: i.snap.Target, Incident: i.id, Kind: activities.MailDone, Key: i.id + "-done",
		Summary: i.result.Summary, Outcome: string(i.result.Outcome), Ended: i.how(),
		WorkflowID: workflow.GetInfo(ctx).WorkflowExecution.ID,
	}
	if in.Ended == nil {
		in.Whole = i.result.Outcome == VolumeRecovered || i.result.Outcome == FalseAlarm
		in.Warnings = slices.Concat(i.result.Restore.Warnings, i.result.Warnings)
	}
	err := workflow.ExecuteActivity(patient(ctx, i.snap.HostQueue, "Mail the people on call: how it ended"), mails.TellPeople, in).Get(ctx, nil)
	if err != nil {
		i.warn("The people on call were not told how it ended: " + explain(err))
	}
}

// follow goes on where the restore ended: the host that it began on may be gone.
func (i *incident) follow(ctx workflow.Context, host string) {
	if host == "" || host == i.snap.HostQueue {
		return
	}
	i.snap.HostQueue = host
	if err := i.open(ctx); err != nil {
		i.warn("The incident was not opened on " + host + ": " + explain(err))
	}
}

// how is how the recovery went, nil where there was none.
func (i *incident) how() *activities.Ended {
	if i.result.Outcome != Recovered {
		return nil
	}
	if u := i.result.Undelete; u != nil {
		due := i.result.DetectedAt.Add(i.snap.ReportWithin)
		if i.reportedIn != "" {
			due = time.Time{}
		}
		return &activities.Ended{
			Beside: true, Restored: u.PutBack.Insert, RTO: time.Duration(i.result.RTOSeconds * float64(time.Second)), RTOTarget: i.snap.RTO,
			Warnings: append(append([]string{}, u.Warnings...), i.result.Warnings...), ReportDue: due,
		}
	}
	r := i.result.Restore
	seconds := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	return &activities.Ended{
		Backup: r.Backup.ID, BackupAt: r.Backup.Time, Restored: r.DocumentsRestored, Lost: r.DocumentsLost, SafetyDump: r.SafetyDump,
		Downtime: seconds(r.DowntimeSeconds), RTO: seconds(i.result.RTOSeconds), RTOTarget: i.snap.RTO,
		RPO: seconds(r.RPOSeconds), RPOTarget: i.snap.RPO, KeyCounts: r.KeyCounts,
		Newer: r.Newer, MailsSent: i.result.MailsSent, MailsUndeliverable: i.result.MailsUndeliverable, MailsUnknown: i.result.MailsUnknown,
		Warnings: append(append([]string{}, r.Warnings...), i.result.Warnings...), ReportDue: i.result.DetectedAt.Add(i.snap.ReportWithin),
	}
}

// openReport starts the report as a workflow of its own, which outlives this one: the next disaster must not wait for a
// report's 48 hours.
func (i *incident) openReport(ctx workflow.Context) {
	i.begin(ctx, stepReport)
	id := ReportID(i.id)
	since, err := i.since.time()
	if err != nil {
		i.warn("The report does not say since when: " + err.Error())
	}
	child := workflow.ExecuteChildWorkflow(workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowID:        id,
		ParentClosePolicy: enums.PARENT_CLOSE_POLICY_ABANDON,
		StaticSummary:     "The incident report, open until it is posted",
	}), IncidentReport, ReportInput{
		Target: i.snap.Target, Incident: i.id, Playbook: i.playbook, DetectedAt: i.result.DetectedAt, Since: since, Result: &i.result,
		Parent: workflow.GetInfo(ctx).WorkflowExecution.ID, ParentRun: workflow.GetInfo(ctx).WorkflowExecution.RunID,
		ChildRun: i.runID, Host: i.snap.HostQueue,
	})
	if err := child.GetChildWorkflowExecution().Get(ctx, nil); err != nil {
		i.end(ctx, stepReport, Failed, explain(err))
		i.warn("The report was not opened: " + explain(err))
		return
	}
	i.result.Report = id
	i.end(ctx, stepReport, Done, id+" is open until it is posted")
}

func (i *incident) close(ctx workflow.Context) error {
	i.status.Result = i.result.Summary
	i.status.Phase = string(i.result.Outcome)
	i.publish(ctx)
	if err := lastWords(ctx); err != nil {
		return err
	}
	return workflow.ExecuteActivity(onHost(ctx, i.snap.HostQueue, "Close the incident"), records.CloseIncident, activities.CloseInput{
		Target: i.snap.Target, Incident: i.id, Outcome: string(i.result.Outcome), Summary: i.result.Summary,
	}).Get(ctx, nil)
}

func (i *incident) begin(ctx workflow.Context, step string) {
	i.status.begin(step)
	i.publish(ctx)
}

func (i *incident) end(ctx workflow.Context, step string, state StepState, note string) {
	i.status.end(step, state, note)
	i.publish(ctx)
}

func (i *incident) publish(ctx workflow.Context) {
	publish(ctx, i.merged(), i.snap.SearchAttributes)
	i.news = true
}

func (i *incident) warn(text string) { i.result.Warnings = append(i.result.Warnings, text) }

// merged is this playbook's status with the child's steps in the place of the one that runs it.
func (i *incident) merged() Status {
	s := i.status
	s.Steps = slices.Clone(s.Steps)
	if len(i.forward.status.Steps) == 0 {
		return s
	}
	s.Plan, s.Asked, s.Choices = i.forward.status.Plan, i.forward.status.Asked, i.forward.status.Choices
	s.Missing = i.forward.status.Missing
	s.Steps = nil
	for _, st := range i.status.Steps {
		if st.Name != i.bodyStep {
			s.Steps = append(s.Steps, st)
			continue
		}
		s.Steps = append(s.Steps, i.forward.status.Steps...)
	}
	if s.Phase == i.bodyStep {
		s.Phase = i.forward.status.Phase
	}
	if i.ended {
		s.Asked, s.Choices = "", nil
	}
	return s
}
