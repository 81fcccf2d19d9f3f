package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/activities"
	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/catalog"
	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/internal/dump"
	"github.com/battwheels/runbook/internal/restore"
	"github.com/battwheels/runbook/worker"
)

func (a *app) offline() *cobra.Command {
	c := &cobra.Command{
		Use:   "offline",
		Short: "Dump, restore and verify without Temporal: the way out when Temporal itself is down",
		Long: `Dump, restore and verify without Temporal: the same engines as the playbooks, under the same lease. Nobody is asked and
nothing is stopped: stop the application yourself first.`,
	}
	c.AddCommand(a.offlineDump(), a.offlineRestore(), a.offlineVerify())
	return c
}

func (a *app) offlineDump() *cobra.Command {
	return &cobra.Command{
		Use:     "dump [TARGET]",
		Short:   "Make a backup of a target's database",
		Long:    "Make a backup of a target's database, and check every byte of it. It lies with the others, and mongorestore can read it.\n\n" + exitHelp,
		Example: "  runbook offline dump battwheels",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withDatabase(cmd, args, func(ctx context.Context, o offline) error {
				name := time.Now().UTC().Format("20060102T150405Z") + "-manual-" + fmt.Sprintf("%06x", os.Getpid())
				show, done := a.progress(cmd)
				opt := activities.DumpOptions(o.Backup, backup.Manual)
				opt.Root, opt.Name, opt.Target, opt.Progress = o.catalog.Root, name, o.target, show
				m, err := dump.Run(ctx, o.db, opt)
				done()
				if err != nil {
					return err
				}
				e, _, err := o.catalog.Verify(ctx, m.Name, nil)
				if err != nil {
					return found("%v", err)
				}
				return a.print(cmd.OutOrStdout(), e, func(w io.Writer) {
					fmt.Fprintf(w, "backup %s: %d documents in %d collections, verified\n%s\n", e.ID, m.Documents(), len(m.Collections), filepath.Join(o.catalog.Root, m.Name))
				})
			})
		},
	}
}

// restored is what offline restore prints.
type restored struct {
	Backup      string `json:"backup"`
	SafetyDump  string `json:"safetyDump,omitempty"`
	Collections int    `json:"collections"`
	Documents   int64  `json:"documents"`
	Aside       int    `json:"aside"` // collections set aside
	Incident    string `json:"incident"`
	DryRun      bool   `json:"dryRun,omitempty"`
}

func (a *app) offlineRestore() *cobra.Command {
	var id string
	var takeOver, noSafety, yes bool
	c := &cobra.Command{
		Use:   "restore [TARGET] --backup ID --yes",
		Short: "Put a target's database back to a backup: stage, prove, swap",
		Long: `Put a target's database back to a backup: it is checked, staged beside the live data and proven, a safety dump of what is
there is made, and only then the two are swapped by renaming. What was there stays in runbook.old.* and in the safety dump.
Stop the application first: a database in which something writes is refused.

Without --yes everything up to the proof is done, the staged copy is removed, and nothing live is changed.

` + exitHelp,
		Example: `  runbook offline restore battwheels --backup 20260224T020000Z-scheduled-3f9a2c --yes`,
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withDatabase(cmd, args, func(ctx context.Context, o offline) error {
				r, err := o.restore(ctx, id, offlineOptions{takeOver: takeOver, noSafety: noSafety, dryRun: !yes}, cmd.ErrOrStderr())
				if err != nil {
					return err
				}
				return a.print(cmd.OutOrStdout(), r, func(w io.Writer) {
					if r.DryRun {
						fmt.Fprintf(w, "backup %s would be restored: %d documents in %d collections, proven in a staged copy.\nNothing was changed; repeat with --yes to restore.\n",
							r.Backup, r.Documents, r.Collections)
						return
					}
					fmt.Fprintf(w, "restored %s: %d documents in %d collections, proven by digest\nsafety dump: %s\nset aside:   %d collections in runbook.old.%s.*\n",
						r.Backup, r.Documents, r.Collections, r.SafetyDump, r.Aside, r.Incident)
				})
			})
		},
	}
	c.Flags().StringVar(&id, "backup", "", `id of the backup, as "runbook backups list" shows it (default the newest proven one)`)
	c.Flags().BoolVar(&yes, "yes", false, "really swap")
	c.Flags().BoolVar(&takeOver, "take-over", false, "take the lease from a holder that is surely dead")
	c.Flags().BoolVar(&noSafety, "without-safety-dump", false, "go on without a safety dump, where there is no space for one")
	return c
}

func (a *app) offlineVerify() *cobra.Command {
	var id string
	c := &cobra.Command{
		Use:     "verify [TARGET] --backup ID",
		Short:   "Compare a target's database with a backup, every document and index",
		Long:    "Compare a target's database with a backup, every document and index.\n\n" + exitHelp,
		Example: "  runbook offline verify battwheels --backup 20260224T020000Z-scheduled-3f9a2c",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withDatabase(cmd, args, func(ctx context.Context, o offline) error {
				source, err := o.catalog.Source(ctx, id)
				if err != nil {
					return err
				}
				show, done := a.progress(cmd)
				v, err := restore.VerifyDatabase(ctx, o.db, source, show)
				done()
				if err != nil {
					return err
				}
				err = a.print(cmd.OutOrStdout(), v, func(w io.Writer) {
					for _, d := range v.Differences {
						fmt.Fprintln(w, d)
					}
					if len(v.Differences) == 0 {
						fmt.Fprintf(w, "equal: %d documents and %d indexes in %d collections\n", v.Documents, v.Indexes, v.Collections)
					}
				})
				if err == nil && len(v.Differences) > 0 {
					err = found("the database differs from the backup in %d places", len(v.Differences))
				}
				return err
			})
		},
	}
	c.Flags().StringVar(&id, "backup", "", `id of the backup, as "runbook backups list" shows it`)
	must(c.MarkFlagRequired("backup"))
	return c
}

// offline is a target without Temporal.
type offline struct {
	config.Target
	cfg     *config.Config
	target  string
	db      *mongo.Database
	catalog *catalog.Catalog
}

func (a *app) withDatabase(cmd *cobra.Command, args []string, do func(context.Context, offline) error) (err error) {
	cfg, err := a.loadLenient()
	if err != nil {
		return err
	}
	name, t, err := a.target(cfg, args)
	if err != nil {
		return err
	}
	if err := t.Database.URI.Err(); err != nil {
		return usage(err)
	}
	c, err := worker.Connect(t.Database)
	if err != nil {
		return usage(err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(cmd.Context()), 5*time.Second)
		defer cancel()
		err = errors.Join(err, c.Disconnect(closing))
	}()
	return do(cmd.Context(), offline{Target: t, cfg: cfg, target: name, db: c.Database(t.Database.Name), catalog: catalog.New(name, cfg)})
}

type offlineOptions struct{ takeOver, noSafety, dryRun bool }

// restore is the playbook's restore without its questions.
func (o offline) restore(ctx context.Context, id string, opt offlineOptions, log io.Writer) (r restored, err error) {
	say := func(format string, args ...any) { fmt.Fprintf(log, format+"\n", args...) }
	if id == "" {
		entries, err := o.catalog.List(ctx)
		if err != nil {
			return r, err
		}
		choice, err := o.catalog.Choose(entries, time.Time{}, "")
		if err != nil {
			return r, err
		}
		id = choice.Entry.ID
	}
	say("checking every byte of %s", id)
	e, source, err := o.catalog.Verify(ctx, id, nil)
	if err != nil {
		return r, found("%v", err)
	}
	host, err := os.Hostname()
	if err != nil {
		return r, err
	}
	now := time.Now().UTC()
	r = restored{Backup: e.ID, Incident: now.Format("20060102T150405Z") + "-offline", DryRun: opt.dryRun}
	me := fmt.Sprintf("%s:%d", host, os.Getpid())
	lease, err := restore.Acquire(ctx, o.db, restore.Holder{Owner: "offline " + me, Run: r.Incident, Purpose: "offline restore of " + e.ID}, opt.takeOver)
	if err != nil {
		return r, err
	}
	defer func() {
		err = errors.Join(err, lease.Release(context.WithoutCancel(ctx)))
	}()
	incidents := filepath.Join(o.cfg.Storage.Dir, "incidents", o.target)
	if err := o.undoHalfSwaps(ctx, lease, incidents, opt, say); err != nil {
		return r, err
	}
	dir := filepath.Join(incidents, r.Incident, fmt.Sprintf("staging-%d", lease.Token))
	stage := restore.StageOptions{DB: o.db, Source: source, Lease: lease, Dir: dir, Parallel: o.Backup.Parallel}
	say("staging it beside the live data")
	staged, err := restore.Stage(ctx, stage)
	if err != nil {
		return r, err
	}
	say("proving the staged copy")
	if _, err := restore.Prove(ctx, stage); err != nil {
		return r, err
	}
	r.Documents, r.Collections = staged.Documents, len(staged.Collections)
	if opt.dryRun {
		_, err := restore.Unstage(ctx, o.db, lease.Token)
		return r, err
	}
	say("seeing that nobody writes")
	if err := o.quiet(ctx); err != nil {
		return r, err
	}
	if !opt.noSafety {
		say("dumping what is there now")
		safety := activities.DumpOptions(o.Backup, backup.Safety)
		safety.Root, safety.Name = o.catalog.Root, now.Format("20060102T150405Z")+"-safety-"+fmt.Sprintf("%06x", os.Getpid())
		safety.Target, safety.Salvage = o.target, true
		m, err := dump.Run(ctx, o.db, safety)
		if err != nil {
			return r, err
		}
		r.SafetyDump = m.Name
	}
	say("swapping")
	swapped, err := restore.Swap(ctx, restore.SwapOptions{DB: o.db, Lease: lease, Incident: r.Incident, Dir: dir})
	if err != nil {
		return r, err
	}
	r.Aside = swapped.Aside
	say("verifying in place")
	v, err := restore.VerifyInPlace(ctx, stage)
	if err != nil {
		return r, err
	}
	if len(v.Differences) > 0 {
		return r, found("the restored database differs from the backup: %v", v.Differences)
	}
	return r, nil
}

// undoHalfSwaps sees that no swap is left half-way, a playbook's or one of our own that was killed. To swap on top of one would
// keep the wrong data: what was live before it lies in runbook.old.*, where no dump looks.
func (o offline) undoHalfSwaps(ctx context.Context, lease restore.Lease, incidents string, opt offlineOptions, say func(string, ...any)) error {
	halves, err := restore.HalfSwaps(incidents)
	if err != nil || len(halves) == 0 {
		return err
	}
	if opt.dryRun {
		return found("the swap of incident %s was cut off half-way: with --yes it is rolled back first", halves[0].Incident)
	}
	say("seeing that nobody writes, to undo a swap that was cut off half-way")
	if err := o.quiet(ctx); err != nil {
		return err
	}
	undone, err := restore.UndoHalfSwaps(ctx, o.db, lease, incidents)
	for _, of := range undone {
		say("rolled back the swap of incident %s", of)
	}
	return err
}

func (o offline) quiet(ctx context.Context) error {
	_, err := restore.Quiet(ctx, o.db, restore.QuietOptions{For: time.Duration(o.Policy.QuietFor), Self: []string{activities.AppName}, Ignore: o.Policy.IgnoreClients})
	return err
}
