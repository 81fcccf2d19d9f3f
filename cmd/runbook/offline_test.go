package main

import (
	"context"
	"io"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/battwheels/runbook/activities"
	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/catalog"
	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/internal/dump"
	"github.com/battwheels/runbook/internal/mongotest"
	"github.com/battwheels/runbook/internal/restore"
)

// A playbook's swap was cut off, Temporal is down, and a person restores offline: what was live before the first swap must
// be in the safety dump, and the journal of that swap must not be rolled back weeks later, on top of newer data.
func TestOfflineRestoreUndoesASwapThatWasCutOff(t *testing.T) {
	srv := mongotest.Start(t)
	client, err := mongo.Connect(options.Client().ApplyURI(srv.URI()).SetAppName(activities.AppName))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Disconnect(context.Background())) })
	db := client.Database("shop")
	ctx := t.Context()
	put := func(collection, id string) {
		_, err := db.Collection(collection).InsertOne(ctx, bson.D{{Key: "_id", Value: id}})
		require.NoError(t, err)
	}
	put("customers", "c1")
	put("invoices", "i1")

	cfg := &config.Config{Storage: config.Storage{Dir: t.TempDir()}}
	target := config.Target{Database: config.Database{Name: "shop"}}
	target.Policy.QuietFor = config.Duration(10 * time.Millisecond)
	cfg.Targets = map[string]config.Target{"shop": target}
	o := offline{Target: target, cfg: cfg, target: "shop", db: db, catalog: catalog.New("shop", cfg)}
	m, err := dump.Run(ctx, db, dump.Options{Root: o.catalog.Root, Name: "20260224T020000Z-manual-aaaaaa", Target: "shop", Kind: backup.Manual})
	require.NoError(t, err)
	put("customers", "new since the backup")

	lease, err := restore.Acquire(ctx, db, restore.Holder{Owner: "restore/shop", Run: "r1"}, false)
	require.NoError(t, err)
	source, err := o.catalog.Source(ctx, m.Name)
	require.NoError(t, err)
	dir := filepath.Join(cfg.Storage.Dir, "incidents", "shop", "inc1", "staging-1")
	stage := restore.StageOptions{DB: db, Source: source, Lease: lease, Dir: dir}
	_, err = restore.Stage(ctx, stage)
	require.NoError(t, err)
	_, err = restore.Prove(ctx, stage)
	require.NoError(t, err)
	dying, kill := context.WithCancel(ctx)
	renames := 0
	remove := srv.OnCommand(func(_, cmd string, _ bson.Raw) {
		if cmd == "renameCollection" {
			if renames++; renames == 3 {
				kill()
			}
		}
	})
	fault := srv.Fail(mongotest.Fault{Command: "renameCollection", Drop: mongotest.DropBefore, Match: func(bson.Raw) bool { return dying.Err() != nil }})
	_, err = restore.Swap(dying, restore.SwapOptions{DB: db, Lease: lease, Incident: "inc1", Dir: dir})
	require.ErrorIs(t, err, context.Canceled)
	remove()
	fault.Lift()

	_, err = o.restore(ctx, restoring{id: m.Name, takeOver: true}, io.Discard)
	require.ErrorContains(t, err, "inc1 was cut off half-way")
	r, err := o.restore(ctx, restoring{id: m.Name, takeOver: true, yes: true}, io.Discard)
	require.NoError(t, err)
	safety, err := o.catalog.Source(ctx, r.SafetyDump)
	require.NoError(t, err)
	require.EqualValues(t, 2, safety.Manifest.Collection("customers").Digest.Documents, "what was live before the first swap")
	halves, err := restore.HalfSwaps(filepath.Join(cfg.Storage.Dir, "incidents", "shop"))
	require.NoError(t, err)
	require.Empty(t, halves)
}
