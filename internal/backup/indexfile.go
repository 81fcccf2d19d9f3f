package backup

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"os"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/zeebo/xxh3"
)

// indexFile writes a document index, or a sorted part of one, from keys that come in order.
type indexFile struct {
	f    *os.File
	out  *bufio.Writer
	sum  hash.Hash
	size int64

	chain uint64 // the checksum before
	last  []byte // key
	sums  indexSums
	twice []byte // the first key that came twice
	*indexBlock
}

// indexBlock is a block while it is made.
type indexBlock struct {
	entries uint32
	shared  []byte
	lengths []byte
	suffix  []byte
	hashes  []byte
	columns []byte // the first three, as they are deflated
	packed  bytes.Buffer
}

// indexBlocks are empty, and have the memory that others grew.
var indexBlocks = sync.Pool{New: func() any { return new(indexBlock) }}

func createIndex(path string) (*indexFile, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	w := &indexFile{f: f, sum: sha256.New(), chain: xxh3.HashString(indexMagic), indexBlock: indexBlocks.Get().(*indexBlock)}
	w.clear()
	w.out = bufio.NewWriterSize(io.MultiWriter(f, w.sum, (*counter)(&w.size)), 64<<10)
	if _, err := w.out.WriteString(indexMagic); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return w, nil
}

// follows says whether a key may come next.
func (w *indexFile) follows(key []byte) bool { return bytes.Compare(key, w.last) >= 0 }

func (w *indexFile) add(key []byte, hash uint64) error {
	if w.twice == nil && key[0] != noID && w.sums.documents > 0 && bytes.Equal(w.last, key) {
		w.twice = bytes.Clone(key)
	}
	shared := 0
	if w.entries > 0 {
		shared = sharedBytes(w.last, key)
	}
	w.shared = append(w.shared, byte(shared))
	w.lengths = append(w.lengths, byte(len(key)-shared))
	w.suffix = append(w.suffix, key[shared:]...)
	w.hashes = binary.LittleEndian.AppendUint64(w.hashes, hash)
	w.last = append(w.last[:shared], key[shared:]...)
	w.sums.add(key, hash)
	w.entries++
	if w.entries < blockEntries && len(w.suffix) < blockSuffix {
		return nil
	}
	return w.flush()
}

// copyBlock writes a block as it is, if it follows.
func (w *indexFile) copyBlock(r *IndexReader) (follows bool, err error) {
	first, last, err := r.ends()
	if err != nil || !w.follows(first) {
		return false, err
	}
	w.last = append(w.last[:0], last...)
	return true, w.seal(r.block)
}

// flush ends the block.
func (w *indexFile) flush() error {
	if w.entries == 0 {
		return nil
	}
	w.columns = append(append(append(w.columns[:0], w.shared...), w.lengths...), w.suffix...)
	b := &w.packed
	b.Reset()
	b.Write(make([]byte, 12)) // the three numbers, which are known at the end
	if err := flate.StatelessDeflate(b, w.columns, true, nil); err != nil {
		return err
	}
	b.Write(w.hashes)
	binary.LittleEndian.PutUint32(b.Bytes(), uint32(b.Len()-4))
	binary.LittleEndian.PutUint32(b.Bytes()[4:], w.entries)
	binary.LittleEndian.PutUint32(b.Bytes()[8:], uint32(len(w.columns)))
	w.clear()
	return w.seal(b.Bytes())
}

func (b *indexBlock) clear() {
	b.entries, b.shared, b.lengths, b.suffix, b.hashes = 0, b.shared[:0], b.lengths[:0], b.suffix[:0], b.hashes[:0]
}

// seal writes b and its checksum.
func (w *indexFile) seal(b []byte) error {
	w.chain = xxh3.HashSeed(b, w.chain)
	_, err := w.out.Write(binary.LittleEndian.AppendUint64(b, w.chain))
	return err
}

// finish writes what is left and says what the file is, without its path.
func (w *indexFile) finish() (File, error) {
	err := w.flush()
	indexBlocks.Put(w.indexBlock)
	w.indexBlock = nil
	if err == nil {
		footer := make([]byte, 4, indexTrailer+8)
		for _, n := range []uint64{w.sums.documents, w.sums.hashes, w.sums.pairs} {
			footer = binary.LittleEndian.AppendUint64(footer, n)
		}
		err = w.seal(footer)
	}
	if err == nil {
		err = w.out.Flush()
	}
	if err = errors.Join(err, w.f.Close()); err != nil {
		return File{}, err
	}
	return File{Size: w.size, SHA256: hex.EncodeToString(w.sum.Sum(nil))}, nil
}
