package mongotest

import (
	"regexp"
	"strings"

	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// matcher tells whether a document fits a filter. Nil fits all.
type matcher func(document) bool

// test tells whether one value, or its absence, fits a condition.
type test func(v value, found bool) bool

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

func equals(want value) test {
	if rank(want.Type) == rank(bsoncore.TypeNull) {
		return func(v value, found bool) bool {
			return !found || v.Type == bsoncore.TypeNull || v.Type == bsoncore.TypeUndefined
		}
	}
	return func(v value, found bool) bool { return found && compare(v, want) == 0 }
}

// compares keeps to the type of the operand, as the server does: a number is neither less nor greater than a string.
// MinKey and MaxKey alone compare with every type.
func compares(op string, want value) test {
	orEqual := op == "$gte" || op == "$lte"
	greater := op == "$gt" || op == "$gte"
	_, wantSpecial := special(want)
	return func(v value, found bool) bool {
		switch want.Type {
		case bsoncore.TypeMinKey:
			return found && greater && (orEqual || v.Type != bsoncore.TypeMinKey) ||
				found && orEqual && v.Type == bsoncore.TypeMinKey
		case bsoncore.TypeMaxKey:
			return found && !greater && (orEqual || v.Type != bsoncore.TypeMaxKey) ||
				found && orEqual && v.Type == bsoncore.TypeMaxKey
		case bsoncore.TypeNull, bsoncore.TypeUndefined:
			return orEqual && equals(want)(v, found)
		}
		if !found || rank(v.Type) != rank(want.Type) {
			return false
		}
		if f, ok := special(v); (ok || wantSpecial) && rank(want.Type) == 10 {
			if g, _ := special(want); (f != f) != (g != g) { // NaN is equal to itself alone
				return false
			}
		}
		c := compare(v, want)
		return c == 0 && orEqual || c > 0 && greater || c < 0 && !greater
	}
}

func oneOf(op string, v value) (test, error) {
	array, ok := v.ArrayOK()
	if !ok {
		return nil, errorf(BadValue, "%s needs an array", op)
	}
	known := map[string]bool{}
	var tests []test
	for e := range elements(document(array)) {
		x := e.Value()
		switch x.Type {
		case bsoncore.TypeRegex:
			t, err := matchesRegex(x.Regex())
			if err != nil {
				return nil, err
			}
			tests = append(tests, t)
		case bsoncore.TypeNull, bsoncore.TypeUndefined:
			tests = append(tests, equals(x))
		default:
			known[string(appendIdentity(nil, x))] = true
		}
	}
	return func(v value, found bool) bool {
		if found {
			var buf [64]byte
			if known[string(appendIdentity(buf[:0], v))] {
				return true
			}
		}
		for _, t := range tests {
			if t(v, found) {
				return true
			}
		}
		return false
	}, nil
}

func hasType(v value) (test, error) {
	wanted := map[bsoncore.Type]bool{}
	add := func(v value) error {
		name, isName := v.StringValueOK()
		number, _ := asInt(v)
		matched := false
		for t, n := range typeNames {
			numeric := name == "number" && rank(t) == 10
			if isName && (n == name || numeric) || !isName && int64(int8(t)) == number {
				wanted[t], matched = true, true
			}
		}
		if !matched {
			return errorf(BadValue, "Unknown type name alias: %s", show(v))
		}
		return nil
	}
	if array, ok := v.ArrayOK(); ok {
		for e := range elements(document(array)) {
			if err := add(e.Value()); err != nil {
				return nil, err
			}
		}
	} else if err := add(v); err != nil {
		return nil, err
	}
	return func(v value, found bool) bool { return found && wanted[v.Type] }, nil
}

func matchesRegex(pattern, options string) (test, error) {
	flags := ""
	for _, o := range options {
		if strings.ContainsRune("ims", o) {
			flags += string(o)
		}
	}
	full := pattern
	if flags != "" {
		full = "(?" + flags + ")" + pattern
	}
	re, err := regexp.Compile(full)
	if err != nil {
		return nil, errorf(51091, "Regular expression is invalid: %v", err)
	}
	return func(v value, found bool) bool {
		if !found {
			return false
		}
		if p, o, ok := v.RegexOK(); ok {
			return p == pattern && o == options
		}
		if s, ok := v.StringValueOK(); ok {
			return re.MatchString(s)
		}
		s, ok := v.SymbolOK()
		return ok && re.MatchString(s)
	}, nil
}
