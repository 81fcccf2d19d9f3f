// Package bucket embeds an S3 server: the real protocol on a real socket, objects in memory. The sandbox's world and the tests copy
// backups to it; the product reaches it like any other S3, through gocloud.dev and Amazon's own client.
package bucket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// Name is the one bucket that the server has.
const Name = "backups"

// Server is a running S3 server.
type Server struct {
	address string
	server  *http.Server
	ended   chan error
}

// Start starts the server on a free port of 127.0.0.1.
func Start(ctx context.Context) (*Server, error) {
	backend := s3mem.New()
	if err := backend.CreateBucket(Name); err != nil {
		return nil, fmt.Errorf("bucket: %w", err)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("bucket: %w", err)
	}
	s := &Server{
		address: l.Addr().String(),
		server:  &http.Server{Handler: gofakes3.New(backend).Server(), ReadHeaderTimeout: 10 * time.Second},
		ended:   make(chan error, 1),
	}
	go func() { s.ended <- s.server.Serve(l) }()
	return s, nil
}

// URL is the bucket as storage.offsite.url takes it.
func (s *Server) URL() string {
	q := url.Values{"region": {"us-east-1"}, "endpoint": {"http://" + s.address}, "use_path_style": {"true"}, "disable_https": {"true"}}
	return "s3://" + Name + "?" + q.Encode()
}

// Environment is what a process needs to be let in, in the variables of Amazon's own tools.
func (s *Server) Environment() []string {
	return []string{"AWS_ACCESS_KEY_ID=sandbox", "AWS_SECRET_ACCESS_KEY=sandbox", "AWS_EC2_METADATA_DISABLED=true"}
}

// Stop ends the server; what was in it is gone.
func (s *Server) Stop() error {
	err := s.server.Close()
	if ended := <-s.ended; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}
