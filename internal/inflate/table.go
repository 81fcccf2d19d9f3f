package inflate

import "math/bits"

// A code is looked up by its first bits; what is longer goes on in a second table.
const (
	literalBits  = 11
	distanceBits = 8
	// A second table stands for a beginning that at least two codes share.
	mostLiteralTables  = fixedLiterals / 2
	mostDistanceTables = fixedDistance / 2
)

// entry says what a code means. From the lowest bit: how many bits it has with those that follow it (5), how many the code alone has
// (4), the kind (2), and whether it is two literals at once (1). From bit 16 on: the literals, the base of a length or a
// distance, or where the second table begins.
type entry uint32

const (
	base    entry = iota << 9 // of a length or a distance, to which bits are added that follow the code
	literal                   // one byte, or two
	further                   // the second table
	end                       // of the block, unless it has a value

	kinds       = 3 << 9
	two   entry = 1 << 11
	// unused stands where no code leads, and is what one means that must not be used.
	unused = end | 1<<16
)

func (e entry) kind() entry   { return e & kinds }
func (e entry) total() uint   { return uint(e & 31) }
func (e entry) alone() uint   { return uint(e >> 5 & 15) }
func (e entry) value() uint32 { return uint32(e >> 16) }

// number is a length or a distance, whose code and following bits are the next in hold.
func (e entry) number(hold uint64) int {
	return int(e.value()) + int(hold&(1<<e.total()-1)>>e.alone())
}

func sizeEntry(symbol int) entry { return literal | entry(symbol)<<16 }

// literalEntry is what a code for literals and lengths means, without its bits. Lengths: RFC 1951, 3.2.5.
func literalEntry(symbol int) entry {
	switch i := symbol - firstLength; {
	case symbol < endOfBlock:
		return literal | entry(symbol)<<16
	case symbol == endOfBlock:
		return end
	case i < 8:
		return base | entry(3+i)<<16
	case i < 28:
		extra := i/4 - 1
		return base | entry((4+i%4)<<extra+3)<<16 | entry(extra)
	case symbol < literalCodes:
		return base | maxMatch<<16
	}
	return unused
}

// distanceEntry is what a code for distances means, without its bits.
func distanceEntry(symbol int) entry {
	switch {
	case symbol < 4:
		return base | entry(symbol+1)<<16
	case symbol < distanceCodes:
		extra := symbol/2 - 1
		return base | entry((2+symbol%2)<<extra+1)<<16 | entry(extra)
	}
	return unused
}

// makeTable makes the table of the canonical codes that have so many bits each (RFC 1951, 3.2.2): of the first so many bits, and
// behind it the second tables for codes of at most so many. It is false where these cannot be codes.
func makeTable(t []entry, first, most uint, codes []uint8, meaning func(symbol int) entry) bool {
	var count, next [maxBits + 1]int
	used := 0
	for _, n := range codes {
		if n > 0 {
			count[n]++
			used++
		}
	}
	code, left := 0, 1
	for n := 1; n <= maxBits; n++ {
		code = (code + count[n-1]) << 1
		next[n] = code
		if left = left<<1 - count[n]; left < 0 {
			return false
		}
	}
	// Only a single code, or none, need not use all bits: there may be one distance, or no match at all.
	if left > 0 && (used > 1 || used != count[1]) {
		return false
	}
	for i := range t[:1<<first] {
		t[i] = unused
	}
	behind := 1 << first
	for symbol, size := range codes {
		n := uint(size)
		if n == 0 {
			continue
		}
		reversed := int(bits.Reverse16(uint16(next[n]) << (16 - n)))
		next[n]++
		e := meaning(symbol) + entry(n) | entry(n)<<5
		if n <= first {
			for i := reversed; i < 1<<first; i += 1 << n {
				t[i] = e
			}
			continue
		}
		begin := reversed & (1<<first - 1)
		if t[begin] == unused {
			t[begin] = further | entry(behind)<<16
			for i := range t[behind : behind+1<<(most-first)] {
				t[behind+i] = unused
			}
			behind += 1 << (most - first)
		}
		second := t[t[begin].value():][:1<<(most-first)]
		for i := reversed >> first; i < len(second); i += 1 << (n - first) {
			second[i] = e
		}
	}
	return true
}

// pair makes an entry of a literal say the next literal too, where the index has all bits of both. Most are short enough.
func pair(t []entry) {
	// A next one's index is not greater, so that it is still single.
	for i := len(t) - 1; i >= 0; i-- {
		a := t[i]
		b := t[i>>a.total()]
		if n := a.total() + b.total(); a.kind() == literal && b.kind() == literal && n <= literalBits {
			t[i] = literal | two | entry(n) | entry(a.value())<<16 | entry(b.value())<<24
		}
	}
}
