package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/workflows"
)

// catchUp is how late a missed run may still start. The server's default is a year: after a long outage it would run every
// backup that was missed.
const catchUp = time.Hour

// madeBy marks the schedules that are ours to change and to delete.
const madeBy = "runbook"

// ScheduleChange is what ApplySchedules did with one schedule.
type ScheduleChange struct {
	ID     string `json:"id"`
	Action string `json:"action"` // created, updated, deleted
	Cron   string `json:"cron,omitempty"`
}

// ApplySchedules keeps the schedules in step with the configuration: one for the backup, one for the monitor
// and one for the drill of each target. Schedules of targets that are no longer configured are deleted; a paused one stays paused.
func ApplySchedules(ctx context.Context, c client.Client, cfg *config.Config) ([]ScheduleChange, error) {
	var changes []ScheduleChange
	want := map[string]bool{}
	for _, target := range cfg.TargetNames() {
		t := cfg.Targets[target]
		all := []schedule{
			{"backup/" + target, t.Backup.Schedule, "Backup", workflows.BackupInput{Target: target, Scheduled: true},
				time.Duration(t.Backup.Jitter), time.Duration(t.Backup.Timeout)},
			{workflows.MonitorID(target), t.Monitor.Schedule, "BackupMonitor", workflows.MonitorInput{Target: target},
				time.Duration(t.Backup.Jitter), time.Hour},
		}
		if t.Drill.Schedule != config.NoDrill {
			// No time-out of the run: it would end the drill without dropping its scratch.
			all = append(all, schedule{"drill/" + target, t.Drill.Schedule, "RestoreDrill", workflows.DrillInput{Target: target}, time.Duration(t.Backup.Jitter), 0})
		}
		for _, s := range all {
			want[s.id] = true
			action, err := s.apply(ctx, c, cfg.Temporal.TaskQueue)
			if err != nil {
				return changes, fmt.Errorf("schedule %s: %w", s.id, err)
			}
			changes = append(changes, ScheduleChange{ID: s.id, Action: action, Cron: s.cron})
		}
	}
	gone, err := ours(ctx, c)
	if err != nil {
		return changes, err
	}
	for _, id := range gone {
		if want[id] {
			continue
		}
		if err := c.ScheduleClient().GetHandle(ctx, id).Delete(ctx); err != nil {
			return changes, fmt.Errorf("delete schedule %s: %w", id, err)
		}
		changes = append(changes, ScheduleChange{ID: id, Action: "deleted"})
	}
	return changes, nil
}

type schedule struct {
	id, cron, workflow string
	input              any
	jitter, timeout    time.Duration
}

func (s schedule) apply(ctx context.Context, c client.Client, queue string) (string, error) {
	spec := client.ScheduleSpec{CronExpressions: []string{s.cron}, Jitter: s.jitter}
	action := &client.ScheduleWorkflowAction{
		ID: s.id, Workflow: s.workflow, Args: []any{s.input}, TaskQueue: queue, WorkflowRunTimeout: s.timeout,
	}
	_, err := c.ScheduleClient().Create(ctx, client.ScheduleOptions{
		ID: s.id, Spec: spec, Action: action, Overlap: enums.SCHEDULE_OVERLAP_POLICY_SKIP, CatchupWindow: catchUp,
		Memo: map[string]any{"madeBy": madeBy},
	})
	if err == nil {
		return "created", nil
	}
	if !errors.Is(err, temporal.ErrScheduleAlreadyRunning) {
		return "", err
	}
	err = c.ScheduleClient().GetHandle(ctx, s.id).Update(ctx, client.ScheduleUpdateOptions{
		DoUpdate: func(in client.ScheduleUpdateInput) (*client.ScheduleUpdate, error) {
			d := in.Description.Schedule
			d.Spec, d.Action = &spec, action
			d.Policy = &client.SchedulePolicies{Overlap: enums.SCHEDULE_OVERLAP_POLICY_SKIP, CatchupWindow: catchUp}
			return &client.ScheduleUpdate{Schedule: &d}, nil
		},
	})
	return "updated", err
}

// ours lists the schedules that runbook has made.
func ours(ctx context.Context, c client.Client) ([]string, error) {
	list, err := c.ScheduleClient().List(ctx, client.ScheduleListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list schedules: %w", err)
	}
	var ids []string
	for list.HasNext() {
		e, err := list.Next()
		if err != nil {
			return nil, fmt.Errorf("list schedules: %w", err)
		}
		if p := e.Memo.GetFields()["madeBy"]; p != nil && string(p.GetData()) == `"`+madeBy+`"` {
			ids = append(ids, e.ID)
		}
	}
	slices.Sort(ids)
	return ids, nil
}
