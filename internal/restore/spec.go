package restore

import (
	"bytes"
	"fmt"
	"math"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/backup"
)

// field is one field of a specification.
type field struct {
	key   string
	value bson.RawValue
}

// Fields of an index specification that say nothing of what the index does: its storage format, the namespace (which
// servers before 4.4 repeat there), how it was built, and how its write was to be acknowledged. Servers before 3.4 kept whatever a driver
// sent, and today's refuse an index with the last ones.
var unspoken = []string{"v", "ns", "background", "dropDups", "safe", "w", "wtimeout", "_id"}

// Options of a collection that newer servers no longer know, and that no copy needs.
var obsoleteOptions = []string{"autoIndexId", "temp", "uuid", "create", "flags", "$nExtents"}

// fieldsOf cuts a document into its fields, without the named ones.
func fieldsOf(doc bson.Raw, without []string) ([]field, error) {
	elements, err := doc.Elements()
	if err != nil {
		return nil, err
	}
	var list []field
	for _, e := range elements {
		if !slices.Contains(without, e.Key()) {
			list = append(list, field{e.Key(), e.Value()})
		}
	}
	return list, nil
}

func document(list []field) bson.Raw {
	doc := []byte{0, 0, 0, 0}
	for _, f := range list {
		doc = append(doc, byte(f.value.Type))
		doc = append(append(doc, f.key...), 0)
		doc = append(doc, f.value.Value...)
	}
	doc = append(doc, 0)
	n := len(doc)
	doc[0], doc[1], doc[2], doc[3] = byte(n), byte(n>>8), byte(n>>16), byte(n>>24)
	return doc
}

// indexSpec is an index specification that can be built and compared.
type indexSpec struct {
	name   string
	fields []field // without the unspoken ones, in their order
}

func newIndexSpec(spec bson.Raw) (indexSpec, error) {
	list, err := fieldsOf(spec, unspoken)
	if err != nil {
		return indexSpec{}, fmt.Errorf("an index specification: %w", err)
	}
	s := indexSpec{fields: list}
	name, ok := s.get("name").StringValueOK()
	if !ok {
		return indexSpec{}, fmt.Errorf("an index specification has no name: %s", spec)
	}
	s.name = name
	return s, nil
}

func (s indexSpec) get(key string) bson.RawValue {
	for _, f := range s.fields {
		if f.key == key {
			return f.value
		}
	}
	return bson.RawValue{}
}

// ofID says whether it is the index on _id that every collection has by itself.
func (s indexSpec) ofID() bool { return s.name == "_id_" }

// clustered says whether it stands for the collection's own order, made with the collection.
func (s indexSpec) clustered() bool { return truth(s.get("clustered")) }

func (s indexSpec) ttl() bool { return !s.get("expireAfterSeconds").IsZero() }

// builtByUs says whether createIndexes has to build it.
func (s indexSpec) builtByUs() bool { return !s.ofID() && !s.clustered() }

// today is a key as servers build it since 3.4. Indexes that were built before may have others, such as true, "" or 0: whatever is not below zero
// and names no kind of index sorts upwards. No server builds such a key anew, whatever version of index it is asked for.
func today(key bson.RawValue) bson.RawValue {
	doc, ok := key.DocumentOK()
	list, err := fieldsOf(doc, nil)
	if !ok || err != nil {
		return key
	}
	for i, f := range list {
		kind, isString := f.value.StringValueOK()
		n := number(f.value)
		if isString && kind != "" || f.value.Type == bson.TypeDecimal128 || n != 0 && !math.IsNaN(n) {
			continue
		}
		list[i].value = bson.RawValue{Type: bson.TypeInt32, Value: []byte{1, 0, 0, 0}}
	}
	return bson.RawValue{Type: bson.TypeEmbeddedDocument, Value: document(list)}
}

// command returns the specification as createIndexes takes it, in a collection that may have a collation of its own:
// there an index without one was built with the simple one, and must say so.
func (s indexSpec) command(collation bool) bson.Raw {
	list := slices.Clone(s.fields)
	for i, f := range list {
		if f.key == "key" {
			list[i].value = today(f.value)
		}
	}
	if collation && s.get("collation").IsZero() {
		simple := document([]field{{"locale", bson.RawValue{Type: bson.TypeString, Value: []byte("\x07\x00\x00\x00simple\x00")}}})
		list = append(list, field{"collation", bson.RawValue{Type: bson.TypeEmbeddedDocument, Value: simple}})
	}
	return document(list)
}

// same says whether two specifications make the same index: the order of their options does not matter, that of keys
// and filters does; an option that is off equals one that is not there.
func (s indexSpec) same(o indexSpec) bool { return sameFields(s.fields, o.fields, indexDefaults) }

// indexDefaults are what an absent option of an index means.
var indexDefaults = map[string]func(bson.RawValue) bool{
	"unique": falsehood, "sparse": falsehood, "hidden": falsehood, "prepareUnique": falsehood, "clustered": falsehood,
	"collation": simpleCollation,
}

// collectionDefaults are what an absent option of a collection means.
var collectionDefaults = map[string]func(bson.RawValue) bool{
	"capped":           falsehood,
	"validationLevel":  text("strict"),
	"validationAction": text("error"),
	"validator":        nothing,
	"collation":        simpleCollation,
	"pipeline":         nothing,
}

// sameOptions says whether two collections are made alike.
func sameOptions(a, b bson.Raw) bool {
	x, errX := fieldsOf(a, obsoleteOptions)
	y, errY := fieldsOf(b, obsoleteOptions)
	if errX != nil || errY != nil {
		return bytes.Equal(a, b)
	}
	return sameFields(x, y, collectionDefaults)
}

func sameFields(a, b []field, defaults map[string]func(bson.RawValue) bool) bool {
	has := func(list []field, f field) bool {
		for _, o := range list {
			if o.key == f.key {
				return sameOption(f.key, f.value, o.value)
			}
		}
		absent, known := defaults[f.key]
		return known && absent(f.value)
	}
	return !slices.ContainsFunc(a, func(f field) bool { return !has(b, f) }) &&
		!slices.ContainsFunc(b, func(f field) bool { return !has(a, f) })
}

func sameOption(key string, a, b bson.RawValue) bool {
	switch key {
	case "key":
		return sameValue(today(a), today(b))
	case "collation", "weights", "storageEngine", "clusteredIndex":
		x, okX := a.DocumentOK()
		y, okY := b.DocumentOK()
		if okX && okY {
			listX, errX := fieldsOf(x, []string{"v"})
			listY, errY := fieldsOf(y, []string{"v"})
			return errX == nil && errY == nil && sameFields(listX, listY, nil)
		}
	case "unique", "sparse", "hidden", "prepareUnique", "clustered", "capped":
		return truth(a) == truth(b)
	case "size":
		// Up to 6.0, servers round a capped collection's size up to a multiple of 256, and to 4096 at least.
		rounded := func(v bson.RawValue) float64 { return max(math.Ceil(number(v)/256), 16) }
		return rounded(a) == rounded(b)
	}
	return sameValue(a, b)
}

// sameValue compares values exactly, order included, but for the types of numbers: servers turn 1.0 into 1.
func sameValue(a, b bson.RawValue) bool {
	if a.Type != b.Type && a.IsNumber() && b.IsNumber() && a.Type != bson.TypeDecimal128 && b.Type != bson.TypeDecimal128 {
		return number(a) == number(b)
	}
	if a.Type != b.Type {
		return false
	}
	switch a.Type {
	case bson.TypeEmbeddedDocument, bson.TypeArray:
		x, errX := fieldsOf(bson.Raw(a.Value), nil)
		y, errY := fieldsOf(bson.Raw(b.Value), nil)
		return errX == nil && errY == nil &&
			slices.EqualFunc(x, y, func(f, g field) bool { return f.key == g.key && sameValue(f.value, g.value) })
	default:
		return bytes.Equal(a.Value, b.Value)
	}
}

func number(v bson.RawValue) float64 {
	switch v.Type {
	case bson.TypeInt32:
		return float64(v.Int32())
	case bson.TypeInt64:
		return float64(v.Int64())
	case bson.TypeDouble:
		return v.Double()
	default:
		return 0
	}
}

func truth(v bson.RawValue) bool {
	if b, ok := v.BooleanOK(); ok {
		return b
	}
	return number(v) != 0
}

func falsehood(v bson.RawValue) bool { return !truth(v) }

func text(want string) func(bson.RawValue) bool {
	return func(v bson.RawValue) bool {
		s, ok := v.StringValueOK()
		return ok && s == want
	}
}

func nothing(v bson.RawValue) bool {
	return (v.Type == bson.TypeEmbeddedDocument || v.Type == bson.TypeArray) && len(v.Value) == 5
}

func simpleCollation(v bson.RawValue) bool {
	doc, ok := v.DocumentOK()
	return ok && text("simple")(doc.Lookup("locale"))
}

// specsOf reads the specifications that a backup holds.
func specsOf(indexes []backup.Index) ([]indexSpec, error) {
	var list []indexSpec
	for _, i := range indexes {
		raw, err := backup.ToBSON(i.Spec)
		if err != nil {
			return nil, fmt.Errorf("index %s: %w", i.Name, err)
		}
		spec, err := newIndexSpec(raw)
		if err != nil {
			return nil, err
		}
		list = append(list, spec)
	}
	return list, nil
}

// compareIndexes says how the indexes that are there differ from those that should be, one sentence each. TTL indexes
// that are not built yet are not missed where withoutTTL is set.
func compareIndexes(want []indexSpec, have []bson.Raw, withoutTTL bool) ([]string, error) {
	there := map[string]indexSpec{}
	for _, raw := range have {
		spec, err := newIndexSpec(raw)
		if err != nil {
			return nil, err
		}
		there[spec.name] = spec
	}
	var wrong []string
	for _, w := range want {
		h, ok := there[w.name]
		delete(there, w.name)
		switch {
		case !ok && withoutTTL && w.ttl():
		case !ok:
			wrong = append(wrong, fmt.Sprintf("index %q is missing", w.name))
		case !w.same(h):
			wrong = append(wrong, fmt.Sprintf("index %q is %s and should be %s", w.name, document(h.fields), document(w.fields)))
		}
	}
	for _, name := range sortedKeys(there) {
		// Collections of old servers could do without the index on _id; newer ones always make it.
		if !there[name].ofID() {
			wrong = append(wrong, fmt.Sprintf("index %q should not be there", name))
		}
	}
	return wrong, nil
}
