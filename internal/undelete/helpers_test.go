package undelete

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.uber.org/goleak"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/internal/dump"
	"github.com/battwheels/runbook/internal/mongotest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// uriVariable names a real server on which the tests run as well. Each works in a database of its own, and drops it.
const uriVariable = "RUNBOOK_TEST_MONGODB_URI"

// onServers runs a test on the in-memory server and, where one is given, on a real one. srv is nil on the latter.
func onServers(t *testing.T, test func(t *testing.T, db *mongo.Database, srv *mongotest.Server)) {
	t.Run("in memory", func(t *testing.T) {
		srv := mongotest.Start(t)
		test(t, srv.Client(t).Database("test_database"), srv)
	})
	uri := os.Getenv(uriVariable)
	if uri == "" {
		return
	}
	t.Run("real server", func(t *testing.T) {
		client, err := mongo.Connect(options.Client().ApplyURI(uri).SetAppName("runbook"))
		require.NoError(t, err)
		var unique [6]byte
		_, err = rand.Read(unique[:])
		require.NoError(t, err)
		db := client.Database("runbook_test_" + hex.EncodeToString(unique[:]))
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			require.NoError(t, db.Drop(ctx))
			require.NoError(t, client.Disconnect(ctx))
		})
		test(t, db, nil)
	})
}

// doc makes a raw document of keys and values in turn.
func doc(t testing.TB, pairs ...any) bson.Raw {
	t.Helper()
	require.Zero(t, len(pairs)%2)
	d := bson.D{}
	for i := 0; i < len(pairs); i += 2 {
		d = append(d, bson.E{Key: pairs[i].(string), Value: pairs[i+1]})
	}
	b, err := bson.Marshal(d)
	require.NoError(t, err)
	return b
}

func put(t testing.TB, db *mongo.Database, collection string, docs ...bson.Raw) {
	t.Helper()
	_, err := db.Collection(collection).InsertMany(t.Context(), docs)
	require.NoError(t, err)
}

func remove(t testing.TB, db *mongo.Database, collection string, filter bson.D) {
	t.Helper()
	_, err := db.Collection(collection).DeleteMany(t.Context(), filter)
	require.NoError(t, err)
}

func run(t testing.TB, db *mongo.Database, command bson.D) {
	t.Helper()
	require.NoError(t, db.RunCommand(t.Context(), command).Err())
}

func where(pairs ...any) bson.D {
	d := bson.D{}
	for i := 0; i < len(pairs); i += 2 {
		d = append(d, bson.E{Key: pairs[i].(string), Value: pairs[i+1]})
	}
	return d
}

// take makes a backup of the database as it stands.
func take(t testing.TB, db *mongo.Database, name string) backup.Source {
	t.Helper()
	root := t.TempDir()
	m, err := dump.Run(t.Context(), db, dump.Options{Root: root, Name: name, Target: "battwheels", Tool: "test"})
	require.NoError(t, err)
	return backup.Source{Dir: root + "/" + name, Manifest: m}
}

// garageRules are those of the example, as far as the tests' garage goes.
func garageRules() config.Deletions {
	return config.Deletions{
		Keys: map[string]string{
			"invoices": "invoice_id", "contacts": "contact_id", "invoice_line_items": "line_item_id", "tickets": "ticket_id",
		},
		Volatile: []string{"sessions"},
		Dependants: []config.Dependant{
			{Collection: "invoice_line_items", Field: "invoice_id", Of: "invoices"},
			{Collection: "invoice_history", Field: "invoice_id", Of: "invoices"},
			{Collection: "line_taxes", Field: "line", Of: "invoice_line_items"},
		},
		References: []config.Reference{{Collection: "invoices", Field: "contact_id", To: "contacts"}},
		Counters: []config.Counter{{
			Collection: "sequences", Match: map[string]string{"organization_id": "{organization}", "kind": "INVOICE"},
			Value: "current_value", Of: "invoices", Number: "invoice_number", Pattern: `(\d+)\D*$`,
		}},
		Resources: map[string][]string{"invoice": {"invoices", "invoices_enhanced"}},
		Actions:   []string{"delete", "*.deleted", "*.removed"},
	}
}

func job(t testing.TB, db *mongo.Database, sources ...backup.Source) Job {
	t.Helper()
	return Job{DB: db, Sources: sources, Rules: garageRules(), Tenant: "organization_id", Dir: t.TempDir()}
}

// content is every document of a database by collection and _id, as hex.
type content map[string]map[string]string

func contentIn(t testing.TB, db *mongo.Database) content {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	names, err := db.ListCollectionNames(ctx, bson.D{})
	require.NoError(t, err)
	all := content{}
	for _, name := range names {
		all[name] = map[string]string{}
		cursor, err := db.Collection(name).Find(ctx, bson.D{})
		require.NoError(t, err)
		for cursor.Next(ctx) {
			all[name][cursor.Current.Lookup("_id").String()] = hex.EncodeToString(cursor.Current)
		}
		require.NoError(t, cursor.Err())
		require.NoError(t, cursor.Close(ctx))
	}
	return all
}

// garage fills a database: n invoices for each of three organizations, each with two lines and a line of history, and a
// contact for each ten.
func garage(t testing.TB, db *mongo.Database, n int) {
	t.Helper()
	put(t, db, "settings", doc(t, "_id", "version", "value", int32(3)))
	for _, org := range []string{"org_a", "org_b", "org_c"} {
		var invoices, lines, history, contacts []bson.Raw
		for i := range n {
			invoice, contact := fmt.Sprintf("inv_%s_%04d", org, i), fmt.Sprintf("ctc_%s_%04d", org, i/10)
			invoices = append(invoices, doc(t, "_id", bson.NewObjectID(), "invoice_id", invoice, "organization_id", org,
				"invoice_number", fmt.Sprintf("INV-%06d", i+1), "contact_id", contact, "total", float64(i)*1.5, "notes", nil,
				"created_at", bson.NewDateTimeFromTime(time.Now())))
			for l := range 2 {
				lines = append(lines, doc(t, "_id", bson.NewObjectID(), "line_item_id", fmt.Sprintf("%s_%d", invoice, l),
					"invoice_id", invoice, "organization_id", org, "quantity", int32(l+1), "rate", 99.5, "tags", bson.A{"a", int64(5)}))
			}
			history = append(history, doc(t, "_id", bson.NewObjectID(), "invoice_id", invoice, "organization_id", org,
				"action", "created", "timestamp", "2026-02-20T10:00:00.123000"))
			if i%10 == 0 {
				contacts = append(contacts, doc(t, "_id", bson.NewObjectID(), "contact_id", contact, "organization_id", org,
					"name", "a customer", "outstanding_receivable", 1500.0))
			}
		}
		put(t, db, "invoices", invoices...)
		put(t, db, "invoice_line_items", lines...)
		put(t, db, "invoice_history", history...)
		put(t, db, "contacts", contacts...)
		put(t, db, "sequences", doc(t, "_id", bson.NewObjectID(), "sequence_id", org+":INVOICE", "organization_id", org, "kind", "INVOICE",
			"current_value", int64(n)))
	}
	index(t, db, "invoices", "invoice_id_1", where("invoice_id", 1), "unique", true)
	index(t, db, "invoices", "number", where("organization_id", 1, "invoice_number", 1), "unique", true)
}

func index(t testing.TB, db *mongo.Database, collection, name string, key bson.D, more ...any) {
	t.Helper()
	spec := append(where("key", key, "name", name), where(more...)...)
	run(t, db, where("createIndexes", collection, "indexes", bson.A{spec}))
}

// deleteInvoice deletes an invoice as the application does: silently, with its lines and history.
func deleteInvoice(t testing.TB, db *mongo.Database, id string) {
	t.Helper()
	for _, c := range []string{"invoices", "invoice_line_items", "invoice_history"} {
		remove(t, db, c, where("invoice_id", id))
	}
}

// linesOf reads a list of the job's folder.
func linesOf[T any](t testing.TB, j Job, name string) []T {
	t.Helper()
	var all []T
	for v, err := range lines[T](j.Dir, name) {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		require.NoError(t, err)
		all = append(all, v)
	}
	return all
}

// found names the documents of a list by collection: by key, else by _id.
func found(t testing.TB, j Job, name string) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	for _, e := range linesOf[entry](t, j, name) {
		what := e.Key
		if what == "" {
			id, err := decodeID(e.ID)
			require.NoError(t, err)
			what, _ = text(id)
		}
		all[e.Collection] = append(all[e.Collection], what)
	}
	for _, list := range all {
		slices.Sort(list)
	}
	return all
}

// selectAll finds and selects what a filter gives.
func selectAll(t testing.TB, j Job, f Filter) Selection {
	t.Helper()
	_, err := j.Find(t.Context(), FindOptions{})
	require.NoError(t, err)
	s, err := j.Select(t.Context(), missingFile, f)
	require.NoError(t, err)
	return s
}

// serializable makes sure that a result goes through a workflow's history.
func serializable[T any](t testing.TB, v T) {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	require.Less(t, len(b), 32<<10)
	var again T
	require.NoError(t, json.Unmarshal(b, &again))
	twice, err := json.Marshal(again)
	require.NoError(t, err)
	require.JSONEq(t, string(b), string(twice))
}

func keys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
