package catalog

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/battwheels/runbook/internal/backup"
)

func TestTheNewestFromBeforeTheDamageIsChosen(t *testing.T) {
	w := newWorld(t)
	old := w.own("2026-02-22 02:00:00", backup.Scheduled, usual(5))
	mid := w.mongodump("2026-02-23 02:00:00", usual(5))
	newest := w.own("2026-02-24 02:00:00", backup.Scheduled, usual(5)) // finished at 02:02
	for _, row := range []struct{ before, want string }{
		{"2026-02-24 02:02:01", newest},
		{"2026-02-24 02:02:00", mid}, // its last documents were read when the damage began
		{"2026-02-24 02:01:00", mid}, // it began before the damage and ended after it
		{"2026-02-23 02:00:01", mid},
		{"2026-02-23 02:00:00", old},
	} {
		choice, err := w.Choose(w.list(), day(row.before), "")
		require.NoError(t, err)
		require.Equal(t, row.want, choice.Entry.ID, row.before)
	}
	choice, err := w.Choose(w.list(), day("2026-02-24 02:01:00"), "")
	require.NoError(t, err)
	var why []string
	for _, c := range choice.Candidates {
		why = append(why, c.Why)
	}
	require.Equal(t, []string{
		"It was finished at 2026-02-24 02:02 UTC, not before 2026-02-24 02:01 UTC, and may hold the damage.",
		"It is the newest that can be trusted from before 2026-02-24 02:01 UTC.",
		"It could be chosen; a newer one was.",
	}, why)
	require.Equal(t, []bool{false, true, true}, []bool{choice.Candidates[0].Eligible, choice.Candidates[1].Eligible, choice.Candidates[2].Eligible})

	choice, err = w.Choose(w.list(), day("2026-02-23 02:00:00"), newest)
	require.NoError(t, err, "a person may want one from after the damage")
	require.Equal(t, newest, choice.Entry.ID)
}

func TestABackupMayBeNamedWithoutItsOrigin(t *testing.T) {
	w := newWorld(t)
	id := w.mongodump("2026-02-23 02:00:00", usual(5))
	choice, err := w.Choose(w.list(), time.Time{}, "test_database_20260223_020000")
	require.NoError(t, err)
	require.Equal(t, id, choice.Entry.ID)
}

func TestNoBackupIsExplained(t *testing.T) {
	w := newWorld(t)
	_, err := w.Choose(w.list(), time.Time{}, "")
	require.EqualError(t, err, "no backup of battwheels can be chosen by itself: there is none. "+
		"Look for one in the configured directories, or ask whoever may hold a copy")

	w.unfinished("2026-02-24 02:00:00")
	w.mongodump("2026-02-23 02:00:00", usual(5))
	w.MinCollections = 218
	choice, err := w.Choose(w.list(), time.Time{}, "")
	const list = `
- 20260224T020000Z-scheduled-3f9a2c.incomplete: It is half-written and cannot be restored: its writer stopped before it was whole.
- foreign/test_database_20260223_020000: It is suspect and never chosen by itself: it has 5 collections where at least 218 are expected, and no log says that its dump finished.`
	require.EqualError(t, err, "no backup of battwheels can be chosen by itself; a person can name one of them:"+list)
	require.Len(t, choice.Candidates, 2, "the candidates are there for the incident's folder")

	_, err = w.Choose(w.list(), day("2026-02-20 00:00:00"), "")
	require.ErrorContains(t, err, "no backup of battwheels from before 2026-02-20 00:00 UTC can be chosen by itself; a person can name one of them:\n- ")

	_, err = w.Choose(w.list(), time.Time{}, "20260101T000000Z-manual-000000")
	require.EqualError(t, err, "backup 20260101T000000Z-manual-000000 of battwheels cannot be used: there is no backup of that name; name another one:"+list)
}

func TestALongListOfCandidatesIsCutInTheError(t *testing.T) {
	w := newWorld(t)
	w.MinCollections = 218
	for d := range 13 {
		w.mongodump(day("2026-02-01 02:00:00").AddDate(0, 0, d).Format("2006-01-02 15:04:05"), usual(3))
	}
	_, err := w.Choose(w.list(), time.Time{}, "")
	require.ErrorContains(t, err, "\n- foreign/test_database_20260204_020000: ")
	require.ErrorContains(t, err, "\n- and 3 older ones")
	require.NotContains(t, err.Error(), "test_database_20260203_020000:")
}

// The name of another tool's dump says when it began. Without a log, its files say how long documents were read.
func TestADumpThatWasStillRunningWhenTheDamageBeganIsNotChosen(t *testing.T) {
	w := newWorld(t)
	touch := func(id string, at time.Time) {
		require.NoError(t, filepath.WalkDir(w.dumped(id), func(path string, _ fs.DirEntry, err error) error {
			require.NoError(t, err)
			return os.Chtimes(path, at, at)
		}))
	}
	older := w.mongodump("2026-02-23 02:00:00", usual(10))
	touch(older, day("2026-02-25 09:00:00")) // it was copied here
	running := w.mongodump("2026-02-24 02:00:00", usual(10))
	touch(running, day("2026-02-24 02:30:00"))
	for before, want := range map[string]string{"2026-02-24 02:10:00": older, "2026-02-24 02:31:00": running} {
		choice, err := w.Choose(w.list(), day(before), "")
		require.NoError(t, err)
		require.Equal(t, want, choice.Entry.ID, before)
	}
}
