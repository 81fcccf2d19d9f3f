package mongotest

import (
	"strings"

	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// validator is what a collection accepts.
type validator struct {
	accepts matcher // nil accepts all
}

func newValidator(options document) (validator, error) {
	filter := subdocument(options, "validator")
	if filter == nil || text(options, "validationLevel") == "off" || text(options, "validationAction") == "warn" {
		return validator{}, nil
	}
	m, err := compileFilter(filter)
	return validator{m}, err
}

func (v validator) check(d document) error {
	if v.accepts(d) {
		return nil
	}
	return &Error{
		Code:    DocumentValidationFailure,
		Message: "Document failed validation",
		details: bsoncore.BuildDocumentElement(nil, "errInfo",
			bsoncore.AppendValueElement(nil, "failingDocumentId", idOf(d))),
	}
}

// compileSchema makes a matcher of $jsonSchema.
func compileSchema(v value) (matcher, error) {
	spec, ok := v.DocumentOK()
	if !ok {
		return nil, errorf(TypeMismatch, "$jsonSchema must be an object")
	}
	t, err := schema(spec)
	if err != nil {
		return nil, err
	}
	return func(d document) bool { return t(value{Type: bsoncore.TypeEmbeddedDocument, Data: d}, true) }, nil
}

// schema makes a test of one level of a $jsonSchema.
func schema(spec document) (test, error) {
	var tests []test
	for e := range elements(spec) {
		t, err := schemaKeyword(e.Key(), e.Value(), spec)
		if err != nil {
			return nil, err
		}
		if t != nil {
			tests = append(tests, t)
		}
	}
	return func(v value, found bool) bool {
		for _, t := range tests {
			if found && !t(v, found) {
				return false
			}
		}
		return true
	}, nil
}

func schemaKeyword(key string, arg value, spec document) (test, error) {
	switch key {
	case "bsonType":
		return hasType(arg)
	case "type":
		return hasJSONType(arg)
	case "required":
		return hasFields(arg)
	case "properties":
		return hasProperties(arg)
	case "additionalProperties":
		if arg.Type != bsoncore.TypeBoolean {
			return nil, unsupported("a schema for additionalProperties")
		}
		known := subdocument(spec, "properties")
		return func(v value, _ bool) bool {
			return arg.Boolean() || v.Type != bsoncore.TypeEmbeddedDocument || onlyFields(document(v.Data), known)
		}, nil
	case "enum":
		return oneOf("enum", arg)
	case "minimum", "maximum":
		op := map[string]string{"minimum": "$gte", "maximum": "$lte"}[key]
		within := compares(op, arg)
		return func(v value, found bool) bool { return rank(v.Type) != 10 || within(v, found) }, nil
	case "minLength", "maxLength":
		n, _ := asInt(arg)
		return func(v value, _ bool) bool {
			s, ok := v.StringValueOK()
			length := int64(len([]rune(s)))
			return !ok || key == "minLength" && length >= n || key == "maxLength" && length <= n
		}, nil
	case "pattern":
		pattern, _ := arg.StringValueOK()
		matches, err := matchesRegex(pattern, "")
		return func(v value, found bool) bool { return v.Type != bsoncore.TypeString || matches(v, found) }, err
	case "items":
		return hasItems(arg)
	case "title", "description":
		return nil, nil
	default:
		return nil, unsupported("the schema keyword %s", key)
	}
}

func hasJSONType(arg value) (test, error) {
	name, _ := arg.StringValueOK()
	alias := map[string]string{"boolean": "bool"}[name]
	if alias == "" {
		alias = name
	}
	return hasType(value{Type: bsoncore.TypeString, Data: bsoncore.AppendString(nil, alias)})
}

func hasFields(arg value) (test, error) {
	array, ok := arg.ArrayOK()
	if !ok {
		return nil, errorf(TypeMismatch, "$jsonSchema keyword 'required' must be an array")
	}
	var names []string
	for e := range elements(document(array)) {
		name, _ := e.Value().StringValueOK()
		names = append(names, name)
	}
	return func(v value, _ bool) bool {
		d, ok := v.DocumentOK()
		for _, name := range names {
			if _, there := lookup(d, name); ok && !there {
				return false
			}
		}
		return true
	}, nil
}

func hasProperties(arg value) (test, error) {
	spec, ok := arg.DocumentOK()
	if !ok {
		return nil, errorf(TypeMismatch, "$jsonSchema keyword 'properties' must be an object")
	}
	properties := map[string]test{}
	for e := range elements(spec) {
		sub, ok := e.Value().DocumentOK()
		if !ok {
			return nil, errorf(TypeMismatch, "Nested schema for $jsonSchema property '%s' must be an object", e.Key())
		}
		t, err := schema(sub)
		if err != nil {
			return nil, err
		}
		properties[e.Key()] = t
	}
	return func(v value, _ bool) bool {
		d, ok := v.DocumentOK()
		if !ok {
			return true
		}
		for e := range elements(d) {
			if t := properties[e.Key()]; t != nil && !t(e.Value(), true) {
				return false
			}
		}
		return true
	}, nil
}

func hasItems(arg value) (test, error) {
	spec, ok := arg.DocumentOK()
	if !ok {
		return nil, unsupported("a list of schemas for items")
	}
	t, err := schema(spec)
	if err != nil {
		return nil, err
	}
	return func(v value, _ bool) bool {
		array, ok := v.ArrayOK()
		if !ok {
			return true
		}
		for e := range elements(document(array)) {
			if !t(e.Value(), true) {
				return false
			}
		}
		return true
	}, nil
}

func onlyFields(d, known document) bool {
	for e := range elements(d) {
		if _, ok := lookup(known, e.Key()); !ok && !strings.HasPrefix(e.Key(), "$") {
			return false
		}
	}
	return true
}
