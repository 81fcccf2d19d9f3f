package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/battwheels/runbook/sandbox/world"
	"github.com/battwheels/runbook/worker"
)

// up starts everything, and ends it when the context does.
func (a *app) up(cmd *cobra.Command, _ []string) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	say := make(chan string)
	said := make(chan struct{})
	go func() {
		defer close(said)
		for text := range say {
			fmt.Fprintln(out, text)
		}
	}()
	a.world.Progress = func(text string) { say <- text }
	w, err := world.Start(ctx, a.world)
	close(say)
	<-said
	if err != nil {
		return stoppedByHand(ctx, err)
	}
	if _, err := worker.ApplySchedules(ctx, w.Client, w.Config); err != nil {
		return errors.Join(err, w.Close(context.WithoutCancel(ctx)))
	}
	welcome(out, w)
	<-ctx.Done()
	fmt.Fprintln(out, "\nending …")
	return w.Close(context.WithoutCancel(ctx))
}

// stoppedByHand keeps quiet about what failed because a person wanted it to.
func stoppedByHand(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return errors.New("stopped")
	}
	return err
}

// welcome tells where everything is, within 80 columns where paths allow it.
func welcome(out io.Writer, w *world.World) {
	var pids []string
	for _, name := range []string{world.Worker, world.Receiver, world.Backend} {
		if p := w.Supervisor.Process(name); p != nil {
			pids = append(pids, fmt.Sprintf("%s %d", name, p.PID()))
		}
	}
	facts := w.Data.Facts()
	fmt.Fprintf(out, `
The sandbox is up, on 127.0.0.1 only.

  Temporal Web UI  %s
  Mails            %s
  Application      %s/api/health
  Webhook          %s
  Database         %s%s
  Temporal         %s
  Logs             %s/log

Try it from another terminal:

  export TEMPORAL_ADDRESS=%s
  export RUNBOOK_CONFIG=%s
  go run ./cmd/runbook start Backup --wait
  go run ./cmd/runbook start DatabaseCorruption --by you --reason rehearsal
  go run ./cmd/runbook status

The database was made with %d organizations, %d of them active.
Processes of their own, started again when they are killed:
  %s

`, w.Temporal.UI(), w.Mail.URL(), w.Application(), w.Webhook(), w.Ferret.URI(), world.Database, w.Temporal.Address(), w.Dir,
		w.Temporal.Address(), w.ConfigPath, facts.Organizations, facts.Active, strings.Join(pids, ", "))
	if w.Kept() {
		fmt.Fprintf(out, "Ctrl-C ends it. %s keeps its state.\n", w.Dir)
	} else {
		fmt.Fprintln(out, "Ctrl-C ends it, and nothing of it stays; --dir keeps a directory.")
	}
}
