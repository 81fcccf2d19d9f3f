package mongotest

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
)

func TestIndexSpecificationsAreKept(t *testing.T) {
	tests := []struct{ name, spec, want string }{
		{"compound, keys in order", `{"key": {"b": 1, "a": -1}, "name": "x"}`, `{"v":2,"key":{"b":1,"a":-1},"name":"x"}`},
		{"options in order", `{"v": 2, "name": "x", "key": {"a": 1}, "sparse": true, "unique": true}`,
			`{"v":2,"key":{"a":1},"name":"x","sparse":true,"unique":true}`},
		{"TTL", `{"key": {"at": 1}, "name": "x", "expireAfterSeconds": 3600}`,
			`{"v":2,"key":{"at":1},"name":"x","expireAfterSeconds":3600}`},
		{"partial", `{"key": {"a": 1}, "name": "x", "partialFilterExpression": {"z": {"$gt": 1}, "b": 1}}`,
			`{"v":2,"key":{"a":1},"name":"x","partialFilterExpression":{"z":{"$gt":1},"b":1}}`},
		{"collation and hidden", `{"key": {"a": 1}, "name": "x", "collation": {"locale": "de"}, "hidden": true}`,
			`{"v":2,"key":{"a":1},"name":"x","collation":{"locale":"de"},"hidden":true}`},
		{"wildcard", `{"key": {"$**": 1}, "name": "x", "wildcardProjection": {"a": 1}}`,
			`{"v":2,"key":{"$**":1},"name":"x","wildcardProjection":{"a":1}}`},
		{"hashed", `{"key": {"a": "hashed"}, "name": "x"}`, `{"v":2,"key":{"a":"hashed"},"name":"x"}`},
		{"2dsphere", `{"key": {"a": "2dsphere"}, "name": "x"}`,
			`{"v":2,"key":{"a":"2dsphere"},"name":"x","2dsphereIndexVersion":3}`},
		{"text", `{"key": {"p": 1, "a": "text", "b": "text"}, "name": "x", "default_language": "german"}`,
			`{"v":2,"key":{"p":1,"_fts":"text","_ftsx":1},"name":"x","default_language":"german","weights":{"a":1,"b":1},` +
				`"language_override":"language","textIndexVersion":3}`},
		{"text as a dump has it", `{"v": 2, "key": {"_fts": "text", "_ftsx": 1}, "name": "x", "weights": {"a": 5},
			"default_language": "english", "language_override": "language", "textIndexVersion": 3}`,
			`{"v":2,"key":{"_fts":"text","_ftsx":1},"name":"x","weights":{"a":5},"default_language":"english",` +
				`"language_override":"language","textIndexVersion":3}`},
		{"what older servers wrote", `{"key": {"a": 1}, "name": "x", "ns": "app.c", "background": true}`,
			`{"v":2,"key":{"a":1},"name":"x","background":true}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, db := startDB(t)
			must(t, db, `{"createIndexes": "c", "indexes": [`+tt.spec+`]}`)
			require.Equal(t, []string{`{"v":2,"key":{"_id":1},"name":"_id_"}`, tt.want}, all(t, db, `{"listIndexes": "c"}`))
			answer := must(t, db, `{"createIndexes": "c", "indexes": [`+tt.spec+`]}`)
			require.Equal(t, "all indexes already exist", answer.Lookup("note").StringValue())
		})
	}
}

func TestCreateIndexesRefuses(t *testing.T) {
	tests := []struct {
		name, spec string
		code       int32
	}{
		{"another key under the same name", `{"key": {"b": 1}, "name": "a_1"}`, IndexKeySpecsConflict},
		{"another filter under the same name", `{"key": {"a": 1}, "name": "a_1", "partialFilterExpression": {"x": 1}}`, IndexKeySpecsConflict},
		{"a unique one under the same name", `{"key": {"a": 1}, "name": "a_1", "unique": true}`, IndexKeySpecsConflict},
		{"other options under the same name", `{"key": {"a": 1}, "name": "a_1", "expireAfterSeconds": 60}`, IndexOptionsConflict},
		{"another name for the same key", `{"key": {"a": 1}, "name": "other"}`, IndexOptionsConflict},
		{"an option that nobody knows", `{"key": {"b": 1}, "name": "b_1", "uniq": true}`, InvalidIndexSpecificationOption},
		{"no key", `{"key": {}, "name": "b_1"}`, CannotCreateIndex},
		{"a kind that nobody knows", `{"key": {"b": "fancy"}, "name": "b_1"}`, CannotCreateIndex},
		{"duplicates of what must be unique", `{"key": {"dup": 1}, "name": "dup_1", "unique": true}`, DuplicateKey},
		{"two arrays in one key", `{"key": {"l": 1, "m": 1}, "name": "lm", "unique": true}`, CannotIndexParallelArrays},
	}
	_, db := startDB(t)
	must(t, db, `{"insert": "c", "documents": [{"dup": 1, "l": [1], "m": [1]}, {"dup": 1.0}]}`)
	must(t, db, `{"createIndexes": "c", "indexes": [{"key": {"a": 1}, "name": "a_1"}]}`)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := run(t, db, `{"createIndexes": "c", "indexes": [{"key": {"fine": 1}, "name": "fine"}, `+tt.spec+`]}`)
			requireCode(t, tt.code, err)
			require.Len(t, all(t, db, `{"listIndexes": "c"}`), 2, "all of a command's indexes are built, or none")
		})
	}
	must(t, db, `{"createIndexes": "c", "ignoreUnknownIndexOptions": true, "indexes": [{"key": {"b": 1}, "name": "b_1", "uniq": true}]}`)
	_, err := run(t, db, `{"listIndexes": "none"}`)
	requireCode(t, NamespaceNotFound, err)
}

func TestUniqueIndexes(t *testing.T) {
	tests := []struct {
		name, index, first, second string
		conflict                   bool
	}{
		{"equal", `{"key": {"a": 1}, "unique": true}`, `{"a": 1}`, `{"a": 1}`, true},
		{"equal numbers of different types", `{"key": {"a": 1}, "unique": true}`, `{"a": 1}`, `{"a": {"$numberDecimal": "1.00"}}`, true},
		{"number and string", `{"key": {"a": 1}, "unique": true}`, `{"a": 1}`, `{"a": "1"}`, false},
		{"both missing", `{"key": {"a": 1}, "unique": true}`, `{}`, `{"a": null}`, true},
		{"both missing, sparse", `{"key": {"a": 1}, "unique": true, "sparse": true}`, `{}`, `{}`, false},
		{"outside of the partial filter", `{"key": {"a": 1}, "unique": true, "partialFilterExpression": {"on": true}}`,
			`{"a": 1, "on": true}`, `{"a": 1}`, false},
		{"inside of the partial filter", `{"key": {"a": 1}, "unique": true, "partialFilterExpression": {"on": true}}`,
			`{"a": 1, "on": true}`, `{"a": 1, "on": true}`, true},
		{"compound, one part equal", `{"key": {"a": 1, "b": 1}, "unique": true}`, `{"a": 1, "b": 1}`, `{"a": 1, "b": 2}`, false},
		{"an element of an array", `{"key": {"a.x": 1}, "unique": true}`, `{"a": [{"x": 1}, {"x": 2}]}`, `{"a": {"x": 2}}`, true},
		{"not unique", `{"key": {"a": 1}}`, `{"a": 1}`, `{"a": 1}`, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, db := startDB(t)
			c := db.Collection("c")
			index := doc(t, tt.index)
			must(t, db, `{"create": "c"}`)
			require.NoError(t, db.RunCommand(t.Context(), append(doc(t, `{"createIndexes": "c"}`),
				doc(t, `{"indexes": [{"name": "x", `+tt.index[1:]+`]}`)...)).Err(), index)
			_, err := c.InsertOne(t.Context(), doc(t, tt.first))
			require.NoError(t, err)
			inserted, err := c.InsertOne(t.Context(), doc(t, tt.second))
			if !tt.conflict {
				require.NoError(t, err)
				_, err = c.UpdateByID(t.Context(), inserted.InsertedID, doc(t, `{"$set": {"z": 1}}`))
				require.NoError(t, err, "a document does not conflict with itself")
				return
			}
			requireCode(t, DuplicateKey, err)
			_, err = c.DeleteOne(t.Context(), doc(t, `{}`))
			require.NoError(t, err)
			_, err = c.InsertOne(t.Context(), doc(t, tt.second))
			require.NoError(t, err, "the first one is gone")
		})
	}
}

func TestIndexesAreDropped(t *testing.T) {
	tests := []struct {
		name, which string
		left        int
		code        int32
	}{
		{"by name", `"a_1"`, 2, 0},
		{"by key", `{"a": 1}`, 2, 0},
		{"by names", `["a_1", "b_1"]`, 1, 0},
		{"all", `"*"`, 1, 0},
		{"not the one on _id", `"_id_"`, 3, InvalidOptions},
		{"not one that is not there", `"c_1"`, 3, IndexNotFound},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, db := startDB(t)
			must(t, db, `{"createIndexes": "c", "indexes": [{"key": {"a": 1}, "name": "a_1"}, {"key": {"b": 1}, "name": "b_1"}]}`)
			_, err := run(t, db, `{"dropIndexes": "c", "index": `+tt.which+`}`)
			if tt.code == 0 {
				require.NoError(t, err)
			} else {
				requireCode(t, tt.code, err)
			}
			require.Len(t, all(t, db, `{"listIndexes": "c"}`), tt.left)
		})
	}
}

func TestAClusteredCollection(t *testing.T) {
	s, db := startDB(t)
	must(t, db, `{"create": "c", "clusteredIndex": {"key": {"_id": 1}, "unique": true, "name": "by id"}}`)
	must(t, db, `{"insert": "c", "documents": [{"_id": 3}, {"_id": 1}, {"_id": 2}]}`)
	require.Equal(t, []string{`{"_id":1}`, `{"_id":2}`, `{"_id":3}`}, all(t, db, `{"find": "c"}`), "it lies in order of _id")
	listed := `{"v":2,"key":{"_id":1},"name":"by id","unique":true,"clustered":true}`
	require.Equal(t, []string{listed}, all(t, db, `{"listIndexes": "c"}`))
	require.Zero(t, info(t, s, "c").Lookup("idIndex"))
	must(t, db, `{"createIndexes": "c", "indexes": [`+listed+`]}`)
	must(t, db, `{"create": "plain"}`)
	_, err := run(t, db, `{"createIndexes": "plain", "indexes": [`+listed+`]}`)
	requireCode(t, notClustered, err)
	_, err = run(t, db, `{"dropIndexes": "c", "index": "by id"}`)
	requireCode(t, InvalidOptions, err)
}

func TestCollMod(t *testing.T) {
	s, db := startDB(t)
	must(t, db, `{"createIndexes": "c", "indexes": [{"key": {"a": 1}, "name": "a_1", "expireAfterSeconds": 10}]}`)
	answer := must(t, db, `{"collMod": "c", "index": {"name": "a_1", "expireAfterSeconds": 20}}`)
	require.EqualValues(t, 10, answer.Lookup("expireAfterSeconds_old").Int32())
	must(t, db, `{"collMod": "c", "index": {"keyPattern": {"a": 1}, "hidden": true}}`)
	require.Equal(t, `{"v":2,"key":{"a":1},"name":"a_1","expireAfterSeconds":20,"hidden":true}`, all(t, db, `{"listIndexes": "c"}`)[1])
	must(t, db, `{"collMod": "c", "index": {"name": "a_1", "hidden": false}}`)
	require.Equal(t, `{"v":2,"key":{"a":1},"name":"a_1","expireAfterSeconds":20}`, all(t, db, `{"listIndexes": "c"}`)[1])

	must(t, db, `{"collMod": "c", "validator": {"a": {"$type": "date"}}}`)
	require.Equal(t, raw(t, `{"validator": {"a": {"$type": "date"}}}`), info(t, s, "c").Lookup("options").Document())
	_, err := db.Collection("c").InsertOne(t.Context(), doc(t, `{"a": 1}`))
	requireCode(t, DocumentValidationFailure, err)
}

// An index takes over its collection's collation unless it names one, and "simple" is listed as none: so a client that puts an
// index back without saying so gets another one.
func TestIndexTakesOverTheCollationOfItsCollection(t *testing.T) {
	db := Start(t).Client(t).Database("d")
	german := bson.D{{Key: "locale", Value: "de"}}
	require.NoError(t, db.RunCommand(t.Context(), bson.D{{Key: "create", Value: "c"}, {Key: "collation", Value: german}}).Err())
	require.NoError(t, db.RunCommand(t.Context(), bson.D{{Key: "createIndexes", Value: "c"}, {Key: "indexes", Value: bson.A{
		bson.D{{Key: "key", Value: bson.D{{Key: "a", Value: 1}}}, {Key: "name", Value: "inherits"}},
		bson.D{{Key: "key", Value: bson.D{{Key: "b", Value: 1}}}, {Key: "name", Value: "simple"}, {Key: "collation", Value: bson.D{{Key: "locale", Value: "simple"}}}},
		bson.D{{Key: "key", Value: bson.D{{Key: "c", Value: 1}}}, {Key: "name", Value: "own"}, {Key: "collation", Value: bson.D{{Key: "locale", Value: "fr"}}}},
	}}}).Err())
	cursor, err := db.Collection("c").Indexes().List(t.Context())
	require.NoError(t, err)
	var specs []struct {
		Name      string
		Collation bson.D
	}
	require.NoError(t, cursor.All(t.Context(), &specs))
	have := map[string]bson.D{}
	for _, s := range specs {
		have[s.Name] = s.Collation
	}
	require.Equal(t, map[string]bson.D{"_id_": german, "inherits": german, "simple": nil, "own": {{Key: "locale", Value: "fr"}}}, have)
}

// Since 5.0 indexes of one key may stand beside each other where they hold other documents, or hold them otherwise.
func TestIndexesOfOneKeyThatDifferInKind(t *testing.T) {
	_, db := startDB(t)
	must(t, db, `{"createIndexes": "c", "indexes": [{"key": {"a": 1}, "name": "plain"}, {"key": {"a": 1}, "name": "unique", "unique": true},
		{"key": {"a": 1}, "name": "sparse", "sparse": true}, {"key": {"a": 1}, "name": "some", "partialFilterExpression": {"b": 1}}]}`)
	require.Len(t, all(t, db, `{"listIndexes": "c"}`), 5)
}

// Such keys stand only in indexes that were built before 3.4: of either version, no new one has them.
func TestNoNewIndexHasAKeyOfOldServers(t *testing.T) {
	db := Start(t).Client(t).Database("d")
	for _, value := range []any{true, "", 0, math.Copysign(0, -1), math.NaN(), nil, bson.DateTime(1), bson.D{}, "no such kind"} {
		for _, version := range []int{1, 2} {
			requireCode(t, CannotCreateIndex, db.RunCommand(t.Context(), bson.D{{Key: "createIndexes", Value: "c"}, {Key: "indexes", Value: bson.A{
				bson.D{{Key: "v", Value: version}, {Key: "key", Value: bson.D{{Key: "a", Value: value}}}, {Key: "name", Value: "a"}},
			}}}).Err())
		}
	}
}
