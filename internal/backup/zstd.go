package backup

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Files that no stock tool needs to read may be packed with Zstandard: the same batches of whole documents, each in a frame.
// Before each stands a skippable frame (RFC 8878, 3.1.2), which every reader passes over, with the length of the frame that follows and of its
// content, so that frames can be unpacked side by side.
const (
	zstdExt      = ".zst"
	zstdHeader   = 20
	zstdSkipped  = 0x184D2A52
	zstdHeaderID = "RBK1"
)

// ZstdPath returns where a collection's documents lie when they are packed with Zstandard; otherwise see DataPath.
func ZstdPath(database, collection string, t Type) string {
	if p := DataPath(database, collection, t, false); p != "" {
		return p + zstdExt
	}
	return ""
}

// NewZstdPacker returns a Packer that writes Zstandard frames, of the given level, 1 to 9. The first three are the fastest of the library's four
// levels, and that one is both faster and smaller than gzip's third.
func NewZstdPacker(level int) (*Packer, error) {
	speed := zstd.SpeedFastest
	switch {
	case level == 9:
		speed = zstd.SpeedBestCompression
	case level > 6:
		speed = zstd.SpeedBetterCompression
	case level > 3:
		speed = zstd.SpeedDefault
	}
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(speed), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(MemberSize),
		zstd.WithZeroFrames(true))
	if err != nil {
		return nil, fmt.Errorf("zstd level %d: %w", level, err)
	}
	return &Packer{zstd: e}, nil
}

func (p *Packer) packZstd(out *bytes.Buffer, content []byte) {
	out.Reset()
	header := binary.LittleEndian.AppendUint32(nil, zstdSkipped)
	header = binary.LittleEndian.AppendUint32(header, zstdHeader-8)
	header = append(append(header, zstdHeaderID...), 0, 0, 0, 0)
	out.Write(binary.LittleEndian.AppendUint32(header, uint32(len(content))))
	out.Grow(len(content) / 4)
	out.Write(p.zstd.EncodeAll(content, out.AvailableBuffer()))
	binary.LittleEndian.PutUint32(out.Bytes()[zstdHeader-8:], uint32(out.Len()-zstdHeader))
}

// frameLength returns the length of the frame that follows a header of ours, and of its content.
func frameLength(header []byte) (n, content int, ours bool) {
	if len(header) < zstdHeader || binary.LittleEndian.Uint32(header) != zstdSkipped || binary.LittleEndian.Uint32(header[4:]) != zstdHeader-8 ||
		string(header[8:12]) != zstdHeaderID {
		return 0, 0, false
	}
	n, content = int(binary.LittleEndian.Uint32(header[12:])), int(binary.LittleEndian.Uint32(header[16:]))
	return n, content, n > 0 && n <= maxMember+maxMember/64 && content <= maxMember
}

var zstdDecoders = sync.Pool{New: func() any {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxMember), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return err
	}
	return d
}}

// unpackFrame returns a frame's content, whose checksum the frame itself says.
func unpackFrame(frame []byte, length int) ([]byte, error) {
	d, ok := zstdDecoders.Get().(*zstd.Decoder)
	if !ok {
		return nil, fmt.Errorf("zstd: no decoder")
	}
	defer zstdDecoders.Put(d)
	content, err := d.DecodeAll(frame, make([]byte, 0, length))
	if err == nil && len(content) != length {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	return content, nil
}
