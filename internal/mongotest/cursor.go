package mongotest

import (
	"math/rand/v2"
	"sync"

	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

const (
	firstBatch   = 101
	maxBatchSize = 16 << 20
)

// stream gives one document after another, and nil at the end. The server is locked while it is called.
type stream func() (document, error)

// cursor hands out a stream in batches.
type cursor struct {
	id   int64
	ns   namespace
	at   *snapshot
	by   *request // which opened it; its faults are those of the next batch
	next stream

	mu     sync.Mutex
	ahead  document // read already, for the next batch
	failed error    // likewise
	ended  bool
}

type cursors struct {
	mu   sync.Mutex
	open map[int64]*cursor
}

func (c *cursors) add(cur *cursor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for cur.id == 0 || c.open[cur.id] != nil {
		cur.id = rand.Int64()
	}
	c.open[cur.id] = cur
}

func (c *cursors) get(id int64) *cursor {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open[id]
}

func (c *cursors) kill(id int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.open[id]
	delete(c.open, id)
	return ok
}

// Cursors is the number of cursors that are open: a client that finishes what it reads leaves none.
func (s *Server) Cursors() int {
	s.cursors.mu.Lock()
	defer s.cursors.mu.Unlock()
	return len(s.cursors.open)
}

func (c *cursor) read() (document, error) {
	if d, err := c.ahead, c.failed; d != nil || err != nil {
		c.ahead, c.failed = nil, nil
		return d, err
	}
	return c.next()
}

// appendBatch appends up to limit documents as an array, as many as an answer holds. It looks one document ahead to
// know whether that was all.
func (c *cursor) appendBatch(dst []byte, key string, limit int) ([]byte, error) {
	start, dst := bsoncore.AppendArrayElementStart(dst, key)
	size := 0
	for n := 0; ; n++ {
		d, err := c.read()
		if n >= limit && (limit > 0 || err == nil) || d != nil && n > 0 && size+len(d) > maxBatchSize {
			c.ahead, c.failed, c.ended = d, err, d == nil && err == nil
			break
		}
		if err != nil {
			return dst, err
		}
		if d == nil {
			c.ended = true
			break
		}
		size += len(d)
		dst = append(appendIndexKey(dst, bsoncore.TypeEmbeddedDocument, n), d...)
	}
	return end(dst, start), nil
}

// appendFirst answers the command that opens a cursor. The server is locked.
func (r *request) appendFirst(dst []byte, cur *cursor, size int, single bool) ([]byte, error) {
	start, dst := bsoncore.AppendDocumentElementStart(dst, "cursor")
	dst, err := cur.appendBatch(dst, "firstBatch", size)
	if err != nil {
		return dst, err
	}
	if !cur.ended && !single {
		r.server.cursors.add(cur)
	}
	dst = cur.at.append(dst)
	dst = bsoncore.AppendInt64Element(dst, "id", cur.id)
	dst = bsoncore.AppendStringElement(dst, "ns", cur.ns.String())
	return end(dst, start), nil
}

// sizeOfFirst is how many documents the first batch may have.
func sizeOfFirst(options document) (int, error) {
	v, ok := lookup(options, "batchSize")
	if !ok {
		return firstBatch, nil
	}
	n, ok := asInt(v)
	if !ok || n < 0 {
		return 0, errorf(51024, "BSON field 'batchSize' value must be >= 0, actual value '%s'", show(v))
	}
	return int(n), nil
}

// listCursor is a cursor over documents that the server makes up, such as a list of collections.
func (r *request) listCursor(ns namespace, docs []document) *cursor {
	return &cursor{ns: ns, by: r, next: listStream(docs)}
}

func listStream(docs []document) stream {
	return func() (document, error) {
		if len(docs) == 0 {
			return nil, nil
		}
		d := docs[0]
		docs = docs[1:]
		return d, nil
	}
}

func getMore(r *request, dst []byte) ([]byte, error) {
	v, _ := r.lookup("getMore")
	id, ok := asInt(v)
	if !ok {
		return dst, errorf(TypeMismatch, "BSON field 'getMore.getMore' is the wrong type '%s', expected type 'long'", typeName(v.Type))
	}
	s := r.server
	cur := s.cursors.get(id)
	if cur == nil {
		return dst, errorf(CursorNotFound, "cursor id %d not found", id)
	}
	if ns := (namespace{r.db, text(r.body, "collection")}); ns != cur.ns {
		return dst, errorf(Unauthorized, "Requested getMore on namespace '%s', but cursor belongs to a different namespace %s",
			ns, cur.ns)
	}
	limit := int(^uint(0) >> 1)
	if v, ok := r.lookup("batchSize"); ok {
		if n, _ := asInt(v); n > 0 {
			limit = int(n)
		}
	}
	if !cur.mu.TryLock() {
		return dst, errorf(143, "cursor id %d is already in use", id)
	}
	defer cur.mu.Unlock()
	cur.by.faults.documents = s.documentFaults(cur.by, cur.ns)
	s.mu.RLock()
	defer s.mu.RUnlock()
	start, dst := bsoncore.AppendDocumentElementStart(dst, "cursor")
	dst, err := cur.appendBatch(dst, "nextBatch", limit)
	if err != nil {
		s.cursors.kill(id)
		return dst, err
	}
	if cur.ended {
		s.cursors.kill(id)
		id = 0
	}
	dst = bsoncore.AppendInt64Element(dst, "id", id)
	dst = bsoncore.AppendStringElement(dst, "ns", cur.ns.String())
	return end(dst, start), nil
}

func killCursors(r *request, dst []byte) ([]byte, error) {
	v, _ := r.lookup("cursors")
	array, ok := v.ArrayOK()
	if !ok {
		return dst, errorf(missingField, "BSON field 'killCursors.cursors' is missing but a required field")
	}
	var killed, missing []value
	for e := range elements(document(array)) {
		id, _ := asInt(e.Value())
		if r.server.cursors.kill(id) {
			killed = append(killed, e.Value())
		} else {
			missing = append(missing, e.Value())
		}
	}
	dst = bsoncore.BuildArrayElement(dst, "cursorsKilled", killed...)
	dst = bsoncore.BuildArrayElement(dst, "cursorsNotFound", missing...)
	dst = bsoncore.BuildArrayElement(dst, "cursorsAlive")
	return bsoncore.BuildArrayElement(dst, "cursorsUnknown"), nil
}
