// Package world is the whole sandbox: Temporal with its Web UI, the database, the protected application, the mail service, and
// the product itself, all on 127.0.0.1, over real sockets. What may be killed on its own (the product's worker and receiver, the
// application) runs as a process of its own, under the sandbox's supervisor. The command line and the scenarios start one, and
// tests do; what happens in it is theirs.
package world

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.temporal.io/sdk/client"
	"golang.org/x/sync/errgroup"

	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/sandbox/bucket"
	"github.com/battwheels/runbook/sandbox/ferret"
	"github.com/battwheels/runbook/sandbox/mailbox"
	"github.com/battwheels/runbook/sandbox/seed"
	"github.com/battwheels/runbook/sandbox/supervisor"
	"github.com/battwheels/runbook/sandbox/temporal"
)

// Names that the first user's system has.
const (
	Target   = "battwheels"
	Database = "test_database"
)

// The programs under the supervisor.
const (
	Backend  = "backend"
	Worker   = "runbook-worker"
	Receiver = "runbook-serve"
)

// People inside, as the configuration names them.
const (
	OnCall     = "on-call@battwheels.example"
	Escalation = "platform-engineering@battwheels.example"
)

// Alert is the name of the alert that means corruption.
const Alert = "BattwheelsDatabaseCorruption"

// AppName is how the sandbox's own connections name themselves to the database. They only look, but for where a scenario
// breaks things on purpose.
const AppName = "battwheels-sandbox"

// Ports are where everything listens, on 127.0.0.1; 0 takes a free one.
type Ports struct {
	Temporal, UI, Database, Application, Mail, Webhook int
}

// Options say what a world is like. The zero Options are a complete choice.
type Options struct {
	Dir   string // keeps the state; "" makes a directory that Close removes
	Ports Ports
	Seed  uint64
	Scale float64 // of the seeded data; 0 means 1
	// Offsite gives the product a bucket for its backups, and a second host with a worker that is not started.
	Offsite bool
	// Progress, where set, is told what is being done. Calls may come from several goroutines at once.
	Progress func(text string)
}

// World is a running sandbox.
type World struct {
	Dir        string
	ConfigPath string
	Config     *config.Config
	Data       *seed.Dataset // what an empty database is filled with
	Temporal   *temporal.Server
	Client     client.Client
	Ferret     *ferret.Server
	DB         *mongo.Database
	Mail       *mailbox.Box
	Supervisor *supervisor.Supervisor
	Bucket     *bucket.Server // nil where there is none

	options   Options
	ports     Ports // all of them known
	temporary bool
	socket    string
	socketDir string // "" where the socket lies in Dir
	secrets   secrets
	log       *slog.Logger
	logFile   *os.File
	elsewhere bool // the worker of the other host has taken over
}

// closeWithin bounds the end of each part. The worker gives its steps 30 s.
const closeWithin = 45 * time.Second

// Start starts everything and returns when all of it answers. What had been started when something fails is ended again.
func Start(ctx context.Context, o Options) (*World, error) {
	w := &World{options: o, Data: seed.Generate(seed.Options{Seed: o.Seed, Scale: o.Scale})}
	if err := w.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start the sandbox: %w", err), w.Close(context.WithoutCancel(ctx)))
	}
	return w, nil
}

func (w *World) start(ctx context.Context) error {
	if err := w.makeDir(); err != nil {
		return err
	}
	if err := w.choosePorts(); err != nil {
		return err
	}
	// Both keep a core busy for a while.
	group, both := errgroup.WithContext(ctx)
	group.Go(func() error { return w.startTemporal(both) })
	group.Go(func() error { return w.startDatabase(both) })
	if err := group.Wait(); err != nil {
		return err
	}
	if err := w.startMail(); err != nil {
		return err
	}
	if err := w.startBucket(ctx); err != nil {
		return err
	}
	if err := w.configure(); err != nil {
		return err
	}
	w.tell("starting the application, the worker and the receiver of alerts")
	return w.startPrograms(ctx)
}

func (w *World) tell(text string) {
	w.log.Info(text)
	if w.options.Progress != nil {
		w.options.Progress(text)
	}
}

// Close ends everything in the order in which one part needs another, and removes a directory that nobody asked to keep.
func (w *World) Close(ctx context.Context) error {
	var errs []error
	end := func(close func(context.Context) error) {
		bounded, cancel := context.WithTimeout(ctx, closeWithin)
		defer cancel()
		errs = append(errs, close(bounded))
	}
	if w.Supervisor != nil {
		end(w.Supervisor.Close)
	}
	if w.Mail != nil {
		end(w.Mail.Close)
	}
	if w.Bucket != nil {
		errs = append(errs, w.Bucket.Stop())
	}
	if w.Client != nil {
		w.Client.Close()
	}
	if w.Temporal != nil {
		errs = append(errs, w.Temporal.Stop())
	}
	if w.DB != nil {
		end(w.DB.Client().Disconnect)
	}
	if w.Ferret != nil {
		end(w.Ferret.Stop)
	}
	if w.logFile != nil {
		errs = append(errs, w.logFile.Close())
	}
	if w.socketDir != "" {
		errs = append(errs, os.RemoveAll(w.socketDir))
	}
	if w.temporary {
		errs = append(errs, os.RemoveAll(w.Dir))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("end the sandbox: %w", err)
	}
	return nil
}
