package mongotest

import (
	"fmt"
	"iter"
	"math"
	"strconv"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

type (
	document = bsoncore.Document
	value    = bsoncore.Value
	element  = bsoncore.Element
)

var (
	emptyDocument = document{5, 0, 0, 0, 0}
	nullValue     = value{Type: bsoncore.TypeNull}
)

// elements goes over a document up to the first byte that makes no sense, if any.
func elements(d document) iter.Seq[element] {
	return func(yield func(element) bool) {
		if len(d) < 5 {
			return
		}
		rest := []byte(d[4:])
		for len(rest) > 1 {
			e, next, ok := bsoncore.ReadElement(rest)
			if !ok || !yield(e) {
				return
			}
			rest = next
		}
	}
}

func lookup(d document, key string) (value, bool) {
	for e := range elements(d) {
		if string(e.KeyBytes()) == key {
			return e.Value(), true
		}
	}
	return value{}, false
}

func asInt(v value) (int64, bool) {
	switch v.Type {
	case bsoncore.TypeInt32:
		return int64(v.Int32()), true
	case bsoncore.TypeInt64:
		return v.Int64(), true
	case bsoncore.TypeDouble:
		if f := v.Double(); f == math.Trunc(f) && math.Abs(f) < 1<<62 {
			return int64(f), true
		}
	}
	return 0, false
}

// truth is how the server reads a flag: numbers count as well.
func truth(v value, ok bool) bool {
	if !ok {
		return false
	}
	switch v.Type {
	case bsoncore.TypeBoolean:
		return v.Boolean()
	case bsoncore.TypeNull, bsoncore.TypeUndefined:
		return false
	case bsoncore.TypeInt32, bsoncore.TypeInt64, bsoncore.TypeDouble, bsoncore.TypeDecimal128:
		return compareNumbers(v, int32Value(0)) != 0
	default:
		return true
	}
}

func flag(d document, key string) bool { return truth(lookup(d, key)) }

func text(d document, key string) string {
	v, _ := lookup(d, key)
	s, _ := v.StringValueOK()
	return s
}

// subdocument is the document under a key; nil if there is none or it is something else.
func subdocument(d document, key string) document {
	v, _ := lookup(d, key)
	sub, _ := v.DocumentOK()
	return sub
}

func int32Value(n int32) value {
	return value{Type: bsoncore.TypeInt32, Data: bsoncore.AppendInt32(nil, n)}
}

// number is n in the smallest integer type that holds it, as the server answers counts.
func appendCount(dst []byte, key string, n int64) []byte {
	if n >= math.MinInt32 && n <= math.MaxInt32 {
		return bsoncore.AppendInt32Element(dst, key, int32(n))
	}
	return bsoncore.AppendInt64Element(dst, key, n)
}

func appendElements(dst []byte, d document) []byte {
	if len(d) < 5 {
		return dst
	}
	return append(dst, d[4:len(d)-1]...)
}

func appendIndexKey(dst []byte, t bsoncore.Type, i int) []byte {
	dst = append(dst, byte(t))
	dst = strconv.AppendInt(dst, int64(i), 10)
	return append(dst, 0)
}

func appendDocuments(dst []byte, key string, docs []document) []byte {
	start, dst := bsoncore.AppendArrayElementStart(dst, key)
	for i, d := range docs {
		dst = append(appendIndexKey(dst, bsoncore.TypeEmbeddedDocument, i), d...)
	}
	return end(dst, start)
}

func appendStrings(dst []byte, key string, list []string) []byte {
	start, dst := bsoncore.AppendArrayElementStart(dst, key)
	for i, s := range list {
		dst = bsoncore.AppendString(appendIndexKey(dst, bsoncore.TypeString, i), s)
	}
	return end(dst, start)
}

// end closes a document or an array that was started at start.
func end(dst []byte, start int32) []byte {
	dst, _ = bsoncore.AppendDocumentEnd(dst, start) // fails only where start is not a start
	return dst
}

// build makes a document of elements that fill appends.
func build(fill func(dst []byte) []byte) document {
	start, dst := bsoncore.AppendDocumentStart(nil)
	return end(fill(dst), start)
}

// without is a document less some keys.
func without(d document, keys ...string) document {
	return build(func(dst []byte) []byte {
	next:
		for e := range elements(d) {
			for _, k := range keys {
				if string(e.KeyBytes()) == k {
					continue next
				}
			}
			dst = append(dst, e...)
		}
		return dst
	})
}

var typeNames = map[bsoncore.Type]string{
	bsoncore.TypeDouble: "double", bsoncore.TypeString: "string", bsoncore.TypeEmbeddedDocument: "object",
	bsoncore.TypeArray: "array", bsoncore.TypeBinary: "binData", bsoncore.TypeUndefined: "undefined",
	bsoncore.TypeObjectID: "objectId", bsoncore.TypeBoolean: "bool", bsoncore.TypeDateTime: "date",
	bsoncore.TypeNull: "null", bsoncore.TypeRegex: "regex", bsoncore.TypeDBPointer: "dbPointer",
	bsoncore.TypeJavaScript: "javascript", bsoncore.TypeSymbol: "symbol",
	bsoncore.TypeCodeWithScope: "javascriptWithScope", bsoncore.TypeInt32: "int", bsoncore.TypeTimestamp: "timestamp",
	bsoncore.TypeInt64: "long", bsoncore.TypeDecimal128: "decimal", bsoncore.TypeMinKey: "minKey",
	bsoncore.TypeMaxKey: "maxKey",
}

func typeName(t bsoncore.Type) string {
	if name, ok := typeNames[t]; ok {
		return name
	}
	return "missing"
}

// show writes a value for error messages.
func show(v value) string {
	if v.Type == bsoncore.TypeEmbeddedDocument || v.Type == bsoncore.TypeArray {
		return v.String()
	}
	if s, ok := v.StringValueOK(); ok {
		return strconv.Quote(s)
	}
	if id, ok := v.ObjectIDOK(); ok {
		return fmt.Sprintf("ObjectId('%s')", bson.ObjectID(id).Hex())
	}
	if n, ok := asInt(v); ok {
		return strconv.FormatInt(n, 10)
	}
	return v.String()
}
