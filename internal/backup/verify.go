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
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"
	"golang.org/x/sync/errgroup"
)

// maxMetadata bounds an unpacked metadata file: a collection has at most 64 indexes.
const maxMetadata = 64 << 20

// Verify proves that a backup's files are what the manifest says: none missing, none extra, each one's size and
// SHA-256, every document whole and valid, counts and digests, and the metadata equal to the manifest's. Any difference
// is a *CorruptError (several may be joined). The manifest itself is proven by ReadManifest. progress may be nil.
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

// sameFiles compares the database's folder with the manifest's list of files, by name and size.
func sameFiles(s Source) error {
	want := map[string]File{}
	for _, c := range s.Manifest.Collections {
		for _, f := range []File{c.Data, c.Metadata} {
			if f.Path != "" {
				want[f.Path] = f
			}
		}
	}
	folder := filepath.Join(s.Dir, s.Manifest.Database)
	entries, err := os.ReadDir(folder)
	if err != nil && (!errors.Is(err, fs.ErrNotExist) || len(want) == 0) {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("read backup: %w", err)
	}
	var damage []error
	for _, e := range entries {
		path := s.Manifest.Database + "/" + e.Name()
		f, known := want[path]
		delete(want, path)
		info, err := os.Stat(filepath.Join(folder, e.Name()))
		switch {
		case !known && s.Manifest.Kind == Foreign && UnusedFile(e.Name()):
		case !known:
			damage = append(damage, &CorruptError{File: filepath.Join(folder, e.Name()), Reason: "the manifest does not know it"})
		case err != nil:
			return fmt.Errorf("read backup: %w", err)
		case !info.Mode().IsRegular():
			damage = append(damage, &CorruptError{File: filepath.Join(folder, e.Name()), Reason: "it is not a file"})
		case info.Size() != f.Size:
			damage = append(damage, &CorruptError{File: filepath.Join(folder, e.Name()), Reason: fmt.Sprintf("it has %d bytes, the manifest says %d", info.Size(), f.Size)})
		}
	}
	for path := range want {
		damage = append(damage, &CorruptError{File: filepath.Join(s.Dir, filepath.FromSlash(path)), Reason: "it is missing"})
	}
	slices.SortFunc(damage, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(damage...)
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
	return r.walk(c.Name, t, func() error { return r.matches(c) })
}

// walk reads to the end, checks each document's inner structure, tells the progress, and then calls end.
func (r *documents) walk(collection string, t *Tracker, end func() error) error {
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
		if err := doc.Validate(); err != nil {
			return r.corrupt("a document is not valid BSON: %v", err)
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
