package restore

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"pgregory.net/rapid"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/mongotest"
)

func TestNames(t *testing.T) {
	require.Equal(t, "runbook.stage.1771902000000.invoices", StageName("battwheels", 1771902000000, "invoices"))
	require.Equal(t, "runbook.old.20260224T031200Z-3f9a2c.a.b", OldName("battwheels", "20260224T031200Z-3f9a2c", "a.b"))

	token, ok := stageToken("runbook.stage.17.a.b")
	require.True(t, ok)
	require.EqualValues(t, 17, token)
	for _, name := range []string{"runbook.stage.x.a", "runbook.stage.17", "runbook.stage.-1.a", "stage.17.a", "runbook.old.17.a"} {
		_, ok := stageToken(name)
		require.False(t, ok, name)
	}
	incident, ok := oldIncident("runbook.old.inc-1.a.b")
	require.True(t, ok)
	require.Equal(t, "inc-1", incident)
	incident, ok = oldIncident("runbook~old~inc-1~a")
	require.True(t, ok)
	require.Equal(t, "inc-1", incident)
	_, ok = oldIncident("runbook.older.inc-1.a")
	require.False(t, ok)

	for _, bad := range []string{"", "a.b", "a b", "-a", strings.Repeat("a", 81), "ä"} {
		require.Error(t, checkIncident(bad), bad)
	}
}

func TestLongNamesFitAndStayApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		database := rapid.StringMatching(`[a-z]{1,63}`).Draw(t, "database")
		a := rapid.StringN(1, 235, 235).Draw(t, "a")
		b := rapid.StringN(1, 235, 235).Draw(t, "b")
		long := func(s string) string { return strings.Repeat("x", 200) + s }
		mark := rapid.SampledFrom([]string{dot, tilde}).Draw(t, "mark")
		for _, pair := range [][2]string{{a, b}, {long(a), long(b)}} {
			n := naming{database, mark}
			x, y := n.stage(1771902000000, pair[0]), n.stage(1771902000000, pair[1])
			if token, ok := stageToken(x); !ok || token != 1771902000000 {
				t.Fatalf("%q has another token", x)
			}
			if len(database)+1+len(x) > maxNamespace || !utf8.ValidString(x) {
				t.Fatalf("%q does not fit", x)
			}
			if (x == y) != (pair[0] == pair[1]) {
				t.Fatalf("%q and %q", x, y)
			}
		}
	})
}

func TestCollectionsWithLongNamesAreRestored(t *testing.T) {
	onServers(t, func(t *testing.T, db *mongo.Database, _ *mongotest.Server) {
		long := strings.Repeat("é", (maxNamespace-1-len(db.Name()))/2)
		o, so := attempt(t, db, makeBackup(t, given{name: long, documents: []bson.Raw{doc(t, "_id", 1)}}), "r1")
		fill(t, db, given{name: long, documents: []bson.Raw{doc(t, "_id", 2)}})
		before := stateOf(t, db)
		stageAndProve(t, o)
		_, err := Swap(t.Context(), so)
		require.NoError(t, err)
		v, err := VerifyInPlace(t.Context(), o)
		require.NoError(t, err)
		require.Empty(t, v.Differences)
		_, err = RollBack(t.Context(), so)
		require.NoError(t, err)
		require.Equal(t, before, stateOf(t, db))
	})
}

func TestJournalForgetsAHalfWrittenLine(t *testing.T) {
	dir := t.TempDir()
	j, entries, err := openJournal[milestone](dir, stagedJournal)
	require.NoError(t, err)
	require.Empty(t, entries)
	require.NoError(t, j.add(milestone{Token: 1, Collection: "a"}))
	_, err = j.file.WriteString(`{"token":1,"collection":"hal`)
	require.NoError(t, err)
	require.NoError(t, j.close())

	j, entries, err = openJournal[milestone](dir, stagedJournal)
	require.NoError(t, err)
	require.Equal(t, []milestone{{Token: 1, Collection: "a"}}, entries)
	require.NoError(t, j.add(milestone{Token: 1, Collection: "b"}))
	require.NoError(t, j.close())
	j, entries, err = openJournal[milestone](dir, stagedJournal)
	require.NoError(t, err)
	require.Equal(t, []milestone{{Token: 1, Collection: "a"}, {Token: 1, Collection: "b"}}, entries)
	require.NoError(t, j.close())
}

func TestStageLeavesAloneWhatServersDoNotRename(t *testing.T) {
	db := mongotest.Start(t).Client(t).Database("d")
	list := append(ledger(t),
		given{name: "system.js", documents: []bson.Raw{doc(t, "_id", "f", "value", bson.JavaScript("function(){}"))}},
		given{name: "measurements", kind: backup.TypeTimeseries, options: doc(t, "timeseries", bson.D{{Key: "timeField", Value: "at"}})},
	)
	o, so := attempt(t, db, makeBackup(t, list...), "r1")
	s, err := Stage(t.Context(), o)
	require.NoError(t, err)
	var skipped []string
	for _, c := range s.Collections {
		if c.Skipped != "" {
			skipped = append(skipped, c.Name)
		}
	}
	require.Equal(t, []string{"measurements", "system.js"}, skipped)
	_, err = Prove(t.Context(), o)
	require.NoError(t, err)
	swapped, err := Swap(t.Context(), so)
	require.NoError(t, err)
	require.Len(t, swapped.Left, 2)
	v, err := VerifyInPlace(t.Context(), o)
	require.NoError(t, err)
	require.Empty(t, v.Differences)
	require.Len(t, v.Skipped, 2)
}
