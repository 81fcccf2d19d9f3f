package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	enums "go.temporal.io/api/enums/v1"
	taskqueue "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/mocks"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/battwheels/runbook/activities"
	"github.com/battwheels/runbook/workflows"
)

// heard is a writer whose one write can be awaited.
type heard chan string

func (h heard) Write(b []byte) (int, error) {
	h <- string(b)
	return len(b), nil
}

// queue is a client of Temporal that knows the pollers of a queue.
func queue(pollers ...*taskqueue.PollerInfo) *mocks.Client {
	c := &mocks.Client{}
	c.On("DescribeTaskQueue", mock.Anything, "runbook", mock.Anything).Return(&workflowservice.DescribeTaskQueueResponse{Pollers: pollers}, nil)
	return c
}

// TestWhoWaitsWithoutAWorkerIsTold proves that start --wait says what is missing while it waits, instead of being silent for ever.
func TestWhoWaitsWithoutAWorkerIsTold(t *testing.T) {
	gone := &taskqueue.PollerInfo{LastAccessTime: timestamppb.New(time.Now().Add(-time.Hour))}
	for name, pollers := range map[string][]*taskqueue.PollerInfo{"no worker ever": nil, "one that is gone": {gone}} {
		t.Run(name, func(t *testing.T) {
			c := queue(pollers...)
			errOut := make(heard)
			run := &mocks.WorkflowRun{}
			run.On("Get", mock.Anything, mock.Anything).Return(func(context.Context, any) error {
				require.Equal(t, "no worker polls queue runbook: start one with: runbook worker\n", <-errOut)
				return nil
			})
			cmd := &cobra.Command{}
			cmd.SetOut(&strings.Builder{})
			cmd.SetErr(errOut)
			require.NoError(t, (&app{patience: time.Millisecond}).await(t.Context(), c, "runbook", cmd, run))
		})
	}
	c := queue(gone, &taskqueue.PollerInfo{LastAccessTime: timestamppb.Now()})
	polls, err := polled(t.Context(), c, "runbook", enums.TASK_QUEUE_TYPE_WORKFLOW)
	require.NoError(t, err)
	require.True(t, polls, "a worker at work is seen, and nothing said")
}

// TestWhoWaitsReadsHowItEnded proves what is printed of a result, and with which exit code.
func TestWhoWaitsReadsHowItEnded(t *testing.T) {
	long := "The newest proven backup is 49 hours old; policy allows 26 hours. Look at the schedule, and at the worker's log of last night."
	for name, row := range map[string]struct {
		result any
		code   int
		says   []string
	}{
		"backups that are well": {workflows.MonitorResult{Healthy: true, Summary: "The backups are as they should be."}, exitOK, []string{"as they should be"}},
		"backups that are not": {workflows.MonitorResult{Summary: "2 things are wrong with the backups of shop.", Findings: activities.Findings{
			Problems: []activities.Problem{{Code: "too-old", Text: long}, {Code: "half-written", Text: "a half-written one"}},
		}}, exitFound, []string{"2 things are wrong", "- The newest proven backup is 49 hours old", "- a half-written one"}},
		"a restore that was rejected": {workflows.IncidentResult{Outcome: "rejected", Summary: "Nothing was changed."}, exitFound, []string{"Nothing was changed."}},
		"a database that is back":     {workflows.IncidentResult{Outcome: workflows.Recovered, Summary: "Restored."}, exitOK, []string{"Restored."}},
	} {
		t.Run(name, func(t *testing.T) {
			run := &mocks.WorkflowRun{}
			run.On("Get", mock.Anything, mock.Anything).Return(func(_ context.Context, into any) error {
				b, err := json.Marshal(row.result)
				require.NoError(t, err)
				return json.Unmarshal(b, into)
			})
			var out strings.Builder
			cmd := &cobra.Command{}
			cmd.SetOut(&out)
			err := (&app{patience: time.Hour}).await(t.Context(), client.Client(&mocks.Client{}), "runbook", cmd, run)
			if row.code == exitOK {
				require.NoError(t, err)
			} else {
				var coded *codedError
				require.ErrorAs(t, err, &coded)
				require.Equal(t, row.code, coded.code)
			}
			for _, want := range row.says {
				require.Contains(t, out.String(), want)
			}
			for line := range strings.Lines(out.String()) {
				require.LessOrEqual(t, len([]rune(strings.TrimRight(line, "\n"))), 80, line)
			}
		})
	}
}

// TestAMomentThatCannotBeReadStartsNothing proves that start refuses such a --since or --until before it asks Temporal, which is
// not there.
func TestAMomentThatCannotBeReadStartsNothing(t *testing.T) {
	t.Setenv("RUNBOOK_CONFIG", shopConfig(t))
	t.Setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
	for _, playbook := range []string{"AccidentalDeletion", "DatabaseCorruption", "PodLoss", "Restore"} {
		for _, moment := range []string{"yesterday", "03:12", "2026-02-24", "2026-02-24 03:12:00", "2026-02-30T03:12:00Z", "1771902720"} {
			for _, flag := range []string{"since", "until"} {
				var out, errOut strings.Builder
				code := execute(t.Context(), []string{"start", playbook, "shop", "--" + flag, moment}, &out, &errOut)
				require.Equal(t, exitUsage, code, "%s --%s %s: %s", playbook, flag, moment, errOut.String())
				require.Contains(t, errOut.String(), `"`+flag+`" must be a moment like 2026-02-24T03:12:00Z, not "`+moment+`"`)
			}
		}
	}
}
