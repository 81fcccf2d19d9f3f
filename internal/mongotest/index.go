package mongotest

import (
	"fmt"
	"strings"

	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// index is an index as it was specified. Only unique ones do anything: they keep their entries to find duplicates.
type index struct {
	name    string
	spec    document
	key     document
	unique  bool
	sparse  bool
	partial matcher
	entries map[string]*record
}

var keyOnID = build(func(dst []byte) []byte { return bsoncore.AppendInt32Element(dst, "_id", 1) })

// idIndex is the index that every collection has. It takes over the collection's collation, or the specification that
// create was given.
func idIndex(options document) *index {
	return &index{name: "_id_", key: keyOnID, spec: build(func(dst []byte) []byte {
		dst = bsoncore.AppendInt32Element(dst, "v", 2)
		dst = bsoncore.AppendDocumentElement(dst, "key", keyOnID)
		dst = bsoncore.AppendStringElement(dst, "name", "_id_")
		if collation := subdocument(options, "collation"); collation != nil {
			dst = bsoncore.AppendDocumentElement(dst, "collation", collation)
		}
		return dst
	})}
}

// firstIndexes are what a collection has from the beginning. A clustered index is listed as one; the one of a time
// series' buckets, whose option is only true, is not.
func firstIndexes(options document) (indexes []*index, clustered bool) {
	option, ok := lookup(options, "clusteredIndex")
	if !ok {
		return []*index{idIndex(options)}, false
	}
	spec, ok := option.DocumentOK()
	if !ok {
		return nil, true
	}
	return []*index{{name: text(spec, "name"), key: keyOnID, spec: build(func(dst []byte) []byte {
		return bsoncore.AppendBooleanElement(appendElements(dst, spec), "clustered", true)
	})}}, true
}

func newIndex(spec document) (*index, error) {
	x := &index{
		name:   text(spec, "name"),
		spec:   spec,
		key:    subdocument(spec, "key"),
		unique: flag(spec, "unique"),
		sparse: flag(spec, "sparse"),
	}
	if filter := subdocument(spec, "partialFilterExpression"); filter != nil {
		m, err := compileFilter(filter)
		if err != nil {
			return nil, errorf(CannotCreateIndex, "Error in specification %s :: caused by :: %v", spec, err)
		}
		x.partial = m
	}
	if x.unique {
		x.entries = map[string]*record{}
	}
	return x, nil
}

func (c *collection) indexNamed(name string) *index {
	for _, x := range c.indexes {
		if x.name == name {
			return x
		}
	}
	return nil
}

// keys are the entries that a document has in a unique index: one for each element of an indexed array.
func (x *index) keys(d document) ([]string, error) {
	if x.partial != nil && !x.partial(d) {
		return nil, nil
	}
	keys := []string{""}
	present, arrays := false, 0
	for e := range elements(x.key) {
		values, found, isArray := indexed(d, strings.Split(e.Key(), "."))
		present = present || found
		if isArray {
			if arrays++; arrays > 1 {
				return nil, errorf(CannotIndexParallelArrays, "cannot index parallel arrays %s", x.key)
			}
		}
		var next []string
		for _, k := range keys {
			for _, v := range values {
				next = append(next, string(appendIdentity([]byte(k), v)))
			}
		}
		keys = next
	}
	if x.sparse && !present {
		return nil, nil
	}
	return keys, nil
}

// indexed are the values that an index sees under a path. A missing one counts as null.
func indexed(d document, path []string) (values []value, found, isArray bool) {
	walk(d, path, func(v value, ok bool) bool {
		switch {
		case !ok:
			values = append(values, nullValue)
		case v.Type == bsoncore.TypeArray:
			found, isArray = true, true
			before := len(values)
			for e := range elements(document(v.Data)) {
				values = append(values, e.Value())
			}
			if len(values) == before {
				values = append(values, value{Type: bsoncore.TypeUndefined})
			}
		default:
			found = true
			values = append(values, v)
		}
		return false
	})
	if len(values) == 0 {
		values = append(values, nullValue)
	}
	return values, found, isArray
}

// checkUnique finds out whether a document may stand in the collection, in the place of self if that is given.
func (c *collection) checkUnique(d document, self *record) error {
	for _, x := range c.indexes {
		if !x.unique {
			continue
		}
		keys, err := x.keys(d)
		if err != nil {
			return err
		}
		for _, k := range keys {
			if old, ok := x.entries[k]; ok && old != self {
				return c.duplicate(x.name, x.key, x.values(d))
			}
		}
	}
	return nil
}

func (x *index) values(d document) []value {
	var list []value
	for e := range elements(x.key) {
		values, _, _ := indexed(d, strings.Split(e.Key(), "."))
		list = append(list, values[0])
	}
	return list
}

func (c *collection) index(r *record) {
	for _, x := range c.indexes {
		if x.unique {
			keys, _ := x.keys(r.doc) // checkUnique has seen it
			for _, k := range keys {
				x.entries[k] = r
			}
		}
	}
}

func (c *collection) unindex(r *record) {
	for _, x := range c.indexes {
		if x.unique {
			keys, _ := x.keys(r.doc)
			for _, k := range keys {
				delete(x.entries, k)
			}
		}
	}
}

// fill enters all documents of a collection into a new unique index.
func (x *index) fill(c *collection) error {
	if !x.unique {
		return nil
	}
	for _, r := range c.records {
		if r.doc == nil {
			continue
		}
		keys, err := x.keys(r.doc)
		if err != nil {
			return err
		}
		for _, k := range keys {
			if old, ok := x.entries[k]; ok && old != r {
				return c.duplicate(x.name, x.key, x.values(r.doc))
			}
			x.entries[k] = r
		}
	}
	return nil
}

func (c *collection) duplicate(index string, key document, values []value) error {
	var shown []string
	i := 0
	keyValue := build(func(dst []byte) []byte {
		for e := range elements(key) {
			shown = append(shown, fmt.Sprintf("%s: %s", e.Key(), show(values[i])))
			dst = bsoncore.AppendValueElement(dst, e.Key(), values[i])
			i++
		}
		return dst
	})
	return &Error{
		Code: DuplicateKey,
		Message: fmt.Sprintf("E11000 duplicate key error collection: %s index: %s dup key: { %s }", c.ns, index,
			strings.Join(shown, ", ")),
		details: bsoncore.AppendDocumentElement(
			bsoncore.AppendDocumentElement(nil, "keyPattern", key), "keyValue", keyValue),
	}
}
