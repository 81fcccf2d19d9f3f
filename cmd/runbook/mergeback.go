package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"

	"github.com/battwheels/runbook/worker"
	"github.com/battwheels/runbook/workflows"
)

func (a *app) mergeBack() *cobra.Command {
	var in workflows.MergeBackInput
	var wait bool
	c := &cobra.Command{
		Use:   "merge-back [TARGET]",
		Short: "Bring back what users made after the backup that a restore put back",
		Long: `Bring back what users made between the backup that a restore put back and the application's stop. It stands in the safety
dump of that incident alone. The application goes on meanwhile.

Only documents come back of which neither the backup nor the database has the _id, and nothing that stands there changes. What
was changed since the backup stays as the backup has it, because damage is a change, too. Documents that the damage itself has
inserted look like work: read the plan's counts by collection and organization, and narrow it. It always asks for approval;
afterwards one answer takes everything out again, for an hour.

` + exitHelp,
		Example: `  runbook merge-back battwheels --incident 20260224T031200Z-3f9a2c --dry-run
  runbook merge-back battwheels --incident 20260224T031200Z-3f9a2c --reason "what was entered since two o'clock"
  runbook merge-back battwheels --collections invoices,payments --organization org_1f2e --reason "their morning's work"`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := a.loadLenient()
			if err != nil {
				return err
			}
			target, _, err := a.target(cfg, args)
			if err != nil {
				return err
			}
			// A dry run decides nothing.
			if err := signed(in.By); err != nil && !in.DryRun {
				return err
			}
			in.Target = target
			return a.withTemporal(cmd, func(ctx context.Context, c client.Client) error {
				s := worker.Starter{Client: c, Config: cfg}
				run, err := s.Start(ctx, "MergeBack", target, in)
				if err != nil {
					return err
				}
				if wait || in.DryRun {
					return a.await(ctx, c, cfg.Temporal.TaskQueue, cmd, run)
				}
				return a.print(cmd.OutOrStdout(), map[string]string{"workflowId": run.GetID(), "runId": run.GetRunID()}, func(w io.Writer) {
					fmt.Fprintf(w, "started %s\nread its plan with: runbook status %s\n", run.GetID(), target)
				})
			})
		},
	}
	f := c.Flags()
	f.StringVar(&in.Incident, "incident", "", "the incident whose safety dump is read (default the newest that has one)")
	f.StringSliceVar(&in.Collections, "collections", nil, "only from these collections; their dependants come along")
	f.StringSliceVar(&in.Collections, "collection", nil, "") // as "narrow" and "start" call it
	must(f.MarkHidden("collection"))
	f.StringVar(&in.Organization, "organization", "", "only this organization's documents, by its id")
	f.BoolVar(&in.DryRun, "dry-run", false, "search and plan only, and wait for it; nothing is written, nobody is told")
	f.StringVar(&in.By, "by", whoami(), "your name; it stands in the report")
	f.StringVar(&in.Reason, "reason", "", "why; it stands in the report")
	f.BoolVar(&wait, "wait", false, "wait for the end, and print the result")
	return c
}
