// Package mongotest is a MongoDB server in memory, for the tests and benchmarks of this project. It speaks the wire
// protocol to any driver and to the stock tools, keeps every document, option and index specification byte for byte as
// it was sent, answers with the error codes of the real server, and can be told to fail.
//
// It is not a database: nothing is kept on disk, there is no authentication, and what it does not know it refuses by
// name rather than imitates. Tests of the engines and the sandbox call it; nothing that is deployed does.
package mongotest

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// DefaultVersion is the server version that is claimed unless WithVersion says otherwise.
const DefaultVersion = "8.0.12"

// Server is one server with its databases. All methods may be called at any time, from any goroutine.
type Server struct {
	listener   net.Listener
	replicaSet string
	version    version
	address    string
	discards   bool
	keeps      []string      // names of collections, where others discard
	places     sync.Pool     // where large messages are read that nobody keeps
	insertCost time.Duration // of each document
	started    time.Time
	done       chan struct{}
	workers    sync.WaitGroup
	nextConn   atomic.Int64
	clock      atomic.Uint64 // the last cluster time: seconds, then a counter

	connsMu sync.Mutex
	conns   map[*conn]struct{}

	// mu guards the databases and all that is in them. Documents are never changed in place, so what was read under it
	// stays valid after it.
	mu         sync.RWMutex
	databases  map[string]*database
	parameters map[string]value

	snapshotsMu sync.Mutex
	snapshots   []*snapshot

	cursors  cursors
	sessions sessions
	faults   faults
	hooks    hooks
}

// Option changes how a server starts.
type Option func(*Server) error

// WithReplicaSet makes the server the primary of a replica set of one member: retryable writes, cluster times and
// snapshot reads work.
func WithReplicaSet(name string) Option {
	return func(s *Server) error {
		s.replicaSet = name
		return nil
	}
}

// WithVersion makes the server claim to be of an older or newer release, such as "6.0.4"; what that release does not
// know is refused.
func WithVersion(text string) Option {
	return func(s *Server) error {
		v, err := parseVersion(text)
		if err != nil {
			return err
		}
		s.version = v
		return nil
	}
}

// WithAddress makes the server listen there instead of on a free port of 127.0.0.1; a server that was closed can so be
// followed by another at the same address.
func WithAddress(address string) Option {
	return func(s *Server) error {
		s.address = address
		return nil
	}
}

// WithDiscard makes the server acknowledge inserted documents without keeping, checking or counting them: what is then
// measured is the client. Everything else is as ever; a cursor finds the collections empty. Collections named in but are
// kept: a lease, say, in small messages.
func WithDiscard(but ...string) Option {
	return func(s *Server) error {
		s.discards, s.keeps = true, but
		return nil
	}
}

// WithInsertCost makes each inserted document take so much time. It passes without using a processor, on each connection
// by itself, as on a server with cores of its own.
func WithInsertCost(each time.Duration) Option {
	return func(s *Server) error {
		s.insertCost = each
		return nil
	}
}

// New starts a server. The caller closes it.
func New(opts ...Option) (*Server, error) {
	s := &Server{
		address:    "127.0.0.1:0",
		started:    time.Now(),
		done:       make(chan struct{}),
		conns:      map[*conn]struct{}{},
		databases:  map[string]*database{},
		parameters: defaultParameters(),
		cursors:    cursors{open: map[int64]*cursor{}},
		sessions:   sessions{last: map[string]retried{}},
	}
	for _, opt := range append([]Option{WithVersion(DefaultVersion)}, opts...) {
		if err := opt(s); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("tcp", s.address)
	if err != nil {
		return nil, fmt.Errorf("starting the in-memory MongoDB: %w", err)
	}
	s.listener = l
	s.workers.Go(s.accept)
	return s, nil
}

// Start starts a server that lives as long as the test.
func Start(t testing.TB, opts ...Option) *Server {
	t.Helper()
	s, err := New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Close drops every connection and waits until nothing of the server runs any more. Closing twice is fine.
func (s *Server) Close() error {
	s.connsMu.Lock()
	select {
	case <-s.done:
		s.connsMu.Unlock()
		return nil
	default:
		close(s.done)
	}
	err := s.listener.Close()
	s.connsMu.Unlock()
	s.DropConnections()
	s.workers.Wait()
	if err != nil {
		return fmt.Errorf("closing the in-memory MongoDB: %w", err)
	}
	return nil
}

// Address is the host and port that the server listens on.
func (s *Server) Address() string { return s.listener.Addr().String() }

// URI is the connection string for this server.
func (s *Server) URI() string {
	if s.replicaSet != "" {
		return "mongodb://" + s.Address() + "/?replicaSet=" + s.replicaSet
	}
	return "mongodb://" + s.Address() + "/?directConnection=true"
}

// Client connects a driver to the server for as long as the test lives.
func (s *Server) Client(t testing.TB) *mongo.Client {
	t.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI(s.URI()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// The test's context is over by now, so the driver sends no farewell to hooks of a test that has ended.
		if err := client.Disconnect(t.Context()); err != nil && !errors.Is(err, mongo.ErrClientDisconnected) {
			t.Error(err)
		}
	})
	return client
}

// DropConnections closes every connection as they stand, as a crash or a network partition would. New ones are welcome.
func (s *Server) DropConnections() {
	s.connsMu.Lock()
	defer s.connsMu.Unlock()
	for c := range s.conns {
		c.close()
	}
}

// Settle drops every connection and waits until nothing that came over them is carried out any more: what a client sent
// right before it was killed either is done by then, or never will be. A hook must not call it.
func (s *Server) Settle() {
	s.connsMu.Lock()
	var ended []chan struct{}
	for c := range s.conns {
		c.close()
		ended = append(ended, c.ended)
	}
	s.connsMu.Unlock()
	for _, e := range ended {
		<-e
	}
}

func (s *Server) accept() {
	for {
		nc, err := s.listener.Accept()
		if err != nil {
			return
		}
		c := &conn{server: s, net: nc, id: s.nextConn.Add(1), ended: make(chan struct{})}
		s.connsMu.Lock()
		select {
		case <-s.done:
			c.close()
		default:
			s.conns[c] = struct{}{}
			s.workers.Go(c.serve)
		}
		s.connsMu.Unlock()
	}
}

func (s *Server) forget(c *conn) {
	s.connsMu.Lock()
	defer s.connsMu.Unlock()
	delete(s.conns, c)
}

func splitNamespace(ns string) (db, coll string) {
	db, coll, _ = strings.Cut(ns, ".")
	return db, coll
}
