package catalog

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/config"
)

// The morning on which the tests look at the backups.
var now = day("2026-02-24 06:00:00")

func day(s string) time.Time {
	t, err := time.Parse("2006-01-02 15:04:05", s)
	if err != nil {
		panic(err)
	}
	return t
}

// world is one target with its own backups, a directory of mongodump's, and the script's log.
type world struct {
	*Catalog
	t   testing.TB
	dir string // of mongodump's dumps
	log string
}

func newWorld(t testing.TB) *world {
	t.Helper()
	root := t.TempDir()
	w := &world{t: t, dir: filepath.Join(root, "mongodb"), log: filepath.Join(root, "mongodb_backup.log")}
	w.Catalog = &Catalog{
		Target: "battwheels", Database: "test_database",
		Root: filepath.Join(root, "backups", "battwheels"), ForeignRoot: filepath.Join(root, "foreign", "battwheels"),
		Foreign: []config.Foreign{{Dir: w.dir, Pattern: "{database}_{time}", Zone: "UTC"}},
		Now:     func() time.Time { return now },
	}
	require.NoError(t, os.MkdirAll(w.Root, 0o750))
	require.NoError(t, os.MkdirAll(w.dir, 0o750))
	return w
}

// shape is the content of a backup: documents by collection. A collection named X@N is X, and all its documents have another content for another length of N.
type shape map[string]int

// usual is what the application's database looks like: n collections, of which a few have documents.
func usual(n int) shape {
	s := shape{"invoices": 120, "users": 40, "organizations": 7}
	for i := len(s); i < n; i++ {
		s[fmt.Sprintf("collection_%03d", i)] = i % 3
	}
	return s
}

func (s shape) without(names ...string) shape {
	less := shape{}
	for k, v := range s {
		less[k] = v
	}
	for _, n := range names {
		delete(less, n)
	}
	return less
}

// files writes the collections as mongodump does, and describes them.
func files(t testing.TB, dir, database string, s shape) []backup.Collection {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, database), 0o750))
	var all []backup.Collection
	for name, n := range s {
		name, version, _ := strings.Cut(name, "@")
		random := rand.New(rand.NewPCG(1, uint64(2+len(version))))
		id, err := bson.Marshal(bson.D{{Key: "v", Value: 2}, {Key: "key", Value: bson.D{{Key: "_id", Value: 1}}}, {Key: "name", Value: "_id_"}})
		require.NoError(t, err)
		index, err := backup.NewIndex(id)
		require.NoError(t, err)
		c := backup.Collection{Name: name, Type: backup.TypeCollection, Indexes: []backup.Index{index}}
		var docs []byte
		for i := range n {
			noise := make([]byte, 32)
			for j := range noise {
				noise[j] = byte(random.Uint32())
			}
			doc, err := bson.Marshal(bson.D{{Key: "_id", Value: i}, {Key: "organization_id", Value: "org_1"}, {Key: "noise", Value: noise}})
			require.NoError(t, err)
			c.Digest.Add(doc)
			docs = append(docs, doc...)
		}
		meta, err := backup.Metadata{Collection: name, Type: c.Type, UUID: "00112233445566778899aabbccddeeff", Indexes: c.Indexes}.Encode()
		require.NoError(t, err)
		c.Data = put(t, dir, backup.DataPath(database, name, c.Type, true), packed(t, docs))
		c.Metadata = put(t, dir, backup.MetadataPath(database, name, true), packed(t, meta))
		all = append(all, c)
	}
	return all
}

// packs keeps what was packed: the same few contents come again in every test.
var packs sync.Map

func packed(t testing.TB, content []byte) []byte {
	t.Helper()
	if b, ok := packs.Load(string(content)); ok {
		return b.([]byte)
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write(content)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	packs.Store(string(content), b.Bytes())
	return b.Bytes()
}

func put(t testing.TB, dir, path string, b []byte) backup.File {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, path), b, 0o640))
	sum := sha256.Sum256(b)
	return backup.File{Path: path, Size: int64(len(b)), SHA256: hex.EncodeToString(sum[:])}
}

// mongodump leaves a dump of that time, and returns its id.
func (w *world) mongodump(at string, s shape) string {
	w.t.Helper()
	name := "test_database_" + strings.NewReplacer("-", "", " ", "_", ":", "").Replace(at)
	files(w.t, filepath.Join(w.dir, name), "test_database", s)
	return "foreign/" + name
}

func (w *world) dumped(id string) string {
	return filepath.Join(w.dir, strings.TrimPrefix(id, "foreign/"), "test_database")
}

// own leaves a backup of ours, and returns its id.
func (w *world) own(at string, kind backup.Kind, s shape) string {
	w.t.Helper()
	start := day(at)
	name := start.Format("20060102T150405Z") + "-" + string(kind) + "-3f9a2c"
	dir := filepath.Join(w.Root, name)
	m := &backup.Manifest{
		Name: name, Target: w.Target, Database: w.Database, Kind: kind, StartedAt: start, FinishedAt: start.Add(2 * time.Minute),
		Server: backup.Server{Version: "7.0.5", Topology: "standalone"}, Tool: "runbook test", Compression: "gzip",
		Collections: files(w.t, dir, w.Database, s),
	}
	require.NoError(w.t, backup.WriteManifest(dir, m))
	return name
}

// unfinished leaves what a killed writer of ours leaves.
func (w *world) unfinished(at string) string {
	w.t.Helper()
	name := day(at).Format("20060102T150405Z") + "-scheduled-3f9a2c.incomplete"
	files(w.t, filepath.Join(w.Root, name), w.Database, usual(3))
	return name
}

// script writes the script's log: as its lines, or as whole runs, whose times are given.
func (w *world) script(lines ...string) {
	w.t.Helper()
	w.Foreign[0].Log = w.log
	require.NoError(w.t, os.WriteFile(w.log, []byte(strings.Join(lines, "\n")+"\n"), 0o640))
}

// good is what the script and mongodump write of a run in which all went well.
func good(at string, collections int) string {
	name := strings.NewReplacer("-", "", " ", "_", ":", "").Replace(at)
	return fmt.Sprintf(`[%[1]s] Starting MongoDB backup of test_database
%[4]s.123+0000	writing test_database.invoices to /var/backups/mongodb/test_database_%[2]s/test_database/invoices.bson.gz
%[4]s.456+0000	done dumping test_database.invoices (120 documents)
[%[1]s] Backup complete: /var/backups/mongodb/test_database_%[2]s (%[3]d collection files)
[%[1]s] Backup job finished successfully`, at, name, collections, strings.Replace(at, " ", "T", 1))
}

// verify verifies and expects success.
func (w *world) verify(id string) Entry {
	w.t.Helper()
	e, _, err := w.Verify(w.t.Context(), id, nil)
	require.NoError(w.t, err)
	return e
}

func (w *world) list() []Entry {
	w.t.Helper()
	entries, err := w.List(w.t.Context())
	require.NoError(w.t, err)
	return entries
}

func (w *world) entry(id string) Entry {
	w.t.Helper()
	e, ok := find(w.list(), id)
	require.True(w.t, ok, "no entry %s", id)
	return *e
}

// chosen is the id that Choose takes by itself; empty where it takes none.
func (w *world) chosen() string {
	w.t.Helper()
	choice, err := w.Choose(w.list(), time.Time{}, "")
	if err != nil {
		require.ErrorAs(w.t, err, new(*NoBackupError))
		return ""
	}
	return choice.Entry.ID
}

func ids(entries []Entry) []string {
	var all []string
	for _, e := range entries {
		all = append(all, e.ID)
	}
	return all
}
