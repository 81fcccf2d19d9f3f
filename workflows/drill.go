package workflows

import (
	"fmt"
	"time"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/battwheels/runbook/activities"
)

// DrillInput starts RestoreDrill. Every field may be left out: {} drills the newest proven backup of the only target.
type DrillInput struct {
	Target  string `json:"target,omitempty"`
	Backup  string `json:"backup,omitempty"`  // an id that "runbook backups list" shows; default the newest proven one
	Scratch string `json:"scratch,omitempty"` // name of the scratch database; default drill.database, or runbook_drill_TARGET
}

// UnmarshalJSON refuses unknown fields.
func (in *DrillInput) UnmarshalJSON(b []byte) error {
	type plain DrillInput
	return decodeStrict(b, (*plain)(in))
}

// The phases of a drill.
const (
	phaseClaim   = "claim"
	phaseChoose  = "choose"
	phaseCheck   = "check"
	phaseLoad    = "load"
	phaseIndexes = "indexes"
	phaseProve   = "prove"
	phaseDrop    = "drop"
)

// drill is one run of RestoreDrill.
type drill struct {
	in      DrillInput
	snap    activities.Snapshot
	at      activities.DrillAttempt
	status  Status
	result  activities.DrillRecord
	claimed bool
}

// RestoreDrill restores the newest proven backup into a scratch database, proves every document and index of it, drops the scratch
// whatever happens, and keeps the dated result. A backup that cannot be restored is a result, and the people on call are told; it is
// not tried again. An error means that there was no drill: bad input, a scratch database that is somebody else's, or a cancellation.
func RestoreDrill(ctx workflow.Context, in DrillInput) (activities.DrillRecord, error) {
	snap, err := loadTarget(ctx, in.Target)
	if err != nil {
		return activities.DrillRecord{}, err
	}
	in.Target = snap.Target
	info := workflow.GetInfo(ctx)
	if info.WorkflowExecution.ID != DrillID(snap.Target) {
		// A schedule gives each run an id of its own, and a person may type any. A cancelled child still drops its scratch.
		var r activities.DrillRecord
		err := workflow.ExecuteChildWorkflow(workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
			WorkflowID: DrillID(snap.Target), ParentClosePolicy: enums.PARENT_CLOSE_POLICY_REQUEST_CANCEL, WaitForCancellation: true,
		}), RestoreDrill, in).Get(ctx, &r)
		return r, err
	}
	d := &drill{in: in, snap: snap, status: Status{Target: snap.Target}}
	d.at = activities.DrillAttempt{Target: snap.Target, ID: incidentID(ctx), Scratch: in.Scratch}
	d.result = activities.DrillRecord{ID: d.at.ID, Target: snap.Target, At: workflow.Now(ctx).UTC(), RTO: snap.RTO}
	err = workflow.SetQueryHandlerWithOptions(ctx, QueryStatus, func() (Status, error) { return d.status, nil },
		workflow.QueryHandlerOptions{Description: "What is done, and what runs"})
	if err != nil {
		return d.result, fmt.Errorf("register query: %w", err)
	}
	return d.run(ctx)
}

func (d *drill) run(ctx workflow.Context) (activities.DrillRecord, error) {
	err := d.restore(ctx)
	after, _ := workflow.NewDisconnectedContext(ctx)
	dropErr := d.drop(after)
	switch {
	case temporal.IsCanceledError(err), is(err, activities.BadInput):
		return d.result, err
	case is(err, activities.ScratchTaken):
		d.fail(err)
		if told := d.tell(after); told != nil {
			workflow.GetLogger(ctx).Error("the people on call were not told", "error", told)
		}
		return d.result, err
	case err != nil:
		d.fail(err)
	default:
		d.pass()
	}
	if dropErr != nil {
		d.result.Warnings = append(d.result.Warnings, fmt.Sprintf("The scratch database %s could not be dropped; the next drill tries again: %s", d.at.Scratch, explain(dropErr)))
	}
	if d.result.Passed {
		err := workflow.ExecuteActivity(onHost(after, d.snap.HostQueue, "Note that the backup can be restored"), catalog.MarkRestored,
			activities.RestoredInput{Attempt: activities.Attempt{Target: d.snap.Target, Backup: d.at.Backup}}).Get(after, nil)
		if err != nil {
			d.result.Warnings = append(d.result.Warnings, "The catalog does not say yet that the backup was restored: "+explain(err))
		}
	}
	if err := workflow.ExecuteActivity(onHost(after, d.snap.HostQueue, "Keep the dated result"), drills.KeepDrill, d.result).Get(after, nil); err != nil {
		return d.result, err
	}
	d.status.Result, d.status.Phase = d.result.Summary, "done"
	publish(after, d.status, d.snap.SearchAttributes)
	if d.result.Passed && len(d.result.Warnings) == 0 {
		return d.result, nil
	}
	return d.result, d.tell(after)
}

// restore is the drill itself, up to the proof.
func (d *drill) restore(ctx workflow.Context) error {
	queue, most := d.snap.HostQueue, d.snap.DrillTimeout
	if most <= 0 {
		most = longest
	}
	err := d.phase(ctx, phaseClaim, func() (string, error) {
		// From here on there may be a scratch, even where the answer is lost.
		d.claimed = true
		var c activities.Claimed
		err := workflow.ExecuteActivity(long(ctx, queue, "Make the scratch database, which must not exist yet", 10*time.Minute),
			drills.ClaimScratch, d.at).Get(ctx, &c)
		if is(err, activities.ScratchTaken) || is(err, activities.BadInput) {
			d.claimed = false
		}
		if err == nil {
			d.at.Scratch, d.at.Token, d.result.Scratch = c.Scratch, c.Token, c.Scratch
		}
		return c.Scratch, err
	})
	if err != nil {
		return err
	}
	var ref activities.BackupRef
	err = d.phase(ctx, phaseChoose, func() (string, error) {
		err := workflow.ExecuteActivity(long(ctx, queue, "Choose the newest proven backup", 10*time.Minute),
			catalog.ChooseBackup, activities.ChooseInput{Attempt: activities.Attempt{Target: d.snap.Target}, Want: d.in.Backup}).Get(ctx, &ref)
		if err == nil {
			d.result.Backup = &ref
		}
		return ref.ID, err
	})
	if err != nil {
		return err
	}
	err = d.phase(ctx, phaseCheck, func() (string, error) {
		var checked activities.BackupRef
		err := workflow.ExecuteActivity(long(ctx, queue, "Check every byte of backup "+ref.ID, most),
			catalog.CheckBackup, activities.CheckInput{Attempt: activities.Attempt{Target: d.snap.Target}, ID: ref.ID}).Get(ctx, &checked)
		if err == nil {
			d.at.Backup, d.result.Backup = checked.ID, &checked // fetched from offsite, it has another id
		}
		return "every file checked", err
	})
	if err != nil {
		return err
	}
	var loaded activities.Loaded
	err = d.phase(ctx, phaseLoad, func() (string, error) {
		err := workflow.ExecuteActivity(long(ctx, queue, "Load "+d.at.Backup+" into "+d.at.Scratch, most), drills.LoadScratch, d.at).Get(ctx, &loaded)
		return fmt.Sprintf("%s documents in %d collections", count(loaded.Documents), loaded.Collections), err
	})
	if err != nil {
		return err
	}
	d.result.Phases = append(d.result.Phases, activities.DrillPhase{
		Name: phaseIndexes, Seconds: loaded.IndexSeconds, Note: "within the loading; several at a time, all counted",
	})
	return d.phase(ctx, phaseProve, func() (string, error) {
		var v activities.Verified
		err := workflow.ExecuteActivity(long(ctx, queue, "Compare every document and index with the backup", most), drills.ProveScratch, d.at).Get(ctx, &v)
		d.result.Documents, d.result.Indexes, d.result.KeyCounts = v.Documents, v.Indexes, v.KeyCounts
		return fmt.Sprintf("%s documents and %d indexes equal the backup's", count(v.Documents), v.Indexes), err
	})
}

// drop drops the scratch, also of a drill that was cancelled.
func (d *drill) drop(ctx workflow.Context) error {
	if !d.claimed {
		return nil
	}
	if d.at.Scratch == "" {
		// The claim may have been made all the same: claiming again tells the name.
		var c activities.Claimed
		err := workflow.ExecuteActivity(onHost(ctx, d.snap.HostQueue, "Ask again for the scratch database"), drills.ClaimScratch, d.at).Get(ctx, &c)
		if err != nil {
			return err
		}
		d.at.Scratch, d.result.Scratch = c.Scratch, c.Scratch
	}
	err := d.phase(ctx, phaseDrop, func() (string, error) {
		return d.at.Scratch + " is gone", workflow.ExecuteActivity(long(ctx, d.snap.HostQueue, "Drop the scratch database", time.Hour), drills.DropScratch, d.at).Get(ctx, nil)
	})
	d.result.Dropped = err == nil
	return err
}

// phase runs one part and times it. All but the drop count for what a recovery would wait for.
func (d *drill) phase(ctx workflow.Context, name string, work func() (string, error)) error {
	d.status.begin(name)
	publish(ctx, d.status, d.snap.SearchAttributes)
	began := workflow.Now(ctx)
	note, err := work()
	p := activities.DrillPhase{Name: name, Seconds: workflow.Now(ctx).Sub(began).Seconds(), Note: note}
	state := Done
	if err != nil {
		state, p.Note = Failed, explain(err)
	}
	if name != phaseDrop && name != phaseClaim {
		d.result.Seconds += p.Seconds
	}
	d.result.Phases = append(d.result.Phases, p)
	d.status.end(name, state, p.Note)
	publish(ctx, d.status, d.snap.SearchAttributes)
	return err
}

func (d *drill) pass() {
	r := &d.result
	r.Passed, r.Within = true, d.snap.RTO <= 0 || r.Seconds <= d.snap.RTO.Seconds()
	r.Summary = fmt.Sprintf("Backup %s can be restored: %s documents and %d indexes proven in %s.",
		r.Backup.ID, count(r.Documents), r.Indexes, duration(r.Seconds))
	if !r.Within {
		r.Warnings = append(r.Warnings, fmt.Sprintf("The restore took %s, longer than the %s that a recovery may take (monitor.rto)", duration(r.Seconds), d.snap.RTO))
	}
}

func (d *drill) fail(err error) {
	r := &d.result
	r.Found, r.FoundType = explain(err), typeOf(err)
	what := "The drill found no backup that can be restored: "
	if r.Backup != nil {
		what = "The drill could not restore backup " + r.Backup.ID + ": "
	}
	if r.FoundType == activities.ScratchTaken {
		what = "There was no drill: "
	}
	r.Summary = what + r.Found
}

// tell mails the people on call what was found.
func (d *drill) tell(ctx workflow.Context) error {
	if !d.snap.OnCall {
		return nil
	}
	f := &activities.Findings{By: "RestoreDrill"}
	if d.result.Backup != nil && d.result.Passed {
		f.Newest = d.result.Backup.ID
	}
	if !d.result.Passed {
		f.Problems = append(f.Problems, activities.Problem{Code: activities.ProblemDrill, Text: d.result.Summary})
	}
	for _, w := range d.result.Warnings {
		f.Problems = append(f.Problems, activities.Problem{Code: activities.ProblemDrill, Text: w})
	}
	return workflow.ExecuteActivity(patient(ctx, d.snap.HostQueue, "Mail the people on call: what the drill found"),
		mails.TellPeople, activities.TellInput{
			Target: d.snap.Target, Kind: activities.MailMonitor, Key: "drill-" + workflow.GetInfo(ctx).OriginalRunID,
			Findings: f, WorkflowID: workflow.GetInfo(ctx).WorkflowExecution.ID,
		}).Get(ctx, nil)
}
