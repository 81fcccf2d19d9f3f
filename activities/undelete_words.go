package activities

import (
	"fmt"
	"strings"
	"time"

	"github.com/battwheels/runbook/internal/mail"
	"github.com/battwheels/runbook/internal/report"
	"github.com/battwheels/runbook/internal/undelete"
	"github.com/battwheels/runbook/internal/words"
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
		text := words.Number(p.Insert) + " deleted documents, put back beside what is there while the application ran."
		if p.Without != "" {
			text = fmt.Sprintf("%s documents that are newer than backup %s, brought back beside what is there while the application ran.", words.Number(p.Insert), p.Without)
		}
		if p.Narrowed != "" {
			text += " Narrowed to: " + p.Narrowed + "."
		}
		f.Plan = &report.Plan{Code: in.Plan, Text: text, Event: last(spans, "PlanUndelete").event}
	}
	if p.Without != "" {
		say(&f.Verified, "CheckSafetyDump", "Every file of the safety dump was compared with its SHA-256, and every document in it walked.")
		say(&f.Verified, "FindMissing", "Safety dump %s was compared with backup %s and with the database: %s of its documents were in neither.",
			strings.Join(p.Backups, ", "), p.Without, words.Number(p.Missing))
	} else {
		say(&f.Verified, "FindMissing", "The backups %s were read to their proven ends and compared with the database: %s documents that stood in one were absent; audit entries tell of %s of these.",
			strings.Join(p.Backups, ", "), words.Number(p.Missing), words.Number(p.Audited))
	}
	say(&f.Verified, "VerifyUndelete", "Every document that was put back was read again and compared with what was approved byte for byte.")
	inserted := words.Number(p.Insert) + " documents were inserted, each named in the undo file before."
	if left := p.LeftOut(); left != "" {
		inserted += " Left out: " + left + "."
	}
	say(&f.Kept, "UndeleteDocuments", "%s", inserted)
	if u := p.Undone; u != nil {
		say(&f.Kept, "UndoUndelete", "%s of the documents were taken out again; %s had been changed since and stayed, %s were gone already.",
			words.Number(u.Removed), words.Number(u.Changed), words.Number(u.Gone))
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
	text := fmt.Sprintf("Plan %s puts %s deleted documents back (%s of them dependants of others) while the application runs; nothing that stands there changes.",
		p.Code, words.Number(u.Insert), words.Number(u.Dependants))
	if u.Without != "" {
		text = fmt.Sprintf("Plan %s brings %s documents back that are newer than backup %s, while the application runs; nothing that stands there changes. The damage may have made some of them: look at the counts by collection first.",
			p.Code, words.Number(u.Insert), u.Without)
	}
	if u.Filter != "" {
		text += " Narrowed to: " + u.Filter + "."
	}
	if left := u.LeftOut(); left != "" {
		text += " Left out: " + left + "."
	}
	return strings.Join(append([]string{text}, p.Warnings...), " ")
}
