package catalog

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/battwheels/runbook/internal/backup"
)

// BenchmarkList lists a week of both kinds of backups of the size that Battwheels has.
func BenchmarkList(b *testing.B) {
	w := newWorld(b)
	for d := range 7 {
		at := day("2026-02-18 02:00:00").AddDate(0, 0, d).Format("2006-01-02 15:04:05")
		w.mongodump(at, usual(230))
		w.own(at, backup.Scheduled, usual(230))
	}
	for b.Loop() {
		entries, err := w.List(b.Context())
		require.NoError(b, err)
		require.Len(b, entries, 14)
	}
}
