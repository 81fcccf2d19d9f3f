// Package bench measures the data engine beside the stock tools: the same data, the same server, in turn, each tool in a process
// of its own. "go run ./sandbox bench" prints what it finds; docs/benchmarks.md keeps what was found once.
//
// What counts are ratios between tools that ran one after the other: machines differ, and are noisy. Beside the tools runs the
// least that the work can be, without any proof or safety: how far we are from it is the limit ratio.
package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/battwheels/runbook/sandbox/process"
)

// Options say what is measured. The zero Options measure everything, three times.
type Options struct {
	Shapes  []string // names; none: all
	Servers []string // likewise
	Tools   []string // likewise; ratios need two
	// Finished is given each series as soon as it was measured; may be nil.
	Finished func(Series)
	Rounds   int     // of which the median counts; 0: 3
	Scale    float64 // of the shapes' documents; 0: 1
	Dir      string  // where dumps go; "" takes the system's temporary directory
	// Tell is told each measured run. May be nil.
	Tell func(string)
}

// Result is everything that was measured.
type Result struct {
	Cores    int      `json:"cores"`
	Rounds   int      `json:"rounds"`
	Measured []Series `json:"measured"`
}

// Series is one piece of work on one shape and server, by several tools.
type Series struct {
	Shape       string `json:"shape"`
	Server      string `json:"server"`
	Work        Work   `json:"work"`
	Collections int    `json:"collections"`
	Documents   int64  `json:"documents"`
	Bytes       int64  `json:"bytes"` // of BSON
	Tools       []Tool `json:"tools"`
	// DumpRatio and RestoreRatio are the stock tool's time over ours, with the settings that it has by default; TunedRatio with
	// the best ones that were tried. LimitRatio is the least pipeline's time over ours; 1 is as fast as can be. SizeRatio is the
	// size of our files over the stock tool's. All are medians of the rounds' own ratios; 0 where there is nothing to compare.
	DumpRatio    float64 `json:"dumpRatio,omitempty"`
	RestoreRatio float64 `json:"restoreRatio,omitempty"`
	TunedRatio   float64 `json:"tunedRatio,omitempty"`
	LimitRatio   float64 `json:"limitRatio,omitempty"`
	SizeRatio    float64 `json:"sizeRatio,omitempty"`
}

// Tool is what one tool needed.
type Tool struct {
	Name      string    `json:"name"`
	Seconds   float64   `json:"seconds"` // median
	Rounds    []float64 `json:"rounds"`
	CPU       float64   `json:"cpuSeconds"`         // of the tool's process alone; the last round's
	Megabytes float64   `json:"megabytesPerSecond"` // of BSON, 10⁶ bytes
	PeakMiB   float64   `json:"peakMiB"`            // of resident memory, above what the program takes before it begins, the highest of all rounds; 0 where the system does not tell
	Size      int64     `json:"size,omitempty"`     // of the files that it wrote, all of them
}

// Run measures. It takes minutes.
func Run(ctx context.Context, o Options) (Result, error) {
	if o.Rounds == 0 {
		o.Rounds = 3
	}
	if o.Scale == 0 {
		o.Scale = 1
	}
	if err := o.check(); err != nil {
		return Result{}, err
	}
	dir, err := os.MkdirTemp(o.Dir, "runbook-bench-")
	if err != nil {
		return Result{}, err
	}
	// Nothing is removed before the end: for some seconds after many files were removed, ext4 makes new ones slowly.
	defer func() { _ = os.RemoveAll(dir) }()
	r := Result{Cores: cores(), Rounds: o.Rounds}
	for _, s := range servers {
		if len(o.Servers) > 0 && !slices.Contains(o.Servers, s.name) {
			continue
		}
		for _, shape := range s.shapes {
			if len(o.Shapes) > 0 && !slices.Contains(o.Shapes, shape.Name) {
				continue
			}
			m := &measurement{Options: o, server: s, shape: shape, dir: filepath.Join(dir, s.name, shape.Name)}
			series, err := m.run(ctx)
			if err != nil {
				return r, fmt.Errorf("%s, %s: %w", s.name, shape.Name, err)
			}
			for _, one := range series {
				if o.Finished != nil {
					o.Finished(one)
				}
			}
			r.Measured = append(r.Measured, series...)
		}
	}
	return r, nil
}

// check refuses names that nothing has: nothing would be measured, and nothing said.
func (o Options) check() error {
	var names, shapes, tools []string
	for _, s := range servers {
		names = append(names, s.name)
		for _, shape := range s.shapes {
			shapes = append(shapes, shape.Name)
			for _, work := range s.works {
				for _, t := range s.tools(work, shape) {
					tools = append(tools, t.name)
				}
			}
		}
	}
	for _, x := range []struct {
		what         string
		asked, known []string
	}{{"server", o.Servers, names}, {"shape", o.Shapes, shapes}, {"tool", o.Tools, tools}} {
		slices.Sort(x.known)
		for _, name := range x.asked {
			if !slices.Contains(x.known, name) {
				return fmt.Errorf("there is no %s %q; there are %q", x.what, name, slices.Compact(x.known))
			}
		}
	}
	return nil
}

// measurement is everything that is done with one shape on one server.
type measurement struct {
	Options
	server server
	shape  Shape
	dir    string
	source string // of what is restored
	size   Loaded
}

func (m *measurement) run(ctx context.Context) ([]Series, error) {
	m.source = filepath.Join(m.dir, "source")
	dumps, err := m.dumps(ctx)
	if err != nil {
		return nil, err
	}
	restores, err := m.restores(ctx)
	if err != nil {
		return nil, err
	}
	return append(dumps, restores...), nil
}

// dumps fills a server, keeps one dump of it to be restored, and measures the tools.
func (m *measurement) dumps(ctx context.Context) ([]Series, error) {
	s, err := m.server.start(ctx, DumpWork, filepath.Join(m.dir, "full"))
	if err != nil {
		return nil, err
	}
	defer s.stop()
	if m.size, err = m.shape.load(ctx, s.uri, m.Scale, !m.server.bare); err != nil {
		return nil, err
	}
	if _, err := m.execute(ctx, s, oursTool, DumpWork, m.source); err != nil {
		return nil, err
	}
	if !m.server.measures(DumpWork) {
		return nil, nil
	}
	one, err := m.inTurn(DumpWork, func(t tool) (measured, error) {
		// Each tool finds the memory that the one before gave back: the first to touch memory of a virtual machine pays for it.
		dir := filepath.Join(m.dir, t.kind)
		got, err := m.execute(ctx, s, t, DumpWork, dir)
		return got, errors.Join(err, os.RemoveAll(dir))
	})
	return []Series{one}, err
}

func (m *measurement) restores(ctx context.Context) ([]Series, error) {
	if !m.server.measures(RestoreWork) {
		return nil, nil
	}
	s, err := m.server.start(ctx, RestoreWork, filepath.Join(m.dir, "empty"))
	if err != nil {
		return nil, err
	}
	defer s.stop()
	one, err := m.inTurn(RestoreWork, func(t tool) (measured, error) {
		got, err := m.execute(ctx, s, t, RestoreWork, m.source)
		if err == nil {
			err = drop(ctx, s.uri)
		}
		return got, err
	})
	return []Series{one}, err
}

// inTurn runs every tool once in each round.
func (m *measurement) inTurn(work Work, do func(tool) (measured, error)) (Series, error) {
	one := Series{
		Shape: m.shape.Name, Server: m.server.name, Work: work,
		Collections: m.size.Collections, Documents: m.size.Documents, Bytes: m.size.Bytes,
	}
	tools := slices.DeleteFunc(m.server.tools(work, m.shape), func(t tool) bool { return len(m.Tools) > 0 && !slices.Contains(m.Tools, t.name) })
	one.Tools = make([]Tool, len(tools))
	for round := range m.Rounds {
		for i, t := range tools {
			got, err := do(t)
			if err != nil {
				return one, fmt.Errorf("%s: %w", t.name, err)
			}
			x := &one.Tools[i]
			x.Name, x.Size, x.CPU = t.name, got.Size, got.CPU
			x.Rounds = append(x.Rounds, got.Seconds)
			x.PeakMiB = max(x.PeakMiB, got.PeakMiB)
			m.tell("%s, %s, %s, round %d of %d: %s %.2f s, %.2f s of processor, %.0f MiB", m.server.name, m.shape.Name, work, round+1, m.Rounds, t.name, got.Seconds, got.CPU, got.PeakMiB)
		}
	}
	for i := range one.Tools {
		x := &one.Tools[i]
		x.Seconds = median(x.Rounds)
		x.Megabytes = float64(m.size.Bytes) / 1e6 / x.Seconds
	}
	one.compare()
	return one, nil
}

func (m *measurement) tell(format string, args ...any) {
	if m.Tell != nil {
		m.Tell(fmt.Sprintf(format, args...))
	}
}

// compare fills in the ratios, each a median of the rounds' own.
func (s *Series) compare() {
	by := map[string]Tool{}
	for _, t := range s.Tools {
		by[t.Name] = t
	}
	ours := by[Ours]
	if len(ours.Rounds) == 0 {
		return
	}
	over := func(name string) float64 {
		other, ok := by[name]
		if !ok {
			return 0
		}
		ratios := make([]float64, len(ours.Rounds))
		for i := range ratios {
			ratios[i] = other.Rounds[i] / ours.Rounds[i]
		}
		return median(ratios)
	}
	switch s.Work {
	case DumpWork:
		s.DumpRatio = over(Stock)
		if stock := by[Stock].Size; stock > 0 {
			s.SizeRatio = float64(ours.Size) / float64(stock)
		}
	case RestoreWork:
		s.RestoreRatio = over(Stock)
	}
	for _, t := range s.Tools {
		if strings.HasPrefix(t.Name, Stock+" ") && (s.TunedRatio == 0 || over(t.Name) < s.TunedRatio) {
			s.TunedRatio = over(t.Name)
		}
	}
	s.LimitRatio = over(Least)
}

func median(of []float64) float64 {
	s := slices.Sorted(slices.Values(of))
	n := len(s)
	if n == 0 {
		return 0
	}
	return (s[(n-1)/2] + s[n/2]) / 2
}

// measured is what one run of a tool says of itself.
type measured struct {
	Seconds float64 `json:"seconds"`
	CPU     float64 `json:"cpuSeconds"`
	PeakMiB float64 `json:"peakMiB"`
	Size    int64   `json:"size"`
}

// runWithin bounds one run of a tool.
const runWithin = 10 * time.Minute

// execute runs a tool as a process of its own, so that its memory is its own.
func (m *measurement) execute(ctx context.Context, s running, t tool, work Work, dir string) (measured, error) {
	ctx, cancel := context.WithTimeout(ctx, runWithin)
	defer cancel()
	command, err := process.Self(append([]string{Child, string(work), t.kind, s.uri, dir}, t.args...)...)
	if err != nil {
		return measured{}, err
	}
	c := exec.CommandContext(ctx, command[0], command[1:]...)
	// What the tool before left to be written would be written at this one's cost.
	unix.Sync()
	var said, complaint bytes.Buffer
	c.Stdout, c.Stderr = &said, &complaint
	if err := c.Run(); err != nil {
		return measured{}, fmt.Errorf("%w: %s", err, bytes.TrimSpace(complaint.Bytes()))
	}
	var got measured
	if err := json.Unmarshal(said.Bytes(), &got); err != nil {
		return measured{}, fmt.Errorf("%s says %q: %w", t.name, said.String(), err)
	}
	return got, nil
}
