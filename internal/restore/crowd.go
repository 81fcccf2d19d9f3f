package restore

import (
	"context"
	"sync"
	"time"
)

// A crowd is measured for at least so long, and over so many collections for each that is in it.
const (
	crowdFor  = 20 * time.Millisecond
	crowdEach = 3
	// livelier is by how much a larger crowd must help to be kept: the collections come by size, so that later ones are faster anyway.
	livelier = 1.05
)

// crowd is how many small collections are loaded at a time. Most of their time they wait for answers, so that one server takes four times as
// many in the same time; another one, which writes everything to one file, only stands in its own way. So it begins with few, doubles
// them while that helps, and now and then tries again. It is safe for concurrent use.
type crowd struct {
	mu      sync.Mutex
	most    int // at a time, now
	limit   int
	inside  int
	changed chan struct{} // closed as soon as there may be room

	trial    bool // most was doubled for this measurement
	settling int  // collections that began before it
	began    time.Time
	loaded   int
	rate     float64 // collections a second, before the trial
	pause    int     // measurements until the next trial
	next     int     // the pause after that one does not help
}

func newCrowd(first, limit int, now time.Time) *crowd {
	return &crowd{most: first, limit: limit, changed: make(chan struct{}), began: now, next: 1}
}

// enter waits for room.
func (c *crowd) enter(ctx context.Context) error {
	for {
		room, changed := c.tryEnter()
		if room {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (c *crowd) tryEnter() (room bool, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inside < c.most {
		c.inside++
		return true, nil
	}
	return false, c.changed
}

// leave notes that a collection was loaded, or has failed.
func (c *crowd) leave(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inside--
	c.measure(now)
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *crowd) measure(now time.Time) {
	if c.settling > 0 {
		c.settling--
		c.began, c.loaded = now, 0
		return
	}
	c.loaded++
	took := now.Sub(c.began)
	if took < crowdFor || c.loaded < crowdEach*c.most {
		return
	}
	rate := float64(c.loaded) / took.Seconds()
	switch {
	case !c.trial:
		c.rate = rate
		c.pause--
	case rate >= c.rate*livelier:
		c.rate, c.pause, c.next = rate, 0, 1
	default:
		c.most /= 2
		c.next *= 2
		c.pause = c.next
	}
	before := c.most
	if c.trial = c.pause <= 0 && 2*c.most <= c.limit; c.trial {
		c.most *= 2
	}
	c.settling, c.began, c.loaded = before, now, 0
}
