// Package report writes the report of an incident: one page that an auditor can follow, as Markdown and as HTML that
// prints well. It states what it is given and nothing else: who calls it, the report's activity, draws the facts from
// the histories of the workflows, and every line of the timeline names the event that it stands for.
package report

import (
	"bytes"
	"embed"
	"fmt"
	htmltemplate "html/template"
	"net/url"
	"slices"
	"strings"
	texttemplate "text/template"
	"time"

	"github.com/battwheels/runbook/internal/words"
)

// Facts is everything a report tells. What is zero or empty is left out of it.
//
// Event fields hold the ID of an event in a history: its number, in the first of Histories, or HISTORY#NUMBER.
type Facts struct {
	Target   string
	Database string
	Incident string
	Playbook string
	Outcome  string // recovered, rejected, rolled back, …
	Summary  string

	Detected Moment
	Since    Moment // when the damage began, where known
	Gone     bool   // the database itself was lost, at Since; RPO and Downtime count from then
	Stopped  Moment // the application
	Healthy  Moment // the application, again

	RTO, RTOTarget time.Duration // from the alert to a healthy application
	RPO, RPOTarget time.Duration // from the backup to the application's stop
	Downtime       time.Duration

	Timeline []Event
	Phases   []Phase

	Found     []Statement // what was seen of the database before anything was decided
	Plan      *Plan
	Loss      *Counts
	Restored  int64
	Kept      []Statement // what was saved besides: emergency dump, safety dump, audit entries, old collections
	KeyCounts []KeyCount
	Approvals []Approval
	Verified  []Statement // what was proven, and how
	Mails     *Mails
	ToldLater []Statement // corrections and the like, to the same organizations
	Warnings  []string
	FollowUps []Statement

	Histories []History
	DraftedAt time.Time
	Due       time.Time
	Posted    *Posted
}

// Moment is a point in time, and the event that fixes it.
type Moment struct {
	At    time.Time
	Event string
}

// Event is one line of the timeline.
type Event struct {
	At   time.Time
	ID   string // of the event; never empty
	Text string
}

// Phase is one bar of the drawn timeline.
type Phase struct {
	Name     string
	From, To time.Time
	Event    string
}

// Statement is a sentence, and the event that it rests on.
type Statement struct{ Text, Event string }

// Plan is the plan that was carried out, or rejected.
type Plan struct {
	Code        string
	Text        string // what it did, where it was no restore of a whole backup
	Backup      string
	BackupAt    time.Time
	State       string // of the backup: verified, restored
	Collections int
	Documents   int64
	Bytes       int64
	Event       string
	PassedOver  []Candidate // newer backups that were not taken
}

// Candidate is a backup that was not taken, and why.
type Candidate struct{ Backup, Why string }

// Counts is the blast radius by document, against the database as it was.
type Counts struct {
	Added   int64 // newer than the backup: no longer in the database
	Changed int64 // went back to the backup's version
	Missing int64 // came back
	Event   string
}

// KeyCount is a count that people know: -1 where unknown.
type KeyCount struct {
	Name                  string
	Before, Backup, After int64
}

// Approval is one answer of a person, accepted or denied.
type Approval struct {
	At     time.Time
	Action string // approve, reject, choose-backup, decide, abort
	By     string
	Reason string
	Denied string // why it was not accepted; empty where it was
	Event  string
}

// Mails counts those who were told. Addresses stay in the incident's folder.
type Mails struct {
	Organizations, Sent, Failed, Unknown, Without int
	Event                                         string
}

// History names a workflow whose events the report cites.
type History struct {
	Name       string // short: incident, restore
	WorkflowID string
	RunID      string
	URL        string // of the run in the Web UI; empty where there is none
}

// Posted says where the report went.
type Posted struct {
	URL, By string
	At      time.Time
}

// EventError says that a statement names no event, or one of a history that the report does not list.
type EventError struct{ What, Event string }

// Error names the statement.
func (e *EventError) Error() string {
	if e.Event == "" {
		return fmt.Sprintf("the report cannot say %q: no event of the history stands behind it", e.What)
	}
	return fmt.Sprintf("the report cannot say %q: its event %q is of no history that is listed", e.What, e.Event)
}

//go:embed templates
var files embed.FS

var functions = map[string]any{
	"when": words.When, "window": words.Window, "dur": words.Duration, "brief": words.Brief, "title": words.Title, "num": words.Number, "bytes": words.Bytes,
	"docs":   func(n int64) string { return words.Plural(n, "document", "documents") },
	"plural": func(n int, one, many string) string { return words.Plural(int64(n), one, many) },
	"count":  func(n int) string { return words.Number(int64(n)) },
	"clock":  func(t time.Time) string { return t.UTC().Format("15:04:05") },
	"day":    func(t time.Time) string { return t.UTC().Format("2 January 2006") },
	"key": func(n int64) string {
		if n < 0 {
			return "unknown"
		}
		return words.Number(n)
	},
}

var (
	markdownTemplate = texttemplate.Must(texttemplate.New("report.md").Funcs(functions).Funcs(texttemplate.FuncMap{
		"md": escape, "ref": func(string) string { return "" },
	}).ParseFS(files, "templates/report.md"))
	htmlTemplate = htmltemplate.Must(htmltemplate.New("report.html").Funcs(functions).ParseFS(files, "templates/report.html"))
)

// page is Facts as the templates see them.
type page struct {
	Facts
	Drawing *drawing
}

// Markdown renders the report for a wiki, a ticket or a repository.
func Markdown(f Facts) (string, error) {
	if err := f.check(); err != nil {
		return "", err
	}
	p := page{Facts: f}
	t, err := markdownTemplate.Clone()
	if err != nil {
		return "", fmt.Errorf("render the report: %w", err)
	}
	t.Funcs(texttemplate.FuncMap{"ref": p.markdownRef})
	var out bytes.Buffer
	if err := t.Execute(&out, p); err != nil {
		return "", fmt.Errorf("render the report: %w", err)
	}
	return squeeze(out.String()), nil
}

// HTML renders the report as one self-contained page, with its timeline drawn and a style for print.
func HTML(f Facts) (string, error) {
	if err := f.check(); err != nil {
		return "", err
	}
	var out bytes.Buffer
	if err := htmlTemplate.Execute(&out, page{Facts: f, Drawing: f.draw()}); err != nil {
		return "", fmt.Errorf("render the report: %w", err)
	}
	return strings.TrimSpace(out.String()) + "\n", nil
}

// check holds the report to its promise: what it says happened stands in a history.
func (f Facts) check() error {
	for _, e := range f.Timeline {
		if e.ID == "" {
			return &EventError{What: e.Text}
		}
	}
	cited := func(what, event string) error {
		if event == "" {
			return nil
		}
		if _, _, ok := f.find(event); !ok {
			return &EventError{what, event}
		}
		return nil
	}
	for _, s := range f.statements() {
		if err := cited(s.Text, s.Event); err != nil {
			return err
		}
	}
	return nil
}

// statements are all that cite an event.
func (f Facts) statements() []Statement {
	all := []Statement{
		{"the time of the alert", f.Detected.Event}, {"since when", f.Since.Event},
		{"when the application stopped", f.Stopped.Event}, {"when the application was healthy", f.Healthy.Event},
	}
	for _, e := range f.Timeline {
		all = append(all, Statement{e.Text, e.ID})
	}
	for _, p := range f.Phases {
		all = append(all, Statement{p.Name, p.Event})
	}
	for _, a := range f.Approvals {
		all = append(all, Statement{a.Action + " by " + a.By, a.Event})
	}
	if f.Plan != nil {
		all = append(all, Statement{"plan " + f.Plan.Code, f.Plan.Event})
	}
	if f.Loss != nil {
		all = append(all, Statement{"what was lost", f.Loss.Event})
	}
	if f.Mails != nil {
		all = append(all, Statement{"who was told", f.Mails.Event})
	}
	all = append(all, f.Found...)
	all = append(all, f.Kept...)
	all = append(all, f.Verified...)
	all = append(all, f.ToldLater...)
	return append(all, f.FollowUps...)
}

// find returns the history and the number of an event's ID. Without histories every ID is taken as it is.
func (f Facts) find(event string) (h History, number string, ok bool) {
	name, number, qualified := strings.Cut(event, "#")
	if !qualified {
		number = name
		if len(f.Histories) == 0 {
			return History{}, number, true
		}
		return f.Histories[0], number, true
	}
	for _, h := range f.Histories {
		if h.Name == name {
			return h, number, true
		}
	}
	return History{}, number, len(f.Histories) == 0
}

// Ref is an event's ID as it is shown, and where it can be seen.
type Ref struct{ Text, URL string }

// Ref returns how an event is cited; nil where there is none.
func (p page) Ref(event string) *Ref {
	if event == "" {
		return nil
	}
	h, number, _ := p.find(event)
	r := Ref{Text: event}
	if h.Name != "" {
		r.Text = h.Name + "#" + number
	}
	if h.URL != "" {
		r.URL = strings.TrimRight(h.URL, "/") + "/history/events/" + url.PathEscape(number)
	}
	return &r
}

func (p page) markdownRef(event string) string {
	r := p.Ref(event)
	switch {
	case r == nil:
		return ""
	case r.URL == "":
		return escape(r.Text)
	}
	return "[" + escape(r.Text) + "]"
}

// Links are the targets of the Markdown's references, each once, in the order in which they are cited first.
func (p page) Links() []Ref {
	var all []Ref
	seen := map[string]bool{}
	for _, s := range p.statements() {
		if r := p.Ref(s.Event); r != nil && r.URL != "" && !seen[r.Text] {
			seen[r.Text] = true
			all = append(all, Ref{escape(r.Text), r.URL})
		}
	}
	return all
}

// Days groups the timeline by day in UTC.
func (p page) Days() [][]Event {
	var days [][]Event
	for i, e := range p.Timeline {
		if i == 0 || !words.SameDay(e.At, p.Timeline[i-1].At) {
			days = append(days, nil)
		}
		days[len(days)-1] = append(days[len(days)-1], e)
	}
	return days
}

// Good says whether the incident ended well.
func (p page) Good() bool { return strings.EqualFold(p.Outcome, "recovered") }

// KnowsBefore says whether any key count is known from before the restore.
func (p page) KnowsBefore() bool {
	return slices.ContainsFunc(p.KeyCounts, func(k KeyCount) bool { return k.Before >= 0 })
}

// Within says whether an objective was met; true where there is none.
func (page) Within(reached, objective time.Duration) bool {
	return objective == 0 || reached <= objective
}

// escape keeps a value from being read as Markdown or HTML, in a table's cell too.
func escape(s string) string {
	s = markdownEscapes.Replace(strings.Join(strings.Fields(s), " "))
	if strings.HasPrefix(s, "#") {
		s = `\` + s
	}
	return s
}

var markdownEscapes = strings.NewReplacer(
	`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "<", "&lt;", ">", "&gt;", "|", `\|`,
)

// squeeze leaves at most one line empty.
func squeeze(s string) string {
	for strings.Contains(s, "\n\n\n") {
		s = strings.ReplaceAll(s, "\n\n\n", "\n\n")
	}
	return strings.TrimSpace(s) + "\n"
}
