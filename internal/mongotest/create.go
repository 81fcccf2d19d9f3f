package mongotest

import (
	"bytes"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// What create takes as the collection's options; listCollections shows them as they were sent.
var collectionOptions = strings.Fields(`capped size max storageEngine validator validationLevel validationAction
	indexOptionDefaults viewOn pipeline collation timeseries expireAfterSeconds clusteredIndex
	changeStreamPreAndPostImages encryptedFields recordIdsReplicated`)

func create(r *request, dst []byte) ([]byte, error) {
	ns, err := r.namespace()
	if err == nil {
		err = ns.creatable()
	}
	if err != nil {
		return dst, err
	}
	options, err := r.collectionOptions()
	if err != nil {
		return dst, err
	}
	kind := typeCollection
	switch {
	case text(options, "viewOn") != "":
		kind = typeView
	case subdocument(options, "timeseries") != nil:
		kind = typeTimeseries
		options = timeseriesDefaults(options)
	}
	if subdocument(options, "clusteredIndex") != nil {
		options = clusteredDefaults(options)
	}
	s := r.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.collection(ns); c != nil {
		if s.version.major >= 7 && bytes.Equal(c.options, options) && c.kind == kind {
			return dst, nil // since 7.0 creating the same again is fine
		}
		return dst, errorf(NamespaceExists, "namespace %s already exists, but with different options: %s", ns, c.options)
	}
	c, err := s.addCollection(ns, kind, options)
	if err != nil {
		return dst, err
	}
	if id := subdocument(r.body, "idIndex"); id != nil && len(c.indexes) == 1 {
		if c.indexes[0].spec, err = normalizeIndex(id, false); err != nil {
			s.dropCollection(c)
			return dst, err
		}
	}
	if kind == typeTimeseries {
		c.indexes = s.seriesIndex(options)
		_, err = s.addCollection(c.buckets(), typeCollection, bucketOptions(options))
	}
	return dst, err
}

// collectionOptions are the arguments of create that stay with the collection.
func (r *request) collectionOptions() (document, error) {
	notKept := append([]string{r.name, "idIndex", "autoIndexId", "temp", "flags"}, genericFields...)
	for e := range elements(r.body) {
		if key := e.Key(); !slices.Contains(collectionOptions, key) && !slices.Contains(notKept, key) {
			return nil, errorf(UnknownField, "BSON field 'create.%s' is an unknown field.", key)
		}
	}
	options := without(r.body, notKept...)
	size, hasSize := lookup(options, "size")
	bytes, _ := asInt(size)
	switch {
	case flag(options, "capped") && (!hasSize || bytes <= 0):
		return nil, errorf(InvalidOptions, "the 'size' field is required when 'capped' is true")
	case hasSize && !flag(options, "capped"):
		return nil, errorf(InvalidOptions, "the 'capped' field needs to be true when either the 'size' or 'max' fields are present")
	}
	return options, nil
}

// clusteredDefaults completes the specification of a clustered index as the server lists it.
func clusteredDefaults(options document) document {
	spec := subdocument(options, "clusteredIndex")
	full := build(func(dst []byte) []byte {
		v, ok := lookup(spec, "v")
		if !ok {
			v = int32Value(2)
		}
		dst = bsoncore.AppendValueElement(dst, "v", v)
		dst = bsoncore.AppendDocumentElement(dst, "key", subdocument(spec, "key"))
		name := text(spec, "name")
		if name == "" {
			name = "_id_"
		}
		dst = bsoncore.AppendStringElement(dst, "name", name)
		return bsoncore.AppendBooleanElement(dst, "unique", true)
	})
	out, _ := setPath(options, []string{"clusteredIndex"}, value{Type: bsoncore.TypeEmbeddedDocument, Data: full})
	return out // a single key always fits
}

func collMod(r *request, dst []byte) ([]byte, error) {
	ns, err := r.namespace()
	if err != nil {
		return dst, err
	}
	s := r.server
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.collection(ns)
	if c == nil {
		return dst, errorf(NamespaceNotFound, "ns does not exist: %s", ns)
	}
	options := c.options
	for e := range elements(r.body) {
		switch key := e.Key(); {
		case key == r.name || slices.Contains(genericFields, key):
		case key == "index":
			if dst, err = c.modifyIndex(dst, document(e.Value().Data)); err != nil {
				return dst, err
			}
		case slices.Contains(collectionOptions, key) && key != "capped" && key != "clusteredIndex":
			options, _ = setPath(options, []string{key}, e.Value()) // a single key always fits
		default:
			return dst, errorf(UnknownField, "BSON field 'collMod.%s' is an unknown field.", key)
		}
	}
	s.tick()
	return dst, c.configure(options)
}

// modifyIndex changes when documents expire by an index, or whether it is hidden.
func (c *collection) modifyIndex(dst []byte, change document) ([]byte, error) {
	i := slices.IndexFunc(c.indexes, func(x *index) bool {
		key := subdocument(change, "keyPattern")
		return x.name == text(change, "name") || key != nil && compareDocuments(key, x.key) == 0
	})
	if i < 0 {
		return dst, errorf(IndexNotFound, "cannot find index %s for ns %s", change, c.ns)
	}
	spec := c.indexes[i].spec
	for _, key := range []string{"expireAfterSeconds", "hidden"} {
		v, ok := lookup(change, key)
		if !ok {
			continue
		}
		if old, ok := lookup(spec, key); ok {
			dst = bsoncore.AppendValueElement(dst, key+"_old", old)
		}
		dst = bsoncore.AppendValueElement(dst, key+"_new", v)
		if key == "hidden" && !truth(v, true) {
			spec = without(spec, key)
			continue
		}
		spec, _ = setPath(spec, []string{key}, v) // a single key always fits
	}
	changed := *c.indexes[i]
	changed.spec = spec
	c.indexes = slices.Clone(c.indexes)
	c.indexes[i] = &changed
	return dst, nil
}

func isSystem(coll string) bool { return strings.HasPrefix(coll, "system.") }
