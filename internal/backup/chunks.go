package backup

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"golang.org/x/sync/semaphore"
)

// readAhead bounds the unpacked bytes that a reader by itself holds ahead of its consumer.
const readAhead = 24 << 20

// ReadAhead bounds the unpacked bytes that several readers together hold ahead of their consumers. A member that is larger
// is let through alone.
type ReadAhead struct {
	bytes  int64
	budget *semaphore.Weighted
	huge   chan *[]byte // one buffer that is too large to be kept for everybody
}

// NewReadAhead returns a ReadAhead of so many bytes.
func NewReadAhead(bytes int64) *ReadAhead {
	return &ReadAhead{bytes, semaphore.NewWeighted(bytes), make(chan *[]byte, 1)}
}

// stretches are buffers for what is read and unpacked. Most members are a little larger than MemberSize, and packed a
// good deal smaller.
var stretches = sync.Pool{New: func() any { return new([]byte) }}

const largestKept = 2 * MemberSize

// stretch returns a buffer of that length. Its content is arbitrary.
func stretch(n int) *[]byte {
	b := stretches.Get().(*[]byte)
	if cap(*b) < n {
		*b = make([]byte, n, max(n, MemberSize+MemberSize/16))
	}
	*b = (*b)[:n]
	return b
}

// stretch returns a buffer of that length. Its content is arbitrary.
func (a *ReadAhead) stretch(n int) *[]byte {
	if n <= largestKept {
		return stretch(n)
	}
	select {
	case b := <-a.huge:
		if cap(*b) >= n {
			*b = (*b)[:n]
			return b
		}
	default:
	}
	b := make([]byte, n, maxMember)
	return &b
}

// reuse takes a buffer back that nobody looks at any more.
func (a *ReadAhead) reuse(b *[]byte) {
	if b == nil || cap(*b) <= largestKept {
		reuse(b)
		return
	}
	select {
	case a.huge <- b:
	default:
	}
}

// reuse takes a buffer back that nobody looks at any more. Huge ones are left to the garbage collector.
func reuse(b *[]byte) {
	if b != nil && cap(*b) <= largestKept {
		stretches.Put(b)
	}
}

// chunk is a stretch of a file's content, in the file's order. ready closes when data or err is set.
type chunk struct {
	data   *[]byte
	err    error
	weight int64
	ready  chan struct{}
}

// chunks reads a data file ahead of its consumer, unpacking several members at a time, and hashes the file on the way.
type chunks struct {
	path   string
	cancel context.CancelFunc
	order  chan *chunk
	ahead  *ReadAhead
	work   sync.WaitGroup
	held   *chunk // that the consumer has

	file File // of the whole file; set once order is closed without an error
}

func openChunks(ctx context.Context, path string, ahead *ReadAhead) (*chunks, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &chunks{
		path:   path,
		cancel: cancel,
		order:  make(chan *chunk, runtime.GOMAXPROCS(0)+1),
		ahead:  ahead,
	}
	s.work.Add(1)
	go func() {
		defer s.work.Done()
		defer close(s.order)
		err := errors.Join(s.produce(ctx, f), f.Close())
		if err != nil {
			done := make(chan struct{})
			close(done)
			select {
			case s.order <- &chunk{err: err, ready: done}:
			case <-ctx.Done():
			}
		}
	}()
	return s, nil
}

// next returns the next stretch, or io.EOF. It is valid until the following call.
func (s *chunks) next(ctx context.Context) ([]byte, error) {
	s.release(s.held)
	s.held = nil
	var c *chunk
	var ok bool
	select {
	case c, ok = <-s.order:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if !ok {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		return nil, io.EOF
	}
	s.held = c
	select {
	case <-c.ready:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if c.err != nil {
		return nil, c.err
	}
	return *c.data, nil
}

// release gives back what a chunk takes of memory.
func (s *chunks) release(c *chunk) {
	if c == nil {
		return
	}
	<-c.ready
	s.ahead.budget.Release(c.weight)
	s.ahead.reuse(c.data)
}

// close stops reading and waits for every goroutine of it.
func (s *chunks) close() {
	s.cancel()
	s.work.Wait()
	s.release(s.held)
	for c := range s.order {
		s.release(c)
	}
}

func (s *chunks) produce(ctx context.Context, f *os.File) error {
	h := sha256.New()
	var size counter
	r := bufio.NewReaderSize(io.TeeReader(f, io.MultiWriter(h, &size)), 256<<10)
	var err error
	switch {
	case strings.HasSuffix(s.path, gzipExt):
		err = s.gunzip(ctx, r)
	case strings.HasSuffix(s.path, zstdExt):
		err = s.unzstd(ctx, r)
	default:
		err = s.stream(ctx, r)
	}
	if err != nil {
		return s.explain(err)
	}
	s.file = File{Size: int64(size), SHA256: hex.EncodeToString(h.Sum(nil))}
	return nil
}

// gunzip unpacks our own members side by side, and anything else as one stream.
func (s *chunks) gunzip(ctx context.Context, r *bufio.Reader) error {
	if _, err := r.Peek(1); errors.Is(err, io.EOF) {
		return &CorruptError{File: s.path, Reason: "it is empty, without even a gzip header: its writer was interrupted"}
	}
	for {
		header, err := r.Peek(memberHeader)
		if len(header) == 0 && errors.Is(err, io.EOF) {
			return nil
		}
		n, ours := memberLength(header)
		if !ours {
			z, err := gzip.NewReader(r)
			if err != nil {
				return err
			}
			return errors.Join(s.stream(ctx, z), z.Close())
		}
		member := stretch(n)
		if _, err := io.ReadFull(r, *member); err != nil {
			return err
		}
		if err := s.put(ctx, contentLength(*member), func() (*[]byte, error) {
			defer reuse(member)
			return s.ahead.unpack(*member)
		}); err != nil {
			return err
		}
	}
}

// unzstd unpacks the frames that runbook wrote side by side. It knows no others: no stock tool writes such files.
func (s *chunks) unzstd(ctx context.Context, r *bufio.Reader) error {
	if _, err := r.Peek(1); errors.Is(err, io.EOF) {
		return &CorruptError{File: s.path, Reason: "it is empty: its writer was interrupted"}
	}
	for {
		header := make([]byte, zstdHeader)
		if _, err := io.ReadFull(r, header); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		n, length, ours := frameLength(header)
		if !ours {
			return &CorruptError{File: s.path, Reason: "it is not packed with zstd as runbook packs"}
		}
		frame := make([]byte, n)
		if _, err := io.ReadFull(r, frame); errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		} else if err != nil {
			return err
		}
		if err := s.put(ctx, length, func() (*[]byte, error) {
			content, err := unpackFrame(frame, length)
			return &content, err
		}); err != nil {
			return err
		}
	}
}

// stream passes on what a reader gives, in stretches of MemberSize.
func (s *chunks) stream(ctx context.Context, r io.Reader) error {
	for {
		data := stretch(MemberSize)
		n, err := io.ReadFull(r, *data)
		if n > 0 {
			*data = (*data)[:n]
			if err := s.put(ctx, n, func() (*[]byte, error) { return data, nil }); err != nil {
				return err
			}
		}
		// A cut gzip stream is io.ErrUnexpectedEOF as well: only a second read tells it from a short last stretch.
		if errors.Is(err, io.ErrUnexpectedEOF) {
			_, err = r.Read(make([]byte, 1))
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (s *chunks) put(ctx context.Context, size int, unpack func() (*[]byte, error)) error {
	c := &chunk{weight: min(int64(size), s.ahead.bytes), ready: make(chan struct{})}
	if err := s.ahead.budget.Acquire(ctx, c.weight); err != nil {
		return err
	}
	select {
	case s.order <- c:
	case <-ctx.Done():
		s.ahead.budget.Release(c.weight)
		return ctx.Err()
	}
	s.work.Add(1)
	go func() {
		defer s.work.Done()
		defer close(c.ready)
		c.data, c.err = unpack()
		if c.err != nil {
			c.err = s.explain(c.err)
		}
	}()
	return nil
}

// explain tells damage of the file, which no retry mends, from a failing disk and a cancelled reader.
func (s *chunks) explain(err error) error {
	var path *os.PathError
	var corrupt *CorruptError
	switch {
	case errors.As(err, &corrupt), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.As(err, &path):
		return fmt.Errorf("read backup file: %w", err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return &CorruptError{File: s.path, Reason: "it ends in the middle: it was cut off"}
	default:
		return &CorruptError{File: s.path, Reason: err.Error()}
	}
}

type counter int64

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}
