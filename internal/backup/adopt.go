package backup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"golang.org/x/sync/errgroup"
)

// AdoptOptions says what a foreign dump cannot say of itself.
type AdoptOptions struct {
	Name     string // of the manifest; the catalog's name for this dump
	Target   string
	Database string    // whose folder to read; "" where the dump holds exactly one database
	Time     time.Time // of the dump, as its name tells; the modification time of files proves nothing
}

// Adopt reads a dump that another tool made and describes it in a manifest of ours: it checks every gzip CRC, walks
// every document, and wants metadata for each collection and data for each that is not a view. What a killed mongodump
// leaves behind inside a file or between a collection's two files is a *CorruptError; a dump that was killed between two
// collections looks whole from inside, and only the counts that the caller expects tell. dir is never written to.
// progress may be nil.
func Adopt(ctx context.Context, dir string, o AdoptOptions, progress func(Progress)) (*Manifest, error) {
	database, err := databaseOf(dir, o.Database)
	if err != nil {
		return nil, err
	}
	m := &Manifest{
		Format:      Format,
		Name:        o.Name,
		Target:      o.Target,
		Database:    database,
		Kind:        Foreign,
		StartedAt:   o.Time.UTC().Round(0),
		FinishedAt:  o.Time.UTC().Round(0),
		Compression: "none",
		Server:      Server{Topology: "unknown"},
		Tool:        "mongodump",
	}
	if err := readPrelude(dir, m); err != nil {
		return nil, err
	}
	if m.Collections, err = pair(dir, database); err != nil {
		return nil, err
	}
	for _, c := range m.Collections {
		if strings.HasSuffix(c.Data.Path, gzipExt) {
			m.Compression = "gzip"
		}
	}
	t := NewTracker(Progress{Step: "checking foreign backup", CollectionsTotal: len(m.Collections)}, progress)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(workers())
	for i := range m.Collections {
		c := &m.Collections[i]
		if c.Data.Path == "" {
			t.Done()
			continue
		}
		g.Go(func() error {
			r, err := openDocuments(ctx, filepath.Join(dir, filepath.FromSlash(c.Data.Path)))
			if err != nil {
				return err
			}
			defer r.close()
			return r.walk(c.Name, t, nil, func() error {
				c.Data.Size, c.Data.SHA256, c.Digest = r.source.file.Size, r.source.file.SHA256, r.digest
				t.Done()
				return nil
			})
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	t.Finish()
	if err := m.check(); err != nil {
		return nil, &CorruptError{File: dir, Reason: err.Error()}
	}
	return m, normalize(m)
}

// databaseOf finds the database's folder, and refuses a dump with an oplog and one in an archive.
func databaseOf(dir, want string) (string, error) {
	if IsArchive(dir) {
		return "", &ArchiveError{File: dir}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("read foreign backup: %w", err)
	}
	var have []string
	for _, e := range entries {
		if name := e.Name(); name == "oplog.bson" || name == "oplog.bson"+gzipExt {
			return "", &OplogError{File: filepath.Join(dir, name)}
		}
		if path := filepath.Join(dir, e.Name()); IsArchive(path) {
			return "", &ArchiveError{File: path}
		}
		if info, err := os.Stat(filepath.Join(dir, e.Name())); err == nil && info.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			have = append(have, e.Name())
		}
	}
	switch {
	case want == "" && len(have) == 1:
		return have[0], nil
	case want == "" && len(have) > 1:
		return "", fmt.Errorf("foreign backup %s holds several databases (%s): say which one", dir, strings.Join(have, ", "))
	case want == "" || len(have) == 0:
		return "", &CorruptError{File: dir, Reason: "it holds no database's folder: it is not a dump, or its writer was interrupted at once"}
	case !slices.Contains(have, want):
		return "", &CorruptError{File: dir, Reason: fmt.Sprintf("it holds no folder of database %s, but: %s", want, strings.Join(have, ", "))}
	default:
		return want, nil
	}
}

// UnusedFile says whether a foreign dump's file is none of the database's collections: hidden files, the users and
// roles that mongodump may add, what newer versions say of themselves, system collections that no restore writes, and
// runbook's own collections, which a foreign dump takes for data.
func UnusedFile(name string) bool {
	switch {
	case strings.HasPrefix(name, "."), strings.HasPrefix(name, "$admin."), strings.HasPrefix(name, "%24admin."):
		return true
	case name == "prelude.json", name == "prelude.json"+gzipExt:
		return true
	case Reserved(strings.TrimPrefix(baseOf(name), BucketsPrefix)):
		return true
	case strings.HasPrefix(name, "system.profile."), strings.HasPrefix(name, "system.indexes."), strings.HasPrefix(name, "system.views."):
		return true
	default:
		return false
	}
}

// baseOf is a file's name without its endings: that of a collection named runbook does not begin like ours.
func baseOf(name string) string {
	name = strings.TrimSuffix(name, gzipExt)
	return strings.TrimSuffix(strings.TrimSuffix(name, dataExt), metadataExt)
}

// pair finds each collection's two files. The metadata decides what there is: it knows names and types.
func pair(dir, database string) ([]Collection, error) {
	folder := filepath.Join(dir, database)
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, fmt.Errorf("read foreign backup: %w", err)
	}
	data, metadata := map[string]string{}, map[string]string{}
	for _, e := range entries {
		name := e.Name()
		if UnusedFile(name) {
			continue
		}
		plain := strings.TrimSuffix(name, gzipExt)
		files, ext := data, dataExt
		if strings.HasSuffix(plain, metadataExt) {
			files, ext = metadata, metadataExt
		}
		base, known := strings.CutSuffix(plain, ext)
		if info, err := os.Stat(filepath.Join(folder, name)); err != nil || !info.Mode().IsRegular() || !known {
			return nil, &CorruptError{File: filepath.Join(folder, name), Reason: "it is not a file that mongodump writes"}
		}
		if other, twice := files[base]; twice {
			return nil, &CorruptError{File: filepath.Join(folder, name), Reason: fmt.Sprintf("%s stands beside it: it is not clear which one counts", other)}
		}
		files[base] = name
	}
	var collections []Collection
	for base, file := range metadata {
		c, err := describe(dir, database, base, file, data)
		if err != nil {
			return nil, err
		}
		collections = append(collections, c)
	}
	for _, file := range data {
		return nil, &CorruptError{File: filepath.Join(folder, file), Reason: "its metadata is missing: the dump was interrupted, or copied in part"}
	}
	if len(collections) == 0 {
		return nil, &CorruptError{File: folder, Reason: "it holds no collection: the dump was interrupted at once"}
	}
	slices.SortFunc(collections, func(a, b Collection) int { return strings.Compare(a.Name, b.Name) })
	return collections, nil
}

// describe reads one metadata file and takes its data file out of data.
func describe(dir, database, base, file string, data map[string]string) (Collection, error) {
	path := filepath.Join(dir, database, file)
	m, f, err := readMetadata(path)
	if err != nil {
		return Collection{}, err
	}
	name, err := CollectionName(base, m.Collection)
	if err != nil {
		return Collection{}, &CorruptError{File: path, Reason: err.Error()}
	}
	f.Path = database + "/" + file
	c := Collection{Name: name, Type: m.Type, Options: m.Options, Indexes: m.Indexes, Metadata: f}
	if c.Type == TypeView {
		if extra, ok := data[base]; ok {
			return Collection{}, &CorruptError{File: filepath.Join(dir, database, extra), Reason: "its metadata says that it is a view, which has no documents"}
		}
		return c, nil
	}
	// Of servers from 8.3 on, whose time series hold their buckets themselves, mongodump knows no other name.
	if beside := FileBase(BucketsPrefix + name); c.Type == TypeTimeseries && (data[beside] != "" || data[base] == "") {
		base = beside
	}
	documents, ok := data[base]
	if !ok {
		return Collection{}, &CorruptError{File: path, Reason: fmt.Sprintf("the documents (%s%s) are missing: the dump was interrupted, or copied in part", base, dataExt)}
	}
	delete(data, base)
	c.Data.Path = database + "/" + documents
	return c, nil
}

// readPrelude takes the versions from the file that newer versions of mongodump write. A dump need not have one.
func readPrelude(dir string, m *Manifest) error {
	for _, folder := range []string{dir, filepath.Join(dir, m.Database)} {
		for _, ending := range []string{"", gzipExt} {
			path := filepath.Join(folder, "prelude.json"+ending)
			b, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return fmt.Errorf("read foreign backup: %w", err)
			}
			if ending != "" {
				z, err := gzip.NewReader(bytes.NewReader(b))
				if err == nil {
					b, err = io.ReadAll(io.LimitReader(z, maxMetadata))
				}
				if err != nil {
					return &CorruptError{File: path, Reason: err.Error()}
				}
			}
			var prelude struct{ ServerVersion, ToolVersion string }
			if err := json.Unmarshal(b, &prelude); err != nil {
				return &CorruptError{File: path, Reason: err.Error()}
			}
			m.Server.Version = prelude.ServerVersion
			if prelude.ToolVersion != "" {
				m.Tool = "mongodump " + prelude.ToolVersion
			}
			return nil
		}
	}
	return nil
}
