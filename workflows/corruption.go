package workflows

import (
	"time"

	"go.temporal.io/sdk/workflow"
)

// CorruptionInput starts DatabaseCorruption. Every field may be left out.
type CorruptionInput struct {
	Target string `json:"target,omitempty"`
	Backup string `json:"backup,omitempty"` // an id that "runbook backups list" shows; default the newest proven one
	Since  Since  `json:"since,omitempty"`  // when the damage began: only older backups are chosen
	DryRun bool   `json:"dryRun,omitempty"` // read and plan only: nothing is changed, nobody is told
	Alert  *Alert `json:"alert,omitempty"`  // what raised it, where an alert did
	By     string `json:"by,omitempty"`     // who started it, where a person did
	Reason string `json:"reason,omitempty"`
}

// UnmarshalJSON refuses unknown fields.
func (in *CorruptionInput) UnmarshalJSON(b []byte) error {
	type plain CorruptionInput
	return decodeStrict(b, (*plain)(in))
}

type corruption struct {
	incident
	in CorruptionInput
}

// DatabaseCorruption is scenario A of the runbook: keep what can still be read, put the newest proven backup back, tell
// those affected, and see that the report is written.
func DatabaseCorruption(ctx workflow.Context, in CorruptionInput) (IncidentResult, error) {
	if _, err := in.Since.time(); err != nil {
		return IncidentResult{}, badInput(err)
	}
	snap, err := loadTarget(ctx, in.Target)
	if err != nil {
		return IncidentResult{}, err
	}
	in.Target = snap.Target
	if in.DryRun {
		return simulateIncident(ctx, "DatabaseCorruption", snap, RestoreInput{Backup: in.Backup, Since: in.since()})
	}
	if workflow.GetInfo(ctx).WorkflowExecution.ID != IncidentID(snap.Target) {
		var result IncidentResult
		err := asChild(ctx, snap, IncidentID(snap.Target), DatabaseCorruption, in, &result)
		return result, err
	}
	c := &corruption{in: in, incident: incident{playbook: "DatabaseCorruption", snap: snap, cause: in.cause(), since: in.since()}}
	ctx, c.stop = workflow.WithCancel(ctx)
	if err := c.setup(ctx, stepRestore, stepEmergency, stepRestore, stepMails, stepReport); err != nil {
		return IncidentResult{}, err
	}
	return c.run(ctx)
}

// run is the runbook's scenario A, read from top to bottom.
func (c *corruption) run(ctx workflow.Context) (IncidentResult, error) {
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

// emergencyDump keeps all that can be read. The restore asks for another where this one fails.
func (c *corruption) emergencyDump(ctx workflow.Context) {
	c.begin(ctx, stepEmergency)
	dump, err := emergencyDump(ctx, c.snap, c.id)
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
		Target: c.snap.Target, Backup: c.in.Backup, Since: c.since, Incident: c.id, Emergency: c.result.EmergencyDump,
	}, &res)
	c.result.Restore = res
	c.follow(ctx, res.Host)
	if err != nil {
		c.result.Outcome, c.result.Summary = GaveUp, c.lastOf(err)
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
		return Since(in.Alert.StartsAt.UTC().Format(time.RFC3339Nano))
	}
	return in.Since
}

// cause is what raised it, in a few words.
func (in CorruptionInput) cause() string {
	if in.Alert != nil {
		return in.Alert.Name + ": " + in.Alert.Summary
	}
	return in.Reason
}
