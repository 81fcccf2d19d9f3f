package dump

import (
	"bytes"
	"context"
	"encoding/json"
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
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/durable"
	"github.com/battwheels/runbook/internal/mongotest"
)

// database is an empty one: of the server that the environment names, or of one in memory.
func database(t testing.TB) *mongo.Database {
	t.Helper()
	uri := os.Getenv("RUNBOOK_TEST_MONGODB_URI")
	if uri == "" {
		return mongotest.Start(t).Client(t).Database("shop")
	}
	client, err := mongo.Connect(options.Client().ApplyURI(uri))
	require.NoError(t, err)
	db := client.Database("runbook_test_" + bson.NewObjectID().Hex())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, db.Drop(ctx))
		require.NoError(t, client.Disconnect(ctx))
	})
	return db
}

// inMemory is for tests that make the server fail.
func inMemory(t testing.TB, opts ...mongotest.Option) (*mongotest.Server, *mongo.Database) {
	t.Helper()
	s := mongotest.Start(t, opts...)
	return s, s.Client(t).Database("shop")
}

// quick does not wait long for a server that never comes back.
var quick = surroundings{freeBytes: durable.FreeBytes, firstPause: time.Millisecond, splitting: usualSplitting}

// fine reads everything but the smallest collections in ranges.
var fine = surroundings{freeBytes: durable.FreeBytes, firstPause: time.Millisecond, splitting: splitting{above: 40 << 10, size: 20 << 10, probe: 2 << 10}}

func withFree(n int64) surroundings {
	return surroundings{freeBytes: func(string) (int64, error) { return n, nil }, firstPause: firstPause, splitting: usualSplitting}
}

func raw(t testing.TB, v any) bson.Raw {
	t.Helper()
	b, err := bson.Marshal(v)
	require.NoError(t, err)
	return b
}

func fill(t testing.TB, db *mongo.Database, collection string, docs ...bson.Raw) []bson.Raw {
	t.Helper()
	for batch := range slices.Chunk(docs, 1000) {
		_, err := db.Collection(collection).InsertMany(t.Context(), batch)
		require.NoError(t, err)
	}
	return docs
}

func numbered(t testing.TB, n int) []bson.Raw {
	t.Helper()
	var docs []bson.Raw
	for i := range n {
		docs = append(docs, raw(t, bson.D{{Key: "_id", Value: i}, {Key: "text", Value: strings.Repeat("abc", i%90)}}))
	}
	return docs
}

func command(t testing.TB, db *mongo.Database, cmd bson.D) {
	t.Helper()
	require.NoError(t, db.RunCommand(t.Context(), cmd).Err())
}

func opts(t testing.TB) Options {
	t.Helper()
	return Options{Root: t.TempDir(), Name: "20260224T020000Z-manual-3f9a2c", Target: "battwheels", Tool: "runbook test"}
}

// proven runs a dump, checks it as every reader does, and returns it.
func proven(t testing.TB, db *mongo.Database, o Options) backup.Source {
	t.Helper()
	return provenIn(t, db, o, surroundings{freeBytes: durable.FreeBytes, firstPause: firstPause, splitting: usualSplitting})
}

func provenIn(t testing.TB, db *mongo.Database, o Options, around surroundings) backup.Source {
	t.Helper()
	m, err := start(t.Context(), db, o, around)
	require.NoError(t, err)
	return reread(t, o, m)
}

func reread(t testing.TB, o Options, m *backup.Manifest) backup.Source {
	t.Helper()
	dir := filepath.Join(o.Root, o.Name)
	again, err := backup.ReadManifest(dir)
	require.NoError(t, err)
	require.Equal(t, m, again)
	s := backup.Source{Dir: dir, Manifest: again}
	require.NoError(t, backup.Verify(t.Context(), s, nil))
	require.NoDirExists(t, dir+backup.IncompleteSuffix)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		require.Contains(t, []string{backup.ManifestName, again.Database, backup.IndexFolder}, e.Name())
	}
	for i := range again.Collections {
		c := &again.Collections[i]
		require.Equal(t, c.Digest.Bytes >= backup.IndexWorthBytes || c.Ranges != nil, s.IndexFile(c) != "", "the index of %s", c.Name)
	}
	return s
}

func contents(t testing.TB, s backup.Source, collection string) []bson.Raw {
	t.Helper()
	c := s.Manifest.Collection(collection)
	require.NotNil(t, c, collection)
	var docs []bson.Raw
	for doc, err := range s.Documents(t.Context(), c) {
		require.NoError(t, err)
		docs = append(docs, slices.Clone(doc))
	}
	return docs
}

func requireSame(t testing.TB, want, got []bson.Raw) {
	t.Helper()
	require.Len(t, got, len(want))
	sorted := func(docs []bson.Raw) []bson.Raw {
		docs = slices.Clone(docs)
		slices.SortFunc(docs, func(a, b bson.Raw) int { return bytes.Compare(a, b) })
		return docs
	}
	require.Equal(t, sorted(want), sorted(got))
}

func names(m *backup.Manifest) []string {
	var all []string
	for _, c := range m.Collections {
		all = append(all, c.Name)
	}
	return all
}

func TestDumpHoldsEveryCollectionByteForByte(t *testing.T) {
	db := database(t)
	long := strings.Repeat("längst/", 22)
	want := map[string][]bson.Raw{
		"invoices": fill(t, db, "invoices", numbered(t, 5000)...),
		"mixed": fill(t, db, "mixed",
			raw(t, bson.D{{Key: "_id", Value: "text"}, {Key: "z", Value: 1.0}, {Key: "a", Value: int64(1)}, {Key: "z", Value: "twice"}}),
			raw(t, bson.D{{Key: "_id", Value: bson.D{{Key: "b", Value: 1}, {Key: "a", Value: nil}}}, {Key: "big", Value: bytes.Repeat([]byte("0123456789abcdef"), 150_000)}}),
			raw(t, bson.D{{Key: "_id", Value: bson.Binary{Subtype: 4, Data: []byte("0123456789abcdef")}}, {Key: "ts", Value: bson.Timestamp{T: 1}}}),
			raw(t, bson.D{{Key: "_id", Value: bson.MaxKey{}}, {Key: "js", Value: bson.CodeWithScope{Code: "f()", Scope: bson.D{}}}}),
		),
		long: fill(t, db, long, numbered(t, 3)...),
	}
	command(t, db, bson.D{{Key: "create", Value: "empty"}})
	command(t, db, bson.D{{Key: "create", Value: "ring"}, {Key: "capped", Value: true}, {Key: "size", Value: 1 << 20}, {Key: "max", Value: 100}})
	want["ring"] = fill(t, db, "ring", numbered(t, 50)...)
	command(t, db, bson.D{{Key: "create", Value: "open"}, {Key: "viewOn", Value: "invoices"}, {Key: "pipeline", Value: bson.A{bson.D{{Key: "$match", Value: bson.D{{Key: "open", Value: true}}}}}}})
	command(t, db, bson.D{{Key: "createIndexes", Value: "invoices"}, {Key: "indexes", Value: bson.A{
		bson.D{{Key: "key", Value: bson.D{{Key: "text", Value: 1}, {Key: "_id", Value: -1}}}, {Key: "name", Value: "text_1__id_-1"}, {Key: "unique", Value: true}, {Key: "partialFilterExpression", Value: bson.D{{Key: "text", Value: bson.D{{Key: "$gt", Value: ""}}}}}},
		bson.D{{Key: "key", Value: bson.D{{Key: "expires_at", Value: 1}}}, {Key: "name", Value: "ttl"}, {Key: "expireAfterSeconds", Value: 0}},
	}}})
	fill(t, db, "runbook.stage.7.invoices", numbered(t, 10)...)
	fill(t, db, "runbook~stage~7~invoices", numbered(t, 10)...)
	fill(t, db, "runbook.lease", numbered(t, 1)...)

	var last backup.Progress
	o := opts(t)
	o.Progress = func(p backup.Progress) { last = p }
	before := time.Now()
	s := proven(t, db, o)
	m := s.Manifest
	expected := []string{"empty", "invoices", long, "mixed", "open", "ring"}
	slices.Sort(expected)
	require.Equal(t, expected, names(m))
	for name, docs := range want {
		got := contents(t, s, name)
		if name == "ring" {
			require.Equal(t, docs, got, "a capped collection keeps its order")
		}
		requireSame(t, docs, got)
	}
	require.Empty(t, contents(t, s, "empty"))
	require.Equal(t, backup.TypeView, m.Collection("open").Type)
	require.Contains(t, string(m.Collection("open").Options), `"viewOn":"invoices"`)
	require.Contains(t, string(m.Collection("ring").Options), `"capped":true`)
	require.Len(t, m.Collection("invoices").Indexes, 3)
	require.Contains(t, string(m.Collection("invoices").Indexes[1].Spec), `"key":{"text":{"$numberInt":"1"},"_id":{"$numberInt":"-1"}}`)
	require.WithinRange(t, m.StartedAt, before.Add(-time.Second), m.FinishedAt)
	require.NotEmpty(t, m.Server.Version)
	require.Equal(t, backup.Manual, m.Kind)
	require.FileExists(t, filepath.Join(s.Dir, db.Name(), "invoices.bson.gz"))
	require.FileExists(t, filepath.Join(s.Dir, db.Name(), "invoices.metadata.json.gz"))
	require.Equal(t, len(expected), last.Collections)
	require.Equal(t, m.Documents(), last.Documents)
	require.Equal(t, m.Bytes(), last.Bytes)
}

func TestTimeSeriesAreDumpedAsTheirBuckets(t *testing.T) {
	db := database(t)
	command(t, db, bson.D{{Key: "create", Value: "weather"}, {Key: "timeseries", Value: bson.D{{Key: "timeField", Value: "t"}, {Key: "metaField", Value: "m"}}}})
	for i := range 20 {
		fill(t, db, "weather", raw(t, bson.D{{Key: "_id", Value: i}, {Key: "t", Value: time.Unix(int64(i)*3600, 0)}, {Key: "m", Value: i % 3}}))
	}
	s := proven(t, db, opts(t))
	require.Equal(t, []string{"weather"}, names(s.Manifest))
	c := s.Manifest.Collection("weather")
	require.Equal(t, backup.TypeTimeseries, c.Type)
	require.Equal(t, db.Name()+"/system.buckets.weather.bson.gz", c.Data.Path)
	require.Equal(t, db.Name()+"/weather.metadata.json.gz", c.Metadata.Path)
	require.NotEmpty(t, contents(t, s, "weather"))
}

func TestStoredJavaScriptIsData(t *testing.T) {
	db := database(t)
	docs := fill(t, db, "system.js", raw(t, bson.D{{Key: "_id", Value: "f"}, {Key: "value", Value: bson.JavaScript("function() {}")}}))
	requireSame(t, docs, contents(t, proven(t, db, opts(t)), "system.js"))
}

func TestEmptyDatabaseGivesAnEmptyBackup(t *testing.T) {
	s := proven(t, database(t), opts(t))
	require.Empty(t, s.Manifest.Collections)
}

func TestSecondRunOfAWholeDumpReturnsIt(t *testing.T) {
	server, db := inMemory(t)
	fill(t, db, "invoices", numbered(t, 10)...)
	o := opts(t)
	s := proven(t, db, o)
	fill(t, db, "later", numbered(t, 10)...)
	server.OnCommand(func(_, cmd string, _ bson.Raw) { t.Errorf("command %s was sent", cmd) })
	m, err := Run(t.Context(), db, o)
	require.NoError(t, err)
	require.Equal(t, s.Manifest, m)
}

// finds counts how often each collection is read from its beginning.
func finds(server *mongotest.Server) func(collection string) int {
	var mu sync.Mutex
	n := map[string]int{}
	server.OnCommand(func(_, cmd string, doc bson.Raw) {
		if cmd == "find" {
			mu.Lock()
			defer mu.Unlock()
			n[doc.Lookup("find").StringValue()]++
		}
	})
	return func(collection string) int {
		mu.Lock()
		defer mu.Unlock()
		return n[collection]
	}
}

func TestNextAttemptKeepsWhatTheDeadOneFinished(t *testing.T) {
	server, db := inMemory(t)
	want := map[string][]bson.Raw{}
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		want[name] = fill(t, db, name, numbered(t, 200)...)
	}
	want["broken"] = fill(t, db, "broken", numbered(t, 1000)...)
	o := opts(t)
	o.Parallel = 1
	broken := server.Fail(mongotest.Fault{Command: "find", Namespace: "shop.d", Error: &mongotest.Error{Code: 8, Message: "disk"}})
	_, err := Run(t.Context(), db, o)
	var unreadable *UnreadableError
	require.ErrorAs(t, err, &unreadable)
	require.Equal(t, "d", unreadable.Collection)
	require.NoDirExists(t, filepath.Join(o.Root, o.Name), "it is not there until it is whole")
	work := filepath.Join(o.Root, o.Name+backup.IncompleteSuffix)
	require.DirExists(t, work)
	var begun beginning
	readJSON(t, filepath.Join(work, attemptDir, attemptFile), &begun)

	// One finished file is damaged by the crash, one finished collection is gone by now.
	require.NoError(t, os.Truncate(filepath.Join(work, "shop", "b.bson.gz"), 10))
	require.NoError(t, db.Collection("c").Drop(t.Context()))
	delete(want, "c")
	broken.Lift()
	read := finds(server)
	s := proven(t, db, o)
	for name, docs := range want {
		requireSame(t, docs, contents(t, s, name))
	}
	require.Len(t, s.Manifest.Collections, len(want))
	require.Zero(t, read("a"), "finished and whole")
	require.Equal(t, 1, read("b"), "finished and then damaged")
	require.Equal(t, 1, read("d"))
	require.Equal(t, begun.StartedAt, s.Manifest.StartedAt, "what was acknowledged before the first attempt is in the backup")
}

func TestAttemptThatDiedBeforeTheLastRenameIsFinished(t *testing.T) {
	_, db := inMemory(t)
	fill(t, db, "invoices", numbered(t, 10)...)
	o := opts(t)
	s := proven(t, db, o)
	work := s.Dir + backup.IncompleteSuffix
	require.NoError(t, os.Rename(s.Dir, work))
	require.NoError(t, os.Mkdir(filepath.Join(work, attemptDir), 0o755))
	require.Equal(t, s.Manifest, proven(t, db, o).Manifest)
}

func TestDumpStopsAtOnceWhenCancelled(t *testing.T) {
	server, db := inMemory(t)
	docs := fill(t, db, "invoices", numbered(t, 20_000)...)
	ctx, cancel := context.WithCancel(t.Context())
	var once sync.Once
	server.OnCommand(func(_, cmd string, _ bson.Raw) {
		if cmd == "getMore" {
			once.Do(cancel)
		}
	})
	o := opts(t)
	_, err := Run(ctx, db, o)
	require.ErrorIs(t, err, context.Canceled)
	requireSame(t, docs, contents(t, proven(t, db, o), "invoices"))
}

func TestOnlyOneAttemptWrites(t *testing.T) {
	server, db := inMemory(t)
	fill(t, db, "invoices", numbered(t, 10)...)
	hold, reached := make(chan struct{}), make(chan struct{})
	server.Fail(mongotest.Fault{Command: "find", Times: 1, Hold: hold})
	server.OnCommand(func(_, cmd string, _ bson.Raw) {
		if cmd == "find" {
			close(reached)
		}
	})
	o := opts(t)
	first := make(chan error, 1)
	go func() {
		_, err := Run(t.Context(), db, o)
		first <- err
	}()
	<-reached
	_, err := Run(t.Context(), db, o)
	require.ErrorAs(t, err, new(*BusyError))
	close(hold)
	require.NoError(t, <-first)
}

func TestDumpThatDoesNotFitIsRefusedBeforeItBegins(t *testing.T) {
	_, db := inMemory(t)
	fill(t, db, "invoices", numbered(t, 1000)...)
	o := opts(t)
	_, err := start(t.Context(), db, o, withFree(1<<20))
	var space *SpaceError
	require.ErrorAs(t, err, &space)
	require.Equal(t, int64(1<<20), space.Have)
	require.Greater(t, space.Need, space.Have)
	require.ErrorContains(t, err, "storage.dir")
	_, err = start(t.Context(), db, o, withFree(1<<30))
	require.NoError(t, err)
}

func TestBadOptionsAreRefused(t *testing.T) {
	_, db := inMemory(t)
	for want, change := range map[string]func(*Options){
		"Root is required":    func(o *Options) { o.Root = "" },
		`Name ""`:             func(o *Options) { o.Name = "" },
		`Name "../elsewhere"`: func(o *Options) { o.Name = "../elsewhere" },
		`Name ".."`:           func(o *Options) { o.Name = ".." },
		"Level 10":            func(o *Options) { o.Level = 10 },
		"Parallel -1":         func(o *Options) { o.Parallel = -1 },
		`Compression "lz4"`:   func(o *Options) { o.Compression = "lz4" },
		"secondaryPreferred":  func(o *Options) { o.ReadPreference = "slave" },
		"BytesPerSecond":      func(o *Options) { o.BytesPerSecond = -1 },
		"Memory 1":            func(o *Options) { o.Memory = 1 },
	} {
		o := opts(t)
		change(&o)
		_, err := Run(t.Context(), db, o)
		require.ErrorContains(t, err, want)
	}
	o := opts(t)
	require.NoError(t, os.Mkdir(filepath.Join(o.Root, o.Name), 0o755))
	_, err := Run(t.Context(), db, o)
	require.ErrorContains(t, err, "is not a backup of runbook")
}

func readJSON(t testing.TB, path string, v any) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, v))
}
