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

	"github.com/spf13/cobra"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
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
	Reports []string          `json:"openReports,omitempty"`
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
				for _, name := range names {
					s, err := statusOf(ctx, c, name)
					if err != nil {
						return err
					}
					all = append(all, s)
				}
				reports, err := openReports(ctx, c)
				if err != nil {
					return err
				}
				return a.print(cmd.OutOrStdout(), map[string]any{"targets": all, "openReports": reports}, func(w io.Writer) {
					for _, s := range all {
						s.write(w)
					}
					for _, r := range reports {
						fmt.Fprintf(w, "open report: %s\n", r)
					}
				})
			})
		},
	}
}

func statusOf(ctx context.Context, c client.Client, target string) (targetStatus, error) {
	s := targetStatus{Target: target}
	for _, id := range []string{workflows.IncidentID(target), workflows.RestoreID(target)} {
		d, err := c.DescribeWorkflowExecution(ctx, id, "")
		if _, ok := errors.AsType[*serviceerror.NotFound](err); ok {
			continue
		}
		if err != nil {
			return s, fmt.Errorf("describe %s: %w", id, err)
		}
		runs := d.GetWorkflowExecutionInfo().GetStatus() == enums.WORKFLOW_EXECUTION_STATUS_RUNNING
		if !runs && s.Status != nil {
			continue
		}
		v, err := c.QueryWorkflow(ctx, id, "", workflows.QueryStatus)
		if err != nil {
			return s, fmt.Errorf("ask %s (is a worker running?): %w", id, err)
		}
		var st workflows.Status
		if err := v.Get(&st); err != nil {
			return s, fmt.Errorf("answer of %s: %w", id, err)
		}
		s.Status = &st
		if runs {
			s.Running = id
			return s, nil
		}
	}
	return s, nil
}

func openReports(ctx context.Context, c client.Client) ([]string, error) {
	r, err := c.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{
		Query: `WorkflowType = "IncidentReport" AND ExecutionStatus = "Running"`,
	})
	if err != nil {
		return nil, fmt.Errorf("list open reports: %w", err)
	}
	var ids []string
	for _, e := range r.GetExecutions() {
		ids = append(ids, strings.TrimPrefix(e.GetExecution().GetWorkflowId(), "report/"))
	}
	return ids, nil
}

func (s targetStatus) write(w io.Writer) {
	if s.Status == nil {
		fmt.Fprintf(w, "%s: no incident, no restore\n", s.Target)
		return
	}
	state := "ended"
	if s.Running != "" {
		state = "running as " + s.Running
	}
	fmt.Fprintf(w, "%s: %s (%s)\n", s.Target, s.Status.Phase, state)
	marks := map[workflows.StepState]string{workflows.Done: "✓", workflows.Running: "…", workflows.Failed: "✗", workflows.Skipped: "-", workflows.Pending: " "}
	for _, st := range s.Status.Steps {
		fmt.Fprintf(w, "  %s %s\n", marks[st.State], st.Name)
		if st.Note != "" {
			fmt.Fprintf(w, "      %s\n", st.Note)
		}
	}
	if p := s.Status.Plan; p != nil && p.Undelete != nil && s.Running != "" {
		writeUndelete(w, p)
	} else if m := s.Status.Missing; m != nil && p == nil && s.Running != "" {
		writeMissing(w, m)
	} else if p != nil && s.Running != "" {
		fmt.Fprintf(w, "\nPlan %s: put back %s\n", p.Code, p.Backup.ID)
		if len(p.Only) > 0 {
			fmt.Fprintf(w, "  only these collections, each of them whole: %s\n", strings.Join(p.Only, ", "))
		}
		fmt.Fprintf(w, "  %s documents in %d collections\n", words.Number(p.Backup.Documents), p.Backup.Collections)
		if p.RadiusKnown {
			fmt.Fprintf(w, "  %s come back, %s go back to the backup's version, %s newer ones leave\n",
				words.Number(p.Radius.Missing), words.Number(p.Radius.Changed), words.Number(p.Radius.Added))
		}
		if p.Expected != "" {
			fmt.Fprintln(w, " ", p.Expected)
		}
		if p.Told != nil {
			fmt.Fprintf(w, "  %s\n  who, and a preview of the mail: %s\n", p.Told, p.Told.Preview)
		}
		for _, warning := range p.Warnings {
			fmt.Fprintln(w, "  !", warning)
		}
	}
	if s.Status.Asked != "" {
		fmt.Fprintf(w, "\nASKED OF YOU:\n%s\n", strings.NewReplacer("`", "", "**", "").Replace(s.Status.Asked))
	}
	if s.Status.Result != "" {
		fmt.Fprintln(w, "\n"+s.Status.Result)
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
	fmt.Fprintf(w, "  %-28s %-20s %-20s %-20s %9s %9s\n", "collection", "organization", from, to, "documents", "audited")
	for _, g := range m.Groups {
		fmt.Fprintf(w, "  %-28s %-20s %-20s %-20s %9d %9d\n", g.Collection, g.Organization,
			g.From.UTC().Format(time.RFC3339), g.To.UTC().Format(time.RFC3339), g.Documents, g.Audited)
	}
	if m.More > 0 {
		fmt.Fprintf(w, "  and %d more groups, in %s\n", m.More, m.Folder)
	}
}

func writeUndelete(w io.Writer, p *activities.Plan) {
	u := p.Undelete
	if u.Without == "" {
		fmt.Fprintf(w, "\nPlan %s: put %s documents back, %s of them dependants of others, while the application runs\n", p.Code, words.Number(u.Insert), words.Number(u.Dependants))
	} else {
		fmt.Fprintf(w, "\nPlan %s: bring %s documents back that are newer than backup %s, while the application runs\n", p.Code, words.Number(u.Insert), u.Without)
		fmt.Fprintln(w, "  The damage may have made some of them: look at the counts, and narrow to what is work.")
	}
	if left := u.LeftOut(); left != "" {
		fmt.Fprintln(w, "  left out:", left)
	}
	for _, c := range u.Collections {
		fmt.Fprintf(w, "  %-28s %9d\n", c.Collection, c.Insert)
	}
	for _, o := range u.Organizations {
		fmt.Fprintf(w, "  of organization %-12s %9d\n", cmp.Or(o.Organization, "(none)"), o.Documents)
	}
	if u.MoreOrganizations > 0 {
		fmt.Fprintf(w, "  and of %d more\n", u.MoreOrganizations)
	}
	for _, s := range u.Samples {
		fmt.Fprintf(w, "  some of %s: %s\n", s.Collection, strings.Join(s.Documents, ", "))
	}
	for _, warning := range p.Warnings {
		fmt.Fprintln(w, "  !", warning)
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
		fmt.Fprintln(w, "  !", warning)
	}
}
