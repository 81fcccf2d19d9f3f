package restore

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/mongotest"
)

func TestLease(t *testing.T) {
	offline := Holder{Owner: "offline host:1", Run: "r9", Purpose: "by hand"}

	onServers(t, func(t *testing.T, db *mongo.Database, _ *mongotest.Server) {
		ctx := t.Context()
		first := acquire(t, db, "r1")
		require.Positive(t, first.Token)
		require.NoError(t, first.Check(ctx))

		again := acquire(t, db, "r1")
		require.Equal(t, first.Token, again.Token, "the same run gets the lease that it has")

		_, err := Acquire(ctx, db, offline, false)
		var taken *LeaseHeldError
		require.ErrorAs(t, err, &taken)
		require.Equal(t, "restore/battwheels", taken.Owner)
		require.Contains(t, err.Error(), "wait until it is done")

		second := acquire(t, db, "r2")
		require.Greater(t, second.Token, first.Token, "a later run of the same owner takes over")
		var lost *LeaseLostError
		require.ErrorAs(t, first.Check(ctx), &lost)
		require.Equal(t, second.Token, lost.Now)
		require.ErrorAs(t, first.Release(ctx), &lost, "a lost lease cannot be given back")
		require.NoError(t, second.Check(ctx))

		byHand, err := Acquire(ctx, db, offline, true)
		require.NoError(t, err)
		require.Greater(t, byHand.Token, second.Token)
		require.ErrorAs(t, second.Check(ctx), &lost)

		require.NoError(t, byHand.Release(ctx))
		require.NoError(t, byHand.Release(ctx), "giving back twice is fine")
		require.ErrorAs(t, byHand.Check(ctx), &lost)
		require.Contains(t, lost.Error(), "given back")

		third := acquire(t, db, "r3")
		require.Greater(t, third.Token, byHand.Token, "tokens go on growing")
		require.NoError(t, Held(db, holder("r3"), third.Token).Check(ctx), "another process of the same run carries on")
		require.NoError(t, third.Release(ctx))
	})
}

// A recovery does not wait for a clean-up, least of all for one that was killed. Nobody else may interrupt it: a roll-back by hand renames what
// it drops.
func TestARestoreTakesTheLeaseFromRetention(t *testing.T) {
	ctx := t.Context()
	db := mongotest.Start(t).Client(t).Database("d")
	retention, err := Acquire(ctx, db, Holder{Owner: RetentionOwner + "battwheels", Run: "today"}, false)
	require.NoError(t, err)
	var held *LeaseHeldError
	_, err = Acquire(ctx, db, Holder{Owner: "offline host:1", Run: "r9"}, false)
	require.ErrorAs(t, err, &held)

	l := acquire(t, db, "r1")
	require.Greater(t, l.Token, retention.Token)
	require.ErrorAs(t, retention.Check(ctx), new(*LeaseLostError), "retention drops nothing any more")
	_, err = Acquire(ctx, db, Holder{Owner: RetentionOwner + "battwheels", Run: "tomorrow"}, false)
	require.ErrorAs(t, err, &held, "and does not take it back")
}

func TestLeaseOfARemovedCollectionIsLost(t *testing.T) {
	db := mongotest.Start(t).Client(t).Database("d")
	l := acquire(t, db, "r1")
	require.NoError(t, db.Drop(t.Context()))
	var lost *LeaseLostError
	require.ErrorAs(t, l.Check(t.Context()), &lost)
	require.Zero(t, lost.Now)
}

func TestLeaseHasOneWinner(t *testing.T) {
	srv := mongotest.Start(t)
	db := srv.Client(t).Database("d")
	const rivals = 8
	var mu sync.Mutex
	var won []Lease
	var wg sync.WaitGroup
	for i := range rivals {
		wg.Go(func() {
			l, err := Acquire(t.Context(), db, Holder{Owner: string(rune('a' + i)), Run: "r"}, false)
			if err != nil {
				_, held := err.(*LeaseHeldError)
				if !held {
					t.Errorf("%v", err)
				}
				return
			}
			mu.Lock()
			defer mu.Unlock()
			won = append(won, l)
		})
	}
	wg.Wait()
	require.Len(t, won, 1)
	require.NoError(t, won[0].Check(t.Context()))
}

func TestLeaseSurvivesLostAnswers(t *testing.T) {
	srv := mongotest.Start(t)
	db := srv.Client(t).Database("d")
	for _, command := range []string{"insert", "findAndModify"} {
		srv.Fail(mongotest.Fault{Command: command, Namespace: "d." + LeaseCollection, Times: 1, Drop: mongotest.DropAfter})
	}
	first := acquire(t, db, "r1")
	second := acquire(t, db, "r2")
	require.Greater(t, second.Token, first.Token)
	require.NoError(t, second.Check(t.Context()))
	n, err := db.Collection(LeaseCollection).CountDocuments(t.Context(), bson.D{})
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
}

func TestLeaseNeedsOwnerAndRun(t *testing.T) {
	db := mongotest.Start(t).Client(t).Database("d")
	_, err := Acquire(t.Context(), db, Holder{Owner: "x"}, false)
	require.ErrorContains(t, err, "run")
	require.Empty(t, reservedNames(t, db))
}
