package restore

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/mongotest"
)

// Each row says which of the documents a filter chooses. The in-memory server, whose matching is tested by itself, must
// choose the same.
func TestFiltersChooseWhatTheServerWould(t *testing.T) {
	t.Parallel()
	decimal, err := bson.ParseDecimal128("7.50")
	require.NoError(t, err)
	at := bson.DateTime(1_772_000_000_000)
	docs := map[string]bson.Raw{
		"a": doc(t, "_id", "a", "organization_id", "org_1", "n", int32(7), "at", at, "address", bson.D{{Key: "city", Value: "Pune"}}),
		"b": doc(t, "_id", "b", "organization_id", "org_2", "n", 7.5, "lines", bson.A{bson.D{{Key: "sku", Value: "x"}}, bson.D{{Key: "sku", Value: "y"}}}),
		"c": doc(t, "_id", "c", "organization_id", "org_1", "n", decimal, "tags", bson.A{"x", "y"}, "paid", true),
		"d": doc(t, "_id", "d", "n", "7", "at", at+1, "organization_id", nil),
		"e": doc(t, "_id", "e", "n", int64(1<<53+1), "lines", bson.A{bson.A{bson.D{{Key: "sku", Value: "x"}}}, 5}),
	}
	db := mongotest.Start(t).Client(t).Database("d")
	for _, d := range docs {
		_, err := db.Collection("c").InsertOne(t.Context(), d)
		require.NoError(t, err)
	}
	for filter, want := range map[string][]string{
		`{"organization_id": "org_1"}`:                     {"a", "c"},
		`{"organization_id": {"$in": ["org_1", "org_2"]}}`: {"a", "b", "c"},
		`{"_id": {"$in": ["a", "e", "z"]}}`:                {"a", "e"},
		`{"n": 7}`:                                         {"a"},
		`{"n": {"$eq": 7.5}}`:                              {"b", "c"},
		`{"n": {"$gte": 7, "$lt": 8}}`:                     {"a", "b", "c"},
		`{"n": {"$gt": 7.5}}`:                              {"e"},
		`{"n": {"$numberDecimal": "9007199254740993"}}`:    {"e"},
		`{"n": 9007199254740992}`:                          nil,
		`{"n": {"$gte": "6"}}`:                             {"d"},
		`{"address.city": "Pune"}`:                         {"a"},
		`{"lines.sku": "y"}`:                               {"b"},
		`{"lines.sku": "x"}`:                               {"b"},
		`{"lines.1.sku": "y"}`:                             {"b"},
		`{"lines.0.sku": "x"}`:                             {"b", "e"},
		`{"lines.1": 5}`:                                   {"e"},
		`{"tags": "y"}`:                                    {"c"},
		`{"paid": true}`:                                   {"c"},
		`{"at": {"$lte": {"$date": {"$numberLong": "1772000000000"}}}}`: {"a"},
		`{"at": {"$gt": {"$date": "2026-01-01T00:00:00Z"}}, "n": "7"}`:  {"d"},
		`{"organization_id": "org_1", "n": {"$lt": 7.5}}`:               {"a"},
		`{"_id": {"$oid": "65d000000000000000000000"}}`:                 nil,
		`{"n": {"$numberDouble": "Infinity"}}`:                          nil,
		`{"n": {"$lt": {"$numberDouble": "Infinity"}, "$gt": 1000}}`:    {"e"},
	} {
		t.Run(filter, func(t *testing.T) {
			f, err := ParseFilter(filter)
			require.NoError(t, err)
			var got []string
			for _, id := range sortedKeys(docs) {
				if f.Matches(docs[id]) {
					got = append(got, id)
				}
			}
			require.Equal(t, want, got)
			var query bson.Raw
			require.NoError(t, bson.UnmarshalExtJSON([]byte(filter), false, &query))
			cursor, err := db.Collection("c").Find(t.Context(), query)
			require.NoError(t, err)
			var found []struct {
				ID string `bson:"_id"`
			}
			require.NoError(t, cursor.All(t.Context(), &found))
			var server []string
			for _, d := range found {
				server = append(server, d.ID)
			}
			require.ElementsMatch(t, server, got)
		})
	}
}

func TestAFilterThatIsNotKnownIsRefusedByName(t *testing.T) {
	t.Parallel()
	for filter, want := range map[string]string{
		`{`:                                   "it is not extended JSON",
		`{}`:                                  "leave it out to mean all documents",
		`{"$or": [{"a": 1}]}`:                 "$or: this operator is not known; known are a value, $eq",
		`{"a": {"$ne": 1}}`:                   "a: the operator $ne is not known",
		`{"a": {"$gte": 1, "$exists": true}}`: "the operator $exists is not known",
		`{"a": null}`:                         "documents that lack the field",
		`{"a": {"b": 1}}`:                     `name the fields in it by dotted paths, like "address.city"`,
		`{"a": {}}`:                           "a document as a value",
		`{"a": [1]}`:                          "a value of type array is not known",
		`{"a": {"$in": 1}}`:                   "$in needs a list",
		`{"a": {"$in": [null]}}`:              "null is not known",
		`{"a": {"$regularExpression": {"pattern": "x", "options": ""}}}`: "patterns are not known",
		`{"a": {"$gt": true}}`: "$gt needs a number, a string, a date or an ObjectId",
		`{"a..b": 1}`:          "empty parts",
	} {
		t.Run(filter, func(t *testing.T) {
			_, err := ParseFilter(filter)
			require.ErrorContains(t, err, want)
		})
	}
}
