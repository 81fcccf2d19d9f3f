package temporal_test

import (
	"bytes"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/battwheels/runbook/sandbox/temporal"
	product "github.com/battwheels/runbook/worker"
)

// A worker on a server that has nothing of it yet makes what it needs, and starting it again changes nothing.
func TestABareServerIsPrepared(t *testing.T) {
	const namespace = "recovery"
	s, err := temporal.Start(t.Context(), temporal.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop()) })
	t.Setenv("TEMPORAL_NAMESPACE", namespace)
	c, err := client.DialContext(t.Context(), client.Options{HostPort: s.Address(), Namespace: namespace})
	require.NoError(t, err)
	t.Cleanup(c.Close)

	var said bytes.Buffer
	for range 2 {
		said.Reset()
		require.NoError(t, product.PrepareNamespace(t.Context(), c, slog.New(slog.NewTextHandler(&said, nil))))
	}
	require.Empty(t, said.String(), "the second time there is nothing to do, and nothing to say")

	d, err := c.WorkflowService().DescribeNamespace(t.Context(), &workflowservice.DescribeNamespaceRequest{Namespace: namespace})
	require.NoError(t, err)
	require.Equal(t, 90*24*time.Hour, d.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration())
	have, err := c.OperatorService().ListSearchAttributes(t.Context(), &operatorservice.ListSearchAttributesRequest{Namespace: namespace})
	require.NoError(t, err)
	for _, name := range []string{"RunbookTarget", "RunbookPhase"} {
		require.Equal(t, enums.INDEXED_VALUE_TYPE_KEYWORD, have.GetCustomAttributes()[name], name)
	}
}
