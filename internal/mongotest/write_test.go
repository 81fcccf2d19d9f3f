package mongotest

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// everyType has a field of each type, out of any alphabetical order.
const everyType = `{"_id": {"z": 1, "a": [1, "two"]}, "min": {"$minKey": 1}, "max": {"$maxKey": 1}, "nan": {"$numberDouble": "NaN"},
	"dec": {"$numberDecimal": "1.00"}, "long": {"$numberLong": "1"}, "undef": {"$undefined": true}, "null": null,
	"re": {"$regularExpression": {"pattern": "a", "options": "im"}}, "code": {"$code": "f()", "$scope": {"x": 1}},
	"ptr": {"$dbPointer": {"$ref": "x", "$id": {"$oid": "000000000000000000000001"}}}, "sym": {"$symbol": "s"},
	"bin": {"$binary": {"base64": "AAE=", "subType": "80"}}, "ts": {"$timestamp": {"t": 1, "i": 2}}, "empty": {}, "": [{"": {}}],
	"date": {"$date": {"$numberLong": "-62135596800001"}}}`

func TestDocumentsComeBackByteForByte(t *testing.T) {
	_, db := startDB(t)
	want := raw(t, everyType)
	array, err := bson.Marshal(bson.D{{Key: "0", Value: want}})
	require.NoError(t, err)
	for name, documents := range map[string]any{
		"with the body": bson.RawValue{Type: bson.TypeArray, Value: array}, "beside the body": nil,
	} {
		t.Run(name, func(t *testing.T) {
			c := db.Collection(name)
			if documents == nil {
				_, err = c.InsertOne(t.Context(), want)
			} else {
				err = db.RunCommand(t.Context(), bson.D{{Key: "insert", Value: name}, {Key: "documents", Value: documents}}).Err()
			}
			require.NoError(t, err)
			got, err := c.FindOne(t.Context(), bson.D{}).Raw()
			require.NoError(t, err)
			require.Equal(t, want, got)
		})
	}
}

// Two documents of 9 MB fit beside a command's body, in a section of their own, but not into it: it is a document as well.
func TestCommandIsNoLargerThanADocument(t *testing.T) {
	_, db := startDB(t)
	large := func(id int) bson.D { return bson.D{{Key: "_id", Value: id}, {Key: "data", Value: make([]byte, 9<<20)}} }
	insert := bson.D{{Key: "insert", Value: "c"}, {Key: "documents", Value: bson.A{large(1), large(2)}}}
	requireCode(t, BSONObjectTooLarge, db.RunCommand(t.Context(), insert).Err())
	_, err := db.Collection("c").InsertMany(t.Context(), []bson.D{large(1), large(2)})
	require.NoError(t, err)
	largest := bson.D{{Key: "_id", Value: 3}, {Key: "data", Value: bson.Binary{}}}
	b, err := bson.Marshal(largest)
	require.NoError(t, err)
	largest[1].Value = bson.Binary{Data: make([]byte, maxDocumentSize-len(b))}
	require.NoError(t, db.RunCommand(t.Context(), bson.D{{Key: "insert", Value: "c"}, {Key: "documents", Value: bson.A{largest}}}).Err())
}

func TestInsertReportsEachDocument(t *testing.T) {
	tests := []struct {
		name, command string
		n             int32
		codes, at     []int32
		left          int
	}{
		{"all fine", `{"insert": "c", "documents": [{"_id": 1}, {"_id": 2}]}`, 2, nil, nil, 3},
		{"ordered stops", `{"insert": "c", "documents": [{"_id": 1}, {"_id": "there"}, {"_id": 2}]}`, 1, []int32{DuplicateKey}, []int32{1}, 2},
		{"unordered goes on", `{"insert": "c", "ordered": false, "documents": [{"_id": "there"}, {"_id": 1}, {"_id": 1.0}, {"_id": 2}]}`,
			2, []int32{DuplicateKey, DuplicateKey}, []int32{0, 2}, 3},
		{"an _id that may not be", `{"insert": "c", "ordered": false, "documents": [{"_id": [1]}, {"_id": 1}]}`, 1, []int32{InvalidIDField}, []int32{0}, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, db := startDB(t)
			must(t, db, `{"insert": "c", "documents": [{"_id": "there"}]}`)
			answer, err := run(t, db, tt.command)
			require.Equal(t, tt.n, answer.Lookup("n").Int32())
			var codes, at []int32
			var we mongo.WriteException
			if errors.As(err, &we) {
				for _, e := range we.WriteErrors {
					codes, at = append(codes, int32(e.Code)), append(at, int32(e.Index))
				}
			}
			if list, ok := answer.Lookup("writeErrors").ArrayOK(); ok && codes == nil {
				values, err := list.Values()
				require.NoError(t, err)
				for _, v := range values {
					codes = append(codes, v.Document().Lookup("code").Int32())
					at = append(at, v.Document().Lookup("index").Int32())
				}
			}
			require.Equal(t, tt.codes, codes)
			require.Equal(t, tt.at, at)
			require.Len(t, all(t, db, `{"find": "c"}`), tt.left)
		})
	}
}

func TestADuplicateIsNamed(t *testing.T) {
	_, db := startDB(t)
	must(t, db, `{"insert": "c", "documents": [{"_id": {"$oid": "000000000000000000000001"}}]}`)
	answer, _ := run(t, db, `{"insert": "c", "documents": [{"_id": {"$oid": "000000000000000000000001"}}]}`)
	e := answer.Lookup("writeErrors", "0").Document()
	require.Equal(t, `E11000 duplicate key error collection: app.c index: _id_ dup key: { _id: ObjectId('000000000000000000000001') }`,
		e.Lookup("errmsg").StringValue())
	require.Equal(t, raw(t, `{"_id": 1}`), e.Lookup("keyPattern").Document())
	require.Equal(t, raw(t, `{"_id": {"$oid": "000000000000000000000001"}}`), e.Lookup("keyValue").Document())
}

func TestIDsAreMadeAndMovedToTheFront(t *testing.T) {
	_, db := startDB(t)
	must(t, db, `{"insert": "c", "documents": [{"x": 1}, {"x": 2, "_id": 7}]}`)
	require.Equal(t, []string{`{"_id":7,"x":2}`}, all(t, db, `{"find": "c", "filter": {"x": 2}}`))
	require.Len(t, all(t, db, `{"find": "c", "filter": {"_id": {"$type": "objectId"}}}`), 1)
}

func TestEmptyTimestamps(t *testing.T) {
	const empty = `{"$timestamp":{"t":0,"i":0}}`
	tests := []struct {
		name, version, more string
		kept                bool
		code                int32
	}{
		{"are replaced", "8.0.12", ``, false, 0},
		{"are kept when asked for", "8.0.12", `, "bypassEmptyTsReplacement": true`, true, 0},
		{"cannot be kept by an older server", "7.0.14", `, "bypassEmptyTsReplacement": true`, false, UnknownField},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, db := startDB(t, WithVersion(tt.version))
			_, err := run(t, db, `{"insert": "c", "documents": [{"_id": `+empty+`, "t": `+empty+`, "d": {"t": `+empty+`}}]`+tt.more+`}`)
			if tt.code != 0 {
				requireCode(t, tt.code, err)
				return
			}
			require.NoError(t, err)
			filter := `{"_id": ` + empty + `, "d.t": ` + empty + `, "t": {"$ne": ` + empty + `}}`
			if tt.kept {
				filter = `{"_id": ` + empty + `, "d.t": ` + empty + `, "t": ` + empty + `}`
			}
			require.Len(t, all(t, db, `{"find": "c", "filter": `+filter+`}`), 1)
		})
	}
}

func TestValidators(t *testing.T) {
	const schema = `{"$jsonSchema": {"bsonType": "object", "required": ["x"], "additionalProperties": false, "properties": {
		"_id": {}, "x": {"bsonType": ["int", "long"], "minimum": 1, "maximum": 9}, "s": {"enum": ["a", "b"]},
		"l": {"bsonType": "array", "items": {"bsonType": "string", "maxLength": 2}}}}}`
	tests := []struct {
		name, validator, document string
		fails                     bool
	}{
		{"a query that fits", `{"x": {"$gt": 0}}`, `{"x": 1}`, false},
		{"a query that does not fit", `{"x": {"$gt": 0}}`, `{"x": 0}`, true},
		{"a schema that fits", schema, `{"x": 5, "s": "a", "l": ["ab"]}`, false},
		{"a field is missing", schema, `{"s": "a"}`, true},
		{"of another type", schema, `{"x": 5.0}`, true},
		{"out of range", schema, `{"x": 10}`, true},
		{"not one of those allowed", schema, `{"x": 5, "s": "c"}`, true},
		{"an element that does not fit", schema, `{"x": 5, "l": ["abc"]}`, true},
		{"a field too much", schema, `{"x": 5, "y": 1}`, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, db := startDB(t)
			must(t, db, `{"create": "c", "validator": `+tt.validator+`}`)
			_, err := db.Collection("c").InsertOne(t.Context(), doc(t, tt.document))
			if !tt.fails {
				require.NoError(t, err)
				return
			}
			requireCode(t, DocumentValidationFailure, err)
			_, err = db.Collection("c").InsertOne(t.Context(), doc(t, tt.document), options.InsertOne().SetBypassDocumentValidation(true))
			require.NoError(t, err)
			must(t, db, `{"drop": "c"}`)
			must(t, db, `{"create": "c", "validationAction": "warn", "validator": `+tt.validator+`}`)
			_, err = db.Collection("c").InsertOne(t.Context(), doc(t, tt.document))
			require.NoError(t, err)
		})
	}
}

func TestACappedCollectionForgetsTheOldest(t *testing.T) {
	_, db := startDB(t)
	must(t, db, `{"create": "c", "capped": true, "size": 4096, "max": 2}`)
	must(t, db, `{"insert": "c", "documents": [{"_id": 3}, {"_id": 2}, {"_id": 1}]}`)
	require.Equal(t, []string{`{"_id":2}`, `{"_id":1}`}, all(t, db, `{"find": "c"}`))
}

func TestUpdates(t *testing.T) {
	tests := []struct {
		name, update, want string
		code               int32
	}{
		{"replacement keeps the _id", `{"z": 1, "a": 2}`, `{"_id":1,"z":1,"a":2}`, 0},
		{"replacement with another _id", `{"_id": 2}`, ``, ImmutableField},
		{"set keeps the place", `{"$set": {"n": 6}}`, `{"_id":1,"n":6,"d":{"x":1},"l":[1,2],"s":"a"}`, 0},
		{"set makes the way", `{"$set": {"e.f.g": 1}}`, `{"_id":1,"n":5,"d":{"x":1},"l":[1,2],"s":"a","e":{"f":{"g":1}}}`, 0},
		{"set in a document and an array", `{"$set": {"d.y": 2, "l.3": 4}}`, `{"_id":1,"n":5,"d":{"x":1,"y":2},"l":[1,2,null,4],"s":"a"}`, 0},
		{"set through a number", `{"$set": {"n.x": 1}}`, ``, PathNotViable},
		{"set another _id", `{"$set": {"_id": 2}}`, ``, ImmutableField},
		{"unset", `{"$unset": {"d.x": "", "l.0": "", "s": "", "none": ""}}`, `{"_id":1,"n":5,"d":{},"l":[null,2]}`, 0},
		{"increase", `{"$inc": {"n": 2, "d.x": 0.5, "new": 1}}`, `{"_id":1,"n":7,"d":{"x":1.5},"l":[1,2],"s":"a","new":1}`, 0},
		{"increase text", `{"$inc": {"s": 2}}`, ``, TypeMismatch},
		{"max and min", `{"$max": {"n": 9}, "$min": {"d.x": 3}}`, `{"_id":1,"n":9,"d":{"x":1},"l":[1,2],"s":"a"}`, 0},
		{"push", `{"$push": {"l": {"$each": [3, 4]}, "m": 1}}`, `{"_id":1,"n":5,"d":{"x":1},"l":[1,2,3,4],"s":"a","m":[1]}`, 0},
		{"rename", `{"$rename": {"s": "t"}}`, `{"_id":1,"n":5,"d":{"x":1},"l":[1,2],"t":"a"}`, 0},
		{"only on insert", `{"$setOnInsert": {"n": 6}}`, `{"_id":1,"n":5,"d":{"x":1},"l":[1,2],"s":"a"}`, 0},
		{"an operator that nobody knows", `{"$foo": {"n": 6}}`, ``, FailedToParse},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, db := startDB(t)
			must(t, db, `{"insert": "c", "documents": [{"_id": 1, "n": 5, "d": {"x": 1}, "l": [1, 2], "s": "a"}]}`)
			answer, err := run(t, db, `{"update": "c", "updates": [{"q": {"_id": 1}, "u": `+tt.update+`}]}`)
			if tt.code != 0 {
				require.EqualValues(t, tt.code, answer.Lookup("writeErrors", "0", "code").Int32())
				return
			}
			require.NoError(t, err)
			require.Equal(t, []string{tt.want}, all(t, db, `{"find": "c"}`))
		})
	}
}

func TestUpdatesAndDeletesCount(t *testing.T) {
	_, db := startDB(t)
	c := db.Collection("c")
	must(t, db, `{"insert": "dates", "documents": [{"_id": 1}]}`)
	must(t, db, `{"update": "dates", "updates": [{"q": {}, "u": {"$currentDate": {"d": true, "t": {"$type": "timestamp"}}}}]}`)
	require.Len(t, all(t, db, `{"find": "dates", "filter": {"d": {"$type": "date"}, "t": {"$type": "timestamp"}}}`), 1)

	must(t, db, `{"insert": "c", "documents": [{"_id": 1, "x": 1}, {"_id": 2, "x": 1}, {"_id": 3, "x": 2}]}`)
	done, err := c.UpdateMany(t.Context(), doc(t, `{}`), doc(t, `{"$set": {"x": 2}}`))
	require.NoError(t, err)
	require.EqualValues(t, 3, done.MatchedCount)
	require.EqualValues(t, 2, done.ModifiedCount)

	done, err = c.UpdateOne(t.Context(), doc(t, `{"_id": 9, "k": "a", "z": {"$gt": 1}}`), doc(t, `{"$set": {"x": 1}, "$setOnInsert": {"y": 2}}`),
		options.UpdateOne().SetUpsert(true))
	require.NoError(t, err)
	require.EqualValues(t, 1, done.UpsertedCount)
	require.EqualValues(t, 9, done.UpsertedID)
	require.Equal(t, []string{`{"_id":9,"k":"a","x":1,"y":2}`}, all(t, db, `{"find": "c", "filter": {"_id": 9}}`))

	replaced, err := c.ReplaceOne(t.Context(), doc(t, `{"_id": 10}`), doc(t, `{"r": 1}`), options.Replace().SetUpsert(true))
	require.NoError(t, err)
	require.EqualValues(t, 10, replaced.UpsertedID)

	deleted, err := c.DeleteOne(t.Context(), doc(t, `{"x": 2}`))
	require.NoError(t, err)
	require.EqualValues(t, 1, deleted.DeletedCount)
	deleted, err = c.DeleteMany(t.Context(), doc(t, `{"x": 2}`))
	require.NoError(t, err)
	require.EqualValues(t, 2, deleted.DeletedCount)
	require.Len(t, all(t, db, `{"find": "c"}`), 2)
}

func TestFindAndModify(t *testing.T) {
	tests := []struct{ name, command, value, left string }{
		{"before the update", `"query": {"_id": 1}, "update": {"$inc": {"n": 1}}`, `{"_id":1,"n":1}`, `{"_id":1,"n":2}`},
		{"after the update", `"query": {"_id": 1}, "update": {"$inc": {"n": 1}}, "new": true`, `{"_id":1,"n":2}`, `{"_id":1,"n":2}`},
		{"some fields", `"query": {"_id": 1}, "update": {"$inc": {"n": 1}}, "fields": {"n": 1, "_id": 0}`, `{"n":1}`, `{"_id":1,"n":2}`},
		{"nothing found", `"query": {"_id": 1, "n": 7}, "update": {"n": 1}`, ``, `{"_id":1,"n":1}`},
		{"the first of an order", `"sort": {"n": -1}, "remove": true`, `{"_id":2,"n":5}`, `{"_id":1,"n":1}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, db := startDB(t)
			must(t, db, `{"insert": "c", "documents": [{"_id": 1, "n": 1}, {"_id": 2, "n": 5}]}`)
			answer := must(t, db, `{"findAndModify": "c", `+tt.command+`}`)
			got := ""
			if d, ok := answer.Lookup("value").DocumentOK(); ok {
				json, err := bson.MarshalExtJSON(d, false, false)
				require.NoError(t, err)
				got = string(json)
			}
			require.Equal(t, tt.value, got)
			require.Equal(t, tt.left, all(t, db, `{"find": "c"}`)[0])
		})
	}
	_, db := startDB(t)
	var made bson.D
	err := db.Collection("c").FindOneAndUpdate(t.Context(), doc(t, `{"_id": "lease", "owner": ""}`), doc(t, `{"$set": {"owner": "me"}}`),
		options.FindOneAndUpdate().SetUpsert(true).SetReturnDocument(options.After)).Decode(&made)
	require.NoError(t, err)
	require.Equal(t, doc(t, `{"_id": "lease", "owner": "me"}`), made)
	err = db.Collection("c").FindOneAndUpdate(t.Context(), doc(t, `{"_id": "lease", "owner": ""}`), doc(t, `{"$set": {"owner": "you"}}`),
		options.FindOneAndUpdate().SetUpsert(true)).Err()
	requireCode(t, DuplicateKey, err)
}
