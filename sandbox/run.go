package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/battwheels/runbook/sandbox/scenario"
)

func (a *app) run() *cobra.Command {
	c := &cobra.Command{
		Use: "run SCENARIO", Short: "Play a disaster from the first alert to the last mail", Args: none,
		RunE: func(*cobra.Command, []string) error {
			return &usageError{errors.New("name a scenario; there are: corruption, deletion, pod-loss")}
		},
	}
	c.AddCommand(a.corruption(), a.deletion(), a.podLoss())
	return c
}

func (a *app) corruption() *cobra.Command {
	return a.scenario(scenario.Corruption, &cobra.Command{
		Use:   "corruption",
		Short: "Damage the database while people work, and see it brought back",
		Long: `Fill a database, let people work with the application, back it up, let them work on,
and then really damage it: drop collections, write garbage over documents, delete
others. The alert goes to the webhook, the engineer on call approves the plan, and
when the playbook has ended, every document and every index is compared with a
ledger of all acknowledged writes, by a judge that knows nothing of the product.

It exits 0 only if all of it held: the data, the application, the mails, the
report, the safety dump, and the numbers that the playbook tells.`,
		Example: `  go run ./sandbox run corruption
  go run ./sandbox run corruption --json 2>/dev/null | jq .recovered
  go run ./sandbox run corruption --sabotage   # must exit 1: the judge finds it`,
	})
}

func (a *app) deletion() *cobra.Command {
	return a.scenario(scenario.Deletion, &cobra.Command{
		Use:   "deletion",
		Short: "Delete 300 invoices of one organization by mistake, and see exactly those put back",
		Long: `Fill a database, let people work with the application, back it up, let them work on,
and then have one organization delete 300 invoices with their lines and their history
through the application; it tells its audit log of a third of them. The engineer on
call starts the playbook, narrows what it finds, and approves the plan. Nobody stops
working meanwhile.

It exits 0 only if the database then is, byte for byte, what all acknowledged writes
and those invoices make of it, the application was never away, no organization got a
mail, and the report can be read.`,
		Example: `  go run ./sandbox run deletion
  go run ./sandbox run deletion --json 2>/dev/null | jq .recovered
  go run ./sandbox run deletion --sabotage   # must exit 1: the judge finds it`,
	})
}

func (a *app) podLoss() *cobra.Command {
	return a.scenario(scenario.PodLoss, &cobra.Command{
		Use:   "pod-loss",
		Short: "Lose the database, its host and every backup on it, and see it brought back elsewhere",
		Long: `Fill a database, let people work with the application, back it up, copy the backup to a
bucket that speaks S3's protocol, let people work on, and then lose the pod: kill the
application, the worker and the database server, and delete the database's files and
every backup beside them. A worker on another host, with nothing but its configuration
and the bucket, asks the platform for the volume, fetches and proves the backup
meanwhile, and restores it into the new, empty database when the engineer on call says
that the volume is lost. A judge that knows nothing of the product compares every
document and index with a ledger of all acknowledged writes.

It exits 0 only if all of it held.`,
		Example: `  go run ./sandbox run pod-loss
  go run ./sandbox run pod-loss --json 2>/dev/null | jq .recovered
  go run ./sandbox run pod-loss --sabotage   # must exit 1: the judge finds it`,
	})
}

// scenario completes the command that plays one: its flags, its page, and its exit code.
func (a *app) scenario(play func(context.Context, scenario.Options) (scenario.Result, error), c *cobra.Command) *cobra.Command {
	var asJSON, sabotage bool
	c.Args = none
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		out, progress := cmd.OutOrStdout(), cmd.OutOrStdout()
		if asJSON {
			progress = cmd.ErrOrStderr()
		}
		p := &page{out: progress, began: time.Now()}
		o := scenario.Options{World: a.world, Sabotage: sabotage, Tell: p.event, Still: p.still, Ask: p.plan, Keep: os.TempDir()}
		r, err := play(cmd.Context(), o)
		if err != nil {
			return stoppedByHand(cmd.Context(), err)
		}
		if asJSON {
			e := json.NewEncoder(out)
			e.SetIndent("", "  ")
			if err := e.Encode(r); err != nil {
				return fmt.Errorf("print the result: %w", err)
			}
		} else {
			p.result(r)
		}
		switch failed := len(r.Failed()); {
		case !r.Recovered:
			return errors.New("not recovered")
		case failed > 0:
			return fmt.Errorf("%d of %d checks did not hold", failed, len(r.Checks))
		}
		return nil
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object; progress goes to standard error")
	c.Flags().BoolVar(&sabotage, "sabotage", false, "alter one document after the product's own verification: it must be found")
	return c
}
