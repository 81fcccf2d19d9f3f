package dump

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/durable"
	"github.com/battwheels/runbook/internal/mongotest"
)

var corrupted = &mongotest.Error{Code: 8, Message: "cannot read this record"}

// withBadMark is true for documents that carry the mark "bad".
func withBadMark(doc bson.Raw) bool { return doc.Lookup("bad").Type != 0 }

// marked makes documents with the given _ids, the bad ones marked.
func marked(t *testing.T, ids []any, bad ...int) (all, good []bson.Raw) {
	for i, id := range ids {
		d := bson.D{{Key: "_id", Value: id}, {Key: "i", Value: i}}
		if slices.Contains(bad, i) {
			all = append(all, raw(t, append(d, bson.E{Key: "bad", Value: true})))
			continue
		}
		all = append(all, raw(t, d))
		good = append(good, raw(t, d))
	}
	return all, good
}

func ids(n int, f func(i int) any) []any {
	var all []any
	for i := range n {
		all = append(all, f(i))
	}
	return all
}

func TestSalvageLeavesOutExactlyWhatCannotBeRead(t *testing.T) {
	for name, row := range map[string]struct {
		ids []any
		bad []int
	}{
		"object ids, one in the middle":        {ids(1000, func(int) any { return bson.NewObjectID() }), []int{500}},
		"object ids, the first and the last":   {ids(1000, func(int) any { return bson.NewObjectID() }), []int{0, 999}},
		"object ids, a whole stretch":          {ids(400, func(int) any { return bson.NewObjectID() }), []int{100, 101, 102, 103, 104}},
		"numbers, spread":                      {ids(3000, func(i int) any { return i*7 - 5000 }), []int{0, 1, 999, 1500, 2999}},
		"numbers of several types":             {[]any{int32(-1), int64(1) << 40, 2.5, int32(3)}, []int{2}},
		"strings as the application makes":     {ids(500, func(i int) any { return fmt.Sprintf("inv_%08x", i*7919) }), []int{0, 250, 251, 499}},
		"long strings with a common beginning": {ids(300, func(i int) any { return strings.Repeat("p", 30) + fmt.Sprint(i) }), []int{77}},
		"uuids": {ids(300, func(i int) any {
			return bson.Binary{Subtype: 4, Data: []byte(fmt.Sprintf("%016x", i*104729))}
		}), []int{0, 150, 299}},
		"every type, some of each": {[]any{
			1, "text", bson.D{{Key: "a", Value: 1}}, bson.D{{Key: "a", Value: 2}}, bson.D{{Key: "a", Value: 3}}, bson.MinKey{}, nil, true, math.NaN(),
			bson.NewObjectID(), bson.Timestamp{T: 5}, "größe", "größer", bson.MaxKey{},
		}, []int{1, 3, 8}},
		"dates": {ids(300, func(i int) any { return bson.DateTime(i * 86_400_000) }), []int{3}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, db := inMemory(t)
			all, good := marked(t, row.ids, row.bad...)
			fill(t, db, "invoices", all...)
			other := fill(t, db, "contacts", numbered(t, 50)...)
			server.Fail(mongotest.Fault{Namespace: "shop.invoices", Document: withBadMark, Error: corrupted})

			o := opts(t)
			_, err := Run(t.Context(), db, o)
			require.ErrorAs(t, err, new(*UnreadableError), "an ordinary dump does not pass over damage")

			o.Name, o.Salvage = "emergency", true
			s := proven(t, db, o)
			requireSame(t, good, contents(t, s, "invoices"))
			requireSame(t, other, contents(t, s, "contacts"))
			said := 0
			for _, u := range s.Manifest.Unreadable {
				require.Equal(t, "invoices", u.Collection)
				require.NotEmpty(t, u.Range)
				said++
			}
			require.Equal(t, len(row.bad), said, "%v", s.Manifest.Unreadable)
		})
	}
}

func TestSalvageLeapsOverLongStretches(t *testing.T) {
	server, db := inMemory(t)
	var bad []int
	for i := range 300 {
		bad = append(bad, 200+i)
	}
	all, good := marked(t, ids(1000, func(int) any { return bson.NewObjectID() }), append(bad, 900)...)
	fill(t, db, "invoices", all...)
	armed := server.Fail(mongotest.Fault{Namespace: "shop.invoices", Document: withBadMark, Error: corrupted})
	o := opts(t)
	o.Salvage = true
	s := proven(t, db, o)
	requireSame(t, good, contents(t, s, "invoices"))
	require.LessOrEqual(t, len(s.Manifest.Unreadable), maxInARow+3)
	require.Less(t, armed.Struck(), 3000)
}

func TestSalvageOfACappedCollectionKeepsWhatComesFirst(t *testing.T) {
	server, db := inMemory(t)
	command(t, db, bson.D{{Key: "create", Value: "ring"}, {Key: "capped", Value: true}, {Key: "size", Value: 1 << 20}})
	all, good := marked(t, ids(50, func(i int) any { return i }), 40)
	fill(t, db, "ring", all...)
	server.Fail(mongotest.Fault{Namespace: "shop.ring", Document: withBadMark, Error: corrupted})
	o := opts(t)
	o.Salvage = true
	s := proven(t, db, o)
	require.Equal(t, good[:40], contents(t, s, "ring"))
	require.Len(t, s.Manifest.Unreadable, 1)
	require.Contains(t, s.Manifest.Unreadable[0].Error, "all after 40 documents")
}

func TestSalvageGoesOnWithoutACollectionThatCannotBeReadAtAll(t *testing.T) {
	server, db := inMemory(t)
	fill(t, db, "broken", numbered(t, 5)...)
	good := fill(t, db, "good", numbered(t, 5)...)
	server.Fail(mongotest.Fault{Command: "find", Namespace: "shop.broken", Error: corrupted})
	server.Fail(mongotest.Fault{Command: "listIndexes", Namespace: "shop.broken", Error: corrupted})
	o := opts(t)
	o.Salvage = true
	s := proven(t, db, o)
	requireSame(t, good, contents(t, s, "good"))
	require.NotEmpty(t, s.Manifest.Unreadable)
	for _, u := range s.Manifest.Unreadable {
		require.Equal(t, "broken", u.Collection)
		require.Contains(t, u.Error, "cannot read this record")
	}
}

func TestServerThatDiesOfOneDocumentIsSalvaged(t *testing.T) {
	server, db := inMemory(t)
	all, good := marked(t, ids(300, func(i int) any { return i }), 123)
	fill(t, db, "invoices", all...)
	// It dies of the document a few times, and then the record reads as an error: as after a repair on restart.
	server.Fail(mongotest.Fault{Namespace: "shop.invoices", Document: withBadMark, Drop: mongotest.DropBefore, Times: 9})
	server.Fail(mongotest.Fault{Namespace: "shop.invoices", Document: withBadMark, Error: corrupted})
	o := opts(t)
	o.Salvage = true
	s := proven(t, db, o)
	requireSame(t, good, contents(t, s, "invoices"))
	require.Len(t, s.Manifest.Unreadable, 1)
	require.Contains(t, s.Manifest.Unreadable[0].Range, "123")
}

// TestServerThatDiesAtEachUnreadableDocumentIsSalvaged has 20 unreadable documents in 100,000. The server
// breaks the connection whenever it comes to one of them.
func TestServerThatDiesAtEachUnreadableDocumentIsSalvaged(t *testing.T) {
	in1MB := surroundings{freeBytes: durable.FreeBytes, firstPause: time.Millisecond, splitting: splitting{above: 1 << 20, size: 1 << 20, probe: 1 << 20}}
	for name, row := range map[string]struct {
		documents int
		bad       []int
		around    surroundings
		all       bool // the others' connections break too, and the driver takes a second to find out that the server is back
	}{
		"ranges of many documents": {100_000, append([]int{0, 1, 2, 99_999}, 5000, 10_711, 16_422, 22_133, 27_844, 33_555, 39_266, 44_977, 50_688, 56_399, 62_110, 67_821, 73_532,
			79_243, 84_954, 90_665), in1MB, false},
		"one cursor, and everyone is cut off": {20_000, []int{0, 7001, 7002}, quick, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			byID, bad := ids(row.documents, func(int) any { return bson.NewObjectID() }), row.bad
			all, good := marked(t, byID, bad...)
			server, db := inMemory(t)
			fill(t, db, "invoices", all...)
			other := fill(t, db, "contacts", numbered(t, 2000)...)
			died := make(chan struct{}, 1)
			var deaths sync.WaitGroup
			deaths.Go(func() {
				for range died {
					server.DropConnections()
				}
			})
			armed := server.Fail(mongotest.Fault{Namespace: "shop.invoices", Record: true, Drop: mongotest.DropBefore, Document: func(doc bson.Raw) bool {
				if !withBadMark(doc) {
					return false
				}
				if row.all {
					select {
					case died <- struct{}{}:
					default:
					}
				}
				return true
			}})
			o := opts(t)
			o.Salvage = true
			s := provenIn(t, db, o, row.around)
			armed.Lift()
			close(died)
			deaths.Wait()
			t.Logf("the server died %d times", armed.Struck())
			requireSame(t, good, contents(t, s, "invoices"))
			requireSame(t, other, contents(t, s, "contacts"))
			named := map[string]bool{}
			for _, u := range s.Manifest.Unreadable {
				named[u.Range] = true
			}
			require.Len(t, named, len(bad), "%v", s.Manifest.Unreadable)
			for _, i := range bad {
				require.True(t, named[valueOf(t, byID[i]).String()], i)
			}
			if row.around.splitting != usualSplitting {
				require.Greater(t, len(s.Manifest.Collection("invoices").Ranges), 2)
			}
		})
	}
}

func TestNothingReadableIsAFailure(t *testing.T) {
	server, db := inMemory(t)
	fill(t, db, "invoices", numbered(t, 5)...)
	server.Fail(mongotest.Fault{Command: "find", Error: corrupted})
	o := opts(t)
	o.Salvage = true
	_, err := start(t.Context(), db, o, quick)
	require.ErrorAs(t, err, new(*NothingReadableError))
	require.NoDirExists(t, filepath.Join(o.Root, o.Name))

	server.Fail(mongotest.Fault{Command: "listCollections", Error: corrupted})
	_, err = Run(t.Context(), db, o)
	require.ErrorAs(t, err, new(*NothingReadableError))
}
