package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/spf13/cobra"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/battwheels/runbook/worker"
	"github.com/battwheels/runbook/workflows"
)

// verb is a command that knocks at a door of a running playbook.
type verb struct {
	door, short, long, example string
	flags                      []string // of plan, backup, choice; in the order in which they are asked for
}

var doors = []verb{
	{workflows.DoorApprove, "Approve the plan that waits", "Approve the plan that waits. The code binds the approval to the plan that you have read: for another plan it is denied, and that is recorded.",
		`  runbook approve battwheels --plan K7Q-X2M --by "Asha" --reason "checked with support"`, []string{"plan"}},
	{workflows.DoorReject, "Reject the plan that waits; nothing is changed", "Reject the plan that waits. Staging is removed, the application keeps running, and nothing is changed.",
		`  runbook reject battwheels --by "Asha" --reason "false alarm"`, nil},
	{workflows.DoorChooseBackup, "Restore from another backup than the plan says", "Restore from another backup than the plan says. It is staged and proven, and a new plan with a new code follows.",
		`  runbook choose-backup battwheels --backup 20260223T020000Z-scheduled-3f9a2c --by "Asha" --reason "corrupt since Monday"`, []string{"backup"}},
	{workflows.DoorDecide, "Answer the question that a playbook asks", "Answer the question that a playbook asks when a step has failed for good. \"runbook status\" shows the question and its choices.",
		`  runbook decide battwheels --choice retry --by "Asha" --reason "disk freed"`, []string{"choice"}},
	{workflows.DoorAbort, "Stop a restore and undo what can be undone", "Stop a restore. Before the swap everything is undone; after it, you are asked whether to carry on or to roll back.",
		`  runbook abort battwheels --by "Asha" --reason "false alarm"`, nil},
}

func (a *app) door(v verb) *cobra.Command {
	var ans workflows.Answer
	values := map[string]*string{"plan": &ans.Plan, "backup": &ans.Backup, "choice": (*string)(&ans.Choice)}
	help := map[string]string{
		"plan": "code of the plan that you have read", "backup": `id of a backup, as "runbook backups list" shows it`,
		"choice": "one of the choices that the question offers",
	}
	c := &cobra.Command{
		Use: v.door + " [TARGET]", Short: v.short, Long: v.long + "\n\n" + exitHelp, Example: v.example, Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := a.loadLenient()
			if err != nil {
				return err
			}
			target, _, err := a.target(cfg, args)
			if err != nil {
				return err
			}
			if err := signed(ans.By); err != nil {
				return err
			}
			return a.withTemporal(cmd, func(ctx context.Context, c client.Client) error {
				return a.knockAt(ctx, cmd.OutOrStdout(), c, target, v.door, ans)
			})
		},
	}
	for _, name := range v.flags {
		c.Flags().StringVar(values[name], name, "", help[name])
		must(c.MarkFlagRequired(name))
	}
	if v.door == workflows.DoorDecide {
		c.Flags().StringVar(&ans.Backup, "backup", "", "with --choice other-backup: the id of the backup to take")
	}
	c.Flags().StringVar(&ans.By, "by", whoami(), "your name; it stands in the report")
	c.Flags().StringVar(&ans.Reason, "reason", "", "why; it stands in the report")
	must(c.MarkFlagRequired("reason"))
	return c
}

// narrow is a door, too; what it sends is more than a word.
func (a *app) narrow() *cobra.Command {
	var ans workflows.Answer
	c := &cobra.Command{
		Use:   workflows.DoorNarrow + " [TARGET]",
		Short: "Narrow what AccidentalDeletion or MergeBack is to put back",
		Long: `Narrow what AccidentalDeletion or MergeBack is to put back. All that is given must be met, and each narrowing replaces the one before
it. A new plan with a new code follows. "runbook status" shows what was found.

` + exitHelp,
		Example: `  runbook narrow battwheels --collection invoices --organization org_1f2e --reason "deleted by mistake on Tuesday"
  runbook narrow battwheels --id inv_04ab,inv_04ac --by "Asha" --reason "the two that the customer named"`,
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
			if err := signed(ans.By); err != nil {
				return err
			}
			return a.withTemporal(cmd, func(ctx context.Context, c client.Client) error {
				return a.knockAt(ctx, cmd.OutOrStdout(), c, target, workflows.DoorNarrow, ans)
			})
		},
	}
	f := c.Flags()
	f.StringSliceVar(&ans.Collections, "collection", nil, "only from these collections; their dependants come along")
	f.StringVar(&ans.Organization, "organization", "", "only this organization's documents, by its id")
	f.StringVar((*string)(&ans.From), "from", "", "deleted at this moment or later, like 2026-02-24T09:00:00Z")
	f.StringVar((*string)(&ans.To), "to", "", "deleted at this moment or before")
	f.StringSliceVar(&ans.IDs, "id", nil, "only these documents, by the application's id or by _id")
	f.StringSliceVar(&ans.DeletedBy, "deleted-by", nil, "only what these users deleted, by their ids: needs an audit entry")
	f.BoolVar(&ans.Alone, "alone", false, "without the documents that depend on the chosen ones")
	f.BoolVar(&ans.Earlier, "earlier", false, "with dependants that vanished earlier, too")
	f.StringVar(&ans.By, "by", whoami(), "your name; it stands in the report")
	f.StringVar(&ans.Reason, "reason", "", "why; it stands in the report")
	must(c.MarkFlagRequired("reason"))
	return c
}

// volumeDoors are the words on a lost volume: what "runbook volume" takes.
var volumeDoors = []verb{
	{workflows.DoorVolumeRecovered, "The volume is back: compare it with the last backup", "Say that the lost volume is back. What is in it is compared with the last backup, and what differs is told; nothing is restored.",
		`  runbook volume recovered battwheels --by "Asha" --reason "support has attached it again"`, nil},
	{workflows.DoorVolumeLost, "The volume will not come back: restore the backup", "Say that the volume will not come back. The newest proven backup is restored, after its plan was approved.",
		`  runbook volume lost battwheels --by "Asha" --reason "support cannot recover it"`, nil},
}

func (a *app) volume() *cobra.Command {
	c := &cobra.Command{
		Use: "volume", Short: "Say what became of a lost volume: recovered, or lost",
		Long:    "Say what became of the volume that PodLoss asks for. \"runbook status\" shows the question.\n\n" + exitHelp,
		Example: volumeDoors[0].example + "\n" + volumeDoors[1].example,
	}
	for _, v := range volumeDoors {
		one := a.door(v)
		one.Use = strings.TrimPrefix(one.Use, "volume-")
		c.AddCommand(one)
	}
	return c
}

func (a *app) postReport() *cobra.Command {
	var p workflows.Posting
	c := &cobra.Command{
		Use:     "post-report INCIDENT",
		Short:   "Say where an incident's report has been posted, and close it",
		Long:    "Say where an incident's report has been posted, and close it. \"runbook status\" names the reports that are open.\n\n" + exitHelp,
		Example: `  runbook post-report 20260224T031200Z-3f9a2c --url https://status.example.com/incidents/7 --by "Asha"`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := signed(p.By); err != nil {
				return err
			}
			return a.withTemporal(cmd, func(ctx context.Context, c client.Client) error {
				return a.knock(ctx, cmd.OutOrStdout(), c, workflows.ReportID(args[0]), workflows.DoorPostReport, p)
			})
		},
	}
	c.Flags().StringVar(&p.URL, "url", "", "where the report can be read")
	c.Flags().StringVar(&p.By, "by", whoami(), "your name; it stands in the report")
	must(c.MarkFlagRequired("url"))
	return c
}

// knockAt sends an answer to a target's incident, or, where that has no restore to hear it, to the one that runs beside it.
func (a *app) knockAt(ctx context.Context, out io.Writer, c client.Client, target, door string, ans workflows.Answer) error {
	incident, restore := workflows.IncidentID(target), workflows.RestoreID(target)
	id, err := running(ctx, c, incident, restore)
	if err != nil {
		return err
	}
	err = a.knock(ctx, out, c, id, door, ans)
	if denied, ok := errors.AsType[*temporal.ApplicationError](err); !ok || denied.Type() != workflows.NoRestore || id != incident {
		return err
	}
	if _, runs := running(ctx, c, restore); runs != nil {
		return err
	}
	return a.knock(ctx, out, c, restore, door, ans)
}

// answerWithin is how long a verb waits for the playbook: a worker must be up to hear it.
const answerWithin = 30 * time.Second

func (a *app) knock(ctx context.Context, out io.Writer, c client.Client, id, door string, arg any) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	h, err := c.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: id, UpdateName: door, Args: []any{arg}, WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	return a.answer(ctx, out, id, h, err)
}

// answer waits for a playbook's answer to what was sent to a door, and prints it.
func (a *app) answer(ctx context.Context, out io.Writer, id string, h client.WorkflowUpdateHandle, err error) error {
	var reply string
	if err == nil {
		err = h.Get(ctx, &reply)
	}
	if app, ok := errors.AsType[*temporal.ApplicationError](err); ok {
		return &deniedError{id, app}
	}
	if _, ok := errors.AsType[*serviceerror.NotFound](err); ok {
		return fmt.Errorf("%s does not run", id)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s did not answer within %s: is a worker running?", id, answerWithin)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", id, err)
	}
	return a.print(out, map[string]string{"workflowId": id, "answer": reply}, func(w io.Writer) { fmt.Fprintf(w, "%s: %s\n", id, reply) })
}

// deniedError is a playbook's refusal, in its own words.
type deniedError struct {
	id  string
	app *temporal.ApplicationError
}

func (e *deniedError) Error() string { return e.id + ": " + e.app.Message() }
func (e *deniedError) Unwrap() error { return e.app }

// running returns the first of the ids under which a workflow runs.
func running(ctx context.Context, c client.Client, ids ...string) (string, error) {
	for _, id := range ids {
		d, err := c.DescribeWorkflowExecution(ctx, id, "")
		if _, ok := errors.AsType[*serviceerror.NotFound](err); ok {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("describe %s: %w", id, err)
		}
		if d.GetWorkflowExecutionInfo().GetStatus() == enums.WORKFLOW_EXECUTION_STATUS_RUNNING {
			return id, nil
		}
	}
	return "", fmt.Errorf("nothing runs as %s", strings.Join(ids, " or "))
}

func (a *app) withTemporal(cmd *cobra.Command, do func(context.Context, client.Client) error) error {
	c, err := worker.Dial(cmd.Context(), a.quietLogger(cmd.ErrOrStderr()))
	if err != nil {
		return err
	}
	defer c.Close()
	return do(cmd.Context(), c)
}

// signed refuses a decision that nobody gives a name to. It is asked before anything is tried.
func signed(by string) error {
	if strings.TrimSpace(by) == "" {
		return usage(errors.New("--by is missing: your name, which is kept with what you decide"))
	}
	return nil
}

// whoami is --by where none is given: empty for root, which is no person's name.
func whoami() string {
	if u, err := user.Current(); err == nil {
		if u.Name != "" && u.Username != "root" {
			return u.Name
		}
		if sudo := os.Getenv("SUDO_USER"); sudo != "" {
			return sudo
		}
	}
	return ""
}

// must is for what is wrong only if this program is.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
