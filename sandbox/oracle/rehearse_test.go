package oracle

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/battwheels/runbook/activities"
	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/internal/dump"
	"github.com/battwheels/runbook/internal/mongotest"
	"github.com/battwheels/runbook/sandbox/rehearsal"
)

// rehearsed fills a database with what FerretDB holds, and with what it does not: a TTL index, and numbers of another kind.
func rehearsed(t *testing.T) (*mongotest.Server, *mongo.Database) {
	t.Helper()
	server := mongotest.Start(t)
	// Others work on a scratch server too. They are told apart by their names.
	client, err := mongo.Connect(options.Client().ApplyURI(server.URI()).SetAppName("somebody else"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Disconnect(context.WithoutCancel(t.Context()))) })
	db := client.Database(shop)
	insert(t, db, "invoices", 60)
	insert(t, db, "tickets", 40)
	_, err = db.Collection("tickets").Indexes().CreateOne(t.Context(), mongo.IndexModel{
		Keys: bson.D{{Key: "at", Value: 1}}, Options: options.Index().SetName("expiry").SetExpireAfterSeconds(1 << 30),
	})
	require.NoError(t, err)
	_, err = db.Collection("prices").InsertOne(t.Context(), bson.D{{Key: "_id", Value: 1}, {Key: "price", Value: bson.NewDecimal128(1, 2)}})
	require.NoError(t, err)
	return server, db
}

func rehearse(t *testing.T, o rehearsal.Options) rehearsal.Result {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	before := filesOf(t, o.Backup)
	o.Tell = func(text string) { t.Log(text) }
	r, err := rehearsal.Run(t.Context(), o)
	require.NoError(t, err)
	require.Equal(t, before, filesOf(t, o.Backup), "the original is only read")
	left, err := os.ReadDir(os.TempDir())
	require.NoError(t, err)
	require.Empty(t, left, "nothing is left behind")
	return r
}

func filesOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		files[path] = string(b)
		return err
	}))
	return files
}

func TestAStockDumpIsRehearsedOnFerretDB(t *testing.T) {
	server, _ := rehearsed(t)
	dir := filepath.Join(t.TempDir(), "my-dump")
	stockDump(t, server.URI(), shop, dir, "--gzip")
	r := rehearse(t, rehearsal.Options{Backup: dir})
	require.True(t, r.Recovered, r.Found)
	require.Positive(t, r.RTOSeconds)
	require.EqualValues(t, 100, r.Documents)
	require.Contains(t, r.LeftOut, "tickets: its index expiry (expireAfterSeconds)", "what FerretDB does not hold is said")
	require.Contains(t, r.LeftOut, "prices: its documents hold 128-bit decimal")
}

func TestAStockDumpIsRehearsedWholeOnAScratchServer(t *testing.T) {
	server, db := rehearsed(t)
	dir := filepath.Join(t.TempDir(), "my-dump")
	stockDump(t, server.URI(), shop, dir)
	r := rehearse(t, rehearsal.Options{Backup: filepath.Join(dir, shop), MongoURI: server.URI()})
	require.True(t, r.Recovered, r.Found)
	require.Empty(t, r.LeftOut)
	require.EqualValues(t, 101, r.Documents)
	names, err := db.Client().ListDatabaseNames(t.Context(), bson.D{{Key: "name", Value: bson.D{{Key: "$nin", Value: bson.A{"admin", "local", "config"}}}}})
	require.NoError(t, err)
	require.Equal(t, []string{shop}, names, "the scratch is gone, and nothing else was touched")
	n, err := db.Collection("invoices").CountDocuments(t.Context(), bson.D{})
	require.NoError(t, err)
	require.EqualValues(t, 60, n)
}

func TestADumpThatWasKilledIsNotRecoveredFrom(t *testing.T) {
	dumps := twoDumps(t, end{form: []string{"--gzip"}, moment: moments[0].is, nth: 2, jobs: "1"})
	r := rehearse(t, rehearsal.Options{Backup: filepath.Join(dumps, killedDump)})
	require.False(t, r.Recovered)
	require.Contains(t, r.Found, "half-written")
	require.NotEmpty(t, r.Mend)
}

func TestOneOfOurBackupsIsRehearsed(t *testing.T) {
	_, db := rehearsed(t)
	o := activities.DumpOptions(config.Backup{Compression: "gzip", Level: 1, Parallel: 2, MemoryMB: 48, ReadPreference: "primary"}, backup.Scheduled)
	o.Root, o.Name, o.Target = t.TempDir(), "20260224T020000Z-scheduled-3f9a2c", "shop"
	_, err := dump.Run(t.Context(), db, o)
	require.NoError(t, err)
	dir := filepath.Join(o.Root, o.Name)
	r := rehearse(t, rehearsal.Options{Backup: dir})
	require.True(t, r.Recovered, r.Found)

	data := filepath.Join(dir, shop, "invoices.bson.gz")
	b, err := os.ReadFile(data)
	require.NoError(t, err)
	b[len(b)/2] ^= 1
	require.NoError(t, os.WriteFile(data, b, 0o600))
	r = rehearse(t, rehearsal.Options{Backup: dir})
	require.False(t, r.Recovered)
	require.Contains(t, r.Found, "invoices.bson.gz")

	o.Compression, o.Name = dump.Zstd, "20260225T020000Z-scheduled-3f9a2c"
	_, err = dump.Run(t.Context(), db, o)
	require.NoError(t, err)
	r = rehearse(t, rehearsal.Options{Backup: filepath.Join(o.Root, o.Name)})
	require.True(t, r.Recovered, r.Found)
	require.EqualValues(t, 100, r.Documents)
}

func TestAnIndexThatCannotBeBuiltIsNamed(t *testing.T) {
	server, db := rehearsed(t)
	_, err := db.Collection("invoices").Indexes().CreateOne(t.Context(), mongo.IndexModel{
		Keys: bson.D{{Key: "never", Value: 1}}, Options: options.Index().SetName("by_never"),
	})
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "my-dump")
	stockDump(t, server.URI(), shop, dir)
	// The dump of a server that let duplicates in: the index is unique, and all documents lack its field.
	path := filepath.Join(dir, shop, "invoices.metadata.json")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	m, err := backup.DecodeMetadata(text)
	require.NoError(t, err)
	m.Indexes[1].Spec = []byte(`{"v":{"$numberInt":"2"},"key":{"never":{"$numberInt":"1"}},"name":"by_never","unique":true}`)
	text, err = m.Encode()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, text, 0o600))
	r := rehearse(t, rehearsal.Options{Backup: dir, MongoURI: server.URI()})
	require.False(t, r.Recovered)
	require.Contains(t, r.Found, `index "by_never" of collection "invoices" cannot be built`)
	require.Contains(t, r.Mend[0], "by_never")
}

func TestWhatIsNoBackupIsRefused(t *testing.T) {
	for name, dir := range map[string]string{"missing": filepath.Join(t.TempDir(), "gone"), "empty": t.TempDir()} {
		t.Run(name, func(t *testing.T) {
			_, err := rehearsal.Run(t.Context(), rehearsal.Options{Backup: dir})
			require.ErrorAs(t, err, new(*rehearsal.UsageError))
		})
	}
}
