package activities

import (
	"context"
	"time"

	"github.com/battwheels/runbook/internal/appcontrol"
	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/restore"
)

// Application stops and starts what writes to the database.
type Application struct{ Base }

// Quiet says how it was seen that nobody writes.
type Quiet struct {
	Method string `json:"method"`
}

// Health is the application's own word that it is well.
type Health struct {
	Detail string `json:"detail"`
}

// StopApplication stops every configured writer and returns when all are seen stopped.
func (a *Application) StopApplication(ctx context.Context, target string) error {
	t, err := a.target(target)
	if err != nil {
		return err
	}
	_, stop := beat(ctx)
	defer stop()
	control, err := appcontrol.New(t.Application)
	if err != nil {
		return badInput(err)
	}
	return typed(ctx, control.Stop(ctx))
}

// ProveQuiet proves that nobody but runbook uses the database, or names who does.
func (a *Application) ProveQuiet(ctx context.Context, target string) (Quiet, error) {
	t, err := a.target(target)
	if err != nil {
		return Quiet{}, err
	}
	db, err := a.Databases(target)
	if err != nil {
		return Quiet{}, err
	}
	_, stop := beat(ctx)
	defer stop()
	q, err := restore.Quiet(ctx, db, restore.QuietOptions{
		For: time.Duration(t.Policy.QuietFor), Self: []string{AppName}, Ignore: t.Policy.IgnoreClients,
	})
	return Quiet{Method: q.Method}, typed(ctx, err)
}

// StartApplication starts what was stopped, and returns when the application says in its own words that it is healthy.
func (a *Application) StartApplication(ctx context.Context, target string) (Health, error) {
	t, err := a.target(target)
	if err != nil {
		return Health{}, err
	}
	report, stop := beat(ctx)
	defer stop()
	control, err := appcontrol.New(t.Application)
	if err != nil {
		return Health{}, badInput(err)
	}
	report(backup.Progress{Step: "starting"})
	if err := control.Start(ctx); err != nil {
		return Health{}, typed(ctx, err)
	}
	if t.Application.Health == nil {
		return Health{Detail: "started; no health check is configured"}, nil
	}
	report(backup.Progress{Step: "waiting until healthy"})
	h, err := appcontrol.AwaitHealthy(ctx, *t.Application.Health)
	if err != nil {
		return Health{}, typed(ctx, err)
	}
	return Health{Detail: h.Detail}, nil
}
