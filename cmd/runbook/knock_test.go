package main

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/mocks"
	"go.temporal.io/sdk/temporal"

	"github.com/battwheels/runbook/activities"
	"github.com/battwheels/runbook/workflows"
)

// TestAnAnswerReachesTheRestoreThatWaits proves that a person need not know whether the incident or a restore beside it asks: what
// the incident has no restore to hear for goes to the one beside it, and no other refusal is sent on.
func TestAnAnswerReachesTheRestoreThatWaits(t *testing.T) {
	const running, completed = enums.WORKFLOW_EXECUTION_STATUS_RUNNING, enums.WORKFLOW_EXECUTION_STATUS_COMPLETED
	none := temporal.NewNonRetryableApplicationError("no restore runs at the moment", workflows.NoRestore, nil)
	denied := temporal.NewNonRetryableApplicationError("AAA-111 is not the code", activities.BadInput, nil)
	for name, row := range map[string]struct {
		all    map[string]known
		says   map[string]error // what the doors answer
		knocks []string
		err    string
	}{
		"an incident that hears it": {
			map[string]known{"incident/shop": {status: running}, "restore/shop": {status: running, parent: "incident/shop"}},
			map[string]error{"incident/shop": nil}, []string{"incident/shop"}, "",
		},
		"an incident without a restore, and one beside it": {
			map[string]known{"incident/shop": {status: running}, "restore/shop": {status: running}},
			map[string]error{"incident/shop": none, "restore/shop": nil}, []string{"incident/shop", "restore/shop"}, "",
		},
		"one beside it that refuses": {
			map[string]known{"incident/shop": {status: running}, "restore/shop": {status: running}},
			map[string]error{"incident/shop": none, "restore/shop": denied}, []string{"incident/shop", "restore/shop"}, "restore/shop: AAA-111 is not the code",
		},
		"an incident without a restore, and none beside it": {
			map[string]known{"incident/shop": {status: running}, "restore/shop": {status: completed}},
			map[string]error{"incident/shop": none}, []string{"incident/shop"}, "incident/shop: no restore runs at the moment",
		},
		"another refusal stays one": {
			map[string]known{"incident/shop": {status: running}, "restore/shop": {status: running}},
			map[string]error{"incident/shop": denied}, []string{"incident/shop"}, "incident/shop: AAA-111 is not the code",
		},
		"a restore alone": {
			map[string]known{"incident/shop": {status: completed}, "restore/shop": {status: running}},
			map[string]error{"restore/shop": nil}, []string{"restore/shop"}, "",
		},
		"nothing": {nil, nil, nil, "nothing runs as incident/shop or restore/shop"},
	} {
		t.Run(name, func(t *testing.T) {
			c := temporalWith(t, row.all).(*mocks.Client)
			var knocks []string
			c.On("UpdateWorkflow", mock.Anything, mock.Anything).Return(func(_ context.Context, o client.UpdateWorkflowOptions) (client.WorkflowUpdateHandle, error) {
				require.Equal(t, workflows.DoorApprove, o.UpdateName)
				require.Equal(t, []any{workflows.Answer{Plan: "K7Q-X2M", By: "Asha", Reason: "read"}}, o.Args)
				answer, known := row.says[o.WorkflowID]
				require.True(t, known, o.WorkflowID)
				knocks = append(knocks, o.WorkflowID)
				h := &mocks.WorkflowUpdateHandle{}
				h.On("Get", mock.Anything, mock.Anything).Return(func(_ context.Context, into any) error {
					if answer == nil {
						*into.(*string) = "approved"
					}
					return answer
				})
				return h, nil
			})
			var out strings.Builder
			err := (&app{}).knockAt(t.Context(), &out, c, "shop", workflows.DoorApprove, workflows.Answer{Plan: "K7Q-X2M", By: "Asha", Reason: "read"})
			require.Equal(t, row.knocks, knocks)
			if row.err != "" {
				require.EqualError(t, err, row.err)
				require.Empty(t, out.String())
				return
			}
			require.NoError(t, err)
			require.Equal(t, knocks[len(knocks)-1]+": approved\n", out.String())
		})
	}
}
