package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
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

// A file of documents is either refused as damaged, or holds exactly what the standard library unpacks from it: nothing is
// left out, made up, or read beyond its end, and what passes as valid can be shown to people.
func FuzzDocuments(f *testing.F) {
	docs := slices.Concat([]byte(raw(f, bson.D{{Key: "_id", Value: 1}, {Key: "text", Value: "äöü"}})), []byte(raw(f, bson.D{})),
		[]byte(raw(f, bson.D{{Key: "list", Value: bson.A{bson.MinKey{}, bson.Regex{Pattern: "a"}, bson.CodeWithScope{Code: "f", Scope: bson.D{}}}}})))
	f.Add(docs, false)
	f.Add(docs[:len(docs)-1], false)
	f.Add([]byte{}, true)
	f.Add([]byte{5, 0, 0, 0, 1}, false)
	f.Add([]byte{255, 255, 255, 127}, false)
	f.Add(members(f, docs), true)
	f.Add(slices.Concat(members(f, docs[:40]), members(f, docs[40:])), true)
	f.Add(slices.Concat(stdGzip(f, docs[:7]), members(f, docs[7:])), true)
	f.Add(slices.Concat(members(f, docs[:7]), stdGzip(f, docs[7:]))[:90], true)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, file []byte, packed bool) {
		path := filepath.Join(dir, "fuzzed.bson")
		if packed {
			path += gzipExt
		}
		require.NoError(t, os.WriteFile(path, file, 0o600))
		r, err := openDocuments(t.Context(), path)
		require.NoError(t, err)
		defer r.close()
		var got []byte
		for {
			doc, err := r.next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				require.ErrorAs(t, err, new(*CorruptError))
				return
			}
			got = append(got, doc...)
			if doc.Validate() == nil {
				_ = doc.String()
				_, _ = ToJSON(doc)
			}
		}
		sum := sha256.Sum256(file)
		require.Equal(t, File{Size: int64(len(file)), SHA256: hex.EncodeToString(sum[:])}, r.source.file)
		want := file
		if packed {
			z, err := stdgzip.NewReader(bytes.NewReader(file))
			require.NoError(t, err)
			want, err = io.ReadAll(z)
			require.NoError(t, err)
		}
		require.True(t, bytes.Equal(want, got))
		require.Equal(t, int64(len(got)), r.digest.Bytes)
	})
}

// A manifest whose checksum is right, whoever wrote it, is either refused, or written again as it was.
func FuzzManifest(f *testing.F) {
	s := wholeShop(f)
	whole, err := os.ReadFile(filepath.Join(s.Dir, ManifestName))
	require.NoError(f, err)
	f.Add(whole[:len(whole)-len(checksumHead)-2*sha256.Size-len(checksumTail)])
	small := write(f, content{name: "c", docs: invoices(f, 1)})
	whole, err = os.ReadFile(filepath.Join(small.Dir, ManifestName))
	require.NoError(f, err)
	f.Add(whole[:len(whole)-len(checksumHead)-2*sha256.Size-len(checksumTail)])
	f.Add([]byte("{\n"))
	f.Add([]byte("{\n  \"format\": 7,\n"))
	f.Add([]byte{})
	dir := f.TempDir()
	path := filepath.Join(dir, ManifestName)
	f.Fuzz(func(t *testing.T, body []byte) {
		h := sha256.New()
		h.Write(body)
		h.Write([]byte(checksumHead + checksumTail))
		sealed := slices.Concat(body, []byte(checksumHead+hex.EncodeToString(h.Sum(nil))+checksumTail))
		require.NoError(t, os.WriteFile(path, sealed, 0o600))
		m, err := ReadManifest(path)
		if err != nil {
			var corrupt *CorruptError
			var format *FormatError
			require.True(t, errors.As(err, &corrupt) || errors.As(err, &format), "%v", err)
			return
		}
		require.Equal(t, Format, m.Format)
		for _, c := range m.Collections {
			for _, file := range []File{c.Data, c.Metadata} {
				rel, err := filepath.Rel(dir, filepath.Join(dir, file.Path))
				require.NoError(t, err)
				require.False(t, strings.HasPrefix(rel, ".."), "a path that leads out of the backup: %s", file.Path)
			}
		}
		require.False(t, strings.Contains(m.Database, "/") || strings.HasPrefix(m.Database, ".."), "a database's folder that is none: %s", m.Database)
		require.NoError(t, m.check())
		again, err := encode(m)
		require.NoError(t, err)
		require.Equal(t, string(sealed), string(again))
	})
}

// Metadata of whatever tool is either refused, or means the same once it is written as we write it.
func FuzzMetadata(f *testing.F) {
	for _, seed := range []string{
		`{"options":{},"indexes":[{"v":{"$numberInt":"2"},"key":{"_id":{"$numberInt":"1"}},"name":"_id_"}],"uuid":"0011","collectionName":"a","type":"collection"}`,
		`{"indexes":[{"v":1,"key":{"_id":1},"name":"_id_","ns":"d.c"}]}`,
		`{"options":{"viewOn":"x","pipeline":[]},"indexes":[],"collectionName":"v"}`,
		`{"options":{"timeseries":{"timeField":"t"},"expireAfterSeconds":{"$numberLong":"5"}},"indexes":[],"collectionName":"ts","type":"timeseries"}`,
		`{"options":{"validator":{"a":{"$regularExpression":{"pattern":"^a","options":"i"}}},"collation":{"locale":"de"}},"indexes":[]}`,
		`{"options":null}`, `{"indexes":[1]}`, `{"indexes":[{"key":{"a":1}}]}`, `{}`, ``, `{"options":{}} and more`, `[]`, `{"options":{"a":{"$numberDouble":"NaN"}}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeMetadata(b)
		if err != nil {
			return
		}
		written, err := m.Encode()
		require.NoError(t, err)
		again, err := DecodeMetadata(written)
		require.NoError(t, err, "%s", written)
		if len(m.Indexes) == 0 {
			m.Indexes, again.Indexes = nil, nil
		}
		require.Equal(t, m, again)
	})
}

// The name of a file is either refused, or names one collection, whose file it may be.
func FuzzCollectionName(f *testing.F) {
	long := strings.Repeat("größe/", 40)
	for _, seed := range [][2]string{{"invoices", ""}, {"a+b%2Fc", "a b/c"}, {FileBase(long), long}, {FileBase(long), ""}, {"%", ""}, {"..%2F..", ""}, {"", ""}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, base, metadata string) {
		if name := base; name != "" {
			got, err := CollectionName(FileBase(name), name)
			require.NoError(t, err)
			require.Equal(t, name, got)
			require.LessOrEqual(t, len(FileBase(name)), maxBase)
			require.NotContains(t, FileBase(name), "/")
		}
		name, err := CollectionName(base, metadata)
		if err != nil {
			return
		}
		require.NotEmpty(t, name)
		if metadata != "" {
			require.Equal(t, metadata, name)
			require.Equal(t, base, FileBase(name))
		}
	})
}

// A foreign dump whose two files hold anything is either refused by name, or described by a manifest that proves it.
func FuzzAdopt(f *testing.F) {
	doc := []byte(raw(f, bson.D{{Key: "_id", Value: 1}}))
	f.Add(doc, []byte(`{"options":{},"indexes":[],"collectionName":"c","type":"collection"}`), []byte(`{"ServerVersion":"7.0.5","ToolVersion":"100.9.4"}`), false)
	f.Add(stdGzip(f, doc), stdGzip(f, []byte(`{"indexes":[]}`)), stdGzip(f, []byte(`{}`)), true)
	f.Add([]byte{}, []byte{}, []byte{}, true)
	f.Add(doc, []byte(`{"options":{"viewOn":"x"}}`), []byte(`[]`), false)
	f.Fuzz(func(t *testing.T, data, metadata, prelude []byte, packed bool) {
		dir := t.TempDir()
		end := ending(packed)
		require.NoError(t, os.Mkdir(filepath.Join(dir, "shop"), 0o750))
		for name, b := range map[string][]byte{"shop/c.bson" + end: data, "shop/c.metadata.json" + end: metadata, "prelude.json" + end: prelude} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		m, err := Adopt(ctx, dir, AdoptOptions{Name: "x", Time: time.Unix(0, 0)}, nil)
		if err != nil {
			require.ErrorAs(t, err, new(*CorruptError))
			require.ErrorContains(t, err, dir)
			return
		}
		require.NoError(t, Verify(ctx, Source{dir, m}, nil))
		require.NoError(t, m.check())
	})
}
