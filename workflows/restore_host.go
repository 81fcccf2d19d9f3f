package workflows

import (
	"errors"
	"fmt"
	"time"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/battwheels/runbook/activities"
)

// hostAnswers is how long a host may take to begin a small step before another one is chosen.
const hostAnswers = 15 * time.Second

// errMoved says that the host that the restore worked on is gone, and another one has been chosen.
var errMoved = errors.New("another host has been chosen")

// nobodyThere says whether a step ended because no worker of its host took it.
func nobodyThere(err error) bool {
	timeout, ok := errors.AsType[*temporal.TimeoutError](err)
	return ok && timeout.TimeoutType() == enums.TIMEOUT_TYPE_SCHEDULE_TO_START
}

// moveElsewhere chooses another host, where there is one, as long as nothing live has been changed. What the lost host knew of the
// attempt, its journals and dumps, is lost with it.
func (r *restore) moveElsewhere(ctx workflow.Context) (moved, again bool) {
	if r.swapped {
		return false, false
	}
	o := workflow.GetActivityOptions(quick(ctx, "Choose another host"))
	o.ScheduleToStartTimeout = hostAnswers
	var snap activities.Snapshot
	err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, o), targets.LoadTarget, r.snap.Target).Get(ctx, &snap)
	if err != nil || snap.HostQueue == r.snap.HostQueue {
		return false, false
	}
	r.warn(fmt.Sprintf("No worker answered on %s any more; %s went on in its place, from the beginning. The dumps of this incident that lie there are not lost, if the host is not.",
		r.snap.HostQueue, snap.HostQueue))
	r.snap.HostQueue, r.result.Host = snap.HostQueue, snap.HostQueue
	return true, r.undoing
}

// startOver takes back what the attempt on the lost host had done in the database, so that the new one begins with nothing.
func (r *restore) startOver(ctx workflow.Context) error {
	err := r.unstage(ctx)
	if err == nil {
		err = r.release(ctx)
	}
	if err != nil {
		return err
	}
	r.emergency, r.safety, r.cleared, r.halfSwapped = "", "", false, false
	r.took = nil
	// What was found wrong with backups over there says nothing of the copies here.
	r.excluded, r.unsound, r.candidates, r.resigned, r.passed = nil, nil, nil, false, false
	r.backup, r.attempt.Backup, r.attempt.Token = activities.BackupRef{}, "", 0
	return nil
}
