// Command runbook is disaster recovery for applications on MongoDB, as durable Temporal workflows: the worker, the receiver of
// alerts, and a verb for everything that a person does.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/battwheels/runbook/internal/config"
)

// The exit codes that a script can use; every command's help names them.
const (
	exitOK     = 0
	exitFailed = 1 // it was tried and did not succeed
	exitUsage  = 2 // the command line or the configuration is wrong; nothing was tried
	exitFound  = 3 // it ran, and what it looked at is not as it should be
)

const exitHelp = `Exit codes: 0 done; 1 failed; 2 wrong command line or configuration, nothing was tried;
3 done, and what was looked at is not as it should be.`

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The second Ctrl-C ends a graceful stop at once.
	context.AfterFunc(ctx, stop)
	return execute(ctx, os.Args[1:], os.Stdout, os.Stderr)
}

func execute(ctx context.Context, args []string, out, errOut io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errOut)
	began := false
	note(root, &began)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintln(errOut, "runbook:", err)
	if !began {
		return exitUsage // an unknown command, a missing flag, an argument too many
	}
	if coded, ok := errors.AsType[*codedError](err); ok {
		return coded.code
	}
	return exitFailed
}

// note makes every command say that it began: what fails before is the command line's fault.
func note(c *cobra.Command, began *bool) {
	if run := c.RunE; run != nil {
		c.RunE = func(cmd *cobra.Command, args []string) error {
			*began = true
			return run(cmd, args)
		}
	}
	for _, sub := range c.Commands() {
		note(sub, began)
	}
}

// codedError carries the exit code of its failure.
type codedError struct {
	error
	code int
}

func (e *codedError) Unwrap() error { return e.error }

func usage(err error) error { return &codedError{err, exitUsage} }

func found(format string, args ...any) error {
	return &codedError{fmt.Errorf(format, args...), exitFound}
}

// app is what the commands share: where the configuration is, and how to print.
type app struct {
	configPath string
	json       bool
	verbose    bool
	patience   time.Duration // how long who waits for a playbook does so before it looks whether anybody works
}

func newRoot() *cobra.Command {
	a := &app{patience: 10 * time.Second}
	root := &cobra.Command{
		Use:   "runbook",
		Short: "Disaster recovery for applications on MongoDB, as durable Temporal workflows",
		Long: `runbook brings a MongoDB database back after a disaster: it keeps what can still be read, stages the newest
proven backup beside the live data, proves every document, asks a person, and swaps. Every playbook is a Temporal
workflow, and its history is the audit.

` + exitHelp,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	path := os.Getenv("RUNBOOK_CONFIG")
	if path == "" {
		path = "/etc/runbook/runbook.yaml"
	}
	root.PersistentFlags().StringVar(&a.configPath, "config", path, "configuration file (also RUNBOOK_CONFIG)")
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print one JSON value")
	root.PersistentFlags().BoolVarP(&a.verbose, "verbose", "v", false, "log more, to standard error")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage(err) })
	root.AddCommand(a.check(), a.worker(), a.serve(), a.start(), a.status(), a.backups(), a.schedules(), a.offline(), a.narrow(), a.mergeBack(), a.volume(), a.notify(), a.mails(), a.postReport())
	for _, d := range doors {
		root.AddCommand(a.door(d))
	}
	return root
}

// load reads the configuration for a command that needs all of it.
func (a *app) load() (*config.Config, error) {
	cfg, err := config.Load(a.configPath)
	if err != nil {
		return nil, usage(err)
	}
	return cfg, nil
}

// loadLenient reads the configuration for a command that a person types at night, perhaps in a shell that lacks the secrets of
// the service: what it does not need may be missing.
func (a *app) loadLenient() (*config.Config, error) {
	cfg, err := config.LoadLenient(a.configPath)
	if err != nil {
		return nil, usage(err)
	}
	return cfg, nil
}

// target resolves the target that a command names, or the only one.
func (a *app) target(cfg *config.Config, args []string) (string, config.Target, error) {
	name := ""
	if len(args) > 0 {
		name = args[0]
	}
	name, t, err := cfg.Target(name)
	if err != nil {
		return "", t, usage(err)
	}
	return name, t, nil
}

func (a *app) logger(w io.Writer) *slog.Logger {
	level := slog.LevelInfo
	if a.verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}

// quietLogger is for commands that answer a person: Temporal's client speaks only of what goes wrong.
func (a *app) quietLogger(w io.Writer) *slog.Logger {
	if a.verbose {
		return a.logger(w)
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelError}))
}

// print writes v as JSON where that is asked for, and else what human writes.
func (a *app) print(w io.Writer, v any, human func(io.Writer)) error {
	if a.json {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
	human(w)
	return nil
}
