package e2e

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/activities"
	"github.com/battwheels/runbook/workflows"
)

// TestADrillProvesTheBackupAndLeavesNothing drills a good backup and one with a flipped byte, beside the live database. The good one
// counts as restored from then on, the other is named; neither leaves a scratch, or touches what is live.
func TestADrillProvesTheBackupAndLeavesNothing(t *testing.T) {
	w := newWorld(t)
	before := w.content()
	good, bad := w.backup().Backup.ID, w.backup().Backup.ID
	flip(t, filepath.Join(w.storage, "backups", "battwheels", bad, w.db.Name(), "invoices.bson.gz"))
	id := workflows.DrillID("battwheels")
	for _, x := range []struct {
		name, backup string
		passed       bool
		says         string
	}{
		{"drill", good, true, good},
		{"drill-failed", bad, false, "invoices.bson.gz"},
	} {
		t.Run(x.name, func(t *testing.T) {
			var r activities.DrillRecord
			require.NoError(t, w.run(id, "RestoreDrill", workflows.DrillInput{Backup: x.backup}).Get(t.Context(), &r))
			require.Equal(t, x.passed, r.Passed, r.Summary)
			require.Contains(t, r.Summary, x.says)
			require.FileExists(t, filepath.Join(w.storage, "drills", "battwheels", r.ID+".json"))
			names, err := w.db.Client().ListDatabaseNames(t.Context(), bson.D{})
			require.NoError(t, err)
			require.NotContains(t, names, "runbook_drill_battwheels")
			require.Equal(t, before, w.content())
			w.record(x.name, id, "")
		})
	}
}
