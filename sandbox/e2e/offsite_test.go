package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/sandbox/bucket"
	"github.com/battwheels/runbook/workflows"
)

// TestAnotherHostRestoresFromTheBucket loses the host with its backups, and the database. A worker elsewhere, with nothing but the
// configuration and the bucket, brings back every document.
func TestAnotherHostRestoresFromTheBucket(t *testing.T) {
	s3, err := bucket.Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s3.Stop()) })
	for _, e := range s3.Environment() {
		name, value, _ := strings.Cut(e, "=")
		t.Setenv(name, value)
	}
	w := newWorld(t, func(c *config.Config) { c.Storage.Offsite.URL = s3.URL() })
	before := w.content()
	b := w.backup()
	require.Equal(t, []string{b.Backup.ID}, b.Offsite.Copied)
	require.Empty(t, b.Warnings)
	w.record("backup-offsite", "backup/battwheels", "")

	w.end()
	require.NoError(t, os.RemoveAll(w.storage))
	require.NoError(t, w.db.Drop(t.Context()))
	w.storage = filepath.Join(t.TempDir(), "elsewhere")
	w.cfg.Storage.Dir, w.cfg.Temporal.Host = w.storage, "elsewhere"
	w.start()
	run := w.run(restoring, "Restore", workflows.RestoreInput{})
	s := w.await(restoring, "no plan", func(s workflows.Status) bool { return s.Plan != nil && s.Asked != "" })
	require.Equal(t, b.Backup.ID, s.Plan.Backup.ID)
	require.NoError(t, w.says(restoring, workflows.DoorApprove, workflows.Answer{Plan: s.Plan.Code}))
	var r workflows.RestoreResult
	require.NoError(t, run.Get(t.Context(), &r))
	require.Equal(t, workflows.Recovered, r.Outcome, r.Summary)
	require.Equal(t, before, w.content())
	require.FileExists(t, filepath.Join(w.storage, "backups", "battwheels", b.Backup.ID, "manifest.json"), "proven there, and kept")
	w.record("restore-offsite", restoring, "")
}
