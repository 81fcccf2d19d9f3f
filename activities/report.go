package activities

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/converter"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/catalog"
	"github.com/battwheels/runbook/internal/incident"
	"github.com/battwheels/runbook/internal/report"
)

// The files of a report in the incident's folder.
const (
	reportMarkdown = "report.md"
	reportHTML     = "report.html"
)

// DraftReport draws the report from the histories and the incident's folder, exports the histories beside it, and seals the
// folder with a list of SHA-256 sums. It may run again, with more to tell.
func (a *Incident) DraftReport(ctx context.Context, in DraftInput) (Draft, error) {
	_, stop := beat(ctx)
	defer stop()
	folder, err := a.folder(in.Target, in.Incident)
	if err != nil {
		return Draft{}, err
	}
	f := facts(in)
	var all, own told // own: what the report's own workflow did
	events := 0
	for _, e := range in.Histories {
		name, _, _ := strings.Cut(e.WorkflowID, "/")
		this, n, err := a.take(ctx, &f, folder, name, e)
		if err != nil {
			return Draft{}, err
		}
		all.said = append(all.said, this.said...)
		if name == "report" {
			own.spans = this.spans
		} else {
			all.spans = append(all.spans, this.spans...)
		}
		events += n
	}
	n, err := a.citeMergedBack(ctx, &f, folder, in)
	if err != nil {
		return Draft{}, err
	}
	events += n
	slices.SortStableFunc(f.Timeline, func(x, y report.Event) int { return x.At.Compare(y.At) })
	spans := all.spans
	cite(&f, in, spans)
	citeUndelete(&f, in, spans)
	citeFollowUps(&f, in.FollowUps, own.spans)
	attribute(f.Approvals, all.said)
	if f.Plan != nil && in.Backup != nil {
		if f.Plan.PassedOver, err = passedOver(folder, f.Plan.Backup); err != nil {
			return Draft{}, err
		}
	}
	if in.SafetyDump != "" {
		var radius backup.Diff
		if err := folder.GetJSON(radiusFile(in.SafetyDump), &radius); err != nil {
			return Draft{}, err
		}
		f.Loss = &report.Counts{
			Added: radius.Total.Added, Changed: radius.Total.Changed, Missing: radius.Total.Missing, Event: last(spans, "DrawPlan").event,
		}
	}
	md, err := report.Markdown(f)
	if err != nil {
		return Draft{}, err
	}
	html, err := report.HTML(f)
	if err != nil {
		return Draft{}, err
	}
	if err := folder.WriteFile(reportMarkdown, []byte(md)); err != nil {
		return Draft{}, err
	}
	if err := folder.WriteFile(reportHTML, []byte(html)); err != nil {
		return Draft{}, err
	}
	// The sums come last: they are of everything else.
	if _, err := folder.Sum(ctx); err != nil {
		return Draft{}, err
	}
	return Draft{Markdown: folder.Path(reportMarkdown), HTML: folder.Path(reportHTML), Events: events}, nil
}

// take exports a history to the incident's folder under a short name, and adds it to the report's timeline and evidence.
func (a *Incident) take(ctx context.Context, f *report.Facts, folder incident.Folder, name string, e Execution) (told, int, error) {
	h, err := history(ctx, a.Temporal, e)
	if err != nil {
		return told{}, 0, err
	}
	data, err := exported(h)
	if err != nil {
		return told{}, 0, fmt.Errorf("export history of %s: %w", e.WorkflowID, err)
	}
	if err := folder.WriteFile("history-"+name+".json", data); err != nil {
		return told{}, 0, err
	}
	this := timeline(name, h)
	for _, l := range this.lines {
		f.Timeline = append(f.Timeline, report.Event{At: l.at, ID: l.event, Text: l.text})
	}
	kept := report.History{Name: name, WorkflowID: e.WorkflowID, RunID: e.RunID}
	if a.Link != nil {
		kept.URL = a.Link(e.WorkflowID, e.RunID)
	}
	f.Histories = append(f.Histories, kept)
	return this, len(h.GetEvents()), nil
}

// facts are what the playbook itself knows.
func facts(in DraftInput) report.Facts {
	f := report.Facts{
		Target: in.Target, Database: in.Database, Incident: in.Incident, Playbook: cmp.Or(in.Playbook, "DatabaseCorruption"), Outcome: in.Outcome, Summary: in.Summary,
		Detected: report.Moment{At: in.DetectedAt}, Since: report.Moment{At: in.Since},
		Stopped: report.Moment{At: in.StoppedAt}, Healthy: report.Moment{At: in.HealthyAt},
		RTOTarget: in.RTO, RPOTarget: in.RPO, Restored: in.Restored, Warnings: in.Warnings,
		DraftedAt: time.Now().UTC(), Due: in.Due,
	}
	if !in.GoneAt.IsZero() {
		f.Gone, f.Since.At = true, in.GoneAt
	}
	if !in.HealthyAt.IsZero() {
		f.RTO, f.Downtime = in.HealthyAt.Sub(in.DetectedAt), in.HealthyAt.Sub(in.awayAt())
	}
	for _, k := range in.KeyCounts {
		f.KeyCounts = append(f.KeyCounts, report.KeyCount{Name: k.Name, Before: -1, Backup: k.Backup, After: k.Now})
	}
	for _, x := range in.Answers {
		f.Approvals = append(f.Approvals, report.Approval{At: x.At, Action: x.Door, By: x.By, Reason: x.Reason, Denied: x.Denied})
	}
	if b := in.Backup; b != nil {
		f.Plan = &report.Plan{
			Code: in.Plan, Backup: b.ID, BackupAt: b.Time, State: b.State, Collections: b.Collections, Documents: b.Documents, Bytes: b.Bytes,
		}
		if !in.StoppedAt.IsZero() {
			f.RPO = in.awayAt().Sub(b.Time)
		}
	}
	if in.PostedURL != "" {
		f.Posted = &report.Posted{URL: in.PostedURL, By: in.PostedBy, At: in.PostedAt}
	}
	return f
}

// awayAt is when the application could no longer work: from then on nothing new was entered that a restore could lose.
func (in DraftInput) awayAt() time.Time {
	if !in.GoneAt.IsZero() {
		return in.GoneAt
	}
	return in.StoppedAt
}

// cite adds what the histories prove, each statement with the event that it rests on.
func cite(f *report.Facts, in DraftInput, spans []span) {
	if len(f.Timeline) > 0 {
		f.Detected.Event = f.Timeline[0].ID
	}
	f.Stopped.Event, f.Healthy.Event = last(spans, "StopApplication").event, last(spans, "StartApplication").event
	if f.Plan != nil {
		f.Plan.Event = last(spans, "DrawPlan").event
	}
	say := func(list *[]report.Statement, activity, text string) {
		if s := last(spans, activity); s.event != "" {
			*list = append(*list, report.Statement{Text: text, Event: s.event})
		}
	}
	say(&f.Verified, "CheckBackup", "Every file of the backup was compared with its SHA-256, and every document in it walked, before anything was staged.")
	say(&f.Verified, "ProveStaging", "Every document of the staged copy was read back and compared with the backup by digest, every index by its specification.")
	say(&f.Verified, "ProveQuiet", "It was seen that nobody wrote to the database any more.")
	say(&f.Verified, "VerifyRestored", "After the swap, every document and index of the live database was compared with the backup again.")
	what := map[string]string{
		string(backup.Emergency): "Emergency dump of all that could be read: ",
		string(backup.Safety):    "Safety dump of what stood there right before the swap: ",
	}
	for _, s := range spans {
		var dump BackupRef
		if s.activity != "DumpDatabase" || converter.GetDefaultDataConverter().FromPayloads(s.result, &dump) != nil {
			continue
		}
		f.Kept = append(f.Kept, report.Statement{Text: cmp.Or(what[dump.Kind], "Dump: ") + dump.ID, Event: s.event})
	}
	if n := in.Newer; n != nil {
		say(&f.Kept, "DrawPlan", n.inWords(in.SafetyDump))
	}
	if in.AuditMerged > 0 {
		say(&f.Kept, "MergeAuditLogs", fmt.Sprintf("%d audit entries newer than the backup were put back.", in.AuditMerged))
	}
	say(&f.Kept, "SwapCollections", "What stood there before is kept in collections named runbook.old."+in.Incident+".* until the keep time has passed.")
	if in.Organizations > 0 {
		f.Mails = &report.Mails{
			Organizations: in.Organizations, Sent: in.MailsSent, Failed: in.MailsUndeliverable, Unknown: in.MailsUnknown,
			Event: cmp.Or(last(spans, "SendBatch").event, last(spans, "FreezeMails").event),
		}
	}
	f.Found = found(spans)
	names := map[string]string{
		"DumpDatabase": "Dump", "CheckBackup": "Check", "StageBackup": "Stage", "ProveStaging": "Prove", "StopApplication": "Stop",
		"SwapCollections": "Swap", "VerifyRestored": "Verify", "StartApplication": "Start", "SendBatch": "Mail",
		"FindMissing": "Search", "PlanUndelete": "Preview", "UndeleteDocuments": "Put back", "VerifyUndelete": "Read back", "UndoUndelete": "Take out",
	}
	for _, s := range spans {
		if name := names[s.activity]; name != "" {
			f.Phases = append(f.Phases, report.Phase{Name: name, From: s.from, To: s.to, Event: s.event})
		}
	}
	slices.SortStableFunc(f.Phases, func(x, y report.Phase) int { return x.From.Compare(y.From) })
}

// citeFollowUps says what else the organizations were told, each time with the event of its last batch.
func citeFollowUps(f *report.Facts, said []FollowUpSaid, spans []span) {
	for _, one := range said {
		statement := report.Statement{Text: one.text()}
		for _, s := range spans {
			if (s.activity == "SendBatch" || s.activity == "FreezeFollowUp") && !s.to.After(one.At) {
				statement.Event = s.event
			}
		}
		f.ToldLater = append(f.ToldLater, statement)
	}
}

// found is what the observations of the database saw: the first, and each that differs from the one before.
func found(spans []span) []report.Statement {
	var list []report.Statement
	var before Observation
	for _, s := range spans {
		var o Observation
		if s.activity == "CompareWithBackup" {
			var c Compared
			if converter.GetDefaultDataConverter().FromPayloads(s.result, &c) == nil {
				list = append(list, report.Statement{Text: fmt.Sprintf(
					"Compared with the last backup, %d documents were the same, %d new, %d changed and %d absent.",
					c.Radius.Same, c.Radius.Added, c.Radius.Changed, c.Radius.Missing), Event: s.event})
			}
			continue
		}
		if s.activity != "ObserveDatabase" || converter.GetDefaultDataConverter().FromPayloads(s.result, &o) != nil || o.State == before.State {
			continue
		}
		text := "Of the database: " + o.What
		if o.Volume != "" {
			text += "; " + o.Volume
		}
		list = append(list, report.Statement{Text: text + ".", Event: s.event})
		before = o
	}
	return list
}

// attribute finds the event of each thing that people said: the nearest in time that came to the same door. An answer is heard a
// little before or after the event that records it, by way of another workflow or not.
func attribute(answers []report.Approval, heard []said) {
	heard = slices.Clone(heard)
	for i := range answers {
		a := &answers[i]
		nearest := -1
		for j, s := range heard {
			if s.door == a.Action && (nearest < 0 || s.at.Sub(a.At).Abs() < heard[nearest].at.Sub(a.At).Abs()) {
				nearest = j
			}
		}
		if nearest >= 0 {
			a.Event = heard[nearest].event
			heard = slices.Delete(heard, nearest, nearest+1)
		}
	}
}

// passedOver lists the backups that are newer than the one that was taken, and why each was not.
func passedOver(folder incident.Folder, taken string) ([]report.Candidate, error) {
	var candidates []catalog.Candidate
	if err := folder.GetJSON(candidatesFile, &candidates); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, err
	}
	var over []report.Candidate
	for _, c := range candidates {
		if c.Entry.ID == taken {
			return over, nil
		}
		over = append(over, report.Candidate{Backup: c.Entry.ID, Why: c.Why})
	}
	return nil, nil
}

// last is the last time that a step came to its end.
func last(spans []span, activity string) span {
	for _, s := range slices.Backward(spans) {
		if s.activity == activity {
			return s
		}
	}
	return span{}
}
