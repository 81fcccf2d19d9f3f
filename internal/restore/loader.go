package restore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/battwheels/runbook/internal/backup"
)

const (
	// writers is how many batches of one collection are on their way at a time.
	writers = 4
	// inFlight bounds the bytes of all batches on their way. The driver holds about two copies of each.
	inFlight = 4 * batchBytes
	// startOvers bounds how often an ordered collection is begun again after a broken connection.
	startOvers = 3
)

// loader loads a backup's collections into their staged ones.
type loader struct {
	o          StageOptions
	token      int64
	journal    *journal[milestone]
	budget     *semaphore.Weighted
	perBatch   atomic.Int64 // documents; falls when the server is slow
	replicaSet bool
	tracker    *backup.Tracker
}

func newLoader(ctx context.Context, o StageOptions, s Staging, j *journal[milestone]) (*loader, error) {
	h, err := ask(ctx, o.DB)
	if err != nil {
		return nil, err
	}
	l := &loader{o: o, token: s.Token, journal: j, budget: semaphore.NewWeighted(inFlight), replicaSet: h.SetName != ""}
	l.perBatch.Store(mostDocuments)
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

func (l *loader) all(ctx context.Context, s Staging, finished map[string]bool) error {
	err := l.o.each(ctx, s, func(ctx context.Context, i int) error {
		sc := s.Collections[i]
		if sc.Skipped == "" {
			if finished[sc.Name] {
				l.tracker.Add(sc.Name, sc.Documents, sc.Bytes)
			} else if err := l.collection(ctx, sc); err != nil {
				return err
			}
		}
		l.tracker.Done()
		return nil
	})
	if err == nil {
		l.tracker.Finish()
	}
	return err
}

// collection loads one collection from its beginning, and notes it in the journal when it is whole.
func (l *loader) collection(ctx context.Context, sc StagedCollection) error {
	c, err := l.o.collectionOf(sc)
	if err != nil {
		return err
	}
	if err := checkMetadata(l.o.Source, c); err != nil {
		return err
	}
	if err := l.o.Lease.Check(ctx); err != nil {
		return err
	}
	for n := 1; ; n++ {
		if err := drop(ctx, l.o.DB, sc.Stage); err != nil {
			return err
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
	if err := buildIndexes(ctx, l.o.DB, sc.Stage, c, l.replicaSet, func(s indexSpec) bool { return !s.ttl() }); err != nil {
		return err
	}
	uuid, err := uuidOf(ctx, l.o.DB, sc.Stage)
	if err != nil {
		return err
	}
	return l.journal.add(milestone{Token: l.token, Manifest: l.o.Source.Manifest.Checksum, Collection: sc.Name, UUID: uuid})
}

// documents streams a collection's file to the server. One goroutine reads and packs, several send.
func (l *loader) documents(ctx context.Context, sc StagedCollection, c *backup.Collection) error {
	options, err := backup.ToBSON(c.Options)
	if err != nil {
		return err
	}
	ordered := truth(options.Lookup("capped"))
	senders := writers
	if ordered {
		senders = 1
	}
	g, ctx := errgroup.WithContext(ctx)
	packed := make(chan *batch)
	g.Go(func() error {
		defer close(packed)
		return l.pack(ctx, c, packed)
	})
	for range senders {
		g.Go(func() error {
			for b := range packed {
				err := l.send(ctx, sc, b, ordered)
				l.budget.Release(weight(b))
				b.free()
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// pack reads the file into batches. The file is compared with the manifest at its end: all of it may have been sent by
// then, to where it harms nobody.
func (l *loader) pack(ctx context.Context, c *backup.Collection, packed chan<- *batch) error {
	b := newBatch()
	put := func() error {
		b.close()
		if err := l.budget.Acquire(ctx, weight(b)); err != nil {
			return err
		}
		select {
		case packed <- b:
			b = newBatch()
			return nil
		case <-ctx.Done():
			l.budget.Release(weight(b))
			return ctx.Err()
		}
	}
	for doc, err := range l.o.Source.Documents(ctx, c) {
		if err != nil {
			return err
		}
		if n := len(b.documents); n > 0 && (n >= int(l.perBatch.Load()) || b.size()+len(doc) > batchBytes) {
			if err := put(); err != nil {
				return err
			}
		}
		b.add(doc)
	}
	if len(b.documents) == 0 {
		return nil
	}
	return put()
}

func weight(b *batch) int64 { return min(int64(b.size()), inFlight) }

// send inserts a batch. A server that takes long for one gets smaller ones: so a lost connection costs little, and a
// cancelled attempt ends soon.
func (l *loader) send(ctx context.Context, sc StagedCollection, b *batch, ordered bool) error {
	began := time.Now()
	there, err := insert(ctx, l.o.DB, sc.Stage, sc.Name, b, ordered)
	if err != nil {
		return err
	}
	if len(there) > 0 {
		same, err := alike(ctx, l.o.DB, sc.Stage, b, there)
		if err != nil {
			return err
		}
		for _, n := range there {
			if !same[n] {
				return &RefusedError{
					Collection: sc.Name, What: "document _id " + nameOf(b.at(n)), Code: codeDuplicateKey,
					Reason: "another document with this _id stands in the backup, or was written to the staged collection",
				}
			}
		}
	}
	l.adapt(len(b.documents), time.Since(began))
	l.tracker.Add(sc.Name, int64(len(b.documents)), int64(b.size()))
	return nil
}

func (l *loader) adapt(sent int, took time.Duration) {
	now := l.perBatch.Load()
	switch {
	case took > time.Second:
		l.perBatch.CompareAndSwap(now, max(now/2, fewDocuments))
	case took < 200*time.Millisecond && int64(sent) >= now:
		l.perBatch.CompareAndSwap(now, min(now*2, mostDocuments))
	}
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
