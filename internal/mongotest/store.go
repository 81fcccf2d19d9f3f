package mongotest

import (
	"crypto/rand"
	"slices"
	"strings"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

const maxNamespace = 255

type namespace struct{ db, coll string }

func (n namespace) String() string {
	if n.coll == "" {
		return n.db
	}
	return n.db + "." + n.coll
}

func (n namespace) check() error {
	switch {
	case n.db == "" || strings.ContainsAny(n.db, "/\\. \"$\x00") || len(n.db) >= 64:
		return errorf(InvalidNamespace, "Invalid database name: '%s'", n.db)
	case n.coll == "" || n.coll[0] == '.' || strings.ContainsAny(n.coll, "$\x00"):
		return errorf(InvalidNamespace, "Invalid namespace specified '%s.%s'", n.db, n.coll)
	}
	return nil
}

// creatable refuses what users may not create a collection as. It is for commands: the server itself may.
func (n namespace) creatable() error {
	switch {
	case isSystem(n.coll) && !slices.Contains([]string{"system.js", "system.users", "system.views", "system.profile"}, n.coll) &&
		!strings.HasPrefix(n.coll, bucketsPrefix):
		return errorf(InvalidNamespace, "Invalid system namespace: %s", n)
	case strings.Contains(n.coll, ".system."):
		return errorf(BadValue, "Invalid namespace: %s", n)
	}
	return nil
}

// writable refuses what users may not write to.
func (n namespace) writable() error {
	if n.coll == "system.views" || n.coll == "system.profile" {
		return errorf(InvalidNamespace, "cannot write to %s", n)
	}
	return n.creatable()
}

// toWrite is the namespace of a command that writes documents.
func (r *request) toWrite() (namespace, error) {
	ns, err := r.namespace()
	if err == nil {
		err = ns.writable()
	}
	return ns, err
}

func (n namespace) checkLength() error {
	if len(n.String()) > maxNamespace {
		return errorf(InvalidNamespace, "Fully qualified namespace is too long. Namespace: %s Max: %d", n, maxNamespace)
	}
	return nil
}

type database struct {
	name  string
	colls map[string]*collection
}

func (d *database) names() []string {
	var names []string
	for name := range d.colls {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// The types of collection, as listCollections names them.
const (
	typeCollection = "collection"
	typeView       = "view"
	typeTimeseries = "timeseries"
)

// record is the place of a document. Its number only grows, so a cursor can find its place again.
type record struct {
	seq uint64
	doc document // nil once deleted
}

type collection struct {
	ns      namespace
	kind    string
	uuid    [16]byte
	options document
	indexes []*index
	// clustered collections lie in order of _id, and have no index on it of their own.
	clustered bool

	dropped bool

	records []*record // in order of insertion
	live    int
	bytes   int64
	nextSeq uint64
	epoch   int                // counts when records were moved together, so that cursors search for their place
	ids     map[string]*record // by appendIdentity of _id; nil in a snapshot

	validator validator
	capped    capped

	orderMu sync.Mutex
	ordered []*record // by _id, built when asked for; nil when something was inserted since
}

type capped struct {
	on        bool
	size, max int64
}

func newUUID() (id [16]byte) {
	_, _ = rand.Read(id[:]) // never fails
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}

func (s *Server) collection(ns namespace) *collection {
	if db := s.databases[ns.db]; db != nil {
		return db.colls[ns.coll]
	}
	return nil
}

// addCollection creates a collection that is known not to exist.
func (s *Server) addCollection(ns namespace, kind string, options document) (*collection, error) {
	if err := ns.checkLength(); err != nil {
		return nil, err
	}
	db := s.databases[ns.db]
	if db == nil {
		for name := range s.databases {
			if strings.EqualFold(name, ns.db) {
				return nil, errorf(DatabaseDifferCase, "db already exists with different case already have: [%s] "+
					"trying to create [%s]", name, ns.db)
			}
		}
		db = &database{name: ns.db, colls: map[string]*collection{}}
	}
	c := &collection{ns: ns, kind: kind, uuid: newUUID(), ids: map[string]*record{}}
	if err := c.configure(options); err != nil {
		return nil, err
	}
	if kind == typeCollection {
		c.indexes, c.clustered = firstIndexes(options)
	}
	s.databases[ns.db] = db
	db.colls[ns.coll] = c
	s.tick()
	if kind == typeView || kind == typeTimeseries && !s.version.holdsBuckets() {
		return c, s.recordView(c)
	}
	return c, nil
}

// configure takes over the options of create, or those that collMod changed.
func (c *collection) configure(options document) error {
	v, err := newValidator(options)
	if err != nil {
		return err
	}
	c.options, c.validator = options, v
	if flag(options, "capped") {
		size, _ := lookup(options, "size")
		most, _ := lookup(options, "max")
		c.capped.on = true
		c.capped.size, _ = asInt(size)
		c.capped.max, _ = asInt(most)
	}
	return nil
}

// forInsert is the collection to write to, created if need be.
func (s *Server) forInsert(ns namespace) (*collection, error) {
	if c := s.collection(ns); c != nil {
		if c.kind == typeTimeseries {
			return c, nil
		}
		return c, c.mustHoldDocuments()
	}
	return s.addCollection(ns, typeCollection, emptyDocument)
}

func (c *collection) mustHoldDocuments() error {
	switch c.kind {
	case typeView:
		return errorf(CommandNotSupportedOnView, "Namespace %s is a view, not a collection", c.ns)
	case typeTimeseries:
		return unsupported("changing measurements; write to system.buckets.%s", c.ns.coll)
	}
	return nil
}

func (s *Server) dropCollection(c *collection) {
	db := s.databases[c.ns.db]
	delete(db.colls, c.ns.coll)
	c.dropped = true
	s.forgetView(c)
	if len(db.colls) == 0 {
		delete(s.databases, db.name)
	}
	s.tick()
}

func idOf(d document) value {
	v, _ := lookup(d, "_id")
	return v
}

// normalize gives a document its _id, as its first element.
func normalize(d document) (document, error) {
	id, ok := lookup(d, "_id")
	if !ok {
		oid := bson.NewObjectID()
		return build(func(dst []byte) []byte {
			return appendElements(bsoncore.AppendObjectIDElement(dst, "_id", oid), d)
		}), nil
	}
	switch id.Type {
	case bsoncore.TypeArray, bsoncore.TypeRegex, bsoncore.TypeUndefined:
		return nil, errorf(InvalidIDField, "The '_id' value cannot be of type %s", typeName(id.Type))
	}
	if len(d) > maxDocumentSize {
		return nil, errorf(BSONObjectTooLarge, "object to insert too large. size in bytes: %d, max size: %d", len(d),
			maxDocumentSize)
	}
	if string(d[5:9]) == "_id\x00" {
		return d, nil
	}
	return build(func(dst []byte) []byte {
		return appendElements(bsoncore.AppendValueElement(dst, "_id", id), without(d, "_id"))
	}), nil
}

// add stores a normalized document.
func (c *collection) add(d document, r *record) error {
	var buf [64]byte
	id := appendIdentity(buf[:0], idOf(d))
	if old, ok := c.ids[string(id)]; ok {
		return c.duplicate("_id_", keyOnID, []value{idOf(old.doc)})
	}
	if err := c.checkUnique(d, nil); err != nil {
		return err
	}
	c.nextSeq++
	r.seq, r.doc = c.nextSeq, d
	c.ids[string(id)] = r
	c.records = append(c.records, r)
	c.live++
	c.bytes += int64(len(d))
	c.ordered = nil
	c.index(r)
	for c.capped.on && (c.bytes > c.capped.size || c.capped.max > 0 && int64(c.live) > c.capped.max) && c.live > 1 {
		c.delete(c.first())
	}
	return nil
}

func (c *collection) first() *record {
	i := slices.IndexFunc(c.records, func(r *record) bool { return r.doc != nil })
	return c.records[i]
}

// replace puts another document with the same _id in a record's place.
func (c *collection) replace(r *record, d document) error {
	if err := c.checkUnique(d, r); err != nil {
		return err
	}
	c.unindex(r)
	c.bytes += int64(len(d) - len(r.doc))
	r.doc = d
	c.index(r)
	return nil
}

func (c *collection) delete(r *record) {
	c.unindex(r)
	delete(c.ids, string(appendIdentity(nil, idOf(r.doc))))
	c.live--
	c.bytes -= int64(len(r.doc))
	r.doc = nil
	if len(c.records) > 64 && c.live < len(c.records)/2 {
		records := make([]*record, 0, c.live)
		for _, r := range c.records {
			if r.doc != nil {
				records = append(records, r)
			}
		}
		c.records, c.ordered = records, nil
		c.epoch++
	}
}

// byID is every record in order of _id.
func (c *collection) byID() []*record {
	c.orderMu.Lock()
	defer c.orderMu.Unlock()
	if c.ordered != nil {
		return c.ordered
	}
	type keyed struct {
		id value
		r  *record
	}
	list := make([]keyed, 0, c.live)
	for _, r := range c.records {
		if r.doc != nil {
			list = append(list, keyed{idOf(r.doc), r})
		}
	}
	slices.SortStableFunc(list, func(a, b keyed) int { return compare(a.id, b.id) })
	c.ordered = make([]*record, len(list))
	for i, k := range list {
		c.ordered[i] = k.r
	}
	return c.ordered
}
