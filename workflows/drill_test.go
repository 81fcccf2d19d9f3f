package workflows

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/battwheels/runbook/activities"
	"github.com/battwheels/runbook/internal/backup"
	backups "github.com/battwheels/runbook/internal/catalog"
	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/internal/dump"
	"github.com/battwheels/runbook/internal/mongotest"
)

// drilling is a target with one proven backup on a server of its own, and a drill with its real steps. Only the configuration and
// the mails are not real.
type drilling struct {
	*testsuite.TestWorkflowEnvironment
	server  *mongotest.Server
	client  *mongo.Client
	catalog *backups.Catalog
	storage string
	told    []activities.TellInput
}

const scratchName = "runbook_drill_shop"

// newDrilling makes a target whose database is filled by fill, with one backup of it that is verified.
func newDrilling(t *testing.T, fill func(*mongo.Database)) *drilling {
	t.Helper()
	ctx := t.Context()
	srv := mongotest.Start(t)
	d := &drilling{server: srv, client: srv.Client(t), storage: t.TempDir()}
	db := d.client.Database("shop")
	_, err := db.Collection("invoices").InsertMany(ctx, []any{bson.D{{Key: "_id", Value: 1}, {Key: "n", Value: 1}}, bson.D{{Key: "_id", Value: 2}, {Key: "n", Value: 2}}})
	require.NoError(t, err)
	if fill != nil {
		fill(db)
	}
	target := config.Target{Database: config.Database{Name: "shop"}, Verify: config.Verify{KeyCounts: []string{"collections", "invoices"}}}
	target.Backup = config.Backup{Compression: "gzip", Level: 1, Parallel: 2, MemoryMB: 48, ReadPreference: "primary"}
	cfg := &config.Config{Storage: config.Storage{Dir: d.storage}, Targets: map[string]config.Target{"shop": target}}
	d.catalog = backups.New("shop", cfg)
	o := activities.DumpOptions(target.Backup, backup.Scheduled)
	o.Root, o.Name, o.Target = d.catalog.Root, "20260224T020000Z-scheduled-3f9a2c", "shop"
	m, err := dump.Run(ctx, db, o)
	require.NoError(t, err)
	_, _, err = d.catalog.Verify(ctx, m.Name, nil)
	require.NoError(t, err)

	var suite testsuite.WorkflowTestSuite
	d.TestWorkflowEnvironment = suite.NewTestWorkflowEnvironment()
	d.SetTestTimeout(20 * time.Second)
	d.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: DrillID("shop"), TaskQueue: TaskQueue})
	d.RegisterWorkflowWithOptions(RestoreDrill, workflow.RegisterOptions{Name: "RestoreDrill"})
	base := activities.Base{Config: cfg, Databases: func(string) (*mongo.Database, error) { return db, nil }}
	d.RegisterActivity(&activities.Target{Base: base})
	d.RegisterActivity(&activities.Catalog{Base: base})
	d.RegisterActivity(&activities.Drill{Base: base})
	d.RegisterActivity(&activities.Mail{Base: base})
	d.OnActivity(targets.LoadTarget, mock.Anything, mock.Anything).Return(
		activities.Snapshot{Target: "shop", Database: "shop", HostQueue: "here", OnCall: true, RTO: 2 * time.Hour}, nil)
	d.OnActivity(mails.TellPeople, mock.Anything, mock.Anything).Return(func(_ context.Context, in activities.TellInput) error {
		d.told = append(d.told, in)
		return nil
	})
	return d
}

func (d *drilling) drill(t *testing.T) (activities.DrillRecord, error) {
	t.Helper()
	d.ExecuteWorkflow(RestoreDrill, DrillInput{})
	require.True(t, d.IsWorkflowCompleted())
	if err := d.GetWorkflowError(); err != nil {
		return activities.DrillRecord{}, err
	}
	var r activities.DrillRecord
	require.NoError(t, d.GetWorkflowResult(&r))
	return r, nil
}

// gone asserts that no scratch is left, and that the live database is as it was.
func (d *drilling) gone(t *testing.T) {
	t.Helper()
	names, err := d.client.Database(scratchName).ListCollectionNames(t.Context(), bson.D{})
	require.NoError(t, err)
	require.Empty(t, names, "the scratch is gone")
	live, err := d.client.Database("shop").ListCollectionNames(t.Context(), bson.D{{Key: "name", Value: bson.D{{Key: "$regex", Value: "^runbook"}}}})
	require.NoError(t, err)
	require.Empty(t, live, "nothing was staged beside the live data")
	left, err := filepath.Glob(filepath.Join(d.storage, "drills", "shop", "*", "*"))
	require.NoError(t, err)
	require.Empty(t, left, "no working files")
}

func TestADrillProvesAGoodBackup(t *testing.T) {
	d := newDrilling(t, nil)
	r, err := d.drill(t)
	require.NoError(t, err)
	require.True(t, r.Passed, r.Summary)
	require.True(t, r.Dropped)
	require.True(t, r.Within)
	require.EqualValues(t, 2, r.Documents)
	require.Equal(t, []activities.KeyCount{{Name: "collections", Backup: 1, Now: 1}, {Name: "invoices", Backup: 2, Now: 2}}, r.KeyCounts)
	var phases []string
	for _, p := range r.Phases {
		phases = append(phases, p.Name)
	}
	require.Equal(t, []string{"claim", "choose", "check", "load", "indexes", "prove", "drop"}, phases)
	require.Empty(t, d.told)
	d.gone(t)
	kept, err := os.ReadFile(filepath.Join(d.storage, "drills", "shop", r.ID+".json"))
	require.NoError(t, err)
	require.Contains(t, string(kept), `"passed": true`)
	entries, err := d.catalog.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, backups.Restored, entries[0].State, "the catalog says that it was restored")
}

func TestADrillOfAFlippedByteNamesTheFile(t *testing.T) {
	d := newDrilling(t, nil)
	path := filepath.Join(d.catalog.Root, "20260224T020000Z-scheduled-3f9a2c", "shop", "invoices.bson.gz")
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	b[len(b)/2] ^= 1
	require.NoError(t, os.WriteFile(path, b, 0o600))
	r, err := d.drill(t)
	require.NoError(t, err)
	require.False(t, r.Passed)
	require.Equal(t, activities.CorruptBackup, r.FoundType)
	require.Contains(t, r.Found, "invoices.bson.gz")
	require.Len(t, d.told, 1)
	require.Equal(t, "RestoreDrill", d.told[0].Findings.By)
	require.Contains(t, d.told[0].Findings.Problems[0].Text, "invoices.bson.gz")
	d.gone(t)
}

func TestADrillNamesTheIndexThatCannotBeBuilt(t *testing.T) {

	d := newDrilling(t, func(db *mongo.Database) {

		_, err := db.Collection("invoices").Indexes().CreateOne(t.Context(), mongo.IndexModel{
			Keys: bson.D{{Key: "n", Value: 1}}, Options: options.Index().SetName("once").SetUnique(true),
		})
		require.NoError(t, err)
	})
	d.server.Fail(mongotest.Fault{Command: "createIndexes", Namespace: scratchName, Error: &mongotest.Error{Code: 11000, Message: "E11000 duplicate key error"}})
	r, err := d.drill(t)
	require.NoError(t, err)

	require.False(t, r.Passed)
	require.Equal(t, activities.IndexRefused, r.FoundType)
	require.Contains(t, r.Found, `index "once" of collection "invoices"`)
	require.Len(t, d.told, 1)
	d.gone(t)
}

func TestADrillLeavesAForeignDatabaseOfThatNameAlone(t *testing.T) {
	d := newDrilling(t, nil)
	foreign := d.client.Database(scratchName).Collection("precious")
	_, err := foreign.InsertOne(t.Context(), bson.D{{Key: "_id", Value: 1}})
	require.NoError(t, err)
	_, err = d.drill(t)
	app, ok := errors.AsType[*temporal.ApplicationError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, activities.ScratchTaken, app.Type())
	require.Contains(t, app.Message(), "precious")
	require.Len(t, d.told, 1, "somebody must give it another name")
	n, err := foreign.CountDocuments(t.Context(), bson.D{})
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
}

func TestADrillDropsWhatAKilledOneLeft(t *testing.T) {
	d := newDrilling(t, nil)
	scratch := d.client.Database(scratchName)
	_, err := scratch.Collection("runbook.scratch").InsertOne(t.Context(), bson.D{{Key: "_id", Value: "scratch"}, {Key: "owner", Value: "drill/shop"}, {Key: "run", Value: "killed"}})
	require.NoError(t, err)
	_, err = scratch.Collection("invoices").InsertOne(t.Context(), bson.D{{Key: "_id", Value: 99}})
	require.NoError(t, err)
	r, err := d.drill(t)
	require.NoError(t, err)
	require.True(t, r.Passed, r.Summary)
	d.gone(t)
}

func TestACancelledDrillDropsItsScratch(t *testing.T) {
	d := newDrilling(t, nil)
	// The cancellation arrives as soon as something has been loaded.
	remove := d.server.OnCommand(func(db, command string, _ bson.Raw) {
		if db == scratchName && command == "listIndexes" {
			d.CancelWorkflow()
		}
	})
	defer remove()
	_, err := d.drill(t)
	require.True(t, temporal.IsCanceledError(err), "%v", err)
	require.Empty(t, d.told)
	d.gone(t)
}

func TestADrillTypedUnderAnotherIDRunsAsTheTargetsOwn(t *testing.T) {
	d := newDrilling(t, nil)
	d.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: "typed-by-hand", TaskQueue: TaskQueue})
	r, err := d.drill(t)
	require.NoError(t, err)
	require.True(t, r.Passed)
	d.gone(t)
}

func TestADrillIsTriedAgainOnlyWhereThatMayHelp(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		says string
		kind string
		once bool
	}{
		"the proof fails":    {temporal.NewNonRetryableApplicationError("it differs", activities.ProofFailed, nil), "it differs", activities.ProofFailed, true},
		"the server is away": {errors.New("connection refused"), "connection refused", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDrilling(t, nil)
			calls := 0
			d.OnActivity(drills.ProveScratch, mock.Anything, mock.Anything).Return(func(context.Context, activities.DrillAttempt) (activities.Verified, error) {
				calls++
				return activities.Verified{}, c.err
			})
			r, err := d.drill(t)
			require.NoError(t, err)
			require.False(t, r.Passed)
			require.True(t, r.Dropped)
			require.Contains(t, r.Found, c.says)
			require.Equal(t, c.kind != "", r.FoundType == c.kind && c.kind != "")
			require.Equal(t, c.once, calls == 1, "%d tries", calls)
			require.Len(t, d.told, 1)
			d.gone(t)
		})
	}
}
