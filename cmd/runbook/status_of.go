package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/battwheels/runbook/internal/words"
	"github.com/battwheels/runbook/workflows"
)

// statusOf looks at a target's incident and restore: at what runs, else at what ended last.
func statusOf(ctx context.Context, c client.Client, target string) (targetStatus, error) {
	s := targetStatus{Target: target}
	incident, err := lookAt(ctx, c, workflows.IncidentID(target))
	if err != nil {
		return s, err
	}
	restore, err := lookAt(ctx, c, workflows.RestoreID(target))
	if err != nil {
		return s, err
	}
	for _, id := range []string{workflows.BackupID(target), workflows.MonitorID(target), workflows.DrillID(target), workflows.DryRunID(target)} {
		r, err := lookAt(ctx, c, id)
		if err != nil {
			return s, err
		}
		if r.runs() {
			s.Also = append(s.Also, id)
		}
	}
	shown := incident
	switch {
	case incident.runs() && restore.runs() && restore.parent == incident.id:
		shown.trouble = append(shown.trouble, restore.trouble...)
	case restore.runs() && !incident.runs(), !incident.runs() && restore.closed.After(incident.closed):
		shown = restore
	}
	if err := s.fill(ctx, c, shown); err != nil || shown.id == restore.id || restore.id == "" {
		return s, err
	}
	// The end of a restore of its own is shown, too, unless the incident began after it, and can say so.
	own := incident.id != "" && restore.parent == incident.id
	if !own && (restore.runs() || restore.closed.After(incident.began) || s.Status == nil) {
		s.Beside = &targetStatus{Target: target}
		return s, s.Beside.fill(ctx, c, restore)
	}
	return s, nil
}

// ending is how a workflow ended, as Temporal itself says it: true, too, where no worker can be asked.
type ending struct {
	ID  string    `json:"workflowId"`
	How string    `json:"how"` // completed, failed, canceled, terminated, timed out
	At  time.Time `json:"at"`
}

func (e ending) String() string { return fmt.Sprintf("%s %s %s", e.ID, e.How, words.When(e.At)) }

// look is what Temporal says of one workflow.
type look struct {
	id, run string // empty where there was none
	status  enums.WorkflowExecutionStatus
	began   time.Time
	closed  time.Time
	parent  string // workflow id
	trouble []string
}

func (l look) runs() bool { return l.status == enums.WORKFLOW_EXECUTION_STATUS_RUNNING }

func lookAt(ctx context.Context, c client.Client, id string) (look, error) {
	d, err := c.DescribeWorkflowExecution(ctx, id, "")
	if _, ok := errors.AsType[*serviceerror.NotFound](err); ok {
		return look{}, nil
	}
	if err != nil {
		return look{}, fmt.Errorf("describe %s: %w", id, err)
	}
	info := d.GetWorkflowExecutionInfo()
	l := look{
		id: id, run: info.GetExecution().GetRunId(), status: info.GetStatus(),
		began: info.GetStartTime().AsTime(), closed: info.GetCloseTime().AsTime(), parent: info.GetParentExecution().GetWorkflowId(),
	}
	for _, p := range d.GetPendingActivities() {
		if p.GetAttempt() < 2 || p.GetLastFailure() == nil {
			continue
		}
		text := fmt.Sprintf("%s was tried %s: %s", p.GetActivityType().GetName(), words.Plural(int64(p.GetAttempt()-1), "time", "times"), p.GetLastFailure().GetMessage())
		if next := p.GetScheduledTime(); next != nil && next.AsTime().After(time.Now()) {
			text += "; again at " + next.AsTime().UTC().Format("15:04:05 UTC")
		}
		l.trouble = append(l.trouble, text)
	}
	return l, nil
}

// fill asks a workflow for its status. One that ended tells its end besides, and what Temporal keeps of it where nothing answers.
func (s *targetStatus) fill(ctx context.Context, c client.Client, l look) error {
	if l.id == "" {
		return nil
	}
	if s.Trouble = l.trouble; l.runs() {
		s.Running = l.id
	} else {
		s.Ended = &ending{l.id, strings.ReplaceAll(strings.ToLower(l.status.String()), "timedout", "timed out"), l.closed}
	}
	var st workflows.Status
	v, err := c.QueryWorkflow(ctx, l.id, l.run, workflows.QueryStatus)
	if err == nil {
		err = v.Get(&st)
	}
	switch {
	case err == nil:
		s.Status = &st
	case l.runs():
		return fmt.Errorf("ask %s (is a worker running?): %w", l.id, err)
	case ctx.Err() != nil:
		return ctx.Err()
	}
	if s.Status != nil && l.status == enums.WORKFLOW_EXECUTION_STATUS_COMPLETED {
		return nil
	}
	// Its result or failure stands in the history: no worker is needed to read it.
	var kept struct {
		Summary string `json:"summary"`
	}
	failure := c.GetWorkflow(ctx, l.id, l.run).Get(ctx, &kept)
	said := kept.Summary
	if app, ok := errors.AsType[*temporal.ApplicationError](failure); ok {
		said = app.Message()
	}
	if s.Status != nil {
		s.Failed = said
		return nil
	}
	s.Failed = s.Ended.String()
	if said != "" {
		s.Failed += ": " + said
	}
	// A worker that answered, and knows no status, was asked about a run that ended before it could tell one.
	if _, answered := errors.AsType[*serviceerror.QueryFailed](err); !answered {
		s.Failed = strings.TrimSuffix(s.Failed, ".") + ". How it went cannot be shown: no worker answers (is one running?)"
	}
	return nil
}
