package workflows

import (
	"fmt"
	"slices"
	"time"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/workflow"

	"github.com/battwheels/runbook/activities"
)

// CorruptionInput starts DatabaseCorruption. Every field may be left out.
type CorruptionInput struct {
	Target string `json:"target,omitempty"`
	Backup string `json:"backup,omitempty"` // an id that "runbook backups list" shows; default the newest proven one
	Since  Since  `json:"since,omitempty"`  // when the damage began: only older backups are chosen
	Alert  *Alert `json:"alert,omitempty"`  // what raised it, where an alert did
	By     string `json:"by,omitempty"`     // who started it, where a person did
	Reason string `json:"reason,omitempty"`
}

// UnmarshalJSON refuses unknown fields.
func (in *CorruptionInput) UnmarshalJSON(b []byte) error {
	type plain CorruptionInput
	return decodeStrict(b, (*plain)(in))
}

// Alert is what an alert webhook said.
type Alert struct {
	Name     string    `json:"name"`
	Summary  string    `json:"summary,omitempty"`
	StartsAt time.Time `json:"startsAt,omitzero"`
	Source   string    `json:"source,omitempty"` // the sender's link to the alert
}

// CorruptionResult is what came of an incident.
type CorruptionResult struct {
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
	Warnings            []string      `json:"warnings,omitempty"`
}

const (
	stepRestore = "Restore"
	stepMails   = "Tell every organization"
	stepReport  = "Open the incident report"
)

type corruption struct {
	forward
	announcer
	in       CorruptionInput
	snap     activities.Snapshot
	incident string
	status   Status
	result   CorruptionResult
	abort    *Answer
	stop     workflow.CancelFunc
}

// DatabaseCorruption is scenario A of the runbook: keep what can still be read, put the newest proven backup back, tell
// those affected, and see that the report is written.
func DatabaseCorruption(ctx workflow.Context, in CorruptionInput) (CorruptionResult, error) {
	if _, err := in.Since.time(); err != nil {
		return CorruptionResult{}, badInput(err)
	}
	snap, err := loadTarget(ctx, in.Target)
	if err != nil {
		return CorruptionResult{}, err
	}
	in.Target = snap.Target
	if workflow.GetInfo(ctx).WorkflowExecution.ID != IncidentID(snap.Target) {
		var result CorruptionResult
		err := asChild(ctx, snap, IncidentID(snap.Target), DatabaseCorruption, in, &result)
		return result, err
	}
	c := &corruption{in: in, snap: snap, incident: incidentID(ctx)}
	ctx, c.stop = workflow.WithCancel(ctx)
	if err := c.setup(ctx); err != nil {
		return CorruptionResult{}, err
	}
	return c.run(ctx)
}

// run is the runbook's scenario A, read from top to bottom.
func (c *corruption) run(ctx workflow.Context) (CorruptionResult, error) {
	if err := c.open(ctx); err != nil {
		return c.result, err
	}
	c.emergencyDump(ctx)
	err := c.restore(ctx)
	// What follows tells people what happened, however it ended.
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	if c.result.Outcome == Recovered {
		c.tellOrganizations(ctx)
	}
	c.tellContacts(ctx)
	if c.result.Outcome == Recovered || c.result.Outcome == RolledBack {
		c.openReport(ctx)
	}
	if closeErr := c.close(ctx); err == nil {
		err = closeErr
	}
	return c.result, err
}

func (c *corruption) setup(ctx workflow.Context) error {
	c.status = Status{Incident: c.incident, Target: c.snap.Target, Phase: "opening"}
	for _, name := range []string{stepEmergency, stepRestore, stepMails, stepReport} {
		c.status.Steps = append(c.status.Steps, Step{Name: name, State: Pending})
	}
	c.result = CorruptionResult{Incident: c.incident, DetectedAt: workflow.GetInfo(ctx).WorkflowStartTime.UTC()}
	err := workflow.SetQueryHandlerWithOptions(ctx, QueryStatus, func() (Status, error) { return c.merged(), nil },
		workflow.QueryHandlerOptions{Description: "What is done, what runs, and what is asked of people"})
	if err != nil {
		return fmt.Errorf("register query: %w", err)
	}
	c.listen(ctx, func() { c.publish(ctx) })
	workflow.GoNamed(ctx, "alerts", func(ctx workflow.Context) {
		for {
			var a Alert
			if !workflow.GetSignalChannel(ctx, SignalAlert).Receive(ctx, &a) {
				return
			}
			c.status.Alerts++
			c.publish(ctx)
		}
	})
	workflow.GoNamed(ctx, "abort signal", func(ctx workflow.Context) {
		for {
			var a Answer
			if !workflow.GetSignalChannel(ctx, DoorAbort).Receive(ctx, &a) {
				return
			}
			_, _ = c.hear(ctx, DoorAbort, a) // a second abort changes nothing
		}
	})
	serveParent(ctx, c.hear)
	c.announce(ctx, c.merged)
	return openDoors(ctx, c.hear)
}

// hear takes what people say at this playbook's page: to the restore, or to the emergency dump before it.
func (c *corruption) hear(ctx workflow.Context, door string, a Answer) (string, error) {
	if door == DoorAbort && !c.started {
		a.Door, a.At = door, workflow.Now(ctx).UTC()
		c.abort = &a
		c.stop()
		return "aborting", nil
	}
	return c.forward.hear(ctx, door, a)
}

// open makes the incident's folder: from now on retention is frozen, and backups are marked.
func (c *corruption) open(ctx workflow.Context) error {
	c.publish(ctx)
	in := activities.OpenInput{Target: c.snap.Target, Incident: c.incident, Playbook: "DatabaseCorruption", DetectedAt: c.result.DetectedAt}
	if a := c.in.Alert; a != nil {
		in.Cause = a.Name + ": " + a.Summary
	} else if c.in.Reason != "" {
		in.Cause = c.in.Reason
	}
	return workflow.ExecuteActivity(onHost(ctx, c.snap.HostQueue, "Open the incident"), records.OpenIncident, in).Get(ctx, nil)
}

// emergencyDump keeps all that can be read. The restore asks for another where this one fails.
func (c *corruption) emergencyDump(ctx workflow.Context) {
	c.begin(ctx, stepEmergency)
	dump, err := emergencyDump(ctx, c.snap, c.incident)
	if err != nil {
		c.end(ctx, stepEmergency, Failed, explain(err))
		return
	}
	c.result.EmergencyDump = dump.ID
	c.end(ctx, stepEmergency, Done, dumpNote(dump))
}

// restore runs the body that touches the data, as the child restore/TARGET.
func (c *corruption) restore(ctx workflow.Context) error {
	if err := ctx.Err(); err != nil {
		c.result.Outcome, c.result.Summary = Aborted, "Aborted during the emergency dump: nothing was changed."
		if c.abort != nil {
			err = nil
		}
		return err
	}
	c.begin(ctx, stepRestore)
	var res RestoreResult
	err := c.runChild(ctx, RestoreID(c.snap.Target), Restore, RestoreInput{
		Target: c.snap.Target, Backup: c.in.Backup, Since: c.in.since(), Incident: c.incident, Emergency: c.result.EmergencyDump,
	}, &res)
	c.result.Restore = res
	if err != nil {
		c.result.Outcome, c.result.Summary = GaveUp, explain(err)
		c.end(ctx, stepRestore, Failed, explain(err))
		return err
	}
	c.result.Outcome, c.result.Summary = res.Outcome, res.Summary
	if res.Outcome != Recovered {
		c.end(ctx, stepRestore, Failed, res.Summary)
		return nil
	}
	c.result.RTOSeconds = res.HealthyAt.Sub(c.result.DetectedAt).Seconds()
	c.end(ctx, stepRestore, Done, res.Summary)
	return nil
}

// since is when the damage began: what a person says goes before what the alert says.
func (in CorruptionInput) since() Since {
	if in.Since == "" && in.Alert != nil && !in.Alert.StartsAt.IsZero() {
		return Since(in.Alert.StartsAt.UTC().Format(time.RFC3339))
	}
	return in.Since
}

// tellOrganizations writes to every active organization, once each. Recipients and words are frozen before the first mail.
func (c *corruption) tellOrganizations(ctx workflow.Context) {
	if !c.snap.Tenants {
		c.end(ctx, stepMails, Skipped, "no organizations are configured")
		return
	}
	c.begin(ctx, stepMails)
	r := c.result.Restore
	since, err := c.in.since().time()
	if err != nil {
		c.warn("The mails do not say since when: " + err.Error())
	}
	var box activities.Outbox
	err = workflow.ExecuteActivity(
		long(ctx, c.snap.HostQueue, "Freeze recipients and words of the mail", time.Hour),
		mails.FreezeMails, activities.FreezeInput{
			Target: c.snap.Target, Incident: c.incident, DetectedAt: c.result.DetectedAt, BackupAt: r.Backup.Time,
			StoppedAt: r.StoppedAt, HealthyAt: r.HealthyAt, Since: since, Backup: r.Backup.ID, SafetyDump: r.SafetyDump,
		}).Get(ctx, &box)
	if err != nil {
		c.end(ctx, stepMails, Failed, "not sent: "+explain(err))
		c.warn("The organizations were not told: " + explain(err))
		return
	}
	c.result.OrganizationsActive = box.Organizations
	c.result.MailsUndeliverable = box.WithoutAddress
	for n := range box.Batches {
		var sent activities.Sent
		err := workflow.ExecuteActivity(
			patient(ctx, c.snap.HostQueue, fmt.Sprintf("Send batch %d of %d", n+1, box.Batches)),
			mails.SendBatch, activities.SendInput{Target: c.snap.Target, Incident: c.incident, Batch: n}).Get(ctx, &sent)
		if err != nil {
			c.warn(fmt.Sprintf("Batch %d of %d: what became of it is not known: %s", n+1, box.Batches, explain(err)))
			c.result.MailsUnknown += min(box.Mails-n*box.BatchSize, box.BatchSize)
			continue
		}
		c.result.MailsSent += sent.Sent
		c.result.MailsUndeliverable += sent.Refused
		c.result.MailsUnknown += sent.Unknown
	}
	c.end(ctx, stepMails, Done, fmt.Sprintf("%d mails sent, %d undeliverable", c.result.MailsSent, c.result.MailsUndeliverable))
}

// tellContacts tells the people on call how it ended.
func (c *corruption) tellContacts(ctx workflow.Context) {
	if !c.snap.OnCall {
		return
	}
	err := workflow.ExecuteActivity(patient(ctx, c.snap.HostQueue, "Mail the people on call: how it ended"),
		mails.TellPeople, activities.TellInput{
			Target: c.snap.Target, Incident: c.incident, Kind: activities.MailDone, Key: c.incident + "-done",
			Summary: c.result.Summary, Outcome: string(c.result.Outcome), Ended: c.how(),
			WorkflowID: workflow.GetInfo(ctx).WorkflowExecution.ID,
		}).Get(ctx, nil)
	if err != nil {
		c.warn("The people on call were not told how it ended: " + explain(err))
	}
}

// how is how the recovery went, nil where there was none.
func (c *corruption) how() *activities.Ended {
	if c.result.Outcome != Recovered {
		return nil
	}
	r := c.result.Restore
	seconds := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	return &activities.Ended{
		Backup: r.Backup.ID, BackupAt: r.Backup.Time, Restored: r.DocumentsRestored, Lost: r.DocumentsLost, SafetyDump: r.SafetyDump,
		Downtime: seconds(r.DowntimeSeconds), RTO: seconds(c.result.RTOSeconds), RTOTarget: c.snap.RTO,
		RPO: seconds(r.RPOSeconds), RPOTarget: c.snap.RPO, KeyCounts: r.KeyCounts,
		MailsSent: c.result.MailsSent, MailsUndeliverable: c.result.MailsUndeliverable, MailsUnknown: c.result.MailsUnknown,
		Warnings: append(append([]string{}, r.Warnings...), c.result.Warnings...), ReportDue: c.result.DetectedAt.Add(c.snap.ReportWithin),
	}
}

// openReport starts the report as a workflow of its own, which outlives this one: the next disaster must not wait for a
// report's 48 hours.
func (c *corruption) openReport(ctx workflow.Context) {
	c.begin(ctx, stepReport)
	id := ReportID(c.incident)
	since, err := c.in.since().time()
	if err != nil {
		c.warn("The report does not say since when: " + err.Error())
	}
	child := workflow.ExecuteChildWorkflow(workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowID:        id,
		ParentClosePolicy: enums.PARENT_CLOSE_POLICY_ABANDON,
		StaticSummary:     "The incident report, open until it is posted",
	}), IncidentReport, ReportInput{
		Target: c.snap.Target, Incident: c.incident, DetectedAt: c.result.DetectedAt, Since: since, Result: &c.result,
		Parent: workflow.GetInfo(ctx).WorkflowExecution.ID, ParentRun: workflow.GetInfo(ctx).WorkflowExecution.RunID,
		ChildRun: c.runID,
	})
	if err := child.GetChildWorkflowExecution().Get(ctx, nil); err != nil {
		c.end(ctx, stepReport, Failed, explain(err))
		c.warn("The report was not opened: " + explain(err))
		return
	}
	c.result.Report = id
	c.end(ctx, stepReport, Done, id+" is open until it is posted")
}

func (c *corruption) close(ctx workflow.Context) error {
	c.status.Result = c.result.Summary
	c.status.Phase = string(c.result.Outcome)
	c.publish(ctx)
	if err := lastWords(ctx); err != nil {
		return err
	}
	return workflow.ExecuteActivity(onHost(ctx, c.snap.HostQueue, "Close the incident"), records.CloseIncident, activities.CloseInput{
		Target: c.snap.Target, Incident: c.incident, Outcome: string(c.result.Outcome), Summary: c.result.Summary,
	}).Get(ctx, nil)
}

func (c *corruption) begin(ctx workflow.Context, step string) {
	c.status.begin(step)
	c.publish(ctx)
}

func (c *corruption) end(ctx workflow.Context, step string, state StepState, note string) {
	c.status.end(step, state, note)
	c.publish(ctx)
}

func (c *corruption) publish(ctx workflow.Context) {
	publish(ctx, c.merged(), c.snap.SearchAttributes)
	c.news = true
}

func (c *corruption) warn(text string) { c.result.Warnings = append(c.result.Warnings, text) }

// merged is this playbook's status with the restore's steps in the place of the one line "Restore".
func (c *corruption) merged() Status {
	s := c.status
	s.Steps = slices.Clone(s.Steps)
	if len(c.forward.status.Steps) == 0 {
		return s
	}
	s.Plan, s.Asked, s.Choices = c.forward.status.Plan, c.forward.status.Asked, c.forward.status.Choices
	s.Steps = nil
	for _, st := range c.status.Steps {
		if st.Name != stepRestore {
			s.Steps = append(s.Steps, st)
			continue
		}
		s.Steps = append(s.Steps, c.forward.status.Steps...)
	}
	if s.Phase == stepRestore {
		s.Phase = c.forward.status.Phase
	}
	if c.ended {
		s.Asked, s.Choices = "", nil
	}
	return s
}
