package restore

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/mongotest"
)

// several is a backup whose first collection takes several batches, sent side by side.
func several(t testing.TB) []given {
	text := strings.Repeat("as it was ", 300)
	return []given{
		{name: "tickets", documents: people(t, 1500, text), indexes: []bson.Raw{index(t, "n_1", "n", "unique", true)}},
		{name: "log", options: doc(t, "capped", true, "size", int32(8<<20)), documents: people(t, 600, text)},
		{name: "customers", documents: people(t, 300, "customer")},
		{name: "invoices", documents: people(t, 200, "invoice"), indexes: []bson.Raw{index(t, "name_1", "name")}},
		{name: "empty"},
	}
}

// A primary steps down while a backup is loaded, in each of the ways in which a client learns of it: every document is
// there once afterwards, whether or not the first try had arrived.
func TestAStepdownLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	list := several(t)
	source := makeBackup(t, list...)
	want := expected(t, mongotest.Start(t).Client(t).Database("d"), list)
	ways := map[string]mongotest.Fault{
		"not primary any more":                {Error: &mongotest.Error{Code: 10107, Message: "not primary"}},
		"stepped down while it worked":        {Error: &mongotest.Error{Code: 189, Message: "primary stepped down"}},
		"its cache is full":                   {Error: &mongotest.Error{Code: 365, Message: "cache full"}},
		"interrupted by the election":         {Error: &mongotest.Error{Code: 11602, Message: "operation was interrupted"}},
		"gone before it arrived":              {Drop: mongotest.DropBefore},
		"gone after it was done":              {Drop: mongotest.DropAfter},
		"done, but not yet by a majority":     {WriteConcern: &mongotest.Error{Code: 64, Message: "waiting for replication timed out"}},
		"done, and the majority stepped down": {WriteConcern: &mongotest.Error{Code: 189, Message: "primary stepped down while waiting for replication"}},
	}
	for name, way := range ways {
		for _, command := range []string{"insert", "create", "createIndexes"} {
			for skip := range 3 {
				if skip > 0 && command != "insert" {
					continue
				}
				t.Run(fmt.Sprintf("%s, %s %d", name, command, skip), func(t *testing.T) {
					t.Parallel()
					srv := mongotest.Start(t, mongotest.WithReplicaSet("rs0"))
					db := srv.Client(t).Database("d")
					o, so := attempt(t, db, source, "r1")
					fault := way
					fault.Command, fault.Skip, fault.Times = command, skip, 3
					armed := srv.Fail(fault)
					stageAndProve(t, o)
					require.NotZero(t, armed.Struck())
					_, err := Swap(t.Context(), so)
					require.NoError(t, err)
					require.Equal(t, want, stateOf(t, db))
				})
			}
		}
	}
}

// A server whose cache is full takes some documents of a batch and refuses others, with an error that passes. Those that it took
// are there already when the batch is sent again.
func TestABatchThatIsTakenInPartIsSentAgain(t *testing.T) {
	list := several(t)
	srv := mongotest.Start(t)
	db := srv.Client(t).Database("d")
	want := expected(t, mongotest.Start(t).Client(t).Database("d"), list)
	o, so := attempt(t, db, makeBackup(t, list...), "r1")
	armed := srv.Fail(mongotest.Fault{
		Command: "insert", Times: 7, Error: &mongotest.Error{Code: 365, Message: "cache full"},
		Document: func(doc bson.Raw) bool { return doc.Lookup("_id").String() > `"cus_00001"` },
	})
	stageAndProve(t, o)
	require.NotZero(t, armed.Struck())
	_, err := Swap(t.Context(), so)
	require.NoError(t, err)
	require.Equal(t, want, stateOf(t, db))
}

// While an index is built on a live collection it cannot be renamed, also by who stopped the application that asked for it.
// And somebody may end a cursor of ours on the server.
func TestASwapWaitsForIndexBuildsAndAProofReadsAgain(t *testing.T) {
	list := several(t)
	srv := mongotest.Start(t)
	db := srv.Client(t).Database("d")
	want := expected(t, mongotest.Start(t).Client(t).Database("d"), list)
	fill(t, db, list...)
	o, so := attempt(t, db, makeBackup(t, list...), "r1")
	killed := srv.Fail(mongotest.Fault{Command: "find", Namespace: "d." + StageName("d", o.Lease.Token, list[0].name), Times: 1,
		Error: &mongotest.Error{Code: 237, Message: "cursor killed"}})
	stageAndProve(t, o)
	require.NotZero(t, killed.Struck())
	building := srv.Fail(mongotest.Fault{Command: "renameCollection", Times: 3, Error: &mongotest.Error{Code: 12587, Message: "an index build is currently running"}})
	_, err := Swap(t.Context(), so)
	require.NoError(t, err)
	require.NotZero(t, building.Struck())
	for name, state := range want {
		require.Equal(t, state, stateOf(t, db)[name])
	}
}

// kills is how often a staging is killed, each time at another random moment.
const kills = 50

// A staging that is killed again and again carries on: what the journal has by then is not touched any more, and in the
// end everything is there, document by document.
func TestAStagingKilledAtRandomMomentsCarriesOn(t *testing.T) {
	t.Parallel()
	list := several(t)
	source := makeBackup(t, list...)
	srv := mongotest.Start(t)
	want := expected(t, srv.Client(t).Database("x"), list)

	whole := &killer{srv: srv, at: 1 << 30}
	o, _ := attempt(t, srv.Client(t).Database("count"), source, "r1")
	ctx, end := whole.arm(t, t.Context())
	_, err := Stage(ctx, o)
	require.NoError(t, err)
	end()
	commands := whole.seen.Load()
	require.Greater(t, commands, int64(15))

	killed := 0
	for seed := uint64(1); killed < kills; seed++ {
		ran := false
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			ran = true
			r := rand.New(rand.NewPCG(seed, 0))
			connect := func() *mongo.Database { return srv.Client(t).Database(fmt.Sprintf("d%d", seed)) }
			o, so := attempt(t, connect(), source, "r1")
			for again := true; again; {
				before := journalled(t, o)
				k := &killer{srv: srv, at: 1 + r.Int64N(commands), after: r.IntN(2) == 1}
				touched, forget := changes(srv, o)
				ctx, end := k.arm(t, t.Context())
				_, err := Stage(ctx, o)
				if again = end(); again {
					killed++
				} else {
					require.NoError(t, err)
				}
				srv.Settle()
				forget()
				for name := range before {
					require.NotContains(t, touched(), name, "it was whole, and is loaded again")
				}
				reborn(t, connect, &o, &so)
			}
			_, err := Prove(t.Context(), o)
			require.NoError(t, err)
			_, err = Swap(t.Context(), so)
			require.NoError(t, err)
			require.Equal(t, want, stateOf(t, o.DB))
			require.NoError(t, o.DB.Drop(t.Context()))
		})
		if t.Failed() || !ran {
			return // !ran: this one was not asked for
		}
	}
}

// journalled returns the staged names of what is whole by the journal.
func journalled(t *testing.T, o StageOptions) map[string]bool {
	t.Helper()
	if _, err := os.Stat(o.Dir); err != nil {
		return nil
	}
	j, done, err := openJournal[milestone](o.Dir, stagedJournal)
	require.NoError(t, err)
	require.NoError(t, j.close())
	names := map[string]bool{}
	for _, d := range done {
		names[StageName(o.DB.Name(), o.Lease.Token, d.Collection)] = true
	}
	return names
}

// changes notes which staged collections are created, filled or dropped from now on.
func changes(srv *mongotest.Server, o StageOptions) (touched func() []string, forget func()) {
	var mu sync.Mutex
	seen := map[string]bool{}
	forget = srv.OnCommand(func(db, command string, body bson.Raw) {
		if db != o.DB.Name() || command != "insert" && command != "create" && command != "drop" {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		seen[body.Lookup(command).StringValue()] = true
	})
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return sortedKeys(seen)
	}, forget
}
