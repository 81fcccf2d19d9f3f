package undelete

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/restore"
)

// conflict names the living document that holds a unique key which a document to be put back has, too.
type conflict struct {
	Index  string `json:"index"`
	Holder string `json:"holder"` // its _id, as extended JSON
}

// uniqueIndex is a unique index of a living collection, other than that on _id.
type uniqueIndex struct {
	name      string
	fields    []string
	sparse    bool
	filter    bson.Raw // of a partial index
	collation bson.Raw
}

func (j Job) uniqueIndexes(ctx context.Context, collection string) ([]uniqueIndex, error) {
	specs, err := j.indexes(ctx, collection)
	if err != nil {
		return nil, err
	}
	var list []uniqueIndex
	for _, spec := range specs {
		if unique, _ := spec.Lookup("unique").BooleanOK(); !unique {
			continue
		}
		var u uniqueIndex
		u.name, _ = spec.Lookup("name").StringValueOK()
		u.sparse, _ = spec.Lookup("sparse").BooleanOK()
		u.filter, _ = spec.Lookup("partialFilterExpression").DocumentOK()
		u.collation, _ = spec.Lookup("collation").DocumentOK()
		key, ok := spec.Lookup("key").DocumentOK()
		if !ok {
			continue
		}
		elements, err := key.Elements()
		if err != nil {
			return nil, fmt.Errorf("index %s of %s: %w", u.name, collection, err)
		}
		for _, e := range elements {
			u.fields = append(u.fields, e.Key())
		}
		list = append(list, u)
	}
	return list, nil
}

// conflicts says which of the documents have a unique key that a living document holds. It is for telling people before:
// what counts is the server's answer to the insert. Paths that lead through arrays are not followed.
func (j Job) conflicts(ctx context.Context, collection string, indexes []uniqueIndex, batch []picked) (map[int]conflict, error) {
	found := map[int]conflict{}
	for _, u := range indexes {
		size := 100
		if u.collation != nil {
			size = 1 // what the server takes for equal is told apart by asking for one at a time
		}
		for from := 0; from < len(batch); from += size {
			chunk := batch[from:min(from+size, len(batch))]
			var keys [][]bson.A
			values := make([]bson.A, len(u.fields))
			for _, p := range chunk {
				key, indexed := u.keyOf(p.doc)
				keys = append(keys, key)
				for i := 0; indexed && i < len(key); i++ {
					values[i] = append(values[i], key[i]...)
				}
			}
			if len(values) == 0 || len(values[0]) == 0 {
				continue
			}
			holders, err := j.holders(ctx, collection, u, values)
			if err != nil {
				return nil, err
			}
			for i, p := range chunk {
				if _, already := found[from+i]; already {
					continue
				}
				for _, h := range holders {
					if hashOf(h.id) != p.hash && (size == 1 || overlap(keys[i], h.key)) {
						found[from+i] = conflict{u.name, h.name}
						break
					}
				}
			}
		}
	}
	return found, nil
}

// keyOf returns the values of an index's fields, several where a field holds an array, and whether the document would be
// in a sparse index.
func (u *uniqueIndex) keyOf(doc bson.Raw) (key []bson.A, indexed bool) {
	indexed = !u.sparse
	for _, f := range u.fields {
		v, ok := lookup(doc, f)
		if !ok {
			key = append(key, bson.A{nil})
			continue
		}
		indexed = true
		values := bson.A{v}
		if array, isArray := v.ArrayOK(); isArray {
			if elements, err := array.Values(); err == nil && len(elements) > 0 {
				values = nil
				for _, e := range elements {
					values = append(values, e)
				}
			}
		}
		key = append(key, values)
	}
	return key, indexed
}

// holder is a living document that an index holds.
type holder struct {
	id   bson.RawValue
	name string
	key  []bson.A
}

// holders finds the living documents that have one of the values in every field of an index: all that conflict, and
// perhaps more. A list for each field costs small servers far less than the exact combinations.
func (j Job) holders(ctx context.Context, collection string, u uniqueIndex, values []bson.A) ([]holder, error) {
	filter := bson.D{}
	for i, f := range u.fields {
		filter = append(filter, in(f, distinct(values[i]))...)
	}
	if u.filter != nil {
		filter = bson.D{{Key: "$and", Value: bson.A{filter, u.filter}}}
	}
	projection := bson.D{{Key: "_id", Value: 1}}
	for _, f := range u.fields {
		if f != "_id" && !slices.ContainsFunc(projection, func(e bson.E) bool { return within(e.Key, f) || within(f, e.Key) }) {
			projection = append(projection, bson.E{Key: f, Value: 1})
		}
	}
	command := bson.D{{Key: "find", Value: collection}, {Key: "filter", Value: filter}, {Key: "projection", Value: projection}}
	if u.collation != nil {
		command = append(command, bson.E{Key: "collation", Value: u.collation})
	}
	var list []holder
	err := restore.Persist(ctx, func() error {
		list = nil
		cursor, err := restore.Primary(j.DB).RunCommandCursor(ctx, command)
		if err != nil {
			return err
		}
		var docs []bson.Raw
		if err := cursor.All(ctx, &docs); err != nil {
			return err
		}
		for _, doc := range docs {
			id := doc.Lookup("_id")
			name, err := encodeID(id)
			if err != nil {
				return err
			}
			key, _ := u.keyOf(doc)
			list = append(list, holder{id, string(name), key})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for unique keys of %s in index %s: %w", collection, u.name, err)
	}
	return list, nil
}

func distinct(values bson.A) bson.A {
	seen, list := map[backup.Hash]bool{}, bson.A{}
	for _, v := range values {
		if h := hashAny(v); !seen[h] {
			seen[h], list = true, append(list, v)
		}
	}
	return list
}

func within(path, outer string) bool { return path == outer || strings.HasPrefix(path, outer+".") }

// overlap says whether two documents have, in every field of an index, a value in common.
func overlap(a, b []bson.A) bool {
	for i := range a {
		if !slices.ContainsFunc(a[i], func(x any) bool {
			return slices.ContainsFunc(b[i], func(y any) bool { return hashAny(x) == hashAny(y) })
		}) {
			return false
		}
	}
	return true
}

func hashAny(v any) backup.Hash {
	r, ok := v.(bson.RawValue)
	if !ok {
		r = bson.RawValue{Type: bson.TypeNull}
	}
	return hashOf(r)
}
