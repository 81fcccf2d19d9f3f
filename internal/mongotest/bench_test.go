package mongotest

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// batch is n documents of about 700 bytes, as an array.
func batch(b *testing.B, from, n int) bson.RawValue {
	b.Helper()
	var list bson.A
	for i := range n {
		list = append(list, bson.D{{Key: "_id", Value: bson.NewObjectID()}, {Key: "n", Value: from + i},
			{Key: "text", Value: fmt.Sprintf("%0640d", i)}})
	}
	kind, data, err := bson.MarshalValue(list)
	require.NoError(b, err)
	return bson.RawValue{Type: kind, Value: data}
}

func insertBatch(b *testing.B, db *mongo.Database, docs bson.RawValue) {
	b.Helper()
	err := db.RunCommand(b.Context(), bson.D{{Key: "insert", Value: "c"}, {Key: "documents", Value: docs}}).Err()
	require.NoError(b, err)
}

func BenchmarkInsert(b *testing.B) {
	_, db := startDB(b)
	docs := batch(b, 0, 2000)
	b.SetBytes(int64(len(docs.Value)))
	for b.Loop() {
		insertBatch(b, db, docs)
		b.StopTimer()
		require.NoError(b, db.Drop(b.Context()))
		b.StartTimer()
	}
}

func BenchmarkFindAll(b *testing.B) {
	_, db := startDB(b)
	size := 0
	for i := range 50 {
		docs := batch(b, i*2000, 2000)
		size += len(docs.Value)
		insertBatch(b, db, docs)
	}
	b.SetBytes(int64(size))
	for b.Loop() {
		cur, err := db.Collection("c").Find(b.Context(), bson.D{})
		require.NoError(b, err)
		n := 0
		for cur.Next(b.Context()) {
			n++
		}
		require.NoError(b, cur.Err())
		require.Equal(b, 100_000, n)
	}
}
