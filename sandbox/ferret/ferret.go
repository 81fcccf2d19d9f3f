// Package ferret embeds FerretDB v1 on SQLite: a small server that speaks MongoDB's wire protocol and really persists what
// it is told. It is the sandbox's database and nothing more: docs/design.md tells what it cannot do, and it is no measure of
// how fast anything is. The sandbox's world and the tests start it; a stopped one may be started again on the same directory
// and address.
package ferret

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/FerretDB/FerretDB/ferretdb"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/battwheels/runbook/sandbox/process"
)

// Config says where a server keeps its data and where it listens.
type Config struct {
	Dir    string // one SQLite file for each database; made where it is missing
	Port   int    // on 127.0.0.1; 0 takes a free one
	Logger *slog.Logger
}

// Server is a running server.
type Server struct {
	port   int
	cancel context.CancelFunc
	done   chan error
}

// Start starts a server and returns when it answers.
func Start(ctx context.Context, c Config) (*Server, error) {
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("ferret: %w", err)
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("ferret: %w", err)
	}
	if strings.ContainsAny(dir, "%?#") {
		return nil, fmt.Errorf("ferret: FerretDB cannot keep data in %s: the path has one of %%, ? and # in it; choose another", dir)
	}
	if c.Port == 0 {
		free, err := process.FreePorts(1)
		if err != nil {
			return nil, fmt.Errorf("ferret: %w", err)
		}
		c.Port = free[0]
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	f, err := ferretdb.New(&ferretdb.Config{
		Listener:  ferretdb.ListenerConfig{TCP: process.Address(c.Port)},
		Logger:    c.Logger,
		Handler:   "sqlite",
		SQLiteURL: sqliteURL(dir),
	})
	if err != nil {
		return nil, fmt.Errorf("ferret: %w", err)
	}
	// It outlives the context in which it was started: Stop ends it.
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &Server{port: c.Port, cancel: cancel, done: make(chan error, 1)}
	go func() { s.done <- f.Run(running) }()
	if err := s.ping(ctx); err != nil {
		return nil, errors.Join(err, s.Stop(context.WithoutCancel(ctx)))
	}
	return s, nil
}

// sqliteURL asks for a sync at each checkpoint only: what was acknowledged then survives any end of the process, if not a
// loss of power, and a write costs a tenth.
func sqliteURL(dir string) string {
	return (&url.URL{Scheme: "file", OmitHost: true, Path: dir + "/",
		RawQuery: url.Values{"_pragma": {"synchronous(normal)"}}.Encode()}).String()
}

// answerWithin is how long a server may take to answer first.
const answerWithin = 30 * time.Second

func (s *Server) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	client, err := mongo.Connect(options.Client().ApplyURI(s.URI()))
	if err != nil {
		return fmt.Errorf("ferret: %w", err)
	}
	defer func() { _ = client.Disconnect(context.WithoutCancel(ctx)) }()
	if err := client.Ping(ctx, nil); err != nil {
		return fmt.Errorf("ferret: %s does not answer: %w", s.URI(), err)
	}
	return nil
}

// URI is the connection string.
func (s *Server) URI() string { return "mongodb://" + process.Address(s.port) + "/" }

// Port is where it listens, for a Config that starts it again.
func (s *Server) Port() int { return s.port }

// Stop ends the server. Clients that are connected get some seconds to finish.
func (s *Server) Stop(ctx context.Context) error {
	s.cancel()
	select {
	case err := <-s.done:
		s.done <- err // for a second Stop
		return err
	case <-ctx.Done():
		return fmt.Errorf("ferret: its connections do not end: %w", ctx.Err())
	}
}
