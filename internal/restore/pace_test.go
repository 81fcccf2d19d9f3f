package restore

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// model says how long a server takes for a batch while so many of them are on their way.
type model func(s setting) time.Duration

// feed sends batches to a server of that kind, in a time of its own, and returns how many bytes a second went through in
// the last tenth of it.
func feed(p *pace, takes model, noise float64, batches int) float64 {
	r := rand.New(rand.NewPCG(7, 7))
	at := time.Unix(0, 0)
	last, bytes := at, 0
	for i := range batches {
		s := p.setting()
		took := time.Duration(float64(takes(s)) * (1 + noise*(r.Float64()-0.5)))
		at = at.Add(took / time.Duration(s.writers))
		p.wait()
		p.done(s.bytes, took, at)
		if i == batches*9/10 {
			last, bytes = at, 0
		}
		bytes += s.bytes
	}
	return float64(bytes) / at.Sub(last).Seconds()
}

// Whatever a server likes, it gets nearly the best that it could: compared with the best of all settings.
func TestThePaceFindsWhatTheServerLikes(t *testing.T) {
	t.Parallel()
	perByte := func(s setting, mbs float64) time.Duration {
		return time.Duration(float64(s.bytes) / mbs / 1e6 * float64(time.Second))
	}
	servers := map[string]model{
		"it has a core for every writer": func(s setting) time.Duration { return perByte(s, 20) },
		"one lock, whatever is sent":     func(s setting) time.Duration { return perByte(s, 60) * time.Duration(s.writers) },
		"each batch waits for its journal": func(s setting) time.Duration {
			return 20*time.Millisecond + perByte(s, 200)
		},
		"large batches are slow": func(s setting) time.Duration {
			return perByte(s, 100) * time.Duration(1+(s.bytes*s.bytes)>>36)
		},
		"writers are in each other's way": func(s setting) time.Duration {
			return time.Duration(float64(perByte(s, 50)) * float64(s.writers) * (1 + 0.1*float64(s.writers)))
		},
	}
	for name, takes := range servers {
		t.Run(name, func(t *testing.T) {
			best := 0.0
			for w := fewestWriters; w <= mostWriters; w *= 2 {
				for b := smallestBatch; b <= largestBatch; b *= 2 {
					s := setting{w, b}
					if took := takes(s); took < slowBatch {
						best = max(best, float64(w*b)/took.Seconds())
					}
				}
			}
			require.GreaterOrEqual(t, feed(newPace(), takes, 0.1, 20_000), 0.8*best)
		})
	}
}

// A batch that takes too long makes the next ones smaller at once, whatever it does to the speed.
func TestASlowServerGetsSmallBatches(t *testing.T) {
	t.Parallel()
	p := newPace()
	at := time.Unix(0, 0)
	for range 5 {
		s := p.setting()
		at = at.Add(3 * time.Second)
		p.done(s.bytes, 3*time.Second, at)
		require.Equal(t, max(s.bytes/2, smallestBatch), p.setting().bytes)
	}
	require.Equal(t, smallestBatch, p.setting().bytes)
}

// A server that takes everything as fast as it can be unpacked is left in peace.
func TestThePaceLeavesAServerThatWaitsInPeace(t *testing.T) {
	t.Parallel()
	p := newPace()
	at := time.Unix(0, 0)
	for range 1000 {
		at = at.Add(10 * time.Millisecond)
		p.done(firstBatch, time.Millisecond, at)
	}
	require.Equal(t, setting{firstWriters, firstBatch}, p.setting())
}
