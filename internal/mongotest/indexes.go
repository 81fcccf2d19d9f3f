package mongotest

import (
	"bytes"
	"errors"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

func listIndexes(r *request, dst []byte) ([]byte, error) {
	ns, err := r.namespace()
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
	c := s.collection(ns)
	if c == nil {
		return dst, errorf(NamespaceNotFound, "ns does not exist: %s", ns)
	}
	if c.kind == typeView {
		return dst, errorf(CommandNotSupportedOnView, "Namespace %s is a view, not a collection", ns)
	}
	var docs []document
	for _, x := range c.indexes {
		docs = append(docs, x.spec)
	}
	return r.appendFirst(dst, r.listCursor(ns, docs), size, false)
}

func createIndexes(r *request, dst []byte) ([]byte, error) {
	ns, err := r.toWrite()
	if err != nil {
		return dst, err
	}
	specs, err := r.documents("indexes")
	if err != nil {
		return dst, err
	}
	if len(specs) == 0 {
		return dst, errorf(BadValue, "Must specify at least one index to create")
	}
	sent := slices.Clone(specs)
	for i, spec := range specs {
		if specs[i], err = normalizeIndex(spec, flag(r.body, "ignoreUnknownIndexOptions")); err != nil {
			return dst, err
		}
	}
	s := r.server
	s.mu.Lock()
	defer s.mu.Unlock()
	created := s.collection(ns) == nil
	c, err := s.forInsert(ns)
	if err != nil {
		return dst, err
	}
	for i, spec := range specs {
		specs[i] = inheritCollation(spec, sent[i], c.options)
	}
	before := len(c.indexes)
	added, err := c.buildIndexes(specs)
	if err != nil {
		if created {
			s.dropCollection(c)
		}
		return dst, err
	}
	c.indexes = append(c.indexes[:before:before], added...)
	s.tick()
	dst = appendCount(dst, "numIndexesBefore", int64(before))
	dst = appendCount(dst, "numIndexesAfter", int64(len(c.indexes)))
	if len(added) == 0 {
		return bsoncore.AppendStringElement(dst, "note", "all indexes already exist"), nil
	}
	return bsoncore.AppendBooleanElement(dst, "createdCollectionAutomatically", created), nil
}

// buildIndexes makes the indexes that are not there yet: all of them, or none.
func (c *collection) buildIndexes(specs []document) ([]*index, error) {
	var added []*index
	for _, spec := range specs {
		x, err := newIndex(spec)
		if err != nil {
			return nil, err
		}
		if flag(spec, "clustered") && !c.clustered {
			return nil, errorf(notClustered, "Cannot convert an existing collection to a clustered collection. index spec: %s", spec)
		}
		exists, err := conflict(append(c.indexes[:len(c.indexes):len(c.indexes)], added...), x)
		if err != nil {
			return nil, err
		}
		if exists {
			continue
		}
		if err := x.fill(c); err != nil {
			var e *Error
			if errors.As(err, &e) {
				e.Message = "Index build failed: " + c.ns.String() + ": Collection " + c.ns.String() +
					" :: caused by :: " + e.Message
			}
			return nil, err
		}
		added = append(added, x)
	}
	return added, nil
}

// conflict tells whether an index exists already, or stands in the way of the new one.
func conflict(existing []*index, x *index) (exists bool, err error) {
	if bytes.Equal(x.key, keyOnID) {
		return true, nil
	}
	for _, old := range existing {
		if old.name != x.name {
			continue
		}
		if !old.sameIdentity(x) {
			return false, errorf(IndexKeySpecsConflict, "An existing index has the same name as the requested index. When index "+
				"names are not specified, they are auto generated and can cause conflicts. Please refer to our documentation. "+
				"Requested index: %s, existing index: %s", x.spec, old.spec)
		}
		if !old.sameOptions(x) {
			return false, errorf(IndexOptionsConflict, "An equivalent index already exists with the same name but different "+
				"options. Requested index: %s, existing index: %s", x.spec, old.spec)
		}
		return true, nil
	}
	for _, old := range existing {
		if !old.sameIdentity(x) {
			continue
		}
		if old.sameOptions(x) {
			return false, errorf(IndexOptionsConflict, "Index already exists with a different name: %s", old.name)
		}
		return false, errorf(IndexOptionsConflict, "An equivalent index already exists with a different name and options. "+
			"Requested index: %s, existing index: %s", x.spec, old.spec)
	}
	return false, nil
}

// sameIdentity tells whether two indexes may not stand beside each other: since 5.0, those which differ in none of these.
func (x *index) sameIdentity(o *index) bool {
	return compareDocuments(x.key, o.key) == 0 && x.unique == o.unique && x.sparse == o.sparse && samePart(x.spec, o.spec, "collation") &&
		samePart(x.spec, o.spec, "partialFilterExpression") && samePart(x.spec, o.spec, "wildcardProjection")
}

func samePart(a, b document, key string) bool {
	return bytes.Equal(subdocument(a, key), subdocument(b, key))
}

func (x *index) sameOptions(o *index) bool {
	ttl, hasTTL := lookup(x.spec, "expireAfterSeconds")
	otherTTL, otherHasTTL := lookup(o.spec, "expireAfterSeconds")
	return hasTTL == otherHasTTL && (!hasTTL || compare(ttl, otherTTL) == 0) && samePart(x.spec, o.spec, "weights")
}

// What an index specification may say.
var indexFields = strings.Fields(`v key name unique sparse background expireAfterSeconds partialFilterExpression collation
	hidden storageEngine weights default_language language_override textIndexVersion 2dsphereIndexVersion bits min max
	bucketSize wildcardProjection prepareUnique clustered dropDups ns`)

func dropIndexes(r *request, dst []byte) ([]byte, error) {
	ns, err := r.namespace()
	if err != nil {
		return dst, err
	}
	s := r.server
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.collection(ns)
	if c == nil {
		return dst, errorf(NamespaceNotFound, "ns not found %s", ns)
	}
	if c.kind == typeView {
		return dst, c.mustHoldDocuments()
	}
	which, _ := r.lookup("index")
	keep, err := c.keptIndexes(which)
	if err != nil {
		return dst, err
	}
	dst = appendCount(dst, "nIndexesWas", int64(len(c.indexes)))
	c.indexes = keep
	s.tick()
	return dst, nil
}

func (c *collection) keptIndexes(which value) ([]*index, error) {
	var keep []*index
	name, _ := which.StringValueOK()
	for _, x := range c.indexes {
		if name == "*" && bytes.Equal(x.key, keyOnID) || name != "*" && !x.isOneOf(which) {
			keep = append(keep, x)
		}
	}
	onID := func(x *index) bool { return bytes.Equal(x.key, keyOnID) }
	switch {
	case slices.ContainsFunc(c.indexes, onID) && !slices.ContainsFunc(keep, onID):
		return nil, errorf(InvalidOptions, "cannot drop _id index")
	case len(keep) == len(c.indexes) && name != "*":
		return nil, errorf(IndexNotFound, "index not found with name [%s]", strings.Trim(show(which), `"`))
	}
	return keep, nil
}

// isOneOf tells whether an index is meant by its name, its key, or a list of names.
func (x *index) isOneOf(which value) bool {
	switch which.Type {
	case bsoncore.TypeString:
		return which.StringValue() == x.name
	case bsoncore.TypeEmbeddedDocument:
		return compareDocuments(document(which.Data), x.key) == 0
	case bsoncore.TypeArray:
		for e := range elements(document(which.Data)) {
			if x.isOneOf(e.Value()) {
				return true
			}
		}
	}
	return false
}
