package mongotest

import (
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

const findFields = `filter sort projection hint skip limit batchSize singleBatch min max returnKey showRecordId tailable
	oplogReplay noCursorTimeout awaitData allowPartialResults collation allowDiskUse let`

func find(r *request, dst []byte) ([]byte, error) {
	ns, err := r.namespace()
	if err != nil {
		return dst, err
	}
	for _, key := range []string{"tailable", "returnKey", "showRecordId"} {
		if flag(r.body, key) {
			return dst, unsupported("find with %s", key)
		}
	}
	project, err := compileProjection(subdocument(r.body, "projection"))
	if err != nil {
		return dst, err
	}
	skip, limit, err := r.skipAndLimit()
	if err != nil {
		return dst, err
	}
	size, err := sizeOfFirst(r.body)
	if err != nil {
		return dst, err
	}
	s := r.server
	s.mu.RLock()
	defer s.mu.RUnlock()
	at, err := s.readTime(r)
	if err != nil {
		return dst, err
	}
	next, err := r.read(ns, at, query{
		filter: subdocument(r.body, "filter"),
		sort:   subdocument(r.body, "sort"),
		hint:   hintOf(r.body),
		min:    subdocument(r.body, "min"),
		max:    subdocument(r.body, "max"),
	})
	if err != nil {
		return dst, err
	}
	next = project.stream(limited(skipped(next, skip), limit))
	single := flag(r.body, "singleBatch")
	return r.appendFirst(dst, &cursor{ns: ns, at: at, by: r, next: next}, size, single)
}

func (r *request) skipAndLimit() (skip, limit int64, err error) {
	for key, to := range map[string]*int64{"skip": &skip, "limit": &limit} {
		v, ok := r.lookup(key)
		if !ok || v.Type == bsoncore.TypeNull {
			continue
		}
		if *to, ok = asInt(v); !ok || *to < 0 && r.name != "count" {
			return 0, 0, errorf(51024, "BSON field '%s' value must be >= 0, actual value '%s'", key, show(v))
		}
	}
	return skip, max(limit, -limit), nil
}

// read is what a query finds in a collection, a view or a time series. One that does not exist is empty.
func (r *request) read(ns namespace, at *snapshot, q query) (stream, error) {
	c := at.collection(r.server, ns)
	if c == nil {
		_, err := compileFilter(q.filter)
		return listStream(nil), err
	}
	if at != nil && flag(c.options, "capped") && r.server.version.major < 8 {
		return nil, errorf(SnapshotUnavailable, "Reading from capped collections with readConcern snapshot is not supported")
	}
	if c.kind != typeCollection {
		docs, err := r.derived(c, at)
		if err != nil {
			return nil, err
		}
		c = c.standIn(docs)
		q.hint = value{}
	}
	next, err := c.plan(q)
	if err != nil {
		return nil, err
	}
	return r.checked(c, next), nil
}

// checked gives the documents of a scan. It fails once the collection is no longer what it was, and at a document that a
// fault makes unreadable.
func (r *request) checked(c *collection, next scan) stream {
	ns := c.ns
	return func() (document, error) {
		if c.dropped {
			return nil, errorf(QueryPlanKilled, "collection dropped. UUID %x", c.uuid)
		}
		if c.ns != ns {
			return nil, errorf(QueryPlanKilled, "collection renamed from '%s' to '%s'. UUID %x", ns, c.ns, c.uuid)
		}
		rec, err := next()
		if rec == nil || err != nil {
			return nil, err
		}
		if r.faults.documents != nil {
			if err := r.faults.documents.check(rec.doc); err != nil {
				return nil, err
			}
		}
		return rec.doc, nil
	}
}

func skipped(next stream, n int64) stream {
	if n == 0 {
		return next
	}
	return func() (document, error) {
		for ; n > 0; n-- {
			if d, err := next(); d == nil || err != nil {
				return nil, err
			}
		}
		return next()
	}
}

func limited(next stream, n int64) stream {
	if n == 0 {
		return next
	}
	return func() (document, error) {
		if n == 0 {
			return nil, nil
		}
		n--
		return next()
	}
}

func collect(next stream) ([]document, error) {
	var docs []document
	for {
		d, err := next()
		if d == nil || err != nil {
			return docs, err
		}
		docs = append(docs, d)
	}
}

func count(r *request, dst []byte) ([]byte, error) {
	ns, err := r.namespace()
	if err != nil {
		return dst, err
	}
	skip, limit, err := r.skipAndLimit()
	if err != nil {
		return dst, err
	}
	s := r.server
	s.mu.RLock()
	defer s.mu.RUnlock()
	filter := subdocument(r.body, "query")
	var n int64
	if c := s.collection(ns); c != nil && c.kind == typeCollection && len(filter) <= 5 {
		n = max(0, int64(c.live)-skip) // the collection knows, and no document is read
	} else {
		next, err := r.read(ns, nil, query{filter: filter, hint: hintOf(r.body)})
		if err != nil {
			return dst, err
		}
		docs, err := collect(skipped(next, skip))
		if err != nil {
			return dst, err
		}
		n = int64(len(docs))
	}
	if limit > 0 {
		n = min(n, limit)
	}
	return appendCount(dst, "n", n), nil
}

func distinct(r *request, dst []byte) ([]byte, error) {
	ns, err := r.namespace()
	if err != nil {
		return dst, err
	}
	s := r.server
	s.mu.RLock()
	defer s.mu.RUnlock()
	at, err := s.readTime(r)
	if err != nil {
		return dst, err
	}
	next, err := r.read(ns, at, query{filter: subdocument(r.body, "query"), hint: hintOf(r.body)})
	if err != nil {
		return dst, err
	}
	path := splitPath(text(r.body, "key"))
	seen := map[string]bool{}
	var values []value
	for {
		d, err := next()
		if err != nil {
			return dst, err
		}
		if d == nil {
			return at.append(bsoncore.BuildArrayElement(dst, "values", values...)), nil
		}
		found, present, _ := indexed(d, path)
		for _, v := range found {
			if id := string(appendIdentity(nil, v)); present && v.Type != bsoncore.TypeUndefined && !seen[id] {
				seen[id] = true
				values = append(values, v)
			}
		}
	}
}
