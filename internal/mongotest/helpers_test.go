package mongotest

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// doc reads a document from extended JSON, in which every type can be written.
func doc(t testing.TB, json string) bson.D {
	t.Helper()
	var d bson.D
	require.NoError(t, bson.UnmarshalExtJSON([]byte(json), false, &d), json)
	return d
}

func docs(t testing.TB, json ...string) []bson.D {
	t.Helper()
	var list []bson.D
	for _, j := range json {
		list = append(list, doc(t, j))
	}
	return list
}

func raw(t testing.TB, json string) bson.Raw {
	t.Helper()
	b, err := bson.Marshal(doc(t, json))
	require.NoError(t, err)
	return b
}

func startDB(t testing.TB, opts ...Option) (*Server, *mongo.Database) {
	t.Helper()
	s := Start(t, opts...)
	return s, s.Client(t).Database("app")
}

func run(t testing.TB, db *mongo.Database, command string) (bson.Raw, error) {
	t.Helper()
	return db.RunCommand(t.Context(), doc(t, command)).Raw()
}

func must(t testing.TB, db *mongo.Database, command string) bson.Raw {
	t.Helper()
	answer, err := run(t, db, command)
	require.NoError(t, err, command)
	return answer
}

func admin(db *mongo.Database) *mongo.Database { return db.Client().Database("admin") }

// requireCode is for the errors of a whole command and for those of single writes.
func requireCode(t testing.TB, code int32, err error) {
	t.Helper()
	var se mongo.ServerError
	require.True(t, errors.As(err, &se), "want error %d, got %v", code, err)
	require.True(t, se.HasErrorCode(int(code)), "want error %d, got %v", code, err)
}

// all gives what a find command answers, as extended JSON.
func all(t testing.TB, db *mongo.Database, command string) []string {
	t.Helper()
	cur, err := db.RunCommandCursor(t.Context(), doc(t, command))
	require.NoError(t, err, command)
	var list []bson.Raw
	require.NoError(t, cur.All(t.Context(), &list), command)
	found := []string{}
	for _, d := range list {
		json, err := bson.MarshalExtJSON(d, false, false)
		require.NoError(t, err)
		found = append(found, string(json))
	}
	return found
}
