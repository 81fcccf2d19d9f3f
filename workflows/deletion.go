package workflows

import (
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/battwheels/runbook/activities"
	"github.com/battwheels/runbook/internal/undelete"
)

// DeletionInput starts AccidentalDeletion. Every field may be left out: {} searches for all that is missing, and asks a person
// to narrow it.
type DeletionInput struct {
	Target       string   `json:"target,omitempty"`
	Since        Since    `json:"since,omitempty"` // when the deleting began, at the earliest
	Until        Since    `json:"until,omitempty"` // when it had ended
	Collections  []string `json:"collections,omitempty"`
	Organization string   `json:"organization,omitempty"` // its id
	IDs          []string `json:"ids,omitempty"`          // the application's own, or _ids
	Backup       string   `json:"backup,omitempty"`       // compare with this one; default all proven ones since
	DryRun       bool     `json:"dryRun,omitempty"`       // search and plan only: nothing is written, nobody is told
	Alert        *Alert   `json:"alert,omitempty"`        // what raised it, where an alert did
	By           string   `json:"by,omitempty"`           // who started it, where a person did
	Reason       string   `json:"reason,omitempty"`
}

// UnmarshalJSON refuses unknown fields.
func (in *DeletionInput) UnmarshalJSON(b []byte) error {
	type plain DeletionInput
	return decodeStrict(b, (*plain)(in))
}

// Narrowing is how a person narrows what was found: all that is given must be met. Each replaces the one before it.
type Narrowing struct {
	Collections  []string `json:"collections,omitempty"`
	Organization string   `json:"organization,omitempty"`
	From         Since    `json:"from,omitempty"` // of the deletion
	To           Since    `json:"to,omitempty"`
	IDs          []string `json:"ids,omitempty"`
	DeletedBy    []string `json:"deletedBy,omitempty"` // ids of users; only what an audit entry tells of can meet it
	Alone        bool     `json:"alone,omitempty"`     // without dependants
	Earlier      bool     `json:"earlier,omitempty"`   // with dependants that vanished earlier
}

// says whether anything narrows by more than time: what everybody deleted in a while is never meant.
func (n *Narrowing) says() bool {
	return len(n.Collections)+len(n.IDs)+len(n.DeletedBy) > 0 || n.Organization != ""
}

func (n *Narrowing) validate() error {
	if !n.says() {
		return errors.New(`narrow needs at least one of "collections", "organization", "ids" and "deletedBy": send {"collections":["invoices"],"organization":"org_…","by":"your name","reason":"…"}`)
	}
	_, err := n.filter()
	return err
}

// filter is the engine's.
func (n *Narrowing) filter() (undelete.Filter, error) {
	f := undelete.Filter{Collections: n.Collections, IDs: n.IDs, By: n.DeletedBy, Alone: n.Alone, Earlier: n.Earlier}
	if n.Organization != "" {
		f.Organizations = []string{n.Organization}
	}
	var err error
	if f.From, err = n.From.named("from"); err != nil {
		return f, err
	}
	if f.To, err = n.To.named("to"); err != nil {
		return f, err
	}
	if !f.From.IsZero() && !f.To.IsZero() && f.To.Before(f.From) {
		return f, fmt.Errorf("input field \"to\" (%s) is before \"from\" (%s)", n.To, n.From)
	}
	return f, nil
}

const stepTell = "Tell the people on call"

type deletion struct {
	incident
	in DeletionInput
	// note is what follows at once where something was written; nil is nothing.
	note func(workflow.Context)
}

// AccidentalDeletion is scenario C of the runbook: find what a user deleted by mistake, and put back exactly that, while the
// application and everybody else go on.
//
// Nothing that stands in the database is replaced or removed, so there is no dump first: what is inserted is in the undo file
// before the server hears of it, and can be taken back. For a whole collection, or the whole database, there is Restore.
func AccidentalDeletion(ctx workflow.Context, in DeletionInput) (IncidentResult, error) {
	body := in.body()
	if _, err := body.Narrowing.filter(); err != nil {
		return IncidentResult{}, badInput(err)
	}
	snap, err := loadTarget(ctx, in.Target)
	if err != nil {
		return IncidentResult{}, err
	}
	in.Target, body.Target = snap.Target, snap.Target
	id := workflow.GetInfo(ctx).WorkflowExecution.ID
	if in.DryRun {
		if id == IncidentID(snap.Target) {
			return IncidentResult{}, badInput(fmt.Errorf("a dry run cannot be %s: an alert would join it, and start nothing; give it another workflow id", id))
		}
		return dryRun(ctx, snap, body)
	}
	if id != IncidentID(snap.Target) {
		var result IncidentResult
		err := asChild(ctx, snap, IncidentID(snap.Target), AccidentalDeletion, in, &result)
		return result, err
	}
	d := &deletion{in: in, incident: incident{playbook: "AccidentalDeletion", snap: snap, cause: in.cause(), since: in.Since}}
	ctx, d.stop = workflow.WithCancel(ctx)
	if err := d.setup(ctx, stepUndelete, stepUndelete, stepTell, stepReport); err != nil {
		return IncidentResult{}, err
	}
	return d.run(ctx, body)
}

// run is the runbook's scenario C. What the child does is read in undelete.go.
func (d *deletion) run(ctx workflow.Context, body UndeleteInput) (IncidentResult, error) {
	if err := d.open(ctx); err != nil {
		return d.result, err
	}
	d.heedAlerts(ctx)
	err := d.undelete(ctx, body)
	// What follows tells people what happened, however it ended.
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	if d.note != nil {
		d.note(ctx)
	}
	d.begin(ctx, stepTell)
	d.tellContacts(ctx)
	d.end(ctx, stepTell, Done, "no organization is written to")
	switch {
	case !d.result.Undelete.Wrote:
		d.end(ctx, stepReport, Skipped, "nothing was changed")
	case d.reportedIn != "":
		d.end(ctx, stepReport, Skipped, "the report of incident "+d.reportedIn+" tells it")
	default:
		d.openReport(ctx)
	}
	if closeErr := d.close(ctx); err == nil {
		err = closeErr
	}
	return d.result, err
}

// undelete runs the body that touches the data, as the child restore/TARGET: no restore can run at the same time, whoever
// starts it, and whatever holds the lease outside of Temporal is seen before the first insert.
func (d *deletion) undelete(ctx workflow.Context, in UndeleteInput) error {
	d.begin(ctx, stepUndelete)
	in.Incident = d.id
	var res UndeleteResult
	err := d.runChild(ctx, RestoreID(d.snap.Target), Undelete, in, &res)
	d.result.Undelete = &res
	if err != nil {
		d.result.Outcome, d.result.Summary = GaveUp, explain(err)
		d.end(ctx, stepUndelete, Failed, explain(err))
		return err
	}
	d.result.Outcome, d.result.Summary = res.Outcome, res.Summary
	if !res.BackAt.IsZero() {
		d.result.RTOSeconds = res.BackAt.Sub(d.result.DetectedAt).Seconds()
	}
	return nil
}

// heedAlerts tells people of alerts that come while this runs: the incident of the target is this one, and it restores nothing.
func (d *deletion) heedAlerts(ctx workflow.Context) {
	own := 0
	if d.in.Alert != nil {
		own = 1
	}
	workflow.GoNamed(ctx, "alerts that mean something else", func(ctx workflow.Context) {
		if workflow.Await(ctx, func() bool { return d.status.Alerts > own }) != nil {
			return
		}
		text := "An alert came in while single documents are being put back. This playbook restores no database: if it is corrupt, " +
			"end this with reject or abort, and start DatabaseCorruption."
		d.warn(text)
		d.end(ctx, "ALERT", Failed, text)
		if !d.snap.OnCall {
			return
		}
		err := workflow.ExecuteActivity(patient(ctx, d.snap.HostQueue, "Mail the people on call: an alert came in"), mails.TellPeople, activities.TellInput{
			Target: d.snap.Target, Incident: d.id, Kind: activities.MailEscalate, Key: d.id + "-alert", Question: text,
			Asked: workflow.Now(ctx).UTC(), WorkflowID: workflow.GetInfo(ctx).WorkflowExecution.ID,
		}).Get(ctx, nil)
		if err != nil {
			workflow.GetLogger(ctx).Warn("the people on call were not told of an alert", "error", err)
		}
	})
}

// dryRun searches and plans in an incident's folder of its own, which is never opened: nothing is frozen, nobody is told.
func dryRun(ctx workflow.Context, snap activities.Snapshot, in UndeleteInput) (IncidentResult, error) {
	u := newUndeletion(ctx, snap, in)
	u.dry = true
	result := IncidentResult{Incident: u.incident, DetectedAt: workflow.GetInfo(ctx).WorkflowStartTime.UTC()}
	if err := u.setup(ctx); err != nil {
		return result, err
	}
	res, err := u.run(ctx)
	result.Outcome, result.Summary, result.Undelete = res.Outcome, res.Summary, &res
	return result, err
}

// body is what the child is told.
func (in DeletionInput) body() UndeleteInput {
	since := in.Since
	if since == "" && in.Alert != nil && !in.Alert.StartsAt.IsZero() {
		since = Since(in.Alert.StartsAt.UTC().Format(time.RFC3339Nano))
	}
	return UndeleteInput{Target: in.Target, Backup: in.Backup, Narrowing: Narrowing{
		Collections: in.Collections, Organization: in.Organization, IDs: in.IDs, From: since, To: in.Until,
	}}
}

func (in DeletionInput) cause() string {
	if in.Alert != nil {
		return in.Alert.Name + ": " + in.Alert.Summary
	}
	return in.Reason
}
