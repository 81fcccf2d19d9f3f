package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/battwheels/runbook/internal/alert"
	"github.com/battwheels/runbook/internal/config"
)

// Serve receives alerts until the context ends. It starts without Temporal, and answers 503 until there is one: the sender
// then tries again.
func Serve(ctx context.Context, cfg *config.Config, log *slog.Logger) error {
	c, err := Lazy(log)
	if err != nil {
		return err
	}
	defer c.Close()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Webhook.Listen)
	if err != nil {
		return fmt.Errorf("webhook.listen: %w", err)
	}
	server := &http.Server{
		Handler:           alert.NewHandler(cfg, &Starter{Client: c, Config: cfg}, log),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      30 * time.Second,
	}
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		// The alert in hand is answered; 10 s are enough for one start.
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		stopped <- server.Shutdown(grace)
	}()
	log.Info("receiver is ready", "address", listener.Addr().String())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("receiver: %w", err)
	}
	return <-stopped
}

// Ready says whether Temporal answers.
func (s *Starter) Ready(ctx context.Context) error {
	_, err := s.Client.CheckHealth(ctx, &client.CheckHealthRequest{})
	return err
}

// UILink is the address of a workflow in the Temporal Web UI, empty where the configuration names no UI.
func UILink(cfg *config.Config, namespace, workflowID, runID string) string {
	if cfg.Temporal.UI == "" {
		return ""
	}
	link, err := url.JoinPath(cfg.Temporal.UI, "namespaces", url.PathEscape(namespace), "workflows", url.PathEscape(workflowID))
	if err != nil {
		return ""
	}
	if runID != "" {
		link += "/" + runID
	}
	return link
}
