package mongotest

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/wiremessage"
)

const (
	maxDocumentSize = 16 << 20
	// A command's body is one document; it may be larger than a stored one by this much, for what stands around that.
	maxBodySize    = maxDocumentSize + 16<<10
	maxMessageSize = 48_000_000
	maxBatchCount  = 100_000
	headerSize     = 16
)

// conn is one connection of a client. Its commands run one after another.
type conn struct {
	server *Server
	net    net.Conn
	id     int64
	ended  chan struct{}
	out    []byte

	mu     sync.Mutex
	app    string
	client document // the metadata of its handshake
	op     *request // what it runs now
}

func (c *conn) close() { _ = c.net.Close() }

func (c *conn) serve() {
	defer close(c.ended)
	defer c.server.forget(c)
	defer c.close()
	in := bufio.NewReaderSize(c.net, 64<<10)
	for {
		// A malformed message ends the connection, as does the real server.
		if err := c.exchange(in); err != nil {
			return
		}
	}
}

func (c *conn) exchange(in io.Reader) error {
	var head [headerSize]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return err
	}
	length, id, _, op, _, _ := wiremessage.ReadHeader(head[:])
	if length < headerSize || length > maxMessageSize+headerSize {
		return fmt.Errorf("message of %d bytes", length)
	}
	body, answered, err := c.read(in, int(length-headerSize))
	defer answered()
	if err != nil {
		return err
	}
	req := &request{server: c.server, conn: c, received: time.Now()}
	switch op {
	case wiremessage.OpMsg:
		flags, err := req.readMessage(body)
		if err != nil {
			return err
		}
		return c.answer(req, id, flags&wiremessage.MoreToCome == 0)
	case wiremessage.OpQuery:
		if err := req.readQuery(body); err != nil {
			return err
		}
		return c.answerQuery(req, id)
	default:
		return fmt.Errorf("opcode %v", op)
	}
}

// read reads a message, and says what is to be done when it is answered. Inserted documents stay where it was read: it is
// never written to again. Only where none are kept do large messages, which are inserts, take turns in one place.
func (c *conn) read(in io.Reader, length int) (body []byte, answered func(), err error) {
	const large = 256 << 10
	if !c.server.discards || length <= large {
		body = make([]byte, length)
		_, err = io.ReadFull(in, body)
		return body, func() {}, err
	}
	place, ok := c.server.places.Get().(*[]byte)
	if !ok {
		place = new([]byte)
	}
	*place = slices.Grow((*place)[:0], length)[:length]
	_, err = io.ReadFull(in, *place)
	return *place, func() { c.server.places.Put(place) }, err
}

func (c *conn) answer(req *request, id int32, wanted bool) error {
	start, out := wiremessage.AppendHeaderStart(c.out[:0], wiremessage.NextRequestID(), id, wiremessage.OpMsg)
	out = wiremessage.AppendMsgFlags(out, 0)
	out = wiremessage.AppendMsgSectionType(out, wiremessage.SingleDocument)
	return c.send(req, start, out, wanted)
}

// answerQuery answers the legacy handshake with which drivers and tools say hello.
func (c *conn) answerQuery(req *request, id int32) error {
	start, out := wiremessage.AppendHeaderStart(c.out[:0], wiremessage.NextRequestID(), id, wiremessage.OpReply)
	out = wiremessage.AppendReplyFlags(out, wiremessage.AwaitCapable)
	out = wiremessage.AppendReplyCursorID(out, 0)
	out = wiremessage.AppendReplyStartingFrom(out, 0)
	out = wiremessage.AppendReplyNumberReturned(out, 1)
	return c.send(req, start, out, true)
}

func (c *conn) send(req *request, start int32, out []byte, wanted bool) error {
	c.setOp(req)
	out, err := c.server.run(req, out)
	c.setOp(nil)
	if err != nil || !wanted {
		return err
	}
	binary.LittleEndian.PutUint32(out[start:], uint32(len(out)))
	c.out = out
	_, err = c.net.Write(out)
	return err
}

func (c *conn) setOp(req *request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.op = req
}

// request is one command.
type request struct {
	server   *Server
	conn     *conn
	received time.Time
	db, name string
	body     document
	seqs     map[string][]document
	faults   struck
}

var errMalformed = errors.New("malformed message")

func (r *request) readMessage(body []byte) (wiremessage.MsgFlag, error) {
	flags, rest, ok := wiremessage.ReadMsgFlags(body)
	if !ok {
		return 0, errMalformed
	}
	if flags&wiremessage.ChecksumPresent != 0 {
		if len(rest) < 4 {
			return 0, errMalformed
		}
		rest = rest[:len(rest)-4]
	}
	for len(rest) > 0 {
		var kind wiremessage.SectionType
		if kind, rest, ok = wiremessage.ReadMsgSectionType(rest); !ok {
			return 0, errMalformed
		}
		if kind == wiremessage.SingleDocument {
			if r.body, rest, ok = wiremessage.ReadMsgSectionSingleDocument(rest); !ok {
				return 0, errMalformed
			}
			continue
		}
		var name string
		var docs []byte
		if name, docs, rest, ok = wiremessage.ReadMsgSectionRawDocumentSequence(rest); !ok {
			return 0, errMalformed
		}
		list, err := readSequence(docs)
		if err != nil {
			return 0, err
		}
		if r.seqs == nil {
			r.seqs = map[string][]document{}
		}
		r.seqs[name] = list
	}
	return flags, r.identify()
}

func readSequence(data []byte) ([]document, error) {
	var list []document
	for len(data) > 0 {
		d, rest, ok := bsoncore.ReadDocument(data)
		if !ok || d[len(d)-1] != 0 {
			return nil, errMalformed
		}
		list, data = append(list, d), rest
	}
	return list, nil
}

func (r *request) readQuery(body []byte) error {
	_, rest, ok := wiremessage.ReadQueryFlags(body)
	if !ok {
		return errMalformed
	}
	ns, rest, ok := wiremessage.ReadQueryFullCollectionName(rest)
	if !ok || len(rest) < 8 {
		return errMalformed
	}
	if r.body, _, ok = wiremessage.ReadQueryQuery(rest[8:]); !ok {
		return errMalformed
	}
	if query, ok := r.body.Lookup("$query").DocumentOK(); ok {
		r.body = query
	}
	if err := r.identify(); err != nil {
		return err
	}
	r.db, _ = splitNamespace(ns)
	return nil
}

func (r *request) identify() error {
	if !r.server.discards {
		if err := r.body.Validate(); err != nil {
			return err
		}
	}
	for e := range elements(r.body) {
		r.name = e.Key()
		break
	}
	if r.name == "" {
		return errMalformed
	}
	r.db, _ = r.body.Lookup("$db").StringValueOK()
	return nil
}

func (r *request) lookup(key string) (value, bool) {
	v, err := r.body.LookupErr(key)
	return v, err == nil
}

// namespace reads the collection that the command names as its first argument.
func (r *request) namespace() (namespace, error) {
	v, _ := r.lookup(r.name)
	coll, ok := v.StringValueOK()
	if !ok {
		return namespace{}, errorf(InvalidNamespace, "collection name has invalid type %s", typeName(v.Type))
	}
	ns := namespace{r.db, coll}
	if err := ns.check(); err != nil || !r.server.version.holdsBuckets() || r.name == "getMore" {
		return ns, err
	}
	return r.server.logical(ns, flag(r.body, "rawData"))
}

// documents reads a list of documents, from a section of its own or from the command's body.
func (r *request) documents(key string) ([]document, error) {
	if list, ok := r.seqs[key]; ok {
		return list, nil
	}
	v, ok := r.lookup(key)
	if !ok {
		return nil, errorf(missingField, "BSON field '%s.%s' is missing but a required field", r.name, key)
	}
	array, ok := v.ArrayOK()
	if !ok {
		return nil, errorf(TypeMismatch, "BSON field '%s.%s' is the wrong type '%s', expected type 'array'",
			r.name, key, typeName(v.Type))
	}
	var list []document
	for e := range elements(document(array)) {
		d, ok := e.Value().DocumentOK()
		if !ok {
			return nil, errorf(TypeMismatch, "BSON field '%s.%s.%s' is the wrong type '%s', expected type 'object'",
				r.name, key, e.Key(), typeName(e.Value().Type))
		}
		list = append(list, d)
	}
	return list, nil
}
