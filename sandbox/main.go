// Command sandbox is the whole system in one program: an embedded Temporal with its Web UI, a database, a protected application, a
// mail service, and the product itself. It starts all of it to play with, or plays a disaster from the first alert to the last
// mail and judges what came of it. It is for trying, rehearsing and testing; nothing of it is deployed.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/battwheels/runbook/sandbox/child"
	"github.com/battwheels/runbook/sandbox/world"
)

// The exit codes that a script can use; the help names them.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	child.Main()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The second Ctrl-C ends a graceful stop at once.
	context.AfterFunc(ctx, stop)
	code := execute(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func execute(ctx context.Context, args []string, out, errOut io.Writer) int {
	root := newRoot() //nolint:contextcheck // cobra hands the context to each command
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(errOut, "sandbox:", err)
	if _, ok := errors.AsType[*usageError](err); ok {
		return exitUsage
	}
	return exitFailed
}

// usageError is a command line that is wrong.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

// none is for commands without arguments.
func none(cmd *cobra.Command, args []string) error {
	if err := cobra.NoArgs(cmd, args); err != nil {
		return &usageError{err}
	}
	return nil
}

// app is what the commands share.
type app struct{ world world.Options }

func newRoot() *cobra.Command {
	a := &app{}
	root := &cobra.Command{
		Use:   "sandbox",
		Short: "The whole system in one program, to try it, to rehearse and to test",
		Long: `The whole system in one program: Temporal with its Web UI, a database, a protected
application, a mail service, and runbook's worker and receiver of alerts. Without
a command it starts all of it, prints the addresses, and waits for Ctrl-C.
Everything listens on 127.0.0.1, on free ports unless given.

Exit codes: 0 all is well; 1 it failed, or something did not hold; 2 wrong command
line.`,
		Example: `  go run ./sandbox
  go run ./sandbox run corruption
  go run ./sandbox --dir /tmp/garage --ui-port 8233`,
		Args:              none,
		SilenceUsage:      true,
		SilenceErrors:     true,
		PersistentPreRunE: a.valid,
		RunE:              a.up,
	}
	f := root.PersistentFlags()
	f.StringVar(&a.world.Dir, "dir", "", "directory that keeps the state (default one that goes at the end)")
	f.Uint64Var(&a.world.Seed, "seed", 1, "number that chooses the data, the traffic and the damage")
	f.Float64Var(&a.world.Scale, "scale", 1, "multiplies the documents of the large collections")
	for _, p := range []struct {
		port *int
		name string
		what string
	}{
		{&a.world.Ports.UI, "ui-port", "the Temporal Web UI"},
		{&a.world.Ports.Temporal, "temporal-port", "Temporal"},
		{&a.world.Ports.Database, "mongo-port", "the database"},
		{&a.world.Ports.Application, "app-port", "the application"},
		{&a.world.Ports.Mail, "mail-port", "the mail service"},
		{&a.world.Ports.Webhook, "webhook-port", "the receiver of alerts"},
	} {
		f.IntVar(p.port, p.name, 0, "port of "+p.what+" (default a free one)")
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	up := &cobra.Command{Use: "up", Short: "Start everything and wait for Ctrl-C, like no command at all", Args: none, RunE: a.up}
	root.AddCommand(up, a.run(), a.rehearse(), a.bench())
	root.AddCommand(child.Commands()...)
	return root
}

// valid checks what the flags' types do not.
func (a *app) valid(*cobra.Command, []string) error {
	p := a.world.Ports
	for _, port := range []int{p.UI, p.Temporal, p.Database, p.Application, p.Mail, p.Webhook} {
		if port < 0 || port > 65535 {
			return &usageError{fmt.Errorf("port %d: a port is a number from 1 to 65535, or 0 for a free one", port)}
		}
	}
	if a.world.Scale <= 0 {
		return &usageError{fmt.Errorf("scale %g: give a number above 0", a.world.Scale)}
	}
	return nil
}
