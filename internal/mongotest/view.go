package mongotest

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
