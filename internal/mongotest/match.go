package mongotest

import (
	"strings"

	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// matcher tells whether a document fits a filter. Nil fits all.
type matcher func(document) bool

func allOf(list []matcher) matcher {
	switch len(list) {
	case 0:
		return nil
	case 1:
		return list[0]
	}
	return func(d document) bool {
		for _, m := range list {
			if !m(d) {
				return false
			}
		}
		return true
	}
}

func compileFilter(filter document) (matcher, error) {
	var list []matcher
	for e := range elements(filter) {
		m, err := compileClause(e.Key(), e.Value())
		if err != nil {
			return nil, err
		}
		if m != nil {
			list = append(list, m)
		}
	}
	return allOf(list), nil
}

func compileClause(key string, v value) (matcher, error) {
	switch key {
	case "$and", "$or", "$nor":
		return compileLogic(key, v)
	case "$comment":
		return nil, nil
	case "$jsonSchema":
		return compileSchema(v)
	case "$expr":
		x, err := compileExpression(v)
		if err != nil {
			return nil, err
		}
		return func(d document) bool { return truth(x(d)) }, nil
	}
	if strings.HasPrefix(key, "$") {
		return nil, errorf(BadValue, "unknown top level operator: %s. If you have a field name that starts with a '$' "+
			"symbol, consider using $getField or $setField.", key)
	}
	path := strings.Split(key, ".")
	if d, ok := v.DocumentOK(); ok && isOperators(d) {
		return compileOperators(path, d)
	}
	if v.Type == bsoncore.TypeRegex {
		t, err := matchesRegex(v.Regex())
		return anywhere(path, t), err
	}
	return anywhere(path, equals(v)), nil
}

func isOperators(d document) bool {
	for e := range elements(d) {
		return strings.HasPrefix(e.Key(), "$") && e.Key() != "$ref" && e.Key() != "$id"
	}
	return false
}

func compileLogic(key string, v value) (matcher, error) {
	array, ok := v.ArrayOK()
	if !ok {
		return nil, errorf(BadValue, "%s must be an array", key)
	}
	var list []matcher
	for e := range elements(document(array)) {
		d, ok := e.Value().DocumentOK()
		if !ok {
			return nil, errorf(BadValue, "%s argument's entries must be objects", key)
		}
		m, err := compileFilter(d)
		if err != nil {
			return nil, err
		}
		if m == nil {
			m = func(document) bool { return true }
		}
		list = append(list, m)
	}
	if len(list) == 0 {
		return nil, errorf(BadValue, "%s must be a nonempty array", key)
	}
	if key == "$and" {
		return allOf(list), nil
	}
	return func(d document) bool {
		for _, m := range list {
			if m(d) {
				return key == "$or"
			}
		}
		return key == "$nor"
	}, nil
}

// anywhere applies a test to what a path leads to and, where that is an array, to its elements as well.
func anywhere(path []string, t test) matcher {
	return func(d document) bool {
		return walk(d, path, func(v value, found bool) bool {
			if t(v, found) {
				return true
			}
			if !found || v.Type != bsoncore.TypeArray {
				return false
			}
			for e := range elements(document(v.Data)) {
				if t(e.Value(), true) {
					return true
				}
			}
			return false
		})
	}
}

// whole applies a test to what a path leads to, arrays as they are.
func whole(path []string, t test) matcher {
	return func(d document) bool { return walk(d, path, t) }
}

func not(m matcher) matcher { return func(d document) bool { return !m(d) } }

func compileOperators(path []string, ops document) (matcher, error) {
	var list []matcher
	for e := range elements(ops) {
		m, err := compileOperator(path, e.Key(), e.Value(), ops)
		if err != nil {
			return nil, err
		}
		if m != nil {
			list = append(list, m)
		}
	}
	return allOf(list), nil
}

func compileOperator(path []string, op string, v value, ops document) (matcher, error) {
	switch op {
	case "$eq":
		return anywhere(path, equals(v)), nil
	case "$ne":
		return not(anywhere(path, equals(v))), nil
	case "$gt", "$gte", "$lt", "$lte":
		return anywhere(path, compares(op, v)), nil
	case "$in", "$nin":
		t, err := oneOf(op, v)
		if op == "$nin" && err == nil {
			return not(anywhere(path, t)), nil
		}
		return anywhere(path, t), err
	case "$exists":
		m := whole(path, func(_ value, found bool) bool { return found })
		if truth(v, true) {
			return m, nil
		}
		return not(m), nil
	case "$not":
		return compileNot(path, v)
	case "$type":
		t, err := hasType(v)
		return anywhere(path, t), err
	case "$size":
		n, ok := asInt(v)
		if !ok {
			return nil, errorf(FailedToParse, "Failed to parse $size. Expected a number in: $size: %s", show(v))
		}
		return whole(path, func(v value, found bool) bool {
			return found && v.Type == bsoncore.TypeArray && int64(countElements(document(v.Data))) == n
		}), nil
	case "$elemMatch":
		return compileElemMatch(path, v)
	case "$regex":
		pattern, options, ok := v.RegexOK()
		if !ok {
			pattern, _ = v.StringValueOK()
		}
		if o := text(ops, "$options"); o != "" {
			options = o
		}
		t, err := matchesRegex(pattern, options)
		return anywhere(path, t), err
	case "$options", "$comment":
		return nil, nil
	case "$all", "$mod", "$bitsAllSet", "$bitsAnySet", "$bitsAllClear", "$bitsAnyClear", "$geoWithin", "$geoIntersects",
		"$near", "$nearSphere":
		return nil, unsupported("the query operator %s", op)
	default:
		return nil, errorf(BadValue, "unknown operator: %s", op)
	}
}

func compileNot(path []string, v value) (matcher, error) {
	if v.Type == bsoncore.TypeRegex {
		t, err := matchesRegex(v.Regex())
		return not(anywhere(path, t)), err
	}
	d, ok := v.DocumentOK()
	if !ok {
		return nil, errorf(BadValue, "$not needs a regex or a document")
	}
	m, err := compileOperators(path, d)
	if err != nil || m == nil {
		return nil, err
	}
	return not(m), nil
}

func compileElemMatch(path []string, v value) (matcher, error) {
	d, ok := v.DocumentOK()
	if !ok {
		return nil, errorf(BadValue, "$elemMatch needs an Object")
	}
	var m matcher
	var err error
	wrapped := isOperators(d)
	if wrapped {
		m, err = compileOperators([]string{""}, d)
	} else {
		m, err = compileFilter(d)
	}
	if err != nil {
		return nil, err
	}
	return whole(path, func(v value, found bool) bool {
		if !found || v.Type != bsoncore.TypeArray {
			return false
		}
		for e := range elements(document(v.Data)) {
			x := e.Value()
			if wrapped {
				x = value{Type: bsoncore.TypeEmbeddedDocument, Data: build(func(dst []byte) []byte {
					return bsoncore.AppendValueElement(dst, "", x)
				})}
			}
			if sub, ok := x.DocumentOK(); ok && (m == nil || m(sub)) {
				return true
			}
		}
		return false
	}), nil
}

func countElements(d document) int {
	n := 0
	for range elements(d) {
		n++
	}
	return n
}
