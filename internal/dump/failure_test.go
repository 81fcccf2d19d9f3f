package dump

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/mongotest"
)

func TestCollectionsDroppedUnderTheDumpAreNamed(t *testing.T) {
	for when, cmd := range map[string]string{"before its indexes are read": "listIndexes", "before its documents are read": "find", "in the middle": "getMore"} {
		t.Run(when, func(t *testing.T) {
			server, db := inMemory(t)
			fill(t, db, "kept", numbered(t, 10)...)
			fill(t, db, "victim", numbered(t, 10_000)...)
			drop := sync.OnceFunc(func() {
				if err := db.Collection("victim").Drop(context.Background()); err != nil {
					t.Error(err)
				}
			})
			server.OnCommand(func(_, name string, doc bson.Raw) {
				target, _ := doc.Lookup(name).StringValueOK()
				if more, ok := doc.Lookup("collection").StringValueOK(); ok {
					target = more
				}
				if name == cmd && target == "victim" {
					drop()
				}
			})
			s := proven(t, db, opts(t))
			require.Equal(t, []string{"kept"}, names(s.Manifest))
			require.Equal(t, []string{"victim"}, s.Manifest.Dropped)
		})
	}
}

func TestBrokenReadsAreCarriedOn(t *testing.T) {
	objectIDs := func(t testing.TB, n int) []bson.Raw {
		var docs []bson.Raw
		for i := range n {
			docs = append(docs, raw(t, bson.D{{Key: "_id", Value: bson.NewObjectID()}, {Key: "i", Value: i}}))
		}
		return docs
	}
	mixed := func(t testing.TB, n int) []bson.Raw {
		return append(numbered(t, n), raw(t, bson.D{{Key: "_id", Value: "other type"}}))
	}
	for name, row := range map[string]struct {
		docs  func(t testing.TB, n int) []bson.Raw
		fault mongotest.Fault
	}{
		"the connection breaks once":           {numbered, mongotest.Fault{Command: "getMore", Skip: 1, Times: 1, Drop: mongotest.DropBefore}},
		"the answer is lost":                   {numbered, mongotest.Fault{Command: "getMore", Skip: 1, Times: 1, Drop: mongotest.DropAfter}},
		"the server lost the cursor":           {numbered, mongotest.Fault{Command: "getMore", Skip: 2, Times: 1, Error: &mongotest.Error{Code: 43, Message: "cursor not found"}}},
		"the primary steps down":               {objectIDs, mongotest.Fault{Command: "find", Times: 1, Error: &mongotest.Error{Code: 10107, Message: "not primary"}}},
		"three cursors in a row are lost":      {objectIDs, mongotest.Fault{Command: "getMore", Skip: 2, Times: 3, Error: &mongotest.Error{Code: 43, Message: "cursor not found"}}},
		"ids of several types: from the start": {mixed, mongotest.Fault{Command: "getMore", Skip: 2, Times: 1, Drop: mongotest.DropBefore}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, db := inMemory(t)
			docs := fill(t, db, "invoices", row.docs(t, 20_000)...)
			armed := server.Fail(row.fault)
			s := proven(t, db, opts(t))
			require.Positive(t, armed.Struck())
			requireSame(t, docs, contents(t, s, "invoices"))
			require.Empty(t, s.Manifest.Unreadable)
		})
	}
}

func TestServerThatStaysAwayEndsTheDump(t *testing.T) {
	server, db := inMemory(t)
	fill(t, db, "invoices", numbered(t, 10)...)
	server.Fail(mongotest.Fault{Command: "find", Error: &mongotest.Error{Code: 91, Message: "shutting down"}})
	_, err := start(t.Context(), db, opts(t), quick)
	require.ErrorAs(t, err, new(*UnreadableError))
	require.ErrorContains(t, err, "invoices")
}

func TestReplicaSetIsReadAtOneMoment(t *testing.T) {
	server, db := inMemory(t, mongotest.WithReplicaSet("rs0"))
	want := fill(t, db, "a", numbered(t, 10)...)
	later := fill(t, db, "b", numbered(t, 10)...)
	var writes atomic.Int64
	client := server.Client(t).Database("shop").Collection("b")
	server.OnCommand(func(_, cmd string, doc bson.Raw) {
		if cmd == "find" && doc.Lookup("readConcern", "atClusterTime").Type != 0 {
			if _, err := client.InsertOne(context.Background(), bson.D{{Key: "_id", Value: fmt.Sprint("late", writes.Add(1))}}); err != nil {
				t.Error(err)
			}
		}
	})
	s := proven(t, db, opts(t))
	require.True(t, s.Manifest.Moment)
	require.NotEmpty(t, s.Manifest.ClusterTime)
	require.Equal(t, "replica set rs0", s.Manifest.Server.Topology)
	require.Positive(t, writes.Load())
	requireSame(t, want, contents(t, s, "a"))
	requireSame(t, later, contents(t, s, "b"))
}

func TestSnapshotThatExpiresIsSaid(t *testing.T) {
	server, db := inMemory(t, mongotest.WithReplicaSet("rs0"))
	docs := fill(t, db, "invoices", numbered(t, 20_000)...)
	var once sync.Once
	server.OnCommand(func(_, cmd string, _ bson.Raw) {
		if cmd == "listIndexes" {
			once.Do(server.ForgetSnapshots)
		}
	})
	s := proven(t, db, opts(t))
	require.False(t, s.Manifest.Moment)
	require.Empty(t, s.Manifest.ClusterTime)
	require.Len(t, s.Manifest.Notes, 1)
	require.Contains(t, s.Manifest.Notes[0], "minSnapshotHistoryWindowInSeconds")
	requireSame(t, docs, contents(t, s, "invoices"))
}

func TestChunksThatMoveEndTheMomentAndNotTheDump(t *testing.T) {
	for _, code := range []int32{codeStaleChunkHistory, codeMigrationConflict} {
		server, db := inMemory(t, mongotest.WithReplicaSet("rs0"))
		docs := fill(t, db, "invoices", numbered(t, 10)...)
		armed := server.Fail(mongotest.Fault{Command: "find", Error: &mongotest.Error{Code: code, Message: "the chunk has moved"},
			Match: func(find bson.Raw) bool { return find.Lookup("readConcern", "atClusterTime").Type != 0 }})
		s := proven(t, db, opts(t))
		require.Positive(t, armed.Struck())
		require.False(t, s.Manifest.Moment)
		requireSame(t, docs, contents(t, s, "invoices"))
	}
}

// Up to MongoDB 8.2 the roles of one database leave out the buckets of its time series.
func TestATimeSeriesThatMayNotBeReadNamesTheRole(t *testing.T) {
	server, db := inMemory(t)
	command(t, db, bson.D{{Key: "create", Value: "readings"}, {Key: "timeseries", Value: bson.D{{Key: "timeField", Value: "at"}}}})
	server.Fail(mongotest.Fault{Command: "find", Namespace: "shop.system.buckets.readings", Error: &mongotest.Error{Code: codeUnauthorized, Message: "not authorized on shop"}})
	_, err := start(t.Context(), db, opts(t), quick)
	require.ErrorAs(t, err, new(*UnreadableError))
	require.ErrorContains(t, err, "readAnyDatabase")
}

// A capped collection that is written to may overwrite what a cursor stands on.
func TestCappedCollectionThatOvertakesItsReaderIsReadAgain(t *testing.T) {
	server, db := inMemory(t)
	command(t, db, bson.D{{Key: "create", Value: "ring"}, {Key: "capped", Value: true}, {Key: "size", Value: 16 << 20}})
	docs := fill(t, db, "ring", numbered(t, 20_000)...)
	armed := server.Fail(mongotest.Fault{Command: "getMore", Skip: 1, Times: 1, Error: &mongotest.Error{Code: codeCappedPositionLost, Message: "CollectionScan died due to position in capped collection being deleted"}})
	s := proven(t, db, opts(t))
	require.Positive(t, armed.Struck())
	requireSame(t, docs, contents(t, s, "ring"))
}

// Before 8.0 a capped collection cannot be read at a moment: it is read as it is, which the manifest says.
func TestCappedCollectionsOfOlderReplicaSetsAreReadWithoutTheMoment(t *testing.T) {
	for version, moment := range map[string]bool{"7.0.20": false, "8.0.12": true} {
		_, db := inMemory(t, mongotest.WithReplicaSet("rs0"), mongotest.WithVersion(version))
		fill(t, db, "a", numbered(t, 10)...)
		command(t, db, bson.D{{Key: "create", Value: "ring"}, {Key: "capped", Value: true}, {Key: "size", Value: 1 << 20}})
		docs := fill(t, db, "ring", numbered(t, 10)...)
		s := proven(t, db, opts(t))
		require.Equal(t, docs, contents(t, s, "ring"))
		require.Equal(t, moment, s.Manifest.Moment, version)
		if !moment {
			require.Len(t, s.Manifest.Notes, 1)
			require.Contains(t, s.Manifest.Notes[0], "capped")
		}
	}
}

func TestDumpNeedsNoOptionalCommand(t *testing.T) {
	server, db := inMemory(t)
	for _, cmd := range []string{"buildInfo", "dbStats", "collStats", "serverStatus"} {
		server.Fail(mongotest.Fault{Command: cmd, Error: &mongotest.Error{Code: 59, Message: "no such command"}})
	}
	docs := fill(t, db, "invoices", numbered(t, 10)...)
	requireSame(t, docs, contents(t, proven(t, db, opts(t)), "invoices"))
}

func TestDocumentsThatAreNotBSONAreNamed(t *testing.T) {
	good := raw(t, bson.D{{Key: "_id", Value: 7}, {Key: "s", Value: "text"}})
	bad := slices.Clone(good)
	bad[len(bad)-11] = 99 // the string's length
	for _, salvage := range []bool{false, true} {
		r := &run{o: Options{Salvage: salvage, Level: 1}, work: t.TempDir()}
		var err error
		r.packers, err = newPackers(Options{Level: 1, Memory: leastMemory, Compression: Gzip})
		require.NoError(t, err)
		w, err := newWriter(t.Context(), r, "invoices", filepath.Join(r.work, "x"), filepath.Join(r.work, "index"), false)
		require.NoError(t, err)
		require.NoError(t, w.add(good))
		require.NoError(t, w.add(bad))
		_, _, err = w.finish()
		r.packers.close()
		if salvage {
			require.NoError(t, err)
			require.Equal(t, int64(1), w.digest.Documents)
			require.Len(t, w.bad, 1)
			require.Contains(t, w.bad[0].id, "7")
			continue
		}
		var unreadable *UnreadableError
		require.ErrorAs(t, err, &unreadable)
		require.Contains(t, unreadable.ID, "7")
	}
}

// A natural read sees a document twice that is deleted and written anew behind it; no collection takes both back. The dump reads
// again, in an order in which that cannot be.
func TestDocumentWrittenAnewMeanwhileIsInTheDumpOnce(t *testing.T) {
	for name, first := range map[string]any{"ids of one type": 0, "ids of many types": "a word"} {
		t.Run(name, func(t *testing.T) {
			server, db := inMemory(t)
			docs := numbered(t, 5000)
			docs[0] = raw(t, bson.D{{Key: "_id", Value: first}, {Key: "v", Value: "old"}})
			fill(t, db, "invoices", docs...)
			anew := raw(t, bson.D{{Key: "_id", Value: first}, {Key: "v", Value: "new"}})
			var once sync.Once
			server.OnCommand(func(_, cmd string, _ bson.Raw) {
				if cmd == "getMore" {
					once.Do(func() {
						_, err := db.Collection("invoices").DeleteOne(context.Background(), bson.D{{Key: "_id", Value: first}})
						assert.NoError(t, err)
						_, err = db.Collection("invoices").InsertOne(context.Background(), anew)
						assert.NoError(t, err)
					})
				}
			})
			s := proven(t, db, opts(t))
			require.EqualValues(t, 5000, s.Manifest.Documents())
			require.Contains(t, strings.Join(s.Manifest.Notes, "\n"), "came twice")
			requireSame(t, append(docs[1:], anew), contents(t, s, "invoices"))
		})
	}
}
