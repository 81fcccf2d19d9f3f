package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"

	"github.com/battwheels/runbook/activities"
	"github.com/battwheels/runbook/internal/words"
	"github.com/battwheels/runbook/workflows"
)

// targetStatus is what status tells of one target.
type targetStatus struct {
	Target  string            `json:"target"`
	Running string            `json:"running,omitempty"` // workflow id
	Status  *workflows.Status `json:"status,omitempty"`
	Failed  string            `json:"failed,omitempty"`  // how a run failed, or why it has no status to show
	Ended   *ending           `json:"ended,omitempty"`   // of what is shown, where it runs no longer
	Trouble []string          `json:"trouble,omitempty"` // steps that are tried again and again
	Beside  *targetStatus     `json:"beside,omitempty"`  // a restore that is not the incident's own
	Also    []string          `json:"also,omitempty"`    // what else runs: workflow ids
}

func (a *app) status() *cobra.Command {
	return &cobra.Command{
		Use:     "status [TARGET]",
		Short:   "Show what is done, what runs, and what is asked of people",
		Long:    "Show what is done, what runs, and what is asked of people, for one target or for all.\n\n" + exitHelp,
		Example: "  runbook status battwheels\n  runbook status --json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := a.loadLenient()
			if err != nil {
				return err
			}
			names := cfg.TargetNames()
			if len(args) > 0 {
				name, _, err := a.target(cfg, args)
				if err != nil {
					return err
				}
				names = []string{name}
			}
			return a.withTemporal(cmd, func(ctx context.Context, c client.Client) error {
				var all []targetStatus
				var failed error
				for _, name := range names {
					s, err := statusOf(ctx, c, name)
					if err != nil {
						s.Failed = err.Error()
						failed = errors.Join(failed, err)
					}
					all = append(all, s)
				}
				open, err := openReports(ctx, c)
				if err != nil {
					return err
				}
				reports := reportsOf(ctx, c, open)
				err = a.print(cmd.OutOrStdout(), map[string]any{"targets": all, "openReports": open, "reports": reports}, func(w io.Writer) {
					for _, s := range all {
						s.write(w)
					}
					for _, r := range reports {
						r.write(w, time.Now())
					}
				})
				return errors.Join(err, failed)
			})
		},
	}
}

func (s targetStatus) write(w io.Writer) {
	s.writeRun(w)
	for _, t := range s.Trouble {
		wrapped(w, "! ", t, 2)
	}
	if s.Beside != nil {
		s.Beside.write(w)
	}
	for _, id := range s.Also {
		fmt.Fprintf(w, "%s also runs\n", id)
	}
}

func (s targetStatus) writeRun(w io.Writer) {
	if s.Status == nil {
		said := "no incident, no restore"
		if s.Failed != "" {
			said = s.Failed
		}
		wrapped(w, s.Target+": ", said, 2)
		return
	}
	state := "running as " + s.Running
	if s.Ended != nil {
		state = s.Ended.String()
	}
	wrapped(w, s.Target+": ", fmt.Sprintf("%s (%s)", s.Status.Phase, state), 2)
	marks := map[workflows.StepState]string{workflows.Done: "✓", workflows.Running: "…", workflows.Failed: "✗", workflows.Skipped: "-", workflows.Pending: " "}
	for _, st := range s.Status.Steps {
		wrapped(w, "  "+marks[st.State]+" ", st.Name, 4)
		if st.Note != "" {
			wrapped(w, "      ", st.Note, 6)
		}
	}
	if p := s.Status.Plan; p != nil && p.Undelete != nil && s.Running != "" {
		writeUndelete(w, p)
	} else if m := s.Status.Missing; m != nil && p == nil && s.Running != "" {
		writeMissing(w, m)
	} else if p != nil && s.Running != "" {
		fmt.Fprintf(w, "\nPlan %s: put back %s\n", p.Code, p.Backup.ID)
		if len(p.Only) > 0 {
			wrapped(w, "  only these collections, each of them whole: ", strings.Join(p.Only, ", "), 4)
		}
		fmt.Fprintf(w, "  %s\n", documentsIn(p.Backup.Documents, p.Backup.Collections))
		if p.RadiusKnown {
			wrapped(w, "  ", fmt.Sprintf("%s come back, %s go back to the backup's version, %s newer ones leave",
				words.Number(p.Radius.Missing), words.Number(p.Radius.Changed), words.Number(p.Radius.Added)), 4)
		}
		writeCounts(w, p)
		if p.Expected != "" {
			wrapped(w, "  ", p.Expected, 4)
		}
		if p.Told != nil {
			wrapped(w, "  ", fmt.Sprint(p.Told), 4)
			wrapped(w, "  who, and a preview of the mail: ", p.Told.Preview, 4)
		}
		for _, warning := range p.Warnings {
			wrapped(w, "  ! ", warning, 4)
		}
	}
	if s.Status.Asked != "" {
		fmt.Fprintln(w, "\nASKED OF YOU:")
		writeAsked(w, s.Status.Asked)
	}
	if s.Status.Result != "" {
		fmt.Fprintln(w)
		wrapped(w, "", s.Status.Result, 0)
	}
	if s.Failed != "" {
		wrapped(w, "! ", s.Failed, 2)
	}
}

// writeAsked is a question as a terminal shows it. Commands stay on one line, to be copied.
func writeAsked(w io.Writer, asked string) {
	for line := range strings.SplitSeq(strings.NewReplacer("`", "", "**", "").Replace(asked), "\n") {
		if text := strings.TrimLeft(line, " "); strings.HasPrefix(text, "runbook ") || utf8.RuneCountInString(line) <= lineWidth {
			fmt.Fprintln(w, line)
		} else {
			wrapped(w, line[:len(line)-len(text)], text, len(line)-len(text))
		}
	}
}

// writeCounts is what a person compares before approving: counts known by heart, and what is touched most.
func writeCounts(w io.Writer, p *activities.Plan) {
	for _, k := range p.KeyCounts {
		now := "?"
		if k.Now >= 0 {
			now = words.Number(k.Now)
		}
		fmt.Fprintf(w, "  %-36s %9s → %s\n", shortened(k.Name, 36), now, words.Number(k.Backup))
	}
	const rows = 6
	if len(p.Collections) > 0 {
		fmt.Fprintf(w, "  %-36s %12s %12s %12s\n", "most affected", "come back", "go back", "leave")
	}
	for _, c := range p.Collections[:min(len(p.Collections), rows)] {
		fmt.Fprintf(w, "  %-36s %12s %12s %12s\n", shortened(c.Name, 36), words.Number(c.Missing), words.Number(c.Changed), words.Number(c.Added))
	}
	if len(p.ComeBack) > 0 {
		wrapped(w, "  collections that come back: ", strings.Join(p.ComeBack, ", "), 4)
	}
	if len(p.MoveAside) > 0 {
		wrapped(w, "  collections that are set aside: ", strings.Join(p.MoveAside, ", "), 4)
	}
}

// writeMissing is the table from which people narrow.
func writeMissing(w io.Writer, m *activities.Missing) {
	from, to := "there at", "absent at"
	if m.Without == "" {
		fmt.Fprintf(w, "\n%s documents stood in a backup and are absent now:\n", words.Number(m.Documents))
	} else {
		from, to = "made after", "made before"
		fmt.Fprintf(w, "\n%s documents are newer than backup %s, and absent now:\n", words.Number(m.Documents), m.Without)
	}
	fmt.Fprintf(w, "  %-28s %-24s %10s %10s\n", "collection", "organization", "documents", "audited")
	for _, g := range m.Groups {
		fmt.Fprintf(w, "  %-28s %-24s %10s %10s\n", shortened(g.Collection, 28), cmp.Or(g.Organization, "(none)"), words.Number(g.Documents), words.Number(g.Audited))
		fmt.Fprintf(w, "    %s %s, %s %s\n", from, g.From.UTC().Format(time.RFC3339), to, g.To.UTC().Format(time.RFC3339))
	}
	if m.More > 0 {
		fmt.Fprintf(w, "  and %s, in %s\n", words.Plural(int64(m.More), "more group", "more groups"), m.Folder)
	}
}

func writeUndelete(w io.Writer, p *activities.Plan) {
	u := p.Undelete
	if u.Without == "" {
		fmt.Fprintln(w)
		wrapped(w, "Plan "+p.Code+": ", fmt.Sprintf("put %s back, %s of them dependants of others, while the application runs",
			words.Plural(u.Insert, "document", "documents"), words.Number(u.Dependants)), 2)
	} else {
		fmt.Fprintln(w)
		wrapped(w, "Plan "+p.Code+": ", fmt.Sprintf("bring %s back that are newer than backup %s, while the application runs",
			words.Plural(u.Insert, "document", "documents"), u.Without), 2)
		fmt.Fprintln(w, "  The damage may have made some of them: look at the counts, and narrow to what is work.")
	}
	if left := u.LeftOut(); left != "" {
		wrapped(w, "  left out: ", left, 4)
	}
	for _, c := range u.Collections {
		fmt.Fprintf(w, "  %-28s %9s\n", c.Collection, words.Number(c.Insert))
	}
	for _, o := range u.Organizations {
		fmt.Fprintf(w, "  of organization %-12s %9s\n", cmp.Or(o.Organization, "(none)"), words.Number(o.Documents))
	}
	if u.MoreOrganizations > 0 {
		fmt.Fprintf(w, "  and of %s more\n", words.Number(int64(u.MoreOrganizations)))
	}
	for _, s := range u.Samples {
		wrapped(w, "  some of "+s.Collection+": ", strings.Join(s.Documents, ", "), 4)
	}
	for _, warning := range p.Warnings {
		wrapped(w, "  ! ", warning, 4)
	}
	fmt.Fprintln(w, "  each by its _id:", u.File)
}

// writePlanned is what a dry run has found, and would do.
func writePlanned(w io.Writer, result map[string]any) {
	b, err := json.Marshal(result)
	var r workflows.IncidentResult
	if err != nil || json.Unmarshal(b, &r) != nil {
		return
	}
	if r.Simulation != nil {
		writeSimulation(w, r.Simulation)
		return
	}
	if r.Outcome != workflows.Planned || r.Undelete == nil {
		return
	}
	found := activities.Missing{Documents: r.Undelete.Missing, Groups: r.Undelete.Groups, Folder: r.Undelete.Folder}
	if from := r.Undelete.From; from != nil {
		found.Without = from.Backup.ID
	}
	writeMissing(w, &found)
	if p := r.Undelete.Plan; p != nil && p.Undelete != nil {
		writeUndelete(w, p)
	}
	for _, warning := range r.Undelete.Warnings {
		wrapped(w, "  ! ", warning, 4)
	}
}
