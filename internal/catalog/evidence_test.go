package catalog

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/battwheels/runbook/internal/backup"
)

// with is a shape in which some collections have other documents; of "X@N" the plain X goes.
func (s shape) with(changes shape) shape {
	all := maps.Clone(s)
	for name, n := range changes {
		for i := range name {
			if name[i] == '@' {
				delete(all, name[:i])
			}
		}
		all[name] = n
	}
	return all
}

// TestTheNewestBackupWithoutTheDamageIsChosen leaves a backup for each day, and says which one is taken by itself when nobody knows
// since when there is damage.
func TestTheNewestBackupWithoutTheDamageIsChosen(t *testing.T) {
	plain := usual(30).with(shape{"filler": 3000, "jobs": 50, "notes": 50, "tags": 50, "sessions": 80})
	o := EvidenceOptions{Key: []string{"invoices", "users"}, Volatile: []string{"sessions"}}
	for _, row := range []struct {
		name   string
		days   []shape
		chosen int    // index of the day
		why    string // of the evidence of the newest
	}{
		{"nothing happened", []shape{plain, plain, plain}, 2, "Its contents are like those of"},
		{"a collection that people know is gone", []shape{plain, plain, plain.without("invoices")}, 1, "it holds nothing of invoices."},
		{"a collection that people know is empty", []shape{plain, plain, plain.with(shape{"invoices": 0})}, 1, "it holds nothing of invoices."},
		{"it has lost a quarter", []shape{plain, plain, plain.with(shape{"invoices": 90})}, 1, "invoices has 90 of 120 documents left."},
		{"a few less are daily work", []shape{plain, plain, plain.with(shape{"invoices": 105})}, 2, "are like those"},
		{"damage that nobody saw for two days", []shape{plain, plain, plain.without("invoices"), plain.without("invoices")}, 1, "it holds nothing of invoices."},
		{"damage that nobody saw for long", append([]shape{plain, plain}, slices.Repeat([]shape{plain.without("invoices")}, 9)...), 1, "it holds nothing of invoices."},
		{"it was mended in between", []shape{plain, plain.without("invoices"), plain}, 2, "are like those"},
		{"one other collection was cleared out", []shape{plain, plain, plain.without("notes")}, 2, "it holds nothing of notes."},
		{"three at once were not", []shape{plain, plain, plain.without("notes", "jobs", "tags")}, 1, "it holds nothing of jobs, notes, tags."},
		{"sessions come and go", []shape{plain, plain, plain.without("sessions")}, 2, "are like those"},
		{"all invoices were changed at once", []shape{plain, plain, plain.with(shape{"invoices@1": 120})}, 1, "invoices had 120 of 120 documents changed."},
		{"they are every day", []shape{plain, plain.with(shape{"invoices@1": 120}), plain.with(shape{"invoices@22": 120})}, 2, "are like those"},
		{"how much is usual is not known", []shape{plain, plain.with(shape{"invoices@1": 120})}, 1, "are like those"},
		{"there is one only", []shape{plain}, 0, "no older one"},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t)
			var ids []string
			for i, s := range row.days {
				id := w.own(day("2026-02-10 02:00:00").AddDate(0, 0, i).Format(time.DateTime), backup.Scheduled, s)
				w.verify(id)
				ids = append(ids, id)
			}
			choice, err := w.Choose(w.list(), time.Time{}, "")
			require.NoError(t, err)
			require.Equal(t, ids[len(ids)-1], choice.Entry.ID, "the counts as a whole are not suspect")
			evidence, err := w.Evidence(t.Context(), choice.Candidates, o)
			require.NoError(t, err)
			require.Len(t, evidence, len(ids))
			require.Contains(t, evidence[0].Why, row.why)
			over := choice.Weigh(evidence)
			require.Equal(t, ids[row.chosen], choice.Entry.ID)
			require.Len(t, over, len(ids)-1-row.chosen)
			if len(over) > 0 {
				require.Contains(t, choice.Candidates[0].Why, "It may hold the damage.")
			}
		})
	}
}

// TestABackupThatAPersonAcceptedIsNotDoubted lets a person say that so many documents are as it should be.
func TestABackupThatAPersonAcceptedIsNotDoubted(t *testing.T) {
	w := newWorld(t)
	plain := usual(30).with(shape{"filler": 3000})
	w.verify(w.own("2026-02-20 02:00:00", backup.Scheduled, plain))
	newest := w.own("2026-02-21 02:00:00", backup.Scheduled, plain.without("invoices"))
	w.verify(newest)
	require.NoError(t, w.Accept(t.Context(), newest, "Asha: the invoices live elsewhere now"))
	choice, err := w.Choose(w.list(), time.Time{}, "")
	require.NoError(t, err)
	evidence, err := w.Evidence(t.Context(), choice.Candidates, EvidenceOptions{Key: []string{"invoices"}})
	require.NoError(t, err)
	require.Empty(t, choice.Weigh(evidence))
	require.Contains(t, evidence[0].Why, "Somebody has accepted it.")
}

// TestWhatTheManifestsTellStandsWithoutTheFiles damages a file of the older backup, so that not all can be compared: that the newer one
// lacks a collection is known all the same.
func TestWhatTheManifestsTellStandsWithoutTheFiles(t *testing.T) {
	w := newWorld(t)
	plain := usual(30).with(shape{"filler": 3000})
	old := w.own("2026-02-20 02:00:00", backup.Scheduled, plain)
	e := w.verify(old)
	w.verify(w.own("2026-02-21 02:00:00", backup.Scheduled, plain.without("invoices").with(shape{"users@1": 40})))
	path := filepath.Join(e.Data, backup.DataPath(w.Database, "users", backup.TypeCollection, true))
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	b[len(b)/2] ^= 1
	require.NoError(t, os.WriteFile(path, b, 0o600))
	choice, err := w.Choose(w.list(), time.Time{}, "")
	require.NoError(t, err)
	evidence, err := w.Evidence(t.Context(), choice.Candidates, EvidenceOptions{Key: []string{"invoices"}})
	require.NoError(t, err)
	require.True(t, evidence[0].Doubtful, evidence[0].Why)
	require.Contains(t, evidence[0].Why, "it holds nothing of invoices")
}

// TestABackupThatCannotBeReadIsLeftToTheCheck flips a byte of a file that the comparison reads: it says so, and doubts nothing.
func TestABackupThatCannotBeReadIsLeftToTheCheck(t *testing.T) {
	w := newWorld(t)
	plain := usual(30).with(shape{"filler": 3000})
	w.verify(w.own("2026-02-20 02:00:00", backup.Scheduled, plain))
	newest := w.own("2026-02-21 02:00:00", backup.Scheduled, plain.with(shape{"invoices@1": 120}))
	e := w.verify(newest)
	path := filepath.Join(e.Data, backup.DataPath(w.Database, "invoices", backup.TypeCollection, true))
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	b[len(b)/2] ^= 1
	require.NoError(t, os.WriteFile(path, b, 0o600))
	choice, err := w.Choose(w.list(), time.Time{}, "")
	require.NoError(t, err)
	evidence, err := w.Evidence(t.Context(), choice.Candidates, EvidenceOptions{Key: []string{"invoices"}})
	require.NoError(t, err)
	require.Contains(t, evidence[0].Why, "Not all of it could be compared")
	require.Empty(t, choice.Weigh(evidence))
}
