package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"
	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/sync/errgroup"
)

// maxMetadata bounds an unpacked metadata file: a collection has at most 64 indexes.
const maxMetadata = 64 << 20

// Verify proves that a backup's files are what the manifest says: none missing, none extra, each one's size and
// SHA-256, every document whole and valid, counts and digests, the metadata equal to the manifest's, and document indexes
// equal to the documents. Any difference is a *CorruptError (several may be joined). The manifest itself is proven by
// ReadManifest. progress may be nil.
func Verify(ctx context.Context, s Source, progress func(Progress)) error {
	m := s.Manifest
	if err := sameFiles(s); err != nil {
		return err
	}
	t := NewTracker(Progress{
		Step:             "verifying backup",
		CollectionsTotal: len(m.Collections),
		DocumentsTotal:   m.Documents(),
		BytesTotal:       m.Bytes(),
	}, progress)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(workers())
	for i := range m.Collections {
		c := &m.Collections[i]
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := verifyMetadata(s, c); err != nil {
				return err
			}
			if err := verifyData(ctx, s, c, t); err != nil {
				return err
			}
			t.Done()
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	t.Finish()
	return nil
}

// workers is how many collections are read at a time: each reader unpacks on several cores by itself.
func workers() int { return min(runtime.GOMAXPROCS(0), 4) }

// sameFiles compares the folders of the database and of its document indexes with the manifest's list of files, by name and
// size.
func sameFiles(s Source) error {
	want := map[string]File{}
	for _, c := range s.Manifest.Collections {
		for _, f := range c.Files() {
			want[f.Path] = f
		}
	}
	var damage []error
	for _, folder := range []string{s.Manifest.Database, path.Join(IndexFolder, s.Manifest.Database)} {
		wrong, err := sameFolder(s, folder, want)
		if err != nil {
			return err
		}
		damage = append(damage, wrong...)
	}
	for path := range want {
		damage = append(damage, &CorruptError{File: filepath.Join(s.Dir, filepath.FromSlash(path)), Reason: "it is missing"})
	}
	slices.SortFunc(damage, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(damage...)
}

// sameFolder takes the files that are there out of want.
func sameFolder(s Source, folder string, want map[string]File) (damage []error, err error) {
	dir := filepath.Join(s.Dir, filepath.FromSlash(folder))
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read backup: %w", err)
	}
	for _, e := range entries {
		name := path.Join(folder, e.Name())
		if e.IsDir() && name == path.Join(IndexFolder, s.Manifest.Database) {
			continue // of a database that is named as that folder
		}
		f, known := want[name]
		delete(want, name)
		info, err := os.Stat(filepath.Join(dir, e.Name()))
		switch {
		case !known && s.Manifest.Kind == Foreign && UnusedFile(e.Name()):
		case !known:
			damage = append(damage, &CorruptError{File: filepath.Join(dir, e.Name()), Reason: "the manifest does not know it"})
		case err != nil:
			return nil, fmt.Errorf("read backup: %w", err)
		case !info.Mode().IsRegular():
			damage = append(damage, &CorruptError{File: filepath.Join(dir, e.Name()), Reason: "it is not a file"})
		case info.Size() != f.Size:
			damage = append(damage, &CorruptError{File: filepath.Join(dir, e.Name()), Reason: fmt.Sprintf("it has %d bytes, the manifest says %d", info.Size(), f.Size)})
		}
	}
	return damage, nil
}

func verifyMetadata(s Source, c *Collection) error {
	path := filepath.Join(s.Dir, filepath.FromSlash(c.Metadata.Path))
	m, f, err := readMetadata(path)
	if err != nil {
		return err
	}
	corrupt := func(reason string) error { return &CorruptError{File: path, Reason: reason} }
	if f.SHA256 != c.Metadata.SHA256 || f.Size != c.Metadata.Size {
		return corrupt(fmt.Sprintf("its SHA-256 is %s, the manifest says %s", f.SHA256, c.Metadata.SHA256))
	}
	if m.Collection != "" && m.Collection != c.Name {
		return corrupt(fmt.Sprintf("it is of collection %q, not of %q", m.Collection, c.Name))
	}
	if m.Type != c.Type || !bytes.Equal(m.Options, c.Options) {
		return corrupt("type or options are not those of the manifest")
	}
	if !slices.EqualFunc(m.Indexes, c.Indexes, func(a, b Index) bool { return a.Name == b.Name && bytes.Equal(a.Spec, b.Spec) }) {
		return corrupt("the indexes are not those of the manifest")
	}
	return nil
}

func verifyData(ctx context.Context, s Source, c *Collection, t *Tracker) error {
	if c.Data.Path == "" {
		return nil
	}
	path := filepath.Join(s.Dir, filepath.FromSlash(c.Data.Path))
	r, err := openDocuments(ctx, path)
	if err != nil {
		return err
	}
	defer r.close()
	if c.DocumentIndex.Path == "" {
		return r.walk(c.Name, t, nil, func() error { return r.matches(c) })
	}
	var sums indexSums
	var key []byte
	return r.walk(c.Name, t, func(doc bson.Raw) {
		h := HashOf(doc)
		key = appendKey(key[:0], doc, h)
		sums.add(key, indexHash(h))
	}, func() error {
		if err := r.matches(c); err != nil {
			return err
		}
		return verifyIndex(ctx, s, c, sums)
	})
}

// verifyIndex reads a document index whole and compares it with what its documents say.
func verifyIndex(ctx context.Context, s Source, c *Collection, want indexSums) error {
	r, err := OpenIndex(s.IndexFile(c))
	if err != nil {
		return err
	}
	g := group{r: r}
	for n := 0; err == nil && !g.over; n++ {
		if err = g.next(); n%blockEntries == 0 && err == nil {
			err = ctx.Err()
		}
	}
	if err == nil {
		err = r.Matches(c)
	}
	if err == nil && r.sums != want {
		err = r.corrupt("it is not that of the documents in %s", c.Data.Path)
	}
	return errors.Join(err, r.Close())
}

// walk reads to the end, checks each document's inner structure, calls each, which may be nil, with it, tells the progress,
// and then calls end.
func (r *documents) walk(collection string, t *Tracker, each func(bson.Raw), end func() error) error {
	var told Digest
	tell := func() {
		t.Add(collection, r.digest.Documents-told.Documents, r.digest.Bytes-told.Bytes)
		told = r.digest
	}
	for {
		doc, err := r.next()
		if errors.Is(err, io.EOF) {
			tell()
			return end()
		}
		if err != nil {
			return err
		}
		if err := Validate(doc); err != nil {
			return r.corrupt("a document is not valid BSON: %v", err)
		}
		if each != nil {
			each(doc)
		}
		if r.digest.Bytes-told.Bytes >= MemberSize {
			tell()
		}
	}
}

// readMetadata reads a metadata file and says what stands on disk.
func readMetadata(path string) (Metadata, File, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Metadata{}, File{}, &CorruptError{File: path, Reason: "it is missing"}
	}
	if err != nil {
		return Metadata{}, File{}, fmt.Errorf("read backup file: %w", err)
	}
	sum := sha256.Sum256(b)
	f := File{Size: int64(len(b)), SHA256: hex.EncodeToString(sum[:])}
	if strings.HasSuffix(path, gzipExt) {
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err == nil {
			b, err = io.ReadAll(io.LimitReader(z, maxMetadata))
		}
		if err != nil {
			reason := err.Error()
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				reason = "it ends in the middle: it was cut off"
			}
			return Metadata{}, File{}, &CorruptError{File: path, Reason: reason}
		}
	}
	m, err := DecodeMetadata(b)
	if err != nil {
		return Metadata{}, File{}, &CorruptError{File: path, Reason: err.Error()}
	}
	return m, f, nil
}
