package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/battwheels/runbook/internal/mail"
	"github.com/battwheels/runbook/workflows"
)

func (a *app) notify() *cobra.Command {
	var n workflows.Notify
	var ans workflows.Answer
	var file string
	var discard bool
	c := &cobra.Command{
		Use:   "notify TARGET|INCIDENT",
		Short: "Correct what the organizations were told, or give the all-clear",
		Long: `Write to every organization that was told of an incident, once more: a correction, an update, the all-clear. It takes
two steps. The first writes the mails down, and answers with their number, where a preview lies, and a code; nothing is sent.
The second repeats the code with --approve, and they go out, once each, in the thread of the first mail.

It goes through the incident's open report, which is named by its incident, or by a target that has only one. Where the report
is posted already, a workflow FollowUp is started for it, which must be named by its incident.

` + exitHelp,
		Example: `  runbook notify battwheels --kind correction --text correction.txt --by "Asha" --reason "the window was too short"
  echo "All records that you asked for are back." | runbook notify 20260224T031200Z-3f9a2c --kind all-clear --text - --by "Asha" --reason "done"
  runbook notify battwheels --approve K7Q-X2M --by "Asha" --reason "read the preview"
  runbook notify battwheels --discard --by "Asha" --reason "a typo"`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			door := workflows.DoorNotify
			var arg any
			switch ans.By, ans.Reason = n.By, n.Reason; {
			case discard:
				door, arg = workflows.DoorReject, ans
			case ans.Plan != "":
				door, arg = workflows.DoorApprove, ans
			default:
				var err error
				if n.Text, err = readText(cmd.InOrStdin(), file); err != nil {
					return usage(err)
				}
				if _, err := mail.NewFollowUp(mail.FollowUpKind(n.Kind), n.Headline, n.Text); err != nil {
					return usage(err)
				}
				arg = n
			}
			if err := signed(n.By); err != nil {
				return err
			}
			return a.withTemporal(cmd, func(ctx context.Context, c client.Client) error {
				incident, err := a.reportOf(ctx, c, args[0])
				if err != nil {
					return err
				}
				id, err := running(ctx, c, workflows.ReportID(incident), workflows.FollowUpID(incident))
				if err != nil && door == workflows.DoorNotify {
					return a.followUp(ctx, cmd.OutOrStdout(), c, incident, arg)
				}
				if err != nil {
					return err
				}
				return a.knock(ctx, cmd.OutOrStdout(), c, id, door, arg)
			})
		},
	}
	f := c.Flags()
	f.StringVar(&n.Kind, "kind", "", "correction, update or all-clear")
	f.StringVar(&n.Headline, "headline", "", "the mail's subject (default the kind's own)")
	f.StringVar(&file, "text", "", "file with the words, as plain text; an empty line parts paragraphs; - reads standard input")
	f.StringVar(&ans.Plan, "approve", "", "send the mails that wait under this code")
	f.BoolVar(&discard, "discard", false, "drop the mails that wait")
	f.StringVar(&n.By, "by", whoami(), "your name; it stands in the report, not in the mail")
	f.StringVar(&n.Reason, "reason", "", "why; it stands in the report, not in the mail")
	must(c.MarkFlagRequired("reason"))
	c.MarkFlagsMutuallyExclusive("kind", "approve", "discard")
	c.MarkFlagsOneRequired("kind", "approve", "discard")
	c.MarkFlagsRequiredTogether("kind", "text")
	return c
}

// followUp writes to the organizations of an incident whose report is posted: by a workflow of its own.
func (a *app) followUp(ctx context.Context, out io.Writer, c client.Client, incident string, words any) error {
	cfg, err := a.loadLenient()
	if err != nil {
		return err
	}
	in := workflows.FollowUpInput{Incident: incident}
	// A report that has ended still answers, for as long as the namespace keeps it; without it, the only target is meant.
	var s workflows.Status
	if v, err := c.QueryWorkflow(ctx, workflows.ReportID(incident), "", workflows.QueryStatus); err == nil && v.Get(&s) == nil {
		in.Target = s.Target
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	id := workflows.FollowUpID(incident)
	h, err := c.UpdateWithStartWorkflow(ctx, client.UpdateWithStartWorkflowOptions{
		StartWorkflowOperation: c.NewWithStartWorkflowOperation(client.StartWorkflowOptions{
			ID: id, TaskQueue: cfg.Temporal.TaskQueue, WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		}, "FollowUp", in),
		UpdateOptions: client.UpdateWorkflowOptions{
			WorkflowID: id, UpdateName: workflows.DoorNotify, Args: []any{words}, WaitForStage: client.WorkflowUpdateStageCompleted,
		},
	})
	return a.answer(ctx, out, id, h, err)
}

func readText(in io.Reader, file string) (string, error) {
	var b []byte
	var err error
	if file == "-" {
		b, err = io.ReadAll(io.LimitReader(in, 1<<20))
	} else {
		b, err = os.ReadFile(file)
	}
	if err != nil {
		return "", fmt.Errorf("read the text of the mail: %w", err)
	}
	return string(b), nil
}

// reportOf returns the incident of an open report: the one that is named, or the only one of a target.
func (a *app) reportOf(ctx context.Context, c client.Client, name string) (string, error) {
	cfg, err := a.loadLenient()
	if err != nil {
		return "", err
	}
	if _, target := cfg.Targets[name]; !target {
		return name, nil // knocking says where there is no such report
	}
	open, err := openReports(ctx, c)
	if err != nil {
		return "", err
	}
	var own []string
	for _, incident := range open {
		v, err := c.QueryWorkflow(ctx, workflows.ReportID(incident), "", workflows.QueryStatus)
		if err != nil {
			return "", fmt.Errorf("ask %s (is a worker running?): %w", workflows.ReportID(incident), err)
		}
		var s workflows.Status
		if err := v.Get(&s); err != nil {
			return "", fmt.Errorf("answer of %s: %w", workflows.ReportID(incident), err)
		}
		if s.Target == name {
			own = append(own, incident)
		}
	}
	switch len(own) {
	case 0:
		return "", errors.New("no report of " + name + " is open: name the incident whose organizations are to be written to")
	case 1:
		return own[0], nil
	}
	return "", usage(fmt.Errorf("%s has several open reports: name the incident, one of %s", name, strings.Join(own, ", ")))
}
