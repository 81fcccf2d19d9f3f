package restore

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/mongotest"
)

func TestAnOldAttemptCannotReachTheLiveDatabase(t *testing.T) {
	list, disaster := crashFixture(t)
	source := makeBackup(t, list...)
	setup := func(t *testing.T) (*mongotest.Server, *mongo.Database, StageOptions, SwapOptions) {
		srv := mongotest.Start(t)
		db := srv.Client(t).Database("d")
		fill(t, db, disaster...)
		o, so := attempt(t, db, source, "old")
		stageAndProve(t, o)
		return srv, db, o, so
	}

	t.Run("a new attempt makes its swap fail", func(t *testing.T) {
		_, db, o, so := setup(t)
		before := stateOf(t, db)
		fresh, freshSwap := attempt(t, db, source, "new")
		var lost *LeaseLostError
		for name, step := range map[string]func() error{
			"Stage":    func() error { _, err := Stage(t.Context(), o); return err },
			"Prove":    func() error { _, err := Prove(t.Context(), o); return err },
			"Swap":     func() error { _, err := Swap(t.Context(), so); return err },
			"RollBack": func() error { _, err := RollBack(t.Context(), so); return err },
		} {
			require.ErrorAs(t, step(), &lost, name)
		}
		require.Equal(t, before, stateOf(t, db))
		stageAndProve(t, fresh)
		require.NotContains(t, reservedNames(t, db), StageName("d", o.Lease.Token, "customers"), "what the old one staged is gone")
		_, err := Swap(t.Context(), freshSwap)
		require.NoError(t, err)
	})

	t.Run("taken over in the middle of a swap, it makes no further rename", func(t *testing.T) {
		srv, _, _, so := setup(t)
		renames := 0
		srv.OnCommand(func(_, cmd string, _ bson.Raw) {
			if cmd == "renameCollection" {
				renames++
			}
		})
		// The lease is looked at before each change: one of the looks finds a successor.
		looks := 0
		srv.OnCommand(func(_, cmd string, body bson.Raw) {
			if cmd != "find" || body.Lookup("find").StringValue() != LeaseCollection {
				return
			}
			if looks++; looks == 6 {
				other := srv.Client(t).Database("d")
				if _, err := Acquire(t.Context(), other, holder("new"), false); err != nil {
					t.Errorf("%v", err)
				}
			}
		})
		_, err := Swap(t.Context(), so)
		var lost *LeaseLostError
		require.ErrorAs(t, err, &lost)
		require.LessOrEqual(t, renames, 2)
	})

	t.Run("it cannot put its copy in place once its staging is gone", func(t *testing.T) {
		_, db, _, so := setup(t)
		before := stateOf(t, db)
		_, err := Unstage(t.Context(), db, so.Lease.Token)
		require.NoError(t, err)
		_, err = Swap(t.Context(), so)
		var missing *MissingError
		require.ErrorAs(t, err, &missing)
		require.Equal(t, before, stateOf(t, db))
	})
}

func TestAReplacedStagingIsNotPutInPlace(t *testing.T) {
	db := mongotest.Start(t).Client(t).Database("d")
	o, so := attempt(t, db, makeBackup(t, ledger(t)...), "r1")
	stageAndProve(t, o)
	forged := StageName("d", o.Lease.Token, "customers")
	require.NoError(t, db.Collection(forged).Drop(t.Context()))
	fill(t, db, given{name: forged, documents: people(t, 1, "forged")})
	_, err := Swap(t.Context(), so)
	require.ErrorContains(t, err, "is not the copy that was proven")
	_, err = RollBack(t.Context(), so)
	require.NoError(t, err)
	require.Empty(t, stateOf(t, db))
}

func TestAWriterDuringTheSwapIsCaughtAndNothingOfItIsLost(t *testing.T) {
	list, disaster := crashFixture(t)
	srv := mongotest.Start(t)
	db := srv.Client(t).Database("d")
	other := srv.Client(t).Database("d")
	fill(t, db, disaster...)
	before := stateOf(t, db)
	o, so := attempt(t, db, makeBackup(t, list...), "r1")
	stageAndProve(t, o)
	wrote := false
	remove := srv.OnCommand(func(_, cmd string, body bson.Raw) {
		if cmd == "renameCollection" && body.Lookup("to").StringValue() == "d.customers" && !wrote {
			wrote = true
			if _, err := other.Collection("customers").InsertOne(context.Background(), bson.D{{Key: "_id", Value: "late"}}); err != nil {
				t.Errorf("%v", err)
			}
		}
	})
	_, err := Swap(t.Context(), so)
	remove()
	var appeared *LiveReappearedError
	require.ErrorAs(t, err, &appeared)
	require.Equal(t, "customers", appeared.Collection)
	_, err = Swap(t.Context(), so)
	require.ErrorAs(t, err, &appeared, "trying again does not make it go away")

	_, err = RollBack(t.Context(), so)
	require.NoError(t, err)
	require.Equal(t, before, stateOf(t, db))
	spare := OldName("d", "inc1", fmt.Sprintf("appeared.%d.customers", o.Lease.Token))
	n, err := db.Collection(spare).CountDocuments(t.Context(), bson.D{{Key: "_id", Value: "late"}})
	require.NoError(t, err)
	require.EqualValues(t, 1, n, "what the writer wrote is kept")
}

func TestASecondSwapOfTheSameIncidentDoesNotOverwriteTheFirst(t *testing.T) {
	list, disaster := crashFixture(t)
	db := mongotest.Start(t).Client(t).Database("d")
	fill(t, db, disaster...)
	before := stateOf(t, db)
	source := makeBackup(t, list...)
	o, so := attempt(t, db, source, "r1")
	stageAndProve(t, o)
	_, err := Swap(t.Context(), so)
	require.NoError(t, err)
	swapped := stateOf(t, db)

	second, secondSwap := attempt(t, db, source, "r2")
	stageAndProve(t, second)
	_, err = Swap(t.Context(), secondSwap)
	var blocked *BlockedError
	require.ErrorAs(t, err, &blocked)
	require.Equal(t, swapped, stateOf(t, db))

	// The journal of the first attempt is still the way back, for whoever holds the lease.
	so.Lease = secondSwap.Lease
	_, err = Swap(t.Context(), so)
	require.ErrorAs(t, err, &blocked)
	_, err = RollBack(t.Context(), so)
	require.NoError(t, err)
	require.Equal(t, before, stateOf(t, db))
	_, err = Swap(t.Context(), secondSwap)
	require.NoError(t, err)
	require.Equal(t, swapped, stateOf(t, db))
}

func TestASuccessorUndoesWhatAKilledSwapLeftHalfDone(t *testing.T) {
	t.Parallel()
	list, disaster := crashFixture(t)
	source := makeBackup(t, list...)
	want := expected(t, mongotest.Start(t).Client(t).Database("d"), list)
	everyCrash(t, func(t *testing.T, connect func() *mongo.Database, k *killer) bool {
		db := connect()
		fill(t, db, disaster...)
		before := stateOf(t, db)
		o, so := attempt(t, db, source, "r1")
		stageAndProve(t, o)
		ctx, end := k.arm(t, t.Context())
		_, err := Swap(ctx, so)
		killed := end()
		if !killed {
			require.NoError(t, err)
		}
		db = connect()

		second, secondSwap := attempt(t, db, source, "r2")
		stageAndProve(t, second)
		so.DB, so.Lease = db, second.Lease
		_, err = RollBack(t.Context(), so)
		require.NoError(t, err)
		require.Equal(t, before, stateOf(t, db))
		after, err := Unfinished(so.Dir)
		require.NoError(t, err)
		require.False(t, after)
		_, err = Swap(t.Context(), secondSwap)
		require.NoError(t, err)
		require.Equal(t, want, stateOf(t, db))
		return killed
	})
}

// The server may carry out what a killed process has sent only after its successor has looked.
func TestARenameThatArrivesLateIsUndone(t *testing.T) {
	list, disaster := crashFixture(t)
	srv := mongotest.Start(t)
	db := srv.Client(t).Database("d")
	fill(t, db, disaster...)
	before := stateOf(t, db)
	o, so := attempt(t, db, makeBackup(t, list...), "r1")
	stageAndProve(t, o)

	late := make(chan struct{})
	srv.Fail(mongotest.Fault{Command: "renameCollection", Times: 1, Hold: late})
	ctx, kill := context.WithCancel(t.Context())
	remove := srv.OnCommand(func(_, cmd string, _ bson.Raw) {
		if cmd == "renameCollection" {
			kill()
		}
	})
	_, err := Swap(ctx, so)
	require.ErrorIs(t, err, context.Canceled)
	remove()

	watcher := srv.Client(t).Database("d")
	var looks atomic.Int64
	srv.OnCommand(func(_, cmd string, _ bson.Raw) {
		// The successor looks at the beginning, after the views, and to see whether it has arrived: now it believes that
		// nothing was ever renamed.
		if cmd == "listCollections" && looks.Add(1) == 2 {
			close(late)
			for {
				names, err := watcher.ListCollectionNames(context.Background(), bson.D{{Key: "name", Value: "customers"}})
				if err != nil || len(names) == 0 {
					return
				}
			}
		}
	})
	so.DB = srv.Client(t).Database("d")
	so.Lease = Held(so.DB, so.Lease.Holder, so.Lease.Token)
	_, err = RollBack(t.Context(), so)
	require.NoError(t, err)
	require.Equal(t, before, stateOf(t, db))
}
