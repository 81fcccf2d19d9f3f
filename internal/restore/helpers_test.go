package restore

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.uber.org/goleak"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/mongotest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// uriVariable names a real server on which the tests run as well. Each works in a database of its own, and drops it.
const uriVariable = "RUNBOOK_TEST_MONGODB_URI"

// onServers runs a test on the in-memory server and, where one is given, on a real one. full says whether the server
// keeps every type, option and index specification; srv is nil on a real one, which cannot be told to fail.
func onServers(t *testing.T, test func(t *testing.T, db *mongo.Database, srv *mongotest.Server)) {
	t.Run("in memory", func(t *testing.T) {
		srv := mongotest.Start(t)
		test(t, srv.Client(t).Database("test_database"), srv)
	})
	uri := os.Getenv(uriVariable)
	if uri == "" {
		return
	}
	t.Run("real server", func(t *testing.T) { test(t, realDatabase(t, uri), nil) })
}

func realDatabase(t *testing.T, uri string) *mongo.Database {
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
	return db
}

// small says whether the server is one of the compatible ones that know few types, options and indexes.
func small(t *testing.T, db *mongo.Database) bool {
	t.Helper()
	var b bson.Raw
	require.NoError(t, db.RunCommand(t.Context(), bson.D{{Key: "buildInfo", Value: 1}}).Decode(&b))
	for _, name := range []string{"ferretdb", "ferretdbVersion"} {
		if _, err := b.LookupErr(name); err == nil {
			return true
		}
	}
	return false
}

// D makes a raw document of keys and values in turn.
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

// given is a collection of a backup that a test makes.
type given struct {
	name      string
	kind      backup.Type // TypeCollection where empty
	options   bson.Raw
	indexes   []bson.Raw // without the one on _id
	documents []bson.Raw
}

var idIndex = bson.D{{Key: "v", Value: int32(2)}, {Key: "key", Value: bson.D{{Key: "_id", Value: int32(1)}}}, {Key: "name", Value: "_id_"}}

// index makes an index specification of one ascending field.
func index(t testing.TB, name, field string, more ...any) bson.Raw {
	return doc(t, append([]any{"v", int32(2), "key", bson.D{{Key: field, Value: int32(1)}}, "name", name}, more...)...)
}

// makeBackup writes a backup of these collections as they stand on disk.
func makeBackup(t testing.TB, list ...given) backup.Source {
	t.Helper()
	const database = "origin"
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, database), 0o750))
	m := &backup.Manifest{
		Name: "20260224T020000Z-scheduled-3f9a2c", Target: "battwheels", Database: database, Kind: backup.Scheduled, Compression: "gzip",
		StartedAt: time.Date(2026, 2, 24, 2, 0, 0, 0, time.UTC), FinishedAt: time.Date(2026, 2, 24, 2, 1, 0, 0, time.UTC),
	}
	put := func(path string, content []byte) backup.File {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, err := z.Write(content)
		require.NoError(t, err)
		require.NoError(t, z.Close())
		require.NoError(t, os.WriteFile(filepath.Join(dir, path), b.Bytes(), 0o640))
		sum := sha256.Sum256(b.Bytes())
		return backup.File{Path: path, Size: int64(b.Len()), SHA256: hex.EncodeToString(sum[:])}
	}
	for _, g := range list {
		c := backup.Collection{Name: g.name, Type: g.kind}
		if c.Type == "" {
			c.Type = backup.TypeCollection
		}
		if g.options != nil {
			options, err := backup.ToJSON(g.options)
			require.NoError(t, err)
			c.Options = options
		}
		if c.Type != backup.TypeView {
			id, err := bson.Marshal(idIndex)
			require.NoError(t, err)
			for _, spec := range append([]bson.Raw{id}, g.indexes...) {
				i, err := backup.NewIndex(spec)
				require.NoError(t, err)
				c.Indexes = append(c.Indexes, i)
			}
			var data []byte
			for _, d := range g.documents {
				data = append(data, d...)
				c.Digest.Add(d)
			}
			c.Data = put(backup.DataPath(database, g.name, c.Type, true), data)
		}
		metadata, err := backup.Metadata{Collection: g.name, Type: c.Type, Options: c.Options, Indexes: c.Indexes}.Encode()
		require.NoError(t, err)
		c.Metadata = put(backup.MetadataPath(database, g.name, true), metadata)
		m.Collections = append(m.Collections, c)
	}
	require.NoError(t, backup.WriteManifest(dir, m))
	return backup.Source{Dir: dir, Manifest: m}
}

// fill puts collections into a database, as an application would have.
func fill(t testing.TB, db *mongo.Database, list ...given) {
	t.Helper()
	ctx := t.Context()
	for _, g := range list {
		command := bson.D{{Key: "create", Value: g.name}}
		if g.options != nil {
			elements, err := g.options.Elements()
			require.NoError(t, err)
			for _, e := range elements {
				command = append(command, bson.E{Key: e.Key(), Value: e.Value()})
			}
		}
		require.NoError(t, db.RunCommand(ctx, command).Err())
		if len(g.documents) > 0 {
			_, err := db.Collection(g.name).InsertMany(ctx, g.documents)
			require.NoError(t, err)
		}
		for _, spec := range g.indexes {
			s, err := newIndexSpec(spec)
			require.NoError(t, err)
			require.NoError(t, createIndexes(ctx, db, g.name, []indexSpec{s}, false, false))
		}
	}
}

// state is all that a database holds, apart from what is runbook's own.
type state map[string]held

type held struct {
	Kind      backup.Type
	Options   string
	Indexes   []string
	Documents []string // raw bytes in hex, ordered
}

// stateOf reads a database through the driver alone.
func stateOf(t testing.TB, db *mongo.Database) state {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	all := state{}
	cursor, err := db.ListCollections(ctx, bson.D{})
	require.NoError(t, err)
	var entries []bson.Raw
	require.NoError(t, cursor.All(ctx, &entries))
	for _, e := range entries {
		name := e.Lookup("name").StringValue()
		if reserved(name) || system(name) {
			continue
		}
		h := held{Kind: backup.Type(e.Lookup("type").StringValue()), Options: e.Lookup("options").Document().String()}
		if h.Kind == backup.TypeView {
			all[name] = h
			continue
		}
		cursor, err := db.Collection(name).Indexes().List(ctx)
		require.NoError(t, err)
		var specs []bson.Raw
		require.NoError(t, cursor.All(ctx, &specs))
		for _, s := range specs {
			h.Indexes = append(h.Indexes, s.String())
		}
		slices.Sort(h.Indexes)
		found, err := db.Collection(name).Find(ctx, bson.D{})
		require.NoError(t, err)
		for found.Next(ctx) {
			h.Documents = append(h.Documents, hex.EncodeToString(found.Current))
		}
		require.NoError(t, found.Err())
		require.NoError(t, found.Close(ctx))
		slices.Sort(h.Documents)
		all[name] = h
	}
	return all
}

// reservedNames lists what of runbook's own stands in a database.
func reservedNames(t testing.TB, db *mongo.Database) []string {
	t.Helper()
	there, err := collections(context.WithoutCancel(t.Context()), db)
	require.NoError(t, err)
	return slices.DeleteFunc(sortedKeys(there), func(name string) bool { return !reserved(name) })
}

// holder is who restores in a test.
func holder(run string) Holder {
	return Holder{Owner: "restore/battwheels", Run: run, Purpose: "incident 20260224T031200Z"}
}

func acquire(t testing.TB, db *mongo.Database, run string) Lease {
	t.Helper()
	l, err := Acquire(t.Context(), db, holder(run), false)
	require.NoError(t, err)
	return l
}

// attempt prepares the options of one attempt at restoring a backup.
func attempt(t testing.TB, db *mongo.Database, s backup.Source, run string) (StageOptions, SwapOptions) {
	t.Helper()
	l := acquire(t, db, run)
	dir := filepath.Join(t.TempDir(), "staging")
	return StageOptions{DB: db, Source: s, Lease: l, Dir: dir}, SwapOptions{DB: db, Lease: l, Incident: "inc1", Dir: dir}
}

// staged stages and proves a backup.
func stageAndProve(t testing.TB, o StageOptions) {
	t.Helper()
	_, err := Stage(t.Context(), o)
	require.NoError(t, err)
	_, err = Prove(t.Context(), o)
	require.NoError(t, err)
}

// people makes documents of a garage's customers.
func people(t testing.TB, n int, word string) []bson.Raw {
	list := make([]bson.Raw, n)
	for i := range list {
		list[i] = doc(t, "_id", fmt.Sprintf("cus_%05d", i), "organization_id", fmt.Sprintf("org_%d", i%7), "n", int32(i), "name", word)
	}
	return list
}
