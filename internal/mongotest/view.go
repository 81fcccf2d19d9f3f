package mongotest

import "go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

// views is where a database keeps the definitions of its views and time series. It shows up among the collections.
func (c *collection) views() namespace { return namespace{c.ns.db, "system.views"} }

func (s *Server) recordView(c *collection) error {
	views, err := s.forInsert(c.views())
	if err != nil {
		return err
	}
	return views.add(build(func(dst []byte) []byte {
		dst = bsoncore.AppendStringElement(dst, "_id", c.ns.String())
		if c.kind == typeTimeseries {
			return bsoncore.AppendStringElement(dst, "viewOn", c.buckets().coll)
		}
		return appendElements(dst, c.options)
	}), &record{})
}

func (s *Server) forgetView(c *collection) {
	views := s.collection(c.views())
	if c.kind == typeCollection || views == nil {
		return
	}
	if r := views.ids[string(appendIdentity(nil, stringValue(c.ns.String())))]; r != nil {
		views.delete(r)
	}
}

// derived are the documents of a view or a time series.
func (r *request) derived(c *collection, at *snapshot) ([]document, error) {
	if c.kind == typeTimeseries {
		next, err := r.read(c.buckets(), at, query{})
		if err != nil {
			return nil, err
		}
		buckets, err := collect(next)
		if err != nil {
			return nil, err
		}
		return unpack(c.options, buckets)
	}
	pipeline, _ := lookup(c.options, "pipeline")
	stages, err := stagesOf(pipeline)
	if err != nil {
		return nil, err
	}
	next, err := r.pipe(namespace{c.ns.db, text(c.options, "viewOn")}, at, stages)
	if err != nil {
		return nil, err
	}
	return collect(next)
}

// standIn is a collection for the time of one query.
func (c *collection) standIn(docs []document) *collection {
	x := &collection{ns: c.ns, kind: c.kind, indexes: []*index{idIndex(nil)}, live: len(docs)}
	for i, d := range docs {
		x.records = append(x.records, &record{seq: uint64(i + 1), doc: d})
	}
	return x
}
