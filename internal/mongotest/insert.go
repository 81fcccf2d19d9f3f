package mongotest

import (
	"errors"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// writeErrors collects what went wrong with single statements of a write.
type writeErrors struct {
	list []document
}

// add notes the error of one statement. It hands back what is not one of a statement: a broken connection.
func (w *writeErrors) add(i int, err error) error {
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	w.list = append(w.list, build(func(dst []byte) []byte {
		dst = bsoncore.AppendInt32Element(dst, "index", int32(i))
		dst = bsoncore.AppendInt32Element(dst, "code", e.Code)
		dst = bsoncore.AppendStringElement(dst, "errmsg", e.Message)
		return append(dst, e.details...)
	}))
	return nil
}

func (w *writeErrors) append(dst []byte) []byte {
	if len(w.list) == 0 {
		return dst
	}
	return appendDocuments(dst, "writeErrors", w.list)
}

// ordered tells whether a write stops at its first error.
func (r *request) ordered() bool {
	v, ok := r.lookup("ordered")
	return !ok || truth(v, ok)
}

func checkBatch(n int) error {
	if n < 1 || n > maxBatchCount {
		return errorf(16, "Write batch sizes must be between 1 and %d. Got %d operations.", maxBatchCount, n)
	}
	return nil
}

func insert(r *request, dst []byte) ([]byte, error) {
	ns, err := r.toWrite()
	if err != nil {
		return dst, err
	}
	docs, err := r.documents("documents")
	if err == nil {
		err = checkBatch(len(docs))
	}
	if err != nil {
		return dst, err
	}
	s := r.server
	if err := s.pause(r, s.insertCost*time.Duration(len(docs)), nil); err != nil {
		return dst, err
	}
	if s.discards && !slices.Contains(s.keeps, ns.coll) {
		return appendCount(dst, "n", int64(len(docs))), nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.forInsert(ns)
	if err != nil {
		return dst, err
	}
	var failed writeErrors
	inserted := int64(0)
	records := make([]record, len(docs))
	for i, d := range docs {
		err := r.insertOne(c, d, &records[i])
		if err == nil {
			inserted++
			continue
		}
		if err := failed.add(i, err); err != nil {
			return dst, err
		}
		if r.ordered() {
			break
		}
	}
	s.tick()
	return failed.append(appendCount(dst, "n", inserted)), nil
}

// insertOne inserts one document into a place that was made for it.
func (r *request) insertOne(c *collection, d document, place *record) error {
	if c.kind == typeTimeseries {
		b, err := bucket(c.options, d)
		if err != nil {
			return err
		}
		return r.insertOne(r.server.collection(c.buckets()), b, place)
	}
	d, err := normalize(d)
	if err != nil {
		return err
	}
	if !flag(r.body, "bypassEmptyTsReplacement") {
		d = r.server.fillTimestamps(d)
	}
	if err := r.faults.documents.check(d); err != nil {
		return err
	}
	if err := r.validate(c, d); err != nil {
		return err
	}
	return c.add(d, place)
}

func (r *request) validate(c *collection, d document) error {
	if c.validator.accepts == nil || flag(r.body, "bypassDocumentValidation") {
		return nil
	}
	return c.validator.check(d)
}

// fillTimestamps puts the time in place of each empty timestamp at the top of a document, except in _id, as the server
// does unless it is told not to.
func (s *Server) fillTimestamps(d document) document {
	isEmpty := func(e element) bool {
		v := e.Value()
		return v.Type == bsoncore.TypeTimestamp && e.Key() != "_id" && string(v.Data) == "\x00\x00\x00\x00\x00\x00\x00\x00"
	}
	found := false
	for e := range elements(d) {
		if e[0] == byte(bsoncore.TypeTimestamp) && isEmpty(e) {
			found = true
			break
		}
	}
	if !found {
		return d
	}
	return build(func(dst []byte) []byte {
		for e := range elements(d) {
			if isEmpty(e) {
				t := s.tick()
				dst = bsoncore.AppendTimestampElement(dst, e.Key(), t.T, t.I)
				continue
			}
			dst = append(dst, e...)
		}
		return dst
	})
}
