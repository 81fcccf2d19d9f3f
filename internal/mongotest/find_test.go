package mongotest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

func TestFilters(t *testing.T) {
	_, db := startDB(t)
	must(t, db, `{"insert": "c", "documents": [
		{"_id": 1, "n": 5, "s": "abc", "l": [1, 2, 3], "d": {"x": 1}},
		{"_id": 2, "n": 5.5, "s": "ABD", "l": [], "d": {"x": null}},
		{"_id": 3, "n": "5", "l": [{"x": 1, "y": 2}, {"x": 2, "y": 1}]},
		{"_id": 4, "n": null, "d": {"x": {"$numberLong": "7"}}},
		{"_id": 5, "t": {"$date": "2026-02-24T02:00:00Z"}, "b": {"$binary": {"base64": "AAE=", "subType": "00"}}}]}`)
	tests := []struct {
		filter string
		want   []int32
	}{
		{`{}`, []int32{1, 2, 3, 4, 5}},
		{`{"n": 5}`, []int32{1}},
		{`{"n": {"$numberLong": "5"}}`, []int32{1}},
		{`{"n": {"$gt": 4}}`, []int32{1, 2}},
		{`{"n": {"$gte": "0"}}`, []int32{3}},
		{`{"n": {"$lt": 5.5}}`, []int32{1}},
		{`{"n": {"$lte": 5.5, "$gt": 5}}`, []int32{2}},
		{`{"n": {"$gte": null}}`, []int32{4, 5}},
		{`{"n": {"$gt": {"$minKey": 1}}}`, []int32{1, 2, 3, 4}},
		{`{"n": {"$lt": {"$maxKey": 1}}}`, []int32{1, 2, 3, 4}},
		{`{"n": null}`, []int32{4, 5}},
		{`{"n": {"$ne": null}}`, []int32{1, 2, 3}},
		{`{"n": {"$exists": true}}`, []int32{1, 2, 3, 4}},
		{`{"n": {"$exists": false}}`, []int32{5}},
		{`{"n": {"$in": [5, "5", null]}}`, []int32{1, 3, 4, 5}},
		{`{"n": {"$nin": [5, null]}}`, []int32{2, 3}},
		{`{"n": {"$type": "number"}}`, []int32{1, 2}},
		{`{"n": {"$type": ["string", "null"]}}`, []int32{3, 4}},
		{`{"n": {"$not": {"$gt": 5}}}`, []int32{1, 3, 4, 5}},
		{`{"s": {"$regex": "^ab", "$options": "i"}}`, []int32{1, 2}},
		{`{"s": {"$regularExpression": {"pattern": "c$", "options": ""}}}`, []int32{1}},
		{`{"l": 2}`, []int32{1}},
		{`{"l": [1, 2, 3]}`, []int32{1}},
		{`{"l": {"$size": 0}}`, []int32{2}},
		{`{"l.x": 2}`, []int32{3}},
		{`{"l.0.x": 2}`, []int32{}},
		{`{"l": {"$elemMatch": {"x": 2, "y": 1}}}`, []int32{3}},
		{`{"l": {"$elemMatch": {"x": 2, "y": 2}}}`, []int32{}},
		{`{"l": {"$elemMatch": {"$gt": 2, "$lt": 4}}}`, []int32{1}},
		{`{"d.x": {"$gt": 1}}`, []int32{4}},
		{`{"d": {"x": 1}}`, []int32{1}},
		{`{"t": {"$lt": {"$date": "2027-01-01T00:00:00Z"}}}`, []int32{5}},
		{`{"t": {"$gt": {"$timestamp": {"t": 1, "i": 1}}}}`, []int32{}},
		{`{"b": {"$binary": {"base64": "AAE=", "subType": "00"}}}`, []int32{5}},
		{`{"$or": [{"n": 5}, {"_id": 5}]}`, []int32{1, 5}},
		{`{"$nor": [{"n": 5}, {"_id": {"$gt": 2}}]}`, []int32{2}},
		{`{"$and": [{"_id": {"$gt": 1}}, {"_id": {"$lt": 3}}]}`, []int32{2}},
		{`{"$expr": {"$gt": ["$n", 5]}}`, []int32{2, 3}},
		{`{"$expr": {"$and": [{"$lte": ["$n", 5]}, {"$not": ["$t"]}]}}`, []int32{1, 4}},
		{`{"$expr": {"$or": [{"$eq": [{"$type": "$n"}, "string"]}, {"$eq": ["$_id", 1]}]}}`, []int32{1, 3}},
		{`{"_id": {"$gt": 3}}`, []int32{4, 5}},
		{`{"_id": 2.0}`, []int32{2}},
		{`{"_id": {"$eq": 9}}`, []int32{}},
	}
	for _, tt := range tests {
		t.Run(tt.filter, func(t *testing.T) {
			cur, err := db.Collection("c").Find(t.Context(), doc(t, tt.filter))
			require.NoError(t, err)
			var found []struct {
				ID int32 `bson:"_id"`
			}
			require.NoError(t, cur.All(t.Context(), &found))
			ids := []int32{}
			for _, f := range found {
				ids = append(ids, f.ID)
			}
			require.Equal(t, tt.want, ids)
		})
	}
}

func TestFindShapesItsAnswer(t *testing.T) {
	_, db := startDB(t)
	must(t, db, `{"insert": "c", "documents": [{"_id": 3, "x": 1, "y": {"a": 1, "b": 2}}, {"_id": 1, "x": 2}, {"_id": 2, "x": 1}]}`)
	must(t, db, `{"createIndexes": "c", "indexes": [{"key": {"x": 1}, "name": "x_1"}]}`)
	must(t, db, `{"insert": "lists", "documents": [{"_id": 1, "l": [{"x": 1, "y": 1}, 7, {"x": 2}]}]}`)
	tests := []struct {
		name, command string
		want          []string
	}{
		{"in order of insertion", `{"find": "c", "projection": {"_id": 1}}`, []string{`{"_id":3}`, `{"_id":1}`, `{"_id":2}`}},
		{"by _id with a hint", `{"find": "c", "hint": {"_id": 1}, "projection": {"_id": 1}}`, []string{`{"_id":1}`, `{"_id":2}`, `{"_id":3}`}},
		{"by _id downwards", `{"find": "c", "sort": {"_id": -1}, "projection": {"_id": 1}}`, []string{`{"_id":3}`, `{"_id":2}`, `{"_id":1}`}},
		{"backwards", `{"find": "c", "hint": {"$natural": -1}, "projection": {"_id": 1}}`, []string{`{"_id":2}`, `{"_id":1}`, `{"_id":3}`}},
		{"by two fields", `{"find": "c", "sort": {"x": -1, "_id": 1}, "projection": {"x": 0, "y": 0}}`, []string{`{"_id":1}`, `{"_id":2}`, `{"_id":3}`}},
		{"a page", `{"find": "c", "sort": {"_id": 1}, "skip": 1, "limit": 1, "projection": {"x": 1}}`, []string{`{"_id":2,"x":1}`}},
		{"small batches", `{"find": "c", "batchSize": 1, "projection": {"x": 1, "_id": 0}}`, []string{`{"x":1}`, `{"x":2}`, `{"x":1}`}},
		{"one batch only", `{"find": "c", "batchSize": 1, "singleBatch": true, "projection": {"x": 1, "_id": 0}}`, []string{`{"x":1}`}},
		{"a nested field", `{"find": "c", "filter": {"_id": 3}, "projection": {"y.b": 1}}`, []string{`{"_id":3,"y":{"b":2}}`}},
		{"without a nested field", `{"find": "c", "filter": {"_id": 3}, "projection": {"y.b": 0, "_id": 0}}`, []string{`{"x":1,"y":{"a":1}}`}},
		{"fields inside of arrays", `{"aggregate": "lists", "cursor": {}, "pipeline": [{"$project": {"l.x": 1}}]}`, []string{`{"_id":1,"l":[{"x":1},{"x":2}]}`}},
		{"without fields inside of arrays", `{"aggregate": "lists", "cursor": {}, "pipeline": [{"$project": {"l.x": 0}}]}`, []string{`{"_id":1,"l":[{"y":1},7,{}]}`}},
		{"a computed document", `{"find": "c", "filter": {"_id": 1}, "projection": {"_id": 0, "d": {"x": "$x", "k": {"$literal": "$x"}, "none": "$none"}}}`,
			[]string{`{"d":{"x":2,"k":"$x"}}`}},
		{"between bounds of an index", `{"find": "c", "hint": "_id_", "min": {"_id": 2}, "max": {"_id": 3}, "projection": {"x": 1}}`, []string{`{"_id":2,"x":1}`}},
		{"bounds cross types", `{"find": "c", "hint": "_id_", "min": {"_id": 2}, "max": {"_id": "a"}, "projection": {"_id": 1}}`, []string{`{"_id":2}`, `{"_id":3}`}},
		{"no collection", `{"find": "none"}`, []string{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { require.Equal(t, tt.want, all(t, db, tt.command)) })
	}
}

func TestSortingKnowsEveryType(t *testing.T) {
	_, db := startDB(t)
	var want []string
	for _, v := range inOrder {
		if strings.HasPrefix(v, "[") || strings.Contains(v, "$undefined") || strings.Contains(v, "$regular") {
			continue // not allowed as _id
		}
		want = append(want, v)
		_, err := db.Collection("c").InsertOne(t.Context(), doc(t, `{"_id": `+v+`}`))
		require.NoError(t, err, v)
	}
	got := all(t, db, `{"find": "c", "sort": {"_id": -1}}`)
	require.Len(t, got, len(want))
	for i, v := range want {
		require.Equal(t, raw(t, `{"_id": `+v+`}`), raw(t, got[len(got)-1-i]))
	}
}

func TestFindRefuses(t *testing.T) {
	tests := []struct {
		name, command string
		code          int32
	}{
		{"an operator that nobody knows", `{"find": "c", "filter": {"x": {"$foo": 1}}}`, BadValue},
		{"an operator that only the real server knows", `{"find": "c", "filter": {"x": {"$mod": [2, 1]}}}`, UnsupportedByMongotest},
		{"an argument that nobody knows", `{"find": "c", "filtre": {}}`, UnknownField},
		{"bounds without a hint", `{"find": "c", "min": {"_id": 1}}`, MissingMinMaxHint},
		{"a hint at no index", `{"find": "c", "hint": "none"}`, BadValue},
		{"a snapshot on a single server", `{"find": "c", "readConcern": {"level": "snapshot"}}`, NotAReplicaSet},
		{"a cursor that is not there", `{"getMore": {"$numberLong": "42"}, "collection": "c"}`, CursorNotFound},
		{"a command that nobody knows", `{"atlasVersion": 1}`, CommandNotFound},
		{"a mixed projection", `{"find": "c", "projection": {"a": 1, "b": 0}}`, invalidPipelineProjection},
	}
	_, db := startDB(t)
	must(t, db, `{"insert": "c", "documents": [{"_id": 1}]}`)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := run(t, db, tt.command)
			requireCode(t, tt.code, err)
		})
	}
}

func TestCursors(t *testing.T) {
	s, db := startDB(t)
	c := db.Collection("c")
	fill := func(from, to int) {
		var list []any
		for i := from; i < to; i++ {
			list = append(list, bson.D{{Key: "_id", Value: i}})
		}
		_, err := c.InsertMany(t.Context(), list)
		require.NoError(t, err)
	}
	fill(0, 300)

	cur, err := c.Find(t.Context(), bson.D{})
	require.NoError(t, err)
	require.Equal(t, firstBatch, cur.RemainingBatchLength())
	require.Equal(t, 1, s.Cursors())

	// What is deleted and inserted while a cursor is open: it goes on where it was.
	_, err = c.DeleteMany(t.Context(), doc(t, `{"_id": {"$lt": 200}}`))
	require.NoError(t, err)
	fill(300, 310)
	n := 0
	for cur.Next(t.Context()) {
		n++
	}
	require.NoError(t, cur.Err())
	// One document is read ahead of each batch.
	require.Equal(t, firstBatch+1+100+10, n)
	require.Zero(t, s.Cursors())

	cur, err = c.Find(t.Context(), bson.D{}, options.Find().SetBatchSize(2))
	require.NoError(t, err)
	require.NoError(t, cur.Close(t.Context()))
	require.Zero(t, s.Cursors(), "closing kills the cursor")
}

func TestACursorEndsWithItsCollection(t *testing.T) {
	tests := []struct {
		name string
		end  func(db *mongo.Database) error
	}{
		{"dropped", func(db *mongo.Database) error { return db.Collection("c").Drop(t.Context()) }},
		{"renamed", func(db *mongo.Database) error {
			return admin(db).RunCommand(t.Context(), doc(t, `{"renameCollection": "app.c", "to": "app.d"}`)).Err()
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, db := startDB(t)
			must(t, db, `{"insert": "c", "documents": [{"_id": 1}, {"_id": 2}, {"_id": 3}]}`)
			cur, err := db.Collection("c").Find(t.Context(), bson.D{}, options.Find().SetBatchSize(1))
			require.NoError(t, err)
			require.NoError(t, tt.end(db))
			var rest []bson.D
			requireCode(t, QueryPlanKilled, cur.All(t.Context(), &rest))
			require.Zero(t, s.Cursors())
		})
	}
}

func TestAnAnswerHoldsSixteenMegabytes(t *testing.T) {
	_, db := startDB(t)
	c := db.Collection("c")
	for i := range 5 {
		_, err := c.InsertOne(t.Context(), bson.D{{Key: "_id", Value: i}, {Key: "s", Value: strings.Repeat("x", 7<<20)}})
		require.NoError(t, err)
	}
	cur, err := c.Find(t.Context(), bson.D{})
	require.NoError(t, err)
	require.Equal(t, 2, cur.RemainingBatchLength())
	n := 0
	for cur.Next(t.Context()) {
		n++
	}
	require.NoError(t, cur.Err())
	require.Equal(t, 5, n)
	_, err = c.InsertOne(t.Context(), bson.D{{Key: "s", Value: strings.Repeat("x", 16<<20)}})
	require.ErrorContains(t, err, "too large")
}

// A sample is of documents that differ, be it picked one by one or out of all; a document that a fault makes unreadable is met by it, too.
func TestASampleIsOfTheCollection(t *testing.T) {
	s, db := startDB(t)
	ids := make([]any, 200)
	for i := range ids {
		ids[i] = bson.D{{Key: "_id", Value: i}}
	}
	_, err := db.Collection("c").InsertMany(t.Context(), ids)
	require.NoError(t, err)
	must(t, db, `{"delete": "c", "deletes": [{"q": {"_id": {"$lt": 50}}, "limit": 0}]}`)
	there := all(t, db, `{"find": "c"}`)
	for _, n := range []int{5, 100, 300} {
		sample := all(t, db, fmt.Sprintf(`{"aggregate": "c", "cursor": {}, "pipeline": [{"$sample": {"size": %d}}]}`, n))
		require.Len(t, sample, min(n, 150))
		require.Subset(t, there, sample)
		slices.Sort(sample)
		require.Len(t, slices.Compact(sample), min(n, 150))
	}
	s.Fail(Fault{Namespace: "app", Document: func(bson.Raw) bool { return true }, Error: &Error{Code: 8, Message: "disk"}})
	_, err = run(t, db, `{"aggregate": "c", "cursor": {}, "pipeline": [{"$sample": {"size": 5}}]}`)
	require.Error(t, err)
}

func TestAggregate(t *testing.T) {
	_, db := startDB(t)
	must(t, db, `{"insert": "c", "documents": [{"_id": 1, "org": "a", "v": 1}, {"_id": 2, "org": "b", "v": 2}, {"_id": 3, "org": "a", "v": 2.5}]}`)
	tests := []struct {
		pipeline string
		want     []string
	}{
		{`[]`, []string{`{"_id":1,"org":"a","v":1}`, `{"_id":2,"org":"b","v":2}`, `{"_id":3,"org":"a","v":2.5}`}},
		{`[{"$match": {"org": "a"}}, {"$group": {"_id": 1, "n": {"$sum": 1}}}]`, []string{`{"_id":1,"n":2}`}},
		{`[{"$match": {"org": "c"}}, {"$count": "n"}]`, []string{}},
		{`[{"$count": "n"}]`, []string{`{"n":3}`}},
		{`[{"$group": {"_id": "$org", "sum": {"$sum": "$v"}, "first": {"$min": "$_id"}, "last": {"$max": "$_id"}}}, {"$sort": {"_id": -1}}]`,
			[]string{`{"_id":"b","sum":2,"first":2,"last":2}`, `{"_id":"a","sum":3.5,"first":1,"last":3}`}},
		{`[{"$sort": {"v": -1}}, {"$skip": 1}, {"$limit": 1}, {"$project": {"_id": 0, "id": "$_id"}}]`, []string{`{"id":2}`}},
		{`[{"$group": {"_id": null, "bytes": {"$sum": {"$bsonSize": "$$ROOT"}}}}]`, []string{`{"_id":null,"bytes":100}`}},
		{`[{"$match": {"_id": 1}}, {"$set": {"w": {"$ifNull": ["$x", "none"]}}}, {"$unset": "v"}]`, []string{`{"_id":1,"org":"a","w":"none"}`}},
	}
	for _, tt := range tests {
		t.Run(tt.pipeline, func(t *testing.T) {
			require.Equal(t, tt.want, all(t, db, `{"aggregate": "c", "cursor": {}, "pipeline": `+tt.pipeline+`}`))
		})
	}
	require.Len(t, all(t, db, `{"aggregate": "c", "cursor": {}, "pipeline": [{"$sample": {"size": 2}}]}`), 2)
	_, err := run(t, db, `{"aggregate": "c", "cursor": {}, "pipeline": [{"$lookup": {}}]}`)
	requireCode(t, UnknownPipelineStage, err)
	_, err = run(t, db, `{"aggregate": "c", "pipeline": []}`)
	requireCode(t, FailedToParse, err)

	n, err := db.Collection("c").CountDocuments(t.Context(), doc(t, `{"v": {"$gte": 2}}`))
	require.NoError(t, err)
	require.EqualValues(t, 2, n)
	var orgs []string
	require.NoError(t, db.Collection("c").Distinct(t.Context(), "org", bson.D{}).Decode(&orgs))
	require.Equal(t, []string{"a", "b"}, orgs)
}

func TestStatsCountWhatIsThere(t *testing.T) {
	_, db := startDB(t)
	must(t, db, `{"insert": "c", "documents": [{"_id": 1}, {"_id": 2}]}`)
	must(t, db, `{"delete": "c", "deletes": [{"q": {"_id": 1}, "limit": 1}]}`)
	size := len(raw(t, `{"_id": 2}`))
	stats := must(t, db, `{"collStats": "c"}`)
	require.Equal(t, fmt.Sprint(size, 1), fmt.Sprint(stats.Lookup("size").Int32(), stats.Lookup("count").Int32()))
	staged := all(t, db, `{"aggregate": "c", "cursor": {}, "pipeline": [{"$collStats": {"storageStats": {}}}, {"$project": {"n": "$storageStats.count"}}]}`)
	require.Equal(t, []string{`{"n":1}`}, staged)
	names := all(t, db, `{"aggregate": "c", "cursor": {}, "pipeline": [{"$indexStats": {}}, {"$project": {"name": 1}}]}`)
	require.Equal(t, []string{`{"name":"_id_"}`}, names)
	require.InDelta(t, size, must(t, db, `{"dbStats": 1}`).Lookup("dataSize").Double(), 0)
	require.EqualValues(t, 1, must(t, db, `{"count": "c"}`).Lookup("n").Int32())
}
