package restore

import (
	"context"
	"os"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// The same as with the in-memory server, but the attempt dies on the client's side, so that a real server shows what it
// makes of a connection that breaks there.
func TestAKilledSwapCarriesOnOrRollsBackOnARealServer(t *testing.T) {
	uri := os.Getenv(uriVariable)
	if uri == "" {
		t.Skip(uriVariable + " is not set")
	}
	list := []given{
		{name: "customers", documents: people(t, 8, "as it was")},
		{name: "invoices", documents: people(t, 3, "invoice")},
	}
	source := makeBackup(t, list...)
	for n, killed := int64(1), true; killed; n++ {
		db := realDatabase(t, uri)
		want := expected(t, db, list)
		fill(t, db, given{name: "customers", documents: people(t, 5, "garbage")}, given{name: "new_since", documents: people(t, 3, "new")})
		before := stateOf(t, db)
		o, so := attempt(t, db, source, "r1")
		stageAndProve(t, o)

		ctx, cancel := context.WithCancel(t.Context())
		var seen atomic.Int64
		dying, err := mongo.Connect(options.Client().ApplyURI(uri).SetMonitor(&event.CommandMonitor{
			Started: func(context.Context, *event.CommandStartedEvent) {
				if seen.Add(1) == n {
					cancel()
				}
			},
		}))
		require.NoError(t, err)
		short := so
		short.DB = dying.Database(db.Name())
		short.Lease = Held(short.DB, so.Lease.Holder, so.Lease.Token)
		_, err = Swap(ctx, short)
		killed = ctx.Err() != nil
		cancel()
		if !killed {
			require.NoError(t, err)
		}
		require.NoError(t, dying.Disconnect(context.WithoutCancel(t.Context())))

		if n%2 == 0 {
			_, err = Swap(t.Context(), so)
			require.NoError(t, err)
			require.Equal(t, want, stateOf(t, db))
		}
		_, err = RollBack(t.Context(), so)
		require.NoError(t, err)
		require.Equal(t, before, stateOf(t, db), "killed at command %d", n)
	}
}
