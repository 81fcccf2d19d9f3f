package mongotest

import (
	"regexp"
	"strings"

	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// test tells whether one value, or its absence, fits a condition.
type test func(v value, found bool) bool

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
