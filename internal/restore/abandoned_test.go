package restore

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/mongotest"
)

// cutOff swaps until a collection has been placed, and dies then.
func cutOff(t *testing.T, srv *mongotest.Server, so SwapOptions, placed string) {
	t.Helper()
	ctx, kill := context.WithCancel(t.Context())
	defer kill()
	done := false
	remove := srv.OnCommand(func(_, cmd string, body bson.Raw) {
		if cmd != "renameCollection" {
			return
		}
		if done {
			kill()
		}
		done = done || body.Lookup("to").StringValue() == so.DB.Name()+"."+placed
	})
	fault := srv.Fail(mongotest.Fault{Command: "renameCollection", Drop: mongotest.DropBefore, Match: func(bson.Raw) bool { return ctx.Err() != nil }})
	_, err := Swap(ctx, so)
	require.ErrorIs(t, err, context.Canceled)
	remove()
	fault.Lift()
	half, err := Unfinished(so.Dir)
	require.NoError(t, err)
	require.True(t, half)
}

// wherever counts the documents with this _id in all collections of a database.
func wherever(t *testing.T, db *mongo.Database, id string) int64 {
	t.Helper()
	names, err := db.ListCollectionNames(t.Context(), bson.D{{Key: "type", Value: "collection"}})
	require.NoError(t, err)
	var all int64
	for _, name := range names {
		n, err := db.Collection(name).CountDocuments(t.Context(), bson.D{{Key: "_id", Value: id}})
		require.NoError(t, err)
		all += n
	}
	return all
}

// Somebody may start the application on a database whose swap was cut off half-way, and it writes into what was placed.
func TestASuccessorKeepsWhatWasWrittenIntoAHalfMadeSwap(t *testing.T) {
	list, disaster := crashFixture(t)
	srv := mongotest.Start(t)
	db := srv.Client(t).Database("d")
	fill(t, db, disaster...)
	before := stateOf(t, db)
	source := makeBackup(t, list...)
	o, so := attempt(t, db, source, "r1")
	stageAndProve(t, o)
	cutOff(t, srv, so, "customers")
	_, err := db.Collection("customers").InsertOne(t.Context(), bson.D{{Key: "_id", Value: "written since"}, {Key: "n", Value: 77}})
	require.NoError(t, err)

	second, _ := attempt(t, db, source, "r2")
	so.Lease = second.Lease
	_, err = RollBack(t.Context(), so)
	require.NoError(t, err)
	require.Equal(t, before, stateOf(t, db))
	stageAndProve(t, second)
	require.EqualValues(t, 1, wherever(t, db, "written since"), "what was written is kept")
}

// Two runs of one attempt have the same lease: a swap that was taken for dead may wake up after it was rolled back.
func TestASwapThatWakesUpAfterItWasRolledBackMakesNoFurtherRename(t *testing.T) {
	list, disaster := crashFixture(t)
	srv := mongotest.Start(t)
	db := srv.Client(t).Database("d")
	fill(t, db, disaster...)
	before := stateOf(t, db)
	o, so := attempt(t, db, makeBackup(t, list...), "r1")
	stageAndProve(t, o)

	asleep, wake := make(chan struct{}), make(chan struct{})
	renamed, held := false, false
	remove := srv.OnCommand(func(_, cmd string, body bson.Raw) {
		renamed = renamed || cmd == "renameCollection"
		if renamed && !held && cmd == "find" && body.Lookup("find").StringValue() == LeaseCollection {
			held = true
			close(asleep)
			<-wake
		}
	})
	ended := make(chan error, 1)
	go func() {
		_, err := Swap(t.Context(), so)
		ended <- err
	}()
	<-asleep
	remove()

	again := so
	again.DB = srv.Client(t).Database("d")
	again.Lease = Held(again.DB, so.Lease.Holder, so.Lease.Token)
	_, err := RollBack(t.Context(), again)
	require.NoError(t, err)
	require.Equal(t, before, stateOf(t, db))

	close(wake)
	var blocked *BlockedError
	require.ErrorAs(t, <-ended, &blocked)
	require.Equal(t, before, stateOf(t, db))
}

func TestRollBackWithoutItsJournalClaimsNothing(t *testing.T) {
	list, disaster := crashFixture(t)
	setup := func(t *testing.T) (*mongotest.Server, *mongo.Database, StageOptions, SwapOptions) {
		srv := mongotest.Start(t)
		db := srv.Client(t).Database("d")
		fill(t, db, disaster...)
		o, so := attempt(t, db, makeBackup(t, list...), "r1")
		stageAndProve(t, o)
		return srv, db, o, so
	}

	t.Run("lost in the middle of the swap", func(t *testing.T) {
		srv, _, _, so := setup(t)
		cutOff(t, srv, so, "customers")
		require.NoError(t, os.RemoveAll(so.Dir))
		_, err := RollBack(t.Context(), so)
		var blocked *BlockedError
		require.ErrorAs(t, err, &blocked)
		require.ErrorContains(t, err, "customers")
	})

	t.Run("before the swap there is none", func(t *testing.T) {
		_, db, _, so := setup(t)
		before := stateOf(t, db)
		_, err := RollBack(t.Context(), so)
		require.NoError(t, err)
		require.Equal(t, before, stateOf(t, db))
	})

	t.Run("what an earlier attempt of the incident set aside is that one's", func(t *testing.T) {
		_, db, o, so := setup(t)
		_, err := Swap(t.Context(), so)
		require.NoError(t, err)
		second, secondSwap := attempt(t, db, o.Source, "r2")
		second.Dir = filepath.Join(filepath.Dir(so.Dir), "staging-2")
		secondSwap.Dir = second.Dir
		stageAndProve(t, second)
		var blocked *BlockedError
		_, err = Swap(t.Context(), secondSwap)
		require.ErrorAs(t, err, &blocked)
		_, err = RollBack(t.Context(), secondSwap)
		require.NoError(t, err)
	})
}

// Before the proof no TTL index stands on the staged copy: nothing that is missing there can have expired.
func TestProveDoesNotTakeAMissingDocumentForExpired(t *testing.T) {
	db := mongotest.Start(t).Client(t).Database("d")
	long := bson.NewDateTimeFromTime(time.Now().Add(-time.Hour))
	source := makeBackup(t, given{name: "orders",
		indexes: []bson.Raw{index(t, "at_1", "at", "expireAfterSeconds", int32(60),
			"partialFilterExpression", bson.D{{Key: "draft", Value: true}})},
		documents: []bson.Raw{doc(t, "_id", "kept for ever", "at", long), doc(t, "_id", "new", "draft", true)},
	})
	o, _ := attempt(t, db, source, "r1")
	s, err := Stage(t.Context(), o)
	require.NoError(t, err)
	_, err = db.Collection(s.Collections[0].Stage).DeleteOne(t.Context(), bson.D{{Key: "_id", Value: "kept for ever"}})
	require.NoError(t, err)
	_, err = Prove(t.Context(), o)
	var wrong *ProofError
	require.ErrorAs(t, err, &wrong)
}

// A swap can be rolled back while all that it set aside is there. Where some of it was dropped, or the database is another
// one, that is said before anything moves.
func TestASwapThatCannotBeUndoneWholeIsRefused(t *testing.T) {
	t.Parallel()
	list, disaster := crashFixture(t)
	srv := mongotest.Start(t)
	db := srv.Client(t).Database("d")
	fill(t, db, disaster...)
	before := stateOf(t, db)
	o, so := attempt(t, db, makeBackup(t, list...), "r1")
	incidents := t.TempDir()
	o.Dir = filepath.Join(incidents, so.Incident, "staging-1")
	so.Dir = o.Dir
	stageAndProve(t, o)
	none, err := StandingSwaps(incidents)
	require.NoError(t, err)
	require.Empty(t, none, "staged is not swapped")
	_, err = Swap(t.Context(), so)
	require.NoError(t, err)

	swaps, err := StandingSwaps(incidents)
	require.NoError(t, err)
	require.Len(t, swaps, 1)
	require.Equal(t, so.Incident, swaps[0].Incident)
	require.False(t, swaps[0].Half)
	require.NoError(t, CanRollBack(t.Context(), db, swaps[0]))
	var blocked *BlockedError
	require.ErrorAs(t, CanRollBack(t.Context(), srv.Client(t).Database("another"), swaps[0]), &blocked)

	_, err = RollBack(t.Context(), so)
	require.NoError(t, err)
	require.Equal(t, before, stateOf(t, db))
	swaps, err = StandingSwaps(incidents)
	require.NoError(t, err)
	require.Empty(t, swaps, "what was rolled back does not stand")
	last, err := LastSwap(filepath.Join(incidents, so.Incident))
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), last, time.Minute)

	o2, so2 := attempt(t, db, o.Source, "r2")
	o2.Dir = filepath.Join(incidents, "second", "staging-2")
	so2.Dir, so2.Incident = o2.Dir, "second"
	stageAndProve(t, o2)
	_, err = Swap(t.Context(), so2)
	require.NoError(t, err)
	swaps, err = StandingSwaps(incidents)
	require.NoError(t, err)
	require.Len(t, swaps, 1)
	_, err = DropOld(t.Context(), db, "second")
	require.NoError(t, err)
	after := stateOf(t, db)
	require.ErrorAs(t, CanRollBack(t.Context(), db, swaps[0]), &blocked)
	require.ErrorContains(t, CanRollBack(t.Context(), db, swaps[0]), "customers")
	require.Equal(t, after, stateOf(t, db))
}
