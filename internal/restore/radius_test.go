package restore

import (
	"context"
	"os"
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

// damaged are two states of one database: what a backup holds, and what stands there after the damage.
func damaged(t testing.TB) (before, after []given) {
	view := given{name: "active", kind: backup.TypeView, options: doc(t, "viewOn", "customers", "pipeline", bson.A{})}
	customers := people(t, 2000, "Asha")
	now := append(people(t, 1990, "Asha"), doc(t, "_id", "new", "organization_id", "org_9"), doc(t, "_id", int64(7), "n", int32(1)))
	for _, i := range []int{3, 700, 1500} {
		now[i] = doc(t, "_id", customers[i].Lookup("_id"), "organization_id", "org_moved", "n", int32(-1))
	}
	vehicles := people(t, 300, "scooter")
	return []given{{name: "customers", documents: customers}, {name: "vehicles", documents: vehicles}, {name: "lost", documents: people(t, 50, "l")}, view},
		[]given{{name: "customers", documents: now}, {name: "vehicles", documents: vehicles}, {name: "mine", documents: people(t, 20, "m")}, view}
}

// writes collects the commands that would change something on a server.
func writes(t testing.TB, srv *mongotest.Server) func() []string {
	var mu sync.Mutex
	var seen []string
	remove := srv.OnCommand(func(_, command string, _ bson.Raw) {
		switch command {
		case "find", "getMore", "killCursors", "aggregate", "listCollections", "listIndexes", "count", "dbStats", "collStats", "hello", "isMaster",
			"buildInfo", "connectionStatus", "ping", "endSessions":
			return
		}
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, command)
	})
	t.Cleanup(remove)
	return func() []string { mu.Lock(); defer mu.Unlock(); return seen }
}

// The radius that is counted against the live database is the one that a plan counts against a dump of it, by collection and by
// organization; nothing is written to the server, and nothing is left on disk.
func TestTheRadiusOfALiveDatabaseIsThatOfADump(t *testing.T) {
	onServers(t, func(t *testing.T, db *mongo.Database, srv *mongotest.Server) {
		before, after := damaged(t)
		fill(t, db, after...)
		dumped := makeBackup(t, after...)
		for name, from := range map[string]backup.Source{"with an index": indexed(t, makeBackup(t, before...)), "without": makeBackup(t, before...)} {
			t.Run(name, func(t *testing.T) {
				want, err := backup.Compare(t.Context(), from, dumped, backup.CompareOptions{TenantField: "organization_id"})
				require.NoError(t, err)
				want.TenantsIn = nil // a radius does not tell them by collection
				seen := func() []string { return nil }
				if srv != nil {
					seen = writes(t, srv)
				}
				dir := t.TempDir()
				got, err := CountRadius(t.Context(), db, from, RadiusOptions{TenantField: "organization_id", Dir: dir})
				require.NoError(t, err)
				require.Equal(t, want, got.Diff)
				require.Equal(t, backup.Counts{Same: 2287, Added: 22, Changed: 3, Missing: 60}, got.Total)
				require.Equal(t, backup.Counts{Changed: 3}, got.Tenants["org_moved"])
				require.Equal(t, map[string]int64{"customers": 1992, "vehicles": 300, "mine": 20}, got.Documents)
				require.Empty(t, got.Unread)
				require.Empty(t, got.Untold)
				require.Empty(t, seen())
				left, err := os.ReadDir(dir)
				require.NoError(t, err)
				require.Empty(t, left)
			})
		}
	})
}

// Of a restore of some collections, the others are neither read nor counted, also those that the backup has not.
func TestTheRadiusOfSomeCollections(t *testing.T) {
	onServers(t, func(t *testing.T, db *mongo.Database, _ *mongotest.Server) {
		before, after := damaged(t)
		fill(t, db, after...)
		got, err := CountRadius(t.Context(), db, makeBackup(t, before...), RadiusOptions{Collections: []string{"lost"}, TenantField: "organization_id"})
		require.NoError(t, err)
		require.Equal(t, backup.Counts{Missing: 50}, got.Total)
		require.Equal(t, []string{"lost"}, got.GoneCollections)
		require.Empty(t, got.NewCollections)
		require.Len(t, got.Tenants, 7)
	})
}

// A collection that cannot be read is named and in no count; the others are counted all the same.
func TestTheRadiusNamesWhatCannotBeRead(t *testing.T) {
	srv := mongotest.Start(t)
	db := srv.Client(t).Database("test_database")
	before, after := damaged(t)
	fill(t, db, after...)
	srv.Fail(mongotest.Fault{Command: "find", Namespace: "test_database.customers", Error: &mongotest.Error{Code: 8, Message: "checksum error"}})
	got, err := CountRadius(t.Context(), db, makeBackup(t, before...), RadiusOptions{})
	require.NoError(t, err)
	require.Contains(t, got.Unread["customers"], "checksum error")
	require.Equal(t, backup.Counts{Same: 300, Added: 20, Missing: 50}, got.Total)
}

// A damaged backup ends the counting: it says nothing of the database.
func TestTheRadiusOfADamagedBackupIsNotCounted(t *testing.T) {
	srv := mongotest.Start(t)
	db := srv.Client(t).Database("test_database")
	before, after := damaged(t)
	fill(t, db, after...)
	s := makeBackup(t, before...)
	c := s.Manifest.Collection("customers")
	require.NoError(t, os.Truncate(s.Dir+"/"+c.Data.Path, c.Data.Size/2))
	_, err := CountRadius(t.Context(), db, s, RadiusOptions{})
	var corrupt *backup.CorruptError
	require.ErrorAs(t, err, &corrupt)
}

// Where the connection breaks while the organizations of documents are told, none is counted twice.
func TestTheRadiusCountsNobodyTwice(t *testing.T) {
	srv := mongotest.Start(t)
	db := srv.Client(t).Database("test_database")
	before, after := damaged(t)
	fill(t, db, after...)
	from, dumped := makeBackup(t, before...), makeBackup(t, after...)
	want, err := backup.Compare(t.Context(), from, dumped, backup.CompareOptions{TenantField: "organization_id"})
	require.NoError(t, err)
	want.TenantsIn = nil
	// Each reading of the customers takes two answers; the second one is lost of the first reading, then of the second.
	for skip := range 2 {
		armed := srv.Fail(mongotest.Fault{Command: "getMore", Namespace: "test_database.customers", Skip: skip, Times: 1, Drop: mongotest.DropBefore})
		got, err := CountRadius(t.Context(), db, from, RadiusOptions{TenantField: "organization_id"})
		require.NoError(t, err)
		require.Equal(t, want, got.Diff)
		require.Equal(t, 1, armed.Struck())
		armed.Lift()
	}
}

// TestTheRadiusHeedsALimit: with one far below what is there, the counting cannot end in its time, and says so.
func TestTheRadiusHeedsALimit(t *testing.T) {
	srv := mongotest.Start(t)
	db := srv.Client(t).Database("test_database")
	before, after := damaged(t)
	fill(t, db, after...)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := CountRadius(ctx, db, makeBackup(t, before...), RadiusOptions{DocumentsPerSecond: 10})
	require.ErrorContains(t, err, "deadline")
	_, err = CountRadius(t.Context(), db, makeBackup(t, before...), RadiusOptions{DocumentsPerSecond: 1 << 30, BytesPerSecond: 1 << 30})
	require.NoError(t, err)
}

// BenchmarkCountRadius compares 200,000 documents with a backup that has an index: once all are the same, once a hundredth differs, so
// that their organizations are looked up in the files and in the database.
func BenchmarkCountRadius(b *testing.B) {
	for name, changed := range map[string]int{"the same": 0, "a hundredth changed": 2000} {
		b.Run(name, func(b *testing.B) {
			srv := mongotest.Start(b)
			db := srv.Client(b).Database("test_database")
			text := strings.Repeat("a line of an invoice ", 20)
			docs := people(b, 200_000, text)
			s := indexed(b, makeBackup(b, given{name: "customers", documents: docs}))
			for i := range changed {
				docs[i*100] = doc(b, "_id", docs[i*100].Lookup("_id"), "organization_id", "org_1", "name", text)
			}
			fill(b, db, given{name: "customers", documents: docs})
			b.SetBytes(s.Manifest.Bytes())
			for b.Loop() {
				r, err := CountRadius(b.Context(), db, s, RadiusOptions{TenantField: "organization_id"})
				require.NoError(b, err)
				require.EqualValues(b, changed, r.Total.Changed)
			}
		})
	}
}
