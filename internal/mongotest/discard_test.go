package mongotest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// A server that discards acknowledges every document and holds none; all but the documents is as ever.
func TestADiscardingServerAcknowledges(t *testing.T) {
	db := Start(t, WithDiscard()).Client(t).Database("d")
	require.NoError(t, db.CreateCollection(t.Context(), "c"))
	large := bson.D{{Key: "text", Value: make([]byte, 1<<20)}}
	for range 2 {
		r, err := db.Collection("c").InsertMany(t.Context(), []any{large, bson.D{{Key: "_id", Value: 1}}})
		require.NoError(t, err)
		require.Len(t, r.InsertedIDs, 2)
	}
	n, err := db.Collection("c").CountDocuments(t.Context(), bson.D{})
	require.NoError(t, err)
	require.Zero(t, n)
	names, err := db.ListCollectionNames(t.Context(), bson.D{})
	require.NoError(t, err)
	require.Equal(t, []string{"c"}, names)
}

// Documents take the time that they are said to take, and are kept.
func TestInsertsTakeTheirTime(t *testing.T) {
	db := Start(t, WithInsertCost(time.Millisecond)).Client(t).Database("d")
	began := time.Now()
	_, err := db.Collection("c").InsertMany(t.Context(), []any{bson.D{}, bson.D{}, bson.D{}, bson.D{}, bson.D{}})
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Since(began), 5*time.Millisecond)
	n, err := db.Collection("c").CountDocuments(t.Context(), bson.D{})
	require.NoError(t, err)
	require.EqualValues(t, 5, n)
}
