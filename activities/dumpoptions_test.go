package activities

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/config"
)

func TestDumpsInAnIncidentReadThePrimaryAsFastAsTheyCan(t *testing.T) {
	policy := config.Backup{Compression: "zstd", Level: 5, Parallel: 2, MemoryMB: 100, ReadPreference: "secondary", DocumentsPerSecond: 7, BytesPerSecond: 9}
	for _, kind := range []backup.Kind{backup.Scheduled, backup.Manual} {
		o := DumpOptions(policy, kind)
		require.Equal(t, kind, o.Kind)
		require.Equal(t, []any{"zstd", 5, 2, int64(100 << 20), "secondary", int64(7), int64(9)},
			[]any{o.Compression, o.Level, o.Parallel, o.Memory, o.ReadPreference, o.DocumentsPerSecond, o.BytesPerSecond})
	}
	for _, kind := range []backup.Kind{backup.Emergency, backup.Safety} {
		o := DumpOptions(policy, kind)
		require.Equal(t, "zstd", o.Compression)
		require.Empty(t, o.ReadPreference)
		require.Zero(t, o.DocumentsPerSecond+o.BytesPerSecond)
	}
}
