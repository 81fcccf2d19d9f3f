package workflows

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/battwheels/runbook/activities"
)

// emergencyDump keeps all that can be read before anything else happens.
func (r *restore) emergencyDump(ctx workflow.Context) (Outcome, error) {
	choice, err := r.settle(ctx, stepEmergency, func(ctx workflow.Context) (string, error) {
		dump, err := emergencyDump(ctx, r.snap, r.in.Incident)
		r.emergency = dump.ID
		return dumpNote(dump), err
	}, Retry, WithoutSafetyDump, GiveUp)
	switch {
	case err != nil:
		return "", err
	case choice == GiveUp:
		return GaveUp, nil
	case choice == WithoutSafetyDump:
		r.warn("No emergency dump was made.")
		r.end(ctx, stepEmergency, Skipped, "left out by a person's choice")
	}
	return "", nil
}

// emergencyDump dumps all that can be read of a target's database.
func emergencyDump(ctx workflow.Context, snap activities.Snapshot, incident string) (activities.BackupRef, error) {
	var dump activities.BackupRef
	err := workflow.ExecuteActivity(
		long(ctx, snap.HostQueue, "Dump everything that can still be read", longest),
		data.DumpDatabase, activities.DumpInput{
			Target: snap.Target, Name: backupName(ctx, "emergency", incident), Kind: "emergency", Incident: incident, Salvage: true,
		}).Get(ctx, &dump)
	return dump, err
}

// chooseBackup takes the newest proven backup from before the damage, or the one that a person named, and checks every
// byte of it. One that fails the check is left out, and the next one is chosen.
func (r *restore) chooseBackup(ctx workflow.Context) (string, error) {
	since, err := r.in.Since.time()
	if err != nil {
		return "", badInput(err)
	}
	for {
		var chosen activities.Chosen
		want := r.in.Backup
		if want == "" && r.resigned && len(r.unsound) > 0 {
			want = r.unsound[0]
		}
		err := workflow.ExecuteActivity(
			long(ctx, r.snap.HostQueue, "Choose the newest proven backup from before the damage", 10*time.Minute),
			catalog.ChooseBackup, activities.ChooseInput{
				Attempt: r.attempt, Before: since, Want: want, Excluded: r.excluded,
			}).Get(ctx, &chosen)
		if is(err, activities.NoBackup) && len(r.unsound) > 0 && !r.resigned {
			r.resigned = true
			for i, w := range r.warnings {
				r.warnings[i] = strings.TrimSuffix(w, passedOver)
			}
			r.warn("No backup passes the queries of `verify.queries`: the newest one is taken. Look closely before you approve.")
			continue
		}
		if err != nil {
			return "", err
		}
		r.weighed(chosen)
		err = workflow.ExecuteActivity(
			long(ctx, r.snap.HostQueue, "Check every byte of backup "+chosen.ID, longest),
			catalog.CheckBackup, activities.CheckInput{Attempt: r.attempt, ID: chosen.ID}).Get(ctx, &r.backup)
		if err == nil {
			r.attempt.Backup = r.backup.ID // fetched from offsite, it has another
			return fmt.Sprintf("%s of %s: %s documents, every file checked", r.backup.ID, stamp(r.backup.Time), count(r.backup.Documents)), nil
		}
		if r.in.Backup != "" || !is(err, activities.CorruptBackup) {
			return "", err
		}
		r.excluded = append(r.excluded, chosen.ID)
		r.unsound = slices.DeleteFunc(r.unsound, func(id string) bool { return id == chosen.ID })
		r.warn(fmt.Sprintf("Backup %s was passed over: %s", chosen.ID, message(err)))
	}
}

// stage loads the backup into collections of its own beside the live ones.
func (r *restore) stage(ctx workflow.Context) (string, error) {
	if !r.leased {
		err := workflow.ExecuteActivity(quick(ctx, "Take the lease: one restore at a time"), data.AcquireLease,
			activities.LeaseInput{Attempt: r.attempt, Purpose: "restore " + r.in.Incident}).Get(ctx, &r.attempt.Token)
		if err != nil {
			return "", err
		}
		r.leased = true
	}
	if !r.cleared {
		if err := r.undoHalfSwaps(ctx); err != nil {
			return "", err
		}
		r.cleared = true
	}
	r.staged = true
	var staged activities.Staged
	err := workflow.ExecuteActivity(
		long(ctx, r.snap.HostQueue, "Load "+r.backup.ID+" beside the live data, which stays as it is", longest),
		data.StageBackup, r.attempt).Get(ctx, &staged)
	if err != nil {
		return "", err
	}
	r.result.DocumentsRestored = staged.Documents
	note := fmt.Sprintf("%s documents in %d collections", count(staged.Documents), staged.Collections)
	if len(staged.Skipped) > 0 {
		r.warn("Left alone, not restored: " + strings.Join(staged.Skipped, ", "))
	}
	return note, nil
}

// undoHalfSwaps sees that no earlier swap was cut off half-way. Where one was, a person is asked first: to undo it, the application
// is stopped, long before there is a plan to approve. Trying again says yes.
func (r *restore) undoHalfSwaps(ctx workflow.Context) error {
	if r.halfSwapped {
		r.markStopped(ctx)
		if _, err := r.quiesce(ctx); err != nil {
			return err
		}
	}
	var undone []string
	err := workflow.ExecuteActivity(
		long(ctx, r.snap.HostQueue, "See that no earlier swap was cut off half-way, and undo it", longest),
		data.UndoHalfSwaps, activities.UndoInput{Attempt: r.attempt, Stopped: r.halfSwapped}).Get(ctx, &undone)
	if is(err, activities.HalfSwapped) {
		r.halfSwapped = true
		return temporal.NewNonRetryableApplicationError(fmt.Sprintf(
			"%s. With `%s`, it is stopped (%s) and the swap rolled back", message(err), Retry, orNothing(r.snap.Writers)), activities.HalfSwapped, nil)
	}
	if err != nil {
		return err
	}
	for _, of := range undone {
		r.warn("The swap of incident " + of + " had been cut off half-way; it was rolled back first.")
	}
	return nil
}

// prove reads the staged copy back and compares it with the backup by digest.
func (r *restore) prove(ctx workflow.Context) (string, error) {
	var proof activities.Proof
	err := workflow.ExecuteActivity(
		long(ctx, r.snap.HostQueue, "Read every staged document back and compare it with the backup", longest),
		data.ProveStaging, r.attempt).Get(ctx, &proof)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s documents and %d indexes equal the backup's", count(proof.Documents), proof.Indexes), r.query(ctx)
}

// query asks the staged copy what holds on a sound database. Where it does not hold, the backup has the damage, too: the next one is
// taken, unless a person named this one.
func (r *restore) query(ctx workflow.Context) error {
	if !r.snap.Queries {
		return nil
	}
	var said activities.Queried
	err := workflow.ExecuteActivity(long(ctx, r.snap.HostQueue, "Ask the staged copy what holds on a sound database", time.Hour),
		data.QueryStaging, r.attempt).Get(ctx, &said)
	if err != nil {
		return err
	}
	if len(said.Unasked) > 0 {
		r.doubted = true // no policy approves what was not looked at
		r.warnOnce(fmt.Sprintf("Queries of verify.queries could not be asked of the staged copy: %s.", strings.Join(said.Unasked, "; ")))
	}
	if len(said.Wrong) == 0 {
		return nil
	}
	r.doubted = true
	found := fmt.Sprintf("Backup %s does not look sound: %s.", r.backup.ID, strings.Join(said.Wrong, "; "))
	if r.in.Backup != "" || r.resigned {
		r.warnOnce(found)
		return nil
	}
	r.warn(found + passedOver)
	r.unsound, r.excluded = append(r.unsound, r.backup.ID), append(r.excluded, r.backup.ID)
	r.passed = true
	return nil
}

// passedOver ends the warning of a backup on which a query does not hold, as long as another one is taken.
const passedOver = " It was passed over."

// warnOnce warns of what may come again with another backup or plan.
func (r *restore) warnOnce(text string) {
	if !slices.Contains(r.warnings, text) {
		r.warn(text)
	}
}

// weighed notes what the choice was made from. What was passed over is said in every plan.
func (r *restore) weighed(c activities.Chosen) {
	r.candidates = c.Candidates
	if c.Doubtful != "" {
		r.doubted = true
		r.warnOnce(fmt.Sprintf("Backup %s may hold the damage, too: %s", c.ID, c.Doubtful))
	}
	for _, why := range c.PassedOver {
		r.doubted = true
		r.warnOnce(why)
	}
}

// drawPlan counts the blast radius by document.
func (r *restore) drawPlan(ctx workflow.Context) (string, error) {
	err := workflow.ExecuteActivity(
		long(ctx, r.snap.HostQueue, "Draw the plan: what comes back, what changes, what leaves", time.Hour),
		data.DrawPlan, activities.PlanInput{Attempt: r.attempt, Against: r.emergency, Warnings: r.warnings, State: r.backup.State, Candidates: r.candidates}).Get(ctx, &r.plan)
	if u := r.plan.Unread; u != "" {
		r.warnOnce(u) // the report says it, too
	}
	return "", err
}

// stopApplication stops every writer and proves that nobody writes any more.
func (r *restore) stopApplication(ctx workflow.Context) (Outcome, error) {
	r.markStopped(ctx)
	choice, err := r.settle(ctx, stepStop, r.quiesce, Retry, GiveUp)
	if choice == GiveUp {
		return GaveUp, err
	}
	return "", err
}

// markStopped notes from when on the application may be down.
func (r *restore) markStopped(ctx workflow.Context) {
	r.told = false
	if !r.stopped {
		r.stopped = true
		r.result.StoppedAt = workflow.Now(ctx).UTC()
	}
}

func (r *restore) quiesce(ctx workflow.Context) (string, error) {
	err := workflow.ExecuteActivity(
		long(ctx, r.snap.HostQueue, "Stop "+orNothing(r.snap.Writers), stopWithin),
		app.StopApplication, r.snap.Target).Get(ctx, nil)
	if err != nil {
		return "", err
	}
	var quiet activities.Quiet
	err = workflow.ExecuteActivity(
		long(ctx, r.snap.HostQueue, "Prove that nobody writes any more", time.Hour),
		app.ProveQuiet, r.snap.Target).Get(ctx, &quiet)
	return quiet.Method, err
}

// safetyDump keeps what stands there right before the swap, and asks again where more would be lost than was approved.
func (r *restore) safetyDump(ctx workflow.Context) (Outcome, error) {
	choice, err := r.settle(ctx, stepSafety, func(ctx workflow.Context) (string, error) {
		var dump activities.BackupRef
		err := workflow.ExecuteActivity(
			long(ctx, r.snap.HostQueue, "Dump what stands there now, so that nothing is lost", longest),
			data.DumpDatabase, activities.DumpInput{
				Target: r.snap.Target, Name: backupName(ctx, "safety", r.in.Incident), Kind: "safety", Incident: r.in.Incident, Salvage: true,
			}).Get(ctx, &dump)
		r.safety = dump.ID
		return dumpNote(dump), err
	}, Retry, WithoutSafetyDump, GiveUp)
	switch {
	case err != nil:
		return "", err
	case choice == GiveUp:
		return GaveUp, nil
	case choice == WithoutSafetyDump:
		r.warn("No final safety dump was made; what was there is in the collections set aside only.")
		r.end(ctx, stepSafety, Skipped, "left out by a person's choice")
		r.result.DocumentsLost, r.result.LossKnown = r.plan.Loss(), r.plan.Whole()
		return "", nil
	}
	r.result.SafetyDump = r.safety
	return r.recount(ctx)
}

// recount compares what would be lost now with what was approved.
func (r *restore) recount(ctx workflow.Context) (Outcome, error) {
	var now activities.Plan
	choice, err := r.settle(ctx, stepSafety, func(ctx workflow.Context) (string, error) {
		err := workflow.ExecuteActivity(
			long(ctx, r.snap.HostQueue, "Count again what the swap would cost", time.Hour),
			data.DrawPlan, activities.PlanInput{Attempt: r.attempt, Against: r.safety, Warnings: r.warnings}).Get(ctx, &now)
		return r.step(stepSafety).Note, err
	}, Retry, GiveUp)
	if err != nil || choice == GiveUp {
		return GaveUp, err
	}
	r.result.DocumentsLost, r.result.LossKnown, r.result.Newer = now.Loss(), now.Whole(), now.Newer
	if r.plan.RadiusKnown && now.Uncounted <= r.plan.Uncounted && now.Loss() <= r.plan.Loss()+r.snap.MoreLoss {
		return "", nil
	}
	approved := r.plan
	r.plan = now
	r.plan.Warnings = append(r.plan.Warnings, fmt.Sprintf(
		"Plan %s was approved for a loss of %s documents; it is %s now that the application has stopped.",
		approved.Code, count(approved.Loss()), count(now.Loss())))
	verdict, err := r.approval(ctx)
	if err != nil {
		return "", err
	}
	if verdict.Door != DoorApprove {
		r.end(ctx, stepApprove, Failed, "rejected by "+verdict.By)
		return Rejected, nil
	}
	r.result.ApprovedBy = verdict.By
	r.end(ctx, stepApprove, Done, fmt.Sprintf("plan %s approved by %s", r.plan.Code, verdict.By))
	return "", nil
}

// swap sets the live collections aside and puts the staged ones in their place, by renaming.
func (r *restore) swap(ctx workflow.Context) (string, error) {
	var swapped activities.Swapped
	err := workflow.ExecuteActivity(
		long(ctx, r.snap.HostQueue, "Rename: live collections aside, staged ones into place", longest),
		data.SwapCollections, r.attempt).Get(ctx, &swapped)
	return fmt.Sprintf("%d collections in place, %d set aside", swapped.Placed, swapped.Aside), err
}

// verify compares the live database with the backup, document by document and index by index.
func (r *restore) verify(ctx workflow.Context) (string, error) {
	var v activities.Verified
	err := workflow.ExecuteActivity(
		long(ctx, r.snap.HostQueue, "Compare the live database with the backup, every document and index", longest),
		data.VerifyRestored, r.attempt).Get(ctx, &v)
	if err != nil {
		return "", err
	}
	r.result.KeyCounts = v.KeyCounts
	note := fmt.Sprintf("%s documents and %d indexes equal the backup's", count(v.Documents), v.Indexes)
	if v.Expired > 0 {
		note += fmt.Sprintf("; %s expired by their TTL index since", count(v.Expired))
	}
	return note, nil
}

// mergeAudit puts back the audit entries that are newer than the backup: they stand in the database being restored.
func (r *restore) mergeAudit(ctx workflow.Context) (string, error) {
	if len(r.snap.AuditLogs) == 0 {
		return "no audit log configured", nil
	}
	if r.safety == "" {
		r.warn("Audit entries newer than the backup were not put back: there is no safety dump to take them from. They are in the collections set aside.")
		return "no safety dump to take them from", nil
	}
	var merged activities.Merged
	err := workflow.ExecuteActivity(
		long(ctx, r.snap.HostQueue, "Put back the audit entries that are newer than the backup", time.Hour),
		data.MergeAuditLogs, activities.MergeInput{Attempt: r.attempt, Safety: r.safety}).Get(ctx, &merged)
	r.result.AuditMerged = merged.Inserted
	if merged.Conflicts+merged.Undated > 0 {
		r.warn(fmt.Sprintf("Audit entries that are in safety dump %s only: %s whose place is taken by another document, %s whose time cannot be read.",
			r.safety, count(merged.Conflicts), count(merged.Undated)))
	}
	return count(merged.Inserted) + " entries put back", err
}

// startApplication starts what was stopped and waits until its own words say that it is healthy.
func (r *restore) startApplication(ctx workflow.Context) (string, error) {
	r.told = true
	var h activities.Health
	err := workflow.ExecuteActivity(
		long(ctx, r.snap.HostQueue, "Start "+orNothing(r.snap.Writers)+" and wait until it is healthy", startWithin),
		app.StartApplication, r.snap.Target).Get(ctx, &h)
	if err != nil {
		return "", err
	}
	r.stopped = false
	r.result.HealthyAt = workflow.Now(ctx).UTC()
	return h.Detail, nil
}

// rollBack renames back: what was there before the swap is there again.
func (r *restore) rollBack(ctx workflow.Context) (Outcome, error) {
	const step = "Roll back"
	if r.status.Phase == stepStart {
		// The application may be running: it must not write while collections are renamed under it.
		r.markStopped(ctx)
		if _, err := r.settle(ctx, step, func(ctx workflow.Context) (string, error) {
			return "stopped", workflow.ExecuteActivity(
				long(ctx, r.snap.HostQueue, "Stop "+orNothing(r.snap.Writers), stopWithin),
				app.StopApplication, r.snap.Target).Get(ctx, nil)
		}, Retry); err != nil {
			return "", err
		}
	}
	_, err := r.settle(ctx, step, func(ctx workflow.Context) (string, error) {
		var back activities.Swapped
		err := workflow.ExecuteActivity(
			long(ctx, r.snap.HostQueue, "Rename back: what was there before is there again", longest),
			data.RollBackSwap, r.attempt).Get(ctx, &back)
		return fmt.Sprintf("%d collections are back as they were", back.Aside), err
	}, Retry)
	if err != nil {
		return "", err
	}
	_, err = r.settle(ctx, stepStart, r.startApplication, Retry, GiveUp)
	return RolledBack, err
}

func dumpNote(d activities.BackupRef) string {
	note := fmt.Sprintf("%s: %s documents in %d collections", d.ID, count(d.Documents), d.Collections)
	if d.Unreadable > 0 {
		note += fmt.Sprintf("; %d places could not be read", d.Unreadable)
	}
	return note
}

func orNothing(writers []string) string {
	if len(writers) == 0 {
		return "nothing (no application is configured)"
	}
	return strings.Join(writers, ", ")
}
