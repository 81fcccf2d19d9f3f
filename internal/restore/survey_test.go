package restore

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/mongotest"
)

// TestRightsAreReadFromWhatTheServerSays proves that only privileges on the whole database, or on all, count.
func TestRightsAreReadFromWhatTheServerSays(t *testing.T) {
	on := func(db, collection string) bson.D {
		return bson.D{{Key: "db", Value: db}, {Key: "collection", Value: collection}}
	}
	privilege := func(resource bson.D, actions ...string) bson.D {
		return bson.D{{Key: "resource", Value: resource}, {Key: "actions", Value: actions}}
	}
	cluster := bson.D{{Key: "cluster", Value: true}}
	restoreActions := Actions()
	allButOne, last := restoreActions[:len(restoreActions)-1], restoreActions[len(restoreActions)-1]
	user := bson.A{bson.D{{Key: "user", Value: "runbook"}, {Key: "db", Value: "admin"}}}
	for name, c := range map[string]struct {
		users      bson.A
		privileges bson.A
		want       Rights
	}{
		"no login asked for":               {bson.A{}, nil, Rights{Known: true, Open: true, InProg: true}},
		"a server that tells no rights":    {user, nil, Rights{}},
		"all that is needed":               {user, bson.A{privilege(on("d", ""), restoreActions...)}, Rights{Known: true}},
		"one is missing":                   {user, bson.A{privilege(on("d", ""), allButOne...)}, Rights{Known: true, Missing: []string{last}}},
		"two roles add up":                 {user, bson.A{privilege(on("d", ""), allButOne...), privilege(on("d", ""), last)}, Rights{Known: true}},
		"on any database":                  {user, bson.A{privilege(on("", ""), restoreActions...)}, Rights{Known: true}},
		"on another database":              {user, bson.A{privilege(on("e", ""), restoreActions...)}, Rights{Known: true, Missing: restoreActions}},
		"on one collection":                {user, bson.A{privilege(on("d", "c"), restoreActions...)}, Rights{Known: true, Missing: restoreActions}},
		"root":                             {user, bson.A{privilege(bson.D{{Key: "anyResource", Value: true}}, "anyAction")}, Rights{Known: true, InProg: true}},
		"may list the clients":             {user, bson.A{privilege(on("d", ""), restoreActions...), privilege(cluster, "inprog")}, Rights{Known: true, InProg: true}},
		"the cluster's rights are no data": {user, bson.A{privilege(cluster, restoreActions...)}, Rights{Known: true, Missing: restoreActions}},
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := bson.Marshal(bson.D{{Key: "authInfo", Value: bson.D{{Key: "authenticatedUsers", Value: c.users}, {Key: "authenticatedUserPrivileges", Value: c.privileges}}}})
			require.NoError(t, err)
			var s connectionStatus
			require.NoError(t, bson.Unmarshal(raw, &s))
			require.Equal(t, c.want, s.rights("d", restoreActions))
		})
	}
}

func TestRightsOfAServerThatDoesNotKnowTheQuestionAreUnknown(t *testing.T) {
	srv := mongotest.Start(t)
	db := srv.Client(t).Database("d")
	r, err := CheckRights(t.Context(), db, Actions())
	require.NoError(t, err)
	require.True(t, r.Open)
	srv.Fail(mongotest.Fault{Command: "connectionStatus", Error: &mongotest.Error{Code: 59, Message: "no such command"}})
	r, err = CheckRights(t.Context(), db, Actions())
	require.NoError(t, err)
	require.False(t, r.Known)
}

// Up to MongoDB 8.2 the buckets of a time series lie in a system collection, which the role readWrite on one database leaves out.
func TestBucketsTakeMoreThanReadWrite(t *testing.T) {
	on := func(keys ...string) bson.D {
		var d bson.D
		for i := 0; i < len(keys); i += 2 {
			d = append(d, bson.E{Key: keys[i], Value: keys[i+1]})
		}
		return d
	}
	for name, c := range map[string]struct {
		resource bson.D
		want     bool
	}{
		"readWrite on the database":   {on("db", "d", "collection", ""), false},
		"all databases' collections":  {on("db", "", "collection", ""), false},
		"all buckets, as backup has":  {on("system_buckets", ""), true},
		"all buckets of the database": {on("db", "d", "system_buckets", ""), true},
		"all buckets of another one":  {on("db", "e", "system_buckets", ""), false},
		"the buckets of this series":  {on("db", "d", "system_buckets", "readings"), true},
		"this collection by its name": {on("db", "d", "collection", "system.buckets.readings"), true},
		"the buckets of other series": {on("db", "d", "system_buckets", "others"), false},
		"any resource, as __system":   {bson.D{{Key: "anyResource", Value: true}}, true},
		"the cluster, which has none": {bson.D{{Key: "cluster", Value: true}}, false},
	} {
		raw, err := bson.Marshal(bson.D{{Key: "authInfo", Value: bson.D{{Key: "authenticatedUserPrivileges", Value: bson.A{
			bson.D{{Key: "resource", Value: c.resource}, {Key: "actions", Value: bson.A{"find"}}}}}}}})
		require.NoError(t, err)
		var s connectionStatus
		require.NoError(t, bson.Unmarshal(raw, &s))
		there := map[string]info{
			"readings": {kind: backup.TypeTimeseries}, "of 8.3": {kind: backup.TypeTimeseries, uuid: "01"},
			"plain": {kind: backup.TypeCollection}, "system.buckets.readings": {kind: backup.TypeCollection},
		}
		require.Equal(t, c.want, len(s.closed("d", there)) == 0, name)
		require.Subset(t, []string{"readings"}, s.closed("d", there), name)
	}
}

// TestClientsAreListedAsQuietWouldSeeThem proves that nothing is waited for and nobody is refused.
func TestClientsAreListedAsQuietWouldSeeThem(t *testing.T) {
	srv := mongotest.Start(t)
	db := clientNamed(t, srv, "runbook").Database("d")
	require.NoError(t, clientNamed(t, srv, "backend").Ping(t.Context(), nil))
	require.NoError(t, clientNamed(t, srv, "exporter").Ping(t.Context(), nil))
	c, err := ListClients(t.Context(), db, QuietOptions{For: time.Hour, Self: []string{"runbook"}, Ignore: []string{"exporter"}})
	require.NoError(t, err)
	require.True(t, c.Listed)
	require.Equal(t, []string{"backend"}, c.Others)
	srv.Fail(mongotest.Fault{Command: "aggregate", Error: &mongotest.Error{Code: codeUnauthorized, Message: "not authorized"}})
	c, err = ListClients(t.Context(), db, QuietOptions{Self: []string{"runbook"}})
	require.NoError(t, err)
	require.False(t, c.Listed)
}

func TestTheLeasesHolderIsSeenWithoutTakingIt(t *testing.T) {
	onServers(t, func(t *testing.T, db *mongo.Database, _ *mongotest.Server) {
		_, _, held, err := HeldBy(t.Context(), db)
		require.NoError(t, err)
		require.False(t, held)
		require.Empty(t, reservedNames(t, db), "to look creates nothing")
		l := acquire(t, db, "run-1")
		h, since, held, err := HeldBy(t.Context(), db)
		require.NoError(t, err)
		require.True(t, held)
		require.Equal(t, l.Owner, h.Owner)
		require.WithinDuration(t, time.Now(), since, time.Minute)
		require.NoError(t, l.Release(t.Context()))
		_, _, held, err = HeldBy(t.Context(), db)
		require.NoError(t, err)
		require.False(t, held)
	})
}

// TestRoomIsUnknownWhereTheServerDoesNotTellItsDisk, and what is needed is said all the same.
func TestRoomIsUnknownWhereTheServerDoesNotTellItsDisk(t *testing.T) {
	srv := mongotest.Start(t)
	db := srv.Client(t).Database("d")
	fill(t, db, given{name: "c", documents: people(t, 10, "x")})
	r, err := RoomFor(t.Context(), db, 5000)
	require.NoError(t, err)
	require.Equal(t, Room{Need: 5000, Stored: r.Stored, Documents: r.Documents}, r)
	require.Positive(t, r.Documents)
}
