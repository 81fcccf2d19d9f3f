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
	client := s.Connect(t)
	names := map[string]bool{}
	for _, c := range cases() {
		names[c.name] = true
		t.Run(c.name, func(t *testing.T) {
			if why := s.Without[c.name]; why != "" {
				t.Skipf("%q is left out: %s", c.name, why)
			}
			before := c.make(t, s, newDatabase(t, client))
			if before == nil {
				return // the server says in what way it lacks this; make has told
			}
			c.restore(t, s, *before)
		})
	}
	for _, name := range s.Lacks {
		require.Contains(t, names, name, "a case that a server is said to lack")
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

func newDatabase(t *testing.T, client *mongo.Client) *mongo.Database {
	t.Helper()
	db := client.Database("runbook_test_" + bson.NewObjectID().Hex())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, db.Drop(ctx))
	})
	return db
}

// made is a case as it stands in a database.
type made struct {
	db    *mongo.Database
	holds map[string]held
}

// make fills a database and makes sure that it holds what it was given. It returns nil where the server cannot.
func (c testCase) make(t *testing.T, s Server, db *mongo.Database) *made {
	t.Helper()
	err := c.fill(t.Context(), db)
	if err == nil {
		err = c.kept(t.Context(), db)
	}
	if c.lacking(t, s, err) {
		return nil
	}
	holds, err := contents(t.Context(), db)
	require.NoError(t, err)
	return &made{db, holds}
}

// lacking tells whether the server cannot do what the case needs, which ends the case. A known server may only lack what
// is known of it, and must lack that.
func (c testCase) lacking(t *testing.T, s Server, err error) bool {
	t.Helper()
	listed := slices.Contains(s.Lacks, c.name)
	switch {
	case err == nil:
		return false
	case s.Known && !listed:
		require.NoError(t, err, "this server can hold %q", c.name)
	case t.Context().Err() != nil:
		require.NoError(t, err)
	}
	t.Skipf("the server cannot hold %q: %v", c.name, err)
	return true
}

// restore takes a backup of what was made and brings it back both ways.
func (c testCase) restore(t *testing.T, s Server, m made) {
	source := Dump(t, m.db, dump.Options{})
	require.Equal(t, c.documents(), source.Manifest.Documents())

	after, err := direct(t, source, newDatabase(t, m.db.Client()))
	var refused *restore.RefusedError
	if errors.As(err, &refused) && c.lacking(t, s, err) {
		return
	}
	require.NoError(t, err)
	require.Equal(t, m.holds, after, "restored into an empty database")

	require.NoError(t, wreck(t.Context(), m.db, m.holds))
	require.NoError(t, swap(t, source, m.db))
	after, err = contents(t.Context(), m.db)
	require.NoError(t, err)
	require.Equal(t, m.holds, after, "staged, proven, and swapped into place")
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

func direct(t *testing.T, source backup.Source, db *mongo.Database) (map[string]held, error) {
	t.Helper()
	v, err := restore.Direct(t.Context(), attempt(t, source, db))
	if err != nil {
		return nil, err
	}
	require.Empty(t, v.Differences)
	return contents(t.Context(), db)
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
