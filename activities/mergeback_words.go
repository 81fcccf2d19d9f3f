package activities

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/battwheels/runbook/internal/incident"
	"github.com/battwheels/runbook/internal/report"
	"github.com/battwheels/runbook/internal/words"
)

// inWords says what is in a safety dump alone, by collection and by organization.
func (n *Newer) inWords(safety string) string {
	sentences := []string{fmt.Sprintf("%s newer than the backup and in safety dump %s alone", words.Plural(n.Documents, "document is", "documents are"), safety)}
	for _, of := range []struct {
		title string
		list  []NewerOf
		more  int
	}{
		{"By collection: ", n.Collections, n.MoreCollections},
		{"By organization: ", n.Organizations, n.MoreOrganizations},
		{"Collections that the backup does not have were set aside: ", n.Aside, n.MoreAside},
	} {
		if text := listed(of.list, of.more); text != "" {
			sentences = append(sentences, of.title+text)
		}
	}
	if n.Changed > 0 {
		sentences = append(sentences, words.Plural(n.Changed, "document", "documents")+" went back to the backup's version, whether work or the damage had changed them")
	}
	return strings.Join(sentences, ". ") + "."
}

// listed names the first of those that have newer documents.
func listed(list []NewerOf, more int) string {
	var parts []string
	for _, of := range list {
		if of.Documents > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", of.Name, words.Number(of.Documents)))
		}
	}
	// They are sorted: after one with none, only such follow.
	if len(parts) == len(list) && more > 0 {
		parts = append(parts, fmt.Sprintf("%d more", more))
	}
	return strings.Join(parts, ", ")
}

// citeMergedBack tells what was merged back after this incident: each time with its histories, exported beside this one's, and
// with the event of the insert.
func (a *Incident) citeMergedBack(ctx context.Context, f *report.Facts, folder incident.Folder, in DraftInput) (events int, err error) {
	all, err := a.mergedBack(in.Target, in.Incident)
	if err != nil {
		return 0, err
	}
	if n := in.Newer; len(all) == 0 && n != nil && n.Documents > 0 {
		f.FollowUps = append(f.FollowUps, report.Statement{Text: fmt.Sprintf(
			"What users made after the backup can come back, after a person has looked at it: runbook merge-back %s --incident %s", in.Target, in.Incident)})
	}
	for i, m := range all {
		name := fmt.Sprintf("merge-back-%d", i+1)
		var spans []span
		for k, e := range m.Histories {
			if k > 0 {
				name = fmt.Sprintf("merge-back-%d-insert", i+1)
			}
			this, n, err := a.take(ctx, f, folder, name, e)
			if err != nil {
				return events, err
			}
			spans, events = append(spans, this.spans...), events+n
		}
		f.Kept = append(f.Kept, report.Statement{Text: m.inWords(), Event: last(spans, "UndeleteDocuments").event})
		if e := last(spans, "UndoUndelete").event; e != "" && m.Undone != nil {
			f.Kept = append(f.Kept, report.Statement{Event: e, Text: fmt.Sprintf(
				"%d of these were taken out again; %d had been changed since and stayed, %d were gone already.", m.Undone.Removed, m.Undone.Changed, m.Undone.Gone)})
		}
	}
	return events, nil
}

func (m *MergedBack) inWords() string {
	text := fmt.Sprintf("Merged back from %s by incident %s (plan %s, approved by %s): %s",
		m.Safety, m.Incident, m.Plan, cmp.Or(m.ApprovedBy, "nobody"), words.Plural(m.PutBack.Insert, "document", "documents"))
	if m.Narrowed != "" {
		text += ", narrowed to " + m.Narrowed
	}
	return text + "."
}
