package restore

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// The state tables of swap and roll-back, as a person would say them. Names stand for what is there: "L" the original,
// "S" the proven copy, "x" something else.
func TestTheStateTables(t *testing.T) {
	replaced := entry{Name: "live", Stage: "stage", StageUUID: "S", Old: "old", HadLive: true, LiveUUID: "L", Back: "stage", Spare: "spare"}
	added := entry{Name: "live", Stage: "stage", StageUUID: "S", Old: "old", Back: "stage", Spare: "spare"}
	aside := entry{Name: "live", Old: "old", HadLive: true, LiveUUID: "L", Spare: "spare"}
	cases := []struct {
		what             string
		e                entry
		stage, old, live string
		withoutUUIDs     bool // the outcome is the same where the server gives none
		forward          string
		backward         string
	}{
		{"nothing done", replaced, "S", "", "L", true, "live→old", "done"},
		{"set aside", replaced, "S", "L", "", true, "stage→live", "old→live"},
		{"placed", replaced, "", "L", "S", true, "done", "live→stage"},
		{"placed, and half rolled back", replaced, "S", "L", "", true, "stage→live", "old→live"},
		{"somebody writes after it was set aside", replaced, "S", "L", "x", true, "appeared", "live→spare"},
		{"the live one was made anew before", replaced, "S", "", "x", false, "appeared", "vanished"},
		{"the live one was dropped before", replaced, "S", "", "", true, "vanished", "missing"},
		{"the staging is gone before", replaced, "", "", "L", false, "missing", "done"},
		{"the staging is gone, the live one aside", replaced, "", "L", "", true, "missing", "old→live"},
		{"everything is gone", replaced, "", "", "", true, "missing", "missing"},
		{"what was set aside is gone", replaced, "", "", "S", false, "done", "missing"},
		{"somebody replaced the staging", replaced, "x", "", "L", false, "missing", "done"},

		{"a collection comes back", added, "S", "", "", true, "stage→live", "done"},
		{"a collection has come back", added, "", "", "S", true, "done", "live→stage"},
		{"somebody made it meanwhile", added, "S", "", "x", true, "appeared", "done"},

		{"not in the backup", aside, "", "", "L", true, "live→old", "done"},
		{"not in the backup, set aside", aside, "", "L", "", true, "done", "old→live"},
		{"not in the backup, and written again", aside, "", "L", "x", true, "appeared", "live→spare"},
		{"not in the backup, dropped by somebody", aside, "", "", "", true, "vanished", "missing"},
	}
	say := func(m move, err error) string {
		switch e := err.(type) {
		case *MissingError:
			return "missing"
		case *LiveReappearedError:
			return "appeared"
		case nil:
		default:
			return e.Error()
		}
		switch {
		case m.done:
			return "done"
		case m.vanished:
			return "vanished"
		default:
			return m.from + "→" + m.to
		}
	}
	for _, c := range cases {
		for _, uuids := range []bool{true, false} {
			if !uuids && !c.withoutUUIDs {
				continue
			}
			t.Run(fmt.Sprintf("%s uuids %t", c.what, uuids), func(t *testing.T) {
				at := func(what string) place {
					if uuids {
						return place{what != "", what}
					}
					return place{what != "", ""}
				}
				s := seen{stage: at(c.stage), old: at(c.old), live: at(c.live), back: at(c.stage)}
				if c.e.Stage == "" {
					s.back = place{}
				}
				require.Equal(t, c.forward, say(c.e.forward(s)), "swap")
				require.Equal(t, c.backward, say(c.e.backward(s)), "roll back")
			})
		}
	}
}

// world is a server that can do nothing but rename, and forget its answer.
type world map[string]string

func (w world) see(e entry, uuids bool) seen {
	at := func(name string) place {
		what, ok := w[name]
		if !uuids {
			what = ""
		}
		return place{ok && name != "", what}
	}
	return seen{stage: at(e.Stage), old: at(e.Old), live: at(e.Name), back: at(e.Back), spare: at(e.Spare)}
}

// follow carries out a table for at most so many renames, as an attempt that is killed then.
func (w world) follow(t *rapid.T, e *entry, uuids bool, renames int, table func(entry, seen) (move, error)) (finished bool) {
	for range renames + 1 {
		m, err := table(*e, w.see(*e, uuids))
		if err != nil {
			t.Fatalf("%+v in %v: %v", e, w, err)
		}
		if m.done {
			return true
		}
		if m.vanished {
			e.Vanished = true
			continue
		}
		if renames == 0 {
			return false
		}
		if _, taken := w[m.to]; taken {
			t.Fatalf("%+v renames over %s in %v", e, m.to, w)
		}
		w[m.to] = w[m.from]
		delete(w, m.from)
		renames--
	}
	return false
}

// However often and wherever an attempt is killed, a swap ends swapped and a roll-back ends with the original, on servers
// with UUIDs and on those without.
func TestTheStateTablesAreSafeAgainstAnyCrash(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		uuids := rapid.Bool().Draw(t, "uuids")
		e := entry{Name: "live", Old: "old", HadLive: rapid.Bool().Draw(t, "had live"), Spare: "spare"}
		inBackup := !e.HadLive || rapid.Bool().Draw(t, "in the backup")
		w := world{}
		if e.HadLive {
			w["live"] = "L"
		}
		if inBackup {
			e.Stage, w["stage"] = "stage", "S"
		}
		if uuids {
			e.StageUUID, e.LiveUUID = w["stage"], w["live"]
		}
		for range rapid.IntRange(0, 3).Draw(t, "crashes of the swap") {
			w.follow(t, &e, uuids, rapid.IntRange(0, 2).Draw(t, "renames"), entry.forward)
		}
		complete := rapid.Bool().Draw(t, "complete")
		if complete {
			if !w.follow(t, &e, uuids, 5, entry.forward) || w["live"] != map[bool]string{true: "S", false: ""}[inBackup] {
				t.Fatalf("not swapped: %v", w)
			}
			if e.HadLive && w["old"] != "L" {
				t.Fatalf("the original is lost: %v", w)
			}
		}
		e.Back = e.Stage
		if complete && inBackup {
			e.Back = "placed"
		}
		for range rapid.IntRange(0, 3).Draw(t, "crashes of the roll-back") {
			w.follow(t, &e, uuids, rapid.IntRange(0, 2).Draw(t, "renames"), entry.backward)
		}
		if !w.follow(t, &e, uuids, 5, entry.backward) {
			t.Fatalf("not rolled back: %v", w)
		}
		if w["live"] != map[bool]string{true: "L", false: ""}[e.HadLive] {
			t.Fatalf("the original is not back: %v", w)
		}
		if inBackup && w[e.Back] != "S" && w["stage"] != "S" {
			t.Fatalf("the proven copy is lost: %v", w)
		}
	})
}
