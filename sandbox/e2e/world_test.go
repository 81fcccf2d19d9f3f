// Package e2e proves whole playbooks: the product's own worker on an embedded Temporal server, against an in-memory server that
// speaks MongoDB's protocol (or the real one of RUNBOOK_TEST_MONGODB_URI), with a mail service that speaks Resend's. It holds
// tests only.
package e2e

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/battwheels/runbook/activities"
	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/internal/mongotest"
	"github.com/battwheels/runbook/sandbox/mailbox"
	"github.com/battwheels/runbook/sandbox/temporal"
	"github.com/battwheels/runbook/worker"
	"github.com/battwheels/runbook/workflows"
)

// world is one target with everything around it, in this process.
type world struct {
	t        *testing.T
	server   *mongotest.Server // nil when a real server is used
	db       *mongo.Database
	mail     *mailbox.Box
	temporal client.Client
	storage  string
	path     string // of the configuration
	cfg      *config.Config
	stop     context.CancelFunc
	stopped  chan error
}

// newWorld starts Temporal, a database with a few thousand documents, a mail service, and a worker, with the configuration adjusted.
func newWorld(t *testing.T, adjust ...func(*config.Config)) *world {
	t.Helper()
	w := &world{t: t, storage: filepath.Join(t.TempDir(), "storage")}
	server, err := temporal.Start(t.Context(), temporal.Config{Keywords: []string{activities.AttributeTarget, activities.AttributePhase}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Stop() })
	t.Setenv("TEMPORAL_ADDRESS", server.Address())
	t.Setenv("TEMPORAL_NAMESPACE", temporal.Namespace)
	w.temporal, err = client.DialContext(t.Context(), client.Options{HostPort: server.Address(), Logger: quiet{}})
	require.NoError(t, err)
	t.Cleanup(w.temporal.Close)

	uri := os.Getenv("RUNBOOK_TEST_MONGODB_URI")
	if uri == "" {
		w.server, err = mongotest.New()
		require.NoError(t, err)
		t.Cleanup(func() { _ = w.server.Close() })
		uri = w.server.URI()
	}
	c, err := mongo.Connect(options.Client().ApplyURI(uri).SetAppName(activities.AppName))
	require.NoError(t, err)
	name := fmt.Sprintf("runbook_e2e_%d", time.Now().UnixNano())
	w.db = c.Database(name)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = w.db.Drop(ctx)
		_ = c.Disconnect(ctx)
	})
	w.seed()

	w.mail, err = mailbox.Start(mailbox.Config{Listen: "127.0.0.1:0", APIKey: "re_secret"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = w.mail.Close(context.Background()) })
	t.Setenv("RESEND_API_KEY", "re_secret")
	t.Setenv("MONGO_URL", uri)
	path := filepath.Join(t.TempDir(), "runbook.yaml")
	w.path = path
	require.NoError(t, os.WriteFile(path, fmt.Appendf(nil, configuration, w.storage, w.mail.URL(), name), 0o600))
	w.cfg, err = config.Load(path)
	require.NoError(t, err)
	for _, f := range adjust {
		f(w.cfg)
	}
	w.start()
	t.Cleanup(w.end)
	return w
}

const configuration = `
temporal:
  host: e2e
storage:
  dir: %s
mail:
  from: Battwheels OS <noreply@battwheels.test>
  brand: Battwheels OS
  apiKey: ${RESEND_API_KEY}
  baseURL: %s
webhook:
  token: ${RESEND_API_KEY}
targets:
  battwheels:
    database:
      uri: ${MONGO_URL}
      name: %s
    application:
      none: true
    tenants:
      field: organization_id
      collection: organizations
      name: name
      email: email
      active: is_active
    auditLogs:
      - collection: audit_logs
        time: timestamp
    contacts:
      onCall: [oncall@battwheels.test]
      escalation: [cto@battwheels.test]
    monitor:
      minCollections: 3
    verify:
      keyCounts: [collections, organizations, invoices]
    policy:
      quietFor: 200ms
`

func (w *world) seed() {
	w.insert("organizations", 12, func(i int) bson.D {
		return bson.D{{Key: "organization_id", Value: fmt.Sprintf("org_%02d", i)}, {Key: "name", Value: fmt.Sprintf("Garage %d", i)},
			{Key: "email", Value: fmt.Sprintf("garage%d@battwheels.test", i)}, {Key: "is_active", Value: i < 10}}
	})
	for _, c := range []struct {
		name string
		n    int
	}{{"invoices", 1500}, {"tickets", 900}, {"items", 300}, {"audit_logs", 100}} {
		w.insert(c.name, c.n, func(i int) bson.D {
			return bson.D{{Key: "organization_id", Value: fmt.Sprintf("org_%02d", i%12)}, {Key: "number", Value: int32(i)},
				{Key: "timestamp", Value: time.Now().Add(-time.Hour)}, {Key: "text", Value: fmt.Sprintf("%s %d", c.name, i)}}
		})
	}
	_, err := w.db.Collection("invoices").Indexes().CreateOne(w.t.Context(), mongo.IndexModel{
		Keys: bson.D{{Key: "organization_id", Value: 1}, {Key: "number", Value: -1}}, Options: options.Index().SetUnique(true),
	})
	require.NoError(w.t, err)
}

func (w *world) insert(collection string, n int, doc func(int) bson.D) {
	w.t.Helper()
	var docs []any
	for i := range n {
		docs = append(docs, doc(i))
	}
	_, err := w.db.Collection(collection).InsertMany(w.t.Context(), docs)
	require.NoError(w.t, err)
}

// start starts a worker; end stops it.
func (w *world) start() {
	ctx, stop := context.WithCancel(context.Background())
	w.stop, w.stopped = stop, make(chan error, 1)
	go func() { w.stopped <- worker.Run(ctx, w.cfg, slog.New(slog.NewTextHandler(logs(), nil))) }()
}

func (w *world) end() {
	if w.stop == nil {
		return
	}
	w.stop()
	require.NoError(w.t, <-w.stopped)
	w.stop = nil
}

// run starts a playbook.
func (w *world) run(id, playbook string, in any) client.WorkflowRun {
	w.t.Helper()
	r, err := w.temporal.ExecuteWorkflow(w.t.Context(), client.StartWorkflowOptions{
		ID: id, TaskQueue: workflows.TaskQueue, WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
	}, playbook, in)
	require.NoError(w.t, err)
	return r
}

// backup makes a backup and returns it.
func (w *world) backup() workflows.BackupResult {
	w.t.Helper()
	var r workflows.BackupResult
	require.NoError(w.t, w.run("backup/battwheels", "Backup", workflows.BackupInput{}).Get(w.t.Context(), &r))
	return r
}

// status asks a running playbook; a worker that is just starting is asked again.
func (w *world) status(id string) (workflows.Status, error) {
	var s workflows.Status
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	v, err := w.temporal.QueryWorkflow(ctx, id, "", workflows.QueryStatus)
	if err == nil {
		err = v.Get(&s)
	}
	return s, err
}

// await polls a playbook's status until it is as wanted.
func (w *world) await(id, what string, is func(workflows.Status) bool) workflows.Status {
	w.t.Helper()
	var s workflows.Status
	require.Eventually(w.t, func() bool {
		var err error
		s, err = w.status(id)
		return err == nil && is(s)
	}, time.Minute, 100*time.Millisecond, what)
	return s
}

// asked waits until a playbook asks something that contains text.
func (w *world) asked(id string) workflows.Status {
	w.t.Helper()
	return w.await(id, id+" asks nothing", func(s workflows.Status) bool { return s.Asked != "" })
}

// says sends an Update.
func (w *world) says(id, door string, a workflows.Answer) error {
	w.t.Helper()
	a.By, a.Reason = "Asha", "checked"
	h, err := w.temporal.UpdateWorkflow(w.t.Context(), client.UpdateWorkflowOptions{
		WorkflowID: id, UpdateName: door, Args: []any{a}, WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	if err != nil {
		return err
	}
	return h.Get(w.t.Context(), nil)
}

// content is every document of the database, by collection and _id, as raw bytes.
func (w *world) content() map[string]string {
	w.t.Helper()
	all := map[string]string{}
	names, err := w.db.ListCollectionNames(w.t.Context(), bson.D{})
	require.NoError(w.t, err)
	for _, name := range names {
		if len(name) > 8 && name[:8] == "runbook." {
			continue
		}
		cursor, err := w.db.Collection(name).Find(w.t.Context(), bson.D{})
		require.NoError(w.t, err)
		for cursor.Next(w.t.Context()) {
			all[name+" "+cursor.Current.Lookup("_id").String()] = string(cursor.Current)
		}
		require.NoError(w.t, cursor.Err())
	}
	return all
}

// reserved lists the collections with a prefix of runbook's own.
func (w *world) reserved(prefix string) []string {
	w.t.Helper()
	names, err := w.db.ListCollectionNames(w.t.Context(), bson.D{})
	require.NoError(w.t, err)
	var out []string
	for _, name := range names {
		if len(name) >= len(prefix) && name[:len(prefix)] == prefix {
			out = append(out, name)
		}
	}
	return out
}

type quiet struct{}

func (quiet) Debug(string, ...any) {}
func (quiet) Info(string, ...any)  {}
func (quiet) Warn(string, ...any)  {}
func (quiet) Error(string, ...any) {}

// logs is where the worker's log goes: to standard error where RUNBOOK_TEST_LOG is set.
func logs() io.Writer {
	if os.Getenv("RUNBOOK_TEST_LOG") != "" {
		return os.Stderr
	}
	return io.Discard
}
