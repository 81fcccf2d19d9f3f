package catalog

import (
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/internal/offsite"
)

// withBucket gives the world a bucket, which is a directory, and returns that.
func (w *world) withBucket() string {
	w.t.Helper()
	dir := w.t.TempDir()
	w.Offsite = &offsite.Bucket{URL: (&url.URL{Scheme: "file", Path: filepath.ToSlash(dir)}).String(), Cache: w.t.TempDir()}
	return dir
}

// elsewhere is the same target on a host that has nothing but the configuration.
func (w *world) elsewhere() *world {
	w.t.Helper()
	other := newWorld(w.t)
	other.Offsite = &offsite.Bucket{URL: w.Offsite.URL, Cache: w.t.TempDir()}
	return other
}

func (w *world) sync(keep time.Duration) Synced {
	w.t.Helper()
	s, err := w.Sync(w.t.Context(), keep, false, nil)
	require.NoError(w.t, err)
	return s
}

func TestAnotherHostRestoresFromTheCopies(t *testing.T) {
	w := newWorld(t)
	w.withBucket()
	older := w.own("2026-02-23 02:00:00", backup.Scheduled, usual(10))
	newer := w.own("2026-02-24 02:00:00", backup.Scheduled, usual(10))
	w.verify(older)
	w.verify(newer)
	w.mongodump("2026-02-24 03:00:00", usual(10))
	require.Equal(t, []string{newer, older}, w.sync(0).Copied)
	require.True(t, w.entry(newer).Offsite)
	require.Empty(t, w.sync(0), "what is there is not copied again")

	other := w.elsewhere()
	require.Equal(t, []string{"offsite/" + newer, "offsite/" + older}, ids(other.list()))
	e := other.entry("offsite/" + newer)
	require.Equal(t, Complete, e.State)
	require.Equal(t, w.entry(newer).Documents, e.Documents)
	require.Equal(t, day("2026-02-24 02:00:00"), e.Time)
	require.Equal(t, "offsite/"+newer, other.chosen())

	var fetched bool
	e, source, err := other.Verify(t.Context(), "offsite/"+newer, func(p backup.Progress) { fetched = fetched || p.Step == "fetching from offsite" })
	require.NoError(t, err)
	require.True(t, fetched)
	require.Equal(t, newer, e.ID, "it is an ordinary backup of that host now")
	require.Equal(t, Verified, e.State)
	require.Equal(t, filepath.Join(other.Root, newer), source.Dir)
	require.Equal(t, []string{newer, "offsite/" + older}, ids(other.list()))
	again, _, err := other.Verify(t.Context(), "offsite/"+newer, nil)
	require.NoError(t, err, "a step that is tried again asks by the old id")
	require.Equal(t, newer, again.ID)
}

func TestOnlyProvenBackupsAreCopied(t *testing.T) {
	w := newWorld(t)
	w.withBucket()
	w.own("2026-02-20 02:00:00", backup.Scheduled, usual(10)) // never verified
	w.verify(w.own("2026-02-21 02:00:00", backup.Safety, usual(10)))
	during := w.own("2026-02-22 02:00:00", backup.Scheduled, usual(10))
	w.verify(during)
	require.NoError(t, w.Mark(t.Context(), during, func(r *Record) { r.DuringIncident = "20260222T010000Z" }))
	require.Empty(t, w.sync(0))
}

func TestCopiesAreDeletedWhenTheyAreOldAndANewerOneIsThere(t *testing.T) {
	w := newWorld(t)
	w.withBucket()
	var made []string
	for _, at := range []string{"2026-01-01 02:00:00", "2026-01-02 02:00:00", "2026-02-01 02:00:00"} {
		made = append(made, w.own(at, backup.Scheduled, usual(10)))
		w.verify(made[len(made)-1])
	}
	w.sync(0)
	s, err := w.Sync(t.Context(), 30*24*time.Hour, true, nil)
	require.NoError(t, err)
	require.Empty(t, s, "an incident is open")
	require.Equal(t, made[:2], w.sync(30*24*time.Hour).Deleted)
	require.Empty(t, w.sync(time.Hour).Deleted, "the last one stays, however old")
	require.Equal(t, []string{"offsite/" + made[2]}, ids(w.elsewhere().list()))
}

func TestABucketThatDoesNotAnswerHidesNoLocalBackup(t *testing.T) {
	w := newWorld(t)
	id := w.own("2026-02-24 02:00:00", backup.Scheduled, usual(10))
	w.verify(id)
	dir := w.withBucket()
	require.NoError(t, os.RemoveAll(dir))
	require.Equal(t, id, w.chosen())
	lost := w.list()[1]
	require.Equal(t, "offsite/", lost.ID)
	require.Contains(t, lost.Why, "The offsite storage cannot be looked into")
	_, err := w.Sync(t.Context(), 0, false, nil)
	require.ErrorContains(t, err, "cannot be looked into")

	f, err := w.Check(t.Context(), now, config.Monitor{RPO: config.Duration(24 * time.Hour)})
	require.NoError(t, err)
	require.Len(t, f.Problems, 1)
	require.Equal(t, Unreadable, f.Problems[0].Code)
}

func TestTheMonitorTellsOfBackupsThatLieOnOneHostOnly(t *testing.T) {
	w := newWorld(t)
	w.withBucket()
	mon := config.Monitor{RPO: config.Duration(6 * time.Hour)}
	check := func() []Problem {
		f, err := w.Check(t.Context(), now, mon)
		require.NoError(t, err)
		return f.Problems
	}
	old := w.own("2026-02-23 02:00:00", backup.Scheduled, usual(10))
	w.verify(old)
	w.verify(w.own("2026-02-24 02:00:00", backup.Scheduled, usual(10)))
	require.Equal(t, NotOffsite, check()[0].Code)
	require.Contains(t, check()[0].Text, "No backup of battwheels is offsite")

	require.NoError(t, w.Offsite.Put(t.Context(), w.Target, backup.Source{Dir: w.entry(old).Data, Manifest: w.entry(old).manifest}, nil))
	require.Contains(t, check()[0].Text, "is 28 hours old, and 12 hours are allowed")
	w.sync(0)
	require.Empty(t, check())
}

// A copy that was damaged in the bucket is found before it is a backup here, and the one before it is taken.
func TestADamagedCopyIsFoundWhenItIsFetched(t *testing.T) {
	w := newWorld(t)
	dir := w.withBucket()
	id := w.own("2026-02-24 02:00:00", backup.Scheduled, usual(10))
	w.verify(id)
	w.sync(0)
	path := filepath.Join(dir, w.Target, id, w.Database, "invoices.bson.gz")
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	b[len(b)/2] ^= 1
	require.NoError(t, os.WriteFile(path, b, 0o640))
	other := w.elsewhere()
	_, _, err = other.Verify(t.Context(), "offsite/"+id, nil)
	var corrupt *backup.CorruptError
	require.ErrorAs(t, err, &corrupt)
	require.Contains(t, corrupt.File, "invoices.bson.gz")
	require.Contains(t, ids(other.list()), "offsite/"+id)
	require.NoDirExists(t, filepath.Join(other.Root, id))
}
