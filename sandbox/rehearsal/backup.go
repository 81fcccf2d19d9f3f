package rehearsal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/catalog"
	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/internal/dump"
)

// UsageError says that what was named is no directory of a backup.
type UsageError struct{ Dir, Why string }

// Error names the directory and says what is expected.
func (e *UsageError) Error() string {
	return fmt.Sprintf("%s %s; name the directory that mongodump's --out made, or one of runbook's backups", e.Dir, e.Why)
}

// original is the user's directory. It is read, and never written to.
type original struct {
	dir      string // that holds the database's folder
	database string
	ours     bool // has a manifest of runbook's
}

// find looks at what the user named: a dump, or the one database's folder in it.
func find(dir string) (original, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return original{}, &UsageError{dir, err.Error()}
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return original{}, &UsageError{dir, "does not exist"}
	}
	if err != nil {
		return original{}, &UsageError{dir, "cannot be read as a directory"}
	}
	if holdsCollections(dir) {
		return original{dir: filepath.Dir(dir), database: filepath.Base(dir)}, nil
	}
	o := original{dir: dir}
	var databases []string
	for _, e := range entries {
		if e.IsDir() && holdsCollections(filepath.Join(dir, e.Name())) && e.Name() != "admin" {
			databases = append(databases, e.Name())
		}
	}
	switch len(databases) {
	case 0:
		return original{}, &UsageError{dir, "holds no folder with collections (*.bson or *.bson.gz)"}
	case 1:
	default:
		return original{}, &UsageError{dir, "holds several databases (" + strings.Join(databases, ", ") + "): name the folder of one"}
	}
	o.database = databases[0]
	_, err = os.Stat(filepath.Join(dir, backup.ManifestName))
	o.ours = err == nil
	return o, nil
}

func holdsCollections(dir string) bool {
	for _, pattern := range []string{"*.bson", "*.bson.gz", "*.bson.zst", "*.metadata.json", "*.metadata.json.gz"} {
		if found, err := filepath.Glob(filepath.Join(dir, pattern)); err == nil && len(found) > 0 {
			return true
		}
	}
	return false
}

// copyTo copies the database's folder, and the manifest where there is one. The original is only read.
func (o original) copyTo(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.CopyFS(filepath.Join(dir, o.database), os.DirFS(filepath.Join(o.dir, o.database))); err != nil {
		return fmt.Errorf("copy the backup: %w", err)
	}
	if !o.ours {
		return nil
	}
	b, err := os.ReadFile(filepath.Join(o.dir, backup.ManifestName))
	if err != nil {
		return fmt.Errorf("copy the backup: %w", err)
	}
	return os.WriteFile(filepath.Join(dir, backup.ManifestName), b, 0o600)
}

// check reads every byte of the copy as the product does, and returns what it holds. found is what is wrong with it; empty where
// nothing is.
func (r *rehearsal) check(ctx context.Context, o original) (source backup.Source, found string, err error) {
	if o.ours {
		m, err := backup.ReadManifest(o.dir)
		if err != nil {
			return backup.Source{}, err.Error(), nil //nolint:nilerr // it is what was found
		}
		dir := filepath.Join(r.work, "original", "backups", m.Target, m.Name)
		if err := o.copyTo(dir); err != nil {
			return backup.Source{}, "", err
		}
		source = backup.Source{Dir: dir, Manifest: m}
		if err := backup.Verify(ctx, source, nil); err != nil {
			if ctx.Err() != nil {
				return source, "", ctx.Err()
			}
			return source, err.Error(), nil
		}
		r.suspect("It was made to keep what could still be read (%s): some of it may be damaged.", m.Kind, m.Kind == backup.Emergency || m.Kind == backup.Safety)
		r.suspect("%d places could not be read when it was made.", len(m.Unreadable), len(m.Unreadable) > 0)
		return source, "", nil
	}
	root := filepath.Join(r.work, "original", "dumps")
	dir := filepath.Join(root, o.database+"_"+r.began.Add(-time.Minute).Format("20060102_150405"))
	if err := o.copyTo(dir); err != nil {
		return backup.Source{}, "", err
	}
	c := &catalog.Catalog{
		Target: "rehearsal", Database: o.database, Root: filepath.Join(r.work, "original", "none"), ForeignRoot: filepath.Join(r.work, "original", "foreign"),
		Foreign: []config.Foreign{{Dir: root, Pattern: "{database}_{time}", Zone: "UTC"}},
	}
	entries, err := c.List(ctx)
	if err != nil {
		return backup.Source{}, "", err
	}
	if len(entries) != 1 {
		return backup.Source{}, "", fmt.Errorf("%d backups where one was copied", len(entries))
	}
	if entries[0].State == catalog.Incomplete {
		return backup.Source{}, strings.ReplaceAll(entries[0].Why, root+string(filepath.Separator), ""), nil
	}
	e, source, err := c.Verify(ctx, entries[0].ID, nil)
	if err != nil {
		if ctx.Err() != nil {
			return source, "", ctx.Err()
		}
		return source, strings.ReplaceAll(err.Error(), dir+string(filepath.Separator), ""), nil
	}
	for _, why := range e.Suspect {
		r.suspect("%s.", why, true)
	}
	return source, "", nil
}

// suspect notes something about the backup, where it is so.
func (r *rehearsal) suspect(format string, value any, is bool) {
	if is {
		r.result.Suspicious = append(r.result.Suspicious, fmt.Sprintf(format, value))
	}
}

// prepare makes the copy that is rehearsed with: a dump of another tool's, of the scratch database. Where the server is the sandbox's
// own, what that cannot hold is left out, and said.
func (r *rehearsal) prepare(ctx context.Context, s backup.Source, to string, ferret bool) error {
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	for i := range s.Manifest.Collections {
		c := &s.Manifest.Collections[i]
		m := backup.Metadata{Collection: c.Name, Type: c.Type, Options: c.Options, Indexes: c.Indexes}
		if ferret {
			why, err := r.trim(ctx, s, c, &m)
			if err != nil {
				return err
			}
			if why != "" {
				r.leftOut("%s: %s", c.Name, why)
				continue
			}
		}
		text, err := m.Encode()
		if err != nil {
			return err
		}
		base, zipped := strings.CutSuffix(filepath.Base(c.Metadata.Path), ".gz")
		if zipped {
			if text, err = pack(text); err != nil {
				return err
			}
			base += ".gz"
		}
		if err := os.WriteFile(filepath.Join(to, base), text, 0o600); err != nil {
			return err
		}
		if c.Data.Path == "" {
			continue
		}
		if s.Manifest.Compression == dump.Zstd {
			err = repack(ctx, s, c, filepath.Join(to, filepath.Base(backup.DataPath(s.Manifest.Database, c.Name, c.Type, true))))
		} else {
			err = os.Link(filepath.Join(s.Dir, c.Data.Path), filepath.Join(to, filepath.Base(c.Data.Path)))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// repack writes a collection's documents as mongodump does: a dump of another tool's has no Zstandard.
func repack(ctx context.Context, s backup.Source, c *backup.Collection, path string) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	z, err := gzip.NewWriterLevel(f, gzip.BestSpeed)
	if err != nil {
		return err
	}
	for doc, err := range s.Documents(ctx, c) {
		if err != nil {
			return err
		}
		if _, err := z.Write(doc); err != nil {
			return err
		}
	}
	return z.Close()
}

func (r *rehearsal) leftOut(format string, args ...any) {
	r.result.LeftOut = append(r.result.LeftOut, fmt.Sprintf(format, args...))
}

// trim takes out of a collection what FerretDB v1 does not hold. It returns why the whole of it is left out, or "".
func (r *rehearsal) trim(ctx context.Context, s backup.Source, c *backup.Collection, m *backup.Metadata) (string, error) {
	if c.Type != backup.TypeCollection {
		return "a " + string(c.Type), nil
	}
	for doc, err := range s.Documents(ctx, c) {
		if err != nil {
			return "", err
		}
		if what := foreignValue(doc); what != "" {
			return "its documents hold " + what, nil
		}
	}
	if options, err := backup.ToBSON(m.Options); err == nil && len(options) > 5 {
		m.Options = nil
		r.leftOut("%s: its options", c.Name)
	}
	var kept []backup.Index
	for _, i := range m.Indexes {
		spec, err := backup.ToBSON(i.Spec)
		if err != nil {
			return "", fmt.Errorf("index %s of %s: %w", i.Name, c.Name, err)
		}
		if why := foreignIndex(spec); why != "" {
			r.leftOut("%s: its index %s (%s)", c.Name, i.Name, why)
			continue
		}
		kept = append(kept, i)
	}
	m.Indexes = kept
	return "", nil
}

// foreignIndex says what of an index FerretDB v1 does not know.
func foreignIndex(spec bson.Raw) string {
	elements, err := spec.Elements()
	if err != nil {
		return "unreadable"
	}
	for _, e := range elements {
		if !slices.Contains([]string{"v", "key", "name", "unique", "ns", "background"}, e.Key()) {
			return e.Key()
		}
	}
	keys, err := spec.Lookup("key").Document().Elements()
	if err != nil {
		return "unreadable"
	}
	for _, k := range keys {
		if kind, ok := k.Value().StringValueOK(); ok {
			return kind
		}
		if strings.Contains(k.Key(), "$**") {
			return "wildcard"
		}
	}
	return ""
}

// foreignValue names a value in a document that FerretDB v1 does not hold.
func foreignValue(doc bson.Raw) string {
	elements, err := doc.Elements()
	if err != nil {
		return "unreadable values"
	}
	for _, e := range elements {
		v := e.Value()
		switch v.Type {
		case bson.TypeDecimal128, bson.TypeMinKey, bson.TypeMaxKey, bson.TypeJavaScript, bson.TypeCodeWithScope, bson.TypeSymbol, bson.TypeDBPointer, bson.TypeUndefined:
			return v.Type.String()
		case bson.TypeDouble:
			if math.IsNaN(v.Double()) {
				return "NaN"
			}
		case bson.TypeEmbeddedDocument, bson.TypeArray:
			if what := foreignValue(bson.Raw(v.Value)); what != "" {
				return what
			}
		}
		if bytes.ContainsAny([]byte(e.Key()), "$.") {
			return "field names with $ or ."
		}
	}
	return ""
}
