package workflows

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"github.com/battwheels/runbook/activities"
)

// backup runs Backup as the root workflow.
func (w *world) backup() (BackupResult, error) {
	w.t.Helper()
	w.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: "backup/battwheels", TaskQueue: TaskQueue})
	w.ExecuteWorkflow(Backup, BackupInput{Scheduled: true})
	require.True(w.t, w.IsWorkflowCompleted())
	if err := w.GetWorkflowError(); err != nil {
		return BackupResult{}, err
	}
	var r BackupResult
	require.NoError(w.t, w.GetWorkflowResult(&r))
	return r, nil
}

func TestABackupIsCheckedBeforeAnythingIsDeleted(t *testing.T) {
	w := newWorld(t)
	r, err := w.backup()
	require.NoError(t, err)
	require.Equal(t, []string{"LoadTarget", "Dump scheduled", "CheckBackup", "ApplyRetention"}, w.calls)
	require.Contains(t, r.Summary, "every file checked")
	require.Empty(t, r.Warnings)

	w = newWorld(t)
	w.fail["CheckBackup"] = always(final(activities.CorruptBackup, "invoices.bson.gz: its SHA-256 is another"))
	_, err = w.backup()
	require.ErrorContains(t, err, "invoices.bson.gz")
	require.False(t, w.ran("ApplyRetention"), "a backup that is not proven replaces nothing")
}

func TestAProvenBackupIsCopiedOffsiteBeforeOldOnesGo(t *testing.T) {
	w := newWorld(t)
	w.snap.Offsite = true
	r, err := w.backup()
	require.NoError(t, err)
	w.before("CheckBackup", "SyncOffsite")
	w.before("SyncOffsite", "ApplyRetention")
	require.Equal(t, []string{"newest"}, r.Offsite.Copied)
}

func TestABucketThatIsDownDoesNotSpoilTheBackup(t *testing.T) {
	w := newWorld(t)
	w.snap.Offsite = true
	w.fail["SyncOffsite"] = always(errors.New("connection refused"))
	r, err := w.backup()
	require.NoError(t, err)
	require.Greater(t, w.count["SyncOffsite"], 10, "it was tried for about half an hour")
	require.Len(t, r.Warnings, 1)
	require.Contains(t, r.Warnings[0], "It is not offsite yet: ")
	require.Contains(t, r.Warnings[0], "connection refused")
	require.True(t, w.ran("ApplyRetention"))
}
