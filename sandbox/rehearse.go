package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/battwheels/runbook/internal/words"
	"github.com/battwheels/runbook/sandbox/rehearsal"
	"github.com/battwheels/runbook/sandbox/scenario"
)

func (a *app) rehearse() *cobra.Command {
	var o rehearsal.Options
	var asJSON bool
	c := &cobra.Command{
		Use:   "rehearse --backup DIR",
		Short: "Recover your own backup, where nothing can be harmed",
		Long: `Copy a mongodump directory of yours (or one of runbook's backups), fill a scratch
database with it, damage that, and have the corruption playbook bring it back. It
tells how long that took, what is suspicious in the backup, and what to mend.

The original is only read. The scratch database lies in the sandbox's own FerretDB,
or on a server given by --mongodb, where nothing else is touched; it is dropped at
the end. FerretDB v1 does not hold everything that MongoDB does: what it cannot
is left out, and named.

Exit codes: 0 recovered; 1 not; 2 wrong command line.`,
		Example: `  go run ./sandbox rehearse --backup /var/backups/mongodb/shop_20260224_020000
  go run ./sandbox rehearse --backup DIR --mongodb mongodb://127.0.0.1:27018`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Backup == "" {
				return &usageError{errors.New("name the backup by --backup DIR")}
			}
			if o.MongoURI != "" && !strings.HasPrefix(o.MongoURI, "mongodb://") && !strings.HasPrefix(o.MongoURI, "mongodb+srv://") {
				return &usageError{errors.New("--mongodb is no MongoDB address; expected one that begins with mongodb:// or mongodb+srv://")}
			}
			p := &page{out: cmd.OutOrStdout(), began: time.Now()}
			if asJSON {
				p.out = cmd.ErrOrStderr()
			}
			o.Tell = func(text string) { p.event(scenario.Event{At: time.Now(), Who: "rehearsal", Text: text}) }
			r, err := rehearsal.Run(cmd.Context(), o)
			if bad, ok := errors.AsType[*rehearsal.UsageError](err); ok {
				return &usageError{bad}
			}
			if err != nil {
				return stoppedByHand(cmd.Context(), err)
			}
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				if err := e.Encode(r); err != nil {
					return fmt.Errorf("print the result: %w", err)
				}
			} else {
				p.rehearsed(r)
			}
			if !r.Recovered {
				return errors.New("not recovered")
			}
			return nil
		},
	}
	c.Flags().StringVar(&o.Backup, "backup", "", "directory that mongodump made, or one of runbook's backups")
	c.Flags().StringVar(&o.MongoURI, "mongodb", "", "address of a scratch server (default a FerretDB of its own)")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object; progress goes to standard error")
	return c
}

// rehearsed prints what came of a rehearsal.
func (p *page) rehearsed(r rehearsal.Result) {
	fmt.Fprintln(p.out)
	if r.Recovered {
		text := "RECOVERED: this backup brings the database back, proven document by document."
		if len(r.LeftOut) > 0 {
			text += " What is named below was not rehearsed."
		}
		p.paragraph("", "", text)
	} else {
		p.paragraph("", "", "NOT RECOVERED: this backup did not bring the database back.")
	}
	fmt.Fprintln(p.out)
	row := func(name, format string, args ...any) {
		head := fmt.Sprintf("  %-10s ", name)
		p.paragraph(head, strings.Repeat(" ", len(head)), fmt.Sprintf(format, args...))
	}
	row("Backup", "%s, database %s", r.Backup, r.Database)
	if r.Damage != "" {
		row("Server", "%s", r.Server)
	}
	if r.Found != "" {
		row("Found", "%s", r.Found)
	}
	if r.Damage != "" {
		row("Damage", "%s", r.Damage)
	}
	if r.Recovered {
		row("Your RTO", "%.1f s  from the alarm until everything was back", r.RTOSeconds)
		row("Downtime", "%.1f s  of it, in which your application would stand still", r.DowntimeSeconds)
		row("Proven", "%s documents and %d indexes in %d collections", words.Number(r.Documents), r.Indexes, r.Collections)
	}
	for _, list := range []struct {
		title string
		items []string
	}{{"Suspicious in the backup:", r.Suspicious}, {"Not rehearsed, because FerretDB v1 does not hold it (--mongodb does):", r.LeftOut}, {"To mend:", r.Mend}} {
		if len(list.items) == 0 {
			continue
		}
		fmt.Fprintln(p.out)
		p.paragraph("  ", "  ", list.title)
		for _, item := range list.items {
			p.paragraph("  - ", "    ", item)
		}
	}
	fmt.Fprintln(p.out)
}
