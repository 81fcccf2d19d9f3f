package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/battwheels/runbook/worker"
	"github.com/battwheels/runbook/workflows"
)

var playbooks = []string{"AccidentalDeletion", "Backup", "BackupMonitor", "DatabaseCorruption", "MergeBack", "PodLoss", "Restore", "RestoreDrill"}

// rehearsable are the playbooks that have a dry run.
var rehearsable = []string{"AccidentalDeletion", "Backup", "DatabaseCorruption", "MergeBack", "PodLoss", "Restore"}

func (a *app) start() *cobra.Command {
	var backup, since, by, reason string
	var deletion workflows.DeletionInput
	var wait, dry bool
	c := &cobra.Command{
		Use:   "start PLAYBOOK [TARGET]",
		Short: "Start a playbook: " + strings.Join(playbooks, ", "),
		Long: `Start a playbook. AccidentalDeletion, DatabaseCorruption, MergeBack, PodLoss and Restore ask for approval of a plan before they
change anything live. AccidentalDeletion puts single documents back while the application runs; for a whole collection
(--collection) or the whole database, start Restore, which stops the application.

` + exitHelp,
		Example: `  runbook start Backup battwheels --wait
  runbook start DatabaseCorruption battwheels --since 2026-02-24T03:12:00Z --reason "invoices unreadable"
  runbook start AccidentalDeletion battwheels --since 2026-02-24T09:00:00Z --collection invoices --organization org_1f2e
  runbook start AccidentalDeletion battwheels --since 2026-02-24T09:00:00Z --dry-run --wait
  runbook start DatabaseCorruption battwheels --dry-run
  runbook start Restore battwheels --backup 20260223T020000Z-scheduled-3f9a2c`,
		Args:      cobra.RangeArgs(1, 2),
		ValidArgs: playbooks,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := a.loadLenient()
			if err != nil {
				return err
			}
			if !slices.Contains(playbooks, args[0]) {
				return usage(fmt.Errorf("no playbook %q: there are %s", args[0], strings.Join(playbooks, ", ")))
			}
			target, _, err := a.target(cfg, args[1:])
			if err != nil {
				return err
			}
			if !slices.Contains(rehearsable, args[0]) && dry {
				return usage(fmt.Errorf("%s has no dry run: %s have", args[0], strings.Join(rehearsable, ", ")))
			}
			for field, moment := range map[string]workflows.Since{"since": workflows.Since(since), "until": deletion.Until} {
				if err := moment.Check(field); err != nil {
					return usage(err)
				}
			}
			deletion.DryRun = dry
			deletion.Target, deletion.Backup, deletion.Since, deletion.By, deletion.Reason = target, backup, workflows.Since(since), by, reason
			in := map[string]any{
				"AccidentalDeletion": deletion,
				"Backup":             workflows.BackupInput{Target: target, DryRun: dry},
				"BackupMonitor":      workflows.MonitorInput{Target: target},
				"DatabaseCorruption": workflows.CorruptionInput{Target: target, Backup: backup, Since: workflows.Since(since), By: by, Reason: reason, DryRun: dry},
				"MergeBack": workflows.MergeBackInput{
					Target: target, Collections: deletion.Collections, Organization: deletion.Organization, DryRun: dry, By: by, Reason: reason,
				},
				"PodLoss":      workflows.PodLossInput{Target: target, Backup: backup, Since: workflows.Since(since), By: by, Reason: reason, DryRun: dry},
				"Restore":      workflows.RestoreInput{Target: target, Backup: backup, Since: workflows.Since(since), Collections: deletion.Collections, DryRun: dry},
				"RestoreDrill": workflows.DrillInput{Target: target, Backup: backup},
			}[args[0]]
			return a.withTemporal(cmd, func(ctx context.Context, c client.Client) error {
				s := worker.Starter{Client: c, Config: cfg}
				run, err := s.Start(ctx, args[0], target, in)
				if err != nil {
					return err
				}
				if !wait && !dry {
					return a.print(cmd.OutOrStdout(), map[string]string{"workflowId": run.GetID(), "runId": run.GetRunID()}, func(w io.Writer) {
						fmt.Fprintf(w, "started %s\nsee it with: runbook status %s\n", run.GetID(), target)
						if cfg.Temporal.UI != "" {
							fmt.Fprintln(w, "or at:      ", worker.UILink(cfg, worker.Namespace(), run.GetID(), run.GetRunID()))
						}
					})
				}
				return a.await(ctx, c, cfg.Temporal.TaskQueue, cmd, run)
			})
		},
	}
	c.Flags().StringVar(&backup, "backup", "", "id of the backup to restore (default the newest proven one), or to compare with")
	c.Flags().StringVar(&since, "since", "", "when the damage began, like 2026-02-24T03:12:00Z: only older backups are chosen")
	c.Flags().StringVar((*string)(&deletion.Until), "until", "", "AccidentalDeletion: when the deleting had ended")
	c.Flags().StringSliceVar(&deletion.Collections, "collection", nil, "AccidentalDeletion, MergeBack: only from these collections; Restore: only these, each of them whole")
	c.Flags().StringVar(&deletion.Organization, "organization", "", "AccidentalDeletion, MergeBack: only this organization's documents")
	c.Flags().StringSliceVar(&deletion.IDs, "id", nil, "AccidentalDeletion: only these documents, by the application's id or by _id")
	c.Flags().BoolVar(&dry, "dry-run", false, "read and plan only, say how long it would take and what would hinder it, and wait for that; nothing is changed, nobody is told")
	c.Flags().StringVar(&by, "by", whoami(), "your name")
	c.Flags().StringVar(&reason, "reason", "", "why")
	c.Flags().BoolVar(&wait, "wait", false, "wait for the end, and print the result")
	return c
}

// await waits for a playbook that was started on a queue, and prints its result.
func (a *app) await(ctx context.Context, c client.Client, queue string, cmd *cobra.Command, run client.WorkflowRun) error {
	out := cmd.OutOrStdout()
	hint := time.AfterFunc(a.patience, func() {
		if polls, err := polled(ctx, c, queue, enums.TASK_QUEUE_TYPE_WORKFLOW); err == nil && !polls {
			fmt.Fprintln(cmd.ErrOrStderr(), noWorker(queue))
		}
	})
	defer hint.Stop()
	var result map[string]any
	if err := run.Get(ctx, &result); ctx.Err() != nil {
		return fmt.Errorf("no longer waiting; %s goes on in Temporal", run.GetID())
	} else if err != nil {
		return fmt.Errorf("%s: %w", run.GetID(), err)
	}
	err := a.print(out, result, func(w io.Writer) {
		if s, ok := result["summary"].(string); ok {
			wrapped(w, "", s, 0)
			writePlanned(w, result)
			writeProblems(w, result)
			return
		}
		b, err := json.MarshalIndent(result, "", "  ")
		if err == nil {
			fmt.Fprintln(w, string(b))
		}
	})
	if err != nil {
		return err
	}
	if healthy, ok := result["healthy"].(bool); ok && !healthy {
		return found("the backups are not as they should be")
	}
	if simulated, ok := result["simulation"].(map[string]any); ok && simulated["ready"] == false {
		return found("it would be hindered")
	}
	if passed, ok := result["passed"].(bool); ok && !passed {
		return found("the drill failed")
	}
	good := []string{string(workflows.Recovered), string(workflows.Planned), string(workflows.VolumeRecovered), string(workflows.FalseAlarm)}
	if o, ok := result["outcome"].(string); ok && !slices.Contains(good, o) {
		return found("not recovered: %s", o)
	}
	return nil
}

// writeProblems is what BackupMonitor found, one by one.
func writeProblems(w io.Writer, result map[string]any) {
	findings, ok := result["findings"].(map[string]any)
	if !ok {
		findings = result
	}
	problems, _ := findings["problems"].([]any)
	for _, p := range problems {
		if one, ok := p.(map[string]any); ok {
			if text, ok := one["text"].(string); ok {
				wrapped(w, "- ", text, 2)
			}
		}
	}
}
