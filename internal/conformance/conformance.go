// Package conformance is one suite that every server must pass with runbook's data engine: each kind of collection, value,
// name and index that a server can hold is dumped, verified, damaged, and restored both ways: staged, proven and swapped under
// the application, and directly into an empty database. What comes back is compared with what was there byte by byte, through
// the driver alone: nothing of the engine judges the engine.
//
// It holds tests and nothing else: the tests of this package run it on the server in memory and on the one that the
// environment names, those of the sandbox on FerretDB. Whatever a server is told in it, it may be destroyed.
package conformance

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/dump"
	"github.com/battwheels/runbook/internal/restore"
)

// URIVariable names, in the environment, a real server on which the suite runs as well. Each case works in databases of its
// own there, whose names begin with "runbook_test_", and drops them.
const URIVariable = "RUNBOOK_TEST_MONGODB_URI"

// Server is one on which the suite runs.
type Server struct {
	URI string
	// Known says that Lacks is the whole list of the cases that this server cannot hold: it must refuse exactly these. Of any
	// other server, what it refuses is skipped, by the case's name and with the server's own words.
	Known bool
	Lacks []string
	// Without says of cases why they are left out on this server.
	Without map[string]string
}

// Run runs every case on a server.
func Run(t *testing.T, s Server) {
	everyCase(t, s, func(t *testing.T, c testCase, db *mongo.Database) { c.restore(t, s, db) })
}

// Each fills a database with every case that the server can hold, one after the other, for other ways around than Run's.
func Each(t *testing.T, s Server, test func(t *testing.T, name string, db *mongo.Database)) {
	everyCase(t, s, func(t *testing.T, c testCase, db *mongo.Database) { test(t, c.name, db) })
}

func everyCase(t *testing.T, s Server, test func(*testing.T, testCase, *mongo.Database)) {
	client := s.Connect(t)
	names := map[string]bool{}
	for _, c := range cases() {
		names[c.name] = true
		t.Run(c.name, func(t *testing.T) {
			if why := s.Without[c.name]; why != "" {
				t.Skipf("%q is left out: %s", c.name, why)
			}
			db := NewDatabase(t, client)
			err := c.fill(t.Context(), db)
			if err == nil {
				err = c.kept(t.Context(), db)
			}
			c.skipLack(t, s, err)
			test(t, c, db)
		})
	}
	for _, name := range s.Lacks {
		require.Contains(t, names, name, "a case that a server is said to lack")
	}
	for name := range s.Without {
		require.Contains(t, names, name, "a case that is left out")
	}
}

// Connect connects a driver for as long as the test lives.
func (s Server) Connect(t *testing.T) *mongo.Client {
	t.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI(s.URI).SetAppName("runbook"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Disconnect(context.Background())) })
	return client
}

// NewDatabase is an empty one that lives as long as the test.
func NewDatabase(t *testing.T, client *mongo.Client) *mongo.Database {
	t.Helper()
	db := client.Database("runbook_test_" + bson.NewObjectID().Hex())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, db.Drop(ctx))
	})
	return db
}

// skipLack ends a case that the server refuses. A known server may only refuse what is known of it.
func (c testCase) skipLack(t *testing.T, s Server, err error) {
	t.Helper()
	if err == nil {
		return
	}
	require.NoError(t, t.Context().Err())
	if s.Known && !slices.Contains(s.Lacks, c.name) {
		require.NoError(t, err, "this server can hold %q", c.name)
	}
	t.Skipf("the server cannot hold %q: %v", c.name, err)
}

// restore takes a backup and brings it back both ways.
func (c testCase) restore(t *testing.T, s Server, db *mongo.Database) {
	before := Contents(t, db)
	source := Dump(t, db, dump.Options{})
	require.Equal(t, c.documents(), source.Manifest.Documents())

	empty := NewDatabase(t, db.Client())
	err := Direct(t, source, empty)
	if errors.As(err, new(*restore.RefusedError)) {
		c.skipLack(t, s, err)
	}
	require.NoError(t, err)
	require.Equal(t, before, Contents(t, empty), "restored into an empty database")

	require.NoError(t, wreck(t.Context(), db, before))
	require.NoError(t, swap(t, source, db))
	require.Equal(t, before, Contents(t, db), "staged, proven, and swapped into place")
	if s.Known {
		require.NotContains(t, s.Lacks, c.name, "this server was said to lack it")
	}
}

// Dump makes a backup, reads its manifest back and verifies every byte of it. Where the options lack a place and a name, it
// gives them some.
func Dump(t *testing.T, db *mongo.Database, o dump.Options) backup.Source {
	t.Helper()
	if o.Root == "" {
		o.Root = t.TempDir()
	}
	if o.Name == "" {
		o.Name = "20260224T020000Z-manual-3f9a2c"
	}
	o.Target, o.Tool = "battwheels", "conformance"
	_, err := dump.Run(t.Context(), db, o)
	require.NoError(t, err)
	dir := filepath.Join(o.Root, o.Name)
	m, err := backup.ReadManifest(dir)
	require.NoError(t, err)
	s := backup.Source{Dir: dir, Manifest: m}
	require.NoError(t, backup.Verify(t.Context(), s, nil))
	return s
}

func attempt(t *testing.T, source backup.Source, db *mongo.Database) restore.StageOptions {
	t.Helper()
	lease, err := restore.Acquire(t.Context(), db, restore.Holder{Owner: "conformance", Run: "one", Purpose: "round trip"}, false)
	require.NoError(t, err)
	return restore.StageOptions{DB: db, Source: source, Lease: lease, Dir: filepath.Join(t.TempDir(), "staging")}
}

// Direct restores a backup into an empty database.
func Direct(t *testing.T, source backup.Source, db *mongo.Database) error {
	t.Helper()
	v, err := restore.Direct(t.Context(), attempt(t, source, db))
	if err == nil && len(v.Differences) > 0 {
		err = fmt.Errorf("verification: %v", v.Differences)
	}
	return err
}

func swap(t *testing.T, source backup.Source, db *mongo.Database) error {
	t.Helper()
	o := attempt(t, source, db)
	if _, err := restore.Stage(t.Context(), o); err != nil {
		return err
	}
	if _, err := restore.Prove(t.Context(), o); err != nil {
		return err
	}
	if _, err := restore.Swap(t.Context(), restore.SwapOptions{DB: db, Lease: o.Lease, Incident: "conformance", Dir: o.Dir}); err != nil {
		return err
	}
	v, err := restore.VerifyInPlace(t.Context(), o)
	if err == nil && len(v.Differences) > 0 {
		err = fmt.Errorf("verification in place: %v", v.Differences)
	}
	return err
}
