package conformance

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// build makes a document of elements that are appended, which may be of a kind that no encoder writes.
func build(elements func(dst []byte) []byte) bson.Raw {
	start, dst := bsoncore.AppendDocumentStart(nil)
	dst, err := bsoncore.AppendDocumentEnd(elements(dst), start)
	if err != nil {
		panic(err) // start is a start
	}
	return dst
}

// document makes one of keys and values in turn.
func document(pairs ...any) bson.Raw {
	d := option(pairs...)
	b, err := bson.Marshal(d)
	if err != nil {
		panic(fmt.Sprintf("a document of the suite: %v: %v", d, err))
	}
	return b
}

// each makes a document of each value.
func each(values ...any) []bson.Raw {
	list := make([]bson.Raw, len(values))
	for i, v := range values {
		list[i] = document("_id", int32(i), "value", v)
	}
	return list
}

// valueCases are the values that documents may have.
func valueCases() []testCase {
	return []testCase{
		values("strings, numbers, booleans, null, dates and object ids", each("", "größe \x00 zero", strings.Repeat("x", 70_000),
			int32(math.MinInt32), int32(math.MaxInt32), int64(math.MinInt64), int64(math.MaxInt64), int64(1), 1.5, math.MaxFloat64, 5e-324,
			true, false, nil, bson.DateTime(1771898400123), bson.ObjectID{}, bson.ObjectID{255, 1, 2, 3}, bson.A{}, bson.D{},
			bson.A{int32(1), int64(1), 1.0, "1", true, nil}, bson.D{{Key: "b", Value: 1}, {Key: "a", Value: bson.D{{Key: "c", Value: 2}}}})),
		values("arrays in arrays", each(bson.A{bson.A{bson.D{}, bson.A{}}, int32(1)})),
		values("Decimal128", each(decimal("1.50"), decimal("1.5"), decimal("-0"), decimal("NaN"), decimal("-Infinity"), decimal("9.999999999999999999999999999999999E+6144"),
			bson.NewDecimal128(0x7c00_0000_0000_0000, 42), bson.NewDecimal128(math.MaxUint64, math.MaxUint64))),
		values("NaN with a payload", each(math.NaN(), math.Float64frombits(0x7ff8_0000_dead_beef), math.Float64frombits(0xfff8_0000_0000_0001))),
		values("infinities", each(math.Inf(1), math.Inf(-1))),
		values("-0.0", each(math.Copysign(0, -1), 0.0)),
		values("dates before 1970 and far away", each(bson.NewDateTimeFromTime(time.Date(1853, 1, 2, 3, 4, 5, 6e6, time.UTC)), bson.DateTime(-1),
			bson.DateTime(math.MinInt64), bson.DateTime(math.MaxInt64))),
		values("MinKey and MaxKey", each(bson.MinKey{}, bson.MaxKey{})),
		values("JavaScript", each(bson.JavaScript("function() { return 'é' }"), bson.JavaScript(""))),
		values("JavaScript with a scope", each(bson.CodeWithScope{Code: "f(x)", Scope: bson.D{{Key: "x", Value: 1}}}, bson.CodeWithScope{Code: "", Scope: bson.D{}})),
		values("symbols", each(bson.Symbol("é"), bson.Symbol(""))),
		values("DBPointer", each(bson.DBPointer{DB: "shop.invoices", Pointer: bson.ObjectID{1}})),
		values("undefined", each(bson.Undefined{}, bson.A{bson.Undefined{}})),
		values("regular expressions", each(bson.Regex{Pattern: "^a/b\\.", Options: "imsx"}, bson.Regex{}, bson.Regex{Pattern: "é", Options: "u"})),
		values("binary values of every subtype", binaries()),
		values("timestamps", each(bson.Timestamp{T: math.MaxUint32, I: math.MaxUint32}, bson.Timestamp{T: 1}, bson.Timestamp{I: 1}, bson.D{{Key: "below", Value: bson.Timestamp{}}})),
		{name: "Timestamp(0, 0) at the top of a document", collections: []collection{{name: "values", keepsTimestamps: true,
			documents: []bson.Raw{document("_id", "a", "at", bson.Timestamp{}), document("_id", "b", "at", bson.Timestamp{}, "also", bson.Timestamp{}), document("_id", bson.Timestamp{})}}}},
		values("documents of 16 MiB", large()),
		values("deep nesting", []bson.Raw{nested(150)}),
		values("field names with dots", []bson.Raw{document("_id", 1, "a.b", 1, ".", 2, "sub", bson.D{{Key: "a.b.", Value: 3}})}),
		values("field names with a dollar", []bson.Raw{document("_id", 1, "$price", 1, "sub", bson.D{{Key: "$ref", Value: "a"}, {Key: "$id", Value: 2}, {Key: "$", Value: 3}})}),
		values("empty field names", []bson.Raw{document("_id", 1, "", 1, "sub", bson.D{{Key: "", Value: bson.D{{Key: "", Value: 2}}}})}),
		values("field names of any letters", []bson.Raw{document("_id", 1, "größe", 1, "a b", 2, "\n\t\"\\", 3, "日本", 4, strings.Repeat("n", 5000), 5)}),
		values("duplicate field names", []bson.Raw{build(func(dst []byte) []byte {
			dst = bsoncore.AppendInt32Element(dst, "_id", 1)
			dst = bsoncore.AppendStringElement(dst, "twice", "first")
			dst = bsoncore.AppendInt32Element(dst, "twice", 2)
			return bsoncore.AppendDocumentElement(dst, "below", bsoncore.Document(build(func(dst []byte) []byte {
				return bsoncore.AppendNullElement(bsoncore.AppendNullElement(dst, "x"), "x")
			})))
		})}),
		values("arrays with keys that are not their places", []bson.Raw{build(func(dst []byte) []byte {
			dst = bsoncore.AppendInt32Element(dst, "_id", 1)
			return bsoncore.AppendArrayElement(dst, "list", bsoncore.Array(build(func(dst []byte) []byte {
				return bsoncore.AppendInt32Element(bsoncore.AppendInt32Element(dst, "7", 1), "x", 2)
			})))
		})}),
		values("many small documents", many(3000)),
		values("_id of ten types", IDs(10)),
		values("_id that few servers take", []bson.Raw{document("_id", math.NaN()), document("_id", bson.MinKey{}), document("_id", bson.MaxKey{}),
			document("_id", bson.JavaScript("f()")), document("_id", decimal("1.10")), document("_id", bson.Symbol("s")), document("_id", bson.Timestamp{T: 1, I: 2}),
			document("_id", bson.CodeWithScope{Code: "g()", Scope: bson.D{}}), document("_id", bson.DBPointer{DB: "a.b"}), document("_id", math.Inf(-1))}),
		{name: "no document at all", collections: []collection{{name: "empty"}}},
	}
}

func values(name string, documents []bson.Raw) testCase {
	return testCase{name: name, collections: []collection{{name: "values", documents: documents}}}
}

func decimal(text string) bson.Decimal128 {
	d, err := bson.ParseDecimal128(text)
	if err != nil {
		panic(fmt.Sprintf("a number of the suite: %v", err))
	}
	return d
}

// IDs makes n documents of each of ten types of _id that are neither arrays nor only known to few servers' keys.
func IDs(n int) []bson.Raw {
	var list []bson.Raw
	for i := range n {
		for kind, id := range []any{
			int32(i), int64(1<<40 + i), float64(i) + 0.5, fmt.Sprintf("id %04d", i), bson.D{{Key: "b", Value: i}, {Key: "a", Value: "x"}},
			bson.Binary{Subtype: byte(i % 2 * 4), Data: fmt.Appendf(nil, "%016d", i)}, bson.ObjectID{byte(i >> 8), byte(i), 7}, i%2 == 0,
			bson.DateTime(-1000 * (i + 1)), bson.Timestamp{T: uint32(i + 1), I: 1},
		} {
			if _, isBool := id.(bool); isBool && i > 1 {
				continue // there are two of them
			}
			list = append(list, document("_id", id, "kind", int32(kind), "text", strings.Repeat("t", (i*7+kind)%200)))
		}
	}
	return append(list, document("_id", nil, "kind", int32(10)))
}

func many(n int) []bson.Raw {
	list := make([]bson.Raw, n)
	for i := range list {
		list[i] = document("_id", fmt.Sprintf("%05d", i), "organization_id", fmt.Sprintf("org_%d", i%7), "n", int64(i))
	}
	return list
}

func binaries() []bson.Raw {
	var list []bson.Raw
	for i, subtype := range []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 127, 128, 255} {
		list = append(list, document("_id", int32(i), "value", bson.Binary{Subtype: subtype, Data: []byte("0123456789abcdef")}))
	}
	list = append(list, document("_id", int32(100), "value", bson.Binary{}))
	// The old form of binary values, whose length inside is not that of what is around it.
	list = append(list, build(func(dst []byte) []byte {
		dst = bsoncore.AppendInt32Element(dst, "_id", 101)
		return append(append(dst, byte(bsoncore.TypeBinary)), "old\x00\x04\x00\x00\x00\x02\x00\x00\x00\x00"...)
	}))
	return list
}

// large are documents of the greatest size: one that shrinks to nothing, one that does not, and what is small beside them.
func large() []bson.Raw {
	r := rand.New(rand.NewPCG(16, 20)) //nolint:gosec // no secret: the same bytes in each run
	noise := make([]byte, 16<<20)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	around := len(document("_id", int32(0), "data", bson.Binary{}))
	return []bson.Raw{
		document("_id", int32(0), "data", bson.Binary{Data: bytes.Repeat([]byte{7}, 16<<20-around)}),
		document("_id", int32(1), "data", bson.Binary{Data: noise[:16<<20-around]}),
		document("_id", int32(2), "data", "small"),
	}
}

func nested(depth int) bson.Raw {
	var d any = int32(depth)
	for i := range depth {
		if i%3 == 0 {
			d = bson.A{d}
		} else {
			d = bson.D{{Key: "in", Value: d}}
		}
	}
	return document("_id", 1, "deep", d)
}
