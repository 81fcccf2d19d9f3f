package world

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.temporal.io/sdk/client"
	tlog "go.temporal.io/sdk/log"

	"github.com/battwheels/runbook/activities"
	"github.com/battwheels/runbook/sandbox/ferret"
	"github.com/battwheels/runbook/sandbox/mailbox"
	"github.com/battwheels/runbook/sandbox/process"
	"github.com/battwheels/runbook/sandbox/temporal"
)

// makeDir makes the directory, and the sandbox's own log in it.
func (w *World) makeDir() error {
	if w.options.Dir == "" {
		dir, err := os.MkdirTemp("", "runbook-sandbox-")
		if err != nil {
			return err
		}
		w.Dir, w.temporary = dir, true
	} else {
		dir, err := filepath.Abs(w.options.Dir)
		if err != nil {
			return err
		}
		w.Dir = dir
	}
	if err := os.MkdirAll(w.path("log"), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(w.path("log", "sandbox.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	w.logFile, w.log = f, slog.New(slog.NewTextHandler(f, nil))
	return nil
}

func (w *World) path(elements ...string) string {
	return filepath.Join(append([]string{w.Dir}, elements...)...)
}

// choosePorts settles every port before anything starts, so that no two parts take the same one.
func (w *World) choosePorts() error {
	w.ports = w.options.Ports
	all := []*int{&w.ports.Temporal, &w.ports.UI, &w.ports.Database, &w.ports.Application, &w.ports.Mail, &w.ports.Webhook}
	free, err := process.FreePorts(len(all))
	if err != nil {
		return err
	}
	for i, port := range all {
		if *port == 0 {
			*port = free[i]
		} else if err := process.CheckPort(*port); err != nil {
			return err
		}
	}
	return nil
}

func (w *World) startTemporal(ctx context.Context) error {
	w.tell("starting Temporal and its Web UI")
	c := temporal.Config{
		Port: w.ports.Temporal, UIPort: w.ports.UI, Log: w.path("log", "temporal.log"),
		Keywords: []string{activities.AttributeTarget, activities.AttributePhase},
	}
	if !w.temporary {
		c.File = w.path("temporal", "temporal.db")
	}
	s, err := temporal.Start(ctx, c)
	if err != nil {
		return err
	}
	w.Temporal = s
	w.Client, err = client.DialContext(ctx, client.Options{
		HostPort: s.Address(), Namespace: temporal.Namespace, Identity: "sandbox", Logger: tlog.NewStructuredLogger(w.log),
	})
	if err != nil {
		return fmt.Errorf("connect to Temporal: %w", err)
	}
	return nil
}

// startDatabase starts the database server, and fills an empty database.
func (w *World) startDatabase(ctx context.Context) error {
	w.tell("starting FerretDB")
	// What it says of single commands is of no use to anybody.
	quiet := slog.New(slog.NewTextHandler(w.logFile, &slog.HandlerOptions{Level: slog.LevelError}))
	f, err := ferret.Start(ctx, ferret.Config{Dir: w.path("ferretdb"), Port: w.ports.Database, Logger: quiet})
	if err != nil {
		return err
	}
	w.Ferret = f
	c, err := mongo.Connect(options.Client().ApplyURI(f.URI()).SetAppName(AppName))
	if err != nil {
		return fmt.Errorf("connect to the database: %w", err)
	}
	w.DB = c.Database(Database)
	names, err := w.DB.ListCollectionNames(ctx, bson.D{})
	if err != nil {
		return fmt.Errorf("look at the database: %w", err)
	}
	if len(names) > 0 {
		w.tell(fmt.Sprintf("the database has %d collections already", len(names)))
		return nil
	}
	facts := w.Data.Facts()
	w.tell(fmt.Sprintf("filling the database: %d documents in %d collections", facts.Documents, facts.Collections))
	return w.Data.Load(ctx, w.DB, nil)
}

func (w *World) startMail() error {
	w.secrets = newSecrets()
	box, err := mailbox.Start(mailbox.Config{Listen: process.Address(w.ports.Mail), APIKey: w.secrets.mail})
	w.Mail = box
	return err
}
