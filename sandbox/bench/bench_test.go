package bench_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/battwheels/runbook/sandbox/bench"
	"github.com/battwheels/runbook/sandbox/child"
)

func TestMain(m *testing.M) {
	child.Main()
	os.Exit(m.Run())
}

// Every tool does its work on a small database of many collections, and what is compared is what was measured. It is no measurement.
func TestEveryToolIsMeasured(t *testing.T) {
	r, err := bench.Run(t.Context(), bench.Options{Servers: []string{"in memory"}, Shapes: []string{"220 collections"}, Rounds: 1, Scale: 0.02, Dir: t.TempDir()})
	require.NoError(t, err)
	require.Len(t, r.Measured, 2)
	for _, m := range r.Measured {
		require.Greater(t, m.Collections, 200)
		require.Positive(t, m.Documents)
		for _, tool := range m.Tools {
			require.Positive(t, tool.Seconds, "%s, %s", m.Work, tool.Name)
			require.Positive(t, tool.CPU, "%s, %s", m.Work, tool.Name)
			if m.Work == bench.DumpWork && tool.Name != bench.Least {
				require.Positive(t, tool.Size)
			}
		}
		require.Positive(t, m.LimitRatio)
	}
	dump, restore := r.Measured[0], r.Measured[1]
	require.InDelta(t, dump.Tools[0].Seconds/dump.Tools[1].Seconds, dump.DumpRatio, 1e-9)
	require.Zero(t, dump.RestoreRatio)
	require.InDelta(t, restore.Tools[0].Seconds/restore.Tools[4].Seconds, restore.RestoreRatio, 1e-9)
	require.LessOrEqual(t, restore.TunedRatio, restore.Tools[1].Seconds/restore.Tools[4].Seconds, "the best of the tuned ones")
}

// TestANameThatNothingHasIsRefused asks for what is not there: to measure nothing, and say nothing, would look like a success.
func TestANameThatNothingHasIsRefused(t *testing.T) {
	for _, o := range []bench.Options{{Shapes: []string{"One large collection"}}, {Servers: []string{"slow"}}, {Tools: []string{"mongodump"}}} {
		o.Dir = t.TempDir()
		_, err := bench.Run(t.Context(), o)
		require.ErrorContains(t, err, "there is no ")
	}
}
