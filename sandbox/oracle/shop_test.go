package oracle

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/mongotest"
	"github.com/battwheels/runbook/sandbox/ferret"
)

// shop is the database that the round trips begin with.
const shop = "shop"

// server is one on which the round trips are made.
type server struct {
	name  string
	start func(t *testing.T) (uri string)
	// whole says that it keeps every option, type and index specification. FerretDB v1 knows few, and not the commands by
	// which mongorestore builds indexes.
	whole bool
}

var servers = []server{
	{name: "standalone", whole: true, start: func(t *testing.T) string { return mongotest.Start(t).URI() }},
	{name: "replica set", whole: true, start: func(t *testing.T) string {
		return mongotest.Start(t, mongotest.WithReplicaSet("rs0")).URI()
	}},
	{name: "FerretDB", start: startFerret},
}

func startFerret(t *testing.T) string {
	t.Helper()
	s, err := ferret.Start(t.Context(), ferret.Config{Dir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		require.NoError(t, s.Stop(ctx))
	})
	return s.URI()
}

func connect(t *testing.T, uri string) *mongo.Client {
	t.Helper()
	c, err := mongo.Connect(options.Client().ApplyURI(uri))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Disconnect(context.Background())) })
	return c
}

// fill opens a shop: what every server can hold, and on a whole one what is hard to carry over.
func fill(t *testing.T, db *mongo.Database, whole bool) {
	t.Helper()
	for _, name := range []string{"customers", "invoices/2026 €", "tickets"} {
		insert(t, db, name, 300)
	}
	create(t, db, "empty")
	index(t, db, "customers", bson.D{{Key: "organization_id", Value: 1}, {Key: "n", Value: -1}}, options.Index().SetUnique(true))
	index(t, db, "tickets", bson.D{{Key: "n", Value: 1}}, options.Index().SetName("by number"))
	if !whole {
		return
	}
	create(t, db, "open tickets", bson.E{Key: "viewOn", Value: "tickets"},
		bson.E{Key: "pipeline", Value: bson.A{bson.D{{Key: "$match", Value: bson.D{{Key: "n", Value: bson.D{{Key: "$gt", Value: 100}}}}}}}})
	create(t, db, "ring", bson.E{Key: "capped", Value: true}, bson.E{Key: "size", Value: 1 << 20}, bson.E{Key: "max", Value: 1000})
	insert(t, db, "ring", 40)
	create(t, db, "strict", bson.E{Key: "validator", Value: bson.D{{Key: "n", Value: bson.D{{Key: "$exists", Value: true}}}}},
		bson.E{Key: "validationLevel", Value: "strict"}, bson.E{Key: "validationAction", Value: "error"})
	insert(t, db, "strict", 10)
	insert(t, db, strings.Repeat("long", 50)+"ä/ö/ü", 3) // its files' names are shortened with a hash
	index(t, db, "customers", bson.D{{Key: "text", Value: 1}},
		options.Index().SetPartialFilterExpression(bson.D{{Key: "n", Value: bson.D{{Key: "$gt", Value: 5}}}}))
	index(t, db, "tickets", bson.D{{Key: "expires_at", Value: 1}}, options.Index().SetExpireAfterSeconds(3600).SetSparse(true))
	put(t, db, "types",
		bson.D{{Key: "_id", Value: bson.D{{Key: "b", Value: int64(1)}, {Key: "a", Value: 2.5}}}, {Key: "decimal", Value: bson.NewDecimal128(1, 2)},
			{Key: "min", Value: bson.MinKey{}}, {Key: "max", Value: bson.MaxKey{}}, {Key: "stamp", Value: bson.Timestamp{T: 7, I: 9}}},
		bson.D{{Key: "_id", Value: bson.ObjectID{1, 2, 3}}, {Key: "binary", Value: bson.Binary{Subtype: 4, Data: make([]byte, 16)}},
			{Key: "regex", Value: bson.Regex{Pattern: "^a", Options: "im"}}, {Key: "code", Value: bson.JavaScript("f()")},
			{Key: "nothing", Value: nil}, {Key: "list", Value: bson.A{int32(1), int64(1), 1.0, "1", true}}},
	)
}

// insert puts n documents of a garage into a collection.
func insert(t *testing.T, db *mongo.Database, collection string, n int) {
	t.Helper()
	list := make([]bson.D, n)
	for i := range list {
		list[i] = bson.D{
			{Key: "_id", Value: fmt.Sprintf("id_%05d", i)}, {Key: "organization_id", Value: fmt.Sprintf("org_%d", i%7)},
			{Key: "n", Value: int64(i)}, {Key: "at", Value: bson.DateTime(1771898400123 + i)},
			{Key: "text", Value: strings.Repeat("ä", i%50)}, {Key: "part", Value: bson.D{{Key: "paid", Value: i%2 == 0}, {Key: "total", Value: 0.1 * float64(i)}}},
		}
	}
	put(t, db, collection, list...)
}

func put(t *testing.T, db *mongo.Database, collection string, list ...bson.D) {
	t.Helper()
	_, err := db.Collection(collection).InsertMany(t.Context(), list)
	require.NoError(t, err)
}

func create(t *testing.T, db *mongo.Database, collection string, more ...bson.E) {
	t.Helper()
	require.NoError(t, db.RunCommand(t.Context(), append(bson.D{{Key: "create", Value: collection}}, more...)).Err())
}

func index(t *testing.T, db *mongo.Database, collection string, keys bson.D, o *options.IndexOptionsBuilder) {
	t.Helper()
	_, err := db.Collection(collection).Indexes().CreateOne(t.Context(), mongo.IndexModel{Keys: keys, Options: o})
	require.NoError(t, err)
}

// wreck damages a shop: a collection is gone, documents are garbage, one index is missing, and something is there that was not.
func wreck(t *testing.T, db *mongo.Database) {
	t.Helper()
	ctx := t.Context()
	require.NoError(t, db.Collection("tickets").Drop(ctx))
	_, err := db.Collection("customers").UpdateMany(ctx, bson.D{{Key: "n", Value: bson.D{{Key: "$lt", Value: 100}}}},
		bson.D{{Key: "$set", Value: bson.D{{Key: "text", Value: "garbage"}}}})
	require.NoError(t, err)
	_, err = db.Collection("invoices/2026 €").DeleteMany(ctx, bson.D{{Key: "n", Value: bson.D{{Key: "$gte", Value: 250}}}})
	require.NoError(t, err)
	require.NoError(t, db.Collection("customers").Indexes().DropOne(ctx, "organization_id_1_n_-1"))
	insert(t, db, "since then", 5)
}

// held is what a database holds of one collection or view.
type held struct {
	Type      string
	Options   string
	Indexes   []string
	Documents []string
}

// contents reads all that a database holds, through the driver alone; what is runbook's own is left out.
func contents(t *testing.T, db *mongo.Database) map[string]held {
	t.Helper()
	ctx := t.Context()
	all := map[string]held{}
	for _, c := range every(t)(db.ListCollections(ctx, bson.D{})) {
		name := c.Lookup("name").StringValue()
		if backup.Reserved(name) || strings.HasPrefix(name, "runbook~") || strings.HasPrefix(name, "system.") {
			continue
		}
		h := held{Type: c.Lookup("type").StringValue(), Options: c.Lookup("options").String()}
		if h.Type != "view" {
			for _, i := range every(t)(db.Collection(name).Indexes().List(ctx)) {
				h.Indexes = append(h.Indexes, i.String())
			}
			for _, d := range every(t)(db.Collection(name).Find(ctx, bson.D{})) {
				h.Documents = append(h.Documents, fmt.Sprintf("%s %x", d, sha256.Sum256(d)))
			}
			slices.Sort(h.Indexes)
			slices.Sort(h.Documents)
		}
		all[name] = h
	}
	return all
}

// every reads a cursor to its end.
func every(t *testing.T) func(*mongo.Cursor, error) []bson.Raw {
	return func(c *mongo.Cursor, err error) []bson.Raw {
		t.Helper()
		require.NoError(t, err)
		var list []bson.Raw
		require.NoError(t, c.All(context.WithoutCancel(t.Context()), &list))
		return list
	}
}

// documentsOnly leaves out options and indexes.
func documentsOnly(all map[string]held) map[string][]string {
	only := map[string][]string{}
	for name, h := range all {
		only[name] = h.Documents
	}
	return only
}

// fieldsInOrder orders the fields of each index specification by name: mongorestore sends all but the first few in any order.
// The order of an index's keys, which matters, stays.
func fieldsInOrder(t *testing.T, all map[string]held) map[string]held {
	t.Helper()
	for name, h := range all {
		for i, text := range h.Indexes {
			var spec bson.D
			require.NoError(t, bson.UnmarshalExtJSON([]byte(text), true, &spec))
			slices.SortFunc(spec, func(a, b bson.E) int { return strings.Compare(a.Key, b.Key) })
			ordered, err := bson.MarshalExtJSON(spec, true, false)
			require.NoError(t, err)
			h.Indexes[i] = string(ordered)
		}
		slices.Sort(h.Indexes)
		all[name] = h
	}
	return all
}

func count(all map[string]held) (documents int64) {
	for _, h := range all {
		documents += int64(len(h.Documents))
	}
	return documents
}
