// Package dump makes a backup of a database: it reads every collection as raw BSON through the driver and writes
// mongodump's directory format with a manifest, under a name that says incomplete until all of it is on disk. It does
// not decide when to dump or what to keep; activities and the offline commands call it, package backup reads what it
// wrote, and package restore loads it.
package dump

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/durable"
)

// LockName is the file in a directory that is being written whose lock its living writer holds (see durable.Locked).
const LockName = ".lock"

// run is one call of Run.
type run struct {
	o         Options
	db        *mongo.Database
	work      string // Root/Name.incomplete
	packers   *packers
	limits    *limits
	cursors   *semaphore.Weighted // one for each that reads documents; a salvage takes all, so that it is alone
	splitting splitting
	bytes     int64 // of the database; 0 where it is not known
	// acknowledged is the read concern that makes a member wait for what was acknowledged before the dump began.
	acknowledged bson.D
	tracker      *backup.Tracker
	freeBytes    func(path string) (int64, error)
	patience     *patience
	progress     attempt
	server       peculiarities

	mu       sync.Mutex
	manifest backup.Manifest
}

// Run dumps the database. It may be called again with the same options after any failure or crash: what a dead attempt
// finished is kept, and a dump that is whole is returned as it is. Failures that need a person are *SpaceError,
// *BusyError, *UnreadableError and *NothingReadableError; a server that is away for a moment is waited for.
func Run(ctx context.Context, db *mongo.Database, o Options) (*backup.Manifest, error) {
	return start(ctx, db, o, surroundings{freeBytes: durable.FreeBytes, firstPause: firstPause, splitting: usualSplitting})
}

// surroundings is what tests set themselves.
type surroundings struct {
	freeBytes  func(path string) (int64, error)
	firstPause time.Duration
	splitting  splitting
}

func start(ctx context.Context, db *mongo.Database, o Options, around surroundings) (*backup.Manifest, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	if m, err := finished(o); m != nil || err != nil {
		return m, err
	}
	r := &run{
		o:         o,
		db:        db,
		work:      filepath.Join(o.Root, o.Name+backup.IncompleteSuffix),
		limits:    newLimits(o),
		cursors:   semaphore.NewWeighted(int64(o.Parallel)),
		splitting: around.splitting,
		freeBytes: around.freeBytes,
		patience:  newPatience(around.firstPause),
	}
	m, err := r.locked(ctx)
	if err != nil {
		return nil, fmt.Errorf("dump %s to %s: %w", db.Name(), filepath.Join(o.Root, o.Name), err)
	}
	return m, nil
}

// finished returns the manifest of a dump of this name that is already whole.
func finished(o Options) (*backup.Manifest, error) {
	dir := filepath.Join(o.Root, o.Name)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	m, err := backup.ReadManifest(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("dump: %s exists and is not a backup of runbook; choose another name", dir)
	}
	return m, err
}

// locked does the work while no other process, nor another call in this one, can do the same.
func (r *run) locked(ctx context.Context) (*backup.Manifest, error) {
	if err := os.MkdirAll(r.work, 0o750); err != nil {
		return nil, onDisk(r.work, err)
	}
	lock, err := durable.TryLock(filepath.Join(r.work, LockName))
	if errors.Is(err, durable.ErrLocked) {
		return nil, &BusyError{Dir: r.work}
	}
	if errors.Is(err, fs.ErrNotExist) {
		// The attempt that held the directory renamed it between our two steps.
		return finished(r.o)
	}
	if err != nil {
		return nil, onDisk(r.work, err)
	}
	m, err := r.dump(ctx)
	return m, errors.Join(err, r.progress.close(), lock.Release())
}

func (r *run) dump(ctx context.Context) (*backup.Manifest, error) {
	m, err := backup.ReadManifest(r.work)
	if err == nil {
		return m, r.publish() // the last attempt died between the manifest and the new name
	}
	if !errors.Is(err, fs.ErrNotExist) {
		if err := os.Remove(filepath.Join(r.work, backup.ManifestName)); err != nil {
			return nil, onDisk(r.work, err)
		}
	}
	for _, folder := range r.folders() {
		if err := os.MkdirAll(folder, 0o750); err != nil {
			return nil, onDisk(r.work, err)
		}
	}
	r.manifest = backup.Manifest{
		Name:        r.o.Name,
		Target:      r.o.Target,
		Database:    r.db.Name(),
		Kind:        r.o.Kind,
		StartedAt:   time.Now().UTC(),
		Tool:        r.o.Tool,
		Compression: r.o.Compression,
	}
	topology := r.describeServer(ctx)
	listed, err := r.list(ctx)
	switch {
	case err == nil:
	case r.o.Salvage && !ours(ctx, err):
		return nil, &NothingReadableError{Err: fmt.Errorf("list collections: %w", err)}
	default:
		return nil, fmt.Errorf("list collections: %w", err)
	}
	if err := r.resume(ctx, topology, listed); err != nil {
		return nil, err
	}
	totals := r.totals(ctx, listed)
	r.bytes = totals.bytes
	if err := r.checkSpace(totals); err != nil {
		return nil, err
	}
	r.tracker = backup.NewTracker(backup.Progress{
		Step:             "dumping",
		CollectionsTotal: len(listed.collections),
		DocumentsTotal:   totals.documents,
		BytesTotal:       totals.bytes,
	}, r.o.Progress)
	if err := r.collections(ctx, listed.collections); err != nil {
		return nil, err
	}
	if err := r.leaveOutDropped(ctx); err != nil {
		return nil, err
	}
	if r.o.Salvage && r.manifest.Documents() == 0 && len(r.manifest.Unreadable) > 0 {
		u := r.manifest.Unreadable[0]
		return nil, &NothingReadableError{Err: fmt.Errorf("collection %s: %s", u.Collection, u.Error)}
	}
	if err := r.seal(); err != nil {
		return nil, err
	}
	r.tracker.Finish()
	return &r.manifest, nil
}

// collections dumps all of them, several at a time.
func (r *run) collections(ctx context.Context, all []listing) (err error) {
	if r.packers, err = newPackers(r.o); err != nil {
		return err
	}
	defer r.packers.close()
	g, working := errgroup.WithContext(ctx)
	g.SetLimit(r.o.Parallel)
	for _, l := range all {
		if working.Err() != nil {
			break
		}
		g.Go(func() error {
			if err := r.one(working, l); err != nil {
				return err
			}
			r.tracker.Done()
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// one dumps a collection, unless a dead attempt has, and adds it to the manifest.
func (r *run) one(ctx context.Context, l listing) error {
	done, ok := r.progress.kept(r, l)
	if ok {
		r.tracker.Add(l.name, done.Collection.Digest.Documents, done.Collection.Digest.Bytes)
	} else {
		var err error
		if done, err = r.collection(ctx, l); err != nil {
			return err
		}
		if err := errors.Join(r.progress.keep(l, done), r.forgetParts(l.name)); err != nil {
			return onDisk(r.work, err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if done.Dropped {
		r.manifest.Dropped = append(r.manifest.Dropped, l.name)
		return nil
	}
	if done.Collection != nil {
		r.manifest.Collections = append(r.manifest.Collections, *done.Collection)
	}
	r.manifest.Unreadable = append(r.manifest.Unreadable, done.Unreadable...)
	return nil
}

// seal makes the directory whole: manifest last, then its name.
func (r *run) seal() error {
	r.manifest.FinishedAt = time.Now().UTC()
	r.manifest.Moment = r.progress.moment()
	r.manifest.ClusterTime = ""
	if r.manifest.Moment {
		r.manifest.ClusterTime = r.progress.clusterTime()
	}
	r.manifest.Notes = append(r.manifest.Notes, r.progress.notes()...)
	if err := r.sweep(); err != nil {
		return onDisk(r.work, err)
	}
	// The manifest says that everything is there: it must not reach the disk before everything does.
	if err := durable.SyncTree(r.work); err != nil {
		return onDisk(r.work, err)
	}
	if err := backup.WriteManifest(r.work, &r.manifest); err != nil {
		return onDisk(r.work, err)
	}
	return r.publish()
}

// file is where a file of the backup lies while it is written.
func (r *run) file(path string) string { return filepath.Join(r.work, filepath.FromSlash(path)) }

// folders hold the files of the backup.
func (r *run) folders() []string {
	return []string{r.file(r.db.Name()), filepath.Dir(r.file(backup.IndexPath(r.db.Name(), "any")))}
}

// sweep removes the files of collections that are not in the manifest: dropped ones, and those that a dead attempt
// still saw.
func (r *run) sweep() error {
	known := map[string]bool{}
	for _, c := range r.manifest.Collections {
		for _, f := range c.Files() {
			known[r.file(f.Path)] = true
		}
	}
	for _, folder := range r.folders() {
		entries, err := os.ReadDir(folder)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if path := filepath.Join(folder, e.Name()); !known[path] && !e.IsDir() {
				if err := os.Remove(path); err != nil {
					return err
				}
			}
		}
	}
	// Small databases have no index.
	_ = os.Remove(r.folders()[1])
	_ = os.Remove(r.file(backup.IndexFolder))
	return nil
}

// publish gives a directory that has its manifest the name of a whole backup.
func (r *run) publish() error {
	for _, leftover := range []string{attemptDir, partsDir, LockName} {
		if err := os.RemoveAll(filepath.Join(r.work, leftover)); err != nil {
			return onDisk(r.work, err)
		}
	}
	if err := durable.SyncDir(r.work); err != nil {
		return onDisk(r.work, err)
	}
	return onDisk(r.work, durable.Rename(r.work, filepath.Join(r.o.Root, r.o.Name)))
}
