package conformance_test

import (
	"bytes"
	"context"
	"os"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/conformance"
	"github.com/battwheels/runbook/internal/dump"
	"github.com/battwheels/runbook/internal/mongotest"
)

// mixed fills a collection whose _id has ten types, and one of another kind beside it.
func mixed(t *testing.T, db *mongo.Database) []bson.Raw {
	t.Helper()
	list := conformance.IDs(300)
	for _, name := range []string{"first", "mixed"} {
		for batch := range slices.Chunk(list, 1000) {
			_, err := db.Collection(name).InsertMany(t.Context(), batch)
			require.NoError(t, err)
		}
	}
	return list
}

func requireDumped(t *testing.T, want []bson.Raw, s backup.Source) {
	t.Helper()
	for _, name := range []string{"first", "mixed"} {
		var have []bson.Raw
		for d, err := range s.Documents(t.Context(), s.Manifest.Collection(name)) {
			require.NoError(t, err)
			have = append(have, bytes.Clone(d))
		}
		order := func(list []bson.Raw) []bson.Raw {
			list = slices.Clone(list)
			slices.SortFunc(list, func(a, b bson.Raw) int { return bytes.Compare(a, b) })
			return list
		}
		require.Len(t, have, len(want), name)
		require.Equal(t, order(want), order(have), name)
	}
}

// onEach runs a test on the server in memory, and on the one that the environment names.
func onEach(t *testing.T, test func(t *testing.T, s conformance.Server)) {
	t.Run("in memory", func(t *testing.T) { test(t, conformance.Server{URI: mongotest.Start(t).URI()}) })
	if uri := os.Getenv(conformance.URIVariable); uri != "" {
		t.Run("real server", func(t *testing.T) { test(t, conformance.Server{URI: uri}) })
	}
}

// A dump that is killed at any of its commands and begun again holds each document once, whatever the types of _id.
func TestTenTypesOfIDAreEqualAfterADumpThatWasKilled(t *testing.T) {
	onEach(t, func(t *testing.T, s conformance.Server) {
		db := conformance.NewDatabase(t, s.Connect(t))
		want := mixed(t, db)
		requireDumped(t, want, conformance.Dump(t, db, dump.Options{}))
		requireDumped(t, want, conformance.Dump(t, db, dump.Options{Salvage: true}))
		for n := int64(1); ; n++ {
			ctx, cancel := context.WithCancel(t.Context())
			var seen atomic.Int64
			dying, err := mongo.Connect(options.Client().ApplyURI(s.URI).SetMonitor(&event.CommandMonitor{
				Started: func(context.Context, *event.CommandStartedEvent) {
					if seen.Add(1) == n {
						cancel()
					}
				},
			}))
			require.NoError(t, err)
			o := dump.Options{Root: t.TempDir(), Name: "20260224T020000Z-manual-3f9a2c", Target: "battwheels", Tool: "conformance"}
			_, err = dump.Run(ctx, dying.Database(db.Name()), o)
			killed := ctx.Err() != nil
			cancel()
			require.NoError(t, dying.Disconnect(context.WithoutCancel(t.Context())))
			if !killed {
				require.NoError(t, err)
				require.Greater(t, n, int64(5))
				return
			}
			requireDumped(t, want, conformance.Dump(t, db, o))
		}
	})
}

// A server whose connection breaks in the middle of a collection, again and again, is read on, and gives each document once.
func TestTenTypesOfIDAreEqualAfterBrokenConnections(t *testing.T) {
	srv := mongotest.Start(t)
	db := srv.Client(t).Database("shop")
	want := mixed(t, db)
	for _, salvage := range []bool{false, true} {
		for skip := range 5 {
			armed := srv.Fail(mongotest.Fault{Command: "getMore", Skip: skip, Times: 2, Drop: mongotest.DropBefore})
			requireDumped(t, want, conformance.Dump(t, db, dump.Options{Salvage: salvage}))
			armed.Lift()
		}
	}
}

// Of a collection with ten types of _id, of each of which one document cannot be read, all others are kept, and each of
// these is named: by its _id where values of its type have a middle, else by the range that it lies in.
func TestTenTypesOfIDAreSalvaged(t *testing.T) {
	srv := mongotest.Start(t)
	db := srv.Client(t).Database("shop")
	want := mixed(t, db)
	unreadable := map[string]bool{}
	kinds := map[int32]int{}
	for _, d := range want {
		kind := d.Lookup("kind").Int32()
		if kinds[kind]++; kinds[kind] == 2 {
			unreadable[string(d)] = true
		}
	}
	require.Len(t, unreadable, 10)
	srv.Fail(mongotest.Fault{Namespace: "shop", Document: func(d bson.Raw) bool { return unreadable[string(d)] },
		Error: &mongotest.Error{Code: 8, Message: "cannot read this record"}})

	s := conformance.Dump(t, db, dump.Options{Salvage: true})
	requireDumped(t, slices.DeleteFunc(slices.Clone(want), func(d bson.Raw) bool { return unreadable[string(d)] }), s)
	named := map[string]int{}
	for _, u := range s.Manifest.Unreadable {
		require.Contains(t, u.Error, "cannot read this record")
		require.NotEmpty(t, u.Range)
		named[u.Collection]++
	}
	require.Equal(t, map[string]int{"first": 10, "mixed": 10}, named)
}
