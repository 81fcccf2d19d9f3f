package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
)

// indexMemory bounds the documents that an IndexWriter holds, in bytes: some 220,000 with an ObjectID each.
const indexMemory = 8 << 20

// most runs that are merged at a time: each takes a block's memory.
const mostRuns = 64

// IndexWriter writes the document index of a collection whose documents come in any order: it sorts as many as its memory
// holds, and merges what it had to put aside. Documents that come in the order of their _ids are written once. It is not
// safe for concurrent use.
type IndexWriter struct {
	path   string
	memory int
	held   *IndexEntries
	run    *indexFile // that is being written; nil while there is none
	runs   []string
	made   int // runs, to name the next one
	twice  []byte
}

// NewIndexWriter returns a writer of the file at path. What it puts aside lies beside it, under names that begin with its
// name. Nothing is written before the memory is full.
func NewIndexWriter(path string) *IndexWriter {
	return &IndexWriter{path: path, memory: indexMemory, held: heldEntries.Get().(*IndexEntries)}
}

// heldEntries are without documents: a dump makes a writer for each collection, and growing costs more than what they hold.
var heldEntries = sync.Pool{New: func() any { return new(IndexEntries) }}

// Add takes documents, of which it keeps a copy.
func (w *IndexWriter) Add(ctx context.Context, e *IndexEntries) error {
	w.held.append(e)
	if w.held.size() < w.memory {
		return nil
	}
	return w.spill(ctx)
}

// spill writes what is held to a run: to the one before if it follows that.
func (w *IndexWriter) spill(ctx context.Context) error {
	if len(w.held.entries) == 0 {
		return nil
	}
	w.held.sort()
	if w.run != nil && !w.run.follows(w.held.key(w.held.entries[0])) {
		if err := w.endRun(ctx); err != nil {
			return err
		}
	}
	if w.run == nil {
		path := w.nextRun()
		var err error
		if w.run, err = createIndex(path); err != nil {
			return err
		}
		w.runs = append(w.runs, path)
	}
	return w.drain(w.run)
}

func (w *IndexWriter) nextRun() string {
	w.made++
	return fmt.Sprintf("%s.%04d", w.path, w.made)
}

// drain writes what is held, which is sorted.
func (w *IndexWriter) drain(to *indexFile) error {
	for _, n := range w.held.entries {
		if err := to.add(w.held.key(n), n.hash); err != nil {
			return err
		}
	}
	w.held.Reset()
	return nil
}

// endRun ends the run that is being written, and merges all where they have become many.
func (w *IndexWriter) endRun(ctx context.Context) error {
	_, err := w.run.finish()
	w.run = nil
	if err != nil || len(w.runs) < mostRuns {
		return err
	}
	path := w.nextRun()
	if _, err := mergeIndexes(ctx, path, w.runs); err != nil {
		return errors.Join(err, remove(path))
	}
	if err := remove(w.runs...); err != nil {
		return err
	}
	w.runs = []string{path}
	return nil
}

// Finish writes the index and says what it is; the path, and a flush to disk, are left to the caller.
func (w *IndexWriter) Finish(ctx context.Context) (File, error) {
	if len(w.runs) == 0 {
		w.held.sort()
		f, err := createIndex(w.path)
		if err != nil {
			return File{}, err
		}
		if err := w.drain(f); err != nil {
			return File{}, errors.Join(err, f.f.Close())
		}
		w.twice = f.twice
		return f.finish()
	}
	if err := w.spill(ctx); err != nil {
		return File{}, err
	}
	if len(w.runs) == 1 {
		file, err := w.run.finish()
		w.twice, w.run = w.run.twice, nil
		if err != nil {
			return File{}, err
		}
		return file, os.Rename(w.runs[0], w.path)
	}
	if err := w.endRun(ctx); err != nil {
		return File{}, err
	}
	out, err := mergeIndexes(ctx, w.path, w.runs)
	w.twice = out.twice
	return out.file, errors.Join(err, remove(w.runs...))
}

// Twice returns the _id, as extended JSON, of a document that came more than once, or "". It is asked after Finish, or instead of it
// where no index is wanted.
func (w *IndexWriter) Twice() string {
	key := w.twice
	if key == nil {
		w.held.sort()
		for i, n := range w.held.entries {
			if k := w.held.key(n); i > 0 && k[0] != noID && bytes.Equal(k, w.held.key(w.held.entries[i-1])) {
				key = k
				break
			}
		}
	}
	if key == nil {
		return ""
	}
	if id, whole := idOfKey(key); whole {
		return id.String()
	}
	return "one of " + strconv.Itoa(keptOfLong) + " bytes or more"
}

// Abandon removes what was put aside, and ends the writer. It may follow any failure, and Finish.
func (w *IndexWriter) Abandon() error {
	w.held.Reset()
	heldEntries.Put(w.held)
	w.held = new(IndexEntries)
	var err error
	if w.run != nil {
		err = w.run.f.Close()
		w.run = nil
	}
	return errors.Join(err, remove(w.runs...))
}

func remove(paths ...string) error {
	var failed error
	for _, p := range paths {
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// MergeIndexes writes the index of a collection from those of its parts, and says what it is; the path, and a flush
// to disk, are left to the caller. Parts that are damaged or together not the collection are a *CorruptError.
func MergeIndexes(ctx context.Context, path string, whole Digest, parts ...string) (File, error) {
	var made []string
	out, ok, err := joinIndexes(ctx, path, parts)
	if err == nil && !ok {
		if parts, made, err = fewerIndexes(ctx, path, parts); err == nil {
			out, err = mergeIndexes(ctx, path, parts)
		}
	}
	if err == nil && (out.sums.documents != uint64(whole.Documents) || out.sums.hashes != whole.lo) {
		err = &CorruptError{File: path, Reason: "the parts that it was made of are not the collection"}
	}
	return out.file, errors.Join(err, remove(made...))
}

// fewerIndexes merges groups of them until few enough are left to be merged at a time.
func fewerIndexes(ctx context.Context, path string, parts []string) (fewer, made []string, err error) {
	for len(parts) > mostRuns {
		fewer = nil
		for group := range slices.Chunk(parts, mostRuns) {
			to := fmt.Sprintf("%s.%04d", path, len(made))
			made, fewer = append(made, to), append(fewer, to)
			if _, err := mergeIndexes(ctx, to, group); err != nil {
				return nil, made, err
			}
		}
		parts = fewer
	}
	return parts, made, nil
}

// joinIndexes puts one behind the other, block by block, where they are in order: as those of a collection's ranges mostly
// are. ok is false where they are not.
func joinIndexes(ctx context.Context, path string, parts []string) (_ merged, ok bool, err error) {
	out, err := createIndex(path)
	if err != nil {
		return merged{}, false, err
	}
	for _, p := range parts {
		if ok, err = joinIndex(ctx, out, p); err != nil || !ok {
			return merged{}, false, errors.Join(err, out.f.Close())
		}
	}
	file, err := out.finish()
	return merged{file, out.sums, out.twice}, true, err
}

func joinIndex(ctx context.Context, out *indexFile, part string) (ok bool, err error) {
	r, err := OpenIndex(part)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	r.skims = true
	for ctx.Err() == nil {
		if err := r.nextBlock(); errors.Is(err, io.EOF) {
			out.sums.plus(r.sums)
			return true, nil
		} else if err != nil {
			return false, err
		}
		if ok, err := out.copyBlock(r); err != nil || !ok {
			return false, err
		}
	}
	return false, ctx.Err()
}

// merged is an index that was made of others.
type merged struct {
	file  File
	sums  indexSums
	twice []byte
}

func mergeIndexes(ctx context.Context, path string, parts []string) (_ merged, err error) {
	var heads []*IndexReader
	defer func() {
		for _, r := range heads {
			err = errors.Join(err, r.Close())
		}
	}()
	out, err := createIndex(path)
	if err != nil {
		return merged{}, err
	}
	merge := func() error {
		for _, p := range parts {
			r, err := OpenIndex(p)
			if err != nil {
				return err
			}
			heads = append(heads, r)
		}
		return mergeInto(ctx, out, slices.Clone(heads))
	}
	if err := merge(); err != nil {
		return merged{}, errors.Join(err, out.f.Close())
	}
	file, err := out.finish()
	return merged{file, out.sums, out.twice}, err
}

// mergeInto keeps the readers in a heap by what each one gives next.
func mergeInto(ctx context.Context, out *indexFile, heap []*IndexReader) error {
	n := 0
	for _, r := range heap {
		switch err := r.next(); {
		case err == nil:
			heap[n] = r
			n++
		case !errors.Is(err, io.EOF):
			return err
		}
	}
	heap = heap[:n]
	for i := n/2 - 1; i >= 0; i-- {
		sink(heap, i)
	}
	for count := 0; len(heap) > 0; count++ {
		if count%blockEntries == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if err := out.add(heap[0].key, heap[0].hash); err != nil {
			return err
		}
		switch err := heap[0].next(); {
		case errors.Is(err, io.EOF):
			heap[0] = heap[len(heap)-1]
			heap = heap[:len(heap)-1]
		case err != nil:
			return err
		}
		sink(heap, 0)
	}
	return nil
}

func sink(heap []*IndexReader, i int) {
	for {
		least := i
		for _, child := range []int{2*i + 1, 2*i + 2} {
			if child < len(heap) && heap[child].before(heap[least]) {
				least = child
			}
		}
		if least == i {
			return
		}
		heap[i], heap[least] = heap[least], heap[i]
		i = least
	}
}

// WriteIndex reads the documents of a collection and writes their index to path: for backups that have none.
func (s Source) WriteIndex(ctx context.Context, c *Collection, path string) (File, error) {
	w := NewIndexWriter(path)
	var e IndexEntries
	for doc, err := range s.Documents(ctx, c) {
		if err != nil {
			return File{}, errors.Join(err, w.Abandon())
		}
		e.Reset()
		e.Add(doc, HashOf(doc))
		if err := w.Add(ctx, &e); err != nil {
			return File{}, errors.Join(err, w.Abandon())
		}
	}
	file, err := w.Finish(ctx)
	if err != nil {
		return File{}, errors.Join(fmt.Errorf("write document index: %w", err), w.Abandon())
	}
	return file, nil
}

// IndexFile returns the path of the collection's document index, or "" where it has none.
func (s Source) IndexFile(c *Collection) string {
	if c.DocumentIndex.Path == "" {
		return ""
	}
	return filepath.Join(s.Dir, filepath.FromSlash(c.DocumentIndex.Path))
}
