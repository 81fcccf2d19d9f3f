package dump

import (
	"context"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
)

// The driver holds two batches for each cursor: the one that is read and the one that comes. A batch is about
// wantBatchBytes, and as large as its largest document.
const (
	leastWeight   = 2 * wantBatchBytes
	maxBatchBytes = 16 << 20
)

// limits are what all cursors of a dump share: the memory for their batches, and how fast they may read.
type limits struct {
	memory    *semaphore.Weighted
	total     int64
	documents *rate.Limiter // nil where there is no limit
	bytes     *rate.Limiter
}

func newLimits(o Options) *limits {
	l := &limits{total: max(o.Memory-packingShare(o.Memory), leastWeight)}
	l.memory = semaphore.NewWeighted(l.total)
	l.documents, l.bytes = limiter(o.DocumentsPerSecond), limiter(o.BytesPerSecond)
	return l
}

// packingShare is the part of the memory that documents take up which wait to be compressed and written.
func packingShare(memory int64) int64 { return memory * 3 / 8 }

// limiter lets through what a tenth of a second allows at once.
func limiter(perSecond int64) *rate.Limiter {
	if perSecond <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(perSecond), int(max(perSecond/10, 1)))
}

// pace waits until what was just read is within the limits.
func (l *limits) pace(ctx context.Context, documents int, bytes int64) error {
	for _, each := range []struct {
		limiter *rate.Limiter
		n       int64
	}{{l.documents, int64(documents)}, {l.bytes, bytes}} {
		for n := each.n; each.limiter != nil && n > 0; {
			step := min(n, int64(each.limiter.Burst()))
			if err := each.limiter.WaitN(ctx, int(step)); err != nil {
				return err
			}
			n -= step
		}
	}
	return nil
}

// share is the memory that one cursor holds.
type share struct {
	of     *limits
	weight int64
}

// want changes the share to what two batches as large as the last one take up. Nothing is held while it waits for more.
func (s *share) want(ctx context.Context, batch int64) error {
	weight := min(max(2*min(batch, maxBatchBytes), leastWeight), s.of.total)
	if weight <= s.weight && weight >= s.weight/2 {
		return nil
	}
	s.release()
	if err := s.of.memory.Acquire(ctx, weight); err != nil {
		return err
	}
	s.weight = weight
	return nil
}

func (s *share) release() {
	if s.weight > 0 {
		s.of.memory.Release(s.weight)
		s.weight = 0
	}
}
