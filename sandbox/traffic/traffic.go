// Package traffic is the users of the sandbox's application: writers that go on creating, changing and deleting through
// its HTTP API until they are stopped, and that keep a ledger of what they were told is safe. They also measure for how
// long the application was away. Scenarios start it; it never touches the database itself, but for Rogue, which does
// nothing else.
package traffic

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/battwheels/runbook/sandbox/garage"
	"github.com/battwheels/runbook/sandbox/ledger"
)

// Config says who writes how much.
type Config struct {
	URL    string // the application's
	Secret string // signs the bearer tokens
	// Organizations are the identifiers of the tenants that work; each belongs to one writer.
	Organizations []string
	Writers       int     // default 4
	Rate          float64 // requests a second of all writers together; default 10
	Seed          uint64
	Ledger        *ledger.Ledger // may be nil
	// Return makes writers go on by themselves when the application is back. Otherwise they hold until Resume, so that
	// a restored database can be judged before anything is written to it.
	Return bool
}

// Stats counts what the writers did.
type Stats struct {
	Requests     int64     `json:"requests"`     // that were answered with success
	Documents    int64     `json:"documents"`    // acknowledged writes in them
	Refused      int64     `json:"refused"`      // the application was away: surely not done
	Failed       int64     `json:"failed"`       // answered with an error
	Unanswered   int64     `json:"unanswered"`   // nobody knows
	FirstAt      time.Time `json:"firstAt"`      // of the acknowledged requests
	LastAt       time.Time `json:"lastAt"`       //
	LastBeforeAt time.Time `json:"lastBeforeAt"` // the last before the application went away
}

// Outage is a time in which the application did not answer, or said that it was not healthy after it had gone away.
type Outage struct {
	From time.Time `json:"from"` // the last answer before
	To   time.Time `json:"to"`   // the first healthy answer after; zero while it lasts
}

// Traffic is running writers.
type Traffic struct {
	config Config
	client *http.Client
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu       sync.Mutex
	stats    Stats
	outages  []Outage
	lastSeen time.Time     // of the application's last answer
	paused   bool          // by Pause
	away     bool          // the application is
	held     bool          // since it went away, until Resume
	inFlight int           // requests
	changed  chan struct{} // closed and replaced at every change of the above
}

// Start lets the writers begin.
func Start(ctx context.Context, c Config) (*Traffic, error) {
	if len(c.Organizations) == 0 {
		return nil, errors.New("traffic: no organizations: name the tenants that work")
	}
	if c.Writers == 0 {
		c.Writers = 4
	}
	c.Writers = min(c.Writers, len(c.Organizations))
	if c.Rate == 0 {
		c.Rate = 10
	}
	if c.Ledger == nil {
		c.Ledger = ledger.New()
	}
	ctx, cancel := context.WithCancel(ctx)
	t := &Traffic{config: c, cancel: cancel, changed: make(chan struct{}), lastSeen: time.Now(),
		// A connection for each request: on one that is kept, a request can meet the application's orderly stop, and the
		// writer would never know whether it was read.
		client: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}}
	pace := time.NewTicker(max(time.Duration(float64(time.Second)/c.Rate), time.Microsecond))
	for i := range c.Writers {
		w := &writer{traffic: t, random: rand.New(rand.NewPCG(c.Seed, uint64(i)))}
		for o := i; o < len(c.Organizations); o += c.Writers {
			w.tenants = append(w.tenants, &tenant{claims: garage.Claims{OrganizationID: c.Organizations[o], UserID: fmt.Sprintf("user_traffic%d", i),
				Email: fmt.Sprintf("writer%d@traffic.example", i), Name: fmt.Sprintf("Writer %d", i), Role: "owner"}})
		}
		t.done.Go(func() { w.run(ctx, pace.C) })
	}
	t.done.Go(func() { <-ctx.Done(); pace.Stop() })
	t.done.Go(func() { t.watch(ctx) })
	return t, nil
}

// Stop ends the writers after the requests in hand, and returns what they did.
func (t *Traffic) Stop() Stats {
	t.cancel()
	t.done.Wait()
	return t.Stats()
}

// Stats returns what the writers did so far.
func (t *Traffic) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stats
}

// Outages returns the times in which the application was away, oldest first.
func (t *Traffic) Outages() []Outage {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]Outage(nil), t.outages...)
}

// Pause lets no request begin, and waits for those in hand.
func (t *Traffic) Pause(ctx context.Context) error {
	t.update(func() { t.paused = true })
	return t.await(ctx, "the requests in hand to end", func() bool { return t.inFlight == 0 })
}

// Resume ends a pause, and the hold that follows when the application went away.
func (t *Traffic) Resume() { t.update(func() { t.paused, t.held = false, false }) }

// AwaitRequests waits until n more requests were answered with success than at the time of the call.
func (t *Traffic) AwaitRequests(ctx context.Context, n int64) error {
	want := t.Stats().Requests + n
	return t.await(ctx, fmt.Sprintf("%d more requests to succeed", n), func() bool { return t.stats.Requests >= want })
}

// AwaitAway waits until the application has gone away.
func (t *Traffic) AwaitAway(ctx context.Context) error {
	return t.await(ctx, "the application to stop", func() bool { return t.away })
}

// AwaitBack waits until the application is there and healthy.
func (t *Traffic) AwaitBack(ctx context.Context) error {
	return t.await(ctx, "the application to be healthy", func() bool { return !t.away })
}

func (t *Traffic) await(ctx context.Context, what string, ok func() bool) error {
	for {
		t.mu.Lock()
		met, changed := ok(), t.changed
		t.mu.Unlock()
		if met {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("traffic: waiting for %s: %w", what, ctx.Err())
		}
	}
}

func (t *Traffic) update(f func()) {
	t.mu.Lock()
	f()
	close(t.changed)
	t.changed = make(chan struct{})
	t.mu.Unlock()
}

// enter waits until a request may begin, and counts it as in hand.
func (t *Traffic) enter(ctx context.Context) bool {
	err := t.await(ctx, "leave to write", func() bool {
		if t.paused || t.away || t.held || ctx.Err() != nil {
			return false
		}
		t.inFlight++
		return true
	})
	return err == nil
}

// leave counts a request as done.
func (t *Traffic) leave(f func()) {
	t.update(func() {
		t.inFlight--
		f()
	})
}

// gone notes that the application is away. The lock is held.
func (t *Traffic) gone() {
	if t.away {
		return
	}
	t.away = true
	t.held = !t.config.Return
	t.stats.LastBeforeAt = t.stats.LastAt
	t.outages = append(t.outages, Outage{From: t.lastSeen})
}
