package catalog

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/battwheels/runbook/internal/backup"
)

// tree is every file below the world's directories with its content, and every directory.
func (w *world) tree() map[string]string {
	w.t.Helper()
	all := map[string]string{}
	require.NoError(w.t, filepath.WalkDir(filepath.Dir(filepath.Dir(w.Root)), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			all[path] = "directory"
			return err
		}
		b, err := os.ReadFile(path)
		all[path] = string(b)
		return err
	}))
	return all
}

// TestExamineReadsEverythingAndKeepsNothing, of a backup of ours and of another tool's that nobody has looked at before.
func TestExamineReadsEverythingAndKeepsNothing(t *testing.T) {
	w := newWorld(t)
	for _, id := range []string{w.own("2026-02-23 02:00:00", backup.Scheduled, usual(5)), w.mongodump("2026-02-24 02:00:00", usual(5))} {
		before := w.tree()
		e, s, err := w.Examine(t.Context(), id, nil)
		require.NoError(t, err)
		require.Equal(t, id, e.ID)
		require.EqualValues(t, 168, s.Manifest.Documents())
		require.Equal(t, before, w.tree())
		_, again, err := w.Known(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, s.Dir, again.Dir)
		require.Equal(t, before, w.tree())
	}
}

// TestExamineOfADamagedBackupLeavesItsRecordAlone: what a dry run finds is for Verify to write down.
func TestExamineOfADamagedBackupLeavesItsRecordAlone(t *testing.T) {
	w := newWorld(t)
	id := w.own("2026-02-23 02:00:00", backup.Scheduled, usual(5))
	w.verify(id)
	path := filepath.Join(w.Root, id, w.Database, "invoices.bson.gz")
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	b[len(b)/2] ^= 0xff
	require.NoError(t, os.WriteFile(path, b, 0o600))
	before := w.tree()
	_, _, err = w.Examine(t.Context(), id, nil)
	var corrupt *backup.CorruptError
	require.ErrorAs(t, err, &corrupt)
	require.Equal(t, before, w.tree())
	_, _, err = w.Examine(t.Context(), w.unfinished("2026-02-24 02:00:00"), nil)
	require.ErrorAs(t, err, new(*NoBackupError))
}

// TestExamineFetchesNothing: of a backup that is offsite only, the manifest is read.
func TestExamineFetchesNothing(t *testing.T) {
	w := newWorld(t)
	w.withBucket()
	_, there, err := w.NewestOffsite(t.Context())
	require.NoError(t, err)
	require.False(t, there)
	id := w.own("2026-02-24 02:00:00", backup.Scheduled, usual(5))
	w.verify(id)
	w.sync(0)
	other := w.elsewhere()
	for _, look := range []func() (Entry, backup.Source, error){
		func() (Entry, backup.Source, error) { return other.Examine(t.Context(), "offsite/"+id, nil) },
		func() (Entry, backup.Source, error) { return other.Known(t.Context(), "offsite/"+id) },
	} {
		e, s, err := look()
		require.NoError(t, err)
		require.Equal(t, "offsite/"+id, e.ID)
		require.Empty(t, s.Dir)
		require.Equal(t, w.entry(id).Documents, s.Manifest.Documents())
	}
	require.NoDirExists(t, filepath.Join(other.Root, id))
	m, there, err := other.NewestOffsite(t.Context())
	require.NoError(t, err)
	require.True(t, there)
	require.Equal(t, id, m.Name)
}

// TestTheNewestCopyIsReadFromTheBucketItself: what was read and kept before does not hide that it is gone or damaged.
func TestTheNewestCopyIsReadFromTheBucketItself(t *testing.T) {
	w := newWorld(t)
	dir := w.withBucket()
	id := w.own("2026-02-24 02:00:00", backup.Scheduled, usual(5))
	w.verify(id)
	w.sync(0)
	w.list() // keeps the manifest
	require.NoError(t, os.WriteFile(filepath.Join(dir, w.Target, id+".manifest.json"), []byte("{}"), 0o600))
	_, _, err := w.NewestOffsite(t.Context())
	require.Error(t, err)
	require.NoError(t, os.RemoveAll(dir))
	_, _, err = w.NewestOffsite(t.Context())
	require.Error(t, err)
}
