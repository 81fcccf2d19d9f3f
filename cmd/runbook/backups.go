package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/catalog"
	"github.com/battwheels/runbook/internal/words"
)

func (a *app) backups() *cobra.Command {
	c := &cobra.Command{Use: "backups", Short: "List and check the backups of a target"}
	c.AddCommand(a.backupsList(), a.backupsVerify(), a.backupsAccept())
	return c
}

func (a *app) backupsList() *cobra.Command {
	return &cobra.Command{
		Use:   "list [TARGET]",
		Short: "List every backup, newest first, with what is known of it",
		Long: `List every backup, newest first: runbook's own, those of other tools, and those of which only the offsite copy is left,
half-written ones too, each with its state and the reason for it. It reads directories and the offsite storage; no server is asked.

` + exitHelp,
		Example: "  runbook backups list battwheels\n  runbook backups list --json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := a.loadLenient()
			if err != nil {
				return err
			}
			target, _, err := a.target(cfg, args)
			if err != nil {
				return err
			}
			entries, err := catalog.New(target, cfg).List(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(cmd.OutOrStdout(), entries, func(w io.Writer) {
				if len(entries) == 0 {
					fmt.Fprintf(w, "%s has no backups; make one with: runbook start Backup %s\n", target, target)
					return
				}
				for _, e := range entries {
					if e.Time.IsZero() { // a place that cannot be looked into
						fmt.Fprintf(w, "%s\n  %s\n", e.Name, e.Why)
						continue
					}
					where := ""
					if e.Offsite && e.Origin == catalog.Own {
						where = " · offsite too"
					}
					fmt.Fprintf(w, "%s\n  %s · %s · %s ago%s\n", e.ID, e.State, e.Time.UTC().Format("2006-01-02 15:04:05 UTC"), words.Brief(time.Since(e.Time)), where)
					if e.Why != "" {
						fmt.Fprintf(w, "  %s\n", e.Why)
					}
				}
			})
		},
	}
}

func (a *app) backupsVerify() *cobra.Command {
	return &cobra.Command{
		Use:   "verify [TARGET] ID",
		Short: "Check every byte of a backup",
		Long: `Check every byte of a backup: every file against its SHA-256, every document, every count. A backup of another tool is
walked whole, and what was found is kept as a manifest in runbook's own storage. A sound backup is marked as verified.

` + exitHelp,
		Example: "  runbook backups verify battwheels 20260224T020000Z-scheduled-3f9a2c",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := a.loadLenient()
			if err != nil {
				return err
			}
			target, _, err := a.target(cfg, args[:len(args)-1])
			if err != nil {
				return err
			}
			show, done := a.progress(cmd)
			e, source, err := catalog.New(target, cfg).Verify(cmd.Context(), args[len(args)-1], show)
			done()
			if err != nil {
				return found("%v", err)
			}
			return a.print(cmd.OutOrStdout(), e, func(w io.Writer) {
				t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
				fmt.Fprintf(t, "backup\t%s\nstate\t%s\ncollections\t%s\ndocuments\t%s\nsize\t%s\n", e.ID, e.State,
					words.Number(int64(len(source.Manifest.Collections))), words.Number(source.Manifest.Documents()), words.Bytes(source.Manifest.Bytes()))
				_ = t.Flush()
			})
		},
	}
}

func (a *app) backupsAccept() *cobra.Command {
	var by string
	c := &cobra.Command{
		Use:   "accept [TARGET] ID",
		Short: "Say that a suspect backup is as it should be",
		Long: `Say that a suspect backup is as it should be: that its few collections or documents, or a log that is silent about it, have
a good reason. It may then be chosen by itself again. Damage is never accepted.

` + exitHelp,
		Example: `  runbook backups accept battwheels foreign/test_database_20260224_020000 --by "Asha"`,
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := a.loadLenient()
			if err != nil {
				return err
			}
			target, _, err := a.target(cfg, args[:len(args)-1])
			if err != nil {
				return err
			}
			if err := signed(by); err != nil {
				return err
			}
			id := args[len(args)-1]
			if err := catalog.New(target, cfg).Accept(cmd.Context(), id, by); err != nil {
				return err
			}
			return a.print(cmd.OutOrStdout(), map[string]string{"backup": id, "acceptedBy": by}, func(w io.Writer) {
				fmt.Fprintf(w, "%s is accepted by %s\n", id, by)
			})
		},
	}
	c.Flags().StringVar(&by, "by", whoami(), "your name; it is kept with the backup")
	return c
}

// progress shows a long step's progress on standard error, on one line, at most ten times a second.
func (a *app) progress(cmd *cobra.Command) (show func(backup.Progress), done func()) {
	w := cmd.ErrOrStderr()
	if a.json || !isTerminal(w) {
		return func(backup.Progress) {}, func() {}
	}
	lines := make(chan backup.Progress, 1)
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		var last time.Time
		for p := range lines {
			if time.Since(last) < 100*time.Millisecond {
				continue
			}
			last = time.Now()
			fmt.Fprintf(w, "\r\033[K%.78s", fmt.Sprintf("%s: %s of %s, %s", p.Step, words.Number(int64(p.Collections)),
				words.Plural(int64(p.CollectionsTotal), "collection", "collections"), words.Plural(p.Documents, "document", "documents")))
		}
		fmt.Fprint(w, "\r\033[K")
	}()
	return func(p backup.Progress) {
			select {
			case lines <- p:
			default:
			}
		}, func() {
			close(lines)
			<-finished
		}
}
