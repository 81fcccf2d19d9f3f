package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/battwheels/runbook/internal/restore"
	"github.com/battwheels/runbook/internal/words"
)

// rolledBack is what offline roll-back prints.
type rolledBack struct {
	Incident string    `json:"incident"`
	Database string    `json:"database"`
	Backup   string    `json:"backup"` // that the swap had put in place
	At       time.Time `json:"at"`     // of the swap
	Returned int       `json:"returned"`
	Kept     int       `json:"kept"` // collections that the swap had placed, kept under runbook.old.INCIDENT
	DryRun   bool      `json:"dryRun,omitempty"`
}

func (r rolledBack) tell(w io.Writer) {
	if r.DryRun {
		fmt.Fprintf(w, `The swap of incident %s, made at %s
from backup %s,
can be rolled back: %s would return, and the %s that stand
there now would be kept as runbook.old.%s.placed.*
Nothing was changed; stop the application and repeat with --yes.
`, r.Incident, r.At.Format(time.DateTime+" UTC"), r.Backup, words.Plural(int64(r.Returned), "collection", "collections"), words.Number(int64(r.Kept)), r.Incident)
		return
	}
	fmt.Fprintf(w, "rolled back the swap of incident %s;\nback as before it: %s\n", r.Incident, words.Plural(int64(r.Returned), "collection", "collections"))
	fmt.Fprintf(w, "placed by it: %s, kept in runbook.old.%s.placed.*\n", words.Plural(int64(r.Kept), "collection", "collections"), r.Incident)
}

func (a *app) offlineRollBack() *cobra.Command {
	var incident string
	var yes, takeOver bool
	c := &cobra.Command{
		Use:   "roll-back [TARGET] --yes",
		Short: "Undo the swap of a restore: what was there before returns to its names",
		Long: `Undo the swap of a restore, a playbook's or an offline one, finished or cut off: the collections that it has set aside return to
their names. What the swap had placed, and all that was written to it since, is kept in runbook.old.INCIDENT.placed.*.
Stop the application first: a database in which something writes is refused.

Only the latest swap can be rolled back, and only as long as what it has set aside was not dropped (policy.keepOld). It must be
done where the restore ran: the journal of what was renamed lies in that host's storage.

` + exitHelp,
		Example: `  runbook offline roll-back battwheels
  runbook offline roll-back battwheels --incident 20260224T031200Z-3f9a2c --yes`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withDatabase(cmd, args, func(ctx context.Context, o offline) error {
				done, err := o.rollBack(ctx, incident, yes, takeOver, cmd.ErrOrStderr())
				if err != nil {
					return err
				}
				return a.print(cmd.OutOrStdout(), done, done.tell)
			})
		},
	}
	c.Flags().StringVar(&incident, "incident", "", "whose swap (default that of the latest restore)")
	c.Flags().BoolVar(&yes, "yes", false, "really do it")
	c.Flags().BoolVar(&takeOver, "take-over", false, "take the lease from a holder that is surely dead")
	return c
}

// rollBack undoes the latest swap that stands.
func (o offline) rollBack(ctx context.Context, incident string, yes, takeOver bool, log io.Writer) (r rolledBack, err error) {
	say := func(format string, args ...any) { fmt.Fprintf(log, format+"\n", args...) }
	swaps, err := restore.StandingSwaps(filepath.Join(o.cfg.Storage.Dir, "incidents", o.target))
	if err != nil {
		return r, err
	}
	swaps = slices.DeleteFunc(swaps, func(s restore.Standing) bool { return s.Database != o.db.Name() })
	if len(swaps) == 0 {
		return r, found("no restore of target %s on this host has a swap that stands", o.target)
	}
	s := swaps[0]
	if incident != "" && s.Incident != incident {
		if !slices.ContainsFunc(swaps, func(s restore.Standing) bool { return s.Incident == incident }) {
			return r, usage(fmt.Errorf("incident %s has no swap that stands; the latest is of incident %s", incident, s.Incident))
		}
		return r, found("incident %s has swapped since: roll that one back first", s.Incident)
	}
	r = rolledBack{Incident: s.Incident, Database: o.db.Name(), Backup: s.Backup, At: s.BeganAt.UTC(), Returned: s.Aside, Kept: s.Placed, DryRun: !yes}
	if err := o.canRollBack(ctx, s); err != nil || !yes {
		return r, err
	}
	host, err := os.Hostname()
	if err != nil {
		return r, err
	}
	holder := restore.Holder{Owner: fmt.Sprintf("offline %s:%d", host, os.Getpid()), Run: stamped("roll-back"), Purpose: "offline roll-back of " + s.Incident}
	lease, err := restore.Acquire(ctx, o.db, holder, takeOver)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, lease.Release(context.WithoutCancel(ctx))) }()
	if err := o.quiet(ctx, say); err != nil {
		return r, err
	}
	// Until the lease was taken, somebody else may have moved them.
	if err := o.canRollBack(ctx, s); err != nil {
		return r, err
	}
	say("renaming back")
	undone, err := restore.RollBack(ctx, restore.SwapOptions{DB: o.db, Lease: lease, Incident: s.Incident, Dir: s.Dir})
	r.Returned, r.Kept = undone.Aside, undone.Placed
	return r, err
}

func (o offline) canRollBack(ctx context.Context, s restore.Standing) error {
	err := restore.CanRollBack(ctx, o.db, s)
	if blocked, ok := errors.AsType[*restore.BlockedError](err); ok {
		return found("%s", blocked.Why)
	}
	return err
}
