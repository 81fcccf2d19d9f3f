package restore

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/dump"
	"github.com/battwheels/runbook/internal/mongotest"
)

func dumped(t testing.TB, db *mongo.Database) backup.Source {
	t.Helper()
	root := t.TempDir()
	m, err := dump.Run(t.Context(), db, dump.Options{
		Root: root, Name: "20260224T020000Z-manual-3f9a2c", Target: "battwheels", Kind: backup.Manual, Level: 1, Parallel: 4, Tool: "test",
	})
	require.NoError(t, err)
	return backup.Source{Dir: filepath.Join(root, m.Name), Manifest: m}
}

func TestWhatWasDumpedIsRestored(t *testing.T) {
	onServers(t, func(t *testing.T, db *mongo.Database, srv *mongotest.Server) {
		list := backupFor(t, !small(t, db))
		o, so := attempt(t, db, makeBackup(t, list...), "r1")
		stageAndProve(t, o)
		_, err := Swap(t.Context(), so)
		require.NoError(t, err)
		want := stateOf(t, db)

		source := dumped(t, db)
		_, err = db.Collection("customers").DeleteMany(t.Context(), bson.D{{Key: "n", Value: bson.D{{Key: "$lt", Value: 1000}}}})
		require.NoError(t, err)
		require.NoError(t, db.Collection("invoices").Drop(t.Context()))

		o, so = attempt(t, db, source, "r2")
		so.Incident = "inc2"
		stageAndProve(t, o)
		_, err = Swap(t.Context(), so)
		require.NoError(t, err)
		require.Equal(t, want, stateOf(t, db))
		v, err := VerifyInPlace(t.Context(), o)
		require.NoError(t, err)
		require.Empty(t, v.Differences)
	})
}

// BenchmarkStage loads, and proves, a backup of 64 MiB.
func BenchmarkStage(b *testing.B) {
	srv, err := mongotest.New()
	require.NoError(b, err)
	defer func() { require.NoError(b, srv.Close()) }()
	client := srv.Client(b)
	origin := client.Database("origin")
	for c := range 8 {
		var docs []any
		for i := range 8 << 10 {
			docs = append(docs, bson.D{{Key: "_id", Value: i}, {Key: "organization_id", Value: fmt.Sprintf("org_%d", i%97)}, {Key: "text", Value: fmt.Sprintf("%0900d", i*i)}})
		}
		_, err := origin.Collection(fmt.Sprintf("c%d", c)).InsertMany(b.Context(), docs)
		require.NoError(b, err)
	}
	source := dumped(b, origin)
	db := client.Database("target")
	b.SetBytes(source.Manifest.Bytes())
	b.ResetTimer()
	for n := 0; b.Loop(); n++ {
		o, _ := attempt(b, db, source, fmt.Sprint(n))
		stageAndProve(b, o)
	}
	b.StopTimer()
	require.NoError(b, db.Drop(context.Background()))
}
