package workflows

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/battwheels/runbook/activities"
	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/config"
)

func TestRestoreStagesProvesAsksStopsAndSwaps(t *testing.T) {
	w := newWorld(t)
	w.approves()
	r := w.restore(RestoreInput{})
	require.Equal(t, Recovered, r.Outcome)
	require.EqualValues(t, 1000, r.DocumentsRestored)
	require.EqualValues(t, 15, r.DocumentsLost)
	require.Equal(t, "Asha", r.ApprovedBy)
	require.EqualValues(t, 7, r.AuditMerged)
	w.before("Dump emergency", "StageBackup")
	w.before("ProveStaging", "StopApplication")
	w.before("StopApplication", "ProveQuiet")
	w.before("ProveQuiet", "Dump safety")
	w.before("Dump safety", "SwapCollections")
	w.before("SwapCollections", "VerifyRestored")
	w.before("VerifyRestored", "StartApplication")
	require.True(t, w.ran("ReleaseLease"))
}

func TestRestoreRejectedChangesNothing(t *testing.T) {
	w := newWorld(t)
	w.at(time.Minute, func() { w.says(DoorReject, Answer{}, "") })
	r := w.restore(RestoreInput{})
	require.Equal(t, Rejected, r.Outcome)
	require.True(t, w.ran("RemoveStaging"))
	require.True(t, w.ran("ReleaseLease"))
	require.False(t, w.ran("StopApplication"))
	require.False(t, w.ran("SwapCollections"))
}

func TestApprovalOfAnotherPlanIsDeniedAndRecorded(t *testing.T) {
	w := newWorld(t)
	w.at(time.Minute, func() { w.says(DoorApprove, Answer{Plan: "OLD-999"}, "plan OLD-999 is not the one that waits") })
	w.at(2*time.Minute, func() {
		require.False(t, w.ran("StopApplication"))
		w.says(DoorApprove, Answer{Plan: w.plan.Code}, "")
	})
	r := w.restore(RestoreInput{})
	require.Equal(t, Recovered, r.Outcome)
	require.Len(t, r.Answers, 2)
	require.Contains(t, r.Answers[0].Denied, "OLD-999")
	require.Empty(t, r.Answers[1].Denied)
}

func TestMalformedAnswersAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		door   string
		answer Answer
		want   string
	}{
		"approve without a plan":         {DoorApprove, Answer{By: "Asha", Reason: "r"}, `approve needs "plan"`},
		"approve without a name":         {DoorApprove, Answer{Plan: "AAA-111", By: " ", Reason: "r"}, `approve needs "by"`},
		"reject without a reason":        {DoorReject, Answer{By: "Asha"}, `reject needs "reason"`},
		"choose-backup without a backup": {DoorChooseBackup, Answer{By: "Asha", Reason: "r"}, `choose-backup needs "backup"`},
		"decide without a choice":        {DoorDecide, Answer{By: "Asha", Reason: "r"}, `decide needs "choice"`},
	} {
		t.Run(name, func(t *testing.T) { require.ErrorContains(t, c.answer.validate(c.door), c.want) })
	}
}

func TestNobodyAnswersEscalatesAndGoesOnWaiting(t *testing.T) {
	w := newWorld(t)
	w.at(100*time.Hour, func() {
		require.False(t, w.ran("StopApplication"))
		w.says(DoorApprove, Answer{Plan: w.plan.Code}, "")
	})
	r := w.restore(RestoreInput{})
	require.Equal(t, Recovered, r.Outcome)
	require.Equal(t, 1, w.count["TellPeople ask"])
	require.Equal(t, escalations, w.count["TellPeople escalate"])
	keys := map[string]bool{}
	for _, m := range w.told {
		require.False(t, keys[m.Key], "two mails under the key %s", m.Key)
		keys[m.Key] = true
	}
}

func TestNoProvenBackupAsksAndGivesUp(t *testing.T) {
	w := newWorld(t)
	w.fail["ChooseBackup"] = always(final(activities.NoBackup, "no proven backup from before 03:12"))
	w.at(time.Minute, func() { w.says(DoorDecide, Answer{Choice: RollBack}, "is not offered here") })
	w.at(2*time.Minute, func() { w.says(DoorDecide, Answer{Choice: GiveUp}, "") })
	r := w.restore(RestoreInput{})
	require.Equal(t, GaveUp, r.Outcome)
	require.False(t, w.ran("StopApplication"))
}

func TestCorruptBackupIsPassedOverForTheNextOne(t *testing.T) {
	w := newWorld(t)
	w.fail["CheckBackup"] = once(final(activities.CorruptBackup, "invoices.bson.gz differs"))
	w.approves()
	r := w.restore(RestoreInput{})
	require.Equal(t, Recovered, r.Outcome)
	require.Equal(t, "older", r.Backup.ID)
	require.Contains(t, r.Warnings[0], "invoices.bson.gz differs")
}

func TestNamedBackupThatIsCorruptIsNotReplacedSilently(t *testing.T) {
	w := newWorld(t)
	w.fail["CheckBackup"] = once(final(activities.CorruptBackup, "invoices.bson.gz differs"))
	w.at(time.Minute, func() { w.says(DoorDecide, Answer{Choice: OtherBackup, Backup: "older"}, "") })
	w.at(2*time.Minute, func() { w.says(DoorApprove, Answer{Plan: w.plan.Code}, "") })
	r := w.restore(RestoreInput{Backup: "newest"})
	require.Equal(t, Recovered, r.Outcome)
	require.Equal(t, "older", r.Backup.ID)
}

func TestChoosingAnotherBackupStagesItAndAsksAgain(t *testing.T) {
	w := newWorld(t)
	w.at(time.Minute, func() { w.says(DoorChooseBackup, Answer{Backup: "older"}, ""); w.plan.Code = "BBB-222" })
	w.at(2*time.Minute, func() { w.says(DoorApprove, Answer{Plan: "AAA-111"}, "plan AAA-111 is not the one") })
	w.at(3*time.Minute, func() { w.says(DoorApprove, Answer{Plan: "BBB-222"}, "") })
	r := w.restore(RestoreInput{})
	require.Equal(t, Recovered, r.Outcome)
	require.Equal(t, "older", r.Backup.ID)
	require.Equal(t, 2, w.count["StageBackup"])
	require.Equal(t, 2, w.count["AcquireLease"])
	w.before("RemoveStaging", "StopApplication")
}

func TestVerificationFailsAndThePersonRollsBack(t *testing.T) {
	w := newWorld(t)
	w.approves()
	w.fail["VerifyRestored"] = always(final(activities.NotVerified, "invoices differ"))
	w.at(10*time.Minute, func() { w.says(DoorDecide, Answer{Choice: RollBack}, "") })
	r := w.restore(RestoreInput{})
	require.Equal(t, RolledBack, r.Outcome)
	require.Zero(t, r.DocumentsRestored)
	w.before("RollBackSwap", "StartApplication")
	require.Equal(t, 1, w.count["StartApplication"])
}

func TestNoSpaceForTheSafetyDumpAsks(t *testing.T) {
	w := newWorld(t)
	w.approves()
	w.fail["Dump safety"] = always(final(activities.NoSpace, "needs 9 GB, has 1 GB"))
	w.at(10*time.Minute, func() {
		require.True(t, w.ran("StopApplication"))
		w.says(DoorDecide, Answer{Choice: WithoutSafetyDump}, "")
	})
	r := w.restore(RestoreInput{})
	require.Equal(t, Recovered, r.Outcome)
	require.Empty(t, r.SafetyDump)
	require.False(t, w.ran("MergeAuditLogs"))
	require.NotEmpty(t, r.Warnings)
}

func TestGivingUpAfterTheStopStartsTheApplicationAgain(t *testing.T) {
	w := newWorld(t)
	w.approves()
	w.fail["ProveQuiet"] = always(final(activities.WriterFound, "10.0.0.7 (nightly-import) still writes"))
	w.at(10*time.Minute, func() { w.says(DoorDecide, Answer{Choice: GiveUp}, "") })
	r := w.restore(RestoreInput{})
	require.Equal(t, GaveUp, r.Outcome)
	require.True(t, w.ran("StartApplication"))
	require.True(t, w.ran("RemoveStaging"))
	require.False(t, w.ran("SwapCollections"))
}

func TestMoreLossThanApprovedAsksAgain(t *testing.T) {
	w := newWorld(t)
	w.approves()
	w.when["Dump safety"] = func() {
		w.plan.Code, w.plan.Radius = "CCC-333", backup.Counts{Added: 5000}
	}
	w.at(10*time.Minute, func() {
		require.False(t, w.ran("SwapCollections"))
		w.says(DoorApprove, Answer{Plan: "AAA-111"}, "plan AAA-111 is not the one")
	})
	w.at(11*time.Minute, func() { w.says(DoorApprove, Answer{Plan: "CCC-333"}, "") })
	r := w.restore(RestoreInput{})
	require.Equal(t, Recovered, r.Outcome)
	require.EqualValues(t, 5000, r.DocumentsLost)
}

func TestPolicyApprovesOnlyWithinItsRadius(t *testing.T) {
	for name, c := range map[string]struct {
		policy config.AutoApprove
		asks   bool
	}{
		"within":           {config.AutoApprove{MaxMissing: 10, MaxChanged: 5}, false},
		"too many leave":   {config.AutoApprove{MaxMissing: 9, MaxChanged: 5}, true},
		"too many changed": {config.AutoApprove{MaxMissing: 10, MaxChanged: 4}, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.snap.AutoApprove = &c.policy
			if c.asks {
				w.approves()
			}
			r := w.restore(RestoreInput{})
			require.Equal(t, Recovered, r.Outcome)
			require.Equal(t, map[bool]string{true: "Asha", false: "policy"}[c.asks], r.ApprovedBy)
		})
	}
}

func TestPolicyNeverApprovesWhatCouldNotBeCounted(t *testing.T) {
	w := newWorld(t)
	w.snap.AutoApprove = &config.AutoApprove{MaxMissing: 1e9, MaxChanged: 1e9}
	w.fail["Dump emergency"] = always(final(activities.NoSpace, "no space"))
	w.at(time.Minute, func() { w.says(DoorDecide, Answer{Choice: WithoutSafetyDump}, "") })
	w.at(2*time.Minute, func() { w.says(DoorApprove, Answer{Plan: w.plan.Code}, "") })
	r := w.restore(RestoreInput{})
	approved := slices.IndexFunc(r.Answers, func(a Answer) bool { return a.Door == DoorApprove })
	require.Equal(t, "Asha", r.Answers[approved].By, "the policy may approve the second count only")
}

// What could not be read is in no count: a radius without it may look as small as one likes.
func TestPolicyNeverApprovesWhatCouldNotBeRead(t *testing.T) {
	w := newWorld(t)
	w.snap.AutoApprove = &config.AutoApprove{MaxMissing: 1e9, MaxChanged: 1e9}
	w.plan.Uncounted = 1
	w.at(time.Minute, func() { w.says(DoorApprove, Answer{Plan: w.plan.Code}, "") })
	r := w.restore(RestoreInput{})
	require.Equal(t, "Asha", r.ApprovedBy)
	require.False(t, r.LossKnown)
}

func TestLessReadableThanApprovedAsksAgain(t *testing.T) {
	w := newWorld(t)
	w.approves()
	w.when["Dump safety"] = func() { w.plan.Code, w.plan.Radius, w.plan.Uncounted = "CCC-333", backup.Counts{}, 3 }
	w.at(10*time.Minute, func() {
		require.False(t, w.ran("SwapCollections"))
		w.says(DoorApprove, Answer{Plan: "CCC-333", By: "Ravi", Reason: "the disk is gone"}, "")
	})
	r := w.restore(RestoreInput{})
	require.Equal(t, Recovered, r.Outcome)
	require.False(t, r.LossKnown)
	require.Equal(t, "CCC-333", r.Plan)
	require.Equal(t, "Ravi", r.ApprovedBy, "the one who approved the plan that the result names")
}

func TestAuditEntriesThatAreNotPutBackAreSaid(t *testing.T) {
	w := newWorld(t)
	w.approves()
	w.merged.Conflicts, w.merged.Undated = 2, 3
	r := w.restore(RestoreInput{})
	require.EqualValues(t, 7, r.AuditMerged)
	require.Contains(t, strings.Join(r.Warnings, "\n"), "2 whose place is taken by another document, 3 whose time cannot be read")
}

func TestAbortAndCancelBeforeTheSwapUndoEverything(t *testing.T) {
	for name, c := range map[string]struct {
		act     func(w *world)
		outcome Outcome
		err     bool
	}{
		"abort by Update":                       {func(w *world) { w.says(DoorAbort, Answer{}, "") }, Aborted, false},
		"abort by Signal":                       {func(w *world) { w.SignalWorkflow(DoorAbort, Answer{By: "Asha", Reason: "false alarm"}) }, Aborted, false},
		"cancelled from the UI":                 {func(w *world) { w.CancelWorkflow() }, "", true},
		"abort while nobody answers a question": {func(w *world) { w.says(DoorAbort, Answer{}, "") }, Aborted, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.at(time.Minute, func() { c.act(w) })
			w.ExecuteWorkflow(Restore, RestoreInput{})
			require.True(t, w.IsWorkflowCompleted())
			if c.err {
				require.True(t, temporal.IsCanceledError(w.GetWorkflowError()), "%v", w.GetWorkflowError())
			} else {
				require.NoError(t, w.GetWorkflowError())
				var r RestoreResult
				require.NoError(t, w.GetWorkflowResult(&r))
				require.Equal(t, c.outcome, r.Outcome)
			}
			require.True(t, w.ran("RemoveStaging"))
			require.True(t, w.ran("ReleaseLease"))
			require.False(t, w.ran("StopApplication"))
		})
	}
}

func TestCancelAfterTheSwapBecomesAQuestion(t *testing.T) {
	for name, c := range map[string]struct {
		choice  Choice
		outcome Outcome
	}{
		"carry on":  {CarryOn, Recovered},
		"roll back": {RollBack, RolledBack},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.approves()
			w.when["SwapCollections"] = func() { w.CancelWorkflow() }
			w.at(10*time.Minute, func() { w.says(DoorDecide, Answer{Choice: c.choice}, "") })
			r := w.restore(RestoreInput{})
			require.Equal(t, c.outcome, r.Outcome)
			require.Equal(t, c.choice == RollBack, w.ran("RollBackSwap"))
			require.True(t, w.ran("StartApplication"))
		})
	}
}

func TestMailServiceDownDoesNotHoldTheRestoreUp(t *testing.T) {
	w := newWorld(t)
	w.fail["TellPeople ask"] = always(errors.New("connection refused"))
	w.approves()
	r := w.restore(RestoreInput{})
	require.Equal(t, Recovered, r.Outcome)
}

func TestAStepIsTriedAgainBeforeAPersonIsAsked(t *testing.T) {
	w := newWorld(t)
	w.approves()
	w.fail["StageBackup"] = func(call int) error {
		if call < 4 {
			return errors.New("connection reset by peer")
		}
		return nil
	}
	r := w.restore(RestoreInput{})
	require.Equal(t, Recovered, r.Outcome)
	require.Zero(t, w.count["TellPeople escalate"])
}

// Live collections are renamed to undo it, so nobody may use them, and nobody stops an application unasked.
func TestASwapThatWasCutOffIsUndoneOnlyAfterThePersonLetsTheApplicationStop(t *testing.T) {
	w := newWorld(t)
	w.halfSwap = "20260223T220000Z-aaaa1111"
	w.at(time.Minute, func() {
		require.False(t, w.ran("StopApplication"))
		require.Contains(t, w.told[0].Question, "20260223T220000Z-aaaa1111 was cut off half-way")
		w.says(DoorDecide, Answer{Choice: Retry}, "")
	})
	w.at(2*time.Minute, func() { w.says(DoorApprove, Answer{Plan: w.plan.Code}, "") })
	r := w.restore(RestoreInput{Emergency: "e"})
	require.Equal(t, Recovered, r.Outcome)
	w.before("StopApplication", "UndoHalfSwaps")
	w.before("ProveQuiet", "UndoHalfSwaps")
	w.before("UndoHalfSwaps", "StageBackup")
	require.Contains(t, r.Warnings, "The swap of incident 20260223T220000Z-aaaa1111 had been cut off half-way; it was rolled back first.")
	require.Equal(t, damageBegan.Add(time.Minute), r.StoppedAt, "the downtime began then")

	w = newWorld(t)
	w.halfSwap = "20260223T220000Z-aaaa1111"
	w.at(time.Minute, func() { w.says(DoorDecide, Answer{Choice: GiveUp}, "") })
	require.Equal(t, GaveUp, w.restore(RestoreInput{Emergency: "e"}).Outcome)
	require.False(t, w.ran("UndoHalfSwaps"))
	require.False(t, w.ran("StopApplication"))
}

func TestLeaseHeldByAnotherEndsTheRestore(t *testing.T) {
	w := newWorld(t)
	w.fail["AcquireLease"] = always(final(activities.LeaseHeld, "offline restore by root@db1 since 03:10"))
	w.ExecuteWorkflow(Restore, RestoreInput{})
	require.ErrorContains(t, w.GetWorkflowError(), "root@db1")
	require.False(t, w.ran("StageBackup"))
}

func TestUnknownTargetIsBadInput(t *testing.T) {
	w := newWorld(t)
	w.ExecuteWorkflow(Restore, RestoreInput{Target: "batwheels"})
	require.ErrorContains(t, w.GetWorkflowError(), "batwheels")
}

func TestRestoreUnderAnotherIDRunsAsTheOneOfItsTarget(t *testing.T) {
	w := newWorld(t)
	w.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: "typed-by-hand", TaskQueue: TaskQueue})
	w.relaySignals()
	w.at(time.Minute, func() { w.says(DoorApprove, Answer{Plan: w.plan.Code}, "") })
	r := w.restore(RestoreInput{})
	require.Equal(t, Recovered, r.Outcome)
	require.Equal(t, "Asha", r.ApprovedBy)
}

// TestAHostThatNeverComesBackIsReplaced loses the worker with the backup in the middle of the staging: another one begins anew, with
// a dump and a plan of its own, and the incident ends there.
func TestAHostThatNeverComesBackIsReplaced(t *testing.T) {
	w := newIncident(t)
	w.when["StageBackup"] = func() { w.snap.HostQueue = "runbook@elsewhere" }
	w.fail["StageBackup"] = once(noWorker())
	w.approves()
	r := w.corruption(CorruptionInput{})
	require.Equal(t, Recovered, r.Outcome)
	require.Equal(t, "runbook@elsewhere", r.Restore.Host)
	require.Equal(t, 2, w.times("Dump emergency"), "the first one's dump lies on the host that is gone")
	require.Equal(t, 2, w.times("ChooseBackup"))
	require.Equal(t, 2, w.times("AcquireLease"))
	require.Equal(t, 2, w.times("OpenIncident"))
	w.before("RemoveStaging", "SwapCollections")
	require.Contains(t, r.Restore.Warnings[0], "runbook@elsewhere went on in its place")
}

// Without another host a person is asked, as ever.
func TestWithoutAnotherHostAPersonIsAsked(t *testing.T) {
	w := newWorld(t)
	w.fail["StageBackup"] = once(noWorker())
	w.at(time.Minute, func() { w.says(DoorDecide, Answer{Choice: Retry}, "") })
	w.at(2*time.Minute, func() { w.says(DoorApprove, Answer{Plan: w.plan.Code}, "") })
	r := w.restore(RestoreInput{})
	require.Equal(t, Recovered, r.Outcome)
	require.Empty(t, r.Host)
	require.Equal(t, 1, w.times("Dump emergency"))
}

// The host goes when the application is stopped already: its safety dump is made elsewhere, under a plan that is approved again.
func TestAHostThatGoesAfterTheStopIsReplaced(t *testing.T) {
	w := newWorld(t)
	w.when["Dump safety"] = func() { w.snap.HostQueue = "runbook@elsewhere" }
	w.fail["Dump safety"] = once(noWorker())
	w.approves()
	w.at(2*time.Minute, func() { w.says(DoorApprove, Answer{Plan: w.plan.Code}, "") })
	r := w.restore(RestoreInput{})
	require.Equal(t, Recovered, r.Outcome)
	require.Equal(t, 2, w.times("Dump safety"))
	require.Len(t, r.Answers, 2)
	w.before("RemoveStaging", "SwapCollections")
}

// A restore that is being undone on a lost host is undone from another.
func TestWhatALostHostStagedIsRemovedFromAnother(t *testing.T) {
	w := newWorld(t)
	w.when["RemoveStaging"] = func() { w.snap.HostQueue = "runbook@elsewhere" }
	w.fail["RemoveStaging"] = once(noWorker())
	w.at(time.Minute, func() { w.says(DoorReject, Answer{}, "") })
	r := w.restore(RestoreInput{})
	require.Equal(t, Rejected, r.Outcome)
	require.Equal(t, 2, w.times("RemoveStaging"))
}
