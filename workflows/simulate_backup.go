package workflows

import (
	"fmt"

	"go.temporal.io/sdk/workflow"

	"github.com/battwheels/runbook/activities"
	"github.com/battwheels/runbook/internal/estimate"
)

const stepLook = "Look at what would be dumped"

// simulateBackup is the dry run of Backup: what would be dumped, whether there are rights and space for it, and how long it would take.
func simulateBackup(ctx workflow.Context, snap activities.Snapshot) (BackupResult, error) {
	s, err := newSimulation(ctx, "Backup", snap, RestoreInput{}, stepLook, stepSurvey, stepEstimate)
	if err != nil {
		return BackupResult{}, err
	}
	for _, part := range []struct {
		name string
		do   func(workflow.Context) (string, error)
	}{{stepLook, s.look}, {stepSurvey, s.survey}, {stepEstimate, s.estimateBackup}} {
		if err := s.step(ctx, part.name, part.do); err != nil {
			return BackupResult{}, err
		}
	}
	found := s.finish(ctx)
	return BackupResult{Summary: found.summary(), Simulation: found}, nil
}

func (s *simulation) look(ctx workflow.Context) (string, error) {
	var o activities.Observation
	err := workflow.ExecuteActivity(s.reading(ctx, "Look at what would be dumped"), data.ObserveDatabase,
		activities.ObserveInput{Target: s.snap.Target}).Get(ctx, &o)
	if err != nil {
		return "", err
	}
	s.found.Observed = &o
	if o.State != activities.DatabaseWhole {
		s.problem("database", o.What, "a backup of it would be suspect, and would replace none")
	}
	return o.What, nil
}

func (s *simulation) estimateBackup(ctx workflow.Context) (string, error) {
	if s.found.Observed == nil {
		return "what would be dumped is not known", nil
	}
	var e activities.Estimated
	err := workflow.ExecuteActivity(s.reading(ctx, "Estimate from past backups"), simulations.EstimateRecovery, activities.EstimateInput{
		Target: s.snap.Target, Phases: []estimate.Phase{estimate.Dump, estimate.Check}, Documents: s.found.Observed.Documents,
	}).Get(ctx, &e)
	if err != nil {
		return "", err
	}
	s.found.Phases, s.found.Expected = e.Phases, e.Sum
	return fmt.Sprintf("%s in all", e.Sum.Total()), nil
}
