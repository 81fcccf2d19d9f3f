// Package estimate says how long the phases of a recovery will take, from how long they took before: in drills, in backups, in
// recoveries. It computes only; the activities read what was kept of the past and call it.
package estimate

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/battwheels/runbook/internal/words"
)

// Phase is a part of a recovery.
type Phase string

// The phases, in the order of a recovery. From Stop on the application is down.
const (
	Fetch  Phase = "fetch the offsite copy" // only where the backup is not on the host
	Dump   Phase = "dump"
	Check  Phase = "check the backup"
	Stage  Phase = "load it beside the live data"
	Prove  Phase = "prove the staged copy"
	Plan   Phase = "draw the plan"
	Stop   Phase = "stop the application"
	Safety Phase = "final safety dump"
	Swap   Phase = "swap"
	Verify Phase = "verify in place"
	Merge  Phase = "keep newer audit entries"
	Start  Phase = "start the application"
)

// Phases are all of a recovery from a backup that is on the host, in order.
func Phases() []Phase {
	return []Phase{Dump, Check, Stage, Prove, Plan, Stop, Safety, Swap, Verify, Merge, Start}
}

// Down are the phases in which the application is down, in order.
func Down() []Phase { return []Phase{Stop, Safety, Swap, Verify, Merge, Start} }

// nature is what a phase's duration follows.
type nature struct {
	down   bool  // the application is stopped meanwhile
	scales bool  // it takes as long as there are documents
	like   Phase // a phase that does the same work, where this one was never seen
}

var natures = map[Phase]nature{
	Fetch:  {scales: true},
	Dump:   {scales: true, like: Safety},
	Check:  {scales: true},
	Stage:  {scales: true},
	Prove:  {scales: true, like: Verify},
	Plan:   {scales: true},
	Stop:   {down: true},
	Safety: {down: true, scales: true, like: Dump},
	Swap:   {down: true}, // collections are renamed, however much is in them
	Verify: {down: true, scales: true, like: Prove},
	Merge:  {down: true},
	Start:  {down: true},
}

// The kinds of what was measured, the best evidence first.
const (
	Now      = "this dry run"
	Recovery = "recovery"
	Drill    = "drill"
	Backup   = "backup"
)

// Past is one phase that was measured.
type Past struct {
	Phase     Phase     `json:"phase"`
	Kind      string    `json:"kind"`
	At        time.Time `json:"at"`
	Documents int64     `json:"documents"`
	Bytes     int64     `json:"bytes,omitempty"` // of BSON; 0: not kept
	Seconds   float64   `json:"seconds"`
}

// Took is how long one phase took, as a recovery keeps it.
type Took struct {
	Phase   Phase   `json:"phase"`
	Seconds float64 `json:"seconds"`
}

// Size is how much a phase has to do.
type Size struct {
	Documents int64 `json:"documents"`
	Bytes     int64 `json:"bytes"`
}

// Estimate is how long a phase will take.
type Estimate struct {
	Phase   Phase   `json:"phase"`
	Seconds float64 `json:"seconds"`
	Known   bool    `json:"known"`  // false: it was never measured, and Seconds means nothing
	Source  string  `json:"source"` // from what it was estimated, in words
	Down    bool    `json:"down"`   // the application is stopped meanwhile
}

// Of estimates phases that work on so much. What was measured in a recovery goes before a drill, and that before a backup; of one
// kind the newest counts. A phase that was never measured is estimated from one that does the same work, or is unknown.
func Of(phases []Phase, past []Past, size Size) []Estimate {
	var list []Estimate
	for _, phase := range phases {
		n := natures[phase]
		e := Estimate{Phase: phase, Down: n.down, Source: "never measured"}
		p := best(past, phase)
		of := ""
		if p == nil && n.like != "" {
			if p = best(past, n.like); p != nil {
				of = fmt.Sprintf("as %q of ", n.like)
			}
		}
		if p != nil {
			e.Known, e.Seconds, e.Source = true, p.Seconds, of+p.said()
			if n.scales {
				factor := scale(*p, size)
				e.Seconds *= factor
				if factor < 0.95 || factor > 1.05 {
					e.Source += fmt.Sprintf(", scaled ×%s", number(factor))
				}
			}
		}
		list = append(list, e)
	}
	return list
}

// best is the measurement to believe.
func best(past []Past, phase Phase) *Past {
	order := []string{Now, Recovery, Drill, Backup}
	var found *Past
	for i := range past {
		p := &past[i]
		if p.Phase != phase || p.Seconds < 0 || math.IsNaN(p.Seconds) {
			continue
		}
		if found == nil || cmp.Or(slices.Index(order, p.Kind)-slices.Index(order, found.Kind), found.At.Compare(p.At)) < 0 {
			found = p
		}
	}
	return found
}

// said names a measurement for people: the drill of 2026-11-20: 28,850 documents in 12 s.
func (p Past) said() string {
	if p.Kind == Now {
		return "measured by this dry run"
	}
	text := fmt.Sprintf("the %s of %s", p.Kind, p.At.UTC().Format(time.DateOnly))
	if natures[p.Phase].scales {
		text += fmt.Sprintf(": %s documents", words.Number(p.Documents))
		return text + " in " + Duration(p.Seconds)
	}
	return text
}

// scale is how much more there is to do than there was, by bytes where both are known.
func scale(p Past, size Size) float64 {
	switch {
	case p.Bytes > 0 && size.Bytes > 0:
		return float64(size.Bytes) / float64(p.Bytes)
	case p.Documents > 0:
		return float64(size.Documents) / float64(p.Documents)
	default:
		return 1
	}
}

// Sum is what the estimates come to. People's time to read and approve is not in it.
type Sum struct {
	DownSeconds  float64 `json:"downSeconds"`  // from the order to stop until the application is healthy
	TotalSeconds float64 `json:"totalSeconds"` // all phases
	Unknown      []Phase `json:"unknown,omitempty"`
	DownUnknown  bool    `json:"downUnknown,omitempty"` // a phase without the application is unknown
	Stops        bool    `json:"stops,omitempty"`       // there is a phase without the application
}

// Add adds the estimates up. With unknown phases the sums are the least that it can take.
func Add(list []Estimate) Sum {
	var s Sum
	for _, e := range list {
		s.Stops = s.Stops || e.Down
		if !e.Known {
			s.Unknown = append(s.Unknown, e.Phase)
			s.DownUnknown = s.DownUnknown || e.Down
			continue
		}
		s.TotalSeconds += e.Seconds
		if e.Down {
			s.DownSeconds += e.Seconds
		}
	}
	return s
}

// Downtime says in a few words how long the application will be down.
func (s Sum) Downtime() string { return least(s.DownUnknown) + Duration(s.DownSeconds) }

// Total says in a few words how long everything will take.
func (s Sum) Total() string { return least(len(s.Unknown) > 0) + Duration(s.TotalSeconds) }

// Line is the sum as one sentence; empty where nothing at all is known.
func (s Sum) Line() string {
	if s.TotalSeconds == 0 && len(s.Unknown) > 0 {
		return ""
	}
	if !s.Stops {
		return fmt.Sprintf("Expected: %s in all%s.", s.Total(), s.missing())
	}
	return fmt.Sprintf("Expected: the application is down for %s, %s in all without people's time%s.", s.Downtime(), s.Total(), s.missing())
}

// AfterApproval is the sum of the phases without the application as one sentence; empty where nothing at all is known.
func (s Sum) AfterApproval() string {
	if s.DownSeconds == 0 && s.DownUnknown {
		return ""
	}
	return fmt.Sprintf("Expected once approved: the application is down for %s%s.", s.Downtime(), s.missing())
}

func (s Sum) missing() string {
	if len(s.Unknown) == 0 {
		return ""
	}
	var names []string
	for _, p := range s.Unknown {
		names = append(names, string(p))
	}
	return "; never measured: " + strings.Join(names, ", ")
}

func least(unknown bool) string {
	if unknown {
		return "at least "
	}
	return "about "
}

// Duration writes seconds as people read them: 12 s, 1 h 13 min; below ten seconds with a tenth.
func Duration(seconds float64) string {
	if seconds < 9.95 {
		return fmt.Sprintf("%.1f s", seconds)
	}
	return words.Brief(time.Duration(seconds * float64(time.Second)))
}

func number(f float64) string {
	switch {
	case f >= 100:
		return words.Number(int64(math.Round(f)))
	case f >= 10:
		return fmt.Sprintf("%.0f", f)
	case f >= 0.1:
		return fmt.Sprintf("%.1f", f)
	default:
		return fmt.Sprintf("%.2g", f)
	}
}
