package report

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/battwheels/runbook/internal/words"
)

// drawing is the timeline as shapes of an SVG: bars for what took time, ticks for the clock, dots for events. Numbers
// are in units of its view box.
type drawing struct {
	Width, Height int
	Top, Bottom   int // of the plot
	Left, Right   int
	Bars          []bar
	Ticks         []tick
	Dots          []dot
	DownX, DownW  int // the band in which the application was down
	Description   string
}

// PlotHeight is the height of the plot, without the axis.
func (d drawing) PlotHeight() int { return d.Bottom - d.Top }

type bar struct {
	Name, Took     string
	X, Y, W, TextY int
	Strong         bool // of the whole incident, not of one phase
	Event          string
}

type tick struct {
	X    int
	Text string
}

type dot struct {
	X     int
	Title string
}

const (
	drawWidth  = 760
	plotLeft   = 206
	plotRight  = 672
	plotTop    = 14
	barHeight  = 12
	rowHeight  = 27
	axisHeight = 40
)

// awayAt is when people could no longer work: what was lost took the application with it.
func (f Facts) awayAt() time.Time {
	if f.Gone {
		return f.Since.At
	}
	return f.Stopped.At
}

// draw returns nil where there is nothing to draw.
func (f Facts) draw() *drawing {
	phases := make([]Phase, 0, len(f.Phases)+2)
	whole := 0
	if !f.Detected.At.IsZero() && f.Healthy.At.After(f.Detected.At) {
		phases = append(phases, Phase{Name: "Detection to recovery", From: f.Detected.At, To: f.Healthy.At})
		whole++
	}
	away := f.awayAt()
	if !away.IsZero() && f.Healthy.At.After(away) {
		phases = append(phases, Phase{Name: "Application down", From: away, To: f.Healthy.At})
		whole++
	}
	for _, p := range f.Phases {
		if p.From.IsZero() || p.To.Before(p.From) {
			continue
		}
		// Fifty batches of mails, or a step that was tried again, are one bar.
		if last := len(phases) - 1; last >= whole && phases[last].Name == p.Name {
			if p.To.After(phases[last].To) {
				phases[last].To = p.To
			}
			continue
		}
		phases = append(phases, p)
	}
	if len(phases) == 0 {
		return nil
	}
	from := slices.MinFunc(phases, func(a, b Phase) int { return a.From.Compare(b.From) }).From
	to := slices.MaxFunc(phases, func(a, b Phase) int { return a.To.Compare(b.To) }).To
	if !to.After(from) {
		to = from.Add(time.Second)
	}
	scale := func(t time.Time) int {
		share := float64(t.Sub(from)) / float64(to.Sub(from))
		return plotLeft + int(min(max(share, 0), 1)*(plotRight-plotLeft))
	}

	d := &drawing{Width: drawWidth, Left: plotLeft, Right: plotRight, Top: plotTop}
	for i, p := range phases {
		y := plotTop + i*rowHeight + (rowHeight-barHeight)/2
		x := scale(p.From)
		d.Bars = append(d.Bars, bar{
			Name: shorten(p.Name, 30), Took: words.Brief(p.To.Sub(p.From)), Event: p.Event, Strong: i < whole,
			// Even what took a moment must be seen.
			X: min(x, plotRight-3), Y: y, W: max(scale(p.To)-x, 3), TextY: y + barHeight - 2,
		})
	}
	d.Bottom = plotTop + len(phases)*rowHeight
	d.Height = d.Bottom + axisHeight
	if !away.IsZero() && f.Healthy.At.After(away) {
		d.DownX = scale(away)
		d.DownW = max(scale(f.Healthy.At)-d.DownX, 1)
	}
	d.Ticks = ticks(from, to, scale)
	for _, e := range f.Timeline {
		if !e.At.Before(from) && !e.At.After(to) {
			d.Dots = append(d.Dots, dot{X: scale(e.At), Title: fmt.Sprintf("%s %s (%s)", e.At.UTC().Format("15:04:05"), e.Text, e.ID)})
		}
	}
	slices.SortStableFunc(d.Dots, func(a, b dot) int { return cmp.Compare(a.X, b.X) })
	d.Description = fmt.Sprintf("Timeline from %s, %s long", words.When(from), words.Duration(to.Sub(from)))
	return d
}

// ticks are at most six, at round times of the clock.
func ticks(from, to time.Time, scale func(time.Time) int) []tick {
	steps := []time.Duration{
		time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second, 30 * time.Second,
		time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute,
		time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour,
	}
	const most = 6
	step := steps[len(steps)-1]
	for _, s := range steps {
		if to.Sub(from) <= most*s {
			step = s
			break
		}
	}
	for to.Sub(from) > most*step {
		step *= 2
	}
	layout := "15:04"
	switch {
	case step < time.Minute:
		layout = "15:04:05"
	case step >= 24*time.Hour:
		layout = "2 Jan"
	case !words.SameDay(from, to):
		layout = "2 Jan 15:04"
	}
	var all []tick
	for at := from.UTC().Truncate(step); !at.After(to); at = at.Add(step) {
		if !at.Before(from) {
			all = append(all, tick{X: scale(at), Text: at.Format(layout)})
		}
	}
	return all
}

func shorten(s string, runes int) string {
	r := []rune(s)
	if len(r) <= runes {
		return s
	}
	return string(r[:runes-1]) + "…"
}
