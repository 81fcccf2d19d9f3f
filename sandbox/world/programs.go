package world

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/battwheels/runbook/sandbox/child"
	"github.com/battwheels/runbook/sandbox/process"
	"github.com/battwheels/runbook/sandbox/supervisor"
)

// readyWithin bounds the start of a program, on a busy machine.
const readyWithin = time.Minute

// part is a program under the supervisor: its name, how it is started, and the line by which it says that it is ready.
type part struct {
	name  string
	args  []string
	ready string
}

// startPrograms starts the supervisor with the application and the product under it, like in the first user's container.
func (w *World) startPrograms(ctx context.Context) error {
	var programs []supervisor.Program
	parts := []part{
		{Backend, []string{child.Application, "--listen", process.Address(w.ports.Application), "--mongo", w.Ferret.URI(),
			"--database", Database, "--token-file", w.path("secrets", "token-secret")}, child.ApplicationReady},
		{Worker, []string{child.Worker, "--config", w.ConfigPath}, child.WorkerReady},
		{Receiver, []string{child.Receiver, "--config", w.ConfigPath}, child.ReceiverReady},
	}
	environment := append(w.Temporal.Environment(), "TEMPORAL_CONFIG_FILE="+w.path("temporal.toml"))
	if w.Bucket != nil {
		parts = append(parts, part{Elsewhere, []string{child.Worker, "--config", w.path("elsewhere.yaml")}, child.WorkerReady})
		environment = append(environment, w.Bucket.Environment()...)
	}
	for _, p := range parts {
		command, err := process.Self(p.args...)
		if err != nil {
			return err
		}
		programs = append(programs, supervisor.Program{
			Spec: process.Spec{
				Name: p.name, Command: command, Ready: p.ready, Log: w.path("log", p.name+".log"),
				Hide: "TEMPORAL_", Env: environment,
			},
			AutoStart: p.name != Elsewhere, AutoRestart: true, StopWait: 35 * time.Second,
		})
	}
	s, err := supervisor.Start(supervisor.Config{Socket: w.socket, Programs: programs, Log: w.log}) //nolint:contextcheck // programs outlive the start
	if err != nil {
		return err
	}
	w.Supervisor = s
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for _, p := range programs {
		if !p.AutoStart {
			continue
		}
		if err := w.Supervisor.AwaitReady(ctx, p.Spec.Name); err != nil {
			return err
		}
	}
	return nil
}

// Application is the address of the protected application.
func (w *World) Application() string { return "http://" + process.Address(w.ports.Application) }

// ApplicationSecret signs the application's bearer tokens.
func (w *World) ApplicationSecret() string { return w.secrets.application }

// Webhook is the address to which an Alertmanager posts.
func (w *World) Webhook() string { return "http://" + process.Address(w.ports.Webhook) + "/alerts" }

// WebhookToken is the bearer token that the receiver wants.
func (w *World) WebhookToken() string { return w.secrets.webhook }

// StorageDir is where the product keeps its backups and incidents, on the host that it works on now.
func (w *World) StorageDir() string {
	if w.elsewhere {
		return w.path("elsewhere", "storage")
	}
	return w.path("storage")
}

// Kept says whether the directory stays when the world ends.
func (w *World) Kept() bool { return !w.temporary }

// WorkflowLink is the page of a workflow in the Web UI.
func (w *World) WorkflowLink(id string) string {
	return fmt.Sprintf("%s/namespaces/default/workflows/%s", w.Temporal.UI(), url.PathEscape(id))
}
