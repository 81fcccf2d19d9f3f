package backup

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"

	"github.com/zeebo/xxh3"

	"github.com/battwheels/runbook/internal/inflate"
)

// IndexReader reads a document index from its beginning to its end, in the order of its keys. It holds one block. Whatever
// differs from what was written is a *CorruptError, at the latest at the end.
type IndexReader struct {
	path string
	f    *os.File
	in   *bufio.Reader
	sum  hash.Hash
	size int64

	chain   uint64
	block   []byte
	columns []byte
	left    int // documents of the block
	shared  []byte
	lengths []byte
	suffix  []byte
	hashes  []byte
	sums    indexSums
	skims   bool // blocks are copied: what the footer says of their documents is believed
	ended   bool

	key  []byte // of the current document; valid until the next
	hash uint64
}

// OpenIndex opens the index at path.
func OpenIndex(path string) (*IndexReader, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &CorruptError{File: path, Reason: "it is missing"}
	}
	if err != nil {
		return nil, fmt.Errorf("read document index: %w", err)
	}
	r := newIndexReader(path, f)
	r.f = f
	return r, nil
}

func newIndexReader(path string, from io.Reader) *IndexReader {
	r := &IndexReader{path: path, sum: sha256.New(), chain: xxh3.HashString(indexMagic)}
	r.in = bufio.NewReaderSize(io.TeeReader(from, io.MultiWriter(r.sum, (*counter)(&r.size))), 64<<10)
	return r
}

// Close closes the file.
func (r *IndexReader) Close() error { return r.f.Close() }

// next goes to the next document, or returns io.EOF once the whole file was read well.
func (r *IndexReader) next() error {
	if r.left == 0 {
		if r.ended {
			return io.EOF
		}
		if err := r.nextBlock(); err != nil {
			return err
		}
	}
	shared, more := int(r.shared[0]), int(r.lengths[0])
	if shared > len(r.key) || more > len(r.suffix) {
		return r.corrupt("a key is longer than its block")
	}
	key := r.key
	r.key = append(key[:shared], r.suffix[:more]...)
	r.hash = binary.LittleEndian.Uint64(r.hashes)
	r.left, r.shared, r.lengths, r.suffix, r.hashes = r.left-1, r.shared[1:], r.lengths[1:], r.suffix[more:], r.hashes[8:]
	r.sums.add(r.key, r.hash)
	return nil
}

// before says whether the current document of this reader comes before that of another.
func (r *IndexReader) before(o *IndexReader) bool {
	if c := bytes.Compare(r.key, o.key); c != 0 {
		return c < 0
	}
	return r.hash < o.hash
}

var errNoIndex = errors.New("it is not a document index that this version reads")

func (r *IndexReader) nextBlock() error {
	if r.size == 0 {
		magic := make([]byte, len(indexMagic))
		if _, err := io.ReadFull(r.in, magic); err != nil {
			return r.explain(err)
		}
		if string(magic) != indexMagic {
			return r.explain(errNoIndex)
		}
	}
	r.block = append(r.block[:0], 0, 0, 0, 0)
	if _, err := io.ReadFull(r.in, r.block); err != nil {
		return r.explain(err)
	}
	n := int(binary.LittleEndian.Uint32(r.block))
	if n == 0 {
		return r.footer()
	}
	// Deflating makes nothing longer by more than a few bytes for each 64 KiB.
	if n < 8 || n > 8+largestBlock+64+8*blockEntries {
		return r.corrupt("a block claims %d bytes", n)
	}
	if err := r.rest(n); err != nil {
		return err
	}
	entries, unpacked := int(binary.LittleEndian.Uint32(r.block[4:])), int(binary.LittleEndian.Uint32(r.block[8:]))
	if entries < 1 || entries > blockEntries || unpacked > largestBlock || unpacked < 2*entries || 8*entries > n-8 {
		return r.corrupt("a block claims %d documents", entries)
	}
	keys := r.block[12 : len(r.block)-8*entries]
	if err := r.inflate(keys, unpacked); err != nil {
		return r.explain(err)
	}
	r.left, r.key = entries, r.key[:0]
	r.shared, r.lengths, r.suffix = r.columns[:entries], r.columns[entries:2*entries], r.columns[2*entries:]
	r.hashes = r.block[len(r.block)-8*entries:]
	return nil
}

// ends returns the first and the last key of the block.
func (r *IndexReader) ends() (first, last []byte, err error) {
	suffix := r.suffix
	for i, shared := range r.shared {
		more := int(r.lengths[i])
		if int(shared) > len(r.key) || more > len(suffix) {
			return nil, nil, r.corrupt("a key is longer than its block")
		}
		r.key = append(r.key[:shared], suffix[:more]...)
		suffix = suffix[more:]
	}
	return r.suffix[:r.lengths[0]], r.key, nil
}

// rest reads n bytes to r.block, and the checksum that follows, which it checks.
func (r *IndexReader) rest(n int) error {
	at := len(r.block)
	r.block = append(r.block, make([]byte, n+8)...)
	if _, err := io.ReadFull(r.in, r.block[at:]); err != nil {
		return r.explain(err)
	}
	b := r.block[:at+n]
	r.chain = xxh3.HashSeed(b, r.chain)
	if binary.LittleEndian.Uint64(r.block[at+n:]) != r.chain {
		return r.corrupt("a checksum does not match")
	}
	r.block = b
	return nil
}

func (r *IndexReader) inflate(packed []byte, n int) error {
	d := inflaters.Get().(*inflate.Inflater)
	defer inflaters.Put(d)
	if cap(r.columns) < n {
		r.columns = make([]byte, largestBlock)
	}
	r.columns = r.columns[:n]
	return d.Inflate(r.columns, packed)
}

func (r *IndexReader) footer() error {
	if err := r.rest(indexTrailer - 4); err != nil {
		return err
	}
	want := indexSums{
		binary.LittleEndian.Uint64(r.block[4:]), binary.LittleEndian.Uint64(r.block[12:]), binary.LittleEndian.Uint64(r.block[20:]),
	}
	if r.skims {
		r.sums = want
	} else if want != r.sums {
		return r.corrupt("its documents are not those that it counted")
	}
	if _, err := r.in.ReadByte(); !errors.Is(err, io.EOF) {
		return r.corrupt("something follows its end")
	}
	r.ended = true
	return io.EOF
}

// Matches compares what was read, to the end, with what the manifest says of the collection. A difference is a *CorruptError.
func (r *IndexReader) Matches(c *Collection) error {
	switch sum := hex.EncodeToString(r.sum.Sum(nil)); {
	case r.size != c.DocumentIndex.Size:
		return r.corrupt("it has %d bytes, the manifest says %d", r.size, c.DocumentIndex.Size)
	case sum != c.DocumentIndex.SHA256:
		return r.corrupt("its SHA-256 is %s, the manifest says %s", sum, c.DocumentIndex.SHA256)
	case r.sums.documents != uint64(c.Digest.Documents) || r.sums.hashes != c.Digest.lo:
		return r.corrupt("its %d documents are not the %d that the manifest describes", r.sums.documents, c.Digest.Documents)
	default:
		return nil
	}
}

// Has says whether the index has the document of a change. It only ever goes forward, as changes come.
func (r *IndexReader) Has(c Change) (bool, error) {
	for {
		if r.sums.documents > 0 {
			switch bytes.Compare(r.key, c.key) {
			case 0:
				return true, nil
			case 1:
				return false, nil
			}
		}
		switch err := r.next(); {
		case errors.Is(err, io.EOF):
			return false, nil
		case err != nil:
			return false, err
		}
	}
}

func (r *IndexReader) explain(err error) error {
	var path *os.PathError
	switch {
	case errors.As(err, &path):
		return fmt.Errorf("read document index: %w", err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return r.corrupt("it ends in the middle: it was cut off")
	default:
		return r.corrupt("%v", err)
	}
}

func (r *IndexReader) corrupt(reason string, args ...any) error {
	return &CorruptError{File: r.path, Reason: fmt.Sprintf(reason, args...) + fmt.Sprintf(" (after %d whole documents)", r.sums.documents)}
}
