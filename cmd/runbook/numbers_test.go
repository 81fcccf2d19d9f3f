package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/battwheels/runbook/internal/restore"
)

// TestOfflineCountsReadWell proves that what the offline commands print has thousands separated, and one of a thing named as one.
func TestOfflineCountsReadWell(t *testing.T) {
	counts := &restore.PartialResult{Collections: []restore.PartialCollection{{Name: "invoices", Insert: 48210}}}
	for name, row := range map[string]struct {
		tell func(*strings.Builder) // lines that fit a terminal
		says []string
	}{
		"restored": {func(w *strings.Builder) {
			restored{Backup: "20260224T020000Z-scheduled-3f9a2c", Documents: 48210, Collections: 221, Aside: 1, Incident: "i"}.tell(w)
		}, []string{"48,210 documents in 221 collections", "1 collection in runbook.old.i.*"}},
		"would be restored": {func(w *strings.Builder) {
			restored{Backup: "20260224T020000Z-scheduled-3f9a2c", Documents: 1, Collections: 1, DryRun: true}.tell(w)
		}, []string{"1 document in 1 collection, proven"}},
		"in part": {func(w *strings.Builder) {
			restored{Backup: "20260224T020000Z-scheduled-3f9a2c", Counts: counts, DryRun: true}.tell(w)
		}, []string{"48,210"}},
		"rolled back": {func(w *strings.Builder) { rolledBack{Incident: "i", Returned: 1200, Kept: 1}.tell(w) },
			[]string{"back as before it: 1,200 collections", "1 collection, kept in runbook.old.i.placed.*"}},
		"would be rolled back": {func(w *strings.Builder) {
			rolledBack{Incident: "20260224T031200Z-3f9a2c", Backup: "20260224T020000Z-scheduled-3f9a2c", At: time.Unix(0, 0).UTC(), Returned: 1, Kept: 1200, DryRun: true}.tell(w)
		}, []string{"1 collection would return", "1,200"}},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			row.tell(&out)
			for _, want := range row.says {
				require.Contains(t, strings.Join(strings.Fields(out.String()), " "), want)
			}
			for line := range strings.Lines(out.String()) {
				require.LessOrEqual(t, len([]rune(strings.TrimRight(line, "\n"))), lineWidth, line)
			}
		})
	}
}
