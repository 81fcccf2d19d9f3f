package workflows

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/battwheels/runbook/activities"
	"github.com/battwheels/runbook/internal/config"
)

// TestABackupThatMayHoldTheDamageIsSaidInThePlan passes over a newer backup: the plan says why, shows what there is to choose from, and
// no policy approves it.
func TestABackupThatMayHoldTheDamageIsSaidInThePlan(t *testing.T) {
	w := newWorld(t)
	w.snap.AutoApprove = &config.AutoApprove{MaxMissing: 1000, MaxChanged: 1000}
	w.passedOver = []string{"20260224T020000Z may hold the damage, too: Since 20260223T020000Z, it holds nothing of invoices."}
	w.candidates = []activities.Weighed{
		{ID: "20260224T020000Z", Documents: 900, Doubtful: true, Why: "Since 20260223T020000Z, it holds nothing of invoices."},
		{ID: "newest", Documents: 1000, Why: "Its contents are like those of older."},
	}
	w.at(time.Hour, func() {
		s := w.status()
		require.NotEmpty(t, s.Asked, "the policy would have let it through")
		text := plain(s)
		require.Contains(t, text, "❗ 20260224T020000Z may hold the damage, too")
		require.Contains(t, text, "| 20260224T020000Z |")
		require.Contains(t, text, "| newest |")
		require.LessOrEqual(t, len(s.Markdown()), detailsLimit)
		w.says(DoorApprove, Answer{Plan: w.plan.Code}, "")
	})
	r := w.restore(RestoreInput{})
	require.Equal(t, Recovered, r.Outcome)
	require.Equal(t, "Asha", r.ApprovedBy)
	require.Len(t, r.Warnings, 1)
}

// TestABackupOnWhichAQueryDoesNotHold goes through what becomes of it: the next one is taken; where none is left, or a person named it,
// it is taken with a warning.
func TestABackupOnWhichAQueryDoesNotHold(t *testing.T) {
	wrong := []string{"invoices without a number: 12 documents, where at most 0 are expected"}
	for _, row := range []struct {
		name    string
		unsound map[string][]string
		in      RestoreInput
		backup  string
		warns   []string
		proofs  int
	}{
		{"all hold", nil, RestoreInput{}, "newest", nil, 1},
		{"the next one is taken", map[string][]string{"newest": wrong}, RestoreInput{}, "older",
			[]string{"newest does not look sound: " + wrong[0] + ". It was passed over."}, 2},
		{"none is sound", map[string][]string{"newest": wrong, "older": wrong}, RestoreInput{}, "newest",
			[]string{"newest does not look sound: " + wrong[0] + ".", "older does not look sound", "No backup passes the queries"}, 3},
		{"a person named it", map[string][]string{"newest": wrong}, RestoreInput{Backup: "newest"}, "newest", []string{"newest does not look sound"}, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t)
			w.snap.Queries, w.unsound = true, row.unsound
			w.snap.AutoApprove = &config.AutoApprove{MaxMissing: 1000, MaxChanged: 1000}
			doubted := len(row.warns) > 0
			w.at(time.Hour, func() {
				require.Equal(t, !doubted, w.ran("SwapCollections"), "no policy approves a backup that does not look sound, nor one for which a newer one was left out")
				if doubted {
					w.says(DoorApprove, Answer{Plan: w.plan.Code}, "")
				}
			})
			r := w.restore(row.in)
			require.Equal(t, Recovered, r.Outcome)
			require.Equal(t, row.backup, r.Backup.ID)
			require.Len(t, r.Warnings, len(row.warns), "%q", r.Warnings)
			for i, want := range row.warns {
				require.Contains(t, r.Warnings[i], want)
			}
			require.Equal(t, row.proofs, w.count["ProveStaging"])
			require.Equal(t, row.proofs-1, w.count["RemoveStaging"], "what was passed over is not left behind")
		})
	}
}

// TestAQueryThatCannotBeAskedStopsNothing proves that a filter which the server does not take costs no recovery: a person is told, and
// no policy approves.
func TestAQueryThatCannotBeAskedStopsNothing(t *testing.T) {
	w := newWorld(t)
	w.snap.Queries, w.unasked = true, []string{"garbage (unknown operator $nope)"}
	w.snap.AutoApprove = &config.AutoApprove{MaxMissing: 1000, MaxChanged: 1000}
	w.at(time.Hour, func() {
		require.False(t, w.ran("SwapCollections"))
		w.says(DoorApprove, Answer{Plan: w.plan.Code}, "")
	})
	r := w.restore(RestoreInput{})
	require.Equal(t, Recovered, r.Outcome)
	require.Equal(t, "newest", r.Backup.ID)
	require.Len(t, r.Warnings, 1)
	require.Contains(t, r.Warnings[0], "could not be asked of the staged copy: garbage (unknown operator $nope)")
}

// TestWhoWantsAnotherBackupThanTheUnsoundOneGetsNone proves that a person who passes the last resort over is asked, and not given it again.
func TestWhoWantsAnotherBackupThanTheUnsoundOneGetsNone(t *testing.T) {
	w := newWorld(t)
	wrong := []string{"garbage: 1 document, where at most 0 are expected"}
	w.snap.Queries, w.unsound = true, map[string][]string{"newest": wrong, "older": wrong}
	w.fail["DrawPlan"] = once(final(activities.NoSpace, "the plan cannot be kept"))
	w.at(time.Minute, func() { w.says(DoorDecide, Answer{Choice: OtherBackup}, "") })
	w.at(2*time.Minute, func() { w.says(DoorApprove, Answer{Plan: w.plan.Code}, "") })
	r := w.restore(RestoreInput{})
	require.Equal(t, Recovered, r.Outcome)
	require.Equal(t, "older", r.Backup.ID)
}

func TestQueriesAreAskedOnlyWhereThereAreAny(t *testing.T) {
	w := newWorld(t)
	w.approves()
	require.Equal(t, Recovered, w.restore(RestoreInput{}).Outcome)
	require.False(t, w.ran("QueryStaging"))
}

// plain is what people are shown, without what sets the cells of tables apart.
func plain(s Status) string { return strings.ReplaceAll(s.Markdown(), "\u00a0", "") }
