package workflows

import (
	"fmt"
	"strings"

	"github.com/battwheels/runbook/activities"
	"github.com/battwheels/runbook/internal/estimate"
)

var checkIcons = map[string]string{activities.CheckOK: "✅", activities.CheckProblem: "❌", activities.CheckUnknown: "❔"}

// simulationMarkdown draws a dry run for the Temporal UI: what would hinder a recovery first, then what it would do, and how long
// that would take. The rest is in the result.
func simulationMarkdown(s Simulation, limit int) string {
	var b strings.Builder
	for _, c := range s.Checks {
		if c.State == activities.CheckProblem {
			fmt.Fprintf(&b, "❌ **%s**: %s", c.Name, clipped(c.Text, 200))
			if c.Do != "" {
				fmt.Fprintf(&b, " → %s", c.Do)
			}
			b.WriteString("\n\n")
		}
	}
	if line := s.Expected.Line(); line != "" {
		fmt.Fprintf(&b, "⏱ %s\n\n", line)
	}
	if p := s.Plan; p != nil {
		b.WriteString("**A simulation: nothing of this can be approved.**\n\n")
		plan := *p
		plan.Expected = ""
		b.WriteString(strings.Replace(planMarkdown(plan, 900), "Put back", "Would put back", 1))
	}
	b.WriteString("\n| | Looked at | |\n|---|---|---|\n")
	for _, c := range s.Checks {
		if c.State != activities.CheckProblem {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", checkIcons[c.State], c.Name, cell(clipped(c.Text, 80)))
		}
	}
	if len(s.Phases) > 0 {
		b.WriteString("\n| Phase | Takes |\n|---|---:|\n")
		for _, e := range s.Phases {
			takes := "?"
			if e.Known {
				takes = estimate.Duration(e.Seconds)
			}
			fmt.Fprintf(&b, "| %s | %s |\n", e.Phase, takes)
		}
	}
	return clip(b.String(), limit)
}

// clipped keeps the beginning of a text that is longer than so many bytes.
func clipped(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
