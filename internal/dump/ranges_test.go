package dump

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/mongotest"
)

// tenTypes makes many documents with _ids of the types that collections really have, and a few of every other.
func tenTypes(t testing.TB, each int) []bson.Raw {
	var all []any
	for i := range each {
		all = append(all, bson.NewObjectID(), fmt.Sprintf("inv_%06d", i*7), int32(i-each/2), float64(i)+0.5, bson.NewDateTimeFromTime(time.Unix(int64(i)*1e6, 0)),
			bson.Binary{Subtype: 4, Data: fmt.Appendf(nil, "%016x", i*104729)}, bson.D{{Key: "a", Value: i}})
	}
	all = append(all, nil, true, false, bson.MinKey{}, bson.MaxKey{}, math.NaN(), math.Inf(1), math.Inf(-1), bson.Timestamp{T: 5}, bson.JavaScript("f()"),
		bson.CodeWithScope{Code: "f()", Scope: bson.D{}}, bson.Symbol("symbol"), "", bson.Binary{Data: []byte("x")}, int64(1)<<60)
	var docs []bson.Raw
	for i, id := range all {
		docs = append(docs, raw(t, bson.D{{Key: "_id", Value: id}, {Key: "text", Value: strings.Repeat("abc", i%40)}}))
	}
	return docs
}

func TestLargeCollectionIsReadInRangesThatHoldEachDocumentOnce(t *testing.T) {
	for name, row := range map[string]struct {
		docs  []bson.Raw
		order string
	}{
		"object ids": {func() (docs []bson.Raw) {
			for i := range 5000 {
				docs = append(docs, raw(t, bson.D{{Key: "_id", Value: bson.NewObjectID()}, {Key: "i", Value: i}}))
			}
			return docs
		}(), backup.OrderID},
		"numbers": {numbered(t, 3000), backup.OrderID},
		"numbers and not a number": {append(numbered(t, 3000), raw(t, bson.D{{Key: "_id", Value: math.NaN()}}),
			raw(t, bson.D{{Key: "_id", Value: math.Inf(-1)}})), backup.OrderRanges},
		"ids of all types": {tenTypes(t, 600), backup.OrderRanges},
	} {
		t.Run(name, func(t *testing.T) {
			db := database(t)
			fill(t, db, "large", row.docs...)
			s := provenIn(t, db, opts(t), fine)
			c := s.Manifest.Collection("large")
			got := contents(t, s, "large")
			requireSame(t, row.docs, got)
			require.Greater(t, len(c.Ranges), 2)
			require.Equal(t, row.order, c.Order)

			// Each range holds what the manifest says, both in the file and on the server.
			bounds, err := backup.BoundsOf(c.Ranges)
			require.NoError(t, err)
			for i, r := range c.Ranges {
				var inFile, onServer backup.Digest
				for _, doc := range got[:r.Digest.Documents] {
					inFile.Add(doc)
					require.True(t, within(bounds[i], doc.Lookup("_id")))
				}
				got = got[r.Digest.Documents:]
				require.Equal(t, r.Digest, inFile)
				cursor, err := db.Collection("large").Find(t.Context(), bounds[i].Filter(bson.RawValue{}))
				require.NoError(t, err)
				for cursor.Next(t.Context()) {
					onServer.Add(cursor.Current)
				}
				require.NoError(t, cursor.Err())
				require.Equal(t, r.Digest, onServer)
			}
		})
	}
}

func TestCollectionsThatHaveNoRangesAreReadByOneCursor(t *testing.T) {
	for name, create := range map[string]bson.D{
		"capped":           {{Key: "capped", Value: true}, {Key: "size", Value: 16 << 20}},
		"with a collation": {{Key: "collation", Value: bson.D{{Key: "locale", Value: "de"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			server, db := inMemory(t)
			command(t, db, append(bson.D{{Key: "create", Value: "large"}}, create...))
			docs := fill(t, db, "large", numbered(t, 3000)...)
			read := finds(server)
			s := provenIn(t, db, opts(t), fine)
			require.Equal(t, docs, contents(t, s, "large"), "as they lie")
			require.Empty(t, s.Manifest.Collection("large").Ranges)
			require.Equal(t, backup.OrderNatural, s.Manifest.Collection("large").Order)
			require.Equal(t, 1, read("large"))
		})
	}
}

func TestSmallCollectionsCostNoFurtherRoundTrip(t *testing.T) {
	server, db := inMemory(t)
	fill(t, db, "large", numbered(t, 3000)...)
	var mu sync.Mutex
	asked := map[string][]string{}
	for i := range 5 {
		fill(t, db, fmt.Sprint("small", i), numbered(t, 20)...)
	}
	server.OnCommand(func(_, cmd string, doc bson.Raw) {
		if name, ok := doc.Lookup(cmd).StringValueOK(); ok {
			mu.Lock()
			defer mu.Unlock()
			asked[name] = append(asked[name], cmd)
		}
	})
	s := provenIn(t, db, opts(t), fine)
	require.NotEmpty(t, s.Manifest.Collection("large").Ranges)
	for i := range 5 {
		require.Equal(t, []string{"listIndexes", "find"}, asked[fmt.Sprint("small", i)])
	}
}

func TestNextAttemptKeepsTheRangesThatTheDeadOneFinished(t *testing.T) {
	server, db := inMemory(t)
	docs := fill(t, db, "large", tenTypes(t, 600)...)
	o := opts(t)
	want := provenIn(t, db, o, fine).Manifest.Collection("large")
	bounds, err := backup.BoundsOf(want.Ranges)
	require.NoError(t, err)
	n := len(bounds)

	o.Name, o.Parallel = "again", 2
	broken := server.Fail(mongotest.Fault{Command: "find", Namespace: "shop.large", Match: func(cmd bson.Raw) bool {
		return cmd.Lookup("filter").Type != 0
	}, Skip: 7, Error: &mongotest.Error{Code: 8, Message: "disk"}})
	_, err = start(t.Context(), db, o, fine)
	require.ErrorAs(t, err, new(*UnreadableError))
	broken.Lift()
	server.Settle() // a find that the failure cancelled may not have been looked at yet
	// The index of a finished range was not flushed to disk when the machine lost its power.
	lost, err := filepath.Glob(filepath.Join(o.Root, o.Name+backup.IncompleteSuffix, partsDir, "large", "*.documents"))
	require.NoError(t, err)
	require.NoError(t, os.Truncate(lost[0], 20))
	require.NoError(t, os.Remove(lost[1]))

	var mu sync.Mutex
	var again []string
	server.OnCommand(func(_, cmd string, doc bson.Raw) {
		if cmd == "find" && doc.Lookup("filter").Type != 0 {
			mu.Lock()
			defer mu.Unlock()
			again = append(again, doc.Lookup("filter").String())
		}
	})
	s := provenIn(t, db, o, fine)
	c := s.Manifest.Collection("large")
	requireSame(t, docs, contents(t, s, "large"))
	require.Equal(t, want.Digest, c.Digest)
	require.LessOrEqual(t, len(again), n-7+o.Parallel, "seven were read")
	slices.Sort(again)
	require.Len(t, slices.Compact(again), len(again), "none is read twice")
}

func TestServerThatIgnoresFiltersIsFoundOut(t *testing.T) {
	d := &reading{bounds: backup.Bounds{From: valueOf(t, 100), To: valueOf(t, 200)}}
	for id, want := range map[any]error{int32(0): errFilterIgnored, int64(200): errFilterIgnored, 100: nil, 199: nil, "text": nil} {
		require.Equal(t, want, d.inside(func(bson.Raw) error { return nil })(raw(t, bson.D{{Key: "_id", Value: id}})), id)
	}
}

func TestPlanThatCannotBeFollowedIsDropped(t *testing.T) {
	_, db := inMemory(t)
	docs := fill(t, db, "large", numbered(t, 3000)...)
	o := opts(t)
	folder := filepath.Join(o.Root, o.Name+backup.IncompleteSuffix, partsDir, "large")
	require.NoError(t, os.MkdirAll(folder, 0o755))
	uuid := listed(t, db, "large").uuid
	require.NoError(t, writeJSON(filepath.Join(folder, planFile), plan{UUID: uuid, File: "large.bson.gz", Ranges: []backup.Range{{Others: true}}}))
	s := provenIn(t, db, o, fine)
	requireSame(t, docs, contents(t, s, "large"))
	require.Empty(t, s.Manifest.Collection("large").Ranges)
}

func listed(t *testing.T, db *mongo.Database, collection string) listing {
	t.Helper()
	r := &run{db: db, patience: newPatience(firstPause)}
	all, err := r.list(t.Context())
	require.NoError(t, err)
	i := slices.IndexFunc(all.collections, func(l listing) bool { return l.name == collection })
	return all.collections[i]
}
