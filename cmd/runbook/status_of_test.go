package main

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enums "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/mocks"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/battwheels/runbook/activities"
	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/workflows"
)

// known is what a Temporal that stands in says of one workflow.
type known struct {
	status  enums.WorkflowExecutionStatus
	began   time.Time
	ended   time.Time
	parent  string
	summary string // of its result
	silent  bool   // no worker answers its query
	phase   string // of its status; empty where it knows no such query
	failure string
	pending []*workflowpb.PendingActivityInfo
}

func temporalWith(t *testing.T, all map[string]known) client.Client {
	t.Helper()
	c := &mocks.Client{}
	c.On("DescribeWorkflowExecution", mock.Anything, mock.Anything, mock.Anything).Return(
		func(_ context.Context, id, _ string) *workflowservice.DescribeWorkflowExecutionResponse {
			k, ok := all[id]
			if !ok {
				return nil
			}
			info := &workflowpb.WorkflowExecutionInfo{Execution: &commonpb.WorkflowExecution{WorkflowId: id, RunId: "run"}, Status: k.status, StartTime: timestamppb.New(k.began), CloseTime: timestamppb.New(k.ended)}
			if k.parent != "" {
				info.ParentExecution = &commonpb.WorkflowExecution{WorkflowId: k.parent}
			}
			return &workflowservice.DescribeWorkflowExecutionResponse{WorkflowExecutionInfo: info, PendingActivities: k.pending}
		},
		func(_ context.Context, id, _ string) error {
			if _, ok := all[id]; !ok {
				return serviceerror.NewNotFound("no " + id)
			}
			return nil
		})
	c.On("QueryWorkflow", mock.Anything, mock.Anything, mock.Anything, workflows.QueryStatus).Return(
		func(_ context.Context, id, _, _ string, _ ...any) converter.EncodedValue {
			p, err := converter.GetDefaultDataConverter().ToPayloads(workflows.Status{Phase: all[id].phase})
			require.NoError(t, err)
			return client.NewValue(p)
		},
		func(_ context.Context, id, _, _ string, _ ...any) error {
			if all[id].silent {
				return serviceerror.NewWorkflowNotReady("no poller seen for task queue recently, worker may be down")
			}
			if all[id].phase == "" {
				return serviceerror.NewQueryFailed("unknown queryType status")
			}
			return nil
		})
	c.On("GetWorkflow", mock.Anything, mock.Anything, mock.Anything).Return(func(_ context.Context, id, _ string) client.WorkflowRun {
		run := &mocks.WorkflowRun{}
		run.On("Get", mock.Anything, mock.Anything).Return(func(_ context.Context, into any) error {
			switch k := all[id]; {
			case k.failure != "":
				return temporal.NewNonRetryableApplicationError(k.failure, activities.BadInput, nil)
			case k.status != enums.WORKFLOW_EXECUTION_STATUS_COMPLETED:
				return errors.New("terminated")
			}
			b, err := json.Marshal(map[string]string{"summary": all[id].summary})
			require.NoError(t, err)
			return json.Unmarshal(b, into)
		})
		return run
	})
	return c
}

// TestStatusShowsWhatAPersonMustSee goes through what may run and have run of one target, and what is shown.
func TestStatusShowsWhatAPersonMustSee(t *testing.T) {
	const running, failed, completed, terminated = enums.WORKFLOW_EXECUTION_STATUS_RUNNING, enums.WORKFLOW_EXECUTION_STATUS_FAILED,
		enums.WORKFLOW_EXECUTION_STATUS_COMPLETED, enums.WORKFLOW_EXECUTION_STATUS_TERMINATED
	then := time.Date(2026, 2, 24, 3, 12, 0, 0, time.UTC)
	refused := []*workflowpb.PendingActivityInfo{{
		ActivityType: &commonpb.ActivityType{Name: "TellPeople"}, Attempt: 4, LastFailure: &failurepb.Failure{Message: "HTTP 403 invalid_api_key"},
	}}
	for name, row := range map[string]struct {
		all     map[string]known
		running string
		says    []string
		not     string
	}{
		"nothing ever ran": {nil, "", []string{"shop: no incident, no restore"}, ""},
		"an incident that could not begin hides no restore": {map[string]known{
			"incident/shop": {status: failed, ended: then, failure: `input field "since" must be a moment`},
			"restore/shop":  {status: running, phase: "waits for approval"},
		}, "restore/shop", []string{"waits for approval (running as restore/shop)"}, ""},
		"an incident that could not begin": {map[string]known{
			"incident/shop": {status: failed, ended: then, failure: `input field "since" must be a moment`},
		}, "", []string{`shop: incident/shop failed 24 February 2026, 03:12 UTC: input field "since"`}, ""},
		"an incident with its restore": {map[string]known{
			"incident/shop": {status: running, phase: "restoring"}, "restore/shop": {status: running, phase: "staging", parent: "incident/shop", pending: refused},
		}, "incident/shop", []string{"restoring (running as incident/shop)", "TellPeople was tried 3 times: HTTP 403"}, "staging"},
		"a restore beside an incident": {map[string]known{
			"incident/shop": {status: running, phase: "telling", pending: refused}, "restore/shop": {status: running, phase: "waits for approval"},
		}, "incident/shop", []string{"telling (running as incident/shop)", "TellPeople was tried 3 times: HTTP 403", "waits for approval (running as restore/shop)"}, ""},
		"the restore ended last": {map[string]known{
			"incident/shop": {status: completed, ended: then, phase: "recovered"}, "restore/shop": {status: completed, ended: then.Add(time.Hour), phase: "rejected"},
		}, "", []string{"shop: rejected (restore/shop completed 24 February 2026, 04:12 UTC)"}, "recovered"},
		"the incident ended last": {map[string]known{
			"incident/shop": {status: completed, ended: then, phase: "recovered"}, "restore/shop": {status: completed, ended: then.Add(-time.Hour), phase: "swapped", parent: "incident/shop"},
		}, "", []string{"shop: recovered (incident/shop completed 24 February 2026, 03:12 UTC)"}, "swapped"},
		"a restore that was rolled back, and never an incident": {map[string]known{
			"restore/shop": {status: completed, ended: then, phase: "rolled-back"},
		}, "", []string{"shop: rolled-back (restore/shop completed 24 February 2026, 03:12 UTC)"}, "no restore"},
		"a restore that failed, and never an incident": {map[string]known{
			"restore/shop": {status: failed, ended: then, phase: "staging", failure: "no such backup"},
		}, "", []string{"shop: staging (restore/shop failed 24 February 2026, 03:12 UTC)", "! no such backup"}, "no restore"},
		"a restore that was terminated, and never an incident": {map[string]known{
			"restore/shop": {status: terminated, ended: then, phase: "staging"},
		}, "", []string{"shop: staging (restore/shop terminated 24 February 2026, 03:12 UTC)"}, "no restore"},
		"an incident that was terminated, and its restore went on to the end": {map[string]known{
			"incident/shop": {status: terminated, ended: then, phase: "restoring"}, "restore/shop": {status: completed, ended: then.Add(time.Hour), phase: "recovered", parent: "incident/shop"},
		}, "", []string{"shop: recovered (restore/shop completed"}, "restoring"},
		"a restore that ended while an incident runs": {map[string]known{
			"incident/shop": {status: running, began: then, phase: "telling"}, "restore/shop": {status: terminated, ended: then.Add(time.Hour), phase: "staging"},
		}, "incident/shop", []string{"telling (running as incident/shop)", "staging (restore/shop terminated"}, ""},
		"a restore that ended before the incident began": {map[string]known{
			"incident/shop": {status: running, began: then, phase: "telling"}, "restore/shop": {status: completed, ended: then.Add(-time.Hour), phase: "rejected"},
		}, "incident/shop", []string{"telling (running as incident/shop)"}, "rejected"},
		"an incident that could not begin hides no end of a restore": {map[string]known{
			"incident/shop": {status: failed, began: then, ended: then, failure: "since must be a moment"}, "restore/shop": {status: completed, ended: then.Add(-time.Hour), phase: "rolled-back"},
		}, "", []string{"incident/shop failed", "rolled-back (restore/shop completed"}, ""},
		"an incident that completed, and no worker": {map[string]known{
			"incident/shop": {status: completed, ended: then, phase: "recovered", silent: true, summary: "Restored in 2 minutes."},
		}, "", []string{"shop: incident/shop completed 24 February 2026, 03:12 UTC: Restored in 2", "no worker answers (is one running?)"}, "at once"},
		"a restore that was terminated, and no worker": {map[string]known{
			"restore/shop": {status: terminated, ended: then, silent: true},
		}, "", []string{"shop: restore/shop terminated 24 February 2026, 03:12 UTC. How it went", "(is one running?)"}, "at once"},
		"a backup": {map[string]known{"backup/shop": {status: running}}, "", []string{"no incident, no restore", "backup/shop also runs"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := statusOf(t.Context(), temporalWith(t, row.all), "shop")
			require.NoError(t, err)
			require.Equal(t, row.running, s.Running)
			var out strings.Builder
			s.write(&out)
			for _, want := range row.says {
				require.Contains(t, out.String(), want)
			}
			if row.not != "" {
				require.NotContains(t, out.String(), row.not)
			}
			for line := range strings.Lines(out.String()) {
				require.LessOrEqual(t, len([]rune(strings.TrimRight(line, "\n"))), 80, line)
			}
		})
	}
}

// TestAPlanCanBeApprovedByWhatStatusShows proves that the counts by which a person judges stand in it.
func TestAPlanCanBeApprovedByWhatStatusShows(t *testing.T) {
	var out strings.Builder
	targetStatus{Target: "shop", Running: "restore/shop", Status: &workflows.Status{Phase: "Plan and approval", Plan: &activities.Plan{
		Code: "K7Q-X2M", Backup: activities.BackupRef{ID: "20260224T020000Z-scheduled-3f9a2c", Documents: 48210, Collections: 221}, RadiusKnown: true,
		KeyCounts:   []activities.KeyCount{{Name: "invoices", Now: 0, Backup: 9031}, {Name: "users", Now: -1, Backup: 187}},
		Collections: []activities.RadiusOf{{Name: "tickets", Counts: backup.Counts{Missing: 1204, Changed: 4790, Added: 312}}},
		ComeBack:    []string{"invoices"}, MoveAside: []string{"garbage"},
		Radius:   backup.Counts{Missing: 48210210, Changed: 14790123, Added: 312345},
		Warnings: []string{"So many documents differ that they are not counted by organization: invoices, invoice_line_items, tickets"},
	}, Steps: []workflows.Step{{Name: "Stage and prove", State: workflows.Done, Note: "48,210 documents in 221 collections are staged beside the live data, and proven by their digests"}},
		Asked:  "**Approve the plan.** It stops the application for some three minutes, and what was written since the backup was made is kept in the safety dump:\n`runbook approve battwheels --plan K7Q-X2M --by YOU --reason \"what you have looked at\"`",
		Result: "Restored from 20260224T020000Z-scheduled-3f9a2c; 48,210 documents in 221 collections proven byte for byte, in 2 minutes",
	}}.write(&out)
	for _, want := range []string{"invoices                                     0 → 9,031", "users                                        ? → 187", "1,204", "4,790", "312", "come back: invoices", "set aside: garbage", "\nrunbook approve"} {
		require.Contains(t, out.String(), want)
	}
	for line := range strings.Lines(out.String()) {
		if !strings.HasPrefix(line, "runbook ") { // a command stays whole
			require.LessOrEqual(t, len([]rune(strings.TrimRight(line, "\n"))), lineWidth, line)
		}
	}
}
