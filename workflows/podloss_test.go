package workflows

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"github.com/battwheels/runbook/activities"
)

// states is what one look after another finds; the last one stays.
func states(list ...string) func(int) string {
	return func(call int) string { return list[min(call, len(list))-1] }
}

const (
	silent = activities.DatabaseSilent
	empty  = activities.DatabaseEmpty
	whole  = activities.DatabaseWhole
	fallen = activities.DatabaseFallen
)

// finds is what each look finds from now on.
func (w *world) finds(state string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.observed = states(state)
}

func newPodLoss(t *testing.T, observed ...string) *world {
	w := newIncident(t)
	w.observed = states(observed...)
	return w
}

func (w *world) podLoss(in PodLossInput) IncidentResult {
	w.t.Helper()
	w.ExecuteWorkflow(PodLoss, in)
	require.True(w.t, w.IsWorkflowCompleted())
	require.NoError(w.t, w.GetWorkflowError())
	var r IncidentResult
	require.NoError(w.t, w.GetWorkflowResult(&r))
	return r
}

// status is the playbook's answer to the query.
func (w *world) status() Status {
	w.t.Helper()
	v, err := w.QueryWorkflow(QueryStatus)
	require.NoError(w.t, err)
	var s Status
	require.NoError(w.t, v.Get(&s))
	return s
}

var gone = PodLossInput{Alert: &Alert{Name: "DatabaseGone", StartsAt: damageBegan.Add(-time.Minute)}}

func TestOneFlappingProbeStartsNothing(t *testing.T) {
	w := newPodLoss(t, silent, whole)
	r := w.podLoss(gone)
	require.Equal(t, FalseAlarm, r.Outcome)
	require.Equal(t, 4, w.times("ObserveDatabase"), "one that failed, and three in a row that did not")
	require.Zero(t, w.times("TellPeople support"))
	require.False(t, w.ran("StageBackup"))
	require.True(t, w.ran("CompareWithBackup"), "it was away: what differs is said")
	require.Contains(t, r.Summary, "3 are absent")
	require.True(t, w.ran("TellPeople done"))
	require.False(t, w.ran("FreezeMails"))
	require.Empty(t, r.Report)
}

func TestADatabaseThatWasNeverGoneIsNotTouched(t *testing.T) {
	w := newPodLoss(t, whole)
	r := w.podLoss(gone)
	require.Equal(t, FalseAlarm, r.Outcome)
	require.Equal(t, 3, w.times("ObserveDatabase"))
	for _, step := range []string{"Dump emergency", "ChooseBackup", "StartApplication", "TellPeople support", "TellPeople ask"} {
		require.False(t, w.ran(step), step)
	}
}

func TestALostVolumeIsRestoredFromTheBackupThatIsReady(t *testing.T) {
	w := newPodLoss(t, silent, silent, silent, empty)
	w.at(10*time.Minute, func() {
		s := w.status()
		require.Contains(t, s.Asked, "runbook volume lost battwheels")
		require.Contains(t, s.Asked, "Backup **newest**")
		require.Contains(t, s.Asked, "battwheels (readWrite)")
		require.True(t, w.ran("CheckBackup"), "it is made ready while the volume is waited for")
		require.False(t, w.ran("StageBackup"))
		w.says(DoorVolumeLost, Answer{}, "")
	})
	w.at(12*time.Minute, func() { w.says(DoorApprove, Answer{Plan: w.plan.Code}, "") })
	r := w.podLoss(gone)
	require.Equal(t, Recovered, r.Outcome)
	require.Equal(t, 1, w.times("TellPeople support"))
	w.before("OpenIncident", "ObserveDatabase")
	w.before("CheckBackup", "Dump emergency")
	w.before("Dump emergency", "StageBackup")
	require.Equal(t, 148, r.MailsSent)
	require.Equal(t, damageBegan.Add(-time.Minute), r.GoneAt)
	require.InDelta(t, 72*60, r.Restore.RPOSeconds, 1, "from the backup until the loss, not until the application's stop")
	require.Greater(t, r.Restore.DowntimeSeconds, 13*60.0-1)
	require.Len(t, r.Answers, 1)
	require.Equal(t, DoorVolumeLost, r.Answers[0].Door)
	require.Equal(t, "report/"+r.Incident, r.Report)
	require.Contains(t, r.Restore.Warnings[0], "these must exist: battwheels (readWrite)")
}

func TestARecoveredVolumeIsComparedAndNotRestored(t *testing.T) {
	w := newPodLoss(t, silent, silent, silent, silent, fallen)
	w.at(3*time.Minute, func() { w.says(DoorVolumeRecovered, Answer{}, "") })
	r := w.podLoss(gone)
	require.Equal(t, VolumeRecovered, r.Outcome)
	require.False(t, w.ran("StageBackup"))
	w.before("Dump emergency", "CompareWithBackup")
	w.before("CompareWithBackup", "StartApplication")
	require.Equal(t, int64(3), r.Compared.Radius.Missing)
	require.NotEmpty(t, r.Warnings)
	require.NotEmpty(t, r.Report)
	require.False(t, w.ran("FreezeMails"), "nothing of theirs was lost by us")
}

func TestTheDatabaseComesBackByItself(t *testing.T) {
	w := newPodLoss(t, silent, silent, silent, silent, whole)
	r := w.podLoss(gone)
	require.Equal(t, VolumeRecovered, r.Outcome)
	require.Equal(t, "the database", r.Answers[0].By)
	require.Equal(t, 1, w.times("TellPeople support"))
}

func TestThePoliciesDeadlineMeansLost(t *testing.T) {
	w := newPodLoss(t, silent, silent, silent, silent, empty)
	w.snap.PodLoss.Deadline = 2 * time.Hour
	w.at(119*time.Minute, func() { require.False(t, w.ran("StageBackup")) })
	w.at(130*time.Minute, func() { w.says(DoorApprove, Answer{Plan: w.plan.Code}, "") })
	r := w.podLoss(gone)
	require.Equal(t, Recovered, r.Outcome)
	require.Equal(t, "policy", r.Answers[0].By)
	require.Equal(t, DoorVolumeLost, r.Answers[0].Door)
	require.GreaterOrEqual(t, w.times("TellPeople escalate"), 3)
}

func TestADatabaseThatIsNotEmptyIsPlannedAndApproved(t *testing.T) {
	w := newPodLoss(t, fallen)
	w.at(5*time.Minute, func() { w.says(DoorVolumeLost, Answer{}, "") })
	w.at(6*time.Minute, func() {
		require.False(t, w.ran("SwapCollections"), "what stands there leaves by an approved plan only")
		w.says(DoorApprove, Answer{Plan: w.plan.Code}, "")
	})
	r := w.podLoss(PodLossInput{})
	require.Equal(t, Recovered, r.Outcome)
	w.before("Dump safety", "SwapCollections")
	require.Contains(t, r.Restore.Warnings, "The database is not empty: it is fallen")
	require.Contains(t, r.Warnings[0], "went with the database")
	require.Contains(t, r.Warnings[1], "are in safety dump")
}

func TestWithoutADatabaseToRestoreIntoItWaits(t *testing.T) {
	w := newPodLoss(t, silent)
	w.at(5*time.Minute, func() { w.says(DoorVolumeLost, Answer{}, "") })
	w.at(time.Hour, func() {
		require.Contains(t, w.status().Asked, "no database to restore into")
		require.False(t, w.ran("Dump emergency"), "nothing answers")
		w.finds(empty)
	})
	w.at(80*time.Minute, func() { w.says(DoorApprove, Answer{Plan: w.plan.Code}, "") })
	r := w.podLoss(gone)
	require.Equal(t, Recovered, r.Outcome)
}

func TestWaitingForADatabaseCanBeGivenUp(t *testing.T) {
	w := newPodLoss(t, silent)
	w.at(5*time.Minute, func() { w.says(DoorVolumeLost, Answer{}, "") })
	w.at(6*time.Minute, func() { w.says(DoorDecide, Answer{Choice: GiveUp}, "") })
	r := w.podLoss(gone)
	require.Equal(t, GaveUp, r.Outcome)
	require.Contains(t, r.Summary, "Given up by Asha")
}

func TestPeopleMayChangeTheirMindUntilTheRestoreBegins(t *testing.T) {
	w := newPodLoss(t, silent)
	w.at(5*time.Minute, func() { w.says(DoorVolumeLost, Answer{}, "") })
	w.at(6*time.Minute, func() {
		w.finds(whole)
		w.says(DoorVolumeRecovered, Answer{}, "")
	})
	r := w.podLoss(gone)
	require.Equal(t, VolumeRecovered, r.Outcome)
	require.False(t, w.ran("StageBackup"))
	require.Len(t, r.Answers, 2)
}

func TestAWordOnTheVolumeIsDeniedOnceTheRestoreRuns(t *testing.T) {
	w := newPodLoss(t, empty)
	w.at(5*time.Minute, func() { w.says(DoorVolumeLost, Answer{}, "") })
	w.at(6*time.Minute, func() { w.says(DoorVolumeRecovered, Answer{}, "acted upon already") })
	w.at(7*time.Minute, func() { w.says(DoorApprove, Answer{Plan: w.plan.Code}, "") })
	r := w.podLoss(gone)
	require.Equal(t, Recovered, r.Outcome)
	require.NotEmpty(t, r.Answers[1].Denied)
}

func TestAWordOnTheVolumeNeedsNoObservation(t *testing.T) {
	w := newPodLoss(t, silent, empty)
	w.at(10*time.Second, func() { w.says(DoorVolumeLost, Answer{}, "") })
	w.at(time.Minute, func() { w.says(DoorApprove, Answer{Plan: w.plan.Code}, "") })
	r := w.podLoss(gone)
	require.Equal(t, Recovered, r.Outcome)
	require.Zero(t, w.times("TellPeople support"), "who says so knows already")
	require.Less(t, w.times("ObserveDatabase"), 4)
}

func TestNoBackupIsSaidAtOnceAndAskedForWhenItIsNeeded(t *testing.T) {
	w := newPodLoss(t, empty)
	w.fail["ChooseBackup"] = func(call int) error {
		if call <= 2 {
			return final(activities.NoBackup, "the bucket cannot be looked into")
		}
		return nil
	}
	w.at(5*time.Minute, func() {
		require.Contains(t, w.status().Asked, "No backup is ready:** the bucket cannot be looked into")
		w.says(DoorVolumeLost, Answer{}, "")
	})
	w.at(6*time.Minute, func() {
		require.Contains(t, w.status().Asked, "the bucket cannot be looked into")
		w.says(DoorDecide, Answer{Choice: Retry}, "")
	})
	w.at(7*time.Minute, func() { w.says(DoorApprove, Answer{Plan: w.plan.Code}, "") })
	r := w.podLoss(gone)
	require.Equal(t, Recovered, r.Outcome)
}

func TestAbortWhileTheVolumeIsWaitedForChangesNothing(t *testing.T) {
	w := newPodLoss(t, silent)
	w.at(5*time.Minute, func() { w.says(DoorAbort, Answer{}, "") })
	r := w.podLoss(gone)
	require.Equal(t, Aborted, r.Outcome)
	require.False(t, w.ran("Dump emergency"))
	require.True(t, w.ran("CloseIncident"))
	require.True(t, w.ran("TellPeople done"))
}

func TestAHostThatWentWithThePodIsReplaced(t *testing.T) {
	w := newPodLoss(t, silent, silent, silent, empty)
	w.when["OpenIncident"] = func() { w.snap.HostQueue = "runbook@elsewhere" }
	w.fail["OpenIncident"] = once(noWorker())
	w.at(5*time.Minute, func() { w.says(DoorVolumeLost, Answer{}, "") })
	w.at(7*time.Minute, func() { w.says(DoorApprove, Answer{Plan: w.plan.Code}, "") })
	r := w.podLoss(gone)
	require.Equal(t, Recovered, r.Outcome)
	require.Contains(t, r.Warnings[0], "runbook@elsewhere went on in its place")
}

func TestALostSupportMailHoldsNothingUp(t *testing.T) {
	w := newPodLoss(t, silent, silent, silent, empty)
	w.fail["TellPeople support"] = always(errors.New("connection refused"))
	w.at(5*time.Minute, func() { w.says(DoorVolumeLost, Answer{}, "") })
	w.at(7*time.Minute, func() { w.says(DoorApprove, Answer{Plan: w.plan.Code}, "") })
	require.Equal(t, Recovered, w.podLoss(gone).Outcome)
}

func TestAMisspeltInputOfPodLossIsRefused(t *testing.T) {
	var in PodLossInput
	require.EqualError(t, in.UnmarshalJSON([]byte(`{"bakcup":"x"}`)), `input has no field "bakcup"; the fields are: target, backup, since, dryRun, alert, by, reason`)
	w := newPodLoss(t, whole)
	w.ExecuteWorkflow(PodLoss, PodLossInput{Since: "yesterday"})
	require.ErrorContains(t, w.GetWorkflowError(), "must be a moment like")
}

func TestAnyIdLeadsToTheIncident(t *testing.T) {
	w := newPodLoss(t, whole)
	w.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: "typed-by-hand", TaskQueue: TaskQueue})
	r := w.podLoss(PodLossInput{})
	require.Equal(t, FalseAlarm, r.Outcome)
}
