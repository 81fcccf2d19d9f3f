package restore

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"github.com/battwheels/runbook/internal/mongotest"
)

func clientNamed(t *testing.T, srv *mongotest.Server, app string) *mongo.Client {
	t.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI(srv.URI()).SetAppName(app))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Disconnect(context.WithoutCancel(t.Context()))) })
	return client
}

var quickly = QuietOptions{For: 20 * time.Millisecond, Self: []string{"runbook"}}

func TestQuietWhereTheServerListsItsClients(t *testing.T) {
	srv := mongotest.Start(t)
	db := clientNamed(t, srv, "runbook").Database("d")
	fill(t, db, given{name: "c", documents: people(t, 3, "x")})
	q, err := Quiet(t.Context(), db, quickly)
	require.NoError(t, err)
	require.Contains(t, q.Method, "no other client")

	backend := clientNamed(t, srv, "battwheels-backend")
	require.NoError(t, backend.Ping(t.Context(), nil))
	_, err = Quiet(t.Context(), db, quickly)
	var writer *WriterError
	require.ErrorAs(t, err, &writer, "an idle connection can write at any moment")
	require.Equal(t, "battwheels-backend", writer.Writers[0].AppName)
	require.NotEmpty(t, writer.Writers[0].Address)
	require.ErrorContains(t, err, "battwheels-backend")
}

// The members of a replica set are connected with each other, and of these connections a server lists its end. Where they log in, the user tells;
// where they do not, the driver does.
func TestTheMembersOfAReplicaSetAreNoWriters(t *testing.T) {
	connection := func(driver, app string, users ...effectiveUser) operation {
		o := operation{Client: "10.0.0.7:50312", AppName: app, EffectiveUsers: users}
		o.Metadata.Driver.Name = driver
		return o
	}
	for what, row := range map[string]struct {
		operation operation
		internal  bool
	}{
		"heartbeats":                    {connection("NetworkInterfaceTL-ReplNetwork", ""), true},
		"heartbeats of old servers":     {connection("NetworkInterfaceTL", ""), true},
		"a member that reads the oplog": {connection("MongoDB Internal Client", "OplogFetcher"), true},
		"a member that logs in":         {connection("unknown", "", effectiveUser{"__system", "local"}), true},
		"what is no connection":         {operation{}, true},
		"the old shell":                 {connection("MongoDB Internal Client", "MongoDB Shell"), false},
		"an application":                {connection("PyMongo", ""), false},
		"an application's user":         {connection("PyMongo", "", effectiveUser{"battwheels", "admin"}), false},
	} {
		require.Equal(t, row.internal, row.operation.internal(), what)
	}
}

// Whatever reads the URI asks for, the clients are the primary's, and asked for as the server allows.
func TestQuietAsksThePrimaryWhoeverElseIsRead(t *testing.T) {
	srv := mongotest.Start(t, mongotest.WithReplicaSet("rs0"))
	client, err := mongo.Connect(options.Client().ApplyURI(srv.URI()).SetAppName("runbook").
		SetReadPreference(readpref.SecondaryPreferred()).SetReadConcern(readconcern.Majority()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Disconnect(context.WithoutCancel(t.Context()))) })
	srv.OnCommand(func(_, command string, body bson.Raw) {
		if command == "aggregate" {
			mode, _ := body.Lookup("$readPreference", "mode").StringValueOK()
			assert.Contains(t, []string{"", "primary"}, mode)
		}
	})
	q, err := Quiet(t.Context(), client.Database("d"), quickly)
	require.NoError(t, err)
	require.Contains(t, q.Method, "no other client")
}

// A client that is ignored is not believed: while it is connected, the documents are read twice.
func TestQuietIgnoresNamedClientsAsLongAsNothingChanges(t *testing.T) {
	srv := mongotest.Start(t)
	db := clientNamed(t, srv, "runbook").Database("d")
	fill(t, db, given{name: "c", documents: people(t, 3, "x")})
	agent := clientNamed(t, srv, "mongodb_exporter")
	require.NoError(t, agent.Ping(t.Context(), nil))
	o := quickly
	o.Ignore = []string{"mongodb_exporter"}
	q, err := Quiet(t.Context(), db, o)
	require.NoError(t, err)
	require.Contains(t, q.Method, "two readings")
	require.Contains(t, q.Method, "ignored as configured: mongodb_exporter")
	require.EqualValues(t, 3, q.Documents)

	var seen atomic.Int32
	srv.OnCommand(func(_, command string, _ bson.Raw) {
		if command == "find" && seen.Add(1) == 2 {
			_, err := agent.Database("d").Collection("c").InsertOne(t.Context(), bson.D{{Key: "_id", Value: "late"}})
			assert.NoError(t, err)
		}
	})
	_, err = Quiet(t.Context(), db, o)
	var writer *WriterError
	require.ErrorAs(t, err, &writer)
	require.Equal(t, []string{"c"}, writer.Collections)

	require.NoError(t, clientNamed(t, srv, "battwheels-backend").Ping(t.Context(), nil))
	_, err = Quiet(t.Context(), db, o)
	require.ErrorContains(t, err, "battwheels-backend")
	require.NotContains(t, err.Error(), "mongodb_exporter (")
}

func TestQuietWithoutTheRightToListClients(t *testing.T) {
	onServers(t, func(t *testing.T, db *mongo.Database, srv *mongotest.Server) {
		if srv != nil {
			srv.Fail(mongotest.Fault{Command: "aggregate", Namespace: "admin", Error: &mongotest.Error{Code: 13, Message: "not authorized on admin"}})
		} else if !small(t, db) {
			t.Skip("this server lists its clients")
		}
		fill(t, db, given{name: "a", documents: people(t, 30, "x")}, given{name: "b", documents: people(t, 3, "x")}, given{name: "c"})
		q, err := Quiet(t.Context(), db, quickly)
		require.NoError(t, err)
		require.Contains(t, q.Method, "two readings")
		require.EqualValues(t, 33, q.Documents)

		done := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			for i := 0; ; i++ {
				if _, err := db.Collection("b").UpdateByID(ctx, "cus_00001", bson.D{{Key: "$inc", Value: bson.D{{Key: "n", Value: 1}}}}); err != nil {
					done <- ctx.Err()
					return
				}
			}
		}()
		_, err = Quiet(t.Context(), db, quickly)
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
		var writer *WriterError
		require.ErrorAs(t, err, &writer)
		require.Equal(t, []string{"b"}, writer.Collections)
	})
}

// Who may not list clients has rights on one database alone, as a rule, and these leave out the buckets of its time series.
func TestQuietWithoutTheRightToBuckets(t *testing.T) {
	srv := mongotest.Start(t)
	db := clientNamed(t, srv, "runbook").Database("d")
	other := srv.Client(t).Database("d")
	require.NoError(t, db.RunCommand(t.Context(), bson.D{{Key: "create", Value: "readings"}, {Key: "timeseries", Value: bson.D{{Key: "timeField", Value: "at"}}}}).Err())
	measure := func(db *mongo.Database, id int) error {
		_, err := db.Collection("readings").InsertOne(context.Background(), bson.D{{Key: "_id", Value: id}, {Key: "at", Value: time.Now()}})
		return err
	}
	require.NoError(t, measure(db, 1))
	denied := &mongotest.Error{Code: codeUnauthorized, Message: "not authorized on d to execute command"}
	srv.Fail(mongotest.Fault{Command: "aggregate", Namespace: "admin", Error: denied})
	srv.Fail(mongotest.Fault{Namespace: "d.system.buckets.readings", Error: denied})
	q, err := Quiet(t.Context(), db, quickly)
	require.NoError(t, err)
	require.NotZero(t, q.Documents)

	lists := 0
	srv.OnCommand(func(_, command string, _ bson.Raw) {
		if command == "listCollections" {
			if lists++; lists == 2 {
				if err := measure(other, 2); err != nil {
					t.Error(err)
				}
			}
		}
	})
	_, err = Quiet(t.Context(), db, quickly)
	require.ErrorAs(t, err, new(*WriterError))
}

func TestQuietTakesExpiryForQuiet(t *testing.T) {
	srv := mongotest.Start(t)
	db := srv.Client(t).Database("d")
	other := srv.Client(t).Database("d")
	past := bson.NewDateTimeFromTime(time.Now().Add(-time.Minute))
	future := bson.NewDateTimeFromTime(time.Now().Add(time.Hour))
	fill(t, db, given{name: "tokens", indexes: []bson.Raw{index(t, "at_1", "at", "expireAfterSeconds", int32(0))},
		documents: []bson.Raw{doc(t, "_id", 1, "at", past), doc(t, "_id", 2, "at", future)}})
	srv.Fail(mongotest.Fault{Command: "aggregate", Namespace: "admin", Error: &mongotest.Error{Code: 13, Message: "not authorized"}})

	// What happens between the two readings: the second one is announced by its listing of collections.
	between := func(id int) {
		lists := 0
		remove := srv.OnCommand(func(_, cmd string, _ bson.Raw) {
			if cmd != "listCollections" {
				return
			}
			if lists++; lists == 2 {
				if _, err := other.Collection("tokens").DeleteOne(context.Background(), bson.D{{Key: "_id", Value: id}}); err != nil {
					t.Errorf("%v", err)
				}
			}
		})
		t.Cleanup(func() { remove() })
	}
	between(1)
	_, err := Quiet(t.Context(), db, quickly)
	require.NoError(t, err)
	between(2)
	_, err = Quiet(t.Context(), db, quickly)
	var writer *WriterError
	require.ErrorAs(t, err, &writer)
}
