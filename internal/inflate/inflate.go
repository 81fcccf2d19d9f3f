// Package inflate unpacks DEFLATE (RFC 1951) that lies in memory as a whole, and whose length is known: the members of a backup's
// files. A reader for streams of any length must stop at any byte, keep what matches look back to, and copy it out; this one does
// not, and so takes half the time. Unpacking is most of what a restore, a verification and a rehearsal do with a processor.
package inflate

import (
	"encoding/binary"
	"errors"
)

// ErrCorrupt says that a stream breaks RFC 1951, ends early, goes on after its end, or has another length than was promised.
var ErrCorrupt = errors.New("the compressed bytes are damaged")

// RFC 1951, 3.2.5 and 3.2.7.
const (
	endOfBlock    = 256
	firstLength   = 257
	literalCodes  = 286 // literals, the end of the block, lengths
	distanceCodes = 30
	fixedLiterals = 288 // in the fixed codes, some of which are never used
	fixedDistance = 32
	sizeCodes     = 19 // for the sizes of a block's own codes
	maxBits       = 15 // of a code
	maxSizeBits   = 7
	maxMatch      = 258
)

// Inflater unpacks one stream after the other. It is not safe for concurrent use; the zero Inflater is ready.
type Inflater struct {
	literals  [1<<literalBits + mostLiteralTables<<(maxBits-literalBits)]entry
	distances [1<<distanceBits + mostDistanceTables<<(maxBits-distanceBits)]entry
	sizes     [1 << maxSizeBits]entry
	codes     [fixedLiterals + fixedDistance]uint8 // how many bits each has

	src  []byte
	in   int
	hold uint64 // bits that were read, the next one lowest
	held uint
}

// Inflate fills dst with what src was made from. Unless src is one whole stream, and of just that length unpacked, it fails with
// ErrCorrupt, and what is in dst is arbitrary.
func (d *Inflater) Inflate(dst, src []byte) error {
	d.src, d.in, d.hold, d.held = src, 0, 0, 0
	defer func() { d.src = nil }()
	o := 0
	for {
		last, ok := d.take(1)
		if ok {
			o, ok = d.block(dst, o)
		}
		if !ok {
			return ErrCorrupt
		}
		if last == 0 {
			continue
		}
		if d.settle(); o != len(dst) || d.in != len(src) {
			return ErrCorrupt
		}
		return nil
	}
}

// fill reads bytes until there are so many bits, or no more bytes.
func (d *Inflater) fill(n uint) {
	for d.held < n && d.in < len(d.src) {
		d.hold |= uint64(d.src[d.in]) << d.held
		d.in++
		d.held += 8
	}
}

// take reads n bits, at most 16.
func (d *Inflater) take(n uint) (uint32, bool) {
	if d.fill(n); d.held < n {
		return 0, false
	}
	v := d.hold & (1<<n - 1)
	d.hold, d.held = d.hold>>n, d.held-n
	return uint32(v), true
}

// settle gives back the whole bytes that were read ahead.
func (d *Inflater) settle() {
	d.in -= int(d.held / 8)
	d.held %= 8
	d.hold &= 1<<d.held - 1
}

// block unpacks one block to dst from o on, and returns where it ends.
func (d *Inflater) block(dst []byte, o int) (int, bool) {
	switch kind, ok := d.take(2); {
	case ok && kind == 0:
		return d.stored(dst, o)
	case ok && kind == 1 && d.fixed(), ok && kind == 2 && d.dynamic():
		return d.body(dst, o)
	}
	return o, false
}

func (d *Inflater) stored(dst []byte, o int) (int, bool) {
	d.settle()
	d.hold, d.held = 0, 0
	if len(d.src)-d.in < 4 {
		return o, false
	}
	size, inverse := binary.LittleEndian.Uint16(d.src[d.in:]), binary.LittleEndian.Uint16(d.src[d.in+2:])
	d.in += 4
	n := int(size)
	if size != ^inverse || n > len(d.src)-d.in || n > len(dst)-o {
		return o, false
	}
	copy(dst[o:], d.src[d.in:d.in+n])
	d.in += n
	return o + n, true
}

// fixed makes the codes of RFC 1951, 3.2.6.
func (d *Inflater) fixed() bool {
	for i := range d.codes {
		switch {
		case i < 144:
			d.codes[i] = 8
		case i < 256:
			d.codes[i] = 9
		case i < 280:
			d.codes[i] = 7
		case i < fixedLiterals:
			d.codes[i] = 8
		default:
			d.codes[i] = 5
		}
	}
	return d.tables(fixedLiterals, fixedDistance)
}

// sizeOrder is the order in which the codes for sizes are said (RFC 1951, 3.2.7).
var sizeOrder = [sizeCodes]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// dynamic reads a block's own codes.
func (d *Inflater) dynamic() bool {
	counts, ok := d.take(14)
	literals, distances, n := int(counts&31)+firstLength, int(counts>>5&31)+1, int(counts>>10)+4
	if !ok || literals > literalCodes || distances > distanceCodes {
		return false
	}
	var bits [sizeCodes]uint8
	for _, symbol := range sizeOrder[:n] {
		n, ok := d.take(3)
		if !ok {
			return false
		}
		bits[symbol] = uint8(n)
	}
	if !makeTable(d.sizes[:], maxSizeBits, maxSizeBits, bits[:], sizeEntry) {
		return false
	}
	codes := d.codes[:literals+distances]
	for i := 0; i < len(codes); {
		e, ok := d.symbol(d.sizes[:], maxSizeBits)
		if !ok || e.kind() != literal {
			return false
		}
		if e.value() < 16 {
			codes[i] = uint8(e.value())
			i++
			continue
		}
		repeated, n, ok := d.repeated(codes[:i], e.value())
		if !ok || n > len(codes)-i {
			return false
		}
		for range n {
			codes[i] = repeated
			i++
		}
	}
	return codes[endOfBlock] > 0 && d.tables(literals, distances)
}

// repeated reads how often a size is repeated, and says which.
func (d *Inflater) repeated(before []uint8, symbol uint32) (size uint8, times int, ok bool) {
	least, extra := 3, uint(3)
	switch symbol {
	case 16:
		if len(before) == 0 {
			return 0, 0, false
		}
		size, extra = before[len(before)-1], 2
	case 18:
		least, extra = 11, 7
	}
	more, ok := d.take(extra)
	return size, least + int(more), ok
}

func (d *Inflater) tables(literals, distances int) bool {
	if !makeTable(d.literals[:], literalBits, maxBits, d.codes[:literals], literalEntry) ||
		!makeTable(d.distances[:], distanceBits, maxBits, d.codes[literals:literals+distances], distanceEntry) {
		return false
	}
	pair(d.literals[:1<<literalBits])
	return true
}
