package judge_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/battwheels/runbook/internal/mongotest"
	"github.com/battwheels/runbook/sandbox/damage"
	"github.com/battwheels/runbook/sandbox/document"
	"github.com/battwheels/runbook/sandbox/garage"
	"github.com/battwheels/runbook/sandbox/judge"
	"github.com/battwheels/runbook/sandbox/ledger"
	"github.com/battwheels/runbook/sandbox/seed"
	"github.com/battwheels/runbook/sandbox/traffic"
)

// copied is a database as a restore of these tests brings it back: a copy made through the driver, by code that is
// neither the product's nor the judge's.
type copied struct {
	window      ledger.Window
	collections []ledger.Described
	documents   map[string][]bson.Raw
}

func copyOf(t *testing.T, db *mongo.Database) copied {
	t.Helper()
	c := copied{window: ledger.Window{From: time.Now()}, documents: map[string][]bson.Raw{}}
	var err error
	c.collections, err = ledger.Describe(t.Context(), db)
	require.NoError(t, err)
	for _, d := range c.collections {
		for raw, err := range ledger.Documents(t.Context(), db, d.Name) {
			require.NoError(t, err)
			c.documents[d.Name] = append(c.documents[d.Name], slices.Clone(raw))
		}
	}
	c.window.To = time.Now()
	return c
}

// restore replaces the database by the copy.
func (c copied) restore(t *testing.T, db *mongo.Database) {
	t.Helper()
	require.NoError(t, db.Drop(t.Context()))
	for _, d := range c.collections {
		require.NoError(t, db.CreateCollection(t.Context(), d.Name))
		for _, x := range d.Indexes {
			if x.Name != "_id_" {
				var spec bson.D
				require.NoError(t, bson.Unmarshal(x.Spec, &spec))
				spec = slices.DeleteFunc(spec, func(e bson.E) bool { return e.Key == "v" }) // FerretDB v1 refuses it
				require.NoError(t, db.RunCommand(t.Context(), document.Of("createIndexes", d.Name, "indexes", bson.A{spec})).Err())
			}
		}
		if len(c.documents[d.Name]) > 0 {
			_, err := db.Collection(d.Name).InsertMany(t.Context(), c.documents[d.Name])
			require.NoError(t, err)
		}
	}
}

// merge brings back the entries that stood there before the restore and that the copy does not have.
func merge(t *testing.T, db *mongo.Database, name string, before []bson.Raw) {
	t.Helper()
	for _, raw := range before {
		_, err := db.Collection(name).InsertOne(t.Context(), raw)
		if !mongo.IsDuplicateKeyError(err) {
			require.NoError(t, err)
		}
	}
}

var audit = []string{"audit_logs", "audit_log"}

// TestAnIncident goes the whole way with a restore that the test itself makes: traffic before, during and after the
// backup, damage, restore; and then every lie that a restore could tell.
func TestAnIncident(t *testing.T) {
	uri, db := database(t)
	data := seed.Generate(seed.Options{Seed: 2, Scale: 0.1})
	require.NoError(t, data.Load(t.Context(), db, nil))
	book := ledger.New()
	require.NoError(t, book.Baseline(t.Context(), db))

	url, stop := serve(t, uri)
	var tenants []string
	for _, o := range data.Organizations[:12] {
		tenants = append(tenants, o.ID)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	users, err := traffic.Start(t.Context(), traffic.Config{URL: url, Secret: "s", Organizations: tenants, Rate: 400, Ledger: book})
	require.NoError(t, err)
	require.NoError(t, users.AwaitRequests(ctx, 150))
	backup := copyOf(t, db)
	require.NoError(t, users.AwaitRequests(ctx, 150))
	broken, err := damage.Do(ctx, db, damage.Options{}, book)
	require.NoError(t, err)
	require.Len(t, broken.Dropped, 4)
	require.NoError(t, users.AwaitRequests(ctx, 20))
	require.NoError(t, stop())
	require.NoError(t, users.AwaitAway(ctx))
	stats := users.Stop()
	require.Greater(t, stats.Documents, stats.Requests)
	safety := copyOf(t, db)

	backup.restore(t, db)
	for _, name := range audit {
		merge(t, db, name, safety.documents[name])
	}
	cut := ledger.Cut{Window: backup.window, Merged: audit}
	verdict := func() judge.Verdict {
		v, err := judge.Judge(t.Context(), db, book.Expect(cut))
		require.NoError(t, err)
		return v
	}
	truth := verdict()
	require.True(t, truth.Recovered, "%v", truth.Differences)
	require.Equal(t, len(backup.collections), truth.Collections)
	require.Greater(t, truth.Documents, 3000)
	require.Positive(t, truth.Lost.Created, "what was made after the backup is lost")
	require.Positive(t, truth.Lost.Changed)
	require.False(t, truth.Lost.Newest.Before(truth.Lost.Oldest))

	// What the backup's restore must not be mistaken for.
	t.Run("without the audit entries that are newer", func(t *testing.T) {
		backup.restore(t, db)
		v := verdict()
		require.False(t, v.Recovered)
		for _, d := range v.Differences {
			require.Contains(t, audit, d.Collection)
			require.Equal(t, judge.DocumentMissing, d.Kind)
		}
		cut := cut
		cut.Merged = nil
		v, err := judge.Judge(t.Context(), db, book.Expect(cut))
		require.NoError(t, err)
		require.True(t, v.Recovered, "where nothing is merged, they are not asked for: %v", v.Differences)
	})
	t.Run("the state at the end", func(t *testing.T) {
		safety.restore(t, db)
		v := verdict()
		require.False(t, v.Recovered)
		require.Greater(t, v.Differing, broken.Documents())
		details := map[string]bool{}
		for _, d := range v.Differences {
			details[d.Detail] = true
		}
		require.Contains(t, fmt.Sprint(details), "the damage is still in it")
	})

	backup.restore(t, db)
	for _, name := range audit {
		merge(t, db, name, safety.documents[name])
	}
	require.True(t, verdict().Recovered)
	for _, lie := range lies(db, backup) {
		t.Run(lie.name, func(t *testing.T) {
			undo := lie.tell(t)
			v := verdict()
			require.False(t, v.Recovered)
			require.Equal(t, 1, v.Differing, "%v", v.Differences)
			require.Equal(t, lie.want, v.Differences[0].Kind)
			require.NotEmpty(t, v.Differences[0].String())
			undo()
			v = verdict()
			require.True(t, v.Recovered, "%v", v.Differences)
		})
	}
	t.Run("a collection is gone", func(t *testing.T) {
		require.NoError(t, db.Collection("items").Drop(t.Context()))
		v := verdict()
		require.Equal(t, 1, v.Differing)
		require.Equal(t, judge.CollectionMissing, v.Differences[0].Kind)
	})
}

type lie struct {
	name string
	want judge.Kind
	tell func(t *testing.T) (undo func())
}

// lies are small: one thing that is not as it was.
func lies(db *mongo.Database, backup copied) []lie {
	items := db.Collection("items")
	// FerretDB v1 takes a replacement for none where only a number's type differs: so out, and in again.
	replace := func(t *testing.T, raw bson.Raw) {
		_, err := items.DeleteOne(t.Context(), bson.D{{Key: "_id", Value: raw.Lookup("_id")}})
		require.NoError(t, err)
		_, err = items.InsertOne(t.Context(), raw)
		require.NoError(t, err)
	}
	one := backup.documents["items"][3]
	changed := func(t *testing.T, change func(bson.D) bson.D) bson.Raw {
		var d bson.D
		require.NoError(t, bson.Unmarshal(one, &d))
		raw, err := bson.Marshal(change(d))
		require.NoError(t, err)
		return raw
	}
	return []lie{
		{"one character of one document", judge.DocumentDiffers, func(t *testing.T) func() {
			a, err := damage.Sabotage(t.Context(), db, "items")
			require.NoError(t, err)
			require.NotEmpty(t, a.Field)
			first := backup.documents["items"][0]
			return func() { replace(t, first) }
		}},
		{"two fields in another order", judge.DocumentDiffers, func(t *testing.T) func() {
			replace(t, changed(t, func(d bson.D) bson.D { d[2], d[3] = d[3], d[2]; return d }))
			return func() { replace(t, one) }
		}},
		{"a number of another type with the same value", judge.DocumentDiffers, func(t *testing.T) func() {
			replace(t, changed(t, func(d bson.D) bson.D {
				for i := range d {
					if n, ok := d[i].Value.(int32); ok {
						d[i].Value = int64(n)
					}
				}
				return d
			}))
			return func() { replace(t, one) }
		}},
		{"a document is missing", judge.DocumentMissing, func(t *testing.T) func() {
			_, err := items.DeleteOne(t.Context(), bson.D{{Key: "_id", Value: one.Lookup("_id")}})
			require.NoError(t, err)
			return func() { _, err := items.InsertOne(t.Context(), one); require.NoError(t, err) }
		}},
		{"a document too many", judge.DocumentUnexpected, func(t *testing.T) func() {
			_, err := db.Collection("error_codes").InsertOne(t.Context(), document.Of("_id", "E999", "code", "E999"))
			require.NoError(t, err)
			return func() {
				_, err := db.Collection("error_codes").DeleteOne(t.Context(), document.Of("_id", "E999"))
				require.NoError(t, err)
			}
		}},
		{"a collection too many", judge.CollectionUnexpected, func(t *testing.T) func() {
			require.NoError(t, db.CreateCollection(t.Context(), "leftover"))
			return func() { require.NoError(t, db.Collection("leftover").Drop(t.Context())) }
		}},
		{"an index is missing", judge.IndexMissing, func(t *testing.T) func() {
			require.NoError(t, items.Indexes().DropOne(t.Context(), "item_id_1"))
			return func() {
				_, err := items.Indexes().CreateOne(t.Context(), mongo.IndexModel{Keys: document.Of("item_id", int32(1)), Options: options.Index().SetUnique(true)})
				require.NoError(t, err)
			}
		}},
		{"an index is no longer unique", judge.IndexDiffers, func(t *testing.T) func() {
			require.NoError(t, items.Indexes().DropOne(t.Context(), "item_id_1"))
			_, err := items.Indexes().CreateOne(t.Context(), mongo.IndexModel{Keys: document.Of("item_id", int32(1))})
			require.NoError(t, err)
			return func() {
				require.NoError(t, items.Indexes().DropOne(t.Context(), "item_id_1"))
				_, err := items.Indexes().CreateOne(t.Context(), mongo.IndexModel{Keys: document.Of("item_id", int32(1)), Options: options.Index().SetUnique(true)})
				require.NoError(t, err)
			}
		}},
		{"an index too many", judge.IndexUnexpected, func(t *testing.T) func() {
			_, err := items.Indexes().CreateOne(t.Context(), mongo.IndexModel{Keys: document.Of("name", int32(1))})
			require.NoError(t, err)
			return func() { require.NoError(t, items.Indexes().DropOne(t.Context(), "name_1")) }
		}},
		{"an index over the same fields in another order", judge.IndexDiffers, func(t *testing.T) func() {
			const name = "organization_id_1_sku_1"
			require.NoError(t, items.Indexes().DropOne(t.Context(), name))
			_, err := items.Indexes().CreateOne(t.Context(), mongo.IndexModel{Keys: document.Of("sku", int32(1), "organization_id", int32(1)), Options: options.Index().SetName(name)})
			require.NoError(t, err)
			return func() {
				require.NoError(t, items.Indexes().DropOne(t.Context(), name))
				_, err := items.Indexes().CreateOne(t.Context(), mongo.IndexModel{Keys: document.Of("organization_id", int32(1), "sku", int32(1))})
				require.NoError(t, err)
			}
		}},
		{"the options are others", judge.OptionsDiffer, func(t *testing.T) func() {
			require.NoError(t, db.Collection("feature_flags").Drop(t.Context()))
			capped := options.CreateCollection().SetCapped(true).SetSizeInBytes(1 << 20)
			require.NoError(t, db.CreateCollection(t.Context(), "feature_flags", capped))
			fill := func() {
				if all := backup.documents["feature_flags"]; len(all) > 0 {
					_, err := db.Collection("feature_flags").InsertMany(t.Context(), all)
					require.NoError(t, err)
				}
			}
			fill()
			return func() {
				require.NoError(t, db.Collection("feature_flags").Drop(t.Context()))
				require.NoError(t, db.CreateCollection(t.Context(), "feature_flags"))
				fill()
			}
		}},
	}
}

func TestTheProductsOwnCollectionsAreNobodysBusiness(t *testing.T) {
	server := mongotest.Start(t)
	db := server.Client(t).Database("d")
	_, err := db.Collection("c").InsertOne(t.Context(), document.Of("_id", 1))
	require.NoError(t, err)
	book := ledger.New()
	require.NoError(t, book.Baseline(t.Context(), db))
	_, err = db.Collection("runbook.old.1.c").InsertOne(t.Context(), document.Of("_id", 1))
	require.NoError(t, err)
	v, err := judge.Judge(t.Context(), db, book.Expect(ledger.Cut{Window: ledger.Window{From: time.Now(), To: time.Now()}}))
	require.NoError(t, err)
	require.Equal(t, judge.Verdict{Recovered: true, Collections: 1, Documents: 1, Indexes: 1}, v)
}

func TestADatabaseThatCannotBeReadIsAnErrorAndNoVerdict(t *testing.T) {
	server := mongotest.Start(t)
	db := server.Client(t).Database("d")
	_, err := db.Collection("c").InsertOne(t.Context(), document.Of("_id", 1))
	require.NoError(t, err)
	server.Fail(mongotest.Fault{Command: "find", Namespace: "d.c", Error: &mongotest.Error{Code: 8, Message: "a page is damaged"}})
	_, err = judge.Judge(t.Context(), db, ledger.New().Expect(ledger.Cut{}))
	require.ErrorContains(t, err, "a page is damaged")
}

// database is an empty one: on the tests' own server, or on a real one that may be destroyed.
func database(t *testing.T) (uri string, db *mongo.Database) {
	t.Helper()
	const name = "battwheels"
	uri = os.Getenv("RUNBOOK_TEST_MONGODB_URI")
	if uri == "" {
		server := mongotest.Start(t)
		return server.URI(), server.Client(t).Database(name)
	}
	client, err := mongo.Connect(options.Client().ApplyURI(uri))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Disconnect(context.Background())) })
	require.NoError(t, client.Database(name).Drop(t.Context()))
	return uri, client.Database(name)
}

// serve runs the application until stop.
func serve(t *testing.T, uri string) (url string, stop func() error) {
	t.Helper()
	ready, ended := make(chan string, 1), make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	go func() {
		ended <- garage.Run(ctx, garage.Config{Listen: "127.0.0.1:0", MongoURI: uri, Database: "battwheels", Token: "s", Ready: func(a string) { ready <- a }})
	}()
	select {
	case a := <-ready:
		return "http://" + a, func() error { cancel(); return <-ended }
	case err := <-ended:
		t.Fatal(err)
		return "", nil
	}
}
