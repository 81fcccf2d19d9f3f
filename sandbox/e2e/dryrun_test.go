package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/activities"
	"github.com/battwheels/runbook/internal/alert"
	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/internal/mongotest"
	"github.com/battwheels/runbook/sandbox/bucket"
	"github.com/battwheels/runbook/worker"
	"github.com/battwheels/runbook/workflows"
)

const simulating = "dry-run/battwheels"

// application is one whose control writes down what it was asked.
func application(t *testing.T) (adjust func(*config.Config), asked func() []string) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "asked")
	healthy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"status":"healthy"}`)) }))
	t.Cleanup(healthy.Close)
	verb := func(name string) []string { return []string{"/bin/sh", "-c", "echo " + name + " >> " + log} }
	adjust = func(c *config.Config) {
		target := c.Targets["battwheels"]
		target.Application = config.Application{
			Command: &config.Command{Stop: verb("stop"), Start: verb("start"), State: verb("state")},
			Health:  &config.Health{URL: healthy.URL, Expect: map[string]string{"status": "healthy"}},
		}
		target.Alerts = []string{"Corrupt"}
		c.Targets["battwheels"] = target
	}
	return adjust, func() []string {
		b, err := os.ReadFile(log)
		if os.IsNotExist(err) {
			return nil
		}
		require.NoError(t, err)
		return strings.Fields(string(b))
	}
}

// everything is all that a dry run must leave as it is: documents, names and indexes in the database, and every file of storage that
// is not a dry run's own.
func (w *world) everything() map[string]string {
	w.t.Helper()
	all := w.content()
	names, err := w.db.ListCollectionNames(w.t.Context(), bson.D{})
	require.NoError(w.t, err)
	for _, name := range names {
		cursor, err := w.db.Collection(name).Indexes().List(w.t.Context())
		require.NoError(w.t, err)
		var specs []bson.Raw
		require.NoError(w.t, cursor.All(w.t.Context(), &specs))
		for _, s := range specs {
			all["index "+name+" "+s.Lookup("name").StringValue()] = s.String()
		}
	}
	require.NoError(w.t, filepath.WalkDir(w.storage, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(w.storage, path)
		if err != nil || strings.HasPrefix(rel, "dry-runs") || rel == "." {
			return err
		}
		if d.IsDir() {
			all["directory "+rel] = ""
			return nil
		}
		b, err := os.ReadFile(path)
		sum := sha256.Sum256(b)
		all["file "+rel] = hex.EncodeToString(sum[:])
		return err
	}))
	return all
}

// changes collects the commands, from now on, that could change something on the server.
func (w *world) changes() func() []string {
	if w.server == nil {
		return func() []string { return nil }
	}
	reads := []string{"find", "getMore", "killCursors", "aggregate", "count", "listCollections", "listIndexes", "listDatabases", "dbStats", "collStats",
		"hello", "isMaster", "ping", "buildInfo", "connectionStatus", "endSessions", "getParameter"}
	var mu sync.Mutex
	var seen []string
	w.t.Cleanup(w.server.OnCommand(func(db, command string, _ bson.Raw) {
		if slices.Contains(reads, command) {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, db+" "+command)
	}))
	return func() []string { mu.Lock(); defer mu.Unlock(); return slices.Clone(seen) }
}

// damage changes what a plan would count: 400 changed, 300 gone with their collection, one new.
func (w *world) damage() {
	w.t.Helper()
	ctx := w.t.Context()
	_, err := w.db.Collection("invoices").UpdateMany(ctx, bson.D{{Key: "number", Value: bson.D{{Key: "$lt", Value: 400}}}},
		bson.D{{Key: "$set", Value: bson.D{{Key: "text", Value: "garbage"}}}})
	require.NoError(w.t, err)
	require.NoError(w.t, w.db.Collection("items").Drop(ctx))
	w.insert("tickets", 1, func(int) bson.D { return bson.D{{Key: "_id", Value: "new"}, {Key: "organization_id", Value: "org_04"}} })
}

// simulated is a dry run's result, of whichever playbook.
type simulated struct {
	Outcome    workflows.Outcome
	Summary    string
	Simulation *workflows.Simulation
}

func check(t *testing.T, s *workflows.Simulation, name string) activities.Check {
	t.Helper()
	i := slices.IndexFunc(s.Checks, func(c activities.Check) bool { return c.Name == name })
	require.GreaterOrEqual(t, i, 0, "no check %q in %v", name, s.Checks)
	return s.Checks[i]
}

// TestADryRunOfEachPlaybookChangesNothing runs each one against the real database, with an application and a bucket: every byte of the
// database and of storage, the application and the mailbox are as before, and the server was asked nothing that could change it. The
// plan counts what the damage did.
func TestADryRunOfEachPlaybookChangesNothing(t *testing.T) {
	s3, err := bucket.Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s3.Stop()) })
	for _, e := range s3.Environment() {
		name, value, _ := strings.Cut(e, "=")
		t.Setenv(name, value)
	}
	controlled, asked := application(t)
	w := newWorld(t, controlled, func(c *config.Config) {
		c.Storage.Offsite.URL = s3.URL()
		target := c.Targets["battwheels"]
		target.PodLoss.Support = []string{support}
		c.Targets["battwheels"] = target
	})
	b := w.backup()
	w.damage()
	before, changed, mails := w.everything(), w.changes(), len(w.mail.Mails())
	for playbook, in := range map[string]any{
		"DatabaseCorruption": workflows.CorruptionInput{DryRun: true},
		"Restore":            workflows.RestoreInput{DryRun: true},
		"PodLoss":            workflows.PodLossInput{DryRun: true},
		"Backup":             workflows.BackupInput{DryRun: true},
	} {
		t.Run(playbook, func(t *testing.T) {
			run, err := (&worker.Starter{Client: w.temporal, Config: w.cfg}).Start(t.Context(), playbook, "battwheels", in)
			require.NoError(t, err)
			require.Equal(t, simulating, run.GetID())
			var r simulated
			require.NoError(t, run.Get(t.Context(), &r))
			require.Equal(t, before, w.everything())
			require.Empty(t, changed())
			require.Len(t, w.mail.Mails(), mails)
			require.NotContains(t, asked(), "stop")
			require.NotContains(t, asked(), "start")
			if playbook == "Backup" {
				require.True(t, r.Simulation.Ready, "%+v", r.Simulation.Checks)
				require.Contains(t, r.Summary, "2,513 documents in 4 collections would be dumped")
				return
			}
			require.Contains(t, asked(), "state")
			require.Equal(t, workflows.Planned, r.Outcome)
			p := r.Simulation.Plan
			require.Equal(t, b.Backup.ID, p.Backup.ID)
			require.Equal(t, activities.CheckOK, check(t, r.Simulation, "rights").State)
			require.Equal(t, "10 would be told, by 10 mails, as the database has them; all have an address", check(t, r.Simulation, "organizations").Text)
			require.Contains(t, check(t, r.Simulation, "application").Text, "running")
			require.Equal(t, activities.CheckOK, check(t, r.Simulation, "health").State)
			require.True(t, r.Simulation.Ready, "%+v", r.Simulation.Checks)
			require.Contains(t, r.Simulation.Expected.Line(), "never measured: load it beside the live data")
			if playbook == "PodLoss" {
				require.Equal(t, activities.DatabaseWhole, r.Simulation.Observed.State)
				require.EqualValues(t, b.Backup.Documents, p.Radius.Missing)
				require.Contains(t, check(t, r.Simulation, "offsite storage").Text, b.Backup.ID)
				return
			}
			require.EqualValues(t, 300, p.Radius.Missing)
			require.EqualValues(t, 400, p.Radius.Changed)
			require.EqualValues(t, 1, p.Radius.Added)
			require.Equal(t, []string{"items"}, p.ComeBack)
			require.Equal(t, 12, p.TenantsHit)
			require.FileExists(t, r.Simulation.File)
		})
	}
	w.record("corruption-dry-run", simulating, "")
}

// TestAnAlertDuringADryRunStartsARealIncident holds a dry run in the middle of its reading. The alert neither joins it nor waits for it.
func TestAnAlertDuringADryRunStartsARealIncident(t *testing.T) {
	controlled, _ := application(t)
	w := newWorld(t, controlled)
	if w.server == nil {
		t.Skip("a real server cannot be told to hold an answer")
	}
	w.backup()
	w.damage()
	held := make(chan struct{})
	fault := w.server.Fail(mongotest.Fault{Command: "find", Namespace: w.db.Name() + ".invoices", Times: 1, Hold: held})
	run := w.run(simulating, "DatabaseCorruption", workflows.CorruptionInput{DryRun: true})
	require.Eventually(t, func() bool { return fault.Struck() == 1 }, time.Minute, 20*time.Millisecond)

	// It does not say since when: this backup was finished in the very second of the damage.
	id, err := (&worker.Starter{Client: w.temporal, Config: w.cfg}).StartIncident(t.Context(), alert.Alert{Target: "battwheels", Name: "Corrupt"})
	require.NoError(t, err)
	require.Equal(t, incident, id)
	s := w.await(incident, "no plan", func(s workflows.Status) bool { return s.Plan != nil && s.Asked != "" })
	require.NotEqual(t, activities.SimulatedCode, s.Plan.Code)
	require.EqualValues(t, 400, s.Plan.Radius.Changed)
	close(held)
	var r simulated
	require.NoError(t, run.Get(t.Context(), &r))
	require.Equal(t, workflows.Planned, r.Outcome)
	require.EqualValues(t, 400, r.Simulation.Plan.Radius.Changed, "what the incident has staged meanwhile is not counted")
	require.Equal(t, activities.CheckProblem, check(t, r.Simulation, "lease").State, "the real one holds it")
	require.NoError(t, w.says(incident, workflows.DoorReject, workflows.Answer{}))
}
