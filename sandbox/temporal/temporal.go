// Package temporal embeds a Temporal server and its Web UI: the real ones, in this process, on SQLite. The sandbox's world
// and the tests start it; the product reaches it like any other cluster, over gRPC. One in memory forgets everything when
// it stops; one with a file carries on, on whatever ports it is started again.
package temporal

import (
	"context"
	"errors"
	"fmt"
	"time"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/metrics"
	"go.temporal.io/server/temporal"

	"github.com/battwheels/runbook/sandbox/process"
)

// Namespace is the one namespace that the server has.
const Namespace = "default"

// Config says where the server listens and what it remembers.
type Config struct {
	Port   int    // of gRPC, on 127.0.0.1; 0 takes a free one
	UIPort int    // of the Web UI, on 127.0.0.1; 0 takes a free one
	File   string // the SQLite file; "" keeps everything in memory
	Log    string // file for the server's log; "" drops it
	// Keywords are search attributes of that type. They are declared before the server starts: one that is added later
	// stalls its first use.
	Keywords []string
}

// Server is a running server with its Web UI.
type Server struct {
	server temporal.Server
	ui     *webUI
	port   int
}

const (
	// startWithin bounds the start of the server and of the Web UI, on a busy machine.
	startWithin = time.Minute
	// askEvery is how often a starting server is asked whether it serves.
	askEvery = 50 * time.Millisecond
)

// Start starts the server and its Web UI, and returns when both answer.
func Start(ctx context.Context, c Config) (*Server, error) {
	for _, port := range []*int{&c.Port, &c.UIPort} {
		if err := settle(port); err != nil {
			return nil, fmt.Errorf("temporal: %w", err)
		}
	}
	internal, err := process.FreePorts(len(internalServices))
	if err != nil {
		return nil, fmt.Errorf("temporal: %w", err)
	}
	store, err := openStore(c.File, c.Keywords)
	if err != nil {
		return nil, fmt.Errorf("temporal: %w", err)
	}
	server, err := temporal.NewServer(
		temporal.WithConfig(serverConfig(store, c.Port, internal)),
		temporal.ForServices(temporal.DefaultServices),
		temporal.WithStaticHosts(hosts(c.Port, internal)),
		temporal.WithLogger(logger(c.Log)),
		temporal.WithCustomMetricsHandler(metrics.NoopMetricsHandler),
		temporal.WithDynamicConfigClient(dynamicSettings),
	)
	if err != nil {
		return nil, fmt.Errorf("temporal: %w", err)
	}
	if err := server.Start(); err != nil {
		return nil, fmt.Errorf("temporal: start: %w", err)
	}
	s := &Server{server: server, port: c.Port}
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	if err := s.awaitNamespace(ctx, c.Keywords); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	if s.ui, err = startUI(ctx, s.Address(), c.UIPort); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// settle takes a free port where none was asked for, and else sees that the one asked for is free.
func settle(port *int) error {
	if *port != 0 {
		return process.CheckPort(*port)
	}
	free, err := process.FreePorts(1)
	if err != nil {
		return err
	}
	*port = free[0]
	return nil
}

// awaitNamespace waits until the server serves, and the namespace knows its search attributes.
func (s *Server) awaitNamespace(ctx context.Context, keywords []string) error {
	c, err := client.NewLazyClient(client.Options{HostPort: s.Address(), Namespace: Namespace, Logger: silent{}})
	if err != nil {
		return fmt.Errorf("temporal: %w", err)
	}
	defer c.Close()
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		err := serves(ctx, c, keywords)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("temporal: the server does not serve: %w", errors.Join(ctx.Err(), err))
		}
	}
}

func serves(ctx context.Context, c client.Client, keywords []string) error {
	if _, err := c.CheckHealth(ctx, &client.CheckHealthRequest{}); err != nil {
		return err
	}
	if _, err := c.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: Namespace}); err != nil {
		return err
	}
	have, err := c.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: Namespace})
	if err != nil {
		return err
	}
	for _, k := range keywords {
		if have.GetCustomAttributes()[k] != enums.INDEXED_VALUE_TYPE_KEYWORD {
			return fmt.Errorf("search attribute %s is not there", k)
		}
	}
	return nil
}

// Address is host and port of gRPC, as TEMPORAL_ADDRESS takes it.
func (s *Server) Address() string { return process.Address(s.port) }

// UI is the address of the Web UI.
func (s *Server) UI() string { return s.ui.url }

// Environment is what a process needs to reach the server, in Temporal's standard variables.
func (s *Server) Environment() []string {
	return []string{"TEMPORAL_ADDRESS=" + s.Address(), "TEMPORAL_NAMESPACE=" + Namespace}
}

// Stop ends the Web UI and the server.
func (s *Server) Stop() error {
	if s.ui != nil {
		s.ui.stop()
	}
	if err := s.server.Stop(); err != nil {
		return fmt.Errorf("temporal: stop: %w", err)
	}
	return nil
}

// logger writes what goes wrong to a file.
func logger(file string) log.Logger {
	if file == "" {
		return log.NewNoopLogger()
	}
	return log.NewZapLogger(log.BuildZapLogger(log.Config{Level: "warn", OutputFile: file}))
}

// silent is the logger of a client that asks until it is answered.
type silent struct{}

func (silent) Debug(string, ...any) {}
func (silent) Info(string, ...any)  {}
func (silent) Warn(string, ...any)  {}
func (silent) Error(string, ...any) {}
