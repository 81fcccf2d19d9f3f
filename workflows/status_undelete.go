package workflows

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/battwheels/runbook/activities"
)

// missingMarkdown draws the table from which a person narrows: the largest groups that fit.
func missingMarkdown(m activities.Missing, limit int) string {
	var b strings.Builder
	if m.Without == "" {
		fmt.Fprintf(&b, "### %s documents stood in a backup and are absent\n", count(m.Documents))
	} else {
		fmt.Fprintf(&b, "### %s documents are newer than backup %s, and absent\n", count(m.Documents), m.Without)
	}
	if m.Lost > 0 {
		fmt.Fprintf(&b, "%s more were made and deleted since the newest backup, and stand nowhere.\n", count(m.Lost))
	}
	if whole := forRestore(m, "TARGET", []string{"SAFETY-DUMP"}); whole != "" {
		b.WriteString("❗ " + whole + "\n")
	}
	when := "Vanished"
	if m.Without != "" {
		when = "Made"
	}
	b.WriteString("\n| Collection | Organization | " + when + " between | | Documents | Audited |\n|---|---|---|---|---:|---:|\n")
	const more = "\n%d more groups, all in groups.json\n"
	for i, g := range m.Groups {
		line := fmt.Sprintf("| %s | %s | %s | %s | %s | %s |\n", cell(g.Collection), cell(g.Organization),
			g.From.UTC().Format("01-02 15:04:05"), g.To.UTC().Format("01-02 15:04:05"), count(g.Documents), count(g.Audited))
		if b.Len()+len(line)+len(more)+8 > limit {
			fmt.Fprintf(&b, more, len(m.Groups)-i+m.More)
			return clip(b.String(), limit)
		}
		b.WriteString(line)
	}
	if m.More > 0 {
		fmt.Fprintf(&b, more, m.More)
	}
	return clip(b.String(), limit)
}

// forRestore says what to do about collections of which single documents cannot be put back; "" where there are none.
func forRestore(m activities.Missing, target string, backups []string) string {
	whole := append(slices.Clone(m.Gone), m.TooMany...)
	const few = 5
	switch n := len(whole); {
	case n == 0:
		return ""
	case m.Without != "":
		names := strings.Join(whole[:min(n, few)], ", ")
		if n > few {
			names += fmt.Sprintf(" and %d more", n-few)
		}
		return fmt.Sprintf("Not to be merged, because the backup does not have them or too much of them is newer: %s. To take one over whole from the safety dump, with whatever damage is in it, end this, and run: runbook start Restore %s --backup %s --collection COLLECTION",
			names, target, strings.Join(backups, ","))
	case n > few:
		return fmt.Sprintf("%d collections are gone altogether, or miss too much to be listed: %s, …. End this, and restore the database: runbook start Restore %s",
			n, strings.Join(whole[:few], ", "), target)
	default:
		return fmt.Sprintf("Gone altogether, or too much to be listed: %s. To restore these whole, end this, and run: runbook start Restore %s --collection %s",
			strings.Join(whole, ", "), target, strings.Join(whole, ","))
	}
}

// undeleteMarkdown draws the plan of an undelete.
func undeleteMarkdown(p activities.Plan, limit int) string {
	var b strings.Builder
	u := p.Undelete
	if u.Without == "" {
		fmt.Fprintf(&b, "### Plan `%s`\nPut back **%s documents**, %s of them dependants of others, while the application runs. Nothing that is there changes.\n\n",
			p.Code, count(u.Insert), count(u.Dependants))
	} else {
		fmt.Fprintf(&b, "### Plan `%s`\nBring back **%s documents** that are newer than backup %s, while the application runs. Nothing that is there changes. **The damage may have made some of them**: look at the counts, and narrow to what is work.\n\n",
			p.Code, count(u.Insert), u.Without)
	}
	if u.Filter != "" {
		fmt.Fprintf(&b, "Narrowed to: %s\n\n", u.Filter)
	}
	for _, w := range p.Warnings {
		fmt.Fprintf(&b, "❗ %s\n\n", w)
	}
	b.WriteString("| Collection | Come back | There | Newer there | Made anew | Conflict | Expired |\n|---|---:|---:|---:|---:|---:|---:|\n")
	for _, c := range u.Collections {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s |\n", cell(c.Collection), count(c.Insert), count(c.There), count(c.Newer),
			count(c.Recreated), count(c.Conflict), count(c.Expired))
	}
	if len(u.Organizations) > 0 {
		b.WriteString("\n| Organization | Come back |\n|---|---:|\n")
		const few = 6
		for _, o := range u.Organizations[:min(len(u.Organizations), few)] {
			fmt.Fprintf(&b, "| %s | %s |\n", cell(cmp.Or(o.Organization, "(none)")), count(o.Documents))
		}
		if more := len(u.Organizations) - few + u.MoreOrganizations; more > 0 {
			fmt.Fprintf(&b, "| and more | %d |\n", more)
		}
	}
	if len(u.Samples) > 0 {
		b.WriteString("\n| Some of | |\n|---|---|\n")
		for _, s := range u.Samples {
			fmt.Fprintf(&b, "| %s | %s |\n", cell(s.Collection), cell(strings.Join(s.Documents, ", ")))
		}
	}
	fmt.Fprintf(&b, "\nEach of them by its _id: `%s`\n", u.File)
	return clip(b.String(), limit)
}
