package backup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"

	"github.com/battwheels/runbook/internal/inflate"
)

// Our files are a series of gzip members, which every gzip reader takes for one stream. Each member holds whole
// documents and says its own length in an extra field, so that members can be unpacked side by side.
const (
	memberHeader  = 20 // gzip's 10 bytes, the extra field's length, its id, its size, the member's length
	memberTrailer = 8  // CRC-32 and length of the content
	memberID      = "RB"
	flagExtra     = 4
)

// MemberSize is how many bytes of documents go into one gzip member before the next one begins. A document is never
// split, so that a member may grow past it by one document.
const MemberSize = 1 << 20

// MaxDocument is the largest document that a server stores: 16 MiB, and 16 KiB more for what it wraps around them.
const MaxDocument = 16<<20 + 16<<10

const maxMember = MemberSize + MaxDocument

// Packer compresses batches of documents into gzip members or Zstandard frames. It is not safe for concurrent use: each goroutine needs
// its own.
type Packer struct {
	w    *flate.Writer
	zstd *zstd.Encoder // instead of w
}

// NewPacker returns a Packer of the given level, 1 to 9.
func NewPacker(level int) (*Packer, error) {
	w, err := flate.NewWriter(io.Discard, level)
	if err != nil {
		return nil, fmt.Errorf("gzip level %d: %w", level, err)
	}
	return &Packer{w: w}, nil
}

// Pack writes content as one member or frame to out, which it empties first.
func (p *Packer) Pack(out *bytes.Buffer, content []byte) error {
	if len(content) > maxMember {
		return fmt.Errorf("gzip member of %d bytes: at most %d are read back", len(content), maxMember)
	}
	if p.zstd != nil {
		p.packZstd(out, content)
		return nil
	}
	out.Reset()
	header := [memberHeader]byte{0x1f, 0x8b, 8, flagExtra, 9: 255, 10: 8, 12: memberID[0], 13: memberID[1], 14: 4}
	out.Write(header[:])
	p.w.Reset(out)
	if _, err := p.w.Write(content); err != nil {
		return err
	}
	if err := p.w.Close(); err != nil {
		return err
	}
	trailer := binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(content))
	trailer = binary.LittleEndian.AppendUint32(trailer, uint32(len(content)))
	out.Write(trailer)
	binary.LittleEndian.PutUint32(out.Bytes()[memberHeader-4:], uint32(out.Len()))
	return nil
}

// memberLength returns the length of the member that begins with header, or false where it is not one of ours.
func memberLength(header []byte) (int, bool) {
	if len(header) < memberHeader || header[0] != 0x1f || header[1] != 0x8b || header[2] != 8 || header[3] != flagExtra ||
		binary.LittleEndian.Uint16(header[10:]) != 8 || string(header[12:14]) != memberID || binary.LittleEndian.Uint16(header[14:]) != 4 {
		return 0, false
	}
	n := binary.LittleEndian.Uint32(header[16:])
	if n < memberHeader+memberTrailer || n > maxMember+maxMember/64 {
		return 0, false
	}
	return int(n), true
}

// contentLength returns the length that a member claims for its content.
func contentLength(member []byte) int {
	return int(binary.LittleEndian.Uint32(member[len(member)-4:]))
}

var inflaters = sync.Pool{New: func() any { return new(inflate.Inflater) }}

// unpack returns a member's content, and fails unless its length and CRC are what the member says.
func (a *ReadAhead) unpack(member []byte) (*[]byte, error) {
	n := contentLength(member)
	if n > maxMember {
		return nil, errors.New("gzip: a member is longer than any that runbook writes")
	}
	content := a.stretch(n)
	if err := unpackMember(*content, member); err != nil {
		a.reuse(content)
		return nil, err
	}
	return content, nil
}

// unpackMember fills content, whose length is the one that the member claims.
func unpackMember(content, member []byte) error {
	d := inflaters.Get().(*inflate.Inflater)
	defer inflaters.Put(d)
	if err := d.Inflate(content, member[memberHeader:len(member)-memberTrailer]); err != nil {
		return fmt.Errorf("gzip: %w", err)
	}
	if crc32.ChecksumIEEE(content) != binary.LittleEndian.Uint32(member[len(member)-8:]) {
		return errors.New("gzip: invalid checksum")
	}
	return nil
}
