package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/activities"
	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/catalog"
	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/internal/dump"
	"github.com/battwheels/runbook/internal/restore"
	"github.com/battwheels/runbook/internal/words"
	"github.com/battwheels/runbook/worker"
)

func (a *app) offline() *cobra.Command {
	c := &cobra.Command{
		Use:   "offline",
		Short: "Dump, restore, roll back and verify without Temporal: the way out when Temporal itself is down",
		Long: `Dump, restore, roll back and verify without Temporal: the same engines as the playbooks, under the same lease. Nobody is asked and
nothing is stopped: stop the application yourself first.`,
	}
	c.AddCommand(a.offlineDump(), a.offlineRestore(), a.offlineRollBack(), a.offlineVerify())
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
				name := stamped("manual")
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
					wrapped(w, "backup "+e.ID+": ", documentsIn(m.Documents(), len(m.Collections))+", verified", 2)
					fmt.Fprintln(w, filepath.Join(o.catalog.Root, m.Name))
				})
			})
		},
	}
}

func (a *app) offlineVerify() *cobra.Command {
	var id, level string
	c := &cobra.Command{
		Use:   "verify [TARGET] --backup ID",
		Short: "Compare a target's database with a backup, every document and index",
		Long: `Compare a target's database with a backup, every document and index. --level says how closely:

  counts     as many documents in each collection; none is read
  digests    the same documents in each collection; all are read once
  documents  and where not, which ones: they are named by their _ids

` + exitHelp,
		Example: `  runbook offline verify battwheels --backup 20260224T020000Z-scheduled-3f9a2c
  runbook offline verify battwheels --backup 20260224T020000Z-scheduled-3f9a2c --level counts`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withDatabase(cmd, args, func(ctx context.Context, o offline) error {
				switch restore.Level(level) {
				case restore.LevelCounts, restore.LevelDigests, restore.LevelDocuments:
				default:
					return usage(fmt.Errorf("--level %q: want %s, %s or %s", level, restore.LevelCounts, restore.LevelDigests, restore.LevelDocuments))
				}
				source, err := o.catalog.Source(ctx, id)
				if err != nil {
					return err
				}
				show, done := a.progress(cmd)
				v, err := restore.VerifyWith(ctx, o.db, source, restore.VerifyOptions{
					Level: restore.Level(level), Dir: filepath.Join(o.cfg.Storage.Dir, "tmp"), Parallel: o.Backup.Parallel, Progress: show,
				})
				done()
				if err != nil {
					return err
				}
				err = a.print(cmd.OutOrStdout(), v, func(w io.Writer) {
					for _, d := range v.Differences {
						fmt.Fprintln(w, d)
						for _, named := range []struct {
							what string
							n    int64
							ids  []string
						}{{"missing", d.Missing, d.MissingIDs}, {"changed", d.Changed, d.ChangedIDs}, {"too many", d.Extra, d.ExtraIDs}} {
							for _, id := range named.ids {
								fmt.Fprintf(w, "  %s: %s\n", named.what, id)
							}
							if more := named.n - int64(len(named.ids)); more > 0 {
								fmt.Fprintf(w, "  %s: %s more\n", named.what, words.Number(more))
							}
						}
					}
					if len(v.Differences) == 0 && restore.Level(level) == restore.LevelCounts {
						fmt.Fprintf(w, "equal counts: %s, and their indexes\n", documentsIn(v.Documents, v.Collections))
					} else if len(v.Differences) == 0 {
						fmt.Fprintf(w, "equal: %s, and %s\n", documentsIn(v.Documents, v.Collections), words.Plural(int64(v.Indexes), "index", "indexes"))
					}
				})
				if err == nil && len(v.Differences) > 0 {
					err = found("the database differs from the backup in %s", words.Plural(int64(len(v.Differences)), "place", "places"))
				}
				return err
			})
		},
	}
	c.Flags().StringVar(&id, "backup", "", `id of the backup, as "runbook backups list" shows it`)
	c.Flags().StringVar(&level, "level", string(restore.LevelDocuments), "how closely: counts, digests or documents")
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
	target := ""
	if len(args) > 0 {
		target = args[0]
	}
	cfg, err := config.LoadOffline(a.configPath, target)
	if err != nil {
		return usage(err)
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

// stamped names what an offline command makes: its moment, its kind and a suffix, because two commands fit in one second
// and in a container every one of them is process 1.
func stamped(kind string) string {
	return fmt.Sprintf("%s-%s-%s", time.Now().UTC().Format("20060102T150405Z"), kind, strings.ToLower(rand.Text()[:6]))
}

// documentsIn is how much there is, for people: 48,210 documents in 221 collections.
func documentsIn(documents int64, collections int) string {
	return words.Plural(documents, "document", "documents") + " in " + words.Plural(int64(collections), "collection", "collections")
}
