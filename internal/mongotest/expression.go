package mongotest

import (
	"strings"

	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// expression computes a value from a document; false stands for a missing one.
type expression func(document) (value, bool)

func constant(v value) expression { return func(document) (value, bool) { return v, true } }

// compileExpression knows paths, $$ROOT, constants, documents, and the few operators that counting and comparing need.
func compileExpression(v value) (expression, error) {
	if s, ok := v.StringValueOK(); ok && strings.HasPrefix(s, "$") {
		return compilePath(s)
	}
	d, ok := v.DocumentOK()
	if !ok {
		return constant(v), nil
	}
	if isOperators(d) {
		for e := range elements(d) {
			return compileOperation(e.Key(), e.Value())
		}
	}
	var computed []computedField
	for e := range elements(d) {
		x, err := compileExpression(e.Value())
		if err != nil {
			return nil, err
		}
		computed = append(computed, computedField{[]string{e.Key()}, x})
	}
	return func(d document) (value, bool) {
		return value{Type: bsoncore.TypeEmbeddedDocument, Data: build(func(dst []byte) []byte {
			for _, c := range computed {
				if v, ok := c.expr(d); ok {
					dst = bsoncore.AppendValueElement(dst, c.path[0], v)
				}
			}
			return dst
		})}, true
	}, nil
}

func compilePath(s string) (expression, error) {
	switch rest, isVariable := strings.CutPrefix(s, "$$"); {
	case s == "$$ROOT" || s == "$$CURRENT":
		return func(d document) (value, bool) { return value{Type: bsoncore.TypeEmbeddedDocument, Data: d}, true }, nil
	case isVariable && !strings.HasPrefix(rest, "ROOT."):
		return nil, unsupported("the variable %s", s)
	case isVariable:
		s = strings.TrimPrefix(rest, "ROOT")
	}
	path := splitPath(s[1:])
	return func(d document) (value, bool) {
		return get(d, path)
	}, nil
}

func compileOperation(op string, arg value) (expression, error) {
	if op == "$literal" {
		return constant(arg), nil
	}
	var args []expression
	list := []value{arg}
	if array, ok := arg.ArrayOK(); ok {
		list = nil
		for e := range elements(document(array)) {
			list = append(list, e.Value())
		}
	}
	for _, v := range list {
		x, err := compileExpression(v)
		if err != nil {
			return nil, err
		}
		args = append(args, x)
	}
	run, ok := operations[op]
	if !ok {
		return nil, unsupported("the expression %s", op)
	}
	if run.arity > 0 && run.arity != len(args) {
		return nil, errorf(16020, "Expression %s takes exactly %d arguments. %d were passed in.", op, run.arity, len(args))
	}
	return func(d document) (value, bool) {
		values := make([]value, len(args))
		for i, x := range args {
			if v, ok := x(d); ok {
				values[i] = v
			}
		}
		return run.run(values), true
	}, nil
}

func boolValue(b bool) value {
	return value{Type: bsoncore.TypeBoolean, Data: bsoncore.AppendBoolean(nil, b)}
}

func stringValue(s string) value {
	return value{Type: bsoncore.TypeString, Data: bsoncore.AppendString(nil, s)}
}

func comparison(holds func(int) bool) operation {
	return operation{2, func(v []value) value { return boolValue(holds(compare(v[0], v[1]))) }}
}

// operation is an operator of expressions. An argument that is missing has no type.
type operation struct {
	arity int // 0 takes any number
	run   func([]value) value
}

var operations = map[string]operation{
	"$eq":  comparison(func(c int) bool { return c == 0 }),
	"$ne":  comparison(func(c int) bool { return c != 0 }),
	"$gt":  comparison(func(c int) bool { return c > 0 }),
	"$gte": comparison(func(c int) bool { return c >= 0 }),
	"$lt":  comparison(func(c int) bool { return c < 0 }),
	"$lte": comparison(func(c int) bool { return c <= 0 }),
	"$not": {1, func(v []value) value { return boolValue(!truth(v[0], v[0].Type != 0)) }},
	"$and": {0, func(v []value) value {
		for _, x := range v {
			if !truth(x, x.Type != 0) {
				return boolValue(false)
			}
		}
		return boolValue(true)
	}},
	"$or": {0, func(v []value) value {
		for _, x := range v {
			if truth(x, x.Type != 0) {
				return boolValue(true)
			}
		}
		return boolValue(false)
	}},
	"$ifNull": {2, func(v []value) value {
		if v[0].Type == 0 || v[0].Type == bsoncore.TypeNull || v[0].Type == bsoncore.TypeUndefined {
			return v[1]
		}
		return v[0]
	}},
	"$type":     {1, func(v []value) value { return stringValue(typeName(v[0].Type)) }},
	"$bsonSize": {1, func(v []value) value { return int32Value(int32(len(v[0].Data))) }},
}
