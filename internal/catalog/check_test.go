package catalog

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/config"
)

func (w *world) check() Findings {
	w.t.Helper()
	f, err := w.Check(w.t.Context(), now, config.Monitor{RPO: config.Duration(24 * time.Hour), MinCollections: w.MinCollections})
	require.NoError(w.t, err)
	require.Equal(w.t, len(f.Problems) == 0, f.Healthy)
	return f
}

func TestAllIsWell(t *testing.T) {
	w := newWorld(t)
	w.MinCollections = 10
	w.mongodump("2026-02-23 02:00:00", usual(10))
	w.mongodump("2026-02-24 02:00:00", usual(10))
	w.script(good("2026-02-23 02:00:00", 10), good("2026-02-24 02:00:00", 10))
	id := w.own("2026-02-24 01:30:00", backup.Scheduled, usual(10))
	w.verify(id)
	f := w.check()
	require.True(t, f.Healthy, "%v", f.Problems)
	require.Equal(t, id, f.Newest.ID)
	require.Equal(t, 4*time.Hour+30*time.Minute, f.Age)
}

func TestWhatTheMonitorFinds(t *testing.T) {
	for _, row := range []struct {
		name  string
		setup func(w *world)
		want  []string // code: text
	}{
		{"no backup at all", func(*world) {},
			[]string{"none: There is no backup of battwheels at all; make a backup now: runbook start Backup battwheels."}},
		{"no proven backup", func(w *world) { w.own("2026-02-24 02:00:00", backup.Scheduled, usual(3)) },
			[]string{"rpo: No backup of battwheels is proven; 20260224T020000Z-scheduled-3f9a2c is newer but was never verified: " +
				"runbook backups verify battwheels 20260224T020000Z-scheduled-3f9a2c."}},
		{"the newest proven backup is too old", func(w *world) { w.verify(w.own("2026-02-21 02:00:00", backup.Scheduled, usual(3))) },
			[]string{"rpo: The newest proven backup, 20260221T020000Z-scheduled-3f9a2c, is 3 days old, and 24 hours are allowed; " +
				"make a backup now: runbook start Backup battwheels."}},
		{"a writer of ours died", func(w *world) {
			fresh(w)
			w.unfinished("2026-02-24 02:00:00")
		}, []string{"half-written: Backup 20260224T020000Z-scheduled-3f9a2c.incomplete is half-written: its writer stopped before it was whole."}},
		{"a foreign dump is half-written", func(w *world) {
			fresh(w)
			require.NoError(w.t, os.Remove(filepath.Join(w.dumped(w.mongodump("2026-02-24 02:00:00", usual(3))), "users.bson.gz")))
		}, []string{"half-written: Backup foreign/test_database_20260224_020000 is half-written: users.metadata.json.gz has no documents beside it: " +
			"the dump was interrupted, or copied in part."}},
		{"an old one was half-written and told before", func(w *world) {
			fresh(w)
			w.unfinished("2026-02-20 02:00:00")
		}, nil},
		{"fewer collections than expected", func(w *world) {
			fresh(w)
			w.MinCollections = 3
			w.own("2026-02-24 02:00:00", backup.Scheduled, usual(3).without("users"))
		}, []string{"few-collections: Backup 20260224T020000Z-scheduled-3f9a2c cannot be trusted: it has 2 collections where at least 3 are expected."}},
		{"far fewer documents", func(w *world) {
			fresh(w)
			w.own("2026-02-24 02:00:00", backup.Scheduled, shape{"invoices": 1, "users": 1, "organizations": 1})
		}, []string{"few-documents: Backup 20260224T020000Z-scheduled-3f9a2c cannot be trusted: it holds 3 documents, " +
			"20260224T010000Z-manual-3f9a2c before it held 167."}},
		{"somewhat fewer documents", func(w *world) {
			fresh(w)
			w.own("2026-02-24 02:00:00", backup.Scheduled, shape{"invoices": 90, "users": 40, "organizations": 7})
		}, []string{"shrinking: Backup 20260224T020000Z-scheduled-3f9a2c holds 137 documents, 20260224T010000Z-manual-3f9a2c before it held 167: " +
			"make sure that somebody meant to delete them."}},
		{"a backup from the future", func(w *world) {
			fresh(w)
			w.mongodump("2026-02-25 02:00:00", usual(3))
		}, []string{"future: Backup foreign/test_database_20260225_020000 cannot be trusted: its time, 2026-02-25 02:00 UTC, lies in the future: " +
			"a clock or the configured time zone is wrong."}},
		{"an old backup is damaged", func(w *world) {
			fresh(w)
			id := w.own("2026-02-01 02:00:00", backup.Scheduled, usual(3))
			require.NoError(w.t, os.Remove(filepath.Join(w.Root, id, "test_database", "users.bson.gz")))
		}, []string{"damaged: Backup 20260201T020000Z-scheduled-3f9a2c cannot be trusted: its file test_database/users.bson.gz is missing."}},
		{"the directory of the script's dumps is gone", func(w *world) {
			fresh(w)
			require.NoError(w.t, os.RemoveAll(w.dir))
		}, []string{"unreadable: The directory of foreign backups cannot be looked into (DIR: no such file or directory); " +
			"if runbook has no right to read it, run the worker as a user who has."}},
		{"a run broke off without a word, and the next went well", func(w *world) {
			fresh(w)
			w.script("[2026-02-23 02:00:00] Starting MongoDB backup …", "2026-02-23T02:00:01.000+0000\tFailed: no space left on device",
				good("2026-02-24 02:00:00", 3))
		}, []string{"silent-run: The backup script's run of 2026-02-23 02:00 UTC ended without a word: it never said that it finished, nor that it failed; see LOG."}},
		{"last night's run broke off without a word", func(w *world) {
			fresh(w)
			w.script(good("2026-02-23 02:00:00", 3), "[2026-02-24 02:00:00] Starting MongoDB backup …")
		}, []string{"silent-run: The backup script began 4 hours ago and has not said yet that it finished or failed: see whether it still runs, and LOG."}},
		{"a run that began just now", func(w *world) {
			fresh(w)
			w.script(good("2026-02-23 06:00:00", 3), "[2026-02-24 05:30:00] Starting MongoDB backup …")
		}, nil},
		{"a run that failed", func(w *world) {
			fresh(w)
			w.script(good("2026-02-23 02:00:00", 3), "[2026-02-24 02:00:00] Starting MongoDB backup …", "[2026-02-24 02:00:05] ERROR: mongodump failed")
		}, []string{"failed-run: The backup script's run of 2026-02-24 02:00 UTC failed: ERROR: mongodump failed."}},
		{"a run that failed long ago", func(w *world) {
			fresh(w)
			w.script("[2026-02-12 02:00:00] Starting MongoDB backup …", "[2026-02-12 02:00:05] ERROR: mongodump failed", good("2026-02-24 02:00:00", 3))
		}, nil},
		{"the script does not run any more", func(w *world) {
			fresh(w)
			w.script(good("2026-02-20 02:00:00", 3))
		}, []string{"not-running: The backup script has not run for 4 days, says LOG: look at its cron entry."}},
		{"the log is gone", func(w *world) {
			fresh(w)
			w.Foreign[0].Log = w.log
		}, []string{"log: The backup script's log cannot be read (LOG: no such file or directory); the runs of the script cannot be watched."}},
		{"the log says nothing", func(w *world) {
			fresh(w)
			w.script("")
		}, []string{"log: The log LOG tells of no run of the backup script."}},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t)
			row.setup(w)
			var got []string
			for _, p := range w.check().Problems {
				got = append(got, p.Code+": "+strings.NewReplacer(w.log, "LOG", w.dir, "DIR").Replace(p.Text))
			}
			require.Equal(t, row.want, got)
		})
	}
}

// fresh is a backup with which nothing is wrong.
func fresh(w *world) { w.verify(w.own("2026-02-24 01:00:00", backup.Manual, usual(3))) }
