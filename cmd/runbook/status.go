package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

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
	if p := s.Status.Plan; p != nil && s.Running != "" {
		fmt.Fprintf(w, "\nPlan %s: put back %s\n", p.Code, p.Backup.ID)
		fmt.Fprintf(w, "  %d documents in %d collections\n", p.Backup.Documents, p.Backup.Collections)
		if p.RadiusKnown {
			fmt.Fprintf(w, "  %d come back, %d go back to the backup's version, %d newer ones leave\n", p.Radius.Missing, p.Radius.Changed, p.Radius.Added)
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
