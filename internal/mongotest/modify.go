package mongotest

import (
	"math"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// change is what an update does to a document.
type change struct {
	replacement bool
	with        document // the replacement, or the operators
}

func compileUpdate(u value) (change, error) {
	if d, ok := literalReplacement(u); ok {
		return change{replacement: true, with: d}, nil
	}
	d, ok := u.DocumentOK()
	if !ok {
		return change{}, unsupported("updates by an aggregation pipeline, unless it replaces the document by a literal one")
	}
	if !isOperators(d) {
		for e := range elements(d) {
			if strings.HasPrefix(e.Key(), "$") {
				return change{}, errorf(52, "The dollar ($) prefixed field '%s' is not allowed in the context of an "+
					"update's replacement document.", e.Key())
			}
		}
		return change{replacement: true, with: d}, nil
	}
	for e := range elements(d) {
		if _, ok := operators[e.Key()]; !ok {
			return change{}, errorf(FailedToParse, "Unknown modifier: %s. Expected a valid update modifier or "+
				"pipeline-style update specified as an array", e.Key())
		}
		if _, ok := e.Value().DocumentOK(); !ok {
			return change{}, errorf(FailedToParse, "Modifiers operate on fields but we found type %s instead.",
				typeName(e.Value().Type))
		}
	}
	return change{with: d}, nil
}

// literalReplacement returns the document of [{$replaceWith: {$literal: {…}}}].
func literalReplacement(u value) (document, bool) {
	stages, ok := u.ArrayOK()
	if !ok || countElements(document(stages)) != 1 {
		return nil, false
	}
	v, err := document(stages).LookupErr("0", "$replaceWith", "$literal")
	if err != nil {
		return nil, false
	}
	return v.DocumentOK()
}

// apply gives the changed document. inserting is for an upsert.
func (c change) apply(d document, inserting bool) (document, error) {
	if c.replacement {
		id, ok := lookup(d, "_id")
		if _, own := lookup(c.with, "_id"); own || !ok {
			return c.with, nil
		}
		return build(func(dst []byte) []byte {
			return appendElements(bsoncore.AppendValueElement(dst, "_id", id), c.with)
		}), nil
	}
	for op := range elements(c.with) {
		name := op.Key()
		if name == "$setOnInsert" && !inserting {
			continue
		}
		for e := range elements(document(op.Value().Data)) {
			path := splitPath(e.Key())
			for _, part := range path {
				if strings.HasPrefix(part, "$") {
					return nil, unsupported("the positional operator in '%s'", e.Key())
				}
			}
			var err error
			if d, err = operators[name](d, path, e.Value()); err != nil {
				return nil, err
			}
		}
	}
	return d, nil
}

type operator func(d document, path []string, arg value) (document, error)

var operators = map[string]operator{
	"$set":         setPath,
	"$setOnInsert": setPath,
	"$unset":       func(d document, path []string, _ value) (document, error) { return unsetPath(d, path, false), nil },
	"$inc":         increment,
	"$min":         func(d document, path []string, v value) (document, error) { return bound(d, path, v, -1) },
	"$max":         func(d document, path []string, v value) (document, error) { return bound(d, path, v, 1) },
	"$currentDate": currentDate,
	"$rename":      rename,
	"$push":        push,
}

func splitPath(path string) []string { return strings.Split(path, ".") }

func get(d document, path []string) (value, bool) {
	v, err := d.LookupErr(path...)
	return v, err == nil
}

// setPath sets a value, and makes the documents on the way to it. An element that exists keeps its place.
func setPath(d document, path []string, v value) (document, error) {
	return set(d, path, v, bsoncore.TypeEmbeddedDocument)
}

func set(d document, path []string, v value, kind bsoncore.Type) (document, error) {
	var failed error
	found := false
	out := build(func(dst []byte) []byte {
		for e := range elements(d) {
			if e.Key() != path[0] {
				dst = append(dst, e...)
				continue
			}
			found = true
			if len(path) == 1 {
				dst = bsoncore.AppendValueElement(dst, path[0], v)
				continue
			}
			old := e.Value()
			if old.Type != bsoncore.TypeEmbeddedDocument && old.Type != bsoncore.TypeArray {
				failed = errorf(PathNotViable, "Cannot create field '%s' in element {%s: %s}", path[1], path[0], show(old))
				return dst
			}
			sub, err := set(document(old.Data), path[1:], v, old.Type)
			if err != nil {
				failed = err
				return dst
			}
			dst = bsoncore.AppendValueElement(dst, path[0], value{Type: old.Type, Data: sub})
		}
		if found {
			return dst
		}
		if kind == bsoncore.TypeArray {
			n, err := strconv.Atoi(path[0])
			if err != nil || n < 0 {
				failed = errorf(PathNotViable, "Cannot create field '%s' in element {%s}", path[0], d)
				return dst
			}
			for i := countElements(d); i < n; i++ {
				dst = bsoncore.AppendNullElement(dst, strconv.Itoa(i))
			}
		}
		for i := len(path) - 1; i > 0; i-- {
			inner := v
			v = value{Type: bsoncore.TypeEmbeddedDocument, Data: build(func(dst []byte) []byte {
				return bsoncore.AppendValueElement(dst, path[i], inner)
			})}
		}
		return bsoncore.AppendValueElement(dst, path[0], v)
	})
	return out, failed
}

func unsetPath(d document, path []string, inArray bool) document {
	return build(func(dst []byte) []byte {
		for e := range elements(d) {
			v := e.Value()
			nested := v.Type == bsoncore.TypeEmbeddedDocument || v.Type == bsoncore.TypeArray
			switch {
			case e.Key() != path[0]:
				dst = append(dst, e...)
			case len(path) > 1 && nested:
				sub := unsetPath(document(v.Data), path[1:], v.Type == bsoncore.TypeArray)
				dst = bsoncore.AppendValueElement(dst, path[0], value{Type: v.Type, Data: sub})
			case len(path) > 1:
				dst = append(dst, e...)
			case inArray:
				dst = bsoncore.AppendNullElement(dst, path[0])
			}
		}
		return dst
	})
}

func increment(d document, path []string, by value) (document, error) {
	if rank(by.Type) != 10 {
		return nil, errorf(TypeMismatch, "Cannot increment with non-numeric argument: {%s: %s}", strings.Join(path, "."), show(by))
	}
	old, ok := get(d, path)
	if !ok {
		return setPath(d, path, by)
	}
	if rank(old.Type) != 10 {
		return nil, errorf(TypeMismatch, "Cannot apply $inc to a value of non-numeric type. {_id: %s} has the field '%s' "+
			"of non-numeric type %s", show(idOf(d)), path[len(path)-1], typeName(old.Type))
	}
	sum, err := add(old, by)
	if err != nil {
		return nil, err
	}
	return setPath(d, path, sum)
}

// add adds two numbers in the wider of their types. An int that overflows becomes a long.
func add(a, b value) (value, error) {
	x, xInt := integer(a)
	y, yInt := integer(b)
	switch {
	case a.Type == bsoncore.TypeDecimal128 || b.Type == bsoncore.TypeDecimal128:
		return value{}, unsupported("arithmetic with Decimal128")
	case xInt && yInt:
		sum := x + y
		if (sum > x) != (y > 0) && y != 0 {
			return value{}, errorf(BadValue, "Failed to apply $inc operations to current value: overflow")
		}
		narrow := a.Type == bsoncore.TypeInt32 && b.Type == bsoncore.TypeInt32
		if narrow && sum >= math.MinInt32 && sum <= math.MaxInt32 {
			return int32Value(int32(sum)), nil
		}
		return value{Type: bsoncore.TypeInt64, Data: bsoncore.AppendInt64(nil, sum)}, nil
	default:
		return value{Type: bsoncore.TypeDouble, Data: bsoncore.AppendDouble(nil, a.AsFloat64()+b.AsFloat64())}, nil
	}
}

// bound sets a value if it is beyond the one that is there.
func bound(d document, path []string, v value, sign int) (document, error) {
	if old, ok := get(d, path); ok && compare(v, old) != sign {
		return d, nil
	}
	return setPath(d, path, v)
}

func currentDate(d document, path []string, arg value) (document, error) {
	kind, ok := arg.DocumentOK()
	if ok && text(kind, "$type") == "timestamp" {
		t := uint32(time.Now().Unix())
		return setPath(d, path, value{Type: bsoncore.TypeTimestamp, Data: bsoncore.AppendTimestamp(nil, t, 1)})
	}
	now := bsoncore.AppendDateTime(nil, time.Now().UnixMilli())
	return setPath(d, path, value{Type: bsoncore.TypeDateTime, Data: now})
}

func rename(d document, path []string, to value) (document, error) {
	name, ok := to.StringValueOK()
	if !ok {
		return nil, errorf(BadValue, "The 'to' field for $rename must be a string: %s: %s", strings.Join(path, "."), show(to))
	}
	v, ok := get(d, path)
	if !ok {
		return d, nil
	}
	return setPath(unsetPath(unsetPath(d, path, false), splitPath(name), false), splitPath(name), v)
}

func push(d document, path []string, arg value) (document, error) {
	added := []value{arg}
	if mods, ok := arg.DocumentOK(); ok && isOperators(mods) {
		each, ok := lookup(mods, "$each")
		if !ok || countElements(mods) > 1 {
			return nil, unsupported("modifiers of $push other than $each")
		}
		added = nil
		for e := range elements(document(each.Data)) {
			added = append(added, e.Value())
		}
	}
	old, ok := get(d, path)
	if ok && old.Type != bsoncore.TypeArray {
		return nil, errorf(BadValue, "The field '%s' must be an array but is of type %s in document {_id: %s}",
			strings.Join(path, "."), typeName(old.Type), show(idOf(d)))
	}
	n := countElements(document(old.Data))
	array := build(func(dst []byte) []byte {
		dst = appendElements(dst, document(old.Data))
		for i, v := range added {
			dst = bsoncore.AppendValueElement(dst, strconv.Itoa(n+i), v)
		}
		return dst
	})
	return setPath(d, path, value{Type: bsoncore.TypeArray, Data: array})
}
