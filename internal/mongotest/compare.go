package mongotest

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"math/big"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// rank orders the types among each other, as the server does. Types of one rank compare by value.
func rank(t bsoncore.Type) int {
	switch t {
	case bsoncore.TypeMinKey:
		return -1
	case bsoncore.TypeNull:
		return 5
	case bsoncore.TypeInt32, bsoncore.TypeInt64, bsoncore.TypeDouble, bsoncore.TypeDecimal128:
		return 10
	case bsoncore.TypeString, bsoncore.TypeSymbol:
		return 15
	case bsoncore.TypeEmbeddedDocument:
		return 20
	case bsoncore.TypeArray:
		return 25
	case bsoncore.TypeBinary:
		return 30
	case bsoncore.TypeObjectID:
		return 35
	case bsoncore.TypeBoolean:
		return 40
	case bsoncore.TypeDateTime:
		return 45
	case bsoncore.TypeTimestamp:
		return 47
	case bsoncore.TypeRegex:
		return 50
	case bsoncore.TypeDBPointer:
		return 55
	case bsoncore.TypeJavaScript:
		return 60
	case bsoncore.TypeCodeWithScope:
		return 65
	case bsoncore.TypeMaxKey:
		return 127
	default: // undefined
		return 0
	}
}

// compare orders any two values as a sort does.
func compare(a, b value) int {
	ra, rb := rank(a.Type), rank(b.Type)
	if ra != rb {
		return cmp.Compare(ra, rb)
	}
	switch ra {
	case 10:
		return compareNumbers(a, b)
	case 15, 60:
		return bytes.Compare(a.Data[4:], b.Data[4:])
	case 20, 25:
		return compareDocuments(document(a.Data), document(b.Data))
	case 30:
		return compareBinary(a, b)
	case 35, 40:
		return bytes.Compare(a.Data, b.Data)
	case 45:
		return cmp.Compare(a.DateTime(), b.DateTime())
	case 47:
		return cmp.Compare(binary.LittleEndian.Uint64(a.Data), binary.LittleEndian.Uint64(b.Data))
	case 50:
		return compareRegex(a, b)
	case 55:
		return cmp.Or(cmp.Compare(len(a.Data), len(b.Data)), bytes.Compare(a.Data, b.Data))
	case 65:
		return compareScopes(a, b)
	default:
		return 0
	}
}

func compareDocuments(a, b document) int {
	x, y := []byte(a[4:]), []byte(b[4:])
	for {
		ex, restX, okX := bsoncore.ReadElement(x)
		ey, restY, okY := bsoncore.ReadElement(y)
		switch {
		case !okX && !okY:
			return 0
		case !okX:
			return -1
		case !okY:
			return 1
		}
		vx, vy := ex.Value(), ey.Value()
		if c := cmp.Compare(rank(vx.Type), rank(vy.Type)); c != 0 {
			return c
		}
		if c := bytes.Compare(ex.KeyBytes(), ey.KeyBytes()); c != 0 {
			return c
		}
		if c := compare(vx, vy); c != 0 {
			return c
		}
		x, y = restX, restY
	}
}

func compareBinary(a, b value) int {
	sa, da := a.Binary()
	sb, db := b.Binary()
	return cmp.Or(cmp.Compare(len(da), len(db)), cmp.Compare(sa, sb), bytes.Compare(da, db))
}

func compareRegex(a, b value) int {
	pa, oa := a.Regex()
	pb, ob := b.Regex()
	return cmp.Or(strings.Compare(pa, pb), strings.Compare(oa, ob))
}

func compareScopes(a, b value) int {
	ca, sa := a.CodeWithScope()
	cb, sb := b.CodeWithScope()
	return cmp.Or(strings.Compare(ca, cb), compareDocuments(sa, sb))
}

// compareNumbers orders numbers of any types by their exact values; NaN comes first.
func compareNumbers(a, b value) int {
	x, xInt := integer(a)
	y, yInt := integer(b)
	if xInt && yInt {
		return cmp.Compare(x, y)
	}
	if a.Type == bsoncore.TypeDouble && b.Type == bsoncore.TypeDouble {
		return cmp.Compare(a.Double(), b.Double())
	}
	fa, specialA := special(a)
	fb, specialB := special(b)
	if specialA || specialB {
		return cmp.Compare(fa, fb)
	}
	return exact(a).Cmp(exact(b))
}

// integer is the value of an integer type.
func integer(v value) (int64, bool) {
	switch v.Type {
	case bsoncore.TypeInt32:
		return int64(v.Int32()), true
	case bsoncore.TypeInt64:
		return v.Int64(), true
	}
	return 0, false
}

// special tells whether a number is NaN or infinite, and gives it as a double; any finite number is 0.
func special(v value) (float64, bool) {
	switch v.Type {
	case bsoncore.TypeDouble:
		if f := v.Double(); math.IsNaN(f) || math.IsInf(f, 0) {
			return f, true
		}
	case bsoncore.TypeDecimal128:
		d := decimal(v)
		if d.IsNaN() {
			return math.NaN(), true
		}
		if sign := d.IsInf(); sign != 0 {
			return math.Inf(sign), true
		}
	}
	return 0, false
}

func decimal(v value) bson.Decimal128 { return bson.NewDecimal128(v.Decimal128()) }

// exact is a finite number.
func exact(v value) *big.Rat {
	switch v.Type {
	case bsoncore.TypeDouble:
		return new(big.Rat).SetFloat64(v.Double())
	case bsoncore.TypeDecimal128:
		digits, exponent, err := decimal(v).BigInt()
		if err != nil {
			return new(big.Rat)
		}
		power := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(exponent, -exponent))), nil)
		if exponent < 0 {
			return new(big.Rat).SetFrac(digits, power)
		}
		return new(big.Rat).SetInt(digits.Mul(digits, power))
	default:
		n, _ := integer(v)
		return new(big.Rat).SetInt64(n)
	}
}

// appendIdentity appends bytes that are equal for two values exactly if compare says that they are.
func appendIdentity(dst []byte, v value) []byte {
	r := rank(v.Type)
	dst = append(dst, byte(r))
	switch r {
	case 10:
		return appendNumberIdentity(dst, v)
	case 20, 25:
		for e := range elements(document(v.Data)) {
			dst = append(append(append(dst, 1), e.KeyBytes()...), 0)
			dst = appendIdentity(dst, e.Value())
		}
		return append(dst, 0)
	case 65:
		code, scope := v.CodeWithScope()
		dst = append(append(dst, code...), 0)
		return appendIdentity(dst, value{Type: bsoncore.TypeEmbeddedDocument, Data: scope})
	default:
		return append(dst, v.Data...)
	}
}

func appendNumberIdentity(dst []byte, v value) []byte {
	if n, ok := asInt(v); ok {
		return binary.BigEndian.AppendUint64(append(dst, 'i'), uint64(n))
	}
	if f, ok := special(v); ok {
		return append(dst, specialName(f)...)
	}
	n := exact(v)
	if n.IsInt() && n.Num().IsInt64() {
		return binary.BigEndian.AppendUint64(append(dst, 'i'), uint64(n.Num().Int64()))
	}
	return append(append(append(dst, 'r'), n.String()...), 0)
}

func specialName(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case f > 0:
		return "+inf"
	default:
		return "-inf"
	}
}
