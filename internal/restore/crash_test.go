package restore

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/mongotest"
)

// killer ends an attempt at its nth command, as kill -9 would: nothing that follows reaches the server.
type killer struct {
	srv    *mongotest.Server
	at     int64
	after  bool // the command still arrives and is carried out
	cancel context.CancelFunc

	seen atomic.Int64
	dead atomic.Bool
}

// commands that say nothing of an attempt's progress.
var background = map[string]bool{"hello": true, "isMaster": true, "endSessions": true, "killCursors": true, "ping": true}

// arm lets the killer count from now on. The returned function ends its work, and says whether the attempt was killed.
func (k *killer) arm(t *testing.T, ctx context.Context) (context.Context, func() bool) {
	t.Helper()
	ctx, k.cancel = context.WithCancel(ctx)
	remove := k.srv.OnCommand(func(_, cmd string, _ bson.Raw) {
		if background[cmd] || k.dead.Load() {
			return
		}
		if k.seen.Add(1) == k.at {
			if !k.after {
				k.dead.Store(true)
			}
			k.cancel()
		}
	})
	fault := k.srv.Fail(mongotest.Fault{Drop: mongotest.DropBefore, Match: func(command bson.Raw) bool {
		elements, err := command.Elements()
		if err != nil || len(elements) == 0 || background[elements[0].Key()] {
			return false
		}
		return k.dead.Load()
	}})
	return ctx, func() bool {
		remove()
		fault.Lift()
		k.cancel()
		return k.seen.Load() >= k.at
	}
}

// crashFixture is a small disaster with everything that moves in it.
func crashFixture(t testing.TB) (list []given, disaster []given) {
	list = []given{
		{name: "customers", documents: people(t, 8, "as it was"), indexes: []bson.Raw{index(t, "n_1", "n", "unique", true)}},
		{name: "invoices", documents: people(t, 3, "invoice")},
		{name: "tokens", indexes: []bson.Raw{index(t, "at_1", "at", "expireAfterSeconds", int32(60))},
			documents: []bson.Raw{doc(t, "_id", int32(1), "at", bson.NewDateTimeFromTime(time.Now().Add(time.Hour)))}},
		{name: "log", options: doc(t, "capped", true, "size", int32(4096)), documents: people(t, 4, "line")},
		{name: "open", kind: backup.TypeView, options: doc(t, "viewOn", "invoices", "pipeline", bson.A{})},
		{name: "was_table", kind: backup.TypeView, options: doc(t, "viewOn", "customers", "pipeline", bson.A{})},
		{name: "was_view", documents: people(t, 2, "table")},
	}
	disaster = []given{
		{name: "customers", documents: people(t, 5, "garbage"), indexes: []bson.Raw{index(t, "name_1", "name")}},
		{name: "log", documents: people(t, 1, "x")},
		{name: "new_since", documents: people(t, 3, "new"), indexes: []bson.Raw{index(t, "n_1", "n", "unique", true)}},
		{name: "open", kind: backup.TypeView, options: doc(t, "viewOn", "elsewhere", "pipeline", bson.A{})},
		{name: "old_view", kind: backup.TypeView, options: doc(t, "viewOn", "customers", "pipeline", bson.A{})},
		{name: "was_table", documents: people(t, 2, "table")},
		{name: "was_view", kind: backup.TypeView, options: doc(t, "viewOn", "customers", "pipeline", bson.A{})},
	}
	return list, disaster
}

// everyCrash runs a test for the nth command of some work being its last, for every n, once with that command lost and
// once with only its answer lost. The test returns whether the work was killed.
//
// connect gives the database through a client of its own, as a process has it that is started anew.
func everyCrash(t *testing.T, test func(t *testing.T, connect func() *mongo.Database, k *killer) bool) {
	srv := mongotest.Start(t)
	for _, after := range []bool{false, true} {
		for n := int64(1); ; n++ {
			killed, ran := false, false
			t.Run(fmt.Sprintf("command %d after %t", n, after), func(t *testing.T) {
				ran = true
				name := fmt.Sprintf("d%d_%t", n, after)
				connect := func() *mongo.Database { return srv.Client(t).Database(name) }
				killed = test(t, connect, &killer{srv: srv, at: n, after: after})
				require.NoError(t, connect().Drop(t.Context()))
			})
			if t.Failed() || !ran {
				return // !ran: this one was not asked for
			}
			if !killed {
				require.Greater(t, n, int64(10), "the work is more than a few commands")
				break
			}
		}
	}
}

// reborn gives an attempt to a new process.
func reborn(t *testing.T, connect func() *mongo.Database, o *StageOptions, so *SwapOptions) {
	t.Helper()
	o.DB = connect()
	o.Lease = acquire(t, o.DB, o.Lease.Run)
	so.DB, so.Lease = o.DB, o.Lease
}

func TestAKilledStagingCarriesOn(t *testing.T) {
	t.Parallel()
	list, disaster := crashFixture(t)
	source := makeBackup(t, list...)
	want := expected(t, mongotest.Start(t).Client(t).Database("d"), list)
	everyCrash(t, func(t *testing.T, connect func() *mongo.Database, k *killer) bool {
		db := connect()
		fill(t, db, disaster...)
		before := stateOf(t, db)
		o, so := attempt(t, db, source, "r1")
		o.Parallel = 2

		ctx, end := k.arm(t, t.Context())
		_, err := Stage(ctx, o)
		if err == nil {
			_, err = Prove(ctx, o)
		}
		killed := end()
		if !killed {
			require.NoError(t, err)
		}
		reborn(t, connect, &o, &so)
		db = o.DB
		require.Equal(t, before, stateOf(t, db), "nothing live is touched")
		stageAndProve(t, o)
		require.Equal(t, before, stateOf(t, db), "nothing live is touched")
		_, err = Swap(t.Context(), so)
		require.NoError(t, err)
		require.Equal(t, want, stateOf(t, db))
		return killed
	})
}

func TestAKilledSwapCarriesOnOrRollsBack(t *testing.T) {
	t.Parallel()
	list, disaster := crashFixture(t)
	source := makeBackup(t, list...)
	want := expected(t, mongotest.Start(t).Client(t).Database("d"), list)
	for _, rollBack := range []bool{false, true} {
		t.Run(fmt.Sprintf("roll back %t", rollBack), func(t *testing.T) {
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
				reborn(t, connect, &o, &so)
				db = o.DB
				if rollBack {
					_, err = RollBack(t.Context(), so)
					require.NoError(t, err)
					require.Equal(t, before, stateOf(t, db))
					return killed
				}
				_, err = Swap(t.Context(), so)
				require.NoError(t, err)
				require.Equal(t, want, stateOf(t, db))
				_, err = RollBack(t.Context(), so)
				require.NoError(t, err)
				require.Equal(t, before, stateOf(t, db))
				return killed
			})
		})
	}
}

func TestAKilledRollBackCarriesOn(t *testing.T) {
	t.Parallel()
	list, disaster := crashFixture(t)
	source := makeBackup(t, list...)
	everyCrash(t, func(t *testing.T, connect func() *mongo.Database, k *killer) bool {
		db := connect()
		fill(t, db, disaster...)
		before := stateOf(t, db)
		o, so := attempt(t, db, source, "r1")
		stageAndProve(t, o)
		_, err := Swap(t.Context(), so)
		require.NoError(t, err)
		// What the application writes meanwhile must survive the roll-back, aside.
		_, err = db.Collection("invoices").InsertOne(t.Context(), bson.D{{Key: "_id", Value: "written after the swap"}})
		require.NoError(t, err)

		ctx, end := k.arm(t, t.Context())
		_, err = RollBack(ctx, so)
		killed := end()
		if !killed {
			require.NoError(t, err)
		}
		reborn(t, connect, &o, &so)
		db = o.DB
		_, err = Swap(t.Context(), so)
		var blocked *BlockedError
		half, lookErr := Unfinished(so.Dir)
		require.NoError(t, lookErr)
		if half {
			require.ErrorAs(t, err, &blocked, "a half-way roll-back is rolled back to its end first")
		}
		_, err = RollBack(t.Context(), so)
		require.NoError(t, err)
		require.Equal(t, before, stateOf(t, db))
		_, err = Unstage(t.Context(), db, o.Lease.Token)
		require.NoError(t, err)
		kept := OldName(db.Name(), "inc1", fmt.Sprintf("placed.%d.invoices", o.Lease.Token))
		n, err := db.Collection(kept).CountDocuments(t.Context(), bson.D{{Key: "_id", Value: "written after the swap"}})
		require.NoError(t, err)
		require.EqualValues(t, 1, n)
		return killed
	})
}

func TestFinishedCollectionsAreNotLoadedAgain(t *testing.T) {
	srv := mongotest.Start(t)
	db := srv.Client(t).Database("d")
	o, _ := attempt(t, db, makeBackup(t, ledger(t)...), "r1")
	o.Parallel = 1

	// The first run dies once the largest collection, which goes first, is whole.
	ctx, cancel := context.WithCancel(t.Context())
	second := StageName("d", o.Lease.Token, "invoices")
	remove := srv.OnCommand(func(_, cmd string, body bson.Raw) {
		if cmd == "insert" && body.Lookup("insert").StringValue() == second {
			cancel()
		}
	})
	_, err := Stage(ctx, o)
	require.ErrorIs(t, err, context.Canceled)
	remove()

	loaded := map[string]int{}
	srv.OnCommand(func(_, cmd string, body bson.Raw) {
		if cmd == "insert" || cmd == "create" {
			loaded[body.Lookup(cmd).StringValue()]++
		}
	})
	_, err = Stage(t.Context(), o)
	require.NoError(t, err)
	require.Zero(t, loaded[StageName("d", o.Lease.Token, "customers")])
	require.NotZero(t, loaded[second])
	_, err = Prove(t.Context(), o)
	require.NoError(t, err)
}

func TestUnstageDropsOnlyItsOwn(t *testing.T) {
	db := mongotest.Start(t).Client(t).Database("d")
	fill(t, db, given{name: "live"}, given{name: "runbook.stage.12.a"}, given{name: "runbook.stage.123.a"}, given{name: "runbook.old.12.a"})
	n, err := Unstage(t.Context(), db, 12)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Equal(t, []string{"runbook.old.12.a", "runbook.stage.123.a"}, reservedNames(t, db))
	n, err = DropOld(t.Context(), db, "12")
	require.NoError(t, err)
	require.Equal(t, 1, n)
	_, err = DropOld(t.Context(), db, "")
	require.Error(t, err)
	require.Contains(t, stateOf(t, db), "live")
}
