package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/battwheels/runbook/internal/backup"
)

// RadiusOptions adjusts CountRadius.
type RadiusOptions struct {
	Collections []string // nil: all
	TenantField string   // dotted path; "" counts no tenants
	Dir         string   // for indexes that outgrow the memory, removed at the end; default the system's temporary directory
	Parallel    int      // collections at a time; 0: four
	Progress    func(backup.Progress)
	// DocumentsPerSecond and BytesPerSecond, of BSON, bound how fast the database is read, by all collections together; 0: no limit.
	DocumentsPerSecond, BytesPerSecond int64
}

// Radius is what restoring a backup would change in a database as it is now: what backup.Compare says of the backup and of a
// dump, without the dump.
type Radius struct {
	backup.Diff
	Documents map[string]int64  // of each of the database's collections
	Live      int               // collections and views that the database has
	Unread    map[string]string // collections that could not be read, and why; what stands there is in no count
	// Untold are collections in which so many documents differ that they were not counted by tenant.
	Untold []string
}

// mostTold bounds the documents that are remembered to be counted by tenant, of all collections that are worked on at a time.
const mostTold = 1 << 20

// CountRadius reads a database once, and collections in which documents changed or are new a second time, and compares it with a
// backup. It writes nothing to the server, and to dir only what outgrows the memory. A collection that cannot be read ends nothing:
// it is named.
func CountRadius(ctx context.Context, db *mongo.Database, s backup.Source, o RadiusOptions) (_ Radius, err error) {
	there, err := collections(ctx, db)
	if err != nil {
		return Radius{}, err
	}
	if o.Dir != "" {
		if err := os.MkdirAll(o.Dir, 0o750); err != nil {
			return Radius{}, err
		}
	}
	dir, err := os.MkdirTemp(o.Dir, "radius-")
	if err != nil {
		return Radius{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if o.Parallel <= 0 {
		o.Parallel = defaultParallel
	}
	c := counting{db: db, source: s, o: o, dir: dir, documents: limiter(o.DocumentsPerSecond), bytes: limiter(o.BytesPerSecond)}
	c.found = Radius{
		Diff:      backup.Diff{Collections: map[string]backup.Counts{}, Tenants: map[string]backup.Counts{}},
		Documents: map[string]int64{}, Unread: map[string]string{},
	}
	jobs := c.jobs(there)
	c.tracker = backup.NewTracker(backup.Progress{
		Step: "comparing with the live database", CollectionsTotal: len(jobs), DocumentsTotal: s.Manifest.Documents(), BytesTotal: s.Manifest.Bytes(),
	}, o.Progress)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(o.Parallel)
	for n, j := range jobs {
		g.Go(func() error {
			err := c.count(gctx, j, filepath.Join(dir, fmt.Sprint(n)))
			c.tracker.Done()
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return Radius{}, err
	}
	c.tracker.Finish()
	slices.Sort(c.found.Untold)
	return c.found, nil
}

type counting struct {
	db      *mongo.Database
	source  backup.Source
	o       RadiusOptions
	dir     string
	tracker *backup.Tracker
	// nil where there is no limit
	documents, bytes *rate.Limiter

	mu    sync.Mutex
	found Radius
}

// limiter lets through what a tenth of a second allows at once.
func limiter(perSecond int64) *rate.Limiter {
	if perSecond <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(perSecond), int(max(perSecond/10, 1)))
}

// heed waits until what was just read is within a limit.
func heed(ctx context.Context, l *rate.Limiter, n int64) error {
	for l != nil && n > 0 {
		step := min(n, int64(l.Burst()))
		if err := l.WaitN(ctx, int(step)); err != nil {
			return err
		}
		n -= step
	}
	return nil
}

// radiusJob is one collection: of the backup, of the database, or of both.
type radiusJob struct {
	name string
	of   *backup.Collection // nil: the backup has it not, or as something else
	live site               // from which its documents are read; without a name: the database has it not, or as something else
}

// jobs pairs what the backup has with what is there, and notes what only one of them has. Views hold no documents.
func (c *counting) jobs(there map[string]info) []radiusJob {
	wanted := func(name string) bool { // what a dump has
		return !reserved(name) && (!system(name) || name == "system.js") && (c.o.Collections == nil || slices.Contains(c.o.Collections, name))
	}
	for name := range there {
		if wanted(name) {
			c.found.Live++
		}
	}
	var jobs []radiusJob
	m := c.source.Manifest
	for i := range m.Collections {
		of := &m.Collections[i]
		if !wanted(of.Name) {
			continue
		}
		live, ok := there[of.Name]
		if !ok {
			c.found.GoneCollections = append(c.found.GoneCollections, of.Name)
		}
		switch {
		case of.Type == backup.TypeView && (!ok || live.kind == backup.TypeView):
			c.found.Collections[of.Name] = backup.Counts{}
		case !ok:
			jobs = append(jobs, radiusJob{name: of.Name, of: of})
		case live.kind != of.Type:
			jobs = append(jobs, radiusJob{name: of.Name, of: of}, radiusJob{name: of.Name, live: live.site(of.Name)})
		default:
			jobs = append(jobs, radiusJob{name: of.Name, of: of, live: live.site(of.Name)})
		}
	}
	if c.o.Collections != nil {
		return jobs
	}
	for _, name := range sortedKeys(there) {
		if wanted(name) && m.Collection(name) == nil {
			c.found.NewCollections = append(c.found.NewCollections, name)
			jobs = append(jobs, radiusJob{name: name, live: there[name].site(name)})
		}
	}
	return jobs
}

func (c *counting) count(ctx context.Context, j radiusJob, path string) error {
	var n counted
	var err error
	switch {
	case j.of == nil && j.live.collection == "":
		return nil
	case j.live.collection == "":
		n.Missing = j.of.Digest.Documents
		n.tenants, err = c.onlyBackup(ctx, j.of)
	case j.of == nil:
		n, err = c.onlyLive(ctx, j.live)
	default:
		n, err = c.both(ctx, j, path)
	}
	unread, isUnread := errors.AsType[*unreadError](err)
	if err != nil && (ctx.Err() != nil || !isUnread) {
		return fmt.Errorf("compare collection %s: %w", j.name, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if isUnread {
		c.found.Unread[j.name] = unread.Error()
		return nil
	}
	if n.untold {
		c.found.Untold = append(c.found.Untold, j.name)
	}
	if j.live.collection != "" {
		c.found.Documents[j.name] = n.documents
	}
	c.found.Total = c.found.Total.Plus(n.Counts)
	c.found.Collections[j.name] = c.found.Collections[j.name].Plus(n.Counts)
	for name, of := range n.tenants {
		c.found.Tenants[name] = c.found.Tenants[name].Plus(of)
	}
	return nil
}

// counted is what came of one collection.
type counted struct {
	backup.Counts
	documents int64 // that the database has
	tenants   map[string]backup.Counts
	untold    bool
}

func (c *counting) onlyBackup(ctx context.Context, of *backup.Collection) (map[string]backup.Counts, error) {
	if c.o.TenantField == "" {
		return nil, nil
	}
	d := backup.NewDiffering(c.o.TenantField, 0)
	for doc, err := range c.source.Documents(ctx, of) {
		if err != nil {
			return nil, err
		}
		d.Count(backup.Missing, doc)
	}
	return d.Tenants(), nil
}

func (c *counting) onlyLive(ctx context.Context, live site) (n counted, err error) {
	d := backup.NewDiffering(c.o.TenantField, 0)
	err = c.read(ctx, live, func() { n, d = counted{}, backup.NewDiffering(c.o.TenantField, 0) }, func(doc bson.Raw) {
		n.documents++
		d.Count(backup.Added, doc)
	})
	n.Added, n.tenants = n.documents, d.Tenants()
	return n, err
}

// both compares a collection that both have. Only where documents differ are their tenants looked up: in the backup's files, and in
// the database, which is read once more for those that are new or changed. What is written between the two readings is counted as
// the first one saw it.
func (c *counting) both(ctx context.Context, j radiusJob, path string) (n counted, err error) {
	digest, err := c.index(ctx, j.live, path)
	n.documents = digest.Documents
	if err != nil {
		return n, err
	}
	if digest == j.of.Digest {
		n.Same = digest.Documents
		return n, os.Remove(path)
	}
	differ := backup.NewDiffering(c.o.TenantField, mostTold/c.o.Parallel)
	n.Counts, err = c.merge(ctx, j.of, path, func(change backup.Change) error {
		if !n.untold && differ.Note(change) != nil {
			n.untold = true // they are still counted
		}
		return nil
	})
	if err = errors.Join(err, os.Remove(path)); err != nil || c.o.TenantField == "" || n.untold {
		return n, err
	}
	if n.Missing+n.Changed > 0 {
		for doc, err := range c.source.Documents(ctx, j.of) {
			if err != nil {
				return n, err
			}
			differ.Before(doc)
		}
	}
	if n.Added+n.Changed > 0 {
		if err := c.read(ctx, j.live, func() {}, differ.After); err != nil {
			return n, err
		}
	}
	n.tenants = differ.Tenants()
	return n, nil
}

// index reads a collection, and writes the index of its documents to path.
func (c *counting) index(ctx context.Context, live site, path string) (d backup.Digest, err error) {
	w := backup.NewIndexWriter(path)
	var e backup.IndexEntries
	var failed error
	begin := func() {
		failed = errors.Join(failed, w.Abandon())
		w, d = backup.NewIndexWriter(path), backup.Digest{}
	}
	err = c.read(ctx, live, begin, func(doc bson.Raw) {
		e.Reset()
		h := backup.HashOf(doc)
		d.AddHash(h, len(doc))
		e.Add(doc, h)
		if failed == nil {
			failed = w.Add(ctx, &e)
		}
	})
	if err = errors.Join(failed, err); err == nil {
		_, err = w.Finish(ctx)
	}
	return d, errors.Join(err, w.Abandon())
}

// merge compares the backup's index of a collection with the one at path; it is made of the backup's documents where it has none.
func (c *counting) merge(ctx context.Context, of *backup.Collection, path string, visit func(backup.Change) error) (counts backup.Counts, err error) {
	want := c.source.IndexFile(of)
	if want == "" {
		want = path + ".backup"
		if _, err := c.source.WriteIndex(ctx, of, want); err != nil {
			return counts, err
		}
		defer func() { err = errors.Join(err, os.Remove(want)) }()
	}
	var open [2]*backup.IndexReader
	for i, path := range []string{want, path} {
		if open[i], err = backup.OpenIndex(path); err != nil {
			return counts, err
		}
		defer func() { err = errors.Join(err, open[i].Close()) }()
	}
	if counts, err = backup.DiffIndexes(ctx, open[0], open[1], visit); err != nil || of.DocumentIndex.Path == "" {
		return counts, err
	}
	return counts, open[0].Matches(of)
}

// unreadError says that the database, and not the backup, could not be read.
type unreadError struct{ error }

func (e *unreadError) Unwrap() error { return e.error }

// pacedBytes is how much is read before it is held against the limits.
const pacedBytes = 64 << 10

func (c *counting) read(ctx context.Context, live site, begin func(), each func(bson.Raw)) error {
	var documents, bytes int64
	var late error // the time is up, or would be before the limit lets more through
	pause := func() {
		c.tracker.Add(live.collection, documents, bytes)
		if late == nil {
			late = errors.Join(heed(ctx, c.documents, documents), heed(ctx, c.bytes, bytes))
		}
		documents, bytes = 0, 0
	}
	err := read(ctx, c.db, live, begin, func(doc bson.Raw) {
		each(doc)
		if documents, bytes = documents+1, bytes+int64(len(doc)); bytes >= pacedBytes {
			pause()
		}
	})
	pause()
	switch {
	case late != nil:
		return late
	case err != nil:
		return &unreadError{err}
	}
	return nil
}
