package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"html"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/internal/mail"
	"github.com/battwheels/runbook/internal/restore"
	"github.com/battwheels/runbook/internal/words"
	"github.com/battwheels/runbook/worker"
)

// looked is one thing that check looked at.
type looked struct {
	What string `json:"what"`
	OK   bool   `json:"ok"`
	Seen string `json:"seen"`
}

func (a *app) check() *cobra.Command {
	var testMail bool
	c := &cobra.Command{
		Use:   "check",
		Short: "Is the configuration whole, do the databases answer, and does mail arrive?",
		Long: `Read the configuration as the worker does, every secret included, and look at what it names: that each target's database answers,
and that its user may do what a restore needs. With --mail a test mail goes to the people on call of each target: the first mail of an
incident is too late to learn that the key is wrong. Nothing else is changed or sent.

` + exitHelp,
		Example: `  runbook check
  runbook check --mail`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load()
			if err != nil {
				return err
			}
			all := []looked{{"configuration", true, fmt.Sprintf("%s is whole: %s", a.configPath, strings.Join(slices.Sorted(maps.Keys(cfg.Targets)), ", "))}}
			for _, name := range slices.Sorted(maps.Keys(cfg.Targets)) {
				all = append(all, lookAtDatabase(cmd.Context(), name, cfg.Targets[name]))
				if testMail {
					all = append(all, sendTestMail(cmd.Context(), cfg, name))
				}
			}
			err = a.print(cmd.OutOrStdout(), all, func(w io.Writer) {
				for _, l := range all {
					fmt.Fprintf(w, "%s %-22s %s\n", map[bool]string{true: "ok ", false: "NO "}[l.OK], l.What, l.Seen)
				}
			})
			if n := len(slices.DeleteFunc(all, func(l looked) bool { return l.OK })); err == nil && n > 0 {
				err = found("%d of what was looked at is not as it should be", n)
			}
			return err
		},
	}
	c.Flags().BoolVar(&testMail, "mail", false, "send a test mail to the people on call")
	return c
}

func lookAtDatabase(ctx context.Context, name string, t config.Target) looked {
	l := looked{What: name + ": database"}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	c, err := worker.Connect(t.Database)
	if err == nil {
		err = c.Ping(ctx, nil)
		defer func() { _ = c.Disconnect(context.WithoutCancel(ctx)) }()
	}
	if err != nil {
		l.Seen = t.Database.Name + " does not answer: " + err.Error()
		return l
	}
	rights, err := restore.CheckRights(ctx, c.Database(t.Database.Name), restore.Actions())
	switch {
	case err != nil:
		l.Seen = t.Database.Name + " answers, but does not tell what its user may do: " + err.Error()
	case len(rights.Missing) > 0:
		l.Seen = fmt.Sprintf("%s answers, but its user may not %s: give it the role readWrite there", t.Database.Name, strings.Join(rights.Missing, ", "))
	case len(rights.Series) > 0:
		l.Seen = fmt.Sprintf("%s answers, but its user may not read the time series %s for a backup: give it the role backup, or readAnyDatabase", t.Database.Name, strings.Join(rights.Series, ", "))
	case !rights.Known:
		l.OK, l.Seen = true, t.Database.Name+" answers; it does not tell what its user may do"
	default:
		l.OK, l.Seen = true, t.Database.Name+" answers, and its user may do what a restore needs"
	}
	return l
}

// sendTestMail writes to the people on call of a target, under a key of its own each time.
func sendTestMail(ctx context.Context, cfg *config.Config, name string) looked {
	l := looked{What: name + ": mail"}
	to := cfg.Targets[name].Contacts.OnCall
	sender, err := mail.New(cfg.Mail, nil)
	if err != nil {
		l.Seen = err.Error()
		return l
	}
	text := fmt.Sprintf("This is a test, sent by \"runbook check --mail\" at %s. Who gets it will be asked to approve the recovery of %s.",
		time.Now().UTC().Format(time.DateTime+" UTC"), name)
	sent, refused, err := sender.SendEach(ctx, "check-"+rand.Text(), mail.Inside(to), func(c mail.Contact) (mail.Message, error) {
		return mail.Message{Contact: c, Subject: fmt.Sprintf("[%s] Test: runbook reaches you", name), Text: text + "\n", HTML: "<p>" + html.EscapeString(text) + "</p>\n"}, nil
	})
	l.OK = err == nil && len(refused) == 0
	switch {
	case err != nil:
		l.Seen = err.Error()
	case len(refused) > 0:
		l.Seen = fmt.Sprintf("%s was refused: %s", refused[0].Email, cmp.Or(refused[0].Reason, "no reason given"))
	default:
		l.Seen = fmt.Sprintf("the mail service took %s for %s", words.Plural(int64(len(sent)), "mail", "mails"), strings.Join(to, ", "))
	}
	return l
}
