package mongotest

import "go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

// accumulator gathers one field of a group. It returns the value so far with another one taken in.
type accumulator func(so, v value, found bool) (value, error)

var accumulators = map[string]accumulator{
	"$sum": func(so, v value, found bool) (value, error) {
		if so.Type == 0 {
			so = int32Value(0)
		}
		if !found || rank(v.Type) != 10 {
			return so, nil
		}
		return add(so, v)
	},
	"$min": func(so, v value, found bool) (value, error) {
		if found && (so.Type == 0 || compare(v, so) < 0) {
			return v, nil
		}
		return so, nil
	},
	"$max": func(so, v value, found bool) (value, error) {
		if found && (so.Type == 0 || compare(v, so) > 0) {
			return v, nil
		}
		return so, nil
	},
	"$first": func(so, v value, _ bool) (value, error) {
		if so.Type == 0 {
			return v, nil
		}
		return so, nil
	},
}

type groupField struct {
	name       string
	expr       expression
	accumulate accumulator
}

type group struct {
	id     value
	values []value
}

func groupStage(next stream, s stage) (stream, error) {
	var id expression
	var gathered []groupField
	for e := range elements(s.document()) {
		if e.Key() == "_id" {
			x, err := compileExpression(e.Value())
			if err != nil {
				return nil, err
			}
			id = x
			continue
		}
		f, err := compileGroupField(e)
		if err != nil {
			return nil, err
		}
		gathered = append(gathered, f)
	}
	if id == nil {
		return nil, errorf(15955, "a group specification must include an _id")
	}
	return whenCalled(func() ([]document, error) {
		groups, err := gather(next, id, gathered)
		if err != nil {
			return nil, err
		}
		var docs []document
		for _, g := range groups {
			docs = append(docs, g.document(gathered))
		}
		return docs, nil
	}), nil
}

func compileGroupField(e element) (groupField, error) {
	spec, _ := e.Value().DocumentOK()
	for op := range elements(spec) {
		accumulate, ok := accumulators[op.Key()]
		if !ok {
			return groupField{}, unsupported("the accumulator %s", op.Key())
		}
		x, err := compileExpression(op.Value())
		return groupField{e.Key(), x, accumulate}, err
	}
	return groupField{}, errorf(40234, "The field '%s' must be an accumulator object", e.Key())
}

// gather reads all documents into groups, in the order in which these first appear.
func gather(next stream, id expression, gathered []groupField) ([]*group, error) {
	known := map[string]*group{}
	var groups []*group
	for {
		d, err := next()
		if d == nil || err != nil {
			return groups, err
		}
		v, ok := id(d)
		if !ok {
			v = nullValue
		}
		key := string(appendIdentity(nil, v))
		g := known[key]
		if g == nil {
			g = &group{id: v, values: make([]value, len(gathered))}
			known[key] = g
			groups = append(groups, g)
		}
		for i, f := range gathered {
			v, found := f.expr(d)
			if g.values[i], err = f.accumulate(g.values[i], v, found); err != nil {
				return nil, err
			}
		}
	}
}

func (g *group) document(gathered []groupField) document {
	return build(func(dst []byte) []byte {
		dst = bsoncore.AppendValueElement(dst, "_id", g.id)
		for i, f := range gathered {
			v := g.values[i]
			if v.Type == 0 {
				v = nullValue
			}
			dst = bsoncore.AppendValueElement(dst, f.name, v)
		}
		return dst
	})
}
