package mongotest

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

func TestARetriedWriteIsDoneOnce(t *testing.T) {
	s, db := startDB(t, WithReplicaSet("rs0"))
	armed := s.Fail(Fault{Command: "insert", Drop: DropAfter, Times: 1})
	_, err := db.Collection("c").InsertOne(t.Context(), doc(t, `{"_id": 1}`))
	require.NoError(t, err)
	require.Equal(t, 1, armed.Struck())

	s.Fail(Fault{Command: "findAndModify", Drop: DropAfter, Times: 1})
	var before bson.D
	require.NoError(t, db.Collection("c").FindOneAndUpdate(t.Context(), doc(t, `{"_id": 1}`), doc(t, `{"$inc": {"n": 1}}`)).Decode(&before))
	require.Equal(t, doc(t, `{"_id": 1}`), before)
	require.Equal(t, []string{`{"_id":1,"n":1}`}, all(t, db, `{"find": "c"}`))
}

func TestASnapshotShowsOneMoment(t *testing.T) {
	s, db := startDB(t, WithReplicaSet("rs0"))
	a, b := db.Collection("a"), db.Collection("b")
	must(t, db, `{"insert": "a", "documents": [{"_id": 1}, {"_id": 2}, {"_id": 3}]}`)
	must(t, db, `{"insert": "b", "documents": [{"_id": 1, "v": "old"}, {"_id": 2}]}`)
	session, err := db.Client().StartSession(options.Session().SetSnapshot(true))
	require.NoError(t, err)
	defer session.EndSession(t.Context())
	ctx := mongo.NewSessionContext(t.Context(), session)

	cur, err := a.Find(ctx, bson.D{}, options.Find().SetBatchSize(1))
	require.NoError(t, err)
	must(t, db, `{"update": "b", "updates": [{"q": {"_id": 1}, "u": {"v": "new"}}]}`)
	must(t, db, `{"delete": "b", "deletes": [{"q": {"_id": 2}, "limit": 1}]}`)
	must(t, db, `{"insert": "b", "documents": [{"_id": 3}]}`)
	must(t, db, `{"drop": "a"}`)

	var found []bson.D
	require.NoError(t, cur.All(ctx, &found))
	require.Len(t, found, 3)
	cur, err = b.Find(ctx, bson.D{})
	require.NoError(t, err)
	require.NoError(t, cur.All(ctx, &found))
	require.Equal(t, docs(t, `{"_id": 1, "v": "old"}`, `{"_id": 2}`), found)
	n, err := b.CountDocuments(ctx, bson.D{})
	require.NoError(t, err)
	require.EqualValues(t, 2, n)

	s.ForgetSnapshots()
	_, err = b.Find(ctx, bson.D{})
	requireCode(t, SnapshotTooOld, err)
	require.Equal(t, []string{`{"_id":1,"v":"new"}`, `{"_id":3}`}, all(t, db, `{"find": "b"}`))
}

func TestTransactionsAreRefusedByName(t *testing.T) {
	_, db := startDB(t, WithReplicaSet("rs0"))
	err := db.Client().UseSession(t.Context(), func(ctx context.Context) error {
		session := mongo.SessionFromContext(ctx)
		require.NoError(t, session.StartTransaction())
		_, err := db.Collection("c").InsertOne(ctx, doc(t, `{"_id": 1}`))
		require.NoError(t, session.AbortTransaction(ctx))
		return err
	})
	requireCode(t, UnsupportedByMongotest, err)
	require.ErrorContains(t, err, "transactions")
	require.Empty(t, all(t, db, `{"find": "c"}`))
}

func TestWhatNeedsAReplicaSet(t *testing.T) {
	for _, command := range []string{
		`{"insert": "c", "documents": [{"_id": 1}], "writeConcern": {"w": 2}}`,
		`{"insert": "c", "documents": [{"_id": 1}], "lsid": {"id": {"$binary": {"base64": "AAAAAAAAAAAAAAAAAAAAAA==", "subType": "04"}}}, "txnNumber": {"$numberLong": "1"}}`,
		`{"find": "c", "readConcern": {"level": "snapshot"}}`,
	} {
		_, db := startDB(t)
		_, err := run(t, db, command)
		require.Error(t, err, command)
		require.Empty(t, all(t, db, `{"find": "c"}`))
	}
	_, db := startDB(t)
	must(t, db, `{"insert": "c", "documents": [{"_id": 1}], "writeConcern": {"w": "majority", "j": true}}`)
	require.Equal(t, []string{`{"_id":1}`}, all(t, db, `{"find": "c", "readConcern": {"level": "majority"}}`))
}
