package dump

import (
	"encoding/binary"
	"math"
	"math/big"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/backup"
)

// ruler maps _ids of one type to whole numbers of the same order, so that a range of them has a middle. _ids that do
// not map exactly are rounded down. A ruler without width is of a type that has no middle.
type ruler struct {
	kind  bson.Type
	width int           // bytes or, of a string, digits
	first bson.RawValue // below which there is none of the type
}

// Strings are measured by their first characters, in ASCII: a middle must itself be valid UTF-8.
const (
	stringDigits = 48
	digitBits    = 7
	beyondASCII  = 1<<digitBits - 1 // the digit of all that is not below it; none follows, so that the order is kept
)

// uuidSubtype is how most drivers store UUIDs.
const uuidSubtype = 4

// scales are the types of _id whose documents are read in their order.
var scales = []*ruler{
	{kind: bson.TypeInt64, width: 8, first: double(math.Inf(-1))},
	{kind: bson.TypeString, width: stringDigits, first: value(bson.TypeString, 1, 0, 0, 0, 0)},
	{kind: bson.TypeObjectID, width: 12, first: value(bson.TypeObjectID, make([]byte, 12)...)},
	{kind: bson.TypeDateTime, width: 8, first: value(bson.TypeDateTime, 0, 0, 0, 0, 0, 0, 0, 0x80)},
	{kind: bson.TypeBinary, width: 16, first: value(bson.TypeBinary, 0, 0, 0, 0, 0)},
	{kind: bson.TypeEmbeddedDocument, first: value(bson.TypeEmbeddedDocument, 5, 0, 0, 0, 0)},
	{kind: bson.TypeTimestamp, first: value(bson.TypeTimestamp, make([]byte, 8)...)},
	{kind: bson.TypeJavaScript, first: value(bson.TypeJavaScript, 1, 0, 0, 0, 0)},
}

// scaleOf returns the ruler of what is compared with a type, or nil.
func scaleOf(t bson.Type) *ruler {
	for _, r := range scales {
		if backup.Bracket(r.kind) == backup.Bracket(t) {
			return r
		}
	}
	return nil
}

// points are _ids that stand outside of any range: NaN is in none, and MinKey and MaxKey are compared with every type.
var points = []bson.RawValue{
	value(bson.TypeMinKey), value(bson.TypeNull), value(bson.TypeBoolean, 0), value(bson.TypeBoolean, 1), double(math.NaN()), value(bson.TypeMaxKey),
}

func value(kind bson.Type, b ...byte) bson.RawValue { return bson.RawValue{Type: kind, Value: b} }

func double(f float64) bson.RawValue {
	return value(bson.TypeDouble, binary.LittleEndian.AppendUint64(nil, math.Float64bits(f))...)
}

func (r *ruler) highest() *big.Int {
	bits := uint(8 * r.width)
	if r.kind == bson.TypeString {
		bits = digitBits * stringDigits
	}
	n := new(big.Int).Lsh(one, bits)
	return n.Sub(n, one)
}

// place returns where an _id stands, rounded down, or nil where it is off the scale.
func (r *ruler) place(id bson.RawValue) *big.Int {
	switch r.kind {
	case bson.TypeObjectID:
		return new(big.Int).SetBytes(id.Value)
	case bson.TypeBinary:
		if subtype, b, ok := id.BinaryOK(); ok && subtype == uuidSubtype && len(b) == r.width {
			return new(big.Int).SetBytes(b)
		}
		return nil
	case bson.TypeInt64:
		if id.Type != bson.TypeInt32 && id.Type != bson.TypeInt64 {
			return nil
		}
		n, _ := id.AsInt64OK()
		return fromInt64(n)
	case bson.TypeDateTime:
		n, ok := id.DateTimeOK()
		if !ok {
			return nil
		}
		return fromInt64(n)
	case bson.TypeString:
		text, ok := id.StringValueOK()
		if !ok {
			return nil
		}
		n := new(big.Int)
		cut := false
		for i := range stringDigits {
			var digit byte
			if i < len(text) && !cut {
				digit = min(text[i], beyondASCII)
				cut = digit == beyondASCII
			}
			n.Lsh(n, digitBits)
			n.Or(n, big.NewInt(int64(digit)))
		}
		return n
	default:
		return nil
	}
}

// value returns the lowest _id of a place.
func (r *ruler) value(place *big.Int) bson.RawValue {
	switch r.kind {
	case bson.TypeObjectID:
		return bson.RawValue{Type: r.kind, Value: place.FillBytes(make([]byte, r.width))}
	case bson.TypeBinary:
		b := append(binary.LittleEndian.AppendUint32(nil, uint32(r.width)), uuidSubtype)
		return bson.RawValue{Type: r.kind, Value: append(b, place.FillBytes(make([]byte, r.width))...)}
	case bson.TypeInt64, bson.TypeDateTime:
		n := place.Uint64() ^ 1<<63
		return bson.RawValue{Type: r.kind, Value: binary.LittleEndian.AppendUint64(nil, n)}
	default:
		text := make([]byte, stringDigits)
		rest := new(big.Int).Set(place)
		mask := big.NewInt(beyondASCII)
		for i := range stringDigits {
			text[stringDigits-1-i] = byte(new(big.Int).And(rest, mask).Uint64())
			rest.Rsh(rest, digitBits)
		}
		end := stringDigits
		for end > 0 && text[end-1] == 0 {
			end--
		}
		b := binary.LittleEndian.AppendUint32(nil, uint32(end+1))
		return bson.RawValue{Type: bson.TypeString, Value: append(append(b, text[:end]...), 0)}
	}
}

// fromInt64 moves a signed number to where the lowest is 0.
func fromInt64(n int64) *big.Int { return new(big.Int).SetUint64(uint64(n) ^ 1<<63) }
