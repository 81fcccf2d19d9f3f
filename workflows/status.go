package workflows

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/battwheels/runbook/activities"
	"github.com/battwheels/runbook/internal/words"
)

// StepState is how far a step of a playbook is.
type StepState string

// The states of a step.
const (
	Pending StepState = "pending"
	Running StepState = "running"
	Done    StepState = "done"
	Failed  StepState = "failed"
	Skipped StepState = "skipped"
)

// Step is one line of a playbook, as people see it.
type Step struct {
	Name  string    `json:"name"`
	State StepState `json:"state"`
	Note  string    `json:"note,omitempty"`
}

// Status is what a playbook tells of itself: the answer to the query "status", and what its current details show.
type Status struct {
	Incident string           `json:"incident,omitempty"`
	Target   string           `json:"target"`
	Phase    string           `json:"phase"`
	Steps    []Step           `json:"steps"`
	Plan     *activities.Plan `json:"plan,omitempty"`
	// Missing is what an undelete has found.
	Missing *activities.Missing `json:"missing,omitempty"`
	// Simulation is what a dry run has found.
	Simulation *Simulation `json:"simulation,omitempty"`
	// Asked is the question that waits for a person, empty where none does; Choices are the answers to decide.
	Asked   string   `json:"asked,omitempty"`
	Choices []Choice `json:"choices,omitempty"`
	Alerts  int      `json:"alerts,omitempty"` // that started or joined this incident
	Result  string   `json:"result,omitempty"`
	// Due is when a report must be posted, and Draft where it lies as HTML: of a report that waits for that.
	Due   *time.Time `json:"due,omitempty"`
	Draft string     `json:"draft,omitempty"`
}

func (s *Status) begin(name string) {
	s.Phase = name
	for i := range s.Steps {
		if s.Steps[i].Name == name {
			s.Steps[i].State = Running
			return
		}
	}
	s.Steps = append(s.Steps, Step{Name: name, State: Running})
}

func (s *Status) end(name string, state StepState, note string) {
	for i := range s.Steps {
		if s.Steps[i].Name == name {
			s.Steps[i].State, s.Steps[i].Note = state, note
			return
		}
	}
	s.Steps = append(s.Steps, Step{Name: name, State: state, Note: note})
}

// detailsLimit keeps the details within a GET query string: the Temporal UI sends them there.
const detailsLimit = 2800

// Markdown draws the status for the Temporal UI's current details: what is asked first, then what is done and runs.
func (s Status) Markdown() string {
	var b strings.Builder
	if s.Asked != "" {
		fmt.Fprintf(&b, "## ⚠️ A person is asked\n%s\n\n", s.Asked)
	}
	if s.Result != "" {
		fmt.Fprintf(&b, "## %s\n\n", s.Result)
	}
	b.WriteString("| | Step | |\n|---|---|---|\n")
	for _, st := range s.Steps {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", icons[st.State], st.Name, cell(st.Note))
	}
	left := (detailsLimit - len(apart(b.String()))) * 5 / 6 // apart makes tables longer by less than that
	switch {
	case s.Simulation != nil:
		b.WriteString("\n" + simulationMarkdown(*s.Simulation, left))
	case s.Plan != nil && s.Plan.Undelete != nil:
		b.WriteString("\n" + undeleteMarkdown(*s.Plan, left))
	case s.Plan != nil:
		b.WriteString("\n" + planMarkdown(*s.Plan, left))
	case s.Missing != nil:
		b.WriteString("\n" + missingMarkdown(*s.Missing, left))
	}
	if s.Alerts > 1 {
		fmt.Fprintf(&b, "\n%d alerts belong to this incident.\n", s.Alerts)
	}
	return clip(apart(b.String()), detailsLimit)
}

// apart widens the cells of tables: the Temporal UI draws them without any space between columns.
func apart(markdown string) string {
	lines := strings.Split(markdown, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "| ") {
			lines[i] = strings.ReplaceAll(line, " | ", "\u00a0 | ")
		}
	}
	return strings.Join(lines, "\n")
}

var icons = map[StepState]string{Pending: "·", Running: "⏳", Done: "✅", Failed: "❌", Skipped: "—"}

func cell(s string) string { return strings.ReplaceAll(strings.ReplaceAll(s, "|", "/"), "\n", " ") }

func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	const more = "\n…"
	if limit < len(more) {
		return ""
	}
	cut := strings.LastIndexByte(s[:limit-len(more)], '\n')
	return s[:max(cut, 0)] + more
}

// shorten keeps the beginning of a sentence.
func shorten(s string, runes int) string {
	if r := []rune(s); len(r) > runes {
		return string(r[:runes-1]) + "…"
	}
	return s
}

func planMarkdown(p activities.Plan, limit int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "### Plan `%s`\nPut back backup **%s** of %s: %s documents in %d collections.\n\n",
		p.Code, p.Backup.ID, stamp(p.Backup.Time), count(p.Backup.Documents), p.Backup.Collections)
	if len(p.Only) > 0 {
		fmt.Fprintf(&b, "Only these collections, each of them whole: **%s**. The others stay as they are.\n\n", strings.Join(p.Only, ", "))
	}
	if p.RadiusKnown {
		fmt.Fprintf(&b, "%s documents come back, %s go back to the backup's version, %s newer ones leave (all kept in the safety dump).\n\n",
			count(p.Radius.Missing), count(p.Radius.Changed), count(p.Radius.Added))
	} else {
		b.WriteString("**The database could not be read: what would be lost is not known.**\n\n")
	}
	if len(p.Writers) > 0 {
		fmt.Fprintf(&b, "Stops and starts: %s. %s\n\n", strings.Join(p.Writers, ", "), p.Application())
	}
	if p.Expected != "" {
		fmt.Fprintf(&b, "⏱ %s\n\n", p.Expected)
	}
	if p.Told != nil {
		fmt.Fprintf(&b, "%s Who, and a preview of the mail: `%s`\n\n", p.Told, p.Told.Preview)
	}
	for _, w := range p.Warnings {
		fmt.Fprintf(&b, "❗ %s\n\n", w)
	}
	if slices.ContainsFunc(p.Candidates, func(c activities.Weighed) bool { return c.Doubtful }) {
		b.WriteString("| Backup | Of | Documents | |\n|---|---|---:|---|\n")
		for _, c := range p.Candidates {
			verdict := map[bool]string{true: "❗ ", false: ""}[c.Doubtful]
			fmt.Fprintf(&b, "| %s | %s | %s | %s%s |\n", c.ID, stamp(c.Time), count(c.Documents), verdict, cell(shorten(c.Why, 90)))
		}
		b.WriteString("\n")
	}
	if len(p.KeyCounts) > 0 {
		b.WriteString("| Key count | Now | After |\n|---|---:|---:|\n")
		for _, k := range p.KeyCounts {
			now := "?"
			if k.Now >= 0 {
				now = count(k.Now)
			}
			fmt.Fprintf(&b, "| %s | %s | %s |\n", k.Name, now, count(k.Backup))
		}
	}
	if len(p.Collections) > 0 {
		b.WriteString("\n| Most affected | Back | Changed | Leave |\n|---|---:|---:|---:|\n")
		for _, c := range p.Collections[:min(len(p.Collections), 6)] {
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", c.Name, count(c.Missing), count(c.Changed), count(c.Added))
		}
	}
	return clip(b.String(), limit)
}

// count writes a number with separators, as people read it.
func count[N int | int64](n N) string {
	return words.Number(int64(n))
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// showOnly shows a status as current details and leaves no event, however often it is called.
func showOnly(ctx workflow.Context, s Status) { workflow.SetCurrentDetails(ctx, s.Markdown()) }

// publish shows a status: as current details, and as search attributes where the namespace has them.
func publish(ctx workflow.Context, s Status, have []string) {
	workflow.SetCurrentDetails(ctx, s.Markdown())
	var set []temporal.SearchAttributeUpdate
	if slices.Contains(have, activities.AttributeTarget) {
		set = append(set, temporal.NewSearchAttributeKeyKeyword(activities.AttributeTarget).ValueSet(s.Target))
	}
	if slices.Contains(have, activities.AttributePhase) {
		set = append(set, temporal.NewSearchAttributeKeyKeyword(activities.AttributePhase).ValueSet(s.Phase))
	}
	if len(set) == 0 {
		return
	}
	if err := workflow.UpsertTypedSearchAttributes(ctx, set...); err != nil {
		workflow.GetLogger(ctx).Warn("search attributes not set", "error", err)
	}
}
