// Package worker wires everything together: the configuration becomes clients, clients become activities, and activities and
// playbooks become a registered worker. It also holds what talks to Temporal from outside a workflow: starting playbooks,
// the receiver of alerts, and the schedules. The command line and the sandbox call it.
package worker

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	tlog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/battwheels/runbook/activities"
	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/internal/durable"
	"github.com/battwheels/runbook/internal/mail"
	"github.com/battwheels/runbook/workflows"
)

// stopWithin is how long a stopping worker lets its steps come to an end; what has not ended by then is taken up again by
// the next worker.
const stopWithin = 30 * time.Second

// Dial connects to Temporal as the standard TEMPORAL_* environment and profile files say.
func Dial(ctx context.Context, log *slog.Logger) (client.Client, error) {
	o, err := clientOptions(log)
	if err != nil {
		return nil, err
	}
	c, err := client.DialContext(ctx, o)
	if err != nil {
		address := o.HostPort
		if address == "" {
			address = client.DefaultHostPort
		}
		return nil, fmt.Errorf("no Temporal server answers at %s (set TEMPORAL_ADDRESS and TEMPORAL_NAMESPACE): %w", address, err)
	}
	return c, nil
}

// Lazy is Dial for who must start while Temporal is down: it connects with the first call.
func Lazy(log *slog.Logger) (client.Client, error) {
	o, err := clientOptions(log)
	if err != nil {
		return nil, err
	}
	c, err := client.NewLazyClient(o)
	if err != nil {
		return nil, fmt.Errorf("client of Temporal: %w", err)
	}
	return c, nil
}

func clientOptions(log *slog.Logger) (client.Options, error) {
	o, err := envconfig.LoadDefaultClientOptions()
	if err != nil {
		return o, fmt.Errorf("read Temporal's environment: %w", err)
	}
	o.Logger = tlog.NewStructuredLogger(log)
	return o, nil
}

// HostQueue is the task queue of the steps that need one host's disk.
func HostQueue(cfg *config.Config) (string, error) {
	host := cfg.Temporal.Host
	if host == "" {
		var err error
		if host, err = os.Hostname(); err != nil {
			return "", fmt.Errorf("this host has no name: set temporal.host: %w", err)
		}
	}
	return cfg.Temporal.TaskQueue + "@" + host, nil
}

// Namespace is the one that Temporal's standard environment and profile files name.
func Namespace() string {
	o, err := envconfig.LoadDefaultClientOptions()
	if err != nil || o.Namespace == "" {
		return client.DefaultNamespace
	}
	return o.Namespace
}

// Run works until the context ends: it takes playbooks and steps from the common queue, and the steps that need this host's
// disk from the host's own.
func Run(ctx context.Context, cfg *config.Config, log *slog.Logger) error {
	if err := mail.CheckTemplates(cfg.Mail.Templates); err != nil {
		return err
	}
	c, err := Dial(ctx, log)
	if ctx.Err() != nil {
		return nil // asked to end before there was anything to end
	}
	if err != nil {
		return err
	}
	defer c.Close()
	if err := PrepareNamespace(ctx, c, log); err != nil {
		return err
	}
	queue, err := HostQueue(cfg)
	if err != nil {
		return err
	}
	unlock, err := lockStorage(cfg.Storage.Dir)
	if err != nil {
		return err
	}
	defer unlock()
	pool := &databases{cfg: cfg, open: map[string]*mongo.Client{}}
	defer pool.close(log) //nolint:contextcheck // the context has ended by then

	fatal := make(chan error, 2)
	o := worker.Options{
		WorkerStopTimeout:           stopWithin,
		DisableRegistrationAliasing: true,
		OnFatalError:                func(err error) { fatal <- err },
	}
	base := activities.Base{Config: cfg, HostQueue: queue, Databases: pool.database, Temporal: c, Log: log}
	common := worker.New(c, cfg.Temporal.TaskQueue, o)
	RegisterWorkflows(common)
	RegisterActivities(common, base, pool.scratch)
	o.DisableWorkflowWorker = true
	host := worker.New(c, queue, o)
	RegisterActivities(host, base, pool.scratch)

	if err := host.Start(); err != nil {
		return fmt.Errorf("start the worker of queue %s: %w", queue, err)
	}
	defer host.Stop()
	if err := common.Start(); err != nil {
		return fmt.Errorf("start the worker of queue %s: %w", cfg.Temporal.TaskQueue, err)
	}
	defer common.Stop()
	log.Info("worker is ready", "queue", cfg.Temporal.TaskQueue, "hostQueue", queue, "targets", cfg.TargetNames())
	select {
	case <-ctx.Done():
		return nil
	case err := <-fatal:
		return fmt.Errorf("worker: %w", err)
	}
}

// registry is what workflows and activities are registered with: a worker, a replayer, or a test environment.
type registry interface {
	RegisterWorkflowWithOptions(w any, options workflow.RegisterOptions)
}

// RegisterWorkflows registers every playbook under the name that a person picks in the Temporal UI.
func RegisterWorkflows(r registry) {
	for name, w := range map[string]any{
		"Backup":             workflows.Backup,
		"Restore":            workflows.Restore,
		"DatabaseCorruption": workflows.DatabaseCorruption,
		"AccidentalDeletion": workflows.AccidentalDeletion,
		"MergeBack":          workflows.MergeBack,
		"Undelete":           workflows.Undelete,
		"PodLoss":            workflows.PodLoss,
		"IncidentReport":     workflows.IncidentReport,
		"FollowUp":           workflows.FollowUp,
		"BackupMonitor":      workflows.BackupMonitor,
		"RestoreDrill":       workflows.RestoreDrill,
	} {
		r.RegisterWorkflowWithOptions(w, workflow.RegisterOptions{Name: name})
	}
}

// RegisterActivities registers every step under its stable name. Histories hold these names: they never change.
func RegisterActivities(r worker.ActivityRegistry, base activities.Base, scratch func(target string) (*mongo.Client, error)) {
	data, catalog := &activities.Data{Base: base}, &activities.Catalog{Base: base}
	app, lost := &activities.Application{Base: base}, &activities.Undelete{Base: base}
	link := func(id, run string) string { return UILink(base.Config, Namespace(), id, run) }
	mails := &activities.Mail{Base: base, Link: link}
	incident, target := &activities.Incident{Base: base, Link: link}, &activities.Target{Base: base}
	simulation := &activities.Simulation{Base: base}
	drill := &activities.Drill{Base: base, Server: scratch}
	for name, a := range map[string]any{
		"LoadTarget":        target.LoadTarget,
		"OpenIncident":      incident.OpenIncident,
		"CloseIncident":     incident.CloseIncident,
		"DraftReport":       incident.DraftReport,
		"DumpDatabase":      data.DumpDatabase,
		"ObserveDatabase":   data.ObserveDatabase,
		"CompareWithBackup": data.CompareWithBackup,
		"AcquireLease":      data.AcquireLease,
		"ReleaseLease":      data.ReleaseLease,
		"UndoHalfSwaps":     data.UndoHalfSwaps,
		"StageBackup":       data.StageBackup,
		"ProveStaging":      data.ProveStaging,
		"QueryStaging":      data.QueryStaging,
		"DrawPlan":          data.DrawPlan,
		"SwapCollections":   data.SwapCollections,
		"RollBackSwap":      data.RollBackSwap,
		"VerifyRestored":    data.VerifyRestored,
		"MergeAuditLogs":    data.MergeAuditLogs,
		"RemoveStaging":     data.RemoveStaging,
		"ChooseBackup":      catalog.ChooseBackup,
		"CheckBackup":       catalog.CheckBackup,
		"MarkRestored":      catalog.MarkRestored,
		"ApplyRetention":    catalog.ApplyRetention,
		"SyncOffsite":       catalog.SyncOffsite,
		"CheckBackups":      catalog.CheckBackups,
		"StopApplication":   app.StopApplication,
		"ProveQuiet":        app.ProveQuiet,
		"StartApplication":  app.StartApplication,
		"FreezeMails":       mails.FreezeMails,
		"FreezeFollowUp":    mails.FreezeFollowUp,
		"SendBatch":         mails.SendBatch,
		"TellPeople":        mails.TellPeople,
		"BackupsToCompare":  lost.BackupsToCompare,
		"CheckSafetyDump":   lost.CheckSafetyDump,
		"NoteMergedBack":    incident.NoteMergedBack,
		"ReadDeletions":     lost.ReadDeletions,
		"FindMissing":       lost.FindMissing,
		"PlanUndelete":      lost.PlanUndelete,
		"UndeleteDocuments": lost.UndeleteDocuments,
		"VerifyUndelete":    lost.VerifyUndelete,
		"UndoUndelete":      lost.UndoUndelete,
		"ExamineBackup":     simulation.ExamineBackup,
		"SimulatePlan":      simulation.SimulatePlan,
		"SurveyTarget":      simulation.SurveyTarget,
		"EstimateRecovery":  simulation.EstimateRecovery,
		"ClaimScratch":      drill.ClaimScratch,
		"LoadScratch":       drill.LoadScratch,
		"ProveScratch":      drill.ProveScratch,
		"DropScratch":       drill.DropScratch,
		"KeepDrill":         drill.KeepDrill,
	} {
		r.RegisterActivityWithOptions(a, activity.RegisterOptions{Name: name})
	}
}

// databases keeps one client for each target, for as long as the worker lives.
type databases struct {
	cfg  *config.Config
	mu   sync.Mutex
	open map[string]*mongo.Client
}

func (d *databases) database(target string) (*mongo.Database, error) {
	name, t, err := d.cfg.Target(target)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.open[name]
	if c == nil {
		if c, err = Connect(t.Database); err != nil {
			return nil, err
		}
		d.open[name] = c
	}
	return c.Database(t.Database.Name), nil
}

// scratch is the client of the server on which a target's drills make their scratch database.
func (d *databases) scratch(target string) (*mongo.Client, error) {
	name, t, err := d.cfg.Target(target)
	if err != nil {
		return nil, err
	}
	if t.Drill.URI.Value() == "" {
		db, err := d.database(name)
		if err != nil {
			return nil, err
		}
		return db.Client(), nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	key := name + " (drill)" // no target has a name like this
	if d.open[key] == nil {
		c, err := Connect(config.Database{URI: t.Drill.URI, Name: t.Drill.Database})
		if err != nil {
			return nil, err
		}
		d.open[key] = c
	}
	return d.open[key], nil
}

func (d *databases) close(log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	d.mu.Lock()
	defer d.mu.Unlock()
	for target, c := range d.open {
		if err := c.Disconnect(ctx); err != nil {
			log.Warn("database client not closed", "target", target, "error", err)
		}
	}
}

// Connect makes a client that names itself, reads the primary at majority, and writes so that a crash loses nothing.
func Connect(d config.Database) (*mongo.Client, error) {
	journal := true
	o := options.Client().ApplyURI(d.URI.Value()).
		SetAppName(activities.AppName).
		SetReadConcern(readconcern.Majority()).
		SetWriteConcern(&writeconcern.WriteConcern{W: "majority", Journal: &journal})
	c, err := mongo.Connect(o)
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", d.Name, err)
	}
	return c, nil
}

// lockStorage makes sure that one worker at a time writes to a storage directory: two would tread on each other's journals.
func lockStorage(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("storage: %w", err)
	}
	l, err := durable.TryLock(filepath.Join(dir, "worker.lock"))
	if err != nil {
		return nil, fmt.Errorf("another worker uses %s: give each worker a storage.dir of its own, or end the other one: %w", dir, err)
	}
	return func() { _ = l.Release() }, nil
}
