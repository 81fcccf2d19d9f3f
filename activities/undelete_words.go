package activities

import (
	"fmt"
	"strings"
	"time"

	"github.com/battwheels/runbook/internal/mail"
	"github.com/battwheels/runbook/internal/report"
	"github.com/battwheels/runbook/internal/undelete"
)

// PutBack is what an undelete did, for the report.
type PutBack struct {
	Backups  []string `json:"backups"`
	Missing  int64    `json:"missing"`
	Audited  int64    `json:"audited"`
	Without  string   `json:"without,omitempty"` // of MergeBack: the backup than which they are newer
	Narrowed string   `json:"narrowed,omitempty"`
	undelete.Outcomes
	Undone *undelete.Undone `json:"undone,omitempty"`
	BackAt time.Time        `json:"backAt,omitzero"`
}

// citeUndelete tells what AccidentalDeletion did, each statement with the event that it rests on.
func citeUndelete(f *report.Facts, in DraftInput, spans []span) {
	p := in.Undelete
	if p == nil {
		return
	}
	say := func(list *[]report.Statement, activity, format string, args ...any) {
		if s := last(spans, activity); s.event != "" {
			*list = append(*list, report.Statement{Text: fmt.Sprintf(format, args...), Event: s.event})
		}
	}
	if !p.BackAt.IsZero() {
		f.RTO = p.BackAt.Sub(in.DetectedAt)
	}
	if in.Plan != "" {
		text := fmt.Sprintf("%d deleted documents, put back beside what is there while the application ran.", p.Insert)
		if p.Without != "" {
			text = fmt.Sprintf("%d documents that are newer than backup %s, brought back beside what is there while the application ran.", p.Insert, p.Without)
		}
		if p.Narrowed != "" {
			text += " Narrowed to: " + p.Narrowed + "."
		}
		f.Plan = &report.Plan{Code: in.Plan, Text: text, Event: last(spans, "PlanUndelete").event}
	}
	if p.Without != "" {
		say(&f.Verified, "CheckSafetyDump", "Every file of the safety dump was compared with its SHA-256, and every document in it walked.")
		say(&f.Verified, "FindMissing", "Safety dump %s was compared with backup %s and with the database: %d of its documents were in neither.",
			strings.Join(p.Backups, ", "), p.Without, p.Missing)
	} else {
		say(&f.Verified, "FindMissing", "The backups %s were read to their proven ends and compared with the database: %d documents that stood in one were absent; audit entries tell of %d of these.",
			strings.Join(p.Backups, ", "), p.Missing, p.Audited)
	}
	say(&f.Verified, "VerifyUndelete", "Every document that was put back was read again and compared with what was approved byte for byte.")
	say(&f.Kept, "UndeleteDocuments", "%d documents were inserted, each named in the undo file before. Left as they stood: %d there already, %d with a newer document in their place, %d made anew, %d in conflict with a unique key, %d expired.",
		p.Insert, p.There, p.Newer, p.Recreated, p.Conflict, p.Expired)
	if u := p.Undone; u != nil {
		say(&f.Kept, "UndoUndelete", "%d of the documents were taken out again; %d had been changed since and stayed, %d were gone already.", u.Removed, u.Changed, u.Gone)
	}
}

// askToNarrow words the mail that asks which documents are meant, or, where there is a plan, for its approval.
func askToNarrow(d *mail.Decision, p *Plan) {
	run := func(label, format string, args ...any) {
		d.Actions = append(d.Actions, mail.Action{Label: label, Command: fmt.Sprintf("runbook "+format+` --by "YOUR NAME" --reason "WHY"`, args...)})
	}
	if p != nil {
		d.Question = p.question()
		run("Go ahead", "approve %s --plan %s", d.Target, p.Code)
	} else {
		d.Actions = append(d.Actions, mail.Action{Label: "See what is missing", Command: "runbook status " + d.Target})
	}
	run("Narrow it", "narrow %s --collection COLLECTION --organization ORGANIZATION", d.Target)
	run("Change nothing", "reject %s", d.Target)
}

// question is what the mail that asks for approval tells of the plan.
func (p *Plan) question() string {
	u := p.Undelete
	text := fmt.Sprintf("Plan %s puts %d deleted documents back (%d of them dependants of others) while the application runs; nothing that stands there changes.",
		p.Code, u.Insert, u.Dependants)
	if u.Without != "" {
		text = fmt.Sprintf("Plan %s brings %d documents back that are newer than backup %s, while the application runs; nothing that stands there changes. The damage may have made some of them: look at the counts by collection first.",
			p.Code, u.Insert, u.Without)
	}
	if u.Filter != "" {
		text += " Narrowed to: " + u.Filter + "."
	}
	if left := u.Documents - u.Insert; left > 0 {
		text += fmt.Sprintf(" %d others stay out: there already, newer, made anew, in conflict, or expired.", left)
	}
	return strings.Join(append([]string{text}, p.Warnings...), " ")
}
