package oracle

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/catalog"
	"github.com/battwheels/runbook/internal/conformance"
	"github.com/battwheels/runbook/internal/dump"
	"github.com/battwheels/runbook/internal/mongotest"
)

// TestEveryCaseGoesFromMongodumpToRunbook takes each kind of collection, value, name and index through a stock dump, packed and
// not, and restores it here.
func TestEveryCaseGoesFromMongodumpToRunbook(t *testing.T) {
	uri := mongotest.Start(t).URI()
	conformance.Each(t, conformance.Server{URI: uri, Known: true}, func(t *testing.T, _ string, db *mongo.Database) {
		before := conformance.Contents(t, db)
		for _, form := range forms {
			dir := t.TempDir()
			stockDump(t, uri, db.Name(), dir, form.args...)
			m, err := backup.Adopt(t.Context(), dir, backup.AdoptOptions{Name: "stock", Target: shop, Time: time.Now()}, nil)
			require.NoError(t, err, form.name)
			empty := conformance.NewDatabase(t, db.Client())
			require.NoError(t, conformance.Direct(t, backup.Source{Dir: dir, Manifest: m}, empty), form.name)
			require.Equal(t, before, conformance.Contents(t, empty), form.name)
		}
	})
}

// TestEveryCaseGoesFromRunbookToMongorestore takes each through a backup of runbook's own, packed as it is and unpacked, and
// restores it with the stock tool.
func TestEveryCaseGoesFromRunbookToMongorestore(t *testing.T) {
	s := conformance.Server{URI: mongotest.Start(t).URI(), Known: true, Without: map[string]string{
		"Timestamp(0, 0) at the top of a document": "this mongorestore lets the server replace it by the time of day",
		"names with a line break":                  "no pattern of mongorestore's matches one, not even that for all",
		"wildcard indexes":                         "mongorestore keeps an index's options in a map: the fields of a projection may change places",
	}}
	conformance.Each(t, s, func(t *testing.T, _ string, db *mongo.Database) {
		before := conformance.Contents(t, db)
		source := conformance.Dump(t, db, dump.Options{})
		for _, form := range forms {
			dir := source.Dir
			if len(form.args) == 0 {
				dir = unpackedDump(t, filepath.Join(source.Dir, db.Name()))
			}
			require.NoError(t, db.Drop(t.Context()))
			stockRestore(t, s.URI, dir, append([]string{"--bypassDocumentValidation"}, form.args...)...)
			require.Equal(t, before, conformance.Contents(t, db), form.name)
		}
	})
}

// TestAnArchiveIsUsedTheWayThatItsRefusalSays restores an archive of mongodump into a scratch database and takes a backup of that.
func TestAnArchiveIsUsedTheWayThatItsRefusalSays(t *testing.T) {
	uri := mongotest.Start(t).URI()
	client := connect(t, uri)
	db := client.Database(shop)
	fill(t, db, true)
	before := contents(t, db)
	for _, form := range forms {
		t.Run(form.name, func(t *testing.T) {
			archive := filepath.Join(t.TempDir(), "shop_20260224_020000.archive")
			if form.name == "gzip" {
				archive += ".gz"
			}
			require.NoError(t, mongodumpWith(append([]string{"--uri", uri, "--db", shop, "--archive=" + archive}, form.args...)))
			_, err := backup.Adopt(t.Context(), archive, backup.AdoptOptions{Name: "stock"}, nil)
			require.ErrorAs(t, err, new(*backup.ArchiveError))
			require.ErrorContains(t, err, "--archive="+archive)

			c := catalogOf(t, filepath.Dir(archive))
			entries, err := c.List(t.Context())
			require.NoError(t, err)
			require.Len(t, entries, 1)
			require.Contains(t, entries[0].Why, archive+" is an archive")
			_, err = c.Choose(entries, time.Time{}, "")
			require.Error(t, err, "never chosen")

			scratch := mongotest.Start(t).URI()
			stockRestore(t, scratch, "", append([]string{"--archive=" + archive, "--bypassDocumentValidation"}, form.args...)...)
			source := ownBackup(t, connect(t, scratch).Database(shop))
			empty := client.Database("copy_" + form.name)
			bringBack(t, empty, source)
			require.Equal(t, fieldsInOrder(t, before), fieldsInOrder(t, contents(t, empty)))
		})
	}
}

// TestADumpWithAPreludeRestores has the file that newer versions of mongodump write, where they write it.
func TestADumpWithAPreludeRestores(t *testing.T) {
	const prelude = `{"ServerVersion":"8.0.12","ToolVersion":"100.13.0"}`
	for _, form := range forms {
		for _, folder := range []string{".", shop} {
			t.Run(form.name+" in "+folder, func(t *testing.T) {
				uri := mongotest.Start(t).URI()
				db := connect(t, uri).Database(shop)
				fill(t, db, true)
				before := contents(t, db)
				dumps := t.TempDir()
				dir := filepath.Join(dumps, "shop_20260224_020000")
				stockDump(t, uri, shop, dir, form.args...)
				path, content := filepath.Join(dir, folder, "prelude.json"), []byte(prelude)
				if form.name == "gzip" {
					path, content = path+".gz", packed(t, prelude)
				}
				require.NoError(t, os.WriteFile(path, content, 0o600))
				wreck(t, db)
				e, source, err := catalogOf(t, dumps).Verify(t.Context(), "shop_20260224_020000", nil)
				require.NoError(t, err)
				require.Equal(t, catalog.Verified, e.State)
				require.Equal(t, "mongodump 100.13.0", source.Manifest.Tool)
				require.Equal(t, "8.0.12", source.Manifest.Server.Version)
				bringBack(t, db, source)
				require.Equal(t, before, contents(t, db))
			})
		}
	}
}

func packed(t *testing.T, content string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write([]byte(content))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	return b.Bytes()
}
