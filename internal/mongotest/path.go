package mongotest

import (
	"strconv"

	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// walk visits what a dotted path leads to, going through the elements of arrays on the way, but not at its end. Where it
// leads nowhere, visit is called with false. It stops, and returns true, as soon as visit returns true.
func walk(d document, path []string, visit func(v value, found bool) bool) bool {
	v, ok := lookup(d, path[0])
	if !ok {
		return visit(value{}, false)
	}
	return descend(v, path[1:], visit)
}

func descend(v value, path []string, visit func(v value, found bool) bool) bool {
	if len(path) == 0 {
		return visit(v, true)
	}
	switch v.Type {
	case bsoncore.TypeEmbeddedDocument:
		return walk(document(v.Data), path, visit)
	case bsoncore.TypeArray:
		return descendArray(document(v.Data), path, visit)
	default:
		return visit(value{}, false)
	}
}

func descendArray(array document, path []string, visit func(v value, found bool) bool) bool {
	if _, err := strconv.Atoi(path[0]); err == nil {
		if v, ok := lookup(array, path[0]); ok && descend(v, path[1:], visit) {
			return true
		}
	}
	for e := range elements(array) {
		if d, ok := e.Value().DocumentOK(); ok && walk(d, path, visit) {
			return true
		}
	}
	return false
}

// sortKey is the value by which a path sorts: the least or the greatest element of an array, null for what is missing.
func sortKey(d document, path []string, descending bool) value {
	best, ok := nullValue, false
	values, _, _ := indexed(d, path)
	for _, v := range values {
		c := compare(v, best)
		if !ok || !descending && c < 0 || descending && c > 0 {
			best, ok = v, true
		}
	}
	return best
}
