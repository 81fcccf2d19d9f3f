package restore

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/battwheels/runbook/internal/backup"
)

// sending is one collection on its way to the server.
type sending struct {
	l       *loader
	ctx     context.Context //nolint:containedctx // a sending lives as long as the call that began it
	sc      StagedCollection
	ordered bool
	raw     bool // it is a time series that holds its buckets itself
	// bypass says that the collection's validator is passed over: since it has refused a document, or from the beginning where a batch in
	// order could not be sent again.
	bypass  atomic.Bool
	group   *errgroup.Group
	packed  chan *batch
	senders atomic.Int64
}

// pack reads the file into batches. The file is compared with the manifest at its end: all of it may have been sent by
// then, to where it harms nobody.
func (s *sending) pack(c *backup.Collection) error {
	b := newBatch()
	size := s.l.pace.setting().bytes
	for doc, err := range s.l.o.Source.DocumentsAhead(s.ctx, c, s.l.ahead) {
		if err != nil {
			return err
		}
		if n := len(b.documents); n > 0 && (n == mostInBatch || b.size()+len(doc) > size) {
			if err := s.put(b); err != nil {
				return err
			}
			b, size = newBatch(), s.l.pace.setting().bytes
		}
		if len(doc) <= largestBatch {
			b.add(doc)
			continue
		}
		// A huge one is copied only when there is room for it.
		if err := s.admit(b, len(doc)); err != nil {
			return err
		}
		b.array = append(s.l.hugeArray(), b.array...)
		b.add(doc)
		if err := s.put(b); err != nil {
			return err
		}
		b = newBatch()
	}
	if len(b.documents) == 0 {
		b.free()
		return nil
	}
	if s.senders.Load() > 0 {
		return s.put(b)
	}
	// All of a small collection is sent right here.
	if err := s.admit(b, b.size()); err != nil {
		return err
	}
	b.close()
	return s.send(b)
}

// admit waits until there is room for another batch on its way, of about so many bytes.
func (s *sending) admit(b *batch, bytes int) error {
	weight := int64(bytes)
	if weight <= 2*largestBatch {
		// The driver's copies of it lie about until the garbage collector comes. After a huge one it is called.
		weight *= 2
	}
	weight = min(weight, inFlight)
	if err := s.l.budget.Acquire(s.ctx, weight); err != nil {
		return err
	}
	b.weight = weight
	return nil
}

// put hands a batch to a sender that is free, or to another one while the pace allows for more.
func (s *sending) put(b *batch) error {
	if b.weight == 0 {
		if err := s.admit(b, b.size()); err != nil {
			return err
		}
	}
	b.close()
	select {
	case s.packed <- b:
		return nil
	default:
	}
	if n := s.senders.Load(); n < s.allowed() {
		s.senders.Add(1)
		s.group.Go(func() error { return s.work(b) })
		return nil
	}
	s.l.pace.wait()
	select {
	case s.packed <- b:
		return nil
	case <-s.ctx.Done():
		s.l.budget.Release(b.weight)
		return s.ctx.Err()
	}
}

// allowed is how many senders this collection may have: its share of the writers, or one where the order counts.
func (s *sending) allowed() int64 {
	if s.ordered {
		return 1
	}
	among := max(s.l.loading.Load(), 1)
	return max((int64(s.l.pace.setting().writers)+among-1)/among, 1)
}

// work sends batches until there are no more, or too many senders.
func (s *sending) work(b *batch) error {
	for {
		if err := s.send(b); err != nil {
			return err
		}
		if n := s.senders.Load(); n > s.allowed() && s.senders.CompareAndSwap(n, n-1) {
			return nil
		}
		var more bool
		if b, more = <-s.packed; !more {
			return nil
		}
	}
}

// mayNotWriteBuckets is why a time series cannot be restored up to MongoDB 8.2 under a user with rights on one database.
const mayNotWriteBuckets = "the buckets of a time series lie in a system collection, which readWrite on one database leaves out: " +
	"give runbook's user the role restore, or readWriteAnyDatabase"

// send inserts a batch.
func (s *sending) send(b *batch) error {
	defer s.l.done(b)
	b.bypass, b.raw = s.bypass.Load(), s.raw
	began := time.Now()
	there, err := insert(s.ctx, s.l.o.DB, s.sc.Stage, s.sc.Name, b, s.ordered)
	if isBuckets(s.sc.Stage) && code(err) == codeUnauthorized {
		return &RefusedError{Collection: s.sc.Name, What: "its buckets", Code: codeUnauthorized, Reason: mayNotWriteBuckets}
	}
	if err != nil {
		return err
	}
	if b.bypass {
		s.bypass.Store(true)
	}
	if len(there) > 0 {
		same, err := alike(s.ctx, s.l.o.DB, s.sc.Stage, b, there)
		if err != nil {
			return err
		}
		for _, n := range there {
			if !same[n] {
				return &RefusedError{
					Collection: s.sc.Name, What: "document _id " + nameOf(b.at(n)), Code: codeDuplicateKey,
					Reason: "another document with this _id stands in the backup, or was written to the staged collection",
				}
			}
		}
	}
	now := time.Now()
	s.l.pace.done(b.size(), now.Sub(began), now)
	s.l.tracker.Add(s.sc.Name, int64(len(b.documents)), int64(b.size()))
	return nil
}

// hugeArray returns an empty array for a document of any size, one that was used before where there is one.
func (l *loader) hugeArray() []byte {
	select {
	case a := <-l.huge:
		return a[:0]
	default:
		return make([]byte, 0, backup.MaxDocument+firstBatch)
	}
}

// done gives back what a batch took of memory.
func (l *loader) done(b *batch) {
	if b.huge() {
		// The driver has made three copies of it, all garbage now. Were they left until the collector comes by itself, the
		// heap would grow to twice what it needs.
		select {
		case l.huge <- b.array:
		default:
		}
		b.array = nil
		runtime.GC()
	}
	l.budget.Release(b.weight)
	b.free()
}
