package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/battwheels/runbook/internal/restore"
	"github.com/battwheels/runbook/internal/words"
)

// restored is what offline restore prints.
type restored struct {
	Backup      string                 `json:"backup"`
	Database    string                 `json:"database"`
	SafetyDump  string                 `json:"safetyDump,omitempty"`
	Collections int                    `json:"collections"`
	Documents   int64                  `json:"documents"`
	Aside       int                    `json:"aside"` // collections set aside
	Incident    string                 `json:"incident"`
	DryRun      bool                   `json:"dryRun,omitempty"`
	Warnings    []string               `json:"warnings,omitempty"`
	Counts      *restore.PartialResult `json:"counts,omitempty"` // of a restore in part, and of --dry-run

	target, ofTarget string // the target, and its database
}

// tell prints what was done, or would be, for people.
func (r restored) tell(w io.Writer) {
	switch {
	case r.Counts != nil:
		r.tellCounts(w)
	case r.DryRun:
		fmt.Fprintf(w, "backup %s would be restored:\n%s, proven in a staged copy.\n", r.Backup, documentsIn(r.Documents, r.Collections))
		fmt.Fprintln(w, "Nothing was changed; repeat with --yes to restore.")
	default:
		fmt.Fprintf(w, "restored %s:\n%s, proven by digest\n", r.Backup, documentsIn(r.Documents, r.Collections))
		if r.SafetyDump != "" {
			fmt.Fprintf(w, "safety dump: %s\n", r.SafetyDump)
		}
		if r.Aside > 0 {
			fmt.Fprintf(w, "set aside:   %s in runbook.old.%s.*\n", words.Plural(int64(r.Aside), "collection", "collections"), r.Incident)
			if r.Database == r.ofTarget {
				fmt.Fprintf(w, "to undo it:  runbook offline roll-back %s --incident %s --yes\n", r.target, r.Incident)
			}
		}
	}
}

func (r restored) tellCounts(w io.Writer) {
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tab, "insert\toverwrite\tremove\tidentical\tleft as it is\tcollection\t")
	line := func(c restore.PartialCollection, name string) {
		fmt.Fprintf(tab, "%s\t%s\t%s\t%s\t%s\t%s\t\n", words.Number(c.Insert), words.Number(c.Overwrite), words.Number(c.Remove),
			words.Number(c.Identical), words.Number(c.Different), name)
	}
	for _, c := range r.Counts.Collections {
		line(c, c.Name)
	}
	line(r.Counts.Total(), "all")
	_ = tab.Flush()
	for _, left := range r.Counts.Left {
		wrapped(w, "left alone: ", left, 2)
	}
	for _, c := range r.Counts.Collections {
		if c.Conflicts > 0 {
			wrapped(w, c.Name+": ", fmt.Sprintf("%s not restored, because others hold their unique keys: %s", words.Number(c.Conflicts), strings.Join(c.Examples, ", ")), 2)
		}
	}
	switch {
	case r.DryRun:
		fmt.Fprintf(w, "Nothing was changed in %s; repeat with --yes to restore.\n", r.Database)
	case r.Counts.Undo != "":
		fmt.Fprintf(w, "restored %s into %s\nwhat was there before: %s\nto put that back:      runbook offline restore %s --backup %s --into %s --mode overwrite --yes\n",
			r.Backup, r.Database, r.Counts.Undo, r.target, r.Counts.Undo, r.Database)
	default:
		fmt.Fprintf(w, "restored %s into %s; nothing was overwritten\n", r.Backup, r.Database)
	}
}
