package offsite

import (
	"context"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/dump"
	"github.com/battwheels/runbook/internal/mongotest"
)

const (
	target = "battwheels"
	name   = "20260224T020000Z-scheduled-3f9a2c"
)

// made dumps a small database.
func made(t *testing.T) backup.Source {
	t.Helper()
	db := mongotest.Start(t).Client(t).Database("garage")
	names := []string{"invoices", "users", "audit/logs"}
	for i := range 20 {
		names = append(names, fmt.Sprintf("table_%02d", i))
	}
	for _, collection := range names {
		var docs []bson.D
		for i := range 50 {
			docs = append(docs, bson.D{{Key: "_id", Value: i}, {Key: "text", Value: strings.Repeat(collection, i)}})
		}
		_, err := db.Collection(collection).InsertMany(t.Context(), docs)
		require.NoError(t, err)
	}
	root := t.TempDir()
	m, err := dump.Run(t.Context(), db, dump.Options{Root: root, Name: name, Target: target, Kind: backup.Scheduled, Tool: "runbook test"})
	require.NoError(t, err)
	return backup.Source{Dir: filepath.Join(root, name), Manifest: m}
}

// bucket opens a directory as a bucket, and returns both.
func bucket(t *testing.T) (Bucket, string) {
	t.Helper()
	dir := t.TempDir()
	return Bucket{URL: fileURL(dir), Cache: t.TempDir()}, dir
}

func fileURL(dir string) string {
	return (&url.URL{Scheme: "file", Path: filepath.ToSlash(dir)}).String()
}

// content is every file below a directory.
func content(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		rel, relErr := filepath.Rel(dir, path)
		require.NoError(t, relErr)
		all[rel] = string(b)
		return err
	}))
	return all
}

func TestACopyComesBackByteForByteOnAnotherHost(t *testing.T) {
	s := made(t)
	b, dir := bucket(t)
	require.NoError(t, b.Put(t.Context(), target, s, nil))
	list, err := b.List(t.Context(), target)
	require.NoError(t, err)
	require.Equal(t, []Copy{{name, true}}, list)
	list, err = b.List(t.Context(), "battw")
	require.NoError(t, err)
	require.Empty(t, list, "another target, whose name begins alike")

	// The other host knows the bucket and nothing else.
	other := Bucket{URL: fileURL(dir), Cache: t.TempDir()}
	var last backup.Progress
	got, err := other.Get(t.Context(), target, name, t.TempDir(), func(p backup.Progress) { last = p })
	require.NoError(t, err)
	require.Equal(t, content(t, s.Dir), content(t, got.Dir))
	require.Equal(t, s.Manifest, got.Manifest)
	require.NoError(t, backup.Verify(t.Context(), got, nil))
	require.Equal(t, last.CollectionsTotal, last.Collections)
	require.Positive(t, last.BytesTotal)
	require.Equal(t, last.BytesTotal, last.Bytes)

	again, err := other.Get(t.Context(), target, name, filepath.Dir(got.Dir), nil)
	require.NoError(t, err)
	require.Equal(t, got.Dir, again.Dir)
}

func TestADamagedBackupIsNotCopied(t *testing.T) {
	s := made(t)
	for _, f := range s.Manifest.Files()[:6] {
		t.Run(f.Path, func(t *testing.T) {
			path := filepath.Join(s.Dir, filepath.FromSlash(f.Path))
			flip(t, path)
			defer flip(t, path)
			b, _ := bucket(t)
			err := b.Put(t.Context(), target, s, nil)
			var corrupt *backup.CorruptError
			require.ErrorAs(t, err, &corrupt)
			require.Equal(t, path, corrupt.File)
			list, err := b.List(t.Context(), target)
			require.NoError(t, err)
			for _, c := range list {
				require.False(t, c.Whole)
			}
			_, err = b.Get(t.Context(), target, name, t.TempDir(), nil)
			require.ErrorIs(t, err, fs.ErrNotExist, "what is not whole is not there")
		})
	}
}

func TestACopyThatWasDamagedIsNotABackup(t *testing.T) {
	s := made(t)
	b, dir := bucket(t)
	require.NoError(t, b.Put(t.Context(), target, s, nil))
	for _, f := range s.Manifest.Files()[:6] {
		// A bucket that is a directory writes a slash in a name as a directory, and escapes what file systems do not take.
		path := stored(t, dir, f)
		for what, damage := range map[string]func(){
			"one flipped byte": func() { flip(t, path) },
			"missing":          func() { require.NoError(t, os.Remove(path)) },
		} {
			t.Run(f.Path+", "+what, func(t *testing.T) {
				good, err := os.ReadFile(path)
				require.NoError(t, err)
				damage()
				defer func() { require.NoError(t, os.WriteFile(path, good, 0o640)) }()
				root := t.TempDir()
				_, err = b.Get(t.Context(), target, name, root, nil)
				var corrupt *backup.CorruptError
				require.ErrorAs(t, err, &corrupt)
				require.Equal(t, target+"/"+name+"/"+f.Path, corrupt.File)
				require.NoDirExists(t, filepath.Join(root, name))
			})
		}
	}
}

// Both ways carry on where they were cut off: what has arrived is not sent again.
func TestAnInterruptedCopyCarriesOn(t *testing.T) {
	s := made(t)
	b, dir := bucket(t)
	afterOne := func() (context.Context, func(backup.Progress)) {
		ctx, cancel := context.WithCancel(t.Context())
		t.Cleanup(cancel)
		return ctx, func(p backup.Progress) {
			if p.Bytes > 0 {
				cancel()
			}
		}
	}
	ctx, progress := afterOne()
	require.ErrorIs(t, b.Put(ctx, target, s, progress), context.Canceled)
	list, err := b.List(t.Context(), target)
	require.NoError(t, err)
	require.Equal(t, []Copy{{name, false}}, list)
	sent := times(t, dir)
	require.NotEmpty(t, sent)
	require.NoError(t, b.Put(t.Context(), target, s, nil))
	now := times(t, dir)
	for path, at := range sent {
		require.Equal(t, at, now[path], "%s was sent again", path)
	}

	root := t.TempDir()
	ctx, progress = afterOne()
	_, err = b.Get(ctx, target, name, root, progress)
	require.ErrorIs(t, err, context.Canceled)
	require.NoDirExists(t, filepath.Join(root, name))
	had := times(t, root)
	got, err := b.Get(t.Context(), target, name, root, nil)
	require.NoError(t, err)
	now = times(t, root)
	kept := 0
	for path, at := range had {
		if now[strings.Replace(path, backup.IncompleteSuffix, "", 1)].Equal(at) {
			kept++
		}
	}
	require.Positive(t, kept)
	require.NoError(t, backup.Verify(t.Context(), got, nil))
}

func TestACopyIsGoneFromTheListBeforeItsFilesAre(t *testing.T) {
	s := made(t)
	b, dir := bucket(t)
	require.NoError(t, b.Put(t.Context(), target, s, nil))
	blobs, err := b.open(t.Context())
	require.NoError(t, err)
	defer shut(blobs)
	require.NoError(t, remove(t.Context(), blobs, marker(target, name)))
	list, err := b.List(t.Context(), target)
	require.NoError(t, err)
	require.Equal(t, []Copy{{name, false}}, list, "what an interrupted deletion leaves")
	require.NoError(t, b.Delete(t.Context(), target, name))
	require.Empty(t, content(t, dir))
	_, err = b.Manifest(t.Context(), target, name)
	require.ErrorIs(t, err, fs.ErrNotExist, "not from memory either")
	require.NoError(t, b.Delete(t.Context(), target, name), "what is gone may be deleted again")
}

func TestABucketThatCannotBeOpenedIsNamed(t *testing.T) {
	for _, address := range []string{"s4://bucket", "bucket", "file:///no/such/directory"} {
		_, err := Bucket{URL: address, Cache: t.TempDir()}.List(t.Context(), target)
		require.ErrorContains(t, err, address)
	}
}

func flip(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	b[len(b)/2] ^= 1
	require.NoError(t, os.WriteFile(path, b, 0o640))
}

// stored finds the file of the bucket's directory that holds a file of the backup: by its content.
func stored(t *testing.T, dir string, f backup.File) string {
	t.Helper()
	var found string
	require.NoError(t, filepath.WalkDir(filepath.Join(dir, target, name), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.HasSuffix(path, ".attrs") {
			if same, _ := holds(path, f); same {
				found = path
			}
		}
		return err
	}))
	require.NotEmpty(t, found, f.Path)
	return found
}

func times(t *testing.T, dir string) map[string]time.Time {
	t.Helper()
	all := map[string]time.Time{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, dump.LockName) {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return fmt.Errorf("stat: %w", err)
		}
		all[path] = info.ModTime()
		return nil
	}))
	return all
}
