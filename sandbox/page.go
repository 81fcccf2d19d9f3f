package main

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/battwheels/runbook/activities"
	"github.com/battwheels/runbook/internal/words"
	"github.com/battwheels/runbook/sandbox/scenario"
)

// columns is the width of everything that is printed for people.
const columns = 80

// page prints a scenario for people, while it is played and at its end.
type page struct {
	out   io.Writer
	began time.Time
}

// event prints one line of the timeline.
func (p *page) event(e scenario.Event) {
	since := e.At.Sub(p.began).Round(time.Second)
	head := fmt.Sprintf("%2d:%02d  %-12s  ", int(since.Minutes()), int(since.Seconds())%60, e.Who)
	p.paragraph(head, strings.Repeat(" ", utf8.RuneCountInString(head)), e.Text)
}

// still prints that a long step goes on.
func (p *page) still(step string, since time.Duration) {
	fmt.Fprintf(p.out, "        … %s (%s)\n", step, since)
}

// plan prints what the engineer on call reads.
func (p *page) plan(plan activities.Plan) {
	const indent = "        | "
	line := func(format string, args ...any) { p.paragraph(indent, indent+"  ", fmt.Sprintf(format, args...)) }
	if u := plan.Undelete; u != nil {
		line("Plan %s: put %s documents back, %s of them dependants of others", plan.Code, words.Number(u.Insert), words.Number(u.Dependants))
		line("narrowed to %s", u.Filter)
		for _, w := range plan.Warnings {
			line("! %s", w)
		}
		return
	}
	line("Plan %s: put back backup %s", plan.Code, plan.Backup.ID)
	line("%s documents in %d collections, read at %s", words.Number(plan.Backup.Documents), plan.Backup.Collections, plan.Backup.Time.UTC().Format(time.DateTime+" UTC"))
	if plan.RadiusKnown {
		line("%s come back, %s go back to the backup's version, %s newer ones leave", words.Number(plan.Radius.Missing), words.Number(plan.Radius.Changed), words.Number(plan.Radius.Added))
	}
	var counts []string
	for _, k := range plan.KeyCounts {
		now := "?"
		if k.Now >= 0 {
			now = words.Number(k.Now)
		}
		counts = append(counts, fmt.Sprintf("%s %s → %s", k.Name, now, words.Number(k.Backup)))
	}
	if len(counts) > 0 {
		line("%s", strings.Join(counts, ", "))
	}
	if len(plan.ComeBack) > 0 {
		line("collections that come back: %s", strings.Join(plan.ComeBack, ", "))
	}
	for _, w := range plan.Warnings {
		line("! %s", w)
	}
}

// result prints what came of it.
func (p *page) result(r scenario.Result) {
	fmt.Fprintln(p.out)
	undeleted := r.Scenario == "deletion"
	switch {
	case r.Recovered && undeleted:
		p.paragraph("", "", "RECOVERED: exactly what was deleted by mistake is back, byte for byte, and nobody else noticed.")
	case r.Recovered:
		p.paragraph("", "", "RECOVERED: the database is what it was at the backup's moment, byte for byte, and people work again.")
	default:
		p.paragraph("", "", "NOT RECOVERED: see the checks below.")
	}
	fmt.Fprintln(p.out)
	row := func(name, format string, args ...any) {
		head := fmt.Sprintf("  %-10s ", name)
		p.paragraph(head, strings.Repeat(" ", len(head)), fmt.Sprintf(format, args...))
	}
	if undeleted {
		row("RTO", "%.1f s  from the start of the playbook until the documents were proven to be back", r.RTOSeconds)
		row("Put back", "%s documents", words.Number(r.DocumentsRestored))
	} else {
		p.restored(r, row)
	}
	row("Workflow", "%s", r.WorkflowID)
	row("Report", "%s", r.Report)
	fmt.Fprintln(p.out)
	for _, c := range r.Checks {
		mark := "✓"
		if !c.Held {
			mark = "✗"
		}
		p.paragraph("  "+mark+" ", "    ", c.Name)
		if !c.Held && c.Detail != "" {
			p.paragraph("    ", "    ", c.Detail)
		}
	}
	if r.Verdict.Differing > 1 {
		fmt.Fprintln(p.out)
		for _, d := range r.Verdict.Differences[:min(len(r.Verdict.Differences), 10)] {
			p.paragraph("  - ", "    ", d.String())
		}
	}
	fmt.Fprintln(p.out)
}

// restored prints the numbers of a restore.
func (*page) restored(r scenario.Result, row func(name, format string, args ...any)) {
	row("Downtime", "%.1f s  from the last answer until it was healthy again", r.DowntimeSeconds)
	row("RTO", "%.1f s  from the alert until it was healthy again", r.RTOSeconds)
	row("RPO", "%.1f s  from the backup until the last write before the stop", r.RPOSeconds)
	row("Restored", "%s documents", words.Number(r.DocumentsRestored))
	row("Lost", "%s documents lost a write that was newer than the backup", words.Number(r.DocumentsLost))
	row("Mails", "%d of %d active organizations told, %d without a working address", r.MailsSent, r.OrganizationsActive, r.MailsUndeliverable)
}

// paragraph prints words within the width, the first line after head and the others after indent.
func (p *page) paragraph(head, indent, text string) {
	line := head
	empty := true
	for word := range strings.FieldsSeq(text) {
		if !empty && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > columns {
			fmt.Fprintln(p.out, line)
			line, empty = indent, true
		}
		if !empty {
			line += " "
		}
		line += word
		empty = false
	}
	fmt.Fprintln(p.out, strings.TrimRight(line, " "))
}

// number writes a number with separators, as people read it.
