package workflows

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"

	"github.com/battwheels/runbook/activities"
)

// TestHoweverARestoreEndsTheApplicationIsWhatItSays goes through every way in which a restore ends. What the steps have made of the
// application (last) is what the result and the sentence for people say of it.
func TestHoweverARestoreEndsTheApplicationIsWhatItSays(t *testing.T) {
	refused := always(final(activities.Refused, "it does not start"))
	decide := func(w *world, at time.Duration, c Choice) {
		w.at(at, func() { w.says(DoorDecide, Answer{Choice: c}, "") })
	}
	wrongConfig := always(final(activities.BadInput, "no target battwheels"))
	const (
		untouched = "The application was not stopped."
		again     = "The application is started again."
		down      = "The application is stopped."
		unclear   = "The application was told to start, and was not seen healthy: see to it."
	)
	for _, row := range []struct {
		name    string
		prepare func(w *world)
		outcome Outcome // of the result, or of the last status where it ends with an error
		failed  string  // the error that it ends with
		last    string  // what the application is
		state   ApplicationState
		says    string
	}{
		{"recovered", func(w *world) { w.approves() }, Recovered, "", "running", Started, "Recovered: "},
		{"recovered, after a start that failed and was tried again", func(w *world) {
			w.approves()
			w.fail["StartApplication"] = once(final(activities.Refused, "it does not start"))
			decide(w, 10*time.Minute, Retry)
		}, Recovered, "", "running", Started, "Recovered: "},
		{"rejected", func(w *world) {
			w.at(time.Minute, func() { w.says(DoorReject, Answer{}, "") })
		}, Rejected, "", "running", NotStopped, "Rejected: nothing was changed. " + untouched},
		{"rejected when more would be lost than was approved", func(w *world) {
			w.approves()
			w.when["Dump safety"] = func() { w.plan.Code, w.plan.Radius.Added = "CCC-333", 5000 }
			w.at(10*time.Minute, func() { w.says(DoorReject, Answer{}, "") })
		}, Rejected, "", "running", Started, "Rejected: nothing was changed. " + again},
		{"aborted before the stop", func(w *world) {
			w.at(time.Minute, func() { w.says(DoorAbort, Answer{}, "") })
		}, Aborted, "", "running", NotStopped, "Aborted by Asha: nothing was changed. " + untouched},
		{"aborted after the stop", func(w *world) {
			w.approves()
			w.fail["Dump safety"] = always(final(activities.NoSpace, "no space"))
			w.at(10*time.Minute, func() { w.says(DoorAbort, Answer{}, "") })
		}, Aborted, "", "running", Started, "Aborted by Asha: nothing was changed. " + again},
		{"aborted while it stops", func(w *world) {
			w.approves()
			w.fail["ProveQuiet"] = always(final(activities.WriterFound, "10.0.0.7 still writes"))
			w.at(10*time.Minute, func() { w.says(DoorAbort, Answer{}, "") })
		}, Aborted, "", "running", Started, "Aborted by Asha: nothing was changed. " + again},
		{"aborted after the stop, and the start is given up", func(w *world) {
			w.approves()
			w.fail["Dump safety"] = always(final(activities.NoSpace, "no space"))
			w.at(10*time.Minute, func() { w.says(DoorAbort, Answer{}, "") })
			w.fail["StartApplication"] = refused
			decide(w, 20*time.Minute, GiveUp)
		}, Aborted, "", "failed", NotSeenHealthy, "Aborted by Asha: nothing was changed. " + unclear},
		{"cancelled before the stop", func(w *world) {
			w.at(time.Minute, w.CancelWorkflow)
		}, Aborted, "canceled", "running", "", "Cancelled: nothing was changed. " + untouched},
		{"cancelled after the stop", func(w *world) {
			w.approves()
			w.when["Dump safety"] = func() { w.CancelWorkflow() }
		}, Aborted, "canceled", "running", "", "Cancelled: nothing was changed. " + again},
		{"cancelled while it stops", func(w *world) {
			w.approves()
			w.when["ProveQuiet"] = func() { w.CancelWorkflow() }
		}, Aborted, "canceled", "running", "", "Cancelled: nothing was changed. " + again},
		{"cancelled twice", func(w *world) {
			w.approves()
			w.when["Dump safety"] = func() { w.CancelWorkflow() }
			w.when["RemoveStaging"] = func() { w.CancelWorkflow() }
		}, Aborted, "canceled", "running", "", again},
		{"given up before the stop", func(w *world) {
			w.fail["ChooseBackup"] = always(final(activities.NoBackup, "no proven backup"))
			decide(w, time.Minute, GiveUp)
		}, GaveUp, "", "running", NotStopped, "Given up before the swap: nothing was changed. " + untouched},
		{"given up because it does not stop", func(w *world) {
			w.approves()
			w.fail["StopApplication"] = always(final(activities.Refused, "statefulset/worker: after 5m stopping, 1 pods left"))
			decide(w, 10*time.Minute, GiveUp)
		}, GaveUp, "", "running", Started, "Given up before the swap: nothing was changed. " + again},
		{"given up after the stop", func(w *world) {
			w.approves()
			w.fail["Dump safety"] = always(final(activities.NoSpace, "no space"))
			decide(w, 10*time.Minute, GiveUp)
		}, GaveUp, "", "running", Started, "Given up before the swap: nothing was changed. " + again},
		{"given up after the stop, and the start too", func(w *world) {
			w.approves()
			w.fail["Dump safety"] = always(final(activities.NoSpace, "no space"))
			decide(w, 10*time.Minute, GiveUp)
			w.fail["StartApplication"] = refused
			decide(w, 20*time.Minute, GiveUp)
		}, GaveUp, "", "failed", NotSeenHealthy, "Given up before the swap: nothing was changed. " + unclear},
		{"given up after the swap, because it does not start", func(w *world) {
			w.approves()
			w.fail["StartApplication"] = refused
			decide(w, 10*time.Minute, GiveUp)
		}, GaveUp, "", "failed", NotSeenHealthy, "Given up: the database is restored, and its application could not be started. " + unclear},
		{"rolled back", func(w *world) {
			w.approves()
			w.fail["VerifyRestored"] = always(final(activities.NotVerified, "invoices differ"))
			decide(w, 10*time.Minute, RollBack)
		}, RolledBack, "", "running", Started, "Rolled back: the database is as it was before the restore. " + again},
		{"rolled back because it did not start on the restored data", func(w *world) {
			w.approves()
			w.fail["StartApplication"] = once(final(activities.Refused, "unhealthy"))
			w.when["RollBackSwap"] = func() { require.Equal(w.t, "stopped", w.application, "nobody may write while collections are renamed") }
			decide(w, 10*time.Minute, RollBack)
		}, RolledBack, "", "running", Started, "Rolled back: the database is as it was before the restore. " + again},
		{"rolled back, and the start is given up", func(w *world) {
			w.approves()
			w.fail["VerifyRestored"] = always(final(activities.NotVerified, "invoices differ"))
			w.fail["StartApplication"] = refused
			decide(w, 10*time.Minute, RollBack)
			decide(w, 20*time.Minute, GiveUp)
		}, RolledBack, "", "failed", NotSeenHealthy, "Rolled back: the database is as it was before the restore. " + unclear},
		{"cancelled after the swap, and carried on", func(w *world) {
			w.approves()
			w.when["SwapCollections"] = func() { w.CancelWorkflow() }
			decide(w, 10*time.Minute, CarryOn)
		}, Recovered, "", "running", Started, "Recovered: "},
		{"cancelled after the swap, and rolled back", func(w *world) {
			w.approves()
			w.when["SwapCollections"] = func() { w.CancelWorkflow() }
			decide(w, 10*time.Minute, RollBack)
		}, RolledBack, "", "running", Started, again},
		{"aborted after the swap, and rolled back", func(w *world) {
			w.approves()
			w.when["SwapCollections"] = func() { w.SignalWorkflow(DoorAbort, Answer{By: "Asha", Reason: "wrong backup"}) }
			decide(w, 10*time.Minute, RollBack)
		}, RolledBack, "", "running", Started, again},
		{"failed for good before the stop", func(w *world) {
			w.fail["AcquireLease"] = always(final(activities.LeaseHeld, "offline restore by root@db1"))
		}, GaveUp, "root@db1", "running", "", "offline restore by root@db1 " + untouched},
		{"failed for good after the stop", func(w *world) {
			w.approves()
			w.fail["Dump safety"] = wrongConfig
		}, GaveUp, "no target", "running", "", "no target battwheels " + again},
		{"failed for good after the stop, and cannot be undone", func(w *world) {
			w.approves()
			w.fail["Dump safety"], w.fail["RemoveStaging"] = wrongConfig, wrongConfig
		}, GaveUp, "no target", "running", "", again},
		{"rejected, and what was staged cannot be removed", func(w *world) {
			w.approves()
			w.when["Dump safety"] = func() { w.plan.Code, w.plan.Radius.Added = "CCC-333", 5000 }
			w.at(10*time.Minute, func() { w.says(DoorReject, Answer{}, "") })
			w.fail["RemoveStaging"] = wrongConfig
		}, Rejected, "no target", "running", "", again},
		{"failed for good after the stop, and does not start", func(w *world) {
			w.approves()
			w.fail["Dump safety"], w.fail["StartApplication"] = wrongConfig, wrongConfig
		}, GaveUp, "no target", "failed", "", unclear},
		{"failed for good in the swap", func(w *world) {
			w.approves()
			w.fail["SwapCollections"] = wrongConfig
		}, GaveUp, "no target", "stopped", "", "The restore failed after the swap: no target battwheels " + down},
		{"failed for good at the start", func(w *world) {
			w.approves()
			w.fail["StartApplication"] = wrongConfig
		}, GaveUp, "no target", "failed", "", "The restore failed after the swap: no target battwheels " + unclear},
		{"failed for good at the start after it was rolled back", func(w *world) {
			w.approves()
			w.fail["VerifyRestored"] = always(final(activities.NotVerified, "invoices differ"))
			w.fail["StartApplication"] = wrongConfig
			decide(w, 10*time.Minute, RollBack)
		}, GaveUp, "no target", "failed", "", "Rolled back: the database is as it was before the restore. What came then failed: no target battwheels " + unclear},
		{"moved to another host after the stop, and rejected there", func(w *world) {
			w.approves()
			w.when["Dump safety"] = func() { w.snap.HostQueue = "runbook@elsewhere" }
			w.fail["Dump safety"] = once(noWorker())
			w.at(2*time.Minute, func() { w.says(DoorReject, Answer{}, "") })
		}, Rejected, "", "running", Started, again},
		{"moved to another host before the stop, and aborted there", func(w *world) {
			w.when["StageBackup"] = func() { w.snap.HostQueue = "runbook@elsewhere" }
			w.fail["StageBackup"] = once(noWorker())
			w.at(time.Minute, func() { w.says(DoorAbort, Answer{}, "") })
		}, Aborted, "", "running", NotStopped, untouched},
		{"its host goes while it starts the application again", func(w *world) {
			w.approves()
			w.fail["Dump safety"] = always(final(activities.NoSpace, "no space"))
			decide(w, 10*time.Minute, GiveUp)
			w.when["StartApplication"] = func() { w.snap.HostQueue = "runbook@elsewhere" }
			w.fail["StartApplication"] = once(noWorker())
		}, GaveUp, "", "running", Started, again},
		{"an earlier swap that was cut off cannot be undone", func(w *world) {
			w.halfSwap = "20260223T220000Z-aaaa1111"
			w.fail["UndoHalfSwaps"] = always(final(activities.Refused, "not authorized on shop"))
			decide(w, time.Minute, Retry)
			decide(w, 2*time.Minute, GiveUp)
		}, GaveUp, "", "stopped", Stopped, "Given up before the swap: nothing was changed. " + down},
		{"an earlier swap that was cut off was undone, and the plan rejected", func(w *world) {
			w.halfSwap = "20260223T220000Z-aaaa1111"
			decide(w, time.Minute, Retry)
			w.at(2*time.Minute, func() { w.says(DoorReject, Answer{}, "") })
		}, Rejected, "", "running", Started, again},
		{"nothing to stop", func(w *world) {
			w.snap.Writers = nil
			w.approves()
			w.fail["Dump safety"] = always(final(activities.NoSpace, "no space"))
			decide(w, 10*time.Minute, GiveUp)
		}, GaveUp, "", "running", NotControlled, "Given up before the swap: nothing was changed."},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t)
			row.prepare(w)
			w.ExecuteWorkflow(Restore, RestoreInput{})
			require.True(t, w.IsWorkflowCompleted())
			require.Equal(t, row.last, w.application)

			status := w.status()
			require.Equal(t, string(row.outcome), status.Phase)
			require.Contains(t, status.Result, row.says)
			if row.failed != "" {
				require.ErrorContains(t, w.GetWorkflowError(), row.failed)
				return
			}
			require.NoError(t, w.GetWorkflowError())
			var r RestoreResult
			require.NoError(t, w.GetWorkflowResult(&r))
			require.Equal(t, row.outcome, r.Outcome)
			require.Equal(t, row.state, r.Application)
			require.Equal(t, status.Result, r.Summary)
		})
	}
}

// The child's error alone says "canceled"; the people on call are told in which state the application is.
func TestTheMailOfACancelledIncidentSaysWhatTheApplicationIs(t *testing.T) {
	w := newIncident(t)
	w.approves()
	w.when["Dump safety"] = func() { w.CancelWorkflow() }
	w.ExecuteWorkflow(DatabaseCorruption, CorruptionInput{})
	require.True(t, w.IsWorkflowCompleted())
	_, cancelled := errors.AsType[*temporal.CanceledError](w.GetWorkflowError())
	require.True(t, cancelled, "%v", w.GetWorkflowError())
	require.Equal(t, "running", w.application)
	const want = "Cancelled: nothing was changed. The application is started again."
	require.Equal(t, want, w.status().Result)
	last := w.told[len(w.told)-1]
	require.Equal(t, want, last.Summary)
}

// The person who approves reads before what becomes of the application.
func TestThePlanSaysWhatTheApplicationIsAtEachEnd(t *testing.T) {
	text := planMarkdown(activities.Plan{Writers: []string{"deployment/backend", "statefulset/worker"}}, detailsLimit)
	require.Contains(t, text, "Stops and starts: deployment/backend, statefulset/worker. The application runs until the plan is approved, and however it ends")
	require.NotContains(t, planMarkdown(activities.Plan{}, detailsLimit), "The application runs until")
}
