package backup

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// stockDump lays out what mongodump --gzip leaves behind, as the script of the first user calls it.
func stockDump(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "test_database_20260224_020000")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "test_database"), 0o755))
	add := func(name, metadata string, docs []bson.Raw) {
		put(t, dir, "test_database/"+FileBase(name)+".metadata.json.gz", stdGzip(t, []byte(metadata)))
		if docs != nil {
			var all []byte
			for _, d := range docs {
				all = append(all, d...)
			}
			put(t, dir, "test_database/"+FileBase(name)+".bson.gz", stdGzip(t, all))
		}
	}
	add("invoices", `{"indexes":[{"v":{"$numberInt":"2"},"key":{"_id":{"$numberInt":"1"}},"name":"_id_"},{"v":2,"key":{"b":1,"a":-1},"name":"b_1_a_-1","ns":"test_database.invoices"}],"uuid":"ab12","collectionName":"invoices","type":"collection"}`, invoices(t, 700))
	add("empty", `{"options":{"capped":true,"size":{"$numberLong":"4096"}},"indexes":[]}`, []bson.Raw{})
	add("a b", `{"indexes":[],"uuid":"ab12","collectionName":"a b","type":"collection"}`, invoices(t, 2))
	add("open", `{"options":{"viewOn":"invoices","pipeline":[]},"indexes":[],"uuid":"","collectionName":"open","type":"view"}`, nil)
	add("old-view", `{"options":{"viewOn":"invoices","pipeline":[]},"indexes":[]}`, nil)
	add("runbook.stage.7.invoices", `{"indexes":[],"collectionName":"runbook.stage.7.invoices","type":"collection"}`, invoices(t, 1))
	add(strings.Repeat("l", 240), `{"indexes":[],"collectionName":"`+strings.Repeat("l", 240)+`","type":"collection"}`, invoices(t, 1))
	put(t, dir, "test_database/$admin.system.users.bson.gz", stdGzip(t, nil))
	put(t, dir, "prelude.json.gz", stdGzip(t, []byte(`{"ServerVersion":"7.0.5","ToolVersion":"100.9.4"}`)))
	return dir
}

var stockTime = time.Date(2026, 2, 24, 2, 0, 0, 0, time.UTC)

func adopt(t testing.TB, dir string) (*Manifest, error) {
	return Adopt(t.Context(), dir, AdoptOptions{Name: "test_database_20260224_020000", Target: "battwheels", Database: "test_database", Time: stockTime}, nil)
}

func TestStockDumpIsAdopted(t *testing.T) {
	dir := stockDump(t)
	m, err := adopt(t, dir)
	require.NoError(t, err)
	var names []string
	for _, c := range m.Collections {
		names = append(names, c.Name)
	}
	require.Equal(t, []string{"a b", "empty", "invoices", strings.Repeat("l", 240), "old-view", "open"}, names)
	require.Equal(t, int64(703), m.Documents())
	require.Equal(t, Foreign, m.Kind)
	require.Equal(t, stockTime, m.StartedAt)
	require.Equal(t, "7.0.5", m.Server.Version)
	require.Equal(t, "mongodump 100.9.4", m.Tool)
	require.Equal(t, TypeView, m.Collection("old-view").Type)
	require.JSONEq(t, `{"capped":true,"size":{"$numberLong":"4096"}}`, string(m.Collection("empty").Options))
	require.Equal(t, `{"v":{"$numberInt":"2"},"key":{"b":{"$numberInt":"1"},"a":{"$numberInt":"-1"}},"name":"b_1_a_-1","ns":"test_database.invoices"}`,
		string(m.Collection("invoices").Indexes[1].Spec))

	own := t.TempDir()
	require.NoError(t, WriteManifest(own, m))
	again, err := ReadManifest(own)
	require.NoError(t, err)
	s := Source{dir, again}
	require.NoError(t, Verify(t.Context(), s, nil))
	docs, err := readAll(t, s, again.Collection("invoices"))
	require.NoError(t, err)
	require.Equal(t, invoices(t, 700), docs)
}

func TestTheOnlyDatabaseNeedNotBeNamed(t *testing.T) {
	dir := stockDump(t)
	m, err := Adopt(t.Context(), dir, AdoptOptions{Name: "x", Time: stockTime}, nil)
	require.NoError(t, err)
	require.Equal(t, "test_database", m.Database)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "admin"), 0o755))
	_, err = Adopt(t.Context(), dir, AdoptOptions{Name: "x", Time: stockTime}, nil)
	require.ErrorContains(t, err, "admin, test_database")
}

func TestHalfWrittenForeignDumpsAreNamed(t *testing.T) {
	db := func(dir, file string) string { return filepath.Join(dir, "test_database", file) }
	cut := func(file string, keep func(size int) int) func(t *testing.T, dir string) string {
		return func(t *testing.T, dir string) string {
			b, err := os.ReadFile(db(dir, file))
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(db(dir, file), b[:keep(len(b))], 0o644))
			return db(dir, file)
		}
	}
	for name, damage := range map[string]func(t *testing.T, dir string) (file string){
		"the last data file is cut off":            cut("invoices.bson.gz", func(n int) int { return n / 2 }),
		"only its last byte is missing":            cut("invoices.bson.gz", func(n int) int { return n - 1 }),
		"its checksum is missing":                  cut("invoices.bson.gz", func(n int) int { return n - 8 }),
		"it was created but never written":         cut("invoices.bson.gz", func(int) int { return 0 }),
		"the gzip header alone stands there":       cut("invoices.bson.gz", func(int) int { return 10 }),
		"an empty collection's file is cut":        cut("empty.bson.gz", func(n int) int { return n - 4 }),
		"a metadata file is cut off":               cut("empty.metadata.json.gz", func(n int) int { return n / 2 }),
		"a metadata file was never written":        cut("empty.metadata.json.gz", func(int) int { return 0 }),
		"the metadata of a shortened name is lost": cut(FileBase(strings.Repeat("l", 240))+".metadata.json.gz", func(int) int { return 0 }),
		"the metadata is missing": func(t *testing.T, dir string) string {
			require.NoError(t, os.Remove(db(dir, "invoices.metadata.json.gz")))
			return db(dir, "invoices.bson.gz")
		},
		"the documents are missing": func(t *testing.T, dir string) string {
			require.NoError(t, os.Remove(db(dir, "invoices.bson.gz")))
			return db(dir, "invoices.metadata.json.gz")
		},
		"gzip is whole but ends inside a document": func(t *testing.T, dir string) string {
			all := slices.Concat(invoices(t, 2)[0], invoices(t, 2)[1][:20])
			put(t, dir, "test_database/invoices.bson.gz", stdGzip(t, all))
			return db(dir, "invoices.bson.gz")
		},
		"gzip is whole but a document is not BSON inside": func(t *testing.T, dir string) string {
			doc := slices.Clone(invoices(t, 1)[0])
			doc[4] = 0x66
			put(t, dir, "test_database/invoices.bson.gz", stdGzip(t, doc))
			return db(dir, "invoices.bson.gz")
		},
		"a flipped bit": func(t *testing.T, dir string) string {
			b, err := os.ReadFile(db(dir, "invoices.bson.gz"))
			require.NoError(t, err)
			b[len(b)/2] ^= 4
			require.NoError(t, os.WriteFile(db(dir, "invoices.bson.gz"), b, 0o644))
			return db(dir, "invoices.bson.gz")
		},
		"metadata of another collection": func(t *testing.T, dir string) string {
			put(t, dir, "test_database/invoices.metadata.json.gz", stdGzip(t, []byte(`{"indexes":[],"collectionName":"contacts"}`)))
			return db(dir, "invoices.metadata.json.gz")
		},
		"a copy that stopped on the way": func(t *testing.T, dir string) string {
			put(t, dir, "test_database/invoices.bson.gz.part", []byte("x"))
			return db(dir, "invoices.bson.gz.part")
		},
		"the same collection twice": func(t *testing.T, dir string) string {
			put(t, dir, "test_database/invoices.bson", nil)
			return db(dir, "invoices.bson.gz")
		},
		"nothing in the database's folder": func(t *testing.T, dir string) string {
			require.NoError(t, os.RemoveAll(filepath.Join(dir, "test_database")))
			require.NoError(t, os.Mkdir(filepath.Join(dir, "test_database"), 0o755))
			return filepath.Join(dir, "test_database")
		},
		"no folder at all": func(t *testing.T, dir string) string {
			require.NoError(t, os.RemoveAll(filepath.Join(dir, "test_database")))
			return dir
		},
		"another database": func(t *testing.T, dir string) string {
			require.NoError(t, os.Rename(filepath.Join(dir, "test_database"), filepath.Join(dir, "other")))
			return dir
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := stockDump(t)
			file := damage(t, dir)
			_, err := adopt(t, dir)
			requireNamed(t, err, file, name)
		})
	}
}

func TestDumpWithOplogIsRefusedByName(t *testing.T) {
	for _, name := range []string{"oplog.bson", "oplog.bson.gz"} {
		dir := stockDump(t)
		put(t, dir, name, nil)
		_, err := adopt(t, dir)
		var oplog *OplogError
		require.ErrorAs(t, err, &oplog)
		require.Equal(t, filepath.Join(dir, name), oplog.File)
		require.ErrorContains(t, err, "--oplogReplay")
	}
}

func TestUncompressedDumpIsAdopted(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "shop"), 0o755))
	put(t, dir, "shop/a.metadata.json", []byte(`{"indexes":[]}`))
	put(t, dir, "shop/a.bson", slices.Concat(invoices(t, 2)[0], invoices(t, 2)[1]))
	put(t, dir, "shop/none.metadata.json", []byte(`{"indexes":[]}`))
	put(t, dir, "shop/none.bson", nil)
	m, err := Adopt(t.Context(), dir, AdoptOptions{Name: "x"}, nil)
	require.NoError(t, err)
	require.Equal(t, "none", m.Compression)
	require.Equal(t, int64(2), m.Documents())
	require.NoError(t, Verify(t.Context(), Source{dir, m}, nil))
	require.NoError(t, os.Truncate(filepath.Join(dir, "shop/a.bson"), int64(len(invoices(t, 1)[0])+3)))
	_, err = Adopt(t.Context(), dir, AdoptOptions{Name: "x"}, nil)
	requireNamed(t, err, filepath.Join(dir, "shop/a.bson"), "cut")
}

// Up to MongoDB 8.2 mongodump gives the documents of a time series the name of the collection that held them, and from 8.3 on, where there is
// none, the series' own.
func TestATimeSeriesIsAdoptedUnderEitherName(t *testing.T) {
	for _, documents := range []string{"system.buckets.weather.bson", "weather.bson"} {
		t.Run(documents, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, os.Mkdir(filepath.Join(dir, "shop"), 0o755))
			put(t, dir, "shop/weather.metadata.json", []byte(`{"indexes":[],"options":{"timeseries":{"timeField":"t"}},"type":"timeseries"}`))
			file := put(t, dir, "shop/"+documents, invoices(t, 1)[0])
			m, err := Adopt(t.Context(), dir, AdoptOptions{Name: "x"}, nil)
			require.NoError(t, err)
			require.Equal(t, file.Path, m.Collection("weather").Data.Path)
			require.Equal(t, int64(1), m.Documents())
			require.NoError(t, WriteManifest(t.TempDir(), m))
			require.NoError(t, Verify(t.Context(), Source{dir, m}, nil))
			require.NoError(t, os.Remove(filepath.Join(dir, file.Path)))
			_, err = Adopt(t.Context(), dir, AdoptOptions{Name: "x"}, nil)
			require.ErrorContains(t, err, "the documents (system.buckets.weather.bson) are missing")
		})
	}
}

func TestAdoptingCanBeCancelled(t *testing.T) {
	ctx, cancel := newCancelled(t)
	defer cancel()
	_, err := Adopt(ctx, stockDump(t), AdoptOptions{Name: "x", Time: stockTime}, nil)
	require.Error(t, err)
	require.False(t, errors.As(err, new(*CorruptError)), "%v", err)
}

func TestACollectionNamedRunbookIsAnApplicationsOwn(t *testing.T) {
	for _, gz := range []string{"", ".gz"} {
		dir := t.TempDir()
		require.NoError(t, os.Mkdir(filepath.Join(dir, "shop"), 0o755))
		pack := func(b []byte) []byte {
			if gz != "" {
				return stdGzip(t, b)
			}
			return b
		}
		for _, name := range []string{"runbook", "runbook~", "runbook.lease", "runbook~stage~1~a"} {
			put(t, dir, "shop/"+FileBase(name)+".metadata.json"+gz, pack([]byte(`{"indexes":[]}`)))
			put(t, dir, "shop/"+FileBase(name)+".bson"+gz, pack(invoices(t, 1)[0]))
		}
		m, err := Adopt(t.Context(), dir, AdoptOptions{Name: "x"}, nil)
		require.NoError(t, err)
		require.Len(t, m.Collections, 1)
		require.Equal(t, "runbook", m.Collections[0].Name)
		require.NoError(t, Verify(t.Context(), Source{dir, m}, nil))
	}
}
