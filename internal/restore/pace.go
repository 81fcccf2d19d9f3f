package restore

import (
	"sync"
	"time"
)

// setting is how a server is fed.
type setting struct {
	writers int // batches on their way at a time, over all collections
	bytes   int // of a batch
}

// The bounds of a setting, and where it begins.
const (
	fewestWriters = 2
	firstWriters  = 8
	mostWriters   = 32
	smallestBatch = 64 << 10
	firstBatch    = 1 << 20
	largestBatch  = 4 << 20
)

const (
	// slowBatch is when a batch is too large in any case: a lost connection should cost little, and a cancelled attempt
	// end soon.
	slowBatch = time.Second
	// A measurement lasts for at least so long, and for so many batches of each writer.
	measureFor  = 100 * time.Millisecond
	measureEach = 3
	// faster is by how much a change must help to be kept.
	faster = 1.05
	// longestBreak is for how many measurements at most a change that did not help is left alone.
	longestBreak = 32
)

// change is one way to feed the server otherwise.
type change struct {
	to    func(setting) setting
	pause int // measurements until it may be tried
	next  int // the pause after it did not help
}

func (c *change) failed() {
	c.next = min(max(2*c.next, 2), longestBreak)
	c.pause = c.next
}

// pace finds out how a server is best fed, while it is fed: it measures, tries one change, measures again, and keeps what
// was faster. One server takes twice as much in large batches, another one half; only trying tells. It is safe for
// concurrent use.
type pace struct {
	mu      sync.Mutex
	now     setting
	changes []*change
	trial   *change // under way
	before  setting // what it began from

	settling int // batches of the former setting that are still on their way
	began    time.Time
	sent     int
	waited   int // batches for which no writer was free
	bytes    int64
	rate     float64 // bytes a second, of the setting before the trial
}

func newPace() *pace {
	return &pace{
		now: setting{firstWriters, firstBatch},
		changes: []*change{
			{to: func(s setting) setting { s.writers = min(s.writers*2, mostWriters); return s }},
			{to: func(s setting) setting { s.bytes = min(s.bytes*2, largestBatch); return s }},
			{to: func(s setting) setting { s.bytes = max(s.bytes/2, smallestBatch); return s }},
			{to: func(s setting) setting { s.writers = max(s.writers/2, fewestWriters); return s }},
		},
	}
}

func (p *pace) setting() setting {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

// wait notes that a batch was ready before any writer was.
func (p *pace) wait() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waited++
}

// done notes a batch that the server has taken.
func (p *pace) done(bytes int, took time.Duration, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if half := max(bytes/2, smallestBatch); took > slowBatch && bytes >= p.now.bytes && half < p.now.bytes {
		if p.trial != nil {
			p.trial.failed()
			p.trial, p.now = nil, p.before
		}
		p.now.bytes = min(p.now.bytes, half)
		p.measure(at)
		return
	}
	if p.settling > 0 || p.began.IsZero() {
		p.settling--
		if p.settling <= 0 {
			p.began = at
		}
		p.sent, p.waited, p.bytes = 0, 0, 0
		return
	}
	p.sent++
	p.bytes += int64(bytes)
	if took := at.Sub(p.began); took >= measureFor && p.sent >= measureEach*p.now.writers {
		p.conclude(float64(p.bytes)/took.Seconds(), at)
	}
}

// measure begins a new measurement, once the batches on their way are done.
func (p *pace) measure(at time.Time) {
	p.settling, p.began = p.now.writers, at
	p.sent, p.waited, p.bytes = 0, 0, 0
}

func (p *pace) conclude(rate float64, at time.Time) {
	defer p.measure(at)
	busy := p.waited > p.sent/2
	if c := p.trial; c != nil {
		p.trial = nil
		if rate < p.rate*faster {
			p.now = p.before
			c.failed()
			return
		}
		// It helped: more of the same may help more.
		c.next = 0
		p.rate = rate
		if busy {
			p.try(c)
		}
		return
	}
	p.rate = rate
	for _, c := range p.changes {
		if c.pause > 0 {
			c.pause--
		}
	}
	// Where writers wait for documents, it is not the server that decides.
	if !busy {
		return
	}
	for _, c := range p.changes {
		if c.pause == 0 && p.try(c) {
			return
		}
	}
}

// try begins a trial, unless the change is at its bound.
func (p *pace) try(c *change) bool {
	next := c.to(p.now)
	if next == p.now {
		return false
	}
	p.trial, p.before, p.now = c, p.now, next
	return true
}
