package inflate

import "encoding/binary"

// How far a round of the fast loop may write, with what it writes too much, and read.
const (
	writesAhead = 6 + maxMatch + 8
	readsAhead  = 16
)

// body unpacks a block's literals and matches to dst from o on, and returns where it ends.
func (d *Inflater) body(dst []byte, o int) (int, bool) {
	src, in, hold, held := d.src, d.in, d.hold, d.held
	for o < len(dst)-writesAhead && in < len(src)-readsAhead {
		// Eight bytes are read whatever is held, and as many counted as fit. The rest is read again, to the same place.
		hold |= binary.LittleEndian.Uint64(src[in:]) << (held & 63)
		in += int(63-held) >> 3
		held |= 56
		// 56 bits are enough for two entries of literals, and either a third or a length.
		e := d.literals[hold&(1<<literalBits-1)]
		if e.kind() == literal {
			hold, held = hold>>e.total(), held-e.total()
			binary.LittleEndian.PutUint16(dst[o:], uint16(e>>16))
			o += 1 + int(e/two&1)
			if e = d.literals[hold&(1<<literalBits-1)]; e.kind() == literal {
				hold, held = hold>>e.total(), held-e.total()
				binary.LittleEndian.PutUint16(dst[o:], uint16(e>>16))
				o += 1 + int(e/two&1)
				if e = d.literals[hold&(1<<literalBits-1)]; e.kind() == literal {
					hold, held = hold>>e.total(), held-e.total()
					binary.LittleEndian.PutUint16(dst[o:], uint16(e>>16))
					o += 1 + int(e/two&1)
					continue
				}
			}
		}
		if e.kind() == further {
			e = d.literals[e.value()+uint32(hold>>literalBits)&(1<<(maxBits-literalBits)-1)]
			if e.kind() == literal {
				hold, held = hold>>e.total(), held-e.total()
				dst[o] = byte(e >> 16)
				o++
				continue
			}
		}
		if e.kind() != base {
			d.in, d.hold, d.held = in, hold>>e.total(), held-e.total()
			d.settle()
			return o, e.value() == 0
		}
		n := e.number(hold)
		hold, held = hold>>e.total(), held-e.total()
		hold |= binary.LittleEndian.Uint64(src[in:]) << (held & 63)
		in += int(63-held) >> 3
		held |= 56
		if e = d.distances[hold&(1<<distanceBits-1)]; e.kind() == further {
			e = d.distances[e.value()+uint32(hold>>distanceBits)&(1<<(maxBits-distanceBits)-1)]
		}
		distance := e.number(hold)
		hold, held = hold>>e.total(), held-e.total()
		if e.kind() != base || distance > o {
			return o, false
		}
		from := dst[o-distance:]
		if distance >= 8 {
			for i := 0; i < n; i += 8 {
				binary.LittleEndian.PutUint64(from[distance+i:], binary.LittleEndian.Uint64(from[i:]))
			}
		} else {
			for i := range n {
				from[distance+i] = from[i]
			}
		}
		o += n
	}
	d.in, d.hold, d.held = in, hold, held
	d.settle()
	return d.careful(dst, o)
}

// careful is body without the haste: for the end, where a round of body could go too far.
func (d *Inflater) careful(dst []byte, o int) (int, bool) {
	for {
		e, ok := d.symbol(d.literals[:], literalBits)
		switch {
		case !ok:
			return o, false
		case e.kind() == end:
			return o, e.value() == 0
		case e.kind() == literal:
			for range 1 + e/two&1 {
				if o == len(dst) {
					return o, false
				}
				dst[o] = byte(e >> 16)
				e >>= 8
				o++
			}
			continue
		}
		n, ok := d.number(e)
		if !ok {
			return o, false
		}
		if e, ok = d.symbol(d.distances[:], distanceBits); !ok || e.kind() != base {
			return o, false
		}
		distance, ok := d.number(e)
		if !ok || distance > o || n > len(dst)-o {
			return o, false
		}
		for range n {
			dst[o] = dst[o-distance]
			o++
		}
	}
}

// symbol reads a code, of two literals both, without the bits that follow.
func (d *Inflater) symbol(t []entry, first uint) (entry, bool) {
	d.fill(maxBits)
	e := t[d.hold&(1<<first-1)]
	if e.kind() == further {
		e = t[e.value()+uint32(d.hold>>first)&(1<<(maxBits-first)-1)]
	}
	n := e.total()
	if e.kind() == base {
		n = e.alone()
	}
	if n > d.held {
		return 0, false
	}
	d.hold, d.held = d.hold>>n, d.held-n
	return e, true
}

// number reads the bits that follow the code of a length or a distance.
func (d *Inflater) number(e entry) (int, bool) {
	more, ok := d.take(e.total() - e.alone())
	return int(e.value()) + int(more), ok
}
