package mongotest

import (
	"cmp"
	"hash/fnv"
	"slices"

	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

func listDatabases(r *request, dst []byte) ([]byte, error) {
	match, err := compileFilter(subdocument(r.body, "filter"))
	if err != nil {
		return dst, err
	}
	s := r.server
	s.mu.RLock()
	defer s.mu.RUnlock()
	var docs []document
	total := int64(0)
	for _, name := range s.databaseNames() {
		size := int64(0)
		for _, c := range s.databases[name].colls {
			size += c.bytes
		}
		d := build(func(dst []byte) []byte {
			dst = bsoncore.AppendStringElement(dst, "name", name)
			if flag(r.body, "nameOnly") {
				return dst
			}
			dst = bsoncore.AppendInt64Element(dst, "sizeOnDisk", size)
			return bsoncore.AppendBooleanElement(dst, "empty", size == 0)
		})
		if match == nil || match(d) {
			docs = append(docs, d)
			total += size
		}
	}
	dst = appendDocuments(dst, "databases", docs)
	if !flag(r.body, "nameOnly") {
		dst = bsoncore.AppendInt64Element(dst, "totalSize", total)
	}
	return dst, nil
}

func (s *Server) databaseNames() []string {
	var names []string
	for name := range s.databases {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func dropDatabase(r *request, dst []byte) ([]byte, error) {
	s := r.server
	s.mu.Lock()
	defer s.mu.Unlock()
	db := s.databases[r.db]
	if db == nil {
		return dst, nil
	}
	for _, name := range db.names() {
		s.dropCollection(db.colls[name])
	}
	return bsoncore.AppendStringElement(dst, "dropped", r.db), nil
}

func listCollections(r *request, dst []byte) ([]byte, error) {
	match, err := compileFilter(subdocument(r.body, "filter"))
	if err != nil {
		return dst, err
	}
	size, err := sizeOfCursor(r.body)
	if err != nil {
		return dst, err
	}
	s := r.server
	s.mu.RLock()
	defer s.mu.RUnlock()
	var docs []document
	if db := s.databases[r.db]; db != nil {
		names, exact := namesIn(subdocument(r.body, "filter"))
		if !exact {
			names = db.names()
			// The real server's order is none that a client could know.
			slices.SortFunc(names, func(a, b string) int { return cmp.Compare(fnv32(a), fnv32(b)) })
		}
		for _, name := range names {
			c := db.colls[name]
			if c == nil || s.hides(c) {
				continue
			}
			if d := s.describe(c, false); match != nil && !match(d) {
				continue
			}
			docs = append(docs, s.describe(c, flag(r.body, "nameOnly")))
		}
	}
	return r.appendFirst(dst, r.listCursor(namespace{r.db, "$cmd.listCollections"}, docs), size, false)
}

func fnv32(s string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(s)) // never fails
	return h.Sum32()
}

// namesIn returns the names that a filter of listCollections asks for, where it asks for no more than these: like the real
// server, this one then does not go through all collections.
func namesIn(filter document) (names []string, exact bool) {
	v, _ := lookup(filter, "name")
	if name, ok := v.StringValueOK(); ok {
		return []string{name}, true
	}
	d, _ := v.DocumentOK()
	in, ok := lookup(d, "$in")
	array, isArray := in.ArrayOK()
	if !ok || !isArray {
		return nil, false
	}
	for e := range elements(document(array)) {
		name, ok := e.Value().StringValueOK()
		if !ok {
			return nil, false
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names), true
}

// sizeOfCursor is the size of the first batch for commands that take it in a document of its own.
func sizeOfCursor(body document) (int, error) {
	return sizeOfFirst(subdocument(body, "cursor"))
}

// describe is a collection as listCollections shows it.
func (s *Server) describe(c *collection, nameOnly bool) document {
	return build(func(dst []byte) []byte {
		dst = bsoncore.AppendStringElement(dst, "name", c.ns.coll)
		dst = bsoncore.AppendStringElement(dst, "type", c.kind)
		if nameOnly {
			return dst
		}
		dst = bsoncore.AppendDocumentElement(dst, "options", c.options)
		info, dst := bsoncore.AppendDocumentElementStart(dst, "info")
		dst = bsoncore.AppendBooleanElement(dst, "readOnly", c.kind == typeView)
		if c.kind == typeCollection || c.kind == typeTimeseries && s.version.holdsBuckets() {
			dst = bsoncore.AppendBinaryElement(dst, "uuid", 4, c.uuid[:])
		}
		dst = end(dst, info)
		if id := c.indexNamed("_id_"); id != nil && !c.clustered {
			dst = bsoncore.AppendDocumentElement(dst, "idIndex", id.spec)
		}
		return dst
	})
}

func drop(r *request, dst []byte) ([]byte, error) {
	ns, err := r.namespace()
	if err != nil {
		return dst, err
	}
	s := r.server
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.collection(ns)
	if c == nil {
		if s.version.major >= 7 {
			return dst, nil // since 7.0 there is nothing wrong with it
		}
		return dst, errorf(NamespaceNotFound, "ns not found")
	}
	dst = appendCount(dst, "nIndexesWas", int64(len(c.indexes)))
	dst = bsoncore.AppendStringElement(dst, "ns", ns.String())
	s.dropCollection(c)
	if c.kind == typeTimeseries {
		if b := s.collection(c.buckets()); b != nil {
			s.dropCollection(b)
		}
	}
	return dst, nil
}

func renameCollection(r *request, dst []byte) ([]byte, error) {
	from, to, err := r.renameArguments()
	if err != nil {
		return dst, err
	}
	s := r.server
	s.mu.Lock()
	defer s.mu.Unlock()
	c, target := s.collection(from), s.collection(to)
	switch {
	case c == nil:
		return dst, errorf(NamespaceNotFound, "Source collection %s does not exist", from)
	case c.kind != typeCollection:
		return dst, errorf(CommandNotSupportedOnView, "cannot rename view: %s", from)
	case target != nil && target.kind != typeCollection:
		return dst, errorf(NamespaceExists, "a view already exists with that name: %s", to)
	case target != nil && !flag(r.body, "dropTarget"):
		return dst, errorf(NamespaceExists, "target namespace exists")
	case target != nil:
		s.dropCollection(target)
	}
	db := s.databases[from.db]
	delete(db.colls, from.coll)
	c.ns = to // which ends its cursors
	db.colls[to.coll] = c
	s.tick()
	return dst, nil
}

func (r *request) renameArguments() (from, to namespace, err error) {
	from.db, from.coll = splitNamespace(text(r.body, r.name))
	to.db, to.coll = splitNamespace(text(r.body, "to"))
	for _, ns := range []namespace{from, to} {
		if err := ns.check(); err != nil {
			return from, to, err
		}
		if err := ns.checkLength(); err != nil {
			return from, to, err
		}
	}
	switch {
	case from == to:
		err = errorf(IllegalOperation, "Can't rename a collection to itself")
	case from.db != to.db:
		err = unsupported("renaming from one database to another")
	case isSystem(from.coll) || isSystem(to.coll):
		err = errorf(IllegalOperation, "renaming system collection or renaming to system collection is not allowed")
	}
	if err == nil && to.writable() != nil {
		err = errorf(IllegalOperation, "error with target namespace: Invalid namespace: %s", to)
	}
	return from, to, err
}
