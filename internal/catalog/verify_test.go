package catalog

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/battwheels/runbook/internal/backup"
)

func TestABackupOfOursBecomesVerifiedAndThenRestored(t *testing.T) {
	w := newWorld(t)
	id := w.own("2026-02-24 02:00:00", backup.Scheduled, usual(5))
	var last backup.Progress
	e, source, err := w.Verify(t.Context(), id, func(p backup.Progress) { last = p })
	require.NoError(t, err)
	require.Equal(t, Verified, e.State)
	require.True(t, e.Proven())
	require.Equal(t, now, *e.VerifiedAt)
	require.Equal(t, "It was verified on 2026-02-24 06:00 UTC: every file and every document is as it was written.", e.Why)
	require.Equal(t, filepath.Join(w.Root, id), source.Dir)
	require.Equal(t, int64(168), last.Documents)
	require.Equal(t, e, w.entry(id))

	require.NoError(t, w.Mark(t.Context(), id, func(r *Record) { r.State, r.RestoredAt = Restored, &now }))
	require.Equal(t, "It was restored on 2026-02-24 06:00 UTC, and every document was proven there.", w.entry(id).Why)
	require.Equal(t, Restored, w.verify(id).State, "a later verification takes nothing away")

	same, err := w.Source(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, source, same)
}

func TestAForeignDumpGetsAManifestOfOursAndIsLeftUntouched(t *testing.T) {
	w := newWorld(t)
	id := w.mongodump("2026-02-24 02:00:00", usual(5))
	_, err := w.Source(t.Context(), id)
	require.EqualError(t, err, "backup "+id+" of battwheels cannot be used: it was never verified; run: runbook backups verify battwheels "+id+"; name another one")
	before := snapshot(t, w.dir)

	e, source, err := w.Verify(t.Context(), id, nil)
	require.NoError(t, err)
	require.Equal(t, Verified, e.State)
	require.Equal(t, "It was verified on 2026-02-24 06:00 UTC: every document in it can be read, and it is as complete as expected.", e.Why)
	require.Equal(t, int64(168), e.Documents)
	require.Equal(t, 5, e.Collections)
	require.Equal(t, day("2026-02-24 02:00:00"), e.Time)
	require.Equal(t, backup.Foreign, source.Manifest.Kind)
	require.Equal(t, "battwheels", source.Manifest.Target)
	require.Equal(t, filepath.Dir(w.dumped(id)), source.Dir)
	require.Equal(t, before, snapshot(t, w.dir))
	require.FileExists(t, filepath.Join(w.ForeignRoot, "test_database_20260224_020000", backup.ManifestName))

	same, err := w.Source(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, source, same)
	require.Equal(t, Verified, w.verify(id).State, "again, against the manifest now")
}

func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := d.Info()
		require.NoError(t, err)
		all[path] = info.Mode().String() + info.ModTime().String()
		if !d.IsDir() {
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			all[path] += string(b)
		}
		return nil
	}))
	return all
}

// One flipped byte in any file of either kind of backup is found, named, remembered, and keeps it from being chosen.
func TestOneFlippedByteInAnyFileIsFoundAndRemembered(t *testing.T) {
	for _, make := range []struct {
		name string
		make func(w *world) (id, dir string)
	}{
		{"ours", func(w *world) (string, string) {
			id := w.own("2026-02-24 02:00:00", backup.Scheduled, usual(4))
			w.verify(id)
			return id, filepath.Join(w.Root, id)
		}},
		{"foreign, verified before", func(w *world) (string, string) {
			id := w.mongodump("2026-02-24 02:00:00", usual(4))
			w.verify(id)
			return id, filepath.Dir(w.dumped(id))
		}},
	} {
		for _, file := range []string{"test_database/invoices.bson.gz", "test_database/users.metadata.json.gz", "test_database/collection_003.bson.gz"} {
			t.Run(make.name+" "+file, func(t *testing.T) {
				w := newWorld(t)
				sound := w.own("2026-02-23 02:00:00", backup.Scheduled, usual(4))
				id, dir := make.make(w)
				path := filepath.Join(dir, file)
				b, err := os.ReadFile(path)
				require.NoError(t, err)
				b[len(b)/2] ^= 0x10
				require.NoError(t, os.WriteFile(path, b, 0o640))

				_, _, err = w.Verify(t.Context(), id, nil)
				require.ErrorAs(t, err, new(*backup.CorruptError))
				require.ErrorContains(t, err, filepath.Base(path))
				e := w.entry(id)
				require.Equal(t, Complete, e.State)
				require.False(t, e.Proven())
				require.Contains(t, e.Why, "It is damaged and must not be restored: backup file "+path+" is damaged: ")
				require.Equal(t, sound, w.chosen())

				b[len(b)/2] ^= 0x10
				require.NoError(t, os.WriteFile(path, b, 0o640))
				require.False(t, w.entry(id).Proven(), "it is believed again only once it was read again")
				require.True(t, w.verify(id).Proven(), "an intact copy was fetched")
				require.Equal(t, id, w.chosen())
			})
		}
	}
}

func TestAForeignDumpWithAFlippedByteIsFoundTheFirstTime(t *testing.T) {
	w := newWorld(t)
	id := w.mongodump("2026-02-24 02:00:00", shape{"invoices": 3000, "users": 1})
	path := filepath.Join(w.dumped(id), "invoices.bson.gz")
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	b[len(b)/2] ^= 0x10
	require.NoError(t, os.WriteFile(path, b, 0o640))
	require.Equal(t, Complete, w.entry(id).State, "a quick look cannot see it")
	_, _, err = w.Verify(t.Context(), id, nil)
	require.ErrorAs(t, err, new(*backup.CorruptError))
	require.Contains(t, w.entry(id).Why, path)
	require.NoFileExists(t, filepath.Join(w.ForeignRoot, "test_database_20260224_020000", backup.ManifestName))
	require.Empty(t, w.chosen())
}

func TestADumpWithAnOplogIsRefusedByName(t *testing.T) {
	w := newWorld(t)
	id := w.mongodump("2026-02-24 02:00:00", usual(3))
	require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(w.dumped(id)), "oplog.bson"), nil, 0o640))
	_, _, err := w.Verify(t.Context(), id, nil)
	require.ErrorAs(t, err, new(*backup.OplogError))
	require.Empty(t, w.chosen())
	require.Contains(t, w.entry(id).Why, "oplog")
}

func TestAnArchiveIsRefusedByNameAndNeverTouched(t *testing.T) {
	w := newWorld(t)
	good := w.mongodump("2026-02-23 02:00:00", usual(3))
	archive := []byte{0x6d, 0xe2, 0x99, 0x81, 1, 2, 3}
	packed := new(bytes.Buffer)
	z := gzip.NewWriter(packed)
	_, err := z.Write(archive)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	for name, content := range map[string][]byte{
		"test_database_20260224_020000": archive, "test_database_20260224_030000.archive": archive,
		"test_database_20260224_040000.archive.gz": packed.Bytes(), "test_database_20260224_050000.log": []byte("no archive"), "other.archive": archive,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(w.dir, name), content, 0o640))
	}
	for _, name := range []string{"test_database_20260224_020000", "test_database_20260224_030000.archive", "test_database_20260224_040000.archive.gz"} {
		path := filepath.Join(w.dir, name)
		require.Contains(t, w.entry(name).Why, path+" is an archive of mongodump --archive")
		require.Contains(t, w.entry(name).Why, "--archive="+path)
		_, _, err := w.Verify(t.Context(), name, nil)
		require.ErrorAs(t, err, new(*backup.ArchiveError))
		entries, err := w.List(t.Context())
		require.NoError(t, err)
		_, err = w.Choose(entries, time.Time{}, name)
		require.ErrorContains(t, err, path+" is an archive")
		_, err = backup.Adopt(t.Context(), path, backup.AdoptOptions{Name: "x"}, nil)
		require.ErrorAs(t, err, new(*backup.ArchiveError))
	}
	entries, err := w.List(t.Context())
	require.NoError(t, err)
	require.Len(t, entries, 4, "the dump, and three archives of this database")
	w.verify(good)
	require.Equal(t, good, w.chosen())
	_, err = w.Retain(t.Context(), RetainPolicy{Keep: time.Hour, Now: now.AddDate(10, 0, 0)})
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(w.dir, "test_database_20260224_020000"))
}

func TestWhatHindersAVerificationIsNoDamage(t *testing.T) {
	w := newWorld(t)
	id := w.own("2026-02-24 02:00:00", backup.Scheduled, usual(3))
	ctx, cancel := context.WithCancel(t.Context())
	_, _, err := w.Verify(ctx, id, func(backup.Progress) { cancel() })
	if err == nil {
		t.Skip("it was done before it could be cancelled")
	}
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, w.entry(id).Suspect)
	require.Equal(t, id, w.chosen())
}

func TestAForeignDumpThatChangedAfterItsVerificationIsDamaged(t *testing.T) {
	w := newWorld(t)
	id := w.mongodump("2026-02-24 02:00:00", usual(4))
	w.verify(id)
	require.NoError(t, os.Remove(filepath.Join(w.dumped(id), "users.bson.gz")))
	e := w.entry(id)
	require.Equal(t, Complete, e.State)
	require.Equal(t, "It is damaged and must not be restored: its file test_database/users.bson.gz is missing.", e.Why)
	require.Empty(t, w.chosen())
}

func TestIDs(t *testing.T) {
	w := newWorld(t)
	for _, id := range []string{"", ".", "..", "../x", "a/b", "/etc", "foreign/", "foreign/..", "foreign/../x", "foreign/2/x", "foreign/0/x", "foreign/x/y", ".hidden"} {
		require.EqualError(t, w.Mark(t.Context(), id, func(*Record) {}), fmt.Sprintf("%q is not the id of a backup", id))
		_, err := w.Source(t.Context(), id)
		require.ErrorAs(t, err, new(*NoBackupError))
		_, _, err = w.Verify(t.Context(), id, nil)
		require.ErrorAs(t, err, new(*NoBackupError))
	}
	require.ErrorIs(t, w.Mark(t.Context(), "20260224T020000Z-manual-000000", func(*Record) {}), fs.ErrNotExist)
	require.NoDirExists(t, filepath.Join(w.Root, "20260224T020000Z-manual-000000"))
}

func TestMarksAtTheSameTimeAreAllKept(t *testing.T) {
	w := newWorld(t)
	id := w.own("2026-02-24 02:00:00", backup.Scheduled, usual(3))
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			err := w.Mark(t.Context(), id, func(r *Record) { r.Suspect = append(r.Suspect, fmt.Sprintf("reason %d", i)) })
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.Len(t, w.entry(id).Suspect, 20)
}

func TestABrokenRecordTakesTrustAwayUntilTheNextVerification(t *testing.T) {
	for _, content := range []string{"", "{", `{"state":"proven"}`, `{"state":"verified","by":"me"}`} {
		w := newWorld(t)
		id := w.own("2026-02-24 02:00:00", backup.Scheduled, usual(3))
		w.verify(id)
		require.NoError(t, os.WriteFile(filepath.Join(w.Root, id, recordName), []byte(content), 0o640))
		e := w.entry(id)
		require.Equal(t, Complete, e.State)
		require.True(t, strings.HasSuffix(e.Why, "verify the backup again."), e.Why)
		require.Empty(t, w.chosen())
		require.True(t, w.verify(id).Proven())
		require.WithinDuration(t, now, *w.entry(id).VerifiedAt, time.Second)
	}
}
