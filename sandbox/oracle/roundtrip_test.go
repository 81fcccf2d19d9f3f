package oracle

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/catalog"
	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/internal/dump"
	"github.com/battwheels/runbook/internal/restore"
)

// forms are the ways in which mongodump writes a directory.
var forms = []struct {
	name string
	args []string
}{
	{name: "plain"},
	{name: "gzip", args: []string{"--gzip"}},
}

// TestAStockDumpRestoresEveryDocumentAndIndex goes from mongodump through the catalog and the offline restore.
func TestAStockDumpRestoresEveryDocumentAndIndex(t *testing.T) {
	for _, s := range servers {
		for _, form := range forms {
			t.Run(s.name+" "+form.name, func(t *testing.T) {
				uri := s.start(t)
				db := connect(t, uri).Database(shop)
				fill(t, db, s.whole)
				before := contents(t, db)
				dumps := t.TempDir()
				stockDump(t, uri, shop, filepath.Join(dumps, "shop_20260224_020000"), form.args...)
				wreck(t, db)
				require.NotEqual(t, before, contents(t, db))

				c := catalogOf(t, dumps)
				entries, err := c.List(t.Context())
				require.NoError(t, err)
				choice, err := c.Choose(entries, time.Time{}, "")
				require.NoError(t, err)
				e, source, err := c.Verify(t.Context(), choice.Entry.ID, nil)
				require.NoError(t, err)
				require.Equal(t, catalog.Verified, e.State)
				require.Equal(t, count(before), e.Documents)

				bringBack(t, db, source)
				require.Equal(t, before, contents(t, db))
			})
		}
	}
}

// TestABackupRestoresWithStockMongorestore goes from a backup of runbook's own through mongorestore, with the manifest left where
// it lies. FerretDB v1 does not know how mongorestore builds indexes; there the documents are compared.
func TestABackupRestoresWithStockMongorestore(t *testing.T) {
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) {
			uri := s.start(t)
			client := connect(t, uri)
			fill(t, client.Database(shop), s.whole)
			before := contents(t, client.Database(shop))
			source := ownBackup(t, client.Database(shop))

			more := []string{"--gzip", "--nsFrom", shop + ".*", "--nsTo", "copy.*"}
			if !s.whole {
				more = append(more, "--noIndexRestore")
			}
			require.Equal(t, count(before), stockRestore(t, uri, source.Dir, more...))
			after := contents(t, client.Database("copy"))
			if !s.whole {
				require.Equal(t, documentsOnly(before), documentsOnly(after))
				return
			}
			require.Equal(t, fieldsInOrder(t, before), fieldsInOrder(t, after))
		})
	}
}

// TestBothDumpsOfOneDatabaseAreTheSame compares what both tools wrote, file names and metadata included.
func TestBothDumpsOfOneDatabaseAreTheSame(t *testing.T) {
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) {
			uri := s.start(t)
			db := connect(t, uri).Database(shop)
			fill(t, db, s.whole)
			own := ownBackup(t, db)
			dir := t.TempDir()
			stockDump(t, uri, shop, dir, "--gzip")
			m, err := backup.Adopt(t.Context(), dir, backup.AdoptOptions{Name: "stock", Target: shop, Database: shop, Time: time.Now()}, nil)
			require.NoError(t, err)

			require.Len(t, m.Collections, len(own.Manifest.Collections))
			for i, c := range m.Collections {
				o := own.Manifest.Collections[i]
				require.Equal(t, c.Name, o.Name)
				require.Equal(t, c.Type, o.Type, c.Name)
				require.Equal(t, c.Digest, o.Digest, c.Name)
				require.Equal(t, c.Data.Path, o.Data.Path, "file of the documents")
				require.Equal(t, unpacked(t, filepath.Join(dir, c.Metadata.Path)), unpacked(t, filepath.Join(own.Dir, o.Metadata.Path)), c.Name)
			}
			d, err := backup.Compare(t.Context(), own, backup.Source{Dir: dir, Manifest: m}, backup.CompareOptions{TenantField: "organization_id"})
			require.NoError(t, err)
			require.False(t, d.Total.Differ(), "%+v", d.Total)
			require.Equal(t, own.Manifest.Documents(), d.Total.Same)
		})
	}
}

// catalogOf is the catalog of a shop whose backups are all made by another tool.
func catalogOf(t *testing.T, dumps string) *catalog.Catalog {
	t.Helper()
	storage := t.TempDir()
	return &catalog.Catalog{
		Target: shop, Database: shop, Root: filepath.Join(storage, "backups", shop), ForeignRoot: filepath.Join(storage, "foreign", shop),
		Foreign: []config.Foreign{{Dir: dumps}},
	}
}

func ownBackup(t *testing.T, db *mongo.Database) backup.Source {
	t.Helper()
	root := t.TempDir()
	m, err := dump.Run(t.Context(), db, dump.Options{Root: root, Name: "20260224T020000Z-manual-3f9a2c", Target: shop, Kind: backup.Manual})
	require.NoError(t, err)
	s := backup.Source{Dir: filepath.Join(root, m.Name), Manifest: m}
	require.NoError(t, backup.Verify(t.Context(), s, nil))
	return s
}

// bringBack restores a backup as "runbook offline restore" does: stage, prove, swap, verify.
func bringBack(t *testing.T, db *mongo.Database, source backup.Source) {
	t.Helper()
	lease, err := restore.Acquire(t.Context(), db, restore.Holder{Owner: "offline oracle", Run: "one", Purpose: "round trip"}, false)
	require.NoError(t, err)
	o := restore.StageOptions{DB: db, Source: source, Lease: lease, Dir: filepath.Join(t.TempDir(), "staging")}
	_, err = restore.Stage(t.Context(), o)
	require.NoError(t, err)
	_, err = restore.Prove(t.Context(), o)
	require.NoError(t, err)
	swapped, err := restore.Swap(t.Context(), restore.SwapOptions{DB: db, Lease: lease, Incident: "oracle", Dir: o.Dir})
	require.NoError(t, err)
	require.Empty(t, swapped.Left)
	v, err := restore.VerifyInPlace(t.Context(), o)
	require.NoError(t, err)
	require.Empty(t, v.Differences)
	require.NoError(t, lease.Release(t.Context()))
}

func unpacked(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	b, err := io.ReadAll(z)
	require.NoError(t, err)
	return string(b)
}

// unpackedDump copies a database's folder of a dump with every file unpacked, as mongodump without --gzip lays it out.
func unpackedDump(t *testing.T, folder string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, filepath.Base(folder)), 0o750))
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	for _, e := range entries {
		plain := filepath.Join(dir, filepath.Base(folder), strings.TrimSuffix(e.Name(), ".gz"))
		require.NoError(t, os.WriteFile(plain, []byte(unpacked(t, filepath.Join(folder, e.Name()))), 0o600))
	}
	return dir
}
