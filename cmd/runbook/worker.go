package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"time"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/sdk/client"

	"github.com/spf13/cobra"

	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/worker"
)

func (a *app) worker() *cobra.Command {
	var check bool
	c := &cobra.Command{
		Use:   "worker",
		Short: "Run the playbooks and their steps on this host",
		Long: `Run the playbooks and their steps on this host, until Ctrl-C or SIGTERM. It may be killed at any moment: what it was
doing is taken up where it was as soon as a worker runs again.

Connects to Temporal as TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, TEMPORAL_API_KEY and the other standard variables say.

` + exitHelp,
		Example: `  TEMPORAL_ADDRESS=127.0.0.1:7233 runbook worker --config /etc/runbook/runbook.yaml
  runbook worker --check   # is a worker of this host polling? for health checks`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load()
			if err != nil {
				return err
			}
			if check {
				return a.checkWorker(cmd.Context(), cfg)
			}
			return worker.Run(cmd.Context(), cfg, a.logger(cmd.ErrOrStderr()))
		},
	}
	c.Flags().BoolVar(&check, "check", false, "exit 0 if a worker of this host polls its queue, else 3")
	return c
}

// pollerFresh is how long ago a worker may have polled last: a poll waits a minute at the server.
const pollerFresh = 90 * time.Second

func (a *app) checkWorker(ctx context.Context, cfg *config.Config) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c, err := worker.Dial(ctx, a.quietLogger(io.Discard))
	if err != nil {
		return err
	}
	defer c.Close()
	queue, err := worker.HostQueue(cfg)
	if err != nil {
		return usage(err)
	}
	polls, err := polled(ctx, c, queue, enums.TASK_QUEUE_TYPE_ACTIVITY)
	if err == nil && !polls {
		err = found("%s", noWorker(queue))
	}
	return err
}

// polled says whether a worker polls a queue.
func polled(ctx context.Context, c client.Client, queue string, of enums.TaskQueueType) (bool, error) {
	r, err := c.DescribeTaskQueue(ctx, queue, of)
	if err != nil {
		return false, fmt.Errorf("describe queue %s: %w", queue, err)
	}
	return slices.ContainsFunc(r.GetPollers(), func(p *taskqueue.PollerInfo) bool { return time.Since(p.GetLastAccessTime().AsTime()) < pollerFresh }), nil
}

func noWorker(queue string) string {
	return fmt.Sprintf("no worker polls queue %s: start one with: runbook worker", queue)
}

func (a *app) serve() *cobra.Command {
	var check bool
	c := &cobra.Command{
		Use:   "serve",
		Short: "Receive alerts and start the playbooks for them",
		Long: `Receive alerts in Alertmanager's webhook format at POST /alerts, with the bearer token of the configuration. An alert
that is answered with 2xx is durable in Temporal, even while every worker is down.

` + exitHelp,
		Example: `  TEMPORAL_ADDRESS=127.0.0.1:7233 runbook serve --config /etc/runbook/runbook.yaml
  runbook serve --check    # does the receiver answer? for health checks`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load()
			if err != nil {
				return err
			}
			if check {
				return checkReceiver(cmd.Context(), cfg.Webhook.Listen)
			}
			return worker.Serve(cmd.Context(), cfg, a.logger(cmd.ErrOrStderr()))
		},
	}
	c.Flags().BoolVar(&check, "check", false, "exit 0 if the receiver on this host is ready, else 3")
	return c
}

func checkReceiver(ctx context.Context, listen string) error {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return usage(fmt.Errorf("webhook.listen: %w", err))
	}
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = "127.0.0.1"
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/readyz", nil)
	if err != nil {
		return usage(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return found("the receiver does not answer: %v", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return found("the receiver is not ready: %s", resp.Status)
	}
	return nil
}
