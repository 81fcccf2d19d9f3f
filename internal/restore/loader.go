package restore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/battwheels/runbook/internal/backup"
)

const (
	// inFlight bounds the bytes of all batches on their way: of two huge documents, or half as much in ordinary batches. The driver holds
	// three copies of each.
	inFlight = 34 << 20
	// unpackedAhead bounds what is unpacked before there is room for it in a batch: two huge documents, one by each of two cores.
	unpackedAhead = 34 << 20
	// mostInBatch is less than the documents that any server takes in one command.
	mostInBatch = 10_000
	// startOvers bounds how often an ordered collection is begun again after a broken connection.
	startOvers = 3
	// A small collection takes a share of a place among those that are loaded at a time: most of its time it waits for
	// answers.
	smallCollection = 1 << 20
	smallShare      = 4
	// leaseFor is for how long a look at the lease is good enough to stage another collection: whoever takes over drops
	// this attempt's staging in any case.
	leaseFor = 200 * time.Millisecond
)

// loader loads a backup's collections into their staged ones. All collections share its bounds of memory, and what it
// has learnt of the server.
type loader struct {
	o          StageOptions
	token      int64
	there      map[string]info // what the database had when this run began
	journal    *journal[milestone]
	budget     *semaphore.Weighted
	ahead      *backup.ReadAhead
	huge       chan []byte // arrays of huge documents, to be used again
	pace       *pace
	loading    atomic.Int64 // collections that are loaded right now
	replicaSet bool
	tracker    *backup.Tracker

	leaseMu   sync.Mutex
	leaseSeen time.Time
}

func newLoader(ctx context.Context, o StageOptions, s Staging, there map[string]info, j *journal[milestone]) (*loader, error) {
	h, err := ask(ctx, o.DB)
	if err != nil {
		return nil, err
	}
	l := &loader{
		o: o, token: s.Token, there: there, journal: j, replicaSet: h.SetName != "", pace: newPace(), huge: make(chan []byte, 2),
		budget: semaphore.NewWeighted(inFlight), ahead: backup.NewReadAhead(unpackedAhead),
	}
	l.tracker = backup.NewTracker(backup.Progress{
		Step: "staging", CollectionsTotal: len(s.Collections), DocumentsTotal: s.Documents, BytesTotal: s.Bytes,
	}, o.Progress)
	return l, nil
}

// finished returns the collections that an earlier run of this attempt has loaded whole and that are still there.
func (l *loader) finished(s Staging, done []milestone, there map[string]info) map[string]bool {
	stages := map[string]string{}
	for _, c := range s.Collections {
		stages[c.Name] = c.Stage
	}
	finished := map[string]bool{}
	for _, d := range done {
		if d.Token != l.token || d.Manifest != l.o.Source.Manifest.Checksum {
			continue
		}
		at, ok := there[stages[d.Collection]]
		finished[d.Collection] = ok && (d.UUID == at.uuid || d.UUID == "")
	}
	return finished
}

// all loads what is not finished, the largest first. The indexes of a collection are built while others are loaded.
func (l *loader) all(ctx context.Context, s Staging, finished map[string]bool) error {
	parallel := int64(l.o.parallel())
	loads, builds := semaphore.NewWeighted(parallel*smallShare), semaphore.NewWeighted(parallel)
	small := newCrowd(int(parallel), int(parallel*smallShare), time.Now())
	g, ctx := errgroup.WithContext(ctx)
	notes := make(chan note)
	g.Go(func() error { return l.keep(ctx, notes) })
	g.Go(func() error {
		defer close(notes)
		work, working := errgroup.WithContext(ctx)
		for _, i := range s.largestFirst() {
			sc := s.Collections[i]
			if sc.Skipped != "" || finished[sc.Name] {
				if finished[sc.Name] {
					l.tracker.Add(sc.Name, sc.Documents, sc.Bytes)
				}
				l.tracker.Done()
				continue
			}
			share, leave := int64(smallShare), func() {}
			if sc.Bytes < smallCollection && parallel > 1 {
				if small.enter(working) != nil {
					break // because another one has failed
				}
				share, leave = 1, func() { small.leave(time.Now()) }
			}
			if loads.Acquire(working, share) != nil {
				break // likewise
			}
			work.Go(func() error {
				loaded := sync.OnceFunc(func() {
					loads.Release(share)
					leave()
				})
				defer loaded()
				t := turn{loaded: loaded, builds: builds, notes: notes}
				if parallel == 1 {
					t.loaded = func() {} // strictly one after another
				}
				if err := l.collection(working, sc, t); err != nil {
					return err
				}
				l.tracker.Done()
				return nil
			})
		}
		return errors.Join(work.Wait(), ctx.Err())
	})
	if err := g.Wait(); err != nil {
		return err
	}
	l.tracker.Finish()
	return nil
}

// turn is a collection's turn among the others.
type turn struct {
	loaded func() // makes room for the next one; nothing where it was called already
	builds *semaphore.Weighted
	notes  chan<- note
}

// collection loads one collection from its beginning, and notes it in the journal when it is whole.
func (l *loader) collection(ctx context.Context, sc StagedCollection, t turn) error {
	c, err := l.o.collectionOf(sc)
	if err != nil {
		return err
	}
	if err := checkMetadata(l.o.Source, c); err != nil {
		return err
	}
	if err := l.checkLease(ctx); err != nil {
		return err
	}
	_, there := l.there[sc.Stage]
	for n := 1; ; n++ {
		if there || n > 1 {
			if err := drop(ctx, l.o.DB, sc.Stage); err != nil {
				return err
			}
		}
		if err := create(ctx, l.o.DB, sc.Stage, c); err != nil {
			return err
		}
		err := l.documents(ctx, sc, c)
		if err == nil {
			break
		}
		if !errors.Is(err, errStartOver) || n == startOvers {
			return err
		}
	}
	t.loaded()
	if err := t.builds.Acquire(ctx, 1); err != nil {
		return err
	}
	began := time.Now()
	err = buildIndexes(ctx, l.o.DB, sc.Stage, c, l.replicaSet, func(s indexSpec) bool { return !s.ttl() })
	t.builds.Release(1)
	if l.o.Indexed != nil {
		l.o.Indexed(time.Since(began))
	}
	if err != nil {
		return err
	}
	kept := make(chan struct{})
	select {
	case t.notes <- note{sc, kept}:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-kept:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// checkLease is Lease.Check, unless it was looked at just now.
func (l *loader) checkLease(ctx context.Context) error {
	l.leaseMu.Lock()
	defer l.leaseMu.Unlock()
	if time.Since(l.leaseSeen) < leaseFor {
		return nil
	}
	if err := l.o.Lease.Check(ctx); err != nil {
		return err
	}
	l.leaseSeen = time.Now()
	return nil
}

// note is a collection that is whole. kept closes once the journal has it.
type note struct {
	sc   StagedCollection
	kept chan struct{}
}

// keep writes what is whole into the journal, all that has come since the last time with one flush to the disk.
func (l *loader) keep(ctx context.Context, notes <-chan note) error {
	for {
		var list []note
		select {
		case n, ok := <-notes:
			if !ok {
				return nil
			}
			list = append(list, n)
		case <-ctx.Done():
			return ctx.Err()
		}
		for more := true; more; {
			select {
			case n, ok := <-notes:
				if more = ok; ok {
					list = append(list, n)
				}
			default:
				more = false
			}
		}
		if err := l.note(ctx, list); err != nil {
			return err
		}
	}
}

func (l *loader) note(ctx context.Context, list []note) error {
	names := make(bson.A, len(list))
	for i, n := range list {
		names[i] = n.sc.Stage
	}
	at, err := listed(ctx, l.o.DB, bson.D{{Key: "name", Value: bson.D{{Key: "$in", Value: names}}}})
	if err != nil {
		return err
	}
	whole := make([]milestone, len(list))
	for i, n := range list {
		whole[i] = milestone{
			Token: l.token, Manifest: l.o.Source.Manifest.Checksum, Collection: n.sc.Name, UUID: at[n.sc.Stage].uuid,
		}
	}
	if err := l.journal.add(whole...); err != nil {
		return err
	}
	for _, n := range list {
		close(n.kept)
	}
	return nil
}

// documents streams a collection's file to the server. One goroutine packs batches, several send them.
func (l *loader) documents(ctx context.Context, sc StagedCollection, c *backup.Collection) error {
	options, err := backup.ToBSON(c.Options)
	if err != nil {
		return err
	}
	l.loading.Add(1)
	defer l.loading.Add(-1)
	g, ctx := errgroup.WithContext(ctx)
	s := &sending{
		l: l, ctx: ctx, sc: sc, ordered: truth(options.Lookup("capped")), raw: sc.Type == backup.TypeTimeseries && !isBuckets(sc.Stage),
		group: g, packed: make(chan *batch),
	}
	s.bypass.Store(s.ordered && options.Lookup("validator").Type != 0)
	g.Go(func() error {
		defer close(s.packed)
		return s.pack(c)
	})
	return g.Wait()
}

// checkMetadata proves the metadata file. What it says is in the manifest, and restored from there.
func checkMetadata(s backup.Source, c *backup.Collection) error {
	path := filepath.Join(s.Dir, filepath.FromSlash(c.Metadata.Path))
	if c.Metadata.Path == "" {
		return nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read backup file: %w", err)
	}
	sum := sha256.Sum256(b)
	if got := hex.EncodeToString(sum[:]); got != c.Metadata.SHA256 {
		return &backup.CorruptError{File: path, Reason: fmt.Sprintf("its SHA-256 is %s, the manifest says %s", got, c.Metadata.SHA256)}
	}
	return nil
}
