package e2e

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enums "go.temporal.io/api/enums/v1"

	"github.com/battwheels/runbook/internal/alert"
	"github.com/battwheels/runbook/worker"
	"github.com/battwheels/runbook/workflows"
)

// TestASecondAlertJoinsTheIncidentOrStartsTheNext sends an alert while the first incident is being recovered, which joins it, and one
// while that incident's report is still open, which starts the next: the report's 48 hours swallow no disaster.
func TestASecondAlertJoinsTheIncidentOrStartsTheNext(t *testing.T) {
	w := newWorld(t)
	before := w.content()
	w.backup()
	starter := &worker.Starter{Client: w.temporal, Config: w.cfg}
	alarm := func() (run string) {
		id, err := starter.StartIncident(t.Context(), alert.Alert{Target: "battwheels", Name: "Corrupt", StartsAt: time.Now()})
		require.NoError(t, err)
		require.Equal(t, incident, id)
		d, err := w.temporal.DescribeWorkflowExecution(t.Context(), incident, "")
		require.NoError(t, err)
		return d.GetWorkflowExecutionInfo().GetExecution().GetRunId()
	}
	recovered := func(run string) workflows.IncidentResult {
		s := w.asked(incident)
		require.NoError(t, w.says(incident, workflows.DoorApprove, workflows.Answer{Plan: s.Plan.Code}))
		var r workflows.IncidentResult
		require.NoError(t, w.temporal.GetWorkflow(t.Context(), incident, run).Get(t.Context(), &r))
		require.Equal(t, workflows.Recovered, r.Outcome)
		return r
	}
	w.spoil()
	first := alarm()
	w.asked(incident)
	require.Equal(t, first, alarm(), "it is being recovered")
	w.await(incident, "the second alert is not seen", func(s workflows.Status) bool { return s.Alerts == 2 })
	one := recovered(first)
	require.Equal(t, before, w.content())

	w.spoil()
	second := alarm()
	require.NotEqual(t, first, second)
	two := recovered(second)
	require.NotEqual(t, one.Incident, two.Incident)
	require.Equal(t, before, w.content())
	for _, r := range []workflows.IncidentResult{one, two} {
		d, err := w.temporal.DescribeWorkflowExecution(t.Context(), r.Report, "")
		require.NoError(t, err)
		require.Equal(t, enums.WORKFLOW_EXECUTION_STATUS_RUNNING, d.GetWorkflowExecutionInfo().GetStatus(), "each has a report of its own, still open")
	}
}
