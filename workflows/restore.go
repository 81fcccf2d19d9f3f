package workflows

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/battwheels/runbook/activities"
)

// RestoreInput starts Restore. Every field may be left out: {} restores the newest proven backup of the only target,
// after a person approved the plan.
type RestoreInput struct {
	Target string `json:"target,omitempty"`
	Backup string `json:"backup,omitempty"` // an id that "runbook backups list" shows; default the newest proven one
	Since  Since  `json:"since,omitempty"`  // when the damage began: only older backups are chosen
	// Collections are restored whole, and the others left as they are; default all.
	Collections []string `json:"collections,omitempty"`
	DryRun      bool     `json:"dryRun,omitempty"` // read and plan only: nothing is changed, nobody is told
	// Incident and Emergency are set by a playbook that runs the restore as its child.
	Incident  string `json:"incident,omitempty"`
	Emergency string `json:"emergency,omitempty"` // the dump that the playbook made already
	// Host is the queue of the host on which the playbook works, and Warnings are for the plan; set likewise.
	Host     string   `json:"host,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
}

// UnmarshalJSON refuses unknown fields.
func (in *RestoreInput) UnmarshalJSON(b []byte) error {
	type plain RestoreInput
	return decodeStrict(b, (*plain)(in))
}

// Outcome is how a restore ended.
type Outcome string

// The outcomes of a restore.
const (
	Recovered  Outcome = "recovered"
	RolledBack Outcome = "rolled back"
	Rejected   Outcome = "rejected"
	Aborted    Outcome = "aborted"
	GaveUp     Outcome = "gave up"
	// Of a lost pod alone: its volume came back, or it was never lost.
	VolumeRecovered Outcome = "volume recovered"
	FalseAlarm      Outcome = "false alarm"
)

// ApplicationState is what a restore leaves the application as.
type ApplicationState string

// The states in which a restore leaves the application.
const (
	NotStopped     ApplicationState = "not stopped" // it runs, or does not, as it did before
	Started        ApplicationState = "started"     // and seen healthy
	Stopped        ApplicationState = "stopped"
	NotSeenHealthy ApplicationState = "not seen healthy" // it was told to start; it may run, or not
	NotControlled  ApplicationState = "not controlled"   // none is configured: nothing was stopped
)

// RestoreResult is what came of a restore.
type RestoreResult struct {
	Outcome  Outcome `json:"outcome"`
	Summary  string  `json:"summary"` // one sentence for people
	Incident string  `json:"incident"`
	Target   string  `json:"target"`
	// Backup is what the database was restored from.
	Backup            *activities.BackupRef `json:"backup,omitempty"`
	Plan              string                `json:"plan,omitempty"` // code of the approved plan
	ApprovedBy        string                `json:"approvedBy,omitempty"`
	SafetyDump        string                `json:"safetyDump,omitempty"`
	DocumentsRestored int64                 `json:"documentsRestored"`
	// DocumentsLost counts the documents that stood in the database before the swap and are not there as they were; all
	// of them are in the safety dump and, until the keep time has passed, in the collections set aside.
	DocumentsLost int64 `json:"documentsLost"`
	LossKnown     bool  `json:"lossKnown"`
	// Newer counts those of them that are newer than the backup, by collection and organization: MergeBack brings them back.
	Newer       *activities.Newer     `json:"newer,omitempty"`
	AuditMerged int64                 `json:"auditMerged"` // audit entries newer than the backup that were put back
	KeyCounts   []activities.KeyCount `json:"keyCounts,omitempty"`
	StoppedAt   time.Time             `json:"stoppedAt,omitzero"`
	HealthyAt   time.Time             `json:"healthyAt,omitzero"`
	// DowntimeSeconds runs from the order to stop until the application was healthy again.
	DowntimeSeconds float64 `json:"downtimeSeconds"`
	// RPOSeconds runs from the moment of the backup until the application was stopped: writes in it are lost.
	RPOSeconds float64 `json:"rpoSeconds"`
	// Application is what the restore left the application as.
	Application ApplicationState `json:"application,omitempty"`
	Host        string           `json:"host,omitempty"`    // queue of the host that it ended on, where that is another one than it began on
	Answers     []Answer         `json:"answers,omitempty"` // what people said, denied answers too
	Warnings    []string         `json:"warnings,omitempty"`
	// Simulation is what a dry run has found, which does nothing else.
	Simulation *Simulation `json:"simulation,omitempty"`
}

// The steps of a restore, in the words of the runbook.
const (
	stepEmergency = "Emergency dump"
	stepChoose    = "Choose the backup"
	stepStage     = "Stage it beside the live data"
	stepProve     = "Prove the staged copy"
	stepApprove   = "Plan and approval"
	stepStop      = "Stop the application"
	stepSafety    = "Final safety dump"
	stepSwap      = "Swap"
	stepVerify    = "Verify in place"
	stepMerge     = "Keep newer audit entries"
	stepStart     = "Start the application"
)

// restore is one attempt at bringing a backup back: stage, prove, swap.
type restore struct {
	asking
	in       RestoreInput
	attempt  activities.Attempt
	stop     workflow.CancelFunc // cancels the work in hand, until the swap
	plan     activities.Plan
	backup   activities.BackupRef
	excluded []string // backups that failed, or that a person passed over
	// candidates are the backups that could be taken; doubted says that a newer one was passed over because it may hold the
	// damage, too, so that no policy approves what that costs.
	candidates []activities.Weighed
	doubted    bool
	unsound    []string // backups on which a query did not hold, newest first
	resigned   bool     // it holds on none: the newest of them is taken
	passed     bool     // the staged backup is passed over, and the next one is taken
	// what has been done, and so must be undone or said
	leased  bool
	cleared bool // no half-made swap of an earlier attempt is left
	// halfSwapped says that there is one, and that a person knows that the application is stopped to undo it.
	halfSwapped bool
	undoing     bool // it ends before the swap
	emergency   string
	safety      string
	staged      bool
	stopped     bool // it was told to stop, and has not been seen healthy since
	told        bool // to start, since it was told to stop
	heeded      bool // an abort after the swap was asked about
	result      RestoreResult
}

// Restore puts a target's database back to a backup. Whatever id it was started under, the work is done by
// restore/TARGET, so that two can never work on one target.
func Restore(ctx workflow.Context, in RestoreInput) (RestoreResult, error) {
	if _, err := in.Since.time(); err != nil {
		return RestoreResult{}, badInput(err)
	}
	snap, err := loadTarget(ctx, in.Target)
	if err != nil {
		return RestoreResult{}, err
	}
	in.Target = snap.Target
	if in.DryRun {
		return simulateRestore(ctx, snap, in)
	}
	if workflow.GetInfo(ctx).WorkflowExecution.ID != RestoreID(snap.Target) {
		var result RestoreResult
		err := asChild(ctx, snap, RestoreID(snap.Target), Restore, in, &result)
		return result, err
	}
	if in.Host != "" {
		snap.HostQueue = in.Host
	}
	r := &restore{in: in, asking: asking{snap: snap}}
	r.elsewhere = r.moveElsewhere
	if err := r.setup(ctx); err != nil {
		return RestoreResult{}, err
	}
	return r.run(ctx)
}

func (r *restore) setup(ctx workflow.Context) error {
	info := workflow.GetInfo(ctx)
	if r.in.Incident == "" {
		r.in.Incident = incidentID(ctx)
	}
	r.incident = r.in.Incident
	r.attempt = activities.Attempt{Target: r.snap.Target, Incident: r.in.Incident, Run: info.OriginalRunID, Collections: r.in.Collections}
	r.emergency = r.in.Emergency
	r.result = RestoreResult{Target: r.snap.Target, Incident: r.in.Incident}
	r.warnings = slices.Clone(r.in.Warnings)
	r.status = Status{Incident: r.in.Incident, Target: r.snap.Target}
	steps := []string{stepChoose, stepStage, stepProve, stepApprove, stepStop, stepSafety, stepSwap, stepVerify, stepMerge, stepStart}
	if r.emergency == "" {
		steps = append([]string{stepEmergency}, steps...)
	}
	for _, name := range steps {
		r.status.Steps = append(r.status.Steps, Step{Name: name, State: Pending})
	}
	err := workflow.SetQueryHandlerWithOptions(ctx, QueryStatus, func() (Status, error) { return r.status, nil },
		workflow.QueryHandlerOptions{Description: "What is done, what runs, and what is asked of people"})
	if err != nil {
		return fmt.Errorf("register query: %w", err)
	}
	hear := func(ctx workflow.Context, door string, a Answer) (string, error) { return r.hear(ctx, door, a) }
	if err := openDoors(ctx, hear); err != nil {
		return err
	}
	serveParent(ctx, hear)
	r.announce(ctx, func() Status { return r.status })
	workflow.GoNamed(ctx, "abort signal", func(ctx workflow.Context) {
		for {
			var a Answer
			if !workflow.GetSignalChannel(ctx, DoorAbort).Receive(ctx, &a) {
				return
			}
			_, _ = r.hear(ctx, DoorAbort, a) // a second abort changes nothing
		}
	})
	return nil
}

// run is the restore as the runbook has it. Until the swap, abort and cancellation undo everything; from the swap on
// they lead to a question.
func (r *restore) run(ctx workflow.Context) (RestoreResult, error) {
	before, stop := workflow.WithCancel(ctx)
	r.stop = stop
	workflow.GoNamed(ctx, "abort", func(gctx workflow.Context) {
		if workflow.Await(gctx, func() bool { return r.abort != nil }) == nil && !r.swapped {
			stop()
		}
	})

	ended, err := r.prepare(before)
	// From here on nothing is cancelled: what has begun is carried through, or undone.
	after, _ := workflow.NewDisconnectedContext(ctx)
	if err != nil || ended != "" {
		return r.undo(after, ended, err)
	}
	ended, err = r.replace(ctx, after)
	if err != nil {
		summary := "The restore failed after the swap: " + explain(err)
		if ended == RolledBack {
			summary = "Rolled back: the database is as it was before the restore. What came then failed: " + explain(err)
		}
		return r.finish(after, GaveUp, summary), err
	}
	return r.finish(after, ended, ""), nil
}

// prepare does all that can be done without changing anything that exists: it ends with the application stopped and a
// final safety dump of what is there. An Outcome other than "" means that the restore is over.
func (r *restore) prepare(ctx workflow.Context) (Outcome, error) {
	for {
		ended, err := r.prepareHere(ctx)
		if !errors.Is(err, errMoved) {
			return ended, err
		}
		if err := r.startOver(ctx); err != nil {
			return "", err
		}
	}
}

// prepareHere is prepare on one host.
func (r *restore) prepareHere(ctx workflow.Context) (Outcome, error) {
	if r.emergency == "" {
		if ended, err := r.emergencyDump(ctx); ended != "" || err != nil {
			return ended, err
		}
	}
	for {
		again, ended, err := r.stageAndPlan(ctx)
		if err != nil || ended != "" {
			return ended, err
		}
		if !again {
			break
		}
	}
	if ended, err := r.stopApplication(ctx); ended != "" || err != nil {
		return ended, err
	}
	return r.safetyDump(ctx)
}

// stageAndPlan chooses a backup, proves a staged copy of it and has the plan approved. It returns true when a person
// wants another backup.
func (r *restore) stageAndPlan(ctx workflow.Context) (again bool, ended Outcome, err error) {
	steps := []struct {
		name string
		do   func(workflow.Context) (string, error)
	}{
		{stepChoose, r.chooseBackup},
		{stepStage, r.stage},
		{stepProve, r.prove},
	}
	for _, s := range steps {
		choice, err := r.settle(ctx, s.name, s.do, Retry, OtherBackup, GiveUp)
		switch {
		case r.passed && err == nil:
			r.passed = false
			return true, "", r.unstage(ctx)
		case err != nil:
			return false, "", err
		case choice == OtherBackup:
			return true, "", r.passOver(ctx)
		case choice == GiveUp:
			return false, GaveUp, nil
		}
	}
	choice, err := r.settle(ctx, stepApprove, r.drawPlan, Retry, OtherBackup, GiveUp)
	switch {
	case err != nil:
		return false, "", err
	case choice == OtherBackup:
		return true, "", r.passOver(ctx)
	case choice == GiveUp:
		return false, GaveUp, nil
	}
	verdict, err := r.approval(ctx)
	if err != nil {
		return false, "", err
	}
	switch verdict.Door {
	case DoorReject:
		r.end(ctx, stepApprove, Failed, "rejected by "+verdict.By)
		return false, Rejected, nil
	case DoorChooseBackup:
		r.in.Backup = verdict.Backup
		return true, "", r.unstage(ctx)
	}
	r.result.ApprovedBy = verdict.By
	r.end(ctx, stepApprove, Done, fmt.Sprintf("plan %s approved by %s", r.plan.Code, verdict.By))
	return false, "", nil
}

// passOver leaves the backup in hand behind, so that the one that the person named is taken, or the next best one.
func (r *restore) passOver(ctx workflow.Context) error {
	if r.backup.ID != "" {
		r.excluded = append(r.excluded, r.backup.ID)
		r.unsound = slices.DeleteFunc(r.unsound, func(id string) bool { return id == r.backup.ID })
	}
	r.in.Backup = r.wanted
	return r.unstage(ctx)
}

// replace swaps, verifies, and brings the application back. A cancellation from now on becomes a question.
func (r *restore) replace(root, ctx workflow.Context) (Outcome, error) {
	r.swapped = true
	r.backup = r.plan.Backup
	steps := []struct {
		name    string
		do      func(workflow.Context) (string, error)
		choices []Choice
	}{
		{stepSwap, r.swap, []Choice{Retry, RollBack}},
		{stepVerify, r.verify, []Choice{Retry, RollBack}},
		{stepMerge, r.mergeAudit, []Choice{Retry, CarryOn, RollBack}},
		{stepStart, r.startApplication, []Choice{Retry, RollBack, GiveUp}},
	}
	for _, s := range steps {
		choice, err := r.settle(ctx, s.name, s.do, s.choices...)
		if err != nil {
			return "", err
		}
		if choice == "" {
			if choice, err = r.askIfAborted(root, ctx); err != nil {
				return "", err
			}
		}
		switch choice {
		case RollBack:
			return r.rollBack(ctx)
		case GiveUp:
			return GaveUp, nil
		}
	}
	return Recovered, nil
}

// askIfAborted turns an abort or a cancellation that came after the swap into a question. It is asked once: who says
// carry on is not asked again.
func (r *restore) askIfAborted(root, ctx workflow.Context) (Choice, error) {
	if r.heeded || (r.abort == nil && root.Err() == nil) || r.status.Phase == stepStart {
		return "", nil
	}
	r.heeded = true
	return r.ask(ctx, "You asked to stop, but the swap has been made. Carry on, or roll back to what was there before?", CarryOn, RollBack)
}

var (
	data    *activities.Data
	catalog *activities.Catalog
	app     *activities.Application
	mails   *activities.Mail
	records *activities.Incident
	targets *activities.Target
	drills  *activities.Drill
)

func loadTarget(ctx workflow.Context, name string) (activities.Snapshot, error) {
	var snap activities.Snapshot
	err := workflow.ExecuteActivity(quick(ctx, "Read the target's configuration"), targets.LoadTarget, name).Get(ctx, &snap)
	return snap, err
}

func badInput(err error) error {
	return temporal.NewNonRetryableApplicationError(err.Error(), activities.BadInput, nil)
}
