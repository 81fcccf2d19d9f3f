package ledger

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
)

var zero = time.Date(2026, time.February, 24, 2, 0, 0, 0, time.UTC)

// at is a time on the tests' clock, in seconds.
func at(seconds float64) time.Time { return zero.Add(time.Duration(seconds * float64(time.Second))) }

// state is document 1 in its nth state; state 0 is its absence.
func state(n int) bson.Raw {
	if n == 0 {
		return nil
	}
	raw, err := bson.Marshal(bson.D{{Key: "_id", Value: int32(1)}, {Key: "state", Value: int32(n)}})
	if err != nil {
		panic(err)
	}
	return raw
}

var id = state(1).Lookup("_id")

// write leaves state n between two times.
func write(n int, begin, end float64) Write {
	return Write{Collection: "c", ID: id, Raw: state(n), Begin: at(begin), End: at(end), By: "app"}
}

func maybe(n int, begin float64) Write {
	return Write{Collection: "c", ID: id, Raw: state(n), Begin: at(begin), Maybe: true, By: "app"}
}

func damaged(n int, begin, end float64) Write {
	w := write(n, begin, end)
	w.By = ByDamage
	return w
}

// allowed lists the states that the document may be in; 0 is its absence.
func allowed(d *Document) []int {
	all := []int{}
	if d.Absent {
		all = append(all, 0)
	}
	for _, s := range d.States {
		all = append(all, int(s.Lookup("state").Int32()))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func TestStatesThatABackupReadFromSecond10To20MayHold(t *testing.T) {
	for _, c := range []struct {
		name   string
		writes []Write
		want   []int
	}{
		{"a write acknowledged before is in", []Write{write(1, 1, 2)}, []int{1}},
		{"a write that began after is out", []Write{write(1, 21, 22)}, []int{0}},
		{"a write within may be in or not", []Write{write(1, 12, 13)}, []int{0, 1}},
		{"a write that overlaps the start may have been applied late", []Write{write(1, 9, 11)}, []int{0, 1}},
		{"a write that overlaps the end may have been applied early", []Write{write(1, 19, 22)}, []int{0, 1}},
		{"acknowledged at the very start is not before it", []Write{write(1, 9, 10)}, []int{0, 1}},
		{"begun at the very end is not after it", []Write{write(1, 20, 21)}, []int{0, 1}},
		{"only the last state before is in", []Write{write(1, 1, 2), write(2, 3, 4)}, []int{2}},
		{"a change within leaves both states", []Write{write(1, 1, 2), write(2, 15, 16)}, []int{1, 2}},
		{"all states within are possible", []Write{write(1, 1, 2), write(2, 12, 13), write(3, 14, 15)}, []int{1, 2, 3}},
		{"a change after does not count", []Write{write(1, 1, 2), write(2, 21, 22)}, []int{1}},
		{"a deletion before is final", []Write{write(1, 1, 2), write(0, 3, 4)}, []int{0}},
		{"a deletion within leaves a choice", []Write{write(1, 1, 2), write(0, 12, 13)}, []int{0, 1}},
		{"a deletion after does not count", []Write{write(1, 1, 2), write(0, 22, 23)}, []int{1}},
		{"written and deleted within", []Write{write(1, 12, 13), write(0, 14, 15)}, []int{0, 1}},
		{"damage after does not count", []Write{write(1, 1, 2), damaged(9, 30, 31)}, []int{1}},
		{"no answer before: either", []Write{write(1, 1, 2), maybe(2, 3)}, []int{1, 2}},
		{"no answer, then a certain write before", []Write{write(1, 1, 2), maybe(2, 3), write(3, 5, 6)}, []int{3}},
		{"no answer, then a certain write within", []Write{write(1, 1, 2), maybe(2, 3), write(3, 12, 13)}, []int{1, 2, 3}},
		{"no answer after", []Write{write(1, 1, 2), maybe(2, 21)}, []int{1}},
		{"no answer to the first write", []Write{maybe(1, 3)}, []int{0, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := New()
			l.Record(c.writes...)
			e := l.Expect(Cut{Window: Window{at(10), at(20)}})
			require.Equal(t, c.want, allowed(e.Collections["c"].Documents[Key(id)]))
		})
	}
}

func TestEntriesThatAMergeKeeps(t *testing.T) {
	for _, c := range []struct {
		name   string
		writes []Write
		want   []int
	}{
		{"what the backup has comes from the backup", []Write{write(1, 1, 2), write(2, 30, 31)}, []int{1}},
		{"a newer entry must come back", []Write{write(1, 30, 31)}, []int{1}},
		{"an entry made while the backup ran must be there one way or the other", []Write{write(1, 12, 13)}, []int{1}},
		{"an entry that overlaps the start may carry an older time", []Write{write(1, 9, 11)}, []int{0, 1}},
		{"an entry in the same millisecond as the start, too", []Write{write(1, 10.0004, 10.0009)}, []int{0, 1}},
		{"a newer entry that was deleted stays deleted", []Write{write(1, 30, 31), write(0, 32, 33)}, []int{0}},
		{"a newer entry with garbage over it may be gone", []Write{write(1, 30, 31), damaged(9, 32, 33)}, []int{0, 9}},
		{"a newer entry that the damage deleted is gone", []Write{write(1, 30, 31), damaged(0, 32, 33)}, []int{0}},
		{"a newer entry without an answer", []Write{maybe(1, 30)}, []int{0, 1}},
		{"a newer entry, then a change without an answer", []Write{write(1, 30, 31), maybe(2, 32)}, []int{0, 1, 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := New()
			l.Record(c.writes...)
			start := 10.0
			if c.writes[0].Begin.Equal(at(10.0004)) {
				start = 10.0002
			}
			e := l.Expect(Cut{Window: Window{at(start), at(20)}, Merged: []string{"c"}})
			require.Equal(t, c.want, allowed(e.Collections["c"].Documents[Key(id)]))
		})
	}
}

func TestACollectionCanHaveAWindowOfItsOwn(t *testing.T) {
	l := New()
	l.Record(write(1, 12, 13))
	cut := Cut{Window: Window{at(10), at(20)}, Collections: map[string]Window{"c": {at(15), at(16)}}}
	require.Equal(t, []int{1}, allowed(l.Expect(cut).Collections["c"].Documents[Key(id)]))
	cut.Collections["c"] = Window{at(10), at(11)}
	require.Equal(t, []int{0}, allowed(l.Expect(cut).Collections["c"].Documents[Key(id)]))
}

func TestADroppedCollection(t *testing.T) {
	l := New()
	l.Record(write(1, 1, 2))
	l.Dropped("c", ByDamage, at(30), at(31))
	d := l.Expect(Cut{Window: Window{at(10), at(20)}}).Collections["c"].Documents[Key(id)]
	require.Equal(t, []int{1}, allowed(d))
	require.Equal(t, state(1), d.Latest, "damage is nobody's last word")

	// An entry whose answer came after the drop, and which may have been stored before it.
	l.Record(write(2, 29.5, 31.5))
	l.Record(Write{Collection: "c", ID: bson.RawValue{Type: bson.TypeInt32, Value: []byte{2, 0, 0, 0}}, Raw: state(1), Begin: at(29.5), End: at(31.5)})
	e := l.Expect(Cut{Window: Window{at(10), at(20)}, Merged: []string{"c"}})
	require.True(t, e.Collections["c"].Documents["\x10\x02\x00\x00\x00"].Absent)
}

func TestCollectionsThatCameToBeWithTheFirstWrite(t *testing.T) {
	for _, c := range []struct {
		name              string
		begin, end        float64
		mayMiss, mayExist bool
	}{
		{"before", 1, 2, false, true},
		{"within", 12, 13, true, true},
		{"after", 21, 22, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := New()
			l.Record(write(1, c.begin, c.end))
			x := l.Expect(Cut{Window: Window{at(10), at(20)}}).Collections["c"]
			require.Equal(t, c.mayMiss, x.MayMiss, "may miss")
			require.Equal(t, c.mayExist, x.MayExist, "may exist")
		})
	}
}

func TestARequestWithoutAnAnswer(t *testing.T) {
	ticket := func(id int32, title string) bson.Raw {
		raw, err := bson.Marshal(bson.D{{Key: "_id", Value: id}, {Key: "ticket_id", Value: "tkt_1"}, {Key: "title", Value: title}})
		require.NoError(t, err)
		return raw
	}
	window := Window{at(10), at(20)}
	for _, c := range []struct {
		name  string
		begin float64
		later []Write
		want  bool
	}{
		{"before the backup", 3, nil, true},
		{"while it ran", 12, nil, true},
		{"after it", 21, nil, false},
		{"and then a certain write before the backup", 3, []Write{{Collection: "c", ID: id, Raw: ticket(1, "new"), Begin: at(4), End: at(5)}}, false},
		{"and then a certain write while it ran", 3, []Write{{Collection: "c", ID: id, Raw: ticket(1, "new"), Begin: at(14), End: at(15)}}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := New()
			l.Record(Write{Collection: "c", ID: id, Raw: ticket(1, "old"), Begin: at(1), End: at(2)})
			l.RecordUncertain(Uncertain{Collection: "c", Field: "ticket_id", Value: "tkt_1", Begin: at(c.begin)})
			l.Record(c.later...)
			e := l.Expect(Cut{Window: window})
			require.Equal(t, c.want, e.Uncertain("c", ticket(1, "whatever")))
			require.False(t, e.Uncertain("d", ticket(1, "whatever")))
		})
	}
}

// A simulated database applies each write at some instant, a simulated backup reads each document at some instant.
// Whatever they do, the state read is allowed; and every state that is allowed could have been read.
func TestTheRuleIsNeitherTooStrictNorTooLax(t *testing.T) {
	const documents, rounds = 20, 200
	r := rand.New(rand.NewPCG(1, 2))
	type outcome struct{ round, document, state int }
	reached, expected := map[outcome]bool{}, map[outcome]bool{}
	for round := range rounds {
		l := New()
		window := Window{at(10 + 10*r.Float64()), at(20 + 10*r.Float64())}
		var histories [documents][]Write
		for n := range documents {
			now := 0.0
			for i := range 1 + r.IntN(5) {
				begin := now + 8*r.Float64()
				end := begin + 4*r.Float64()
				now = end
				w := write(i+1, begin, end)
				w.ID = bson.RawValue{Type: bson.TypeInt32, Value: []byte{byte(n), 0, 0, 0}}
				if r.IntN(5) == 0 {
					w.Raw = nil
				}
				histories[n] = append(histories[n], w)
			}
			l.Record(histories[n]...)
		}
		e := l.Expect(Cut{Window: window})
		for n, h := range histories {
			d := e.Collections["c"].Documents[Key(h[0].ID)]
			may := allowed(d)
			for _, s := range may {
				expected[outcome{round, n, s}] = true
			}
			for range 400 {
				// Extremes as often as the middle: the rule is about the edges.
				read := window.From.Add(time.Duration(edge(r) * float64(window.To.Sub(window.From))))
				seen := 0
				for i, w := range h {
					applied := w.Begin.Add(time.Duration(edge(r) * float64(w.End.Sub(w.Begin))))
					if applied.After(read) {
						break
					}
					seen = i + 1
					if w.Raw == nil {
						seen = 0
					}
				}
				if !slices.Contains(may, seen) {
					t.Fatalf("round %d, document %d: a backup can have read state %d, and only %v are allowed", round, n, seen, may)
				}
				reached[outcome{round, n, seen}] = true
			}
		}
	}
	missed := 0
	for k := range expected {
		if !reached[k] {
			missed++
		}
	}
	require.Less(t, missed, len(expected)/100, "states allowed that no backup can have read")
}

func edge(r *rand.Rand) float64 {
	switch r.IntN(4) {
	case 0:
		return 0
	case 1:
		return 1
	default:
		return r.Float64()
	}
}
