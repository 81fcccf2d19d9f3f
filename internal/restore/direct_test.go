package restore

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/mongotest"
)

func TestDirectRestoresIntoAnEmptyDatabaseOnly(t *testing.T) {
	onServers(t, func(t *testing.T, db *mongo.Database, _ *mongotest.Server) {
		list := backupFor(t, !small(t, db))
		want := expected(t, db, list)
		o, _ := attempt(t, db, makeBackup(t, list...), "r1")
		v, err := Direct(t.Context(), o)
		require.NoError(t, err)
		require.Empty(t, v.Differences)
		require.Equal(t, len(list), v.Collections)
		require.Equal(t, want, stateOf(t, db))
		require.Equal(t, []string{LeaseCollection}, reservedNames(t, db))

		again, err := Direct(t.Context(), o)
		require.NoError(t, err, "run again, it finds its own work done")
		require.Equal(t, v, again)

		other, _ := attempt(t, db, o.Source, "r2")
		_, err = Direct(t.Context(), other)
		var full *NotEmptyError
		require.ErrorAs(t, err, &full)
		require.Contains(t, full.Collections, "customers")
		require.Equal(t, want, stateOf(t, db))
	})
}

// Up to MongoDB 8.2 the roles of one database leave out the buckets of its time series, which a restore has to write.
func TestDirectNamesTheRoleThatATimeSeriesTakes(t *testing.T) {
	srv := mongotest.Start(t)
	db := srv.Client(t).Database("d")
	series := given{name: "readings", kind: backup.TypeTimeseries, options: doc(t, "timeseries", bson.D{{Key: "timeField", Value: "at"}}), documents: []bson.Raw{doc(t, "_id", bson.NewObjectID())}}
	o, _ := attempt(t, db, makeBackup(t, series), "r1")
	srv.Fail(mongotest.Fault{
		Command: "insert", Error: &mongotest.Error{Code: codeUnauthorized, Message: "not authorized on d to execute command"},
		Match: func(insert bson.Raw) bool { return isBuckets(insert.Lookup("insert").StringValue()) },
	})
	_, err := Direct(t.Context(), o)
	require.ErrorAs(t, err, new(*RefusedError))
	require.ErrorContains(t, err, "readWriteAnyDatabase")
}

func TestAKilledDirectRestoreCarriesOn(t *testing.T) {
	t.Parallel()
	list, _ := crashFixture(t)
	source := makeBackup(t, list...)
	want := expected(t, mongotest.Start(t).Client(t).Database("d"), list)
	everyCrash(t, func(t *testing.T, connect func() *mongo.Database, k *killer) bool {
		o, so := attempt(t, connect(), source, "r1")
		ctx, end := k.arm(t, t.Context())
		_, err := Direct(ctx, o)
		killed := end()
		if !killed {
			require.NoError(t, err)
		}
		reborn(t, connect, &o, &so)
		v, err := Direct(t.Context(), o)
		require.NoError(t, err)
		require.Empty(t, v.Differences)
		require.Equal(t, want, stateOf(t, o.DB))
		return killed
	})
}
