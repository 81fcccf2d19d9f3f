package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/mocks"

	"github.com/battwheels/runbook/workflows"
)

// TestAnOpenReportSaysWhenItIsDueAndWhereItLies proves that status shows both, says so where time is up or nothing answers, and
// always names the command that closes it, in lines that fit a terminal.
func TestAnOpenReportSaysWhenItIsDueAndWhereItLies(t *testing.T) {
	const incident = "20260224T031200Z-3f9a2c"
	due := time.Date(2026, 2, 26, 3, 12, 0, 0, time.UTC)
	for name, row := range map[string]struct {
		status workflows.Status
		err    error
		now    time.Time
		says   []string
		not    string
	}{
		"in time": {
			workflows.Status{Phase: "Post it", Due: &due, Draft: "/var/lib/runbook/report.html"}, nil, due.Add(-26 * time.Hour),
			[]string{"due: 26 February 2026, 03:12 UTC, in 1 day 2 hours", "draft: /var/lib/runbook/report.html"}, "OVERDUE",
		},
		"overdue": {
			workflows.Status{Phase: "Post it", Due: &due, Draft: "/var/lib/runbook/report.html"}, nil, due.Add(3 * time.Hour),
			[]string{"OVERDUE for 3 hours"}, "",
		},
		"not drafted yet": {workflows.Status{Phase: "Draft the report"}, nil, due, []string{"now: Draft the report"}, "due"},
		"no worker": {
			workflows.Status{}, serviceerror.NewWorkflowNotReady("no poller seen for task queue recently, worker may be down"), due,
			[]string{"when it is due is not known", "is a worker"}, "draft:",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := &mocks.Client{}
			c.On("QueryWorkflow", mock.Anything, workflows.ReportID(incident), "", workflows.QueryStatus).Return(
				func(context.Context, string, string, string, ...any) converter.EncodedValue {
					p, err := converter.GetDefaultDataConverter().ToPayloads(row.status)
					require.NoError(t, err)
					return client.NewValue(p)
				}, row.err)
			reports := reportsOf(t.Context(), c, []string{incident})
			require.Len(t, reports, 1)
			var out strings.Builder
			reports[0].write(&out, row.now)
			for _, want := range append(row.says, "open report: "+incident, "runbook post-report "+incident+" --url URL --by YOU") {
				require.Contains(t, out.String(), want)
			}
			if row.not != "" {
				require.NotContains(t, strings.ReplaceAll(out.String(), incident, ""), row.not)
			}
			for line := range strings.Lines(out.String()) {
				require.LessOrEqual(t, len([]rune(strings.TrimRight(line, "\n"))), 80, line)
			}
		})
	}
}
