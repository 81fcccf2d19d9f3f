package catalog

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/battwheels/runbook/internal/backup"
)

// What the log of the battwheels script says, and what follows for the dump of the 24th.
func TestTheLogDecidesWhetherADumpFinished(t *testing.T) {
	const at = "2026-02-24 02:00:00"
	const dir = "/var/backups/mongodb/test_database_20260224_020000"
	for _, row := range []struct {
		name  string
		log   []string
		doubt string // empty: trusted
	}{
		{"all went well", []string{good("2026-02-23 02:00:00", 10), good(at, 10)}, ""},
		{"set -e ended the script before its ERROR line", []string{
			good("2026-02-23 02:00:00", 10),
			"[2026-02-24 02:00:00] Starting MongoDB backup of test_database",
			"2026-02-24T02:00:00.500+0000\twriting test_database.invoices to " + dir + "/test_database/invoices.bson.gz",
			"2026-02-24T02:00:01.000+0000\tFailed: error writing data for collection `test_database.users` to disk: no space left on device",
		}, "the log does not say that the run that made it finished"},
		{"the same, with nothing of mongodump's in the log", []string{
			good("2026-02-23 02:00:00", 10),
			"[2026-02-24 02:00:01] Starting MongoDB backup …",
		}, "the log does not say that the run that made it finished"},
		{"the same, and a later run went well", []string{
			"[2026-02-24 02:00:00] Starting MongoDB backup …",
			good("2026-02-24 03:00:00", 10),
		}, "the log does not say that the run that made it finished"},
		{"the script said ERROR", []string{
			"[2026-02-24 02:00:00] Starting MongoDB backup …",
			"[2026-02-24 02:00:09] ERROR: mongodump failed for " + dir,
		}, "the log of its run says: ERROR: mongodump failed for " + dir},
		{"mongodump's words begin in the middle of the script's line, and the other way round", []string{
			"[2026-02-24 02:00:00] Starting MongoDB backup of test_database2026-02-24T02:00:00.123+0000\twriting test_database.invoices to " + dir,
			"2026-02-24T02:00:01.123+0000\tdone dumping test_datab[2026-02-24 02:00:02] Backup complete: " + dir + " (10 collection files)",
			"2026-02-24T02:00:01.123+0000\t[####....] 50%[2026-02-24 02:00:03] Backup job finished successfully",
		}, ""},
		{"the job broke off after the dump was complete", []string{
			"[2026-02-24 02:00:00] Starting MongoDB backup …",
			"[2026-02-24 02:00:02] Backup complete: " + dir + "/ (10 collection files)",
		}, "the log does not say that the run that made it finished"},
		{"files were lost since the script counted them", []string{
			"[2026-02-24 02:00:00] Starting MongoDB backup …",
			"[2026-02-24 02:00:02] Backup complete: " + dir + " (12 collection files)",
			"[2026-02-24 02:00:02] Backup job finished successfully",
		}, "its log counted 12 collection files, and there are 10 now"},
		{"a run that made another backup half a minute later", []string{
			good("2026-02-23 02:00:00", 10), good("2026-02-24 02:00:30", 10),
		}, "the log of the backup script knows no run that made it"},
		{"a later run that went well lists all backups", []string{
			good("2026-02-23 02:00:00", 10),
			"[2026-02-24 02:00:00] Starting MongoDB backup …",
			good("2026-02-25 02:00:00", 10),
			"1.2G\t" + dir,
		}, "the log does not say that the run that made it finished"},
		{"the log knows earlier runs and none for this dump", []string{good("2026-02-23 02:00:00", 10)},
			"the log of the backup script knows no run that made it"},
		{"the log was rotated and begins later", []string{good("2026-02-25 02:00:00", 10)}, ""},
		{"the log begins in the middle of the run", []string{
			"2026-02-24T02:00:01.000+0000\twriting test_database.users to " + dir + "/test_database/users.bson.gz",
			"[2026-02-24 02:00:02] Backup complete: " + dir + " (10 collection files)",
			"[2026-02-24 02:00:03] Backup job finished successfully",
		}, ""},
		{"the log is of something else", []string{"Feb 24 02:00:00 host CRON[1]: (root) CMD (backup)"}, ""},
		{"the log is empty", nil, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t)
			id := w.mongodump(at, usual(10))
			w.script(row.log...)
			e := w.entry(id)
			require.Equal(t, Complete, e.State)
			if row.doubt == "" {
				require.Empty(t, e.Suspect)
				require.Equal(t, id, w.chosen())
				return
			}
			require.Equal(t, []string{row.doubt}, e.Suspect)
			require.Equal(t, "It is suspect and never chosen by itself: "+row.doubt+".", e.Why)
			require.Empty(t, w.chosen())
			choice, err := w.Choose(w.list(), time.Time{}, id)
			require.NoError(t, err, "a person may know better than a log")
			require.Equal(t, id, choice.Entry.ID)
		})
	}
}

func TestALogThatWasRotatedYesterdayStillCounts(t *testing.T) {
	w := newWorld(t)
	whole := w.mongodump("2026-02-22 02:00:00", usual(10))
	half := w.mongodump("2026-02-23 02:00:00", usual(10))
	w.script(good("2026-02-24 02:00:00", 10))
	require.NoError(t, os.Rename(w.log, w.log+".1"))
	w.script("[2026-02-24 02:00:00] Starting MongoDB backup …")
	require.NoError(t, os.WriteFile(w.log+".1", []byte(good("2026-02-22 02:00:00", 10)+"\n[2026-02-23 02:00:00] Starting MongoDB backup …\n"), 0o640))
	require.Empty(t, w.entry(whole).Suspect)
	require.Equal(t, []string{"the log does not say that the run that made it finished"}, w.entry(half).Suspect)
}

func TestTheLogsTimesAreInTheScriptsZone(t *testing.T) {
	w := newWorld(t)
	w.Foreign[0].Zone = "Asia/Kolkata"
	id := w.mongodump("2026-02-24 02:00:00", usual(10))
	w.script("[2026-02-24 02:00:01] Starting MongoDB backup …", "[2026-02-24 02:10:00] Backup job finished successfully")
	e := w.entry(id)
	require.Empty(t, e.Suspect)
	require.Equal(t, day("2026-02-23 20:30:00"), e.Time)
	require.Equal(t, day("2026-02-23 20:40:00"), e.Finished.UTC(), "documents were read until the script ended")
}

// A dump that was killed between two collections: every file in it is whole. mongodump versions that write metadata collection by
// collection leave no trace inside.
func TestADumpKilledBetweenTwoCollectionsIsNeverChosen(t *testing.T) {
	for _, row := range []struct {
		name  string
		min   int
		setup func(w *world)
		lost  []string
		doubt string // PREV stands for the id of the dump before
	}{
		{"there are fewer than expected", 10, func(*world) {}, []string{"users"},
			"it has 9 collections where at least 10 are expected, and no log says that its dump finished"},
		{"its log has no end", 0, func(w *world) {
			w.script(good("2026-02-23 02:00:00", 10), "[2026-02-24 02:00:00] Starting MongoDB backup …")
		}, []string{"users"}, "the log does not say that the run that made it finished; it lacks users that PREV before it had, and no log says that its dump finished"},
		{"there is no log, and it lacks one that the dump before it had", 0, func(*world) {}, []string{"users"},
			"it lacks users that PREV before it had, and no log says that its dump finished"},
		{"there is no log, and it lacks far more", 0, func(*world) {}, []string{"users", "organizations", "invoices", "collection_003", "collection_004"},
			"it has 5 collections, PREV before it had 10"},
		{"its log ends well but counted more", 0, func(w *world) {
			w.script(good("2026-02-23 02:00:00", 10), good("2026-02-24 02:00:00", 10))
		}, []string{"users"}, "its log counted 10 collection files, and there are 9 now; it lacks users that PREV before it had, and no log says that its dump finished"},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t)
			sound := w.mongodump("2026-02-23 02:00:00", usual(10))
			killed := w.mongodump("2026-02-24 02:00:00", usual(10).without(row.lost...))
			w.MinCollections = row.min
			row.setup(w)
			require.Equal(t, sound, w.chosen())
			want := strings.ReplaceAll(row.doubt, "PREV", sound)
			require.Equal(t, want, strings.Join(w.entry(killed).Suspect, "; "))

			// Every document of it can be read, and it stays suspect all the same.
			e := w.verify(killed)
			require.Equal(t, Verified, e.State)
			require.Equal(t, want, strings.Join(e.Suspect, "; "))
			require.False(t, e.Proven())
			require.Equal(t, sound, w.chosen())
		})
	}
}

func TestTheOldestDumpIsComparedWithTheOneAfterIt(t *testing.T) {
	w := newWorld(t)
	first := w.mongodump("2026-02-22 02:00:00", usual(5))
	second := w.mongodump("2026-02-23 02:00:00", usual(10))
	require.Equal(t, []string{fmt.Sprintf("it has 5 collections, %s after it has 10, and no log says that its dump finished", second)}, w.entry(first).Suspect)
	require.Equal(t, second, w.chosen())
}

func TestAnApplicationMayDropAFewCollections(t *testing.T) {
	w := newWorld(t)
	w.mongodump("2026-02-22 02:00:00", usual(30))
	less := usual(30).without("collection_007")
	logged := w.mongodump("2026-02-23 02:00:00", less)
	w.script(good("2026-02-22 02:00:00", 30), good("2026-02-23 02:00:00", 29))
	require.Empty(t, w.entry(logged).Suspect, "its log says that it finished")

	w = newWorld(t)
	w.own("2026-02-22 02:00:00", backup.Scheduled, usual(30))
	ours := w.own("2026-02-23 02:00:00", backup.Scheduled, less)
	require.Empty(t, w.entry(ours).Suspect, "ours are whole or not there")
	foreign := w.mongodump("2026-02-24 02:00:00", less)
	require.Empty(t, w.entry(foreign).Suspect, "it is compared with the last one, whoever made it")
}

func TestSuspectsAreNotWhatOthersAreComparedWith(t *testing.T) {
	w := newWorld(t)
	sound := w.own("2026-02-20 02:00:00", backup.Scheduled, usual(30))
	for _, at := range []string{"2026-02-21 02:00:00", "2026-02-22 02:00:00", "2026-02-23 02:00:00"} {
		id := w.own(at, backup.Scheduled, usual(20))
		require.Equal(t, []string{"it has 20 collections, " + sound + " before it had 30"}, w.entry(id).Suspect)
		require.Equal(t, sound, w.chosen())
	}

	// A person says that the application was made smaller.
	last := w.list()[0].ID
	require.NoError(t, w.Accept(t.Context(), last, "asha@battwheels.example"))
	require.Empty(t, w.entry(last).Suspect)
	require.Equal(t, last, w.chosen())
	next := w.own("2026-02-24 02:00:00", backup.Scheduled, usual(20))
	require.Equal(t, next, w.chosen(), "it is compared with the accepted one")
}

func TestShrinkingContentIsSuspect(t *testing.T) {
	w := newWorld(t)
	sound := w.own("2026-02-22 02:00:00", backup.Scheduled, shape{"invoices": 1000, "users": 10})
	third := w.own("2026-02-23 02:00:00", backup.Scheduled, shape{"invoices": 690, "users": 10})
	require.Equal(t, []string{"it holds 700 documents, " + sound + " before it held 1010"}, w.entry(third).Suspect)
	require.Equal(t, sound, w.chosen())
	little := w.own("2026-02-24 02:00:00", backup.Scheduled, shape{"invoices": 800, "users": 10})
	require.Empty(t, w.entry(little).Suspect)

	w = newWorld(t)
	full := w.mongodump("2026-02-22 02:00:00", shape{"invoices": 3000, "users": 10})
	empty := w.mongodump("2026-02-23 02:00:00", shape{"invoices": 30, "users": 10})
	require.Regexp(t, `^it takes \d+\.\d kB on disk, `+full+` before it takes \d+\.\d kB$`, strings.Join(w.entry(empty).Suspect, "; "))
	require.Equal(t, full, w.chosen())
}

func TestBackupsMadeDuringAnIncidentAreNeverChosenNorComparedWith(t *testing.T) {
	w := newWorld(t)
	w.own("2026-02-22 02:00:00", backup.Scheduled, usual(30))
	sound := w.own("2026-02-23 02:00:00", backup.Scheduled, usual(30))
	during := w.own("2026-02-24 02:00:00", backup.Scheduled, usual(3))
	require.NoError(t, w.Mark(t.Context(), during, func(r *Record) { r.DuringIncident = "20260224T011200Z-corruption" }))
	emergency := w.own("2026-02-24 02:30:00", backup.Emergency, usual(2))
	safety := w.own("2026-02-24 02:40:00", backup.Safety, usual(2))
	require.Equal(t, sound, w.chosen())
	require.Equal(t, "It was made while the incident 20260224T011200Z-corruption was open, may hold its damage, and is never chosen by itself.", w.entry(during).Why)
	require.Equal(t, "It is what could still be read when an incident began, and is never chosen by itself.", w.entry(emergency).Why)
	require.Equal(t, "It is what stood in the database right before a restore replaced it, and is never chosen by itself.", w.entry(safety).Why)
	after := w.own("2026-02-24 04:00:00", backup.Scheduled, usual(30))
	require.Empty(t, w.entry(after).Suspect)
	require.Equal(t, after, w.chosen())
}

func TestASalvagedScheduledBackupIsSuspect(t *testing.T) {
	w := newWorld(t)
	id := w.own("2026-02-24 02:00:00", backup.Scheduled, usual(3))
	m, err := backup.ReadManifest(filepath.Join(w.Root, id))
	require.NoError(t, err)
	m.Unreadable = []backup.Unreadable{{Collection: "invoices", Error: "the server closed the connection"}}
	require.NoError(t, backup.WriteManifest(filepath.Join(w.Root, id), m))
	require.Equal(t, []string{"1 part could not be read when it was made"}, w.entry(id).Suspect)
}

// What a plain dump that was killed at its last collection leaves is told from a collection that is empty: by its neighbour, where
// no log tells. A packed empty file was finished by who wrote it.
func TestAFileThatWasOnlyJustOpenedIsDoubted(t *testing.T) {
	reopen := func(t *testing.T, folder, collection string, with []byte, ending string) {
		require.NoError(t, os.Remove(filepath.Join(folder, collection+".bson.gz")))
		require.NoError(t, os.WriteFile(filepath.Join(folder, collection+".bson"+ending), with, 0o640))
	}
	for name, row := range map[string]struct {
		collection string
		with       []byte
		ending     string
		doubt      []string
	}{
		"opened":              {"users", nil, "", []string{"users held documents in PREV before it and not one now, and no log says that its dump finished"}},
		"packed and finished": {"users", packed(t, nil), ".gz", nil},
		"empty before too":    {"collection_003", nil, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			before := w.mongodump("2026-02-23 02:00:00", usual(10))
			id := w.mongodump("2026-02-24 02:00:00", usual(10))
			reopen(t, w.dumped(id), row.collection, row.with, row.ending)
			for i := range row.doubt {
				row.doubt[i] = strings.ReplaceAll(row.doubt[i], "PREV", before)
			}
			require.Equal(t, row.doubt, w.entry(id).Suspect)
		})
	}
}
