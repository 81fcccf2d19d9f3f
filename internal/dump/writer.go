package dump

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/zeebo/xxh3"
	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/sync/semaphore"

	"github.com/battwheels/runbook/internal/backup"
)

// batch is whole documents on their way into one gzip member.
type batch struct {
	docs   []byte
	packed bytes.Buffer
	digest backup.Digest
	index  backup.IndexEntries
	bad    []badDocument
	err    error
	empty  bool // to be packed although there is nothing in it
	weight int64
	ready  chan struct{}
}

// badDocument is a document that the server gave and that is not BSON inside.
type badDocument struct {
	id  string
	err error
}

// packers compresses the batches of all collections on every core, so that one large collection uses all of them too.
type packers struct {
	level   int
	share   int64 // of the memory
	jobs    chan *batch
	budget  *semaphore.Weighted
	work    sync.WaitGroup
	batches sync.Pool
	idle    sync.Pool // packers for the small files, which their own goroutines compress
}

func newPackers(o Options) (*packers, error) {
	share := packingShare(o.Memory)
	p := &packers{
		jobs:    make(chan *batch),
		budget:  semaphore.NewWeighted(share),
		batches: sync.Pool{New: func() any { return new(batch) }},
		level:   o.Level,
		share:   share,
	}
	n := runtime.GOMAXPROCS(0)
	all := make([]*backup.Packer, n)
	for i := range all {
		var err error
		if all[i], err = o.newPacker(); err != nil {
			return nil, err
		}
	}
	for _, packer := range all {
		p.work.Add(1)
		go func() {
			defer p.work.Done()
			for b := range p.jobs {
				b.pack(packer)
				close(b.ready)
			}
		}()
	}
	return p, nil
}

func (p *packers) close() {
	close(p.jobs)
	p.work.Wait()
}

// nothing is what makes a file without documents a compressed file.
func (p *packers) nothing() ([]byte, error) {
	b := &batch{ready: make(chan struct{})}
	b.empty = true
	p.jobs <- b
	<-b.ready
	return b.packed.Bytes(), b.err
}

// small compresses something small with gzip at once.
func (p *packers) small(content []byte) ([]byte, error) {
	packer, ok := p.idle.Get().(*backup.Packer)
	if !ok {
		var err error
		if packer, err = backup.NewPacker(p.level); err != nil {
			return nil, err
		}
	}
	defer p.idle.Put(packer)
	var b bytes.Buffer
	if err := packer.Pack(&b, content); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func (p *packers) get() *batch {
	b := p.batches.Get().(*batch)
	b.docs, b.digest, b.bad, b.err, b.weight = b.docs[:0], backup.Digest{}, nil, nil, 0
	b.index.Reset()
	b.ready = make(chan struct{})
	return b
}

// put gives a batch back. One that had to grow for a huge document is left to the garbage collector.
func (p *packers) put(b *batch) {
	if cap(b.docs) <= 2*backup.MemberSize {
		p.batches.Put(b)
	}
}

// pack checks, digests, indexes and compresses the documents. Those that are not BSON are named and left out.
func (b *batch) pack(packer *backup.Packer) {
	kept := b.docs[:0]
	for rest := b.docs; len(rest) > 0; {
		n := binary.LittleEndian.Uint32(rest)
		doc := bson.Raw(rest[:n])
		rest = rest[n:]
		if err := backup.Validate(doc); err != nil {
			b.bad = append(b.bad, badDocument{idOf(doc), err})
			continue
		}
		h := backup.HashOf(doc)
		b.digest.AddHash(h, len(doc))
		b.index.Add(doc, h)
		if len(b.bad) == 0 {
			kept = kept[:len(kept)+len(doc)] // it lies there already
		} else {
			kept = append(kept, doc...)
		}
	}
	b.docs = kept
	if len(kept) > 0 || b.empty {
		b.err = packer.Pack(&b.packed, kept)
	}
}

// idOf names a document whose structure may be damaged.
func idOf(doc bson.Raw) string {
	id, err := doc.LookupErr("_id")
	if err != nil || id.Validate() != nil {
		return "unknown"
	}
	return id.String()
}

// writer writes the documents of one collection to its file, in order, while further batches are compressed.
type writer struct {
	run        *run
	part       bool // of a file, and not one that others read
	collection string
	path       string
	f          *os.File
	sum        hash.Hash
	size       int64
	taken      int64 // documents
	current    *batch
	order      chan *batch
	finished   chan struct{}
	cancel     context.CancelCauseFunc
	ctx        context.Context //nolint:containedctx // ends when the file cannot be written

	digest backup.Digest
	index  *backup.IndexWriter
	bad    []badDocument
	twice  string // the _id of a document that came twice
}

func newWriter(ctx context.Context, r *run, collection, path, index string, part bool) (*writer, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, onDisk(r.work, err)
	}
	w := &writer{
		run:        r,
		part:       part,
		collection: collection,
		path:       path,
		f:          f,
		sum:        sha256.New(),
		index:      backup.NewIndexWriter(index),
		current:    r.packers.get(),
		order:      make(chan *batch, runtime.GOMAXPROCS(0)+1),
		finished:   make(chan struct{}),
	}
	if part {
		w.sum = xxh3.New()
	}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	go w.write()
	return w, nil
}

// add takes one document, of which it keeps a copy.
func (w *writer) add(doc bson.Raw) error {
	if len(doc) > backup.MaxDocument {
		return fmt.Errorf("a document has %d bytes, more than a server stores", len(doc))
	}
	if len(w.current.docs)+len(doc) > backup.MemberSize {
		if err := w.flush(); err != nil {
			return err
		}
	}
	if len(doc) >= backup.MemberSize {
		// Room is made before the copy: a cursor that waits holds a huge document once, not twice.
		if err := w.reserve(w.current, len(doc)); err != nil {
			return err
		}
	}
	if w.current.docs == nil {
		w.current.docs = make([]byte, 0, max(backup.MemberSize, len(doc)))
	}
	w.current.docs = append(w.current.docs, doc...)
	w.taken++
	if len(w.current.docs) >= backup.MemberSize {
		return w.flush() // a huge document does not wait outside of the budget
	}
	return nil
}

// reserve takes the memory that a batch needs until it is written.
func (w *writer) reserve(b *batch, size int) error {
	weight := min(int64(size), w.run.packers.share)
	if err := w.run.packers.budget.Acquire(w.ctx, weight); err != nil {
		return context.Cause(w.ctx)
	}
	b.weight = weight
	return nil
}

// flush hands the batch over to be compressed.
func (w *writer) flush() error {
	b := w.current
	if len(b.docs) == 0 {
		return nil
	}
	if b.weight == 0 {
		if err := w.reserve(b, len(b.docs)); err != nil {
			return err
		}
	}
	// The pool always comes round to a batch that was sent, so that what is in order is always ready in the end.
	select {
	case w.run.packers.jobs <- b:
	case <-w.ctx.Done():
		w.run.packers.budget.Release(b.weight)
		return context.Cause(w.ctx)
	}
	w.current = w.run.packers.get()
	w.order <- b
	return nil
}

// write is the file's own goroutine: it keeps the order, and after a failure only drains it.
func (w *writer) write() {
	defer close(w.finished)
	for b := range w.order {
		<-b.ready
		if w.ctx.Err() == nil {
			if err := w.one(b); err != nil {
				w.cancel(err)
			}
		}
		w.run.packers.budget.Release(b.weight)
		w.run.packers.put(b)
	}
}

func (w *writer) one(b *batch) error {
	if b.err != nil {
		return b.err
	}
	if len(b.bad) > 0 && !w.run.o.Salvage {
		return &UnreadableError{Collection: w.collection, ID: b.bad[0].id, Err: fmt.Errorf("it is not valid BSON: %w", b.bad[0].err)}
	}
	w.bad = append(w.bad, b.bad...)
	if len(b.docs) == 0 {
		return nil
	}
	if err := w.put(b.packed.Bytes()); err != nil {
		return err
	}
	if err := w.index.Add(w.ctx, &b.index); err != nil {
		return onDisk(w.run.work, err)
	}
	w.digest.Merge(b.digest)
	w.run.tracker.Add(w.collection, b.digest.Documents, b.digest.Bytes)
	return nil
}

func (w *writer) put(b []byte) error {
	if _, err := w.f.Write(b); err != nil {
		return onDisk(w.run.work, err)
	}
	w.sum.Write(b)
	w.size += int64(len(b))
	return nil
}

// finish writes what is left and says what the files hold.
func (w *writer) finish() (data, index backup.File, err error) {
	flushed := w.flush()
	close(w.order)
	<-w.finished
	if err := context.Cause(w.ctx); err != nil || flushed != nil {
		return data, index, errors.Join(err, w.f.Close(), w.index.Abandon())
	}
	if w.size == 0 && !w.part {
		if err := w.empty(); err != nil {
			return data, index, errors.Join(err, w.f.Close())
		}
	}
	if err := w.f.Close(); err != nil {
		return data, index, onDisk(w.run.work, err)
	}
	if w.part || w.digest.Bytes >= backup.IndexWorthBytes {
		index, err = w.index.Finish(w.ctx)
	}
	w.twice = w.index.Twice()
	if err = errors.Join(err, w.index.Abandon()); err != nil {
		return data, index, onDisk(w.run.work, err)
	}
	w.cancel(nil)
	rel, err := filepath.Rel(w.run.work, w.path)
	return backup.File{Path: filepath.ToSlash(rel), Size: w.size, SHA256: hex.EncodeToString(w.sum.Sum(nil))}, index, err
}

// empty writes the one member that makes a file without documents a gzip file.
func (w *writer) empty() error {
	member, err := w.run.packers.nothing()
	if err != nil {
		return err
	}
	return w.put(member)
}

// abandon stops without a file: what was counted is taken back.
func (w *writer) abandon() error {
	w.cancel(context.Canceled)
	close(w.order)
	<-w.finished
	w.run.tracker.Add(w.collection, -w.digest.Documents, -w.digest.Bytes)
	return onDisk(w.run.work, errors.Join(w.f.Close(), w.index.Abandon()))
}
