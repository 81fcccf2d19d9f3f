package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/battwheels/runbook/activities"
	"github.com/battwheels/runbook/internal/undelete"
)

// putBack writes, proves, and lets a person look. A cancellation from now on becomes a question.
func (u *undeletion) putBack(root, ctx workflow.Context) (Outcome, error) {
	u.swapped = true
	for _, s := range []struct {
		name    string
		do      func(workflow.Context) (string, error)
		choices []Choice
	}{
		{stepUndelete, u.insert, []Choice{Retry, RollBack, GiveUp}},
		{stepReadBack, u.readBack, []Choice{Retry, CarryOn, RollBack}},
	} {
		choice, err := u.settle(ctx, s.name, s.do, s.choices...)
		if err != nil {
			return "", err
		}
		if choice == "" && !u.heeded && (u.abort != nil || root.Err() != nil) {
			u.heeded = true
			choice, err = u.ask(ctx, "You asked to stop, but documents have been put back. Carry on, or take them out again?", CarryOn, RollBack)
			if err != nil {
				return "", err
			}
		}
		switch choice {
		case RollBack:
			return u.takeBack(ctx)
		case GiveUp:
			return GaveUp, nil
		}
	}
	u.result.BackAt = workflow.Now(ctx).UTC()
	return u.review(root, ctx)
}

// insert takes the lease, sees that nothing is half-way, and puts the documents back.
func (u *undeletion) insert(ctx workflow.Context) (string, error) {
	if err := u.lease(ctx); err != nil {
		return "", err
	}
	u.result.Wrote = true
	err := workflow.ExecuteActivity(long(ctx, u.snap.HostQueue, "See that no earlier swap was cut off half-way", time.Hour),
		data.UndoHalfSwaps, activities.UndoInput{Attempt: u.attempt}).Get(ctx, nil)
	if err != nil {
		return "", err
	}
	var out undelete.Undeleted
	err = workflow.ExecuteActivity(long(ctx, u.snap.HostQueue, "Put back what is still absent, and nothing else", longest),
		lost.UndeleteDocuments, u.selected()).Get(ctx, &out)
	if err != nil {
		return "", u.lapsed(err)
	}
	u.result.PutBack = out.Total
	return putBackNote(out.Total), nil
}

// lease takes the right to write to the target's data, where it is not held already.
func (u *undeletion) lease(ctx workflow.Context) error {
	if u.leased {
		return nil
	}
	err := workflow.ExecuteActivity(quick(ctx, "Take the lease: nothing else may put data back"), data.AcquireLease,
		activities.LeaseInput{Attempt: u.attempt, Purpose: "undelete " + u.incident}).Get(ctx, &u.attempt.Token)
	if is(err, activities.LeaseHeld) {
		// Whoever holds it will be done: the approved plan is worth a question.
		return temporal.NewNonRetryableApplicationError(message(err), "Busy", err)
	}
	u.leased = err == nil
	return err
}

// lapsed notes that the lease was taken over: trying again takes it anew, once it is free.
func (u *undeletion) lapsed(err error) error {
	if is(err, activities.LeaseLost) {
		u.leased = false
	}
	return err
}

func (u *undeletion) selected() activities.SelectedInput {
	return activities.SelectedInput{SearchInput: u.search(), Selection: u.plan.Undelete.Selection}
}

func putBackNote(o undelete.Outcomes) string {
	note := count(o.Insert) + " documents put back"
	if left := o.LeftOut(); left != "" {
		note += " (left out: " + left + ")"
	}
	return note
}

// readBack proves that what was inserted stands there. The application's users may have changed some of it since: a person
// judges that.
func (u *undeletion) readBack(ctx workflow.Context) (string, error) {
	var v undelete.Verified
	err := workflow.ExecuteActivity(long(ctx, u.snap.HostQueue, "Read every document back and compare it with what was approved", time.Hour),
		lost.VerifyUndelete, u.selected()).Get(ctx, &v)
	if err != nil {
		return "", err
	}
	u.result.Verified = &v
	if !v.Whole {
		return "", temporal.NewNonRetryableApplicationError(fmt.Sprintf(
			"of what was put back, %s are as they were, %s have been changed since, %s deleted, %s are missing, %s have a twin under the same key, %s were not selected. They are listed in %s/%s",
			count(v.Same), count(v.Changed), count(v.Gone), count(v.Missed), count(v.Doubled), count(v.Strange), u.result.Folder, v.File), activities.NotVerified, nil)
	}
	return count(v.Same) + " documents stand there byte for byte", nil
}

// review lets a person look at the application, and take everything out again by one answer, or by stopping the playbook: abort
// promises to undo what can be undone. No answer keeps it.
func (u *undeletion) review(root, ctx workflow.Context) (Outcome, error) {
	u.begin(ctx, stepReview)
	question := fmt.Sprintf("%s. Have a look at the application: `%s` keeps them, `%s` takes them out again. Without an answer they stay.",
		putBackNote(u.result.PutBack), CarryOn, RollBack)
	choice, err := u.askFor(ctx, question, reviewFor, func() bool { return !u.heeded && (u.abort != nil || root.Err() != nil) }, CarryOn, RollBack)
	switch {
	case err != nil:
		return "", err
	case choice == RollBack, choice == stopped:
		u.end(ctx, stepReview, Failed, "to be taken out again")
		return u.takeBack(ctx)
	case choice == "":
		u.end(ctx, stepReview, Done, "nobody objected")
	default:
		u.end(ctx, stepReview, Done, "kept")
	}
	return Recovered, nil
}

// takeBack deletes exactly what was inserted, where it still is what was inserted.
func (u *undeletion) takeBack(ctx workflow.Context) (Outcome, error) {
	choice, err := u.settle(ctx, stepTakeBack, func(ctx workflow.Context) (string, error) {
		if err := u.lease(ctx); err != nil {
			return "", err
		}
		var out undelete.Undone
		err := workflow.ExecuteActivity(long(ctx, u.snap.HostQueue, "Take out again what was put back and is unchanged", longest),
			lost.UndoUndelete, u.selected()).Get(ctx, &out)
		if err != nil {
			return "", u.lapsed(err)
		}
		u.result.Undone = &out
		if out.Changed > 0 {
			u.warn(fmt.Sprintf("%s of the documents that were put back have been changed since, and stay.", count(out.Changed)))
		}
		return fmt.Sprintf("%s removed, %s changed since and left, %s gone already", count(out.Removed), count(out.Changed), count(out.Gone)), nil
	}, Retry, GiveUp)
	switch {
	case err != nil:
		return "", err
	case choice == GiveUp:
		return GaveUp, nil
	}
	return RolledBack, nil
}
