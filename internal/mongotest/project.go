package mongotest

import (
	"strings"

	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// projection picks fields of documents. Nil keeps all.
type projection func(document) document

func (p projection) apply(d document) document {
	if p == nil {
		return d
	}
	return p(d)
}

func (p projection) stream(next stream) stream {
	if p == nil {
		return next
	}
	return func() (document, error) {
		d, err := next()
		if d == nil || err != nil {
			return nil, err
		}
		return p(d), nil
	}
}

// fields is a projection as a tree; a leaf is a field that is named.
type fields map[string]fields

func (f fields) put(path []string) {
	for _, part := range path {
		if f[part] == nil {
			f[part] = fields{}
		}
		f = f[part]
	}
}

type computedField struct {
	path []string
	expr expression
}

func compileProjection(spec document) (projection, error) {
	if len(spec) <= 5 {
		return nil, nil
	}
	tree := fields{}
	var computed []computedField
	including, excluding, withID := false, false, true
	for e := range elements(spec) {
		key, v := e.Key(), e.Value()
		path := splitPath(key)
		isFlag := rank(v.Type) == 10 || v.Type == bsoncore.TypeBoolean
		switch {
		case strings.HasSuffix(key, ".$") || strings.HasPrefix(key, "$"):
			return nil, unsupported("the projection %s", key)
		case !isFlag:
			x, err := compileExpression(v)
			if err != nil {
				return nil, err
			}
			computed = append(computed, computedField{path, x})
			including = true
		case key == "_id":
			withID = truth(v, true)
		case truth(v, true):
			including = true
			tree.put(path)
		default:
			excluding = true
			tree.put(path)
		}
	}
	if including && excluding {
		return nil, errorf(invalidPipelineProjection, "Cannot do exclusion in inclusion projection")
	}
	if onlyID := len(tree) == 0 && len(computed) == 0; excluding || onlyID && !withID {
		if !withID {
			tree.put([]string{"_id"})
		}
		return func(d document) document { return tree.exclude(d) }, nil
	}
	if withID {
		tree.put([]string{"_id"})
	}
	return func(d document) document {
		out := tree.include(d)
		for _, c := range computed {
			if v, ok := c.expr(d); ok {
				out, _ = setPath(out, c.path, v) // a path that does not fit is left out
			}
		}
		return out
	}, nil
}

func (f fields) include(d document) document {
	return build(func(dst []byte) []byte {
		for e := range elements(d) {
			sub, ok := f[e.Key()]
			switch v := e.Value(); {
			case !ok:
			case len(sub) == 0:
				dst = append(dst, e...)
			case v.Type == bsoncore.TypeEmbeddedDocument:
				dst = bsoncore.AppendDocumentElement(dst, e.Key(), sub.include(document(v.Data)))
			case v.Type == bsoncore.TypeArray:
				dst = bsoncore.AppendArrayElement(dst, e.Key(), sub.each(document(v.Data), fields.include, false))
			}
		}
		return dst
	})
}

func (f fields) exclude(d document) document {
	return build(func(dst []byte) []byte {
		for e := range elements(d) {
			sub, ok := f[e.Key()]
			switch v := e.Value(); {
			case !ok:
				dst = append(dst, e...)
			case len(sub) == 0:
			case v.Type == bsoncore.TypeEmbeddedDocument:
				dst = bsoncore.AppendDocumentElement(dst, e.Key(), sub.exclude(document(v.Data)))
			case v.Type == bsoncore.TypeArray:
				dst = bsoncore.AppendArrayElement(dst, e.Key(), sub.each(document(v.Data), fields.exclude, true))
			default:
				dst = append(dst, e...)
			}
		}
		return dst
	})
}

// each applies a projection to the documents of an array, and keeps or drops what else is in it.
func (f fields) each(array document, apply func(fields, document) document, keepOthers bool) document {
	return build(func(dst []byte) []byte {
		n := 0
		for e := range elements(array) {
			v := e.Value()
			if v.Type == bsoncore.TypeEmbeddedDocument {
				dst = append(appendIndexKey(dst, v.Type, n), apply(f, document(v.Data))...)
				n++
			} else if keepOthers {
				dst = append(appendIndexKey(dst, v.Type, n), v.Data...)
				n++
			}
		}
		return dst
	})
}
