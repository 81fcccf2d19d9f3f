package mongotest

import (
	"fmt"
	"math"
	"slices"

	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// normalizeIndex brings an index specification into the form that the server keeps and lists: v, key and name first, all
// else in the order in which it was sent, and what an index of text or on a sphere has by default.
func normalizeIndex(spec document, ignoreUnknown bool) (document, error) {
	key, name := subdocument(spec, "key"), text(spec, "name")
	switch {
	case len(key) <= 5:
		return nil, errorf(CannotCreateIndex, "Error in specification %s :: caused by :: Index keys cannot be an empty object", spec)
	case name == "":
		return nil, errorf(missingField, "Error in specification %s :: caused by :: The 'name' field is a required property of "+
			"an index specification", spec)
	}
	kept := []string{"v", "key", "name", "dropDups", "ns"}
	if text(subdocument(spec, "collation"), "locale") == "simple" {
		kept = append(kept, "collation") // the server lists none
	}
	for e := range elements(spec) {
		if slices.Contains(indexFields, e.Key()) {
			continue
		}
		if !ignoreUnknown {
			return nil, errorf(InvalidIndexSpecificationOption, "Error in specification %s :: caused by :: The field '%s' is not "+
				"valid for an index specification. Specification: %s", spec, e.Key(), spec)
		}
		kept = append(kept, e.Key())
	}
	if err := checkIndexKey(key, spec); err != nil {
		return nil, err
	}
	if v, ok := lookup(spec, "expireAfterSeconds"); ok && rank(v.Type) != 10 {
		return nil, errorf(CannotCreateIndex, "TTL index 'expireAfterSeconds' option must be numeric, but received a type of '%s'",
			typeName(v.Type))
	}
	v, ok := lookup(spec, "v")
	if !ok {
		v = int32Value(2)
	}
	textKey, weights := textIndex(key)
	return build(func(dst []byte) []byte {
		dst = bsoncore.AppendValueElement(dst, "v", v)
		dst = bsoncore.AppendDocumentElement(dst, "key", textKey)
		dst = bsoncore.AppendStringElement(dst, "name", name)
		dst = appendElements(dst, without(spec, kept...))
		return appendIndexDefaults(dst, spec, textKey, weights)
	}), nil
}

// checkIndexKey refuses what stands in no key. The real server asks this of every new index, whatever version it is to be of: keys such as true,
// "" and 0 stand only in indexes that were built before 3.4.
func checkIndexKey(key, spec document) error {
	for e := range elements(key) {
		v := e.Value()
		kind, isString := v.StringValueOK()
		isNumber := rank(v.Type) == 10
		f, _ := special(v)
		var why string
		switch {
		case e.Key() == "":
			why = "Index keys cannot be an empty field."
		case isNumber && math.IsNaN(f):
			why = "Values in the index key pattern cannot be NaN."
		case isNumber && compareNumbers(v, int32Value(0)) == 0:
			why = "Values in the index key pattern cannot be 0."
		case isString && kind == "":
			why = "Values in the index key pattern cannot be empty strings"
		case isString && !slices.Contains([]string{"text", "2d", "2dsphere", "hashed"}, kind):
			why = fmt.Sprintf("Unknown index plugin '%s'", kind)
		case !isNumber && !isString:
			why = fmt.Sprintf("Values in v:2 index key pattern cannot be of type %s. Only numbers > 0, numbers < 0, and strings are allowed.", typeName(v.Type))
		default:
			continue
		}
		return errorf(CannotCreateIndex, "Error in specification %s :: caused by :: %s", spec, why)
	}
	return nil
}

// inheritCollation gives an index the collation of its collection where its specification, as it was sent, has none of
// its own: "simple" is one, too.
func inheritCollation(normal, sent, options document) document {
	collation := subdocument(options, "collation")
	if _, own := lookup(sent, "collation"); own || collation == nil || text(collation, "locale") == "simple" {
		return normal
	}
	return build(func(dst []byte) []byte {
		return bsoncore.AppendDocumentElement(appendElements(dst, normal), "collation", collation)
	})
}

// textIndex is the key under which an index of text is kept, and the weights of its fields; any other key stays as it is.
func textIndex(key document) (kept, weights document) {
	weights = emptyDocument
	kept = build(func(dst []byte) []byte {
		done := false
		for e := range elements(key) {
			kind, _ := e.Value().StringValueOK()
			if kind != "text" || e.Key() == "_fts" {
				dst = append(dst, e...)
				continue
			}
			weights, _ = setPath(weights, []string{e.Key()}, int32Value(1)) // a single key fits anywhere
			if !done {
				dst = bsoncore.AppendStringElement(dst, "_fts", "text")
				dst = bsoncore.AppendInt32Element(dst, "_ftsx", 1)
				done = true
			}
		}
		return dst
	})
	return kept, weights
}

func appendIndexDefaults(dst []byte, spec, key, weights document) []byte {
	missing := func(name string) bool {
		_, ok := lookup(spec, name)
		return !ok
	}
	if _, isText := lookup(key, "_fts"); isText {
		if missing("weights") {
			dst = bsoncore.AppendDocumentElement(dst, "weights", weights)
		}
		if missing("default_language") {
			dst = bsoncore.AppendStringElement(dst, "default_language", "english")
		}
		if missing("language_override") {
			dst = bsoncore.AppendStringElement(dst, "language_override", "language")
		}
		if missing("textIndexVersion") {
			dst = bsoncore.AppendInt32Element(dst, "textIndexVersion", 3)
		}
	}
	for e := range elements(key) {
		if kind, _ := e.Value().StringValueOK(); kind == "2dsphere" && missing("2dsphereIndexVersion") {
			return bsoncore.AppendInt32Element(dst, "2dsphereIndexVersion", 3)
		}
	}
	return dst
}
