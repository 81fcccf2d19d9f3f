package estimate

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func on(day int) time.Time { return time.Date(2026, 11, day, 2, 0, 0, 0, time.UTC) }

// TestEstimates is what a person would expect of one phase, given the past.
func TestEstimates(t *testing.T) {
	const mb = 1 << 20
	drill := Past{Phase: Stage, Kind: Drill, At: on(20), Documents: 28_850, Bytes: 100 * mb, Seconds: 12}
	for name, c := range map[string]struct {
		phase  Phase
		past   []Past
		size   Size
		known  bool
		want   float64
		source string
	}{
		"never measured is unknown, and never a guess": {Stage, nil, Size{100, mb}, false, 0, "never measured"},
		"as much as in the drill takes as long":        {Stage, []Past{drill}, Size{28_850, 100 * mb}, true, 12, "the drill of 2026-11-20: 28,850 documents in 12 s"},
		"three times the bytes take three times as long": {
			Stage, []Past{drill}, Size{40_000, 300 * mb}, true, 36, "the drill of 2026-11-20: 28,850 documents in 12 s, scaled ×3.0"},
		"where bytes were not kept, documents count": {
			Stage, []Past{{Phase: Stage, Kind: Drill, At: on(20), Documents: 1000, Seconds: 2}}, Size{500, mb}, true, 1,
			"the drill of 2026-11-20: 1,000 documents in 2.0 s, scaled ×0.5"},
		"an empty past run scales nothing": {Stage, []Past{{Phase: Stage, Kind: Drill, At: on(20), Seconds: 2}}, Size{500, mb}, true, 2, "the drill of 2026-11-20: 0 documents in 2.0 s"},
		"a swap renames, however much there is": {
			Swap, []Past{{Phase: Swap, Kind: Recovery, At: on(3), Documents: 10, Bytes: mb, Seconds: 4}}, Size{1e6, 900 * mb}, true, 4, "the recovery of 2026-11-03"},
		"the newest drill counts": {
			Stage, []Past{drill, {Phase: Stage, Kind: Drill, At: on(22), Documents: 28_850, Bytes: 100 * mb, Seconds: 15}, {Phase: Stage, Kind: Drill, At: on(1), Seconds: 99}},
			Size{28_850, 100 * mb}, true, 15, "the drill of 2026-11-22: 28,850 documents in 15 s"},
		"an older recovery goes before a drill": {
			Stage, []Past{drill, {Phase: Stage, Kind: Recovery, At: on(2), Documents: 28_850, Bytes: 100 * mb, Seconds: 20}},
			Size{28_850, 100 * mb}, true, 20, "the recovery of 2026-11-02: 28,850 documents in 20 s"},
		"what was measured just now goes before everything": {
			Check, []Past{{Phase: Check, Kind: Recovery, At: on(22), Bytes: mb, Seconds: 99}, {Phase: Check, Kind: Now, At: on(23), Bytes: mb, Seconds: 1}},
			Size{1, mb}, true, 1, "measured by this dry run"},
		"a safety dump takes as long as a backup": {
			Safety, []Past{{Phase: Dump, Kind: Backup, At: on(22), Documents: 10, Bytes: 10 * mb, Seconds: 5}}, Size{10, 10 * mb}, true, 5,
			`as "dump" of the backup of 2026-11-22: 10 documents in 5.0 s`},
		"a verification takes as long as a drill's proof": {
			Verify, []Past{{Phase: Prove, Kind: Drill, At: on(20), Documents: 10, Bytes: 10 * mb, Seconds: 5}}, Size{20, 20 * mb}, true, 10,
			`as "prove the staged copy" of the drill of 2026-11-20: 10 documents in 5.0 s, scaled ×2.0`},
		"a stop is like nothing else": {Stop, []Past{drill}, Size{1, 1}, false, 0, "never measured"},
	} {
		t.Run(name, func(t *testing.T) {
			list := Of([]Phase{c.phase}, c.past, c.size)
			require.Len(t, list, 1)
			require.Equal(t, c.known, list[0].Known)
			require.InDelta(t, c.want, list[0].Seconds, 0.001)
			require.Equal(t, c.source, list[0].Source)
		})
	}
}

// TestSums proves that downtime is counted from the stop, and that what is unknown is said.
func TestSums(t *testing.T) {
	var past []Past
	for i, p := range Phases() {
		past = append(past, Past{Phase: p, Kind: Recovery, At: on(1), Documents: 10, Bytes: 10, Seconds: float64(i + 1)})
	}
	all := Add(Of(Phases(), past, Size{10, 10}))
	require.Empty(t, all.Unknown)
	require.InDelta(t, 66, all.TotalSeconds, 0.001)
	require.InDelta(t, 6+7+8+9+10+11, all.DownSeconds, 0.001)
	require.Equal(t, "Expected: the application is down for about 51 s, about 1 min 6 s in all without people's time.", all.Line())

	some := Add(Of(Phases(), past[:5], Size{10, 10}))
	require.Equal(t, []Phase{Stop, Swap, Merge, Start}, some.Unknown, "the others do the same work as a phase that is known")
	require.Equal(t, "at least 5.0 s", some.Downtime())
	require.Contains(t, some.Line(), "never measured: stop the application, swap,")

	early := Add(Of([]Phase{Check, Stage}, past[1:2], Size{10, 10}))
	require.False(t, early.DownUnknown)
	require.Equal(t, "Expected: at least 2.0 s in all; never measured: load it beside the live data.", early.Line(), "nothing is said of an application that is not stopped")
	require.Empty(t, Add(Of(Phases(), nil, Size{})).Line(), "nothing is said where nothing is known")
}
