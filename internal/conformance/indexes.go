package conformance

import (
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// index makes a specification of one field; more options follow in turn.
func index(name, of string, value any, more ...any) bson.D {
	if n, ok := value.(int); ok {
		value = int32(n)
	}
	return append(bson.D{{Key: "key", Value: bson.D{{Key: of, Value: value}}}, {Key: "name", Value: name}}, option(more...)...)
}

// indexCases are the options that indexes may have.
func indexCases() []testCase {
	indexed := func(name string, indexes ...bson.D) testCase {
		return testCase{name: name, collections: []collection{{name: "indexed", documents: many(60), indexes: indexes}}}
	}
	compound := func(name string, keys bson.D, more ...any) bson.D {
		return append(bson.D{{Key: "key", Value: keys}, {Key: "name", Value: name}}, option(more...)...)
	}
	soon := bson.NewDateTimeFromTime(time.Now().Add(240 * time.Hour).Truncate(time.Hour))
	return []testCase{
		indexed("indexes, simple and compound", index("n_1", "n", 1), index("down", "n", -1), compound("org_n", option("organization_id", int32(1), "n", int32(-1))),
			index("below", "a.b.c", 1), index("a name with spaces, é and <&>", "x", 1)),
		indexed("unique indexes", index("n_1", "n", 1, "unique", true)),
		indexed("sparse indexes", index("missing_1", "missing", 1, "sparse", true), index("once", "also missing", 1, "unique", true, "sparse", true)),
		indexed("partial indexes", index("some", "n", 1, "unique", true, "partialFilterExpression", option("n", option("$gt", int64(5)), "organization_id", option("$exists", true)))),
		{name: "indexes by which documents expire", collections: []collection{{name: "tokens",
			documents: []bson.Raw{document("_id", 1, "at", soon), document("_id", 2, "at", nil), document("_id", 3), document("_id", 4, "at", bson.A{soon})},
			indexes:   []bson.D{index("at_1", "at", 1, "expireAfterSeconds", int32(0)), index("other", "at", -1, "expireAfterSeconds", int32(1<<30))}}}},
		indexed("hidden indexes", index("n_1", "n", 1, "hidden", true)),
		indexed("indexes with a collation", index("n_1", "organization_id", 1, "collation", option("locale", "sv", "strength", int32(1), "caseLevel", true))),
		indexed("text indexes", compound("words", option("organization_id", int32(1), "title", "text", "body", "text"), "weights", option("title", int32(10), "body", int32(2)),
			"default_language", "german", "language_override", "tongue")),
		indexed("text indexes on everything", index("all", "$**", "text")),
		indexed("wildcard indexes", index("all", "$**", 1, "wildcardProjection", option("organization_id", int32(1), "a.b", int32(1))), index("below", "a.$**", 1)),
		{name: "2dsphere and 2d indexes", collections: []collection{{name: "places",
			documents: []bson.Raw{document("_id", 1, "at", option("type", "Point", "coordinates", bson.A{13.4, 52.5}), "flat", bson.A{1.0, 2.0})},
			indexes:   []bson.D{index("at_2dsphere", "at", "2dsphere"), index("flat_2d", "flat", "2d", "min", -500.0, "max", 500.0, "bits", int32(20))}}}},
		indexed("hashed indexes", index("n_hashed", "n", "hashed")),
		indexed("storage options of indexes", index("n_1", "n", 1, "storageEngine", option("wiredTiger", option("configString", "prefix_compression=false")))),
		indexed("numbers of other types in keys", index("double", "n", 1.0), index("long", "n", int64(-1)), index("two", "organization_id", 2.5)),
	}
}
