package workflows

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"github.com/battwheels/runbook/activities"
	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/estimate"
)

// rehearsed is a world in which a dry run is made.
type rehearsed struct {
	*world
	survey    activities.Survey
	simulated []activities.SimulateInput
	estimates []activities.EstimateInput
	seconds   float64 // of each phase
	away      bool    // the backup is offsite only
}

func newRehearsed(t *testing.T) *rehearsed {
	s := &rehearsed{world: newWorld(t), seconds: 10}
	s.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: DryRunID("battwheels"), TaskQueue: TaskQueue})
	s.survey.Checks = []activities.Check{{Name: "rights", State: activities.CheckOK, Text: "all"}, {Name: "mail service", State: activities.CheckUnknown, Text: "configured"}}
	s.RegisterActivity(&activities.Simulation{})
	anything := mock.Anything
	s.OnActivity(simulations.ExamineBackup, anything, anything).Return(func(_ context.Context, in activities.ExamineInput) (activities.Examined, error) {
		return activities.Examined{Backup: activities.BackupRef{ID: in.Backup, Documents: 1000, Bytes: 5000}, Seconds: 3, Away: s.away}, s.hit("ExamineBackup")
	})
	s.OnActivity(simulations.SimulatePlan, anything, anything).Return(func(_ context.Context, in activities.SimulateInput) (activities.Simulated, error) {
		s.simulated = append(s.simulated, in)
		p := s.plan
		p.Code, p.Backup, p.Warnings = activities.SimulatedCode, activities.BackupRef{ID: in.Backup, Documents: 1000}, in.Warnings
		return activities.Simulated{Plan: p, File: "/storage/dry-runs/battwheels/i.json"}, s.hit("SimulatePlan")
	})
	s.OnActivity(simulations.SurveyTarget, anything, anything).Return(func(context.Context, activities.SurveyInput) (activities.Survey, error) {
		return s.survey, s.hit("SurveyTarget")
	})
	s.OnActivity(simulations.EstimateRecovery, anything, anything).Return(func(_ context.Context, in activities.EstimateInput) (activities.Estimated, error) {
		s.estimates = append(s.estimates, in)
		var past []estimate.Past
		for _, p := range in.Phases {
			past = append(past, estimate.Past{Phase: p, Kind: estimate.Recovery, Documents: 1000, Bytes: 5000, Seconds: s.seconds})
		}
		list := estimate.Of(in.Phases, past, estimate.Size{Documents: in.Documents, Bytes: in.Bytes})
		return activities.Estimated{Phases: list, Sum: estimate.Add(list)}, s.hit("EstimateRecovery")
	})
	return s
}

// simulates runs a playbook and returns what its dry run has found.
func (s *rehearsed) simulates(playbook, in any) *Simulation {
	s.t.Helper()
	s.ExecuteWorkflow(playbook, in)
	require.True(s.t, s.IsWorkflowCompleted())
	require.NoError(s.t, s.GetWorkflowError())
	var r struct {
		Outcome    Outcome
		Summary    string
		Simulation *Simulation
	}
	require.NoError(s.t, s.GetWorkflowResult(&r))
	require.Equal(s.t, Planned, r.Outcome)
	require.Contains(s.t, r.Summary, "Nothing was changed, nobody was told.")
	require.NotNil(s.t, r.Simulation)
	return r.Simulation
}

var dryRuns = map[string]struct {
	playbook, in any
	steps        []string
}{
	"DatabaseCorruption": {DatabaseCorruption, CorruptionInput{DryRun: true}, []string{"LoadTarget", "ChooseBackup", "ExamineBackup", "SimulatePlan", "SurveyTarget", "EstimateRecovery"}},
	"Restore":            {Restore, RestoreInput{DryRun: true}, []string{"LoadTarget", "ChooseBackup", "ExamineBackup", "SimulatePlan", "SurveyTarget", "EstimateRecovery"}},
	"PodLoss":            {PodLoss, PodLossInput{DryRun: true}, []string{"LoadTarget", "ObserveDatabase", "ChooseBackup", "ExamineBackup", "SimulatePlan", "SurveyTarget", "EstimateRecovery"}},
}

// TestADryRunReadsAndPlansAndDoesNothingElse lists every step that a dry run takes: those that dump, stage, stop, mail or open an
// incident are not among them, whatever is found.
func TestADryRunReadsAndPlansAndDoesNothingElse(t *testing.T) {
	for name, c := range dryRuns {
		t.Run(name, func(t *testing.T) {
			s := newRehearsed(t)
			found := s.simulates(c.playbook, c.in)
			require.Equal(t, c.steps, s.calls)
			require.Equal(t, name, found.Playbook)
			require.Equal(t, "newest", found.Plan.Backup.ID)
			require.Equal(t, activities.SimulatedCode, found.Plan.Code)
			require.True(t, found.Ready)
			want := 110.0
			if name == "PodLoss" {
				want = 90 // without the dumps
			}
			require.InDelta(t, want, found.Expected.TotalSeconds, 0.001)
			require.Equal(t, name == "PodLoss", s.simulated[0].Empty, "a lost pod is restored into an empty database")
			require.Equal(t, estimate.Now, s.estimates[0].Measured[0].Kind, "the check was just measured")
			require.InDelta(t, 3, s.estimates[0].Measured[0].Seconds, 0.001)
			v, err := s.QueryWorkflow(QueryStatus)
			require.NoError(t, err)
			var st Status
			require.NoError(t, v.Get(&st))
			require.LessOrEqual(t, len(st.Markdown()), detailsLimit)
			require.Contains(t, st.Markdown(), "nothing of this can be approved")
		})
		t.Run(name+" with everything failing", func(t *testing.T) {
			s := newRehearsed(t)
			for _, step := range c.steps[1:] {
				s.fail[step] = always(final(activities.Refused, step+" is broken"))
			}
			found := s.simulates(c.playbook, c.in)
			require.False(t, found.Ready)
			require.Nil(t, found.Plan)
			require.NotContains(t, s.calls, "SimulatePlan", "without a backup nothing is compared")
			for _, call := range s.calls {
				require.Contains(t, c.steps, call)
			}
		})
		t.Run(name+" under an id that an alert or a restore needs", func(t *testing.T) {
			for _, id := range []string{IncidentID("battwheels"), RestoreID("battwheels")} {
				s := newRehearsed(t)
				s.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: id, TaskQueue: TaskQueue})
				s.ExecuteWorkflow(c.playbook, c.in)
				require.ErrorContains(t, s.GetWorkflowError(), "give it the workflow id dry-run/battwheels")
				require.Equal(t, []string{"LoadTarget"}, s.calls)
			}
		})
	}
}

// TestADryRunOfABackupDumpsNothing, and says how long it would take.
func TestADryRunOfABackupDumpsNothing(t *testing.T) {
	s := newRehearsed(t)
	s.ExecuteWorkflow(Backup, BackupInput{DryRun: true})
	require.NoError(t, s.GetWorkflowError())
	var r BackupResult
	require.NoError(t, s.GetWorkflowResult(&r))
	require.Equal(t, []string{"LoadTarget", "ObserveDatabase", "SurveyTarget", "EstimateRecovery"}, s.calls)
	require.Contains(t, r.Summary, "0 documents in 0 collections would be dumped. Nothing that was looked at would hinder it.")
	require.True(t, r.Simulation.Ready)
	require.Equal(t, []estimate.Phase{estimate.Dump, estimate.Check}, s.estimates[0].Phases)

	s = newRehearsed(t)
	s.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: BackupID("battwheels"), TaskQueue: TaskQueue})
	s.ExecuteWorkflow(Backup, BackupInput{DryRun: true})
	require.ErrorContains(t, s.GetWorkflowError(), "a dry run cannot be backup/battwheels")
}

// TestADryRunPassesOverADamagedBackupAsARestoreWould, and says so.
func TestADryRunPassesOverADamagedBackupAsARestoreWould(t *testing.T) {
	s := newRehearsed(t)
	s.fail["ExamineBackup"] = once(final(activities.CorruptBackup, "file x is damaged"))
	found := s.simulates(Restore, RestoreInput{DryRun: true})
	require.Equal(t, "older", found.Plan.Backup.ID)
	require.False(t, found.Ready)
	require.Contains(t, found.Checks[0].Text, "Backup newest was passed over: file x is damaged")
	require.Contains(t, found.Checks[0].Do, "runbook backups verify battwheels newest")
	require.Equal(t, s.simulated[0].Warnings, found.Plan.Warnings)
}

// TestADryRunHoldsTheEstimateAgainstTheObjective is ready only where the estimate is within what is allowed.
func TestADryRunHoldsTheEstimateAgainstTheObjective(t *testing.T) {
	s := newRehearsed(t)
	s.seconds = 3600
	found := s.simulates(DatabaseCorruption, CorruptionInput{DryRun: true})
	last := found.Checks[len(found.Checks)-1]
	require.Equal(t, activities.CheckProblem, last.State)
	require.Equal(t, "about 11 h, and 2 h are allowed (monitor.rto)", last.Text)
	require.False(t, found.Ready)
}

// TestADryRunOfABackupThatIsOffsiteOnlyCountsTheFetching, and does not take its own look at the manifest for a check of every byte.
func TestADryRunOfABackupThatIsOffsiteOnlyCountsTheFetching(t *testing.T) {
	s := newRehearsed(t)
	s.away = true
	s.snap.Writers, s.snap.AuditLogs = nil, nil
	s.simulates(Restore, RestoreInput{DryRun: true})
	require.Equal(t, []estimate.Phase{estimate.Fetch, estimate.Dump, estimate.Check, estimate.Stage, estimate.Prove, estimate.Plan, estimate.Safety, estimate.Swap, estimate.Verify},
		s.estimates[0].Phases)
	require.Empty(t, s.estimates[0].Measured)
}

// TestADryRunOfALostPodSaysWhatItSees: a database that is gone is a problem, and no drill.
func TestADryRunOfALostPodSaysWhatItSees(t *testing.T) {
	s := newRehearsed(t)
	s.observed = func(int) string { return activities.DatabaseEmpty }
	found := s.simulates(PodLoss, PodLossInput{DryRun: true})
	require.Equal(t, activities.DatabaseEmpty, found.Observed.State)
	require.False(t, found.Ready)
	require.Equal(t, 1, s.times("ObserveDatabase"), "it does not wait for others")
}

// TestACancelledDryRunEndsAtOnce: there is nothing to undo.
func TestACancelledDryRunEndsAtOnce(t *testing.T) {
	s := newRehearsed(t)
	s.when["ExamineBackup"] = s.CancelWorkflow
	s.ExecuteWorkflow(Restore, RestoreInput{DryRun: true})
	require.Error(t, s.GetWorkflowError())
	require.False(t, s.ran("SurveyTarget"))
}

// TestALargeSimulationFitsIntoTheDetails: what would hinder a recovery comes first, and never falls off.
func TestALargeSimulationFitsIntoTheDetails(t *testing.T) {
	long := strings.Repeat("word ", 100)
	sim := Simulation{Playbook: "Restore", Plan: &activities.Plan{Code: activities.SimulatedCode, RadiusKnown: true, Radius: backup.Counts{Added: 1}}}
	for range 20 {
		sim.Plan.Warnings = append(sim.Plan.Warnings, long)
		sim.Plan.Collections = append(sim.Plan.Collections, activities.RadiusOf{Name: "a_collection"})
		sim.Checks = append(sim.Checks, activities.Check{Name: "fine", State: activities.CheckOK, Text: long})
	}
	sim.Checks = append(sim.Checks, activities.Check{Name: "space", State: activities.CheckProblem, Text: "full", Do: "free it"})
	sim.Phases = estimate.Of(estimate.Phases(), nil, estimate.Size{})
	s := Status{Target: "battwheels", Steps: []Step{{Name: stepCount, State: Done, Note: "counted"}}, Simulation: &sim, Result: "A dry run."}
	text := s.Markdown()
	require.LessOrEqual(t, len(text), detailsLimit)
	require.Contains(t, text, "❌ **space**: full → free it")
}

// TestARestoreKeepsHowLongItTook proves that each phase of a restore is told to storage, and that the minute for which a person was
// waited for is in none of them.
func TestARestoreKeepsHowLongItTook(t *testing.T) {
	w := newWorld(t)
	w.approves()
	require.Equal(t, Recovered, w.restore(RestoreInput{}).Outcome)
	require.Len(t, w.restored, 1)
	var phases []estimate.Phase
	for _, p := range w.restored[0].Took {
		phases = append(phases, p.Phase)
		require.Less(t, p.Seconds, 30.0, p.Phase)
	}
	require.Equal(t, estimate.Phases(), phases)
	require.Equal(t, "newest", w.restored[0].Backup)
}

// TestTheDurationOfAStepIsThatOfItsLastAttempt, but for the safety dump, to which the second count belongs.
func TestTheDurationOfAStepIsThatOfItsLastAttempt(t *testing.T) {
	took := timed(nil, stepChoose, time.Minute)
	took = timed(took, "Roll back", time.Hour)
	took = timed(took, stepChoose, 2*time.Second)
	took = timed(took, stepSafety, 3*time.Second)
	took = timed(took, stepSafety, 4*time.Second)
	require.Equal(t, []estimate.Took{{Phase: estimate.Check, Seconds: 2}, {Phase: estimate.Safety, Seconds: 7}}, took)
}
