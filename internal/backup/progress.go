package backup

import (
	"sync"
	"time"
)

// reportEvery keeps a step that finishes many small collections from spending its time on reports.
const reportEvery = 200 * time.Millisecond

// Tracker adds up the progress of a step whose collections are worked on side by side, and reports it now and then.
// A nil Tracker counts nothing. It is safe for concurrent use.
type Tracker struct {
	report  func(Progress)
	mu      sync.Mutex
	p       Progress
	started time.Time
	last    time.Time
}

// NewTracker starts a step. p names it and gives its totals where they are known; report may be nil.
func NewTracker(p Progress, report func(Progress)) *Tracker {
	if report == nil {
		return nil
	}
	return &Tracker{report: report, p: p, started: time.Now()}
}

// Add counts documents and bytes of a collection.
func (t *Tracker) Add(collection string, documents, bytes int64) {
	t.update(false, func() {
		t.p.Collection = collection
		t.p.Documents += documents
		t.p.Bytes += bytes
	})
}

// Done counts a finished collection.
func (t *Tracker) Done() {
	t.update(false, func() { t.p.Collections++ })
}

// Finish reports a last time.
func (t *Tracker) Finish() {
	t.update(true, func() { t.p.Collection = "" })
}

func (t *Tracker) update(always bool, change func()) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	change()
	now := time.Now()
	if !always && now.Sub(t.last) < reportEvery {
		return
	}
	t.last = now
	t.p.ETASeconds = t.eta(now)
	t.report(t.p)
}

// eta expects the rest to go as fast as what is done, by bytes where the total is known.
func (t *Tracker) eta(now time.Time) float64 {
	done, total := t.p.Bytes, t.p.BytesTotal
	if total <= 0 {
		done, total = int64(t.p.Collections), int64(t.p.CollectionsTotal)
	}
	if done <= 0 || done >= total {
		return 0
	}
	return (now.Sub(t.started).Seconds() * float64(total-done) / float64(done))
}
