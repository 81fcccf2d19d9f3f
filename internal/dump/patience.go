package dump

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// How often one read is tried without getting any further, and how long a whole dump waits for a server that is away.
// A damaged server may die of the read itself and come back each time.
const (
	maxTries      = 6
	firstPause    = 100 * time.Millisecond
	longestPause  = 5 * time.Second
	totalPatience = 3 * time.Minute
)

// errImpatient says that the server was away for longer than a dump waits in all.
var errImpatient = errors.New("the server does not answer")

// patience is the time that a dump still waits for its server, over all collections: two hundred of them, each with
// patience of its own, would wait for hours.
type patience struct {
	mu   sync.Mutex
	left time.Duration
	unit time.Duration
}

func newPatience(unit time.Duration) *patience { return &patience{left: totalPatience, unit: unit} }

// pause waits longer with each try.
func (p *patience) pause(ctx context.Context, try int) error {
	d := min(p.unit<<min(try, 10), longestPause)
	p.mu.Lock()
	p.left -= d
	over := p.left < 0
	p.mu.Unlock()
	if over {
		return errImpatient
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// tries is how often a read is tried without getting any further. A salvage knows what to do instead, and the server may
// die of every try.
func (r *run) tries() int {
	if r.o.Salvage {
		return 2
	}
	return maxTries
}

// patiently does f again while its failure may pass.
func (r *run) patiently(ctx context.Context, f func() error) error {
	for try := 0; ; try++ {
		err := f()
		if err == nil || ours(ctx, err) || !passes(err) || try == maxTries {
			return err
		}
		if wait := r.patience.pause(ctx, try); wait != nil {
			return fmt.Errorf("%w (%w)", err, wait)
		}
	}
}

// awaitServer returns once the server answers, or an error when patience is at its end.
func (r *run) awaitServer(ctx context.Context) error {
	return r.patiently(ctx, func() error {
		_, err := r.command(ctx, bson.D{{Key: "ping", Value: 1}})
		return err
	})
}
