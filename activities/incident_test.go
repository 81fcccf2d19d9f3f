package activities

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.temporal.io/sdk/testsuite"

	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/internal/mongotest"
)

// shop is a target on a server of its own.
func shop(t *testing.T) (Base, *mongo.Database, *mongotest.Server) {
	t.Helper()
	srv := mongotest.Start(t)
	db := srv.Client(t).Database("shop")
	_, err := db.Collection("customers").InsertOne(t.Context(), bson.D{{Key: "_id", Value: "c1"}})
	require.NoError(t, err)
	target := config.Target{Database: config.Database{Name: "shop"}}
	target.Backup.Retention = config.Duration(24 * time.Hour)
	target.Policy.KeepOld = config.Duration(time.Nanosecond)
	cfg := &config.Config{Storage: config.Storage{Dir: t.TempDir()}, Targets: map[string]config.Target{"shop": target}}
	return Base{Config: cfg, Databases: func(string) (*mongo.Database, error) { return db, nil }}, db, srv
}

func perform(t *testing.T, activity, in, out any) {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivity(activity)
	result, err := env.ExecuteActivity(activity, in)
	require.NoError(t, err)
	require.NoError(t, result.Get(out))
}

// The playbook of an incident may end while its restore was terminated in the middle of the swap: then what it set aside
// is all that there is.
func TestRetentionKeepsWhatAHalfMadeSwapSetAside(t *testing.T) {
	b, db, _ := shop(t)
	ctx := t.Context()
	const old = "runbook.old.inc1.customers"
	require.NoError(t, db.Client().Database("admin").RunCommand(ctx, bson.D{
		{Key: "renameCollection", Value: "shop.customers"}, {Key: "to", Value: "shop." + old}}).Err())
	records := &Incident{Base: b}
	require.NoError(t, records.OpenIncident(ctx, OpenInput{Target: "shop", Incident: "inc1"}))
	require.NoError(t, records.CloseIncident(ctx, CloseInput{Target: "shop", Incident: "inc1", Outcome: "gave up"}))
	dir := filepath.Join(b.Config.Storage.Dir, "incidents", "shop", "inc1", "staging-7")
	require.NoError(t, os.MkdirAll(dir, 0o700))
	journal := filepath.Join(dir, "swap.json")
	for state, kept := range map[string]bool{"swapping": true, "rolling back": true} {
		require.NoError(t, os.WriteFile(journal, []byte(`{"state":"`+state+`","incident":"inc1"}`), 0o600))
		var r Retention
		perform(t, (&Catalog{Base: b}).ApplyRetention, "shop", &r)
		names, err := db.ListCollectionNames(ctx, bson.D{{Key: "name", Value: old}})
		require.NoError(t, err)
		require.Equal(t, kept, len(names) == 1, state)
	}
	require.NoError(t, os.WriteFile(journal, []byte(`{"state":"swapped","incident":"inc1"}`), 0o600))
	var r Retention
	perform(t, (&Catalog{Base: b}).ApplyRetention, "shop", &r)
	require.Equal(t, []string{"inc1"}, r.OldDropped)
}

// Who rolls back days after the incident was closed sets aside what people had worked with until then: its keep time begins
// with the roll-back.
func TestRetentionKeepsWhatALateRollBackSetAside(t *testing.T) {
	b, db, _ := shop(t)
	target := b.Config.Targets["shop"]
	target.Policy.KeepOld = config.Duration(time.Hour)
	b.Config.Targets["shop"] = target
	const old = "runbook.old.inc1.placed.7.customers"
	require.NoError(t, db.Client().Database("admin").RunCommand(t.Context(), bson.D{
		{Key: "renameCollection", Value: "shop.customers"}, {Key: "to", Value: "shop." + old}}).Err())
	dir := filepath.Join(b.Config.Storage.Dir, "incidents", "shop", "inc1")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "staging-7"), 0o700))
	long := time.Now().Add(-2 * time.Hour).UTC().Format(time.RFC3339)
	require.NoError(t, os.WriteFile(filepath.Join(dir, closedFile), []byte(`{"closedAt":"`+long+`"}`), 0o600))
	for _, x := range []struct {
		rolledBack string
		dropped    []string
	}{
		{time.Now().UTC().Format(time.RFC3339), nil}, {long, []string{"inc1"}},
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "staging-7", "swap.json"),
			[]byte(`{"state":"rolled back","incident":"inc1","endedAt":"`+x.rolledBack+`"}`), 0o600))
		var r Retention
		perform(t, (&Catalog{Base: b}).ApplyRetention, "shop", &r)
		require.Equal(t, x.dropped, r.OldDropped)
	}
}

func TestABackupDuringWhichAnIncidentWasOpenedIsMarked(t *testing.T) {
	b, _, srv := shop(t)
	opened := false
	srv.OnCommand(func(_, cmd string, body bson.Raw) {
		if cmd == "find" && body.Lookup("find").StringValue() == "customers" && !opened {
			opened = true
			if err := (&Incident{Base: b}).OpenIncident(context.Background(), OpenInput{Target: "shop", Incident: "inc1"}); err != nil {
				t.Errorf("%v", err)
			}
		}
	})
	var ref BackupRef
	perform(t, (&Data{Base: b}).DumpDatabase, DumpInput{Target: "shop", Name: "20260224T020000Z-scheduled-aaaaaa", Kind: "scheduled"}, &ref)
	require.True(t, opened)
	entries, err := b.catalog("shop").List(t.Context())
	require.NoError(t, err)
	require.Len(t, entries, 1)
	require.Equal(t, "inc1", entries[0].DuringIncident)
}

// A restore that a person started without an incident freezes nothing; still it must keep what it restores.
func TestRetentionKeepsTheBackupThatIsBeingRestored(t *testing.T) {
	b, _, _ := shop(t)
	d, c := &Data{Base: b}, &Catalog{Base: b}
	const old, fresh = "20260224T020000Z-manual-aaaaaa", "20260225T020000Z-manual-bbbbbb"
	for _, name := range []string{old, fresh} {
		var ref BackupRef
		perform(t, d.DumpDatabase, DumpInput{Target: "shop", Name: name, Kind: "manual"}, &ref)
		perform(t, c.CheckBackup, CheckInput{Attempt: Attempt{Target: "shop"}, ID: name}, &ref)
	}
	at := Attempt{Target: "shop", Incident: "inc1", Run: "r1", Backup: old}
	perform(t, d.AcquireLease, LeaseInput{Attempt: at}, &at.Token)
	var staged Staged
	perform(t, d.StageBackup, at, &staged)
	c.Config.Targets["shop"] = later(c.Config.Targets["shop"])
	var r Retention
	perform(t, c.ApplyRetention, "shop", &r)
	require.NotContains(t, r.Deleted, old)
	require.NoError(t, d.ReleaseLease(t.Context(), at))
	perform(t, c.ApplyRetention, "shop", &r)
	require.Contains(t, r.Deleted, old)
}

// later lets every backup be too old.
func later(t config.Target) config.Target {
	t.Backup.Retention = config.Duration(time.Nanosecond)
	return t
}
