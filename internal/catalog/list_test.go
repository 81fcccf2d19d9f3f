package catalog

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/internal/dump"
	"github.com/battwheels/runbook/internal/durable"
)

func TestBothKindsAreListedNewestFirstByTheirOwnTime(t *testing.T) {
	w := newWorld(t)
	f1 := w.mongodump("2026-02-22 02:00:00", usual(10))
	o1 := w.own("2026-02-22 02:05:00", backup.Scheduled, usual(10))
	f2 := w.mongodump("2026-02-23 02:00:00", usual(10))
	o2 := w.own("2026-02-23 02:05:00", backup.Manual, usual(10))
	// Copying gives directories and files new modification times: the oldest now looks newest.
	for _, id := range []string{f2, f1} {
		at := time.Now()
		if id == f2 {
			at = at.Add(-365 * 24 * time.Hour)
		}
		require.NoError(t, filepath.Walk(filepath.Dir(w.dumped(id)), func(path string, _ os.FileInfo, err error) error {
			require.NoError(t, err)
			return os.Chtimes(path, at, at)
		}))
	}
	// Other things lie about in both directories.
	require.NoError(t, os.Mkdir(filepath.Join(w.dir, "other_database_20260224_020000"), 0o750))
	require.NoError(t, os.Mkdir(filepath.Join(w.dir, "test_database_20260224_020000.old"), 0o750))
	require.NoError(t, os.WriteFile(filepath.Join(w.dir, "test_database_20260224_030000"), nil, 0o640))
	require.NoError(t, os.Mkdir(filepath.Join(w.Root, ".cache"), 0o750))
	require.NoError(t, os.Mkdir(filepath.Join(w.Root, o1+".deleting"), 0o750))

	entries := w.list()
	require.Equal(t, []string{o2, f2, o1, f1}, ids(entries))
	require.Equal(t, o2, w.chosen())
	require.Equal(t, []backup.Kind{backup.Manual, backup.Foreign, backup.Scheduled, backup.Foreign},
		[]backup.Kind{entries[0].Kind, entries[1].Kind, entries[2].Kind, entries[3].Kind})
	require.Equal(t, day("2026-02-23 02:05:00"), entries[0].Time)
	require.Equal(t, day("2026-02-23 02:07:00"), entries[0].Finished)
	require.Equal(t, day("2026-02-23 02:00:00"), entries[1].Time)
	for _, e := range entries {
		require.Equal(t, Complete, e.State)
		require.Equal(t, 10, e.Collections)
		require.Positive(t, e.SizeOnDisk)
		require.Equal(t, "It looks whole on disk and has not been verified yet; a restore verifies it first.", e.Why)
	}
	require.Equal(t, int64(173), entries[0].Documents)
	require.Zero(t, entries[1].Documents, "nobody has counted them yet")
}

func TestATargetWithoutAnyBackupHasAnEmptyList(t *testing.T) {
	c := New("battwheels", &config.Config{
		Storage: config.Storage{Dir: filepath.Join(t.TempDir(), "runbook")},
		Targets: map[string]config.Target{"battwheels": {Database: config.Database{Name: "test_database"}}},
	})
	entries, err := c.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, entries)
}

func TestADirectoryThatCannotBeLookedIntoIsSaidAndHidesNothingElse(t *testing.T) {
	w := newWorld(t)
	own := w.own("2026-02-23 02:00:00", backup.Scheduled, usual(5))
	w.Foreign[0].Dir = filepath.Join(w.dir, "unmounted")
	entries := w.list()
	require.Len(t, entries, 2)
	require.Equal(t, own, w.chosen())
	require.Equal(t, fmt.Sprintf("The directory of foreign backups cannot be looked into (%s: no such file or directory); "+
		"if runbook has no right to read it, run the worker as a user who has.", w.Foreign[0].Dir), entries[1].Why)
	require.Equal(t, Incomplete, entries[1].State)
}

func TestHalfWrittenForeignDumpsAreRecognizedAndPassedOver(t *testing.T) {
	for _, row := range []struct {
		name  string
		spoil func(t *testing.T, w *world, folder string)
		why   string
	}{
		{"the database's folder is not there yet", func(t *testing.T, _ *world, folder string) {
			require.NoError(t, os.RemoveAll(folder))
		}, "it has no folder of the database test_database"},
		{"the folder is empty", func(t *testing.T, _ *world, folder string) {
			require.NoError(t, os.RemoveAll(folder))
			require.NoError(t, os.Mkdir(folder, 0o750))
		}, "it holds no collection"},
		{"killed when metadata was written and documents only of some", func(t *testing.T, _ *world, folder string) {
			require.NoError(t, os.Remove(filepath.Join(folder, "users.bson.gz")))
		}, "users.metadata.json.gz has no documents beside it: the dump was interrupted, or copied in part"},
		{"killed early", func(t *testing.T, _ *world, folder string) {
			for _, n := range []string{"users", "organizations", "invoices"} {
				require.NoError(t, os.Remove(filepath.Join(folder, n+".bson.gz")))
			}
		}, "invoices.metadata.json.gz and 2 more have no documents beside them: the dump was interrupted, or copied in part"},
		{"killed between a collection's two files", func(t *testing.T, _ *world, folder string) {
			require.NoError(t, os.Remove(filepath.Join(folder, "users.metadata.json.gz")))
		}, "users.bson.gz has no metadata: the dump was interrupted, or copied in part"},
		{"a file that was opened and never written", func(t *testing.T, _ *world, folder string) {
			require.NoError(t, os.Truncate(filepath.Join(folder, "invoices.bson.gz"), 0))
		}, "invoices.bson.gz is cut off: mongodump was interrupted, or the disk was full"},
		{"a small file that is cut off", func(t *testing.T, _ *world, folder string) {
			halve(t, filepath.Join(folder, "invoices.bson.gz"))
		}, "invoices.bson.gz is cut off: mongodump was interrupted, or the disk was full"},
		{"metadata that is cut off", func(t *testing.T, _ *world, folder string) {
			halve(t, filepath.Join(folder, "users.metadata.json.gz"))
		}, "users.metadata.json.gz is cut off: mongodump was interrupted, or the disk was full"},
		{"a large file that is cut off", func(t *testing.T, _ *world, folder string) {
			path := filepath.Join(folder, "invoices.bson.gz")
			files(t, filepath.Dir(folder), "test_database", shape{"invoices": 3000})
			info, err := os.Stat(path)
			require.NoError(t, err)
			require.Greater(t, info.Size(), int64(smallFile))
			require.NoError(t, wholeFile(path))
			halve(t, path)
		}, "invoices.bson.gz is cut off: mongodump was interrupted, or the disk was full"},
		{"a large file that is no gzip at all", func(t *testing.T, _ *world, folder string) {
			require.NoError(t, os.WriteFile(filepath.Join(folder, "invoices.bson.gz"), make([]byte, 2*smallFile), 0o640))
		}, "invoices.bson.gz is not packed with gzip, as its name says"},
		{"an unpacked file that is cut off", func(t *testing.T, _ *world, folder string) {
			doc, err := bson.Marshal(bson.D{{Key: "name", Value: "no zero at the end"}})
			require.NoError(t, err)
			require.NoError(t, os.Remove(filepath.Join(folder, "invoices.bson.gz")))
			require.NoError(t, os.WriteFile(filepath.Join(folder, "invoices.bson"), doc[:len(doc)-3], 0o640))
		}, "invoices.bson is cut off: mongodump was interrupted, or the disk was full"},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t)
			sound := w.mongodump("2026-02-23 02:00:00", usual(10))
			newest := w.mongodump("2026-02-24 02:00:00", usual(10))
			require.Equal(t, newest, w.chosen())
			row.spoil(t, w, w.dumped(newest))
			e := w.entry(newest)
			require.Equal(t, Incomplete, e.State)
			require.Equal(t, "It is half-written and cannot be restored: "+row.why+".", e.Why)
			require.Equal(t, sound, w.chosen())
			_, err := w.Choose(w.list(), time.Time{}, newest)
			require.ErrorAs(t, err, new(*NoBackupError), "not even by name")
			_, _, err = w.Verify(t.Context(), newest, nil)
			require.ErrorAs(t, err, new(*backup.CorruptError))
			require.Equal(t, Incomplete, w.entry(newest).State)
		})
	}
}

func halve(t *testing.T, path string) {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.NoError(t, os.Truncate(path, info.Size()/2))
}

func TestWholeForeignDumpsOfOtherShapesAreNotCalledHalfWritten(t *testing.T) {
	w := newWorld(t)
	id := w.mongodump("2026-02-24 02:00:00", usual(5))
	folder := w.dumped(id)
	view, err := backup.Metadata{Collection: "open_invoices", Type: backup.TypeView, Options: []byte(`{"viewOn":"invoices","pipeline":[]}`)}.Encode()
	require.NoError(t, err)
	buckets, err := backup.Metadata{Collection: "readings", Type: backup.TypeTimeseries, Options: []byte(`{"timeseries":{"timeField":"at"}}`)}.Encode()
	require.NoError(t, err)
	for name, content := range map[string][]byte{
		"open_invoices.metadata.json.gz":  packed(t, view),
		"readings.metadata.json.gz":       packed(t, buckets),
		"system.buckets.readings.bson.gz": packed(t, nil),
		"prelude.json.gz":                 packed(t, []byte(`{"ServerVersion":"7.0.5"}`)),
		"runbook.lease.bson.gz":           packed(t, nil),
		"runbook.lease.metadata.json.gz":  packed(t, nil),
		"$admin.system.users.bson.gz":     packed(t, nil),
		"system.profile.metadata.json.gz": packed(t, nil),
		".DS_Store":                       nil,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), content, 0o640))
	}
	e := w.entry(id)
	require.Equal(t, Complete, e.State, e.Why)
	require.Equal(t, 6, e.Collections, "the view and what is not the application's do not count")
}

func TestOurOwnUnfinishedBackups(t *testing.T) {
	w := newWorld(t)
	id := w.unfinished("2026-02-24 02:00:00")
	e := w.entry(id)
	require.Equal(t, Incomplete, e.State)
	require.Equal(t, backup.Scheduled, e.Kind)
	require.Equal(t, day("2026-02-24 02:00:00"), e.Time)
	require.Equal(t, "It is half-written and cannot be restored: its writer stopped before it was whole.", e.Why)

	held, err := durable.TryLock(filepath.Join(w.Root, id, dump.LockName))
	require.NoError(t, err)
	require.Equal(t, "It is being written now and cannot be restored yet.", w.entry(id).Why)
	require.NoError(t, held.Release())

	whole := w.own("2026-02-24 03:00:00", backup.Scheduled, usual(3))
	require.NoError(t, os.Remove(filepath.Join(w.Root, whole, backup.ManifestName)))
	require.Equal(t, "It is half-written and cannot be restored: it has no manifest.", w.entry(whole).Why)
	require.Empty(t, w.chosen())
	_, _, err = w.Verify(t.Context(), id, nil)
	require.EqualError(t, err, "backup "+id+" of battwheels cannot be used: it is half-written and cannot be restored: "+
		"its writer stopped before it was whole; name another one")
}

func TestADamagedBackupOfOursIsSeenInTheList(t *testing.T) {
	for _, row := range []struct {
		name  string
		spoil func(t *testing.T, dir string)
		why   string
	}{
		{"a byte of the manifest", func(t *testing.T, dir string) {
			path := filepath.Join(dir, backup.ManifestName)
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			b[len(b)/2] ^= 1
			require.NoError(t, os.WriteFile(path, b, 0o640))
		}, "manifest.json is damaged"},
		{"a file that is shorter", func(t *testing.T, dir string) {
			halve(t, filepath.Join(dir, "test_database", "invoices.bson.gz"))
		}, "its file test_database/invoices.bson.gz has "},
		{"a file that is gone", func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, "test_database", "users.metadata.json.gz")))
		}, "its file test_database/users.metadata.json.gz is missing"},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t)
			sound := w.own("2026-02-23 02:00:00", backup.Scheduled, usual(5))
			id := w.own("2026-02-24 02:00:00", backup.Scheduled, usual(5))
			w.verify(id)
			require.Equal(t, Verified, w.entry(id).State)
			row.spoil(t, filepath.Join(w.Root, id))
			e := w.entry(id)
			require.Equal(t, Complete, e.State, "what was verified once is so no longer")
			require.True(t, strings.HasPrefix(e.Why, "It is damaged and must not be restored: "), e.Why)
			require.Contains(t, e.Why, row.why)
			require.Equal(t, day("2026-02-24 02:00:00"), e.Time)
			require.Equal(t, backup.Scheduled, e.Kind)
			require.Equal(t, sound, w.chosen())
			_, _, err := w.Verify(t.Context(), id, nil)
			require.ErrorAs(t, err, new(*backup.CorruptError))
		})
	}
}

func TestABackupOfSomethingElseIsNeverChosen(t *testing.T) {
	w := newWorld(t)
	id := w.own("2026-02-24 02:00:00", backup.Scheduled, usual(5))
	require.NoError(t, os.Rename(filepath.Join(w.Root, id), filepath.Join(w.Root, "20260225T020000Z-scheduled-3f9a2c")))
	require.Equal(t, []string{"its manifest says that it is " + id}, w.entry("20260225T020000Z-scheduled-3f9a2c").Suspect)

	other := w.own("2026-02-23 02:00:00", backup.Scheduled, usual(5))
	w.Target = "garage"
	require.Equal(t, []string{"it is a backup of the target battwheels"}, w.entry(other).Suspect)
	w.Target, w.Database = "battwheels", "battwheels"
	require.Equal(t, []string{"it is a backup of the database test_database"}, w.entry(other).Suspect)
	require.Empty(t, w.chosen())
}

func TestTimesInNames(t *testing.T) {
	for _, row := range []struct{ pattern, zone, name, want string }{
		{"", "UTC", "test_database_20260224_020000", "2026-02-24 02:00:00"},
		{"{database}_{time}", "Asia/Kolkata", "test_database_20260224_020000", "2026-02-23 20:30:00"},
		{"{database}_{time}", "Asia/Kolkata", "test_database_20260224T020000Z", "2026-02-24 02:00:00"},
		{"dump-{time}", "UTC", "dump-2026-02-24T02-00-00", "2026-02-24 02:00:00"},
		{"dump-{time}", "UTC", "dump-2026-02-24_02:00:00", "2026-02-24 02:00:00"},
		{"{time}.{database}", "UTC", "20260224020000.test_database", "2026-02-24 02:00:00"},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t)
			w.Foreign[0].Pattern, w.Foreign[0].Zone = row.pattern, row.zone
			files(t, filepath.Join(w.dir, row.name), "test_database", usual(3))
			require.Equal(t, day(row.want), w.entry("foreign/"+row.name).Time)
		})
	}
}

func TestACorrectedTimeZoneMovesEveryForeignDump(t *testing.T) {
	w := newWorld(t)
	id := w.mongodump("2026-02-23 02:00:00", usual(3))
	w.verify(id)
	w.Foreign[0].Zone = "Asia/Kolkata"
	e := w.entry(id)
	require.Equal(t, day("2026-02-22 20:30:00"), e.Time)
	require.Equal(t, Complete, e.State, "its manifest says another time")
	_, source, err := w.Verify(t.Context(), id, nil)
	require.NoError(t, err)
	require.Equal(t, day("2026-02-22 20:30:00"), source.Manifest.StartedAt)
	require.Equal(t, Verified, w.entry(id).State)
}

func TestANameWithoutAValidTimeIsSuspect(t *testing.T) {
	w := newWorld(t)
	files(t, filepath.Join(w.dir, "test_database_20261399_020000"), "test_database", usual(3))
	require.Equal(t, []string{"its name holds no valid time"}, w.entry("foreign/test_database_20261399_020000").Suspect)
	require.Empty(t, w.chosen())
}

func TestABackupFromTheFutureIsSuspectAndNeverChosen(t *testing.T) {
	w := newWorld(t)
	past := w.mongodump("2026-02-24 02:00:00", usual(3))
	w.mongodump("2027-02-24 02:00:00", usual(3))
	own := w.own("2026-02-24 07:30:00", backup.Scheduled, usual(3))
	require.Equal(t, past, w.chosen())
	require.Equal(t, []string{"its time, 2026-02-24 07:30 UTC, lies in the future: a clock or the configured time zone is wrong"}, w.entry(own).Suspect)
	now := now
	w.Now = func() time.Time { return now.Add(86 * time.Minute) }
	require.Equal(t, own, w.chosen(), "clocks may differ by a few minutes")
}

func TestTwoForeignDirectoriesMayHoldTheSameName(t *testing.T) {
	w := newWorld(t)
	second := filepath.Join(filepath.Dir(w.dir), "copies")
	w.Foreign = append(w.Foreign, config.Foreign{Dir: second, Zone: "UTC"})
	first := w.mongodump("2026-02-24 02:00:00", usual(3))
	files(t, filepath.Join(second, "test_database_20260224_020000"), "test_database", usual(3))
	require.ElementsMatch(t, []string{first, "foreign/2/test_database_20260224_020000"}, ids(w.list()))
	w.verify("foreign/2/test_database_20260224_020000")
	require.Equal(t, Complete, w.entry(first).State)
	require.Equal(t, Verified, w.entry("foreign/2/test_database_20260224_020000").State)

	// The order in the configuration changes: what was found out about one must not be believed of the other.
	w.Foreign[0], w.Foreign[1] = w.Foreign[1], w.Foreign[0]
	require.Equal(t, Complete, w.entry("foreign/2/test_database_20260224_020000").State)
}

func TestACollectionIsOneWhateverItsName(t *testing.T) {
	w := newWorld(t)
	id := w.mongodump("2026-02-24 02:00:00", shape{"runbook": 2, "prelude.json": 1, "invoices": 3})
	require.Equal(t, 3, w.entry(id).Collections, "at a quick look")
	require.Equal(t, 3, w.verify(id).Collections)
	require.Equal(t, int64(6), w.entry(id).Documents)
}
