package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/battwheels/runbook/activities"
	"github.com/battwheels/runbook/internal/estimate"
	"github.com/battwheels/runbook/internal/words"
	"github.com/battwheels/runbook/workflows"
)

// lineWidth is how wide what people read on a terminal is at most.
const lineWidth = 80

// writeSimulation is what a dry run has found, for people.
func writeSimulation(w io.Writer, s *workflows.Simulation) {
	marks := map[string]string{activities.CheckOK: "✓", activities.CheckProblem: "✗", activities.CheckUnknown: "?"}
	fmt.Fprintln(w, "\nLooked at:")
	for _, c := range s.Checks {
		wrapped(w, fmt.Sprintf("  %s %s: ", marks[c.State], c.Name), c.Text, 6)
		if c.Do != "" {
			wrapped(w, "      → ", c.Do, 8)
		}
	}
	if s.Plan != nil {
		writeSimulated(w, s.Plan, s.File)
	}
	if len(s.Phases) == 0 {
		return
	}
	fmt.Fprintln(w, "\nHow long it would take:")
	for _, e := range s.Phases {
		takes, down := "?", " "
		if e.Known {
			takes = estimate.Duration(e.Seconds)
		}
		if e.Down {
			down = "▪"
		}
		wrapped(w, fmt.Sprintf("  %s %-28s %10s  ", down, e.Phase, takes), e.Source, 45)
	}
	if s.Expected.Stops {
		fmt.Fprintln(w, "  ▪ the application is down meanwhile")
	}
	if line := s.Expected.Line(); line != "" {
		wrapped(w, "  ", line, 2)
	}
}

// writeSimulated is the plan that no approval can be given for.
func writeSimulated(w io.Writer, p *activities.Plan, file string) {
	fmt.Fprintln(w, "\nWould put back, where a person approves that then:")
	wrapped(w, "  ", fmt.Sprintf("%s of %s: %s in %s", p.Backup.ID, words.When(p.Backup.Time),
		words.Plural(p.Backup.Documents, "document", "documents"), words.Plural(int64(p.Backup.Collections), "collection", "collections")), 2)
	if len(p.Only) > 0 {
		wrapped(w, "  ", "only these collections, each of them whole: "+strings.Join(p.Only, ", "), 2)
	}
	if p.RadiusKnown {
		wrapped(w, "  ", fmt.Sprintf("%s come back, %s go back to the backup's version, %s newer ones leave; %s affected",
			words.Number(p.Radius.Missing), words.Number(p.Radius.Changed), words.Number(p.Radius.Added),
			words.Plural(int64(p.TenantsHit), "organization", "organizations")), 2)
	} else {
		fmt.Fprintln(w, "  what would be lost is not known")
	}
	for _, warning := range p.Warnings {
		wrapped(w, "  ! ", warning, 4)
	}
	for _, list := range []struct {
		name string
		of   []activities.RadiusOf
	}{{"collection", p.Collections}, {"organization", p.Tenants}} {
		if len(list.of) == 0 {
			continue
		}
		fmt.Fprintf(w, "\n  %-40s %11s %11s %11s\n", list.name, "come back", "change", "leave")
		for _, c := range list.of {
			fmt.Fprintf(w, "  %-40s %11s %11s %11s\n", shortened(c.Name, 40), words.Number(c.Missing), words.Number(c.Changed), words.Number(c.Added))
		}
	}
	if len(p.KeyCounts) > 0 {
		fmt.Fprintf(w, "\n  %-40s %11s %11s\n", "count", "now", "after")
		for _, k := range p.KeyCounts {
			now := "?"
			if k.Now >= 0 {
				now = words.Number(k.Now)
			}
			fmt.Fprintf(w, "  %-40s %11s %11s\n", shortened(k.Name, 40), now, words.Number(k.Backup))
		}
	}
	if len(p.MoveAside) > 0 {
		wrapped(w, "  ", "set aside, because the backup has them not: "+strings.Join(p.MoveAside, ", "), 4)
	}
	if file != "" {
		fmt.Fprintf(w, "  all of it, on the worker's host:\n    %s\n", file)
	}
}

// wrapped writes a text after a prefix, in lines that are no wider than a terminal; further ones are indented.
func wrapped(w io.Writer, prefix, text string, indent int) {
	line, begun := prefix, false
	for _, word := range strings.Fields(text) {
		if begun && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > lineWidth {
			fmt.Fprintln(w, line)
			line, begun = strings.Repeat(" ", indent), false
		}
		if begun {
			line += " "
		}
		line, begun = line+word, true
	}
	fmt.Fprintln(w, line)
}

// shortened keeps the beginning of a name that is too long for its column.
func shortened(s string, most int) string {
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most-1]) + "…"
}
