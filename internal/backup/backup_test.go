package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	stdgzip "compress/gzip"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// content is one collection of a backup that a test writes.
type content struct {
	name    string
	typ     Type
	options any
	indexes []any
	docs    []bson.Raw
	index   bool // has a document index
}

func raw(t testing.TB, v any) bson.Raw {
	t.Helper()
	b, err := bson.Marshal(v)
	require.NoError(t, err)
	return b
}

// write lays out a backup of ours and returns where it is.
func write(t testing.TB, collections ...content) Source {
	t.Helper()
	dir := t.TempDir()
	m := &Manifest{
		Name: "20260224T020000Z-manual-3f9a2c", Target: "battwheels", Database: "shop", Kind: Manual,
		StartedAt: time.Date(2026, 2, 24, 2, 0, 0, 1, time.FixedZone("IST", 19800)), FinishedAt: time.Now(),
		Server: Server{Version: "7.0.5", Topology: "standalone"}, Tool: "runbook test", Compression: "gzip",
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, "shop"), 0o755))
	for _, in := range collections {
		c := Collection{Name: in.name, Type: in.typ}
		if c.Type == "" {
			c.Type = TypeCollection
		}
		if in.options != nil {
			var err error
			c.Options, err = ToJSON(raw(t, in.options))
			require.NoError(t, err)
		}
		for _, spec := range in.indexes {
			index, err := NewIndex(raw(t, spec))
			require.NoError(t, err)
			c.Indexes = append(c.Indexes, index)
		}
		meta, err := Metadata{Collection: c.Name, Type: c.Type, UUID: "00112233445566778899aabbccddeeff", Options: c.Options, Indexes: c.Indexes}.Encode()
		require.NoError(t, err)
		c.Metadata = put(t, dir, MetadataPath("shop", c.Name, true), members(t, meta))
		if c.Type != TypeView {
			var all []byte
			for _, d := range in.docs {
				c.Digest.Add(d)
				all = append(all, d...)
			}
			c.Data = put(t, dir, DataPath("shop", c.Name, c.Type, true), members(t, all))
		}
		if in.index {
			c.DocumentIndex = putIndex(t, dir, c.Name, in.docs)
		}
		m.Collections = append(m.Collections, c)
	}
	require.NoError(t, WriteManifest(dir, m))
	return Source{Dir: dir, Manifest: m}
}

func putIndex(t testing.TB, dir, collection string, docs []bson.Raw) File {
	t.Helper()
	path := IndexPath("shop", collection)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(path)), 0o755))
	f := writeIndex(t, filepath.Join(dir, path), indexMemory, docs)
	f.Path = path
	return f
}

// members packs content as our files are: into several members where it is long.
func members(t testing.TB, content []byte) []byte {
	t.Helper()
	p, err := NewPacker(3)
	require.NoError(t, err)
	var file, member bytes.Buffer
	for {
		n := min(len(content), 50_000)
		require.NoError(t, p.Pack(&member, content[:n]))
		file.Write(member.Bytes())
		if content = content[n:]; len(content) == 0 {
			return file.Bytes()
		}
	}
}

func stdGzip(t testing.TB, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := stdgzip.NewWriter(&b)
	_, err := z.Write(content)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	return b.Bytes()
}

func put(t testing.TB, dir, path string, b []byte) File {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, path), b, 0o644))
	sum := sha256.Sum256(b)
	return File{Path: path, Size: int64(len(b)), SHA256: hex.EncodeToString(sum[:])}
}

func invoices(t testing.TB, n int) []bson.Raw {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	var docs []bson.Raw
	for i := range n {
		docs = append(docs, raw(t, bson.D{
			{Key: "_id", Value: i}, {Key: "invoice_id", Value: fmt.Sprintf("inv_%08x", r.Uint32())}, {Key: "organization_id", Value: fmt.Sprintf("org_%d", i%7)},
			{Key: "note", Value: strings.Repeat("x", r.IntN(300))}, {Key: "total", Value: r.Float64()},
		}))
	}
	return docs
}

var idIndex = bson.D{{Key: "v", Value: 2}, {Key: "key", Value: bson.D{{Key: "_id", Value: 1}}}, {Key: "name", Value: "_id_"}}

// wholeShop has one collection of each shape that matters on disk.
func wholeShop(t testing.TB) Source {
	return write(t,
		content{name: "invoices", docs: invoices(t, 2000), index: true, indexes: []any{idIndex, bson.D{
			{Key: "v", Value: 2}, {Key: "unique", Value: true}, {Key: "key", Value: bson.D{{Key: "organization_id", Value: 1}, {Key: "created_at", Value: -1}}},
			{Key: "name", Value: "org <&> created"}, {Key: "partialFilterExpression", Value: bson.D{{Key: "source", Value: bson.D{{Key: "$gt", Value: ""}}}}},
		}}},
		content{name: "empty", indexes: []any{idIndex}, options: bson.D{{Key: "capped", Value: true}, {Key: "size", Value: int64(4096)}}},
		content{name: strings.Repeat("größe/", 40), docs: invoices(t, 3), indexes: []any{idIndex}},
		content{name: "open", typ: TypeView, options: bson.D{{Key: "viewOn", Value: "invoices"}, {Key: "pipeline", Value: bson.A{}}}},
		content{name: "weather", typ: TypeTimeseries, docs: invoices(t, 20), options: bson.D{{Key: "timeseries", Value: bson.D{{Key: "timeField", Value: "t"}}}}},
	)
}

func readAll(t testing.TB, s Source, c *Collection) ([]bson.Raw, error) {
	t.Helper()
	var docs []bson.Raw
	for doc, err := range s.Documents(t.Context(), c) {
		if err != nil {
			return docs, err
		}
		docs = append(docs, slices.Clone(doc))
	}
	return docs, nil
}

func TestWholeBackupVerifies(t *testing.T) {
	s := wholeShop(t)
	m, err := ReadManifest(filepath.Join(s.Dir, ManifestName))
	require.NoError(t, err)
	require.Equal(t, s.Manifest, m, "what is read is what was written")
	var last Progress
	require.NoError(t, Verify(t.Context(), Source{s.Dir, m}, func(p Progress) { last = p }))
	require.Equal(t, 5, last.Collections)
	require.Equal(t, m.Documents(), last.Documents)
	require.Equal(t, m.Bytes(), last.Bytes)

	docs, err := readAll(t, s, m.Collection("invoices"))
	require.NoError(t, err)
	require.Equal(t, invoices(t, 2000), docs)
	none, err := readAll(t, s, m.Collection("open"))
	require.NoError(t, err)
	require.Empty(t, none)
}

// check is what every reader does before it believes a backup.
func check(t testing.TB, dir string) error {
	m, err := ReadManifest(dir)
	if err != nil {
		return err
	}
	return Verify(t.Context(), Source{dir, m}, nil)
}

func requireNamed(t testing.TB, err error, file, what string) {
	t.Helper()
	var corrupt *CorruptError
	require.ErrorAs(t, err, &corrupt, what)
	require.Equal(t, file, corrupt.File, what)
	require.Contains(t, err.Error(), file, what)
}

func TestEveryFlippedByteAndEveryCutIsNamed(t *testing.T) {
	s := wholeShop(t)
	r := rand.New(rand.NewPCG(3, 4))
	for _, file := range files(t, s.Dir) {
		whole, err := os.ReadFile(file)
		require.NoError(t, err)
		positions := []int{0, 1, 3, 9, 10, 16, 19, len(whole) - 1, len(whole) - 5, len(whole) - 8}
		for range 60 {
			positions = append(positions, r.IntN(len(whole)))
		}
		for _, at := range positions {
			at = min(at, len(whole)-1)
			bad := slices.Clone(whole)
			bad[at] ^= byte(1 + r.IntN(255))
			require.NoError(t, os.WriteFile(file, bad, 0o644))
			requireNamed(t, check(t, s.Dir), file, fmt.Sprintf("byte %d of %d flipped", at, len(whole)))
		}
		for _, size := range append(positions, 0) {
			require.NoError(t, os.WriteFile(file, whole[:min(size, len(whole)-1)], 0o644))
			requireNamed(t, check(t, s.Dir), file, fmt.Sprintf("cut to %d of %d bytes", size, len(whole)))
		}
		require.NoError(t, os.WriteFile(file, append(slices.Clone(whole), 0), 0o644))
		requireNamed(t, check(t, s.Dir), file, "one byte too many")
		require.NoError(t, os.WriteFile(file, whole, 0o644))
	}
	require.NoError(t, check(t, s.Dir))
}

func TestDocumentsEndWithTheDamageEvenIfItsSizeIsRight(t *testing.T) {
	s := wholeShop(t)
	c := s.Manifest.Collection("invoices")
	file := filepath.Join(s.Dir, c.Data.Path)
	whole, err := os.ReadFile(file)
	require.NoError(t, err)
	r := rand.New(rand.NewPCG(5, 6))
	for range 300 {
		bad := slices.Clone(whole)
		at := r.IntN(len(bad))
		bad[at] ^= 1 << r.IntN(8)
		require.NoError(t, os.WriteFile(file, bad, 0o644))
		_, err := readAll(t, s, c)
		requireNamed(t, err, file, fmt.Sprintf("byte %d", at))
	}
}

func TestMissingAndExtraFilesAreNamed(t *testing.T) {
	s := wholeShop(t)
	for _, c := range s.Manifest.Collections {
		for _, f := range c.Files() {
			path := filepath.Join(s.Dir, f.Path)
			stray := filepath.Join(filepath.Dir(path), "stray")
			require.NoError(t, os.Rename(path, stray))
			err := check(t, s.Dir)
			require.ErrorContains(t, err, path+" is damaged: it is missing")
			require.ErrorContains(t, err, stray+" is damaged: the manifest does not know it")
			require.NoError(t, os.Rename(stray, path))
		}
	}
	require.NoError(t, os.RemoveAll(filepath.Join(s.Dir, "shop")))
	require.ErrorContains(t, check(t, s.Dir), "it is missing")
	require.NoError(t, os.Remove(filepath.Join(s.Dir, ManifestName)))
	require.ErrorIs(t, check(t, s.Dir), os.ErrNotExist)
}

func TestManifestThatSomebodyEditedIsRefused(t *testing.T) {
	s := wholeShop(t)
	path := filepath.Join(s.Dir, ManifestName)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	reseal := func(b []byte) []byte {
		b = bytes.Replace(b, []byte(s.Manifest.Checksum), nil, 1)
		sum := sha256.Sum256(b)
		return bytes.Replace(b, []byte("\"checksum\": \"\"\n}"), fmt.Appendf(nil, "\"checksum\": %q\n}", hex.EncodeToString(sum[:])), 1)
	}
	for _, row := range []struct {
		name     string
		old, new string
		want     string
	}{
		{"a field that this version does not know", `"target":`, `"tarjet":`, "tarjet"},
		{"a path that leads out", `"shop/invoices.bson.gz"`, `"../invoices.bson.gz"`, "leads out of the backup"},
		{"two collections in one file", `"shop/empty.bson.gz"`, `"shop/invoices.bson.gz"`, "share the file"},
		{"a key in capitals", `"tool":`, `"Tool":`, "form that runbook writes"},
		{"a database that leads out", `"database": "shop"`, `"database": "../shop"`, "no name of a folder"},
		{"two collections of one name", `"name": "empty"`, `"name": "invoices"`, "twice"},
	} {
		t.Run(row.name, func(t *testing.T) {
			edited := bytes.Replace(whole, []byte(row.old), []byte(row.new), 1)
			require.NotEqual(t, whole, edited)
			require.NoError(t, os.WriteFile(path, reseal(edited), 0o644))
			_, err := ReadManifest(path)
			requireNamed(t, err, path, row.name)
			require.ErrorContains(t, err, row.want)
		})
	}
	t.Run("a newer format", func(t *testing.T) {
		require.NoError(t, os.WriteFile(path, reseal(bytes.Replace(whole, []byte(`"format": 1`), []byte(`"format": 2`), 1)), 0o644))
		_, err := ReadManifest(path)
		var format *FormatError
		require.ErrorAs(t, err, &format)
		require.Equal(t, 2, format.Format)
	})
}

func TestDocumentsOfAnyGzipOrPlainFile(t *testing.T) {
	docs := invoices(t, 3000)
	docs = append(docs, raw(t, bson.D{{Key: "_id", Value: "big"}, {Key: "b", Value: bytes.Repeat([]byte("0123456789abcdef"), 200_000)}}))
	docs = append(docs, invoices(t, 5)...)
	all := slices.Concat(func() (b [][]byte) {
		for _, d := range docs {
			b = append(b, d)
		}
		return
	}()...)
	split := len(all) / 3
	for name, b := range map[string][]byte{
		"one stream of the standard library":   stdGzip(t, all),
		"members that cut documents in two":    members(t, all),
		"concatenated streams":                 slices.Concat(stdGzip(t, all[:split]), stdGzip(t, all[split:])),
		"our members, then a foreign stream":   slices.Concat(members(t, all[:split]), stdGzip(t, all[split:])),
		"foreign stream, then members of ours": slices.Concat(stdGzip(t, all[:split]), members(t, all[split:])),
		"plain":                                all,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := "x.bson.gz"
			if name == "plain" {
				file = "x.bson"
			}
			c := Collection{Name: "x", Data: put(t, dir, file, b)}
			for _, d := range docs {
				c.Digest.Add(d)
			}
			got, err := readAll(t, Source{Dir: dir}, &c)
			require.NoError(t, err)
			require.Equal(t, docs, got)
		})
	}
}

func TestStandardGzipReadsOurMembers(t *testing.T) {
	all := slices.Concat([]byte("begin"), bytes.Repeat([]byte("0123456789"), 100_000))
	z, err := stdgzip.NewReader(bytes.NewReader(members(t, all)))
	require.NoError(t, err)
	got, err := io.ReadAll(z)
	require.NoError(t, err)
	require.True(t, bytes.Equal(all, got))
}

func TestReadingStopsWhenItsCallerDoes(t *testing.T) {
	s := wholeShop(t)
	c := s.Manifest.Collection("invoices")
	n := 0
	for _, err := range s.Documents(t.Context(), c) {
		require.NoError(t, err)
		if n++; n == 3 {
			break
		}
	}
	ctx, cancel := newCancelled(t)
	defer cancel()
	for _, err := range s.Documents(ctx, c) {
		require.Error(t, err)
		require.False(t, errors.As(err, new(*CorruptError)), "a cancelled reader says nothing about the file: %v", err)
	}
}

func files(t testing.TB, dir string) []string {
	t.Helper()
	var found []string
	require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			found = append(found, path)
		}
		return err
	}))
	require.NotEmpty(t, found)
	return found
}

func TestDigestDoesNotDependOnOrderAndSurvivesJSON(t *testing.T) {
	docs := invoices(t, 500)
	var a, b, left, right Digest
	for i, d := range docs {
		a.Add(d)
		b.Add(docs[len(docs)-1-i])
		if i%2 == 0 {
			left.Add(d)
		} else {
			right.Add(d)
		}
	}
	left.Merge(right)
	require.Equal(t, a, b)
	require.Equal(t, a, left)
	j, err := json.Marshal(a)
	require.NoError(t, err)
	var again Digest
	require.NoError(t, json.Unmarshal(j, &again))
	require.Equal(t, a, again)
	a.Add(docs[0])
	require.NotEqual(t, a, b)
}
