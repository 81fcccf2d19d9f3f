package catalog

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/dump"
	"github.com/battwheels/runbook/internal/durable"
)

const week = 7 * 24 * time.Hour

// retain runs retention and returns what it deleted, oldest first.
func (w *world) retain(p RetainPolicy) []string {
	w.t.Helper()
	p.Keep, p.Now = week, now
	r, err := w.Retain(w.t.Context(), p)
	require.NoError(w.t, err)
	var gone []string
	for _, d := range r.Deleted {
		gone = append(gone, d.ID)
		require.NotEmpty(w.t, d.Why)
	}
	for _, k := range r.Kept {
		require.NotEmpty(w.t, k.Why)
		require.Contains(w.t, ids(w.list()), k.ID)
	}
	slices.Sort(gone)
	return gone
}

func TestRetentionDeletesWhatANewerProvenBackupReplaces(t *testing.T) {
	w := newWorld(t)
	a := w.own("2026-02-10 02:00:00", backup.Scheduled, usual(3))
	b := w.own("2026-02-12 02:00:00", backup.Scheduled, usual(3))
	c := w.own("2026-02-20 02:00:00", backup.Scheduled, usual(3))
	d := w.own("2026-02-24 02:00:00", backup.Scheduled, usual(3))
	require.Empty(t, w.retain(RetainPolicy{}), "nothing newer is proven")
	w.verify(a)
	require.Empty(t, w.retain(RetainPolicy{}), "what is proven is older")
	w.verify(b)
	require.Equal(t, []string{a}, w.retain(RetainPolicy{}))
	require.Empty(t, w.retain(RetainPolicy{}), "the last proven one stays, however old")
	require.Equal(t, []string{d, c, b}, ids(w.list()))
	w.verify(d)
	require.Equal(t, []string{b}, w.retain(RetainPolicy{}))
	require.Equal(t, []string{d, c}, ids(w.list()))
	require.NoDirExists(t, filepath.Join(w.Root, b))
	require.NoDirExists(t, filepath.Join(w.Root, b+deletingSuffix))
}

// What looks newer and good, and lets retention delete nothing.
func TestWhatDoesNotReplaceAnOlderBackup(t *testing.T) {
	for _, row := range []struct {
		name  string
		newer func(w *world) string
	}{
		{"one that was never verified", func(w *world) string { return w.own("2026-02-24 02:00:00", backup.Scheduled, usual(10)) }},
		{"a suspect", func(w *world) string {
			id := w.own("2026-02-24 02:00:00", backup.Scheduled, usual(5))
			w.verify(id)
			return id
		}},
		{"one made during an incident", func(w *world) string {
			id := w.own("2026-02-24 02:00:00", backup.Scheduled, usual(10))
			w.verify(id)
			require.NoError(w.t, w.Mark(w.t.Context(), id, func(r *Record) { r.DuringIncident = "x" }))
			return id
		}},
		{"an emergency dump", func(w *world) string {
			id := w.own("2026-02-24 02:00:00", backup.Emergency, usual(10))
			w.verify(id)
			return id
		}},
		{"a safety dump", func(w *world) string {
			id := w.own("2026-02-24 02:00:00", backup.Safety, usual(10))
			w.verify(id)
			return id
		}},
		{"one from the future", func(w *world) string {
			id := w.own("2027-02-24 02:00:00", backup.Scheduled, usual(10))
			w.verify(id)
			return id
		}},
		{"one that was damaged after its verification", func(w *world) string {
			id := w.own("2026-02-24 02:00:00", backup.Scheduled, usual(10))
			w.verify(id)
			require.NoError(w.t, os.Remove(filepath.Join(w.Root, id, "test_database", "users.bson.gz")))
			return id
		}},
		{"one of the other tool, which deletes its own without asking", func(w *world) string {
			id := w.mongodump("2026-02-24 02:00:00", usual(10))
			w.verify(id)
			return id
		}},
		{"an unfinished one", func(w *world) string { return w.unfinished("2026-02-24 02:00:00") }},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t)
			old := w.own("2026-02-10 02:00:00", backup.Scheduled, usual(10))
			w.verify(old)
			newer := row.newer(w)
			require.Empty(t, w.retain(RetainPolicy{}))
			require.ElementsMatch(t, []string{newer, old}, ids(w.list()))
		})
	}
}

func TestRetentionIsFrozenWhileAnIncidentIsOpen(t *testing.T) {
	w := newWorld(t)
	old := w.own("2026-02-10 02:00:00", backup.Scheduled, usual(3))
	w.verify(w.own("2026-02-24 02:00:00", backup.Scheduled, usual(3)))
	dead := w.unfinished("2026-02-20 02:00:00")
	left := filepath.Join(w.Root, "20260101T020000Z-scheduled-3f9a2c.deleting")
	require.NoError(t, os.Mkdir(left, 0o750))
	require.Empty(t, w.retain(RetainPolicy{Frozen: true}))
	require.DirExists(t, left)
	require.Empty(t, w.retain(RetainPolicy{Using: []string{old, dead}}))
	require.ElementsMatch(t, []string{old, dead}, w.retain(RetainPolicy{}))
	require.NoDirExists(t, left)
}

func TestUnfinishedBackupsGoAfterADayOnceTheirWriterIsGone(t *testing.T) {
	w := newWorld(t)
	young := w.unfinished("2026-02-23 12:00:00")
	dead := w.unfinished("2026-02-22 02:00:00")
	alive := w.unfinished("2026-02-21 02:00:00")
	lock, err := durable.TryLock(filepath.Join(w.Root, alive, dump.LockName))
	require.NoError(t, err)
	require.Equal(t, []string{dead}, w.retain(RetainPolicy{}))
	require.ElementsMatch(t, []string{young, alive}, ids(w.list()))
	require.NoError(t, lock.Release())
	require.Equal(t, []string{alive}, w.retain(RetainPolicy{}))
}

func TestABackupThatLostItsManifestIsLeftToAPerson(t *testing.T) {
	w := newWorld(t)
	id := w.own("2026-01-01 02:00:00", backup.Scheduled, usual(3))
	require.NoError(t, os.Remove(filepath.Join(w.Root, id, backup.ManifestName)))
	require.NoError(t, os.Mkdir(filepath.Join(w.Root, "notes of a person"), 0o750))
	w.verify(w.own("2026-02-24 02:00:00", backup.Scheduled, usual(3)))
	require.Empty(t, w.retain(RetainPolicy{}))
}

func TestEvidenceOfAnIncidentIsKeptForAMonth(t *testing.T) {
	w := newWorld(t)
	w.verify(w.own("2026-02-24 02:00:00", backup.Scheduled, usual(3)))
	old := w.own("2026-01-10 02:00:00", backup.Safety, usual(3))
	w.own("2026-02-10 02:00:00", backup.Emergency, usual(3))
	require.Equal(t, []string{old}, w.retain(RetainPolicy{}))
}

func TestForeignDumpsAreDeletedOnlyWhereTheConfigurationSaysSo(t *testing.T) {
	w := newWorld(t)
	old := w.mongodump("2026-02-10 02:00:00", usual(3))
	half := w.mongodump("2026-02-11 02:00:00", usual(3))
	require.NoError(t, os.Remove(filepath.Join(w.dumped(half), "users.bson.gz")))
	last := w.mongodump("2026-02-24 02:00:00", usual(3))
	w.verify(old)
	w.verify(last)
	require.Empty(t, w.retain(RetainPolicy{}))

	w.Foreign[0].Retention = true
	other := filepath.Join(w.dir, "other_database_20260101_020000.deleting")
	require.NoError(t, os.Mkdir(other, 0o750))
	left := filepath.Join(w.dir, "test_database_20260101_020000.deleting")
	require.NoError(t, os.Mkdir(left, 0o750))
	require.Equal(t, []string{old, half}, w.retain(RetainPolicy{}))
	require.Equal(t, []string{last}, ids(w.list()))
	require.NoDirExists(t, filepath.Join(w.ForeignRoot, "test_database_20260210_020000"))
	require.NoDirExists(t, left)
	require.DirExists(t, other, "not ours to clean")
}

func TestWhatIsKnownOfForeignDumpsIsForgottenAfterThem(t *testing.T) {
	w := newWorld(t)
	for _, at := range []string{"2026-02-10 02:00:00", "2026-02-23 02:00:00", "2026-02-24 02:00:00"} {
		w.verify(w.mongodump(at, usual(3)))
	}
	known := func(d int) string {
		return filepath.Join(w.ForeignRoot, fmt.Sprintf("test_database_202602%d_020000", d))
	}
	// A volume that is not mounted for a while is no deletion.
	require.NoError(t, os.Rename(w.dir, w.dir+".away"))
	w.retain(RetainPolicy{})
	require.NoError(t, os.Mkdir(w.dir, 0o750))
	w.retain(RetainPolicy{})
	require.DirExists(t, known(10))
	require.NoError(t, os.Remove(w.dir))
	require.NoError(t, os.Rename(w.dir+".away", w.dir))
	for _, d := range []int{10, 23} {
		require.NoError(t, os.RemoveAll(filepath.Join(w.dir, filepath.Base(known(d)))))
	}
	w.retain(RetainPolicy{})
	require.NoDirExists(t, known(10))
	require.DirExists(t, known(23), "it may still come back")
	require.DirExists(t, known(24))
}

func TestADeletionThatWasInterruptedIsFinished(t *testing.T) {
	w := newWorld(t)
	old := w.own("2026-02-10 02:00:00", backup.Scheduled, usual(3))
	require.NoError(t, os.Rename(filepath.Join(w.Root, old), filepath.Join(w.Root, old+deletingSuffix)))
	require.NoError(t, os.Remove(filepath.Join(w.Root, old+deletingSuffix, backup.ManifestName)))
	require.Empty(t, w.list(), "it is gone for everybody from its first moment on")
	require.Empty(t, w.retain(RetainPolicy{}))
	require.NoDirExists(t, filepath.Join(w.Root, old+deletingSuffix))
}

func TestRetentionNeedsAPolicy(t *testing.T) {
	w := newWorld(t)
	_, err := w.Retain(t.Context(), RetainPolicy{Now: now})
	require.EqualError(t, err, "retention: Keep and Now are required")
}

// Whatever there is: after retention the newest proven backup is still there, everything younger than the policy keeps is, and
// nothing went that was in use.
func TestRetentionNeverTakesTheLastGoodOne(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		c := &Catalog{Target: "t"}
		n := rapid.IntRange(1, 8).Draw(r, "backups")
		var entries []Entry
		at := now
		for i := range n {
			at = at.Add(-time.Duration(rapid.IntRange(1, 72).Draw(r, "hours")) * time.Hour)
			e := Entry{ID: fmt.Sprintf("b%d", i), Name: fmt.Sprintf("b%d", i), Origin: Own, Time: at, Kind: rapid.SampledFrom([]backup.Kind{
				backup.Scheduled, backup.Scheduled, backup.Manual, backup.Safety, backup.Foreign}).Draw(r, "kind")}
			e.State = rapid.SampledFrom([]State{Incomplete, Complete, Verified, Restored}).Draw(r, "state")
			if rapid.Bool().Draw(r, "suspect") {
				e.Suspect = []string{"few"}
			}
			entries = append(entries, e)
		}
		p := RetainPolicy{Keep: 72 * time.Hour, Now: now, Using: []string{"b1"}}
		best := slices.IndexFunc(entries, func(e Entry) bool { return e.Proven() })
		for i := range entries {
			goes, why := c.goes(&entries[i], entries[:i], p)
			if why == "" || !strings.HasSuffix(why, ".") {
				r.Fatalf("%s: no reason: %q", entries[i].ID, why)
			}
			if !goes || entries[i].State == Incomplete {
				continue
			}
			if i == best || best < 0 || i < best || now.Sub(entries[i].Time) <= p.Keep || entries[i].ID == "b1" {
				r.Fatalf("%s must stay: %s", entries[i].ID, why)
			}
		}
	})
}
