package ferret_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/battwheels/runbook/sandbox/ferret"
)

func start(t *testing.T, dir string, port int) *ferret.Server {
	t.Helper()
	s, err := ferret.Start(t.Context(), ferret.Config{Dir: dir, Port: port})
	require.NoError(t, err)
	return s
}

func connect(t *testing.T, uri string) *mongo.Database {
	t.Helper()
	c, err := mongo.Connect(options.Client().ApplyURI(uri))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Disconnect(context.Background())) })
	return c.Database("garage")
}

func TestARestartedServerHasItsDataOnTheSamePort(t *testing.T) {
	dir := t.TempDir() + "/a b"
	s := start(t, dir, 0)
	db := connect(t, s.URI())
	want := bson.D{{Key: "_id", Value: "inv_1"}, {Key: "total", Value: int64(4200)}, {Key: "at", Value: bson.DateTime(1771898400123)}}
	_, err := db.Collection("invoices").InsertOne(t.Context(), want)
	require.NoError(t, err)
	_, err = db.Collection("invoices").Indexes().CreateOne(t.Context(), mongo.IndexModel{
		Keys: bson.D{{Key: "total", Value: -1}}, Options: options.Index().SetName("by_total")})
	require.NoError(t, err)
	require.NoError(t, db.Collection("invoices").Database().RunCommand(t.Context(), bson.D{{Key: "create", Value: "empty"}}).Err())

	require.NoError(t, s.Stop(t.Context()))
	require.NoError(t, s.Stop(t.Context()), "stopping twice is no error")
	again := start(t, dir, s.Port())
	defer func() { require.NoError(t, again.Stop(t.Context())) }()

	require.Equal(t, s.URI(), again.URI())
	var got bson.D
	require.NoError(t, db.Collection("invoices").FindOne(t.Context(), bson.D{{Key: "_id", Value: "inv_1"}}).Decode(&got),
		"a client that was connected before finds it again")
	require.Equal(t, want, got)
	names, err := db.ListCollectionNames(t.Context(), bson.D{})
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"invoices", "empty"}, names)
	indexes, err := db.Collection("invoices").Indexes().ListSpecifications(t.Context())
	require.NoError(t, err)
	require.Len(t, indexes, 2)
}

func TestADirectoryThatFerretDBWouldMisreadIsRefused(t *testing.T) {
	_, err := ferret.Start(t.Context(), ferret.Config{Dir: t.TempDir() + "/100%"})
	require.ErrorContains(t, err, "choose another")
}

func TestAPortThatIsTakenIsAnError(t *testing.T) {
	s := start(t, t.TempDir(), 0)
	defer func() { require.NoError(t, s.Stop(t.Context())) }()
	_, err := ferret.Start(t.Context(), ferret.Config{Dir: t.TempDir(), Port: s.Port()})
	require.ErrorContains(t, err, "address already in use")
}
