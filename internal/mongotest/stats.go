package mongotest

import "go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

func scaleOf(d document) int64 {
	v, _ := lookup(d, "scale")
	n, _ := asInt(v)
	return max(n, 1)
}

func (c *collection) appendStats(dst []byte, scale int64) []byte {
	dst = appendCount(dst, "size", c.bytes/scale)
	dst = appendCount(dst, "count", int64(c.live))
	if c.live > 0 {
		dst = appendCount(dst, "avgObjSize", c.bytes/int64(c.live))
	}
	dst = appendCount(dst, "storageSize", c.bytes/scale)
	dst = bsoncore.AppendBooleanElement(dst, "capped", c.capped.on)
	dst = appendCount(dst, "nindexes", int64(len(c.indexes)))
	start, dst := bsoncore.AppendDocumentElementStart(dst, "indexSizes")
	for _, x := range c.indexes {
		dst = appendCount(dst, x.name, 0)
	}
	dst = end(dst, start)
	dst = appendCount(dst, "totalIndexSize", 0)
	dst = appendCount(dst, "totalSize", c.bytes/scale)
	return appendCount(dst, "scaleFactor", scale)
}

func collStats(r *request, dst []byte) ([]byte, error) {
	ns, err := r.namespace()
	if err != nil {
		return dst, err
	}
	s := r.server
	s.mu.RLock()
	defer s.mu.RUnlock()
	c := s.collection(ns)
	dst = bsoncore.AppendStringElement(dst, "ns", ns.String())
	switch {
	case c == nil:
		c = &collection{}
	case c.kind == typeView:
		return dst, errorf(CommandNotSupportedOnView, "Namespace %s is a view, not a collection", ns)
	case c.kind == typeTimeseries:
		c = s.collection(c.buckets())
	}
	return c.appendStats(dst, scaleOf(r.body)), nil
}

func collStatsStage(r *request, ns namespace, st stage) (stream, error) {
	c := r.server.collection(ns)
	if c == nil {
		return nil, errorf(NamespaceNotFound, "Collection [%s] not found.", ns)
	}
	spec := st.document()
	return listStream([]document{build(func(dst []byte) []byte {
		dst = bsoncore.AppendStringElement(dst, "ns", ns.String())
		dst = bsoncore.AppendStringElement(dst, "host", r.server.Address())
		if storage := subdocument(spec, "storageStats"); storage != nil {
			start, out := bsoncore.AppendDocumentElementStart(dst, "storageStats")
			dst = end(c.appendStats(out, scaleOf(storage)), start)
		}
		if subdocument(spec, "count") != nil {
			dst = appendCount(dst, "count", int64(c.live))
		}
		return dst
	})}), nil
}

func indexStatsStage(r *request, ns namespace, _ stage) (stream, error) {
	var docs []document
	if c := r.server.collection(ns); c != nil {
		for _, x := range c.indexes {
			docs = append(docs, build(func(dst []byte) []byte {
				dst = bsoncore.AppendStringElement(dst, "name", x.name)
				dst = bsoncore.AppendDocumentElement(dst, "key", x.key)
				dst = bsoncore.AppendStringElement(dst, "host", r.server.Address())
				return bsoncore.AppendDocumentElement(dst, "spec", x.spec)
			}))
		}
	}
	return listStream(docs), nil
}

func dbStats(r *request, dst []byte) ([]byte, error) {
	s := r.server
	s.mu.RLock()
	defer s.mu.RUnlock()
	var collections, views, objects, indexes, size int64
	if db := s.databases[r.db]; db != nil {
		for _, c := range db.colls {
			if c.kind == typeView {
				views++
				continue
			}
			collections++
			objects += int64(c.live)
			indexes += int64(len(c.indexes))
			size += c.bytes
		}
	}
	scale := scaleOf(r.body)
	dst = bsoncore.AppendStringElement(dst, "db", r.db)
	dst = appendCount(dst, "collections", collections)
	dst = appendCount(dst, "views", views)
	dst = appendCount(dst, "objects", objects)
	dst = bsoncore.AppendDoubleElement(dst, "avgObjSize", float64(size)/float64(max(objects, 1)))
	dst = bsoncore.AppendDoubleElement(dst, "dataSize", float64(size/scale))
	dst = bsoncore.AppendDoubleElement(dst, "storageSize", float64(size/scale))
	dst = appendCount(dst, "indexes", indexes)
	dst = bsoncore.AppendDoubleElement(dst, "indexSize", 0)
	dst = bsoncore.AppendDoubleElement(dst, "totalSize", float64(size/scale))
	return bsoncore.AppendDoubleElement(dst, "scaleFactor", float64(scale)), nil
}
