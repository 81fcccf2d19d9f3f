package mongotest

import (
	"slices"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Drop says when a fault breaks the connection.
type Drop int

// A connection may break before anything was done, or after everything was, with only the answer lost.
const (
	DropNever Drop = iota
	DropBefore
	DropAfter
)

// Fault is something that shall go wrong. Command, Namespace and Document say where; Skip and Times say how often; the
// rest says how.
type Fault struct {
	// Command is a command's name as it is sent, such as "insert". Empty stands for all but hello.
	Command string
	// Namespace is "database.collection" or only "database". Empty stands for all.
	Namespace string
	// Match looks at the command, without the documents that travel beside it. Nil stands for all.
	Match func(command bson.Raw) bool
	// Document makes a fault of single documents: the ones read by find, aggregate and their getMore (Command names the
	// first), and the ones to be inserted, updated or deleted. A read fails as a whole at such a document, and its cursor
	// is gone; a write reports it among its writeErrors. Such a fault has an Error, or drops the connection at once.
	// It is called with the server locked and must not call it.
	Document func(bson.Raw) bool
	// Record spares, of such a fault, the finds that the index on _id answers alone: those that filter and sort by _id and
	// ask for nothing else. On the real server the index is a file of its own.
	Record bool

	Skip  int // let so many matches pass
	Times int // then strike so often; 0 is for ever

	Error        *Error          // answer with it instead of acting
	WriteConcern *Error          // act, and answer with this writeConcernError
	Drop         Drop            // break the connection
	Delay        time.Duration   // wait before acting
	Hold         <-chan struct{} // wait before acting until it is closed
}

// Armed is a fault at work.
type Armed struct {
	fault  Fault
	faults *faults
	seen   int
	hits   int
}

type faults struct {
	mu   sync.Mutex
	list []*Armed
}

// Fail makes things go wrong from now on, until the fault is used up or lifted.
func (s *Server) Fail(f Fault) *Armed {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	a := &Armed{fault: f, faults: &s.faults}
	s.faults.list = append(s.faults.list, a)
	return a
}

// Struck tells how often the fault has struck.
func (a *Armed) Struck() int {
	a.faults.mu.Lock()
	defer a.faults.mu.Unlock()
	return a.hits
}

// Lift ends the fault.
func (a *Armed) Lift() {
	a.faults.mu.Lock()
	defer a.faults.mu.Unlock()
	a.faults.list = slices.DeleteFunc(a.faults.list, func(o *Armed) bool { return o == a })
}

// hit counts a match, and tells whether the fault strikes.
func (a *Armed) hit() bool {
	a.faults.mu.Lock()
	defer a.faults.mu.Unlock()
	a.seen++
	if a.seen <= a.fault.Skip || a.fault.Times > 0 && a.hits >= a.fault.Times {
		return false
	}
	a.hits++
	return true
}

// concerns tells whether a command is of the fault's kind. Handshakes go on unless they are meant.
func (f *Fault) concerns(command string, ns namespace) bool {
	switch command {
	case "hello", "isMaster", "ismaster":
		if f.Command == "" {
			return false
		}
	}
	return (f.Command == "" || f.Command == command) &&
		(f.Namespace == "" || f.Namespace == ns.String() || f.Namespace == ns.db)
}

// struck is what the faults do to one request.
type struck struct {
	writeConcern *Error
	drop         Drop
	documents    documentFaults
}

// strike lets the faults of whole commands do their work, and notes those of documents.
func (s *Server) strike(r *request) error {
	ns := r.target()
	r.faults.documents = s.documentFaults(r, ns)
	for _, a := range s.faults.ofCommand(r, ns) {
		if !a.hit() {
			continue
		}
		f := a.fault
		if err := s.pause(r, f.Delay, f.Hold); err != nil {
			return err
		}
		r.faults.drop = max(r.faults.drop, f.Drop)
		if f.Drop == DropBefore {
			return errDropped
		}
		if f.WriteConcern != nil {
			r.faults.writeConcern = f.WriteConcern
		}
		if f.Error != nil {
			return f.Error
		}
	}
	return nil
}

func (f *faults) ofCommand(r *request, ns namespace) []*Armed {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []*Armed
	for _, a := range f.list {
		if a.fault.Document == nil && a.fault.concerns(r.name, ns) &&
			(a.fault.Match == nil || a.fault.Match(bson.Raw(r.body))) {
			list = append(list, a)
		}
	}
	return list
}

// pause waits for as long as a fault wants, but not beyond the maxTimeMS of the command.
func (s *Server) pause(r *request, delay time.Duration, hold <-chan struct{}) error {
	var tooLong <-chan time.Time
	if v, ok := r.lookup("maxTimeMS"); ok && r.name != "getMore" {
		if ms, _ := asInt(v); ms > 0 {
			tooLong = time.After(time.Duration(ms) * time.Millisecond)
		}
	}
	var over <-chan time.Time
	if delay > 0 {
		over = time.After(delay)
	}
	for over != nil || hold != nil {
		select {
		case <-over:
			over = nil
		case <-hold:
			hold = nil
		case <-tooLong:
			return errorf(MaxTimeMSExpired, "operation exceeded time limit")
		case <-s.done:
			return errDropped
		}
	}
	return nil
}

// target is the namespace that a command is about, as far as faults and currentOp want to know.
func (r *request) target() namespace {
	key := r.name
	switch r.name {
	case "getMore":
		key = "collection"
	case "renameCollection":
		db, coll := splitNamespace(text(r.body, key))
		return namespace{db, coll}
	}
	return namespace{r.db, text(r.body, key)}
}

// documentFaults are the faults of documents in one namespace.
type documentFaults []*Armed

// documentFaults are those that a command meets, or the getMore of the command that opened its cursor.
func (s *Server) documentFaults(r *request, ns namespace) documentFaults {
	covered := r.coveredByID()
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	var list documentFaults
	for _, a := range s.faults.list {
		if a.fault.Document != nil && a.fault.concerns(r.name, ns) && !(a.fault.Record && covered) {
			list = append(list, a)
		}
	}
	return list
}

// coveredByID tells whether a find needs no more than the index on _id.
func (r *request) coveredByID() bool {
	if r.name != "find" || len(subdocument(r.body, "projection")) <= 5 {
		return false
	}
	for _, key := range []string{"filter", "sort", "projection"} {
		for e := range elements(subdocument(r.body, key)) {
			if e.Key() != "_id" || key == "projection" && !truth(e.Value(), true) {
				return false
			}
		}
	}
	return true
}

// check is the error of the first fault that strikes this document.
func (l documentFaults) check(d document) error {
	for _, a := range l {
		if !a.fault.Document(bson.Raw(d)) || !a.hit() {
			continue
		}
		if a.fault.Drop != DropNever {
			return errDropped
		}
		if a.fault.Error != nil {
			return a.fault.Error
		}
	}
	return nil
}

type hooks struct {
	mu   sync.Mutex
	list []*func(db, cmd string, doc bson.Raw)
}

// OnCommand calls f with every command before it is carried out, on the connection's own goroutine: a test can count,
// await an event, or hold the command up. The returned function takes f away again.
func (s *Server) OnCommand(f func(db, cmd string, doc bson.Raw)) (remove func()) {
	s.hooks.mu.Lock()
	defer s.hooks.mu.Unlock()
	s.hooks.list = append(s.hooks.list, &f)
	return func() {
		s.hooks.mu.Lock()
		defer s.hooks.mu.Unlock()
		s.hooks.list = slices.DeleteFunc(s.hooks.list, func(o *func(string, string, bson.Raw)) bool { return o == &f })
	}
}

func (h *hooks) call(r *request) {
	h.mu.Lock()
	list := slices.Clone(h.list)
	h.mu.Unlock()
	for _, f := range list {
		(*f)(r.db, r.name, bson.Raw(r.body))
	}
}
