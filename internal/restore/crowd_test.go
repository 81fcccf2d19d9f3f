package restore

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// through lets so many collections through, of which each takes a time that depends on how many there are at once, in a time of its own.
// It returns how long all of them took.
func through(t *testing.T, c *crowd, takes func(inside int) time.Duration, collections int) time.Duration {
	t.Helper()
	at := time.Unix(0, 0)
	for range collections {
		for {
			if room, _ := c.tryEnter(); !room {
				break
			}
		}
		at = at.Add(takes(c.inside) / time.Duration(c.inside))
		c.leave(at)
	}
	return at.Sub(time.Unix(0, 0))
}

// A crowd grows where the server answers many at once as fast as one, and stays small where they are in each other's way.
func TestACrowdGrowsWhereItHelps(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		takes func(inside int) time.Duration
		want  int
	}{
		"answers take their time": {func(int) time.Duration { return 5 * time.Millisecond }, 16},
		"one lock":                {func(n int) time.Duration { return time.Duration(n) * time.Millisecond }, 4},
		"worse than one lock":     {func(n int) time.Duration { return time.Duration(n*n) * 100 * time.Microsecond }, 4},
		"room for eight":          {func(n int) time.Duration { return time.Duration(max(n, 8)) * time.Millisecond }, 8},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCrowd(4, 16, time.Unix(0, 0))
			took := through(t, c, row.takes, 5000)
			best := row.takes(row.want) / time.Duration(row.want) * 5000
			require.Less(t, took, best*11/10, "trials cost little")
			require.LessOrEqual(t, c.most, 2*row.want)
			require.GreaterOrEqual(t, c.most, row.want)
		})
	}
}

// Whoever waits for room ends with the restore, and gets in as soon as one leaves.
func TestACrowdLetsInWhoWaits(t *testing.T) {
	t.Parallel()
	c := newCrowd(1, 4, time.Now())
	require.NoError(t, c.enter(t.Context()))
	ended, end := context.WithCancel(t.Context())
	end()
	require.ErrorIs(t, c.enter(ended), context.Canceled)
	in := make(chan error)
	go func() { in <- c.enter(t.Context()) }()
	c.leave(time.Now())
	require.NoError(t, <-in)
}
