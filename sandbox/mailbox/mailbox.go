// Package mailbox is the sandbox's mail service: it speaks Resend's HTTP API, keeps what it accepts instead of
// delivering it, shows it on a web page, and can be told to fail in the ways in which such a service fails. The sandbox
// and the tests start it; the product's own mail client talks to it over HTTP like to the real one.
package mailbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Config says how the mail service behaves.
type Config struct {
	Listen string // host:port; port 0 takes a free one
	APIKey string // the only key that is accepted
	// Rate is how many requests to the API are answered in any one second; 0 means 1,000.
	Rate int
}

// Mail is one mail that was accepted.
type Mail struct {
	ID             string            `json:"id"`
	ReceivedAt     time.Time         `json:"receivedAt"`
	From           string            `json:"from"`
	To             []string          `json:"to"`
	CC             []string          `json:"cc,omitempty"`
	BCC            []string          `json:"bcc,omitempty"`
	ReplyTo        []string          `json:"replyTo,omitempty"`
	Subject        string            `json:"subject"`
	HTML           string            `json:"html,omitempty"`
	Text           string            `json:"text,omitempty"`
	Tags           map[string]string `json:"tags,omitempty"`
	Headers        map[string]string `json:"headers,omitempty"` // those that the sender asked for
	Batch          bool              `json:"batch,omitempty"`
	IdempotencyKey string            `json:"idempotencyKey,omitempty"`
}

// Counts tells what the service did since it started.
type Counts struct {
	Mails       int `json:"mails"`
	Requests    int `json:"requests"`    // to the API
	Replayed    int `json:"replayed"`    // answered from a remembered key, nothing sent again
	RateLimited int `json:"rateLimited"` // refused with 429
	Refused     int `json:"refused"`     // mails with something wrong in them
	Failed      int `json:"failed"`      // requests that failed because the service was told to
}

// Box is the mail service.
type Box struct {
	config Config
	mux    *http.ServeMux

	mu         sync.Mutex
	mails      []Mail
	counts     Counts
	remembered map[string]*remembered
	recent     []time.Time // of the requests within the last second
	failure    Failure
	script     func(Request) Failure // nil: none
	changed    chan struct{}         // closed and replaced when a mail arrives

	closing  chan struct{}
	server   *http.Server
	listener net.Listener
	served   chan error
}

// New makes a mail service that is an http.Handler only; Start also listens.
func New(c Config) *Box {
	if c.Rate == 0 {
		c.Rate = 1000
	}
	b := &Box{config: c, remembered: map[string]*remembered{}, changed: make(chan struct{}), closing: make(chan struct{})}
	b.mux = http.NewServeMux()
	b.mux.Handle("POST /emails", b.api(b.send))
	b.mux.Handle("POST /emails/batch", b.api(b.sendBatch))
	b.mux.Handle("GET /emails/{id}", b.api(b.retrieve))
	b.mux.HandleFunc("GET /{$}", b.page)
	b.mux.HandleFunc("GET /api/mails", b.list)
	b.mux.HandleFunc("DELETE /api/mails", b.clear)
	b.mux.HandleFunc("GET /api/failure", b.showFailure)
	b.mux.HandleFunc("PUT /api/failure", b.setFailure)
	return b
}

// Start listens and serves until Close.
func Start(c Config) (*Box, error) {
	if c.APIKey == "" {
		return nil, errors.New("mailbox: no API key: give the one that clients must send")
	}
	b := New(c)
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return nil, fmt.Errorf("mailbox: listen: %w", err)
	}
	b.serve(listener)
	return b, nil
}

func (b *Box) serve(listener net.Listener) {
	server, served := &http.Server{Handler: b, ReadHeaderTimeout: 5 * time.Second}, make(chan error, 1)
	b.listener, b.server, b.served = listener, server, served
	go func() { served <- server.Serve(listener) }()
}

// Die closes the listener and every connection: the service is gone, and what it had accepted is kept. Resume brings it back.
func (b *Box) Die() error {
	err := b.server.Close()
	if served := <-b.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	b.served <- http.ErrServerClosed // for Close, where nobody resumes it
	return err
}

// Resume listens again where it listened before it died.
func (b *Box) Resume() error {
	listener, err := net.Listen("tcp", b.listener.Addr().String())
	if err != nil {
		return fmt.Errorf("mailbox: listen again: %w", err)
	}
	b.serve(listener)
	return nil
}

// URL is the address of the API and of the web page.
func (b *Box) URL() string { return "http://" + b.listener.Addr().String() }

// Close ends the service; requests that hang on purpose end with it.
func (b *Box) Close(ctx context.Context) error {
	close(b.closing)
	err := b.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, b.server.Close())
	}
	if served := <-b.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	if err != nil {
		return fmt.Errorf("mailbox: close: %w", err)
	}
	return nil
}

// ServeHTTP answers one request.
func (b *Box) ServeHTTP(w http.ResponseWriter, r *http.Request) { b.mux.ServeHTTP(w, r) }

// Mails returns what was accepted, oldest first.
func (b *Box) Mails() []Mail {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.mails)
}

// Counts returns what the service did since it started.
func (b *Box) Counts() Counts {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.counts
	c.Mails = len(b.mails)
	return c
}

// Await waits until a mail is there that the caller wants, and returns it.
func (b *Box) Await(ctx context.Context, want func(Mail) bool) (Mail, error) {
	for {
		b.mu.Lock()
		changed := b.changed
		i := slices.IndexFunc(b.mails, want)
		if i >= 0 {
			m := b.mails[i]
			b.mu.Unlock()
			return m, nil
		}
		n := len(b.mails)
		b.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return Mail{}, fmt.Errorf("mailbox: the mail waited for is not among the %d received: %w", n, ctx.Err())
		}
	}
}

// keep stores accepted mails. The lock is held.
func (b *Box) keep(mails ...Mail) {
	b.mails = append(b.mails, mails...)
	close(b.changed)
	b.changed = make(chan struct{})
}
