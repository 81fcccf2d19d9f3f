package mongotest

import (
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// sessions remembers the last write of each session, so that a driver that lost the answer and sends it again gets the
// first answer instead of a second write.
type sessions struct {
	mu   sync.Mutex
	last map[string]retried
}

type retried struct {
	txn    int64
	answer []byte
}

const transactionTooOld int32 = 225

func (s *sessions) once(r *request, dst []byte, run func(*request, []byte) ([]byte, error)) ([]byte, error) {
	txn, ok := r.lookup("txnNumber")
	if !ok {
		return run(r, dst)
	}
	if flag(r.body, "startTransaction") {
		return dst, unsupported("transactions")
	}
	number, _ := asInt(txn)
	key := string(subdocument(r.body, "lsid"))
	s.mu.Lock()
	last, seen := s.last[key]
	s.mu.Unlock()
	switch {
	case seen && last.txn == number:
		return append(dst, last.answer...), nil
	case seen && last.txn > number:
		return dst, errorf(transactionTooOld, "Retryable write with txnNumber %d is prohibited on session because a newer "+
			"retryable write with txnNumber %d has already started on this session.", number, last.txn)
	}
	before := len(dst)
	dst, err := run(r, dst)
	if err == nil {
		s.mu.Lock()
		s.last[key] = retried{number, append([]byte(nil), dst[before:]...)}
		s.mu.Unlock()
	}
	return dst, err
}

// timestamp is a cluster time.
type timestamp struct{ T, I uint32 }

// tick moves the cluster time on; each write has its own.
func (s *Server) tick() timestamp {
	for {
		old := s.clock.Load()
		next := max(uint64(time.Now().Unix())<<32, old) + 1
		if s.clock.CompareAndSwap(old, next) {
			return timestamp{uint32(next >> 32), uint32(next)}
		}
	}
}

func (s *Server) now() timestamp {
	if t := s.clock.Load(); t != 0 {
		return timestamp{uint32(t >> 32), uint32(t)}
	}
	return s.tick()
}

// appendTimes adds what the members of a replica set gossip. The signature is that of a server without keys.
func (s *Server) appendTimes(out []byte) []byte {
	t := s.now()
	start, out := bsoncore.AppendDocumentElementStart(out, "$clusterTime")
	out = bsoncore.AppendTimestampElement(out, "clusterTime", t.T, t.I)
	signature, out := bsoncore.AppendDocumentElementStart(out, "signature")
	out = bsoncore.AppendBinaryElement(out, "hash", 0, make([]byte, 20))
	out = bsoncore.AppendInt64Element(out, "keyId", 0)
	out = end(end(out, signature), start)
	return bsoncore.AppendTimestampElement(out, "operationTime", t.T, t.I)
}
