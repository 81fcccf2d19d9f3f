package dump

import "time"

// A batch of some 2 MB keeps the driver's buffers small and the round trips few. No server gives more than 16 MB.
const (
	wantBatchBytes = 2 << 20
	firstBatch     = 101
	maxBatch       = 100_000
)

// pace chooses the size of the next batch from the last ones. Most servers are faster the more they are asked for at
// once; FerretDB v1 halves its speed with batches of 1,000. So sizes grow in steps, and where growing made reading
// slower twice in a row, the best size is kept.
type pace struct {
	size     int
	best     int
	bestRate float64
	slower   int
	settled  bool
}

func newPace() *pace { return &pace{size: firstBatch} }

// next takes what the last batch held and how long the server took for it, and returns the size of the next one.
func (p *pace) next(documents int, bytes int64, took time.Duration) int {
	if documents == 0 {
		return p.size
	}
	want := int(min(max(wantBatchBytes*int64(documents)/max(bytes, 1), 1), maxBatch))
	if p.settled {
		p.size = min(want, p.best)
		return p.size
	}
	rate := float64(documents) / max(took.Seconds(), 1e-6)
	switch {
	case rate > p.bestRate:
		p.best, p.bestRate, p.slower = p.size, rate, 0
	case rate < 0.6*p.bestRate && p.size > p.best:
		if p.slower++; p.slower == 2 {
			p.settled = true
			p.size = min(want, p.best)
			return p.size
		}
	default:
		p.slower = 0
	}
	p.size = min(want, 8*p.size)
	return p.size
}
