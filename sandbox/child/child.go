// Package child is what the sandbox's program is when it was executed again by itself: the product's worker, the product's
// receiver of alerts, the protected application, or one run of a tool that is measured. Each runs as a process of its own, so that it can be killed on its own.
// The world starts them under the sandbox's supervisor; the program's main function, and that of tests, calls Main first.
package child

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/sandbox/bench"
	"github.com/battwheels/runbook/sandbox/garage"
	"github.com/battwheels/runbook/sandbox/process"
	"github.com/battwheels/runbook/worker"
)

// The children, by the subcommand that makes one.
const (
	Worker      = "worker"
	Receiver    = "serve"
	Application = "app"
)

// The lines by which each says that it is ready.
const (
	WorkerReady      = "worker is ready"
	ReceiverReady    = "receiver is ready"
	ApplicationReady = "the garage is open"
)

// Main is for the start of a main function: where this program was executed to be a child, it is that child until its end,
// and Main does not return.
func Main() {
	if len(os.Args) < 2 || !slices.Contains([]string{Worker, Receiver, Application, bench.Child}, os.Args[1]) {
		return
	}
	root := &cobra.Command{SilenceUsage: true, SilenceErrors: true}
	root.AddCommand(Commands()...)
	ctx, stop := process.Context(context.Background())
	err := root.ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Commands are the children as subcommands. They are hidden: people have the product's own commands.
func Commands() []*cobra.Command {
	return []*cobra.Command{
		product(Worker, "The product's worker", worker.Run),
		product(Receiver, "The product's receiver of alerts", worker.Serve),
		application(),
		bench.Command(),
	}
}

// product runs a part of the product that knows everything from its configuration.
func product(name, short string, run func(context.Context, *config.Config, *slog.Logger) error) *cobra.Command {
	var path string
	c := &cobra.Command{
		Use: name, Short: short, Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(path)
			if err != nil {
				return err
			}
			return run(cmd.Context(), cfg, logger(cmd.ErrOrStderr()))
		},
	}
	c.Flags().StringVar(&path, "config", "", "configuration file")
	return c
}

func application() *cobra.Command {
	var c garage.Config
	var token string
	cmd := &cobra.Command{
		Use: Application, Short: "The protected application", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			secret, err := os.ReadFile(token)
			if err != nil {
				return fmt.Errorf("read the secret of its tokens: %w", err)
			}
			c.Token, c.Log = strings.TrimSpace(string(secret)), logger(cmd.ErrOrStderr())
			return garage.Run(cmd.Context(), c)
		},
	}
	cmd.Flags().StringVar(&c.Listen, "listen", "", "host and port")
	cmd.Flags().StringVar(&c.MongoURI, "mongo", "", "address of the database server")
	cmd.Flags().StringVar(&c.Database, "database", "", "name of the database")
	cmd.Flags().StringVar(&token, "token-file", "", "file with the secret that signs bearer tokens")
	return cmd
}

func logger(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }
