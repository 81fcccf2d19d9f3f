package durable

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWriteFileReplacesAndLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, strings.Repeat("n", 255))
	for _, content := range []string{"first, and longer", "second", ""} {
		require.NoError(t, WriteFile(path, []byte(content), 0o600))
		got, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, content, string(got))
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode())
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, entries, 1)
	}
}

func TestWriteFileThatFailsKeepsWhatWasThere(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "target")
	require.NoError(t, os.Mkdir(path, 0o755)) // a directory cannot be replaced by a file
	err := WriteFile(path, []byte("x"), 0o600)
	require.ErrorContains(t, err, path)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1, "the temporary file is gone")
	require.ErrorIs(t, WriteFile(filepath.Join(dir, "missing", "x"), nil, 0o600), os.ErrNotExist)
}

func TestRenameMovesBetweenDirectories(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "a"), 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "b"), 0o755))
	require.NoError(t, WriteFile(filepath.Join(dir, "a", "x"), []byte("x"), 0o600))
	require.NoError(t, Rename(filepath.Join(dir, "a", "x"), filepath.Join(dir, "b", "y")))
	require.FileExists(t, filepath.Join(dir, "b", "y"))
	require.NoFileExists(t, filepath.Join(dir, "a", "x"))
}

func TestFreeBytes(t *testing.T) {
	n, err := FreeBytes(t.TempDir())
	require.NoError(t, err)
	require.Positive(t, n)
	_, err = FreeBytes("/does/not/exist")
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestOneHolderOfALock(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".lock")
	held, err := Locked(path)
	require.NoError(t, err)
	require.False(t, held, "nobody made it yet")
	lock, err := TryLock(path)
	require.NoError(t, err)
	_, err = TryLock(path)
	require.ErrorIs(t, err, ErrLocked)
	held, err = Locked(path)
	require.NoError(t, err)
	require.True(t, held)
	require.NoError(t, lock.Release())
	held, err = Locked(path)
	require.NoError(t, err)
	require.False(t, held, "released, though the file is there")
	again, err := TryLock(path)
	require.NoError(t, err)
	require.NoError(t, again.Release())
	_, err = TryLock(filepath.Join(path, "under-a-file"))
	require.Error(t, err)
}

// A power cut cannot be had here: what is tested is that every file is reached, by either way, and that one which cannot be is an error.
func TestSyncTreeReachesEverything(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "a", "b"), 0o755))
	for i := range 50 {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "a", "b", strings.Repeat("x", i+1)), []byte("x"), 0o600))
	}
	require.NoError(t, SyncTree(dir))
	require.NoError(t, syncEach(dir))
	require.ErrorIs(t, SyncTree(filepath.Join(dir, "missing")), os.ErrNotExist)
	require.ErrorIs(t, syncFile(filepath.Join(dir, "missing")), os.ErrNotExist)
}
