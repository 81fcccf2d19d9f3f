package world

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/battwheels/runbook/sandbox/bucket"
	"github.com/battwheels/runbook/sandbox/ferret"
)

// Elsewhere is the product's worker on another host: it has its configuration and the bucket, and nothing else. It is started by
// whoever wants it.
const Elsewhere = "runbook-worker-elsewhere"

// GoneAlert is the name of the alert that means that the database's pod is gone.
const GoneAlert = "BattwheelsDatabaseGone"

// Support is the platform's support, as the configuration names it.
const Support = "support@platform.example"

// startBucket starts the offsite storage, where the world has one.
func (w *World) startBucket(ctx context.Context) (err error) {
	if w.options.Offsite {
		w.Bucket, err = bucket.Start(ctx)
	}
	return err
}

// LosePod is kill -9 for all that runs in the first user's pod but the receiver of alerts and the supervisor, which stand for what
// is outside of it: the application, the worker, the database server. Their files go with them: the database's directory, and
// the worker's storage with every backup in it.
func (w *World) LosePod(ctx context.Context) error {
	for _, name := range []string{Backend, Worker} {
		if p := w.Supervisor.Process(name); p != nil {
			if err := p.Kill(); err != nil {
				return err
			}
		}
		// It would start it again.
		if err := w.Supervisor.Stop(ctx, name); err != nil {
			return err
		}
	}
	err := w.Ferret.Stop(ctx)
	return errors.Join(err, os.RemoveAll(w.path("ferretdb")), os.RemoveAll(w.StorageDir()))
}

// NewPod is what the platform makes of a lost one: an empty database at the same address.
func (w *World) NewPod(ctx context.Context) (err error) {
	quiet := slog.New(slog.NewTextHandler(w.logFile, &slog.HandlerOptions{Level: slog.LevelError}))
	w.Ferret, err = ferret.Start(ctx, ferret.Config{Dir: w.path("ferretdb"), Port: w.ports.Database, Logger: quiet})
	return err
}

// WorkElsewhere starts the worker of the other host, whose storage is the product's from now on.
func (w *World) WorkElsewhere(ctx context.Context) error {
	w.elsewhere = true
	if _, err := os.Stat(w.StorageDir()); err == nil {
		return fmt.Errorf("the other host has something in %s already", w.StorageDir())
	}
	if err := w.Supervisor.Start(Elsewhere); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	return w.Supervisor.AwaitReady(ctx, Elsewhere)
}
