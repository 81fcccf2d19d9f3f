package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/battwheels/runbook/internal/alert"
	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/workflows"
)

// Starter starts playbooks. Starting is durable at once, even while every worker is down.
type Starter struct {
	Client client.Client
	Config *config.Config
}

// echo is how long after an incident's end an alert that fired before it is taken for its echo: senders repeat an alert until
// their next evaluation sees it resolved. One that still fires then reports that something is still wrong.
const echo = 15 * time.Minute

// StartIncident starts the playbook that an alert means, or joins the incident that runs, whatever its playbook. The echo of an incident that has just
// ended starts nothing. It returns the workflow's id.
func (s *Starter) StartIncident(ctx context.Context, a alert.Alert) (string, error) {
	id := workflows.IncidentID(a.Target)
	over, err := s.echoes(ctx, id, a)
	if err != nil {
		return "", err
	}
	if over {
		return id, nil
	}
	said := workflows.Alert{Name: a.Name, Summary: a.Summary, StartsAt: a.StartsAt, Source: a.Source}
	in := workflows.CorruptionInput{Target: a.Target, Alert: &said}
	if !a.Since.IsZero() {
		in.Since = workflows.Since(a.Since.UTC().Format(time.RFC3339Nano))
	}
	playbook, start := "DatabaseCorruption", any(in)
	if slices.Contains(s.Config.Targets[a.Target].PodLoss.Alerts, a.Name) {
		if !a.Since.IsZero() {
			said.StartsAt = a.Since
		}
		playbook, start = "PodLoss", workflows.PodLossInput{Target: a.Target, Alert: &said}
	}
	_, err = s.Client.SignalWithStartWorkflow(ctx, id, workflows.SignalAlert, said, s.options(id, "Alert "+a.Name), playbook, start)
	if err != nil {
		return "", fmt.Errorf("start %s: %w", id, err)
	}
	return id, nil
}

func (s *Starter) echoes(ctx context.Context, id string, a alert.Alert) (bool, error) {
	d, err := s.Client.DescribeWorkflowExecution(ctx, id, "")
	if _, none := errors.AsType[*serviceerror.NotFound](err); none {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at %s: %w", id, err)
	}
	info := d.GetWorkflowExecutionInfo()
	if info.GetStatus() != enums.WORKFLOW_EXECUTION_STATUS_COMPLETED {
		return false, nil
	}
	ended := info.GetCloseTime().AsTime()
	return !a.StartsAt.IsZero() && a.StartsAt.Before(ended) && time.Since(ended) < echo, nil
}

// Start starts a playbook by its name. It fails with *AlreadyRunningError where the target's incident or restore runs already.
func (s *Starter) Start(ctx context.Context, playbook, target string, in any) (client.WorkflowRun, error) {
	id := map[string]string{
		"AccidentalDeletion": workflows.IncidentID(target),
		"MergeBack":          workflows.IncidentID(target),
		"DatabaseCorruption": workflows.IncidentID(target),
		"PodLoss":            workflows.IncidentID(target),
		"Restore":            workflows.RestoreID(target),
		"Backup":             workflows.BackupID(target),
		"BackupMonitor":      workflows.MonitorID(target),
		"RestoreDrill":       workflows.DrillID(target),
	}[playbook]
	if id == "" {
		return nil, fmt.Errorf("no playbook %q: there are AccidentalDeletion, Backup, BackupMonitor, DatabaseCorruption, MergeBack, PodLoss, Restore and RestoreDrill", playbook)
	}
	if dryRun(in) {
		id = workflows.DryRunID(target)
	}
	if m, ok := in.(workflows.MergeBackInput); ok && m.DryRun {
		id = workflows.DryRunID(target)
	}
	o := s.options(id, playbook+" of "+target)
	o.WorkflowIDConflictPolicy = enums.WORKFLOW_ID_CONFLICT_POLICY_FAIL
	o.WorkflowExecutionErrorWhenAlreadyStarted = true
	run, err := s.Client.ExecuteWorkflow(ctx, o, playbook, in)
	if _, ok := errors.AsType[*serviceerror.WorkflowExecutionAlreadyStarted](err); ok {
		return nil, &AlreadyRunningError{ID: id}
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", id, err)
	}
	return run, nil
}

// dryRun says whether a playbook is only to read and plan.
func dryRun(in any) bool {
	switch in := in.(type) {
	case workflows.DeletionInput:
		return in.DryRun
	case workflows.CorruptionInput:
		return in.DryRun
	case workflows.PodLossInput:
		return in.DryRun
	case workflows.RestoreInput:
		return in.DryRun
	case workflows.BackupInput:
		return in.DryRun
	default:
		return false
	}
}

// AlreadyRunningError says that a playbook runs already under the one id that it may have for its target.
type AlreadyRunningError struct{ ID string }

func (e *AlreadyRunningError) Error() string {
	return fmt.Sprintf("%s runs already; see it with: runbook status", e.ID)
}

func (s *Starter) options(id, summary string) client.StartWorkflowOptions {
	return client.StartWorkflowOptions{
		ID:                       id,
		TaskQueue:                s.Config.Temporal.TaskQueue,
		WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		WorkflowIDReusePolicy:    enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		StaticSummary:            summary,
	}
}
