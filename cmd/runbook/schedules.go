package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"
	"golang.org/x/sys/unix"

	"github.com/battwheels/runbook/worker"
)

func (a *app) schedules() *cobra.Command {
	c := &cobra.Command{Use: "schedules", Short: "Keep the schedules in step with the configuration"}
	c.AddCommand(&cobra.Command{
		Use:   "apply",
		Short: "Create, update and delete the schedules of backup and monitor as the configuration says",
		Long: `Create, update and delete the Temporal Schedules of backup and monitor as the configuration says. It may be run as often
as you like; a schedule that somebody paused stays paused.

` + exitHelp,
		Example: "  runbook schedules apply",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.loadLenient()
			if err != nil {
				return err
			}
			return a.withTemporal(cmd, func(ctx context.Context, c client.Client) error {
				changes, err := worker.ApplySchedules(ctx, c, cfg)
				if err != nil {
					return err
				}
				return a.print(cmd.OutOrStdout(), changes, func(w io.Writer) {
					for _, ch := range changes {
						fmt.Fprintf(w, "%-8s %s  %s\n", ch.Action, ch.ID, ch.Cron)
					}
				})
			})
		},
	})
	return c
}

// isTerminal says whether a person watches.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
