package conformance

import (
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

func cases() []testCase {
	return append(append(append(nameCases(), valueCases()...), kindCases()...), indexCases()...)
}

// nameCases are the names that collections may have.
func nameCases() []testCase {
	named := func(name string, names ...string) testCase {
		c := testCase{name: name}
		for i, n := range names {
			c.collections = append(c.collections, collection{name: n, documents: many(i + 1)})
		}
		return c
	}
	return []testCase{
		named("names with spaces, slashes and percent signs", "a b", "a/b", "a\\b", "100%", "%2F", "a+b", "+", "a b/c%d+e"),
		named("names of any letters", "größe", "日本語", "🚗", "e\u0301", "é", "\"quoted\"", "it's", "<&>", "a?b=c#d", "*", "tab\tbed", "~"),
		named("names with a line break", "one\ntwo", "\r\n"),
		named("names with dots", "a.b", "a..b", "a.", "fs.files", "fs.chunks", "a.metadata.json", "x.bson", "x.bson.gz"),
		named("names that look like files", "manifest.json", "state.json", "prelude.json", "oplog.bson", "invoices.metadata"),
		named("names like those of systems", "systems", "system", "systemXjs", "admin", "local"),
		named("names like those of systems, with dots", "System.users", "my.System.profile", "my.system", "system_.js"),
		named("names like those of runbook", "runbook", "runbooks.stage", "Runbook.lease", "my.runbook.old"),
		named("names that differ in case", "Invoices", "invoices", "INVOICES"),
		named("very long names", strings.Repeat("l", 120), strings.Repeat("long/", 36), strings.Repeat("ä", 90), strings.Repeat("long/", 35)+"short"),
		named("names of one letter", "a", "_", "1", "-"),
	}
}

// option makes options, or what stands in them, of keys and values in turn.
func option(pairs ...any) bson.D {
	d := bson.D{}
	for pair := range slices.Chunk(pairs, 2) {
		d = append(d, bson.E{Key: pair[0].(string), Value: pair[1]})
	}
	return d
}

// kindCases are the kinds and options that collections may have.
func kindCases() []testCase {
	tickets := collection{name: "tickets", documents: many(20)}
	later := bson.A{option("$match", option("n", option("$gte", int64(5))))}
	german := option("locale", "de", "strength", int32(2))
	return []testCase{
		{name: "views, and views on views", collections: []collection{
			{name: "a view that stands before what it shows", options: option("viewOn", "tickets", "pipeline", later)},
			tickets,
			{name: "on a view", options: option("viewOn", "a view that stands before what it shows", "pipeline", bson.A{option("$project", option("n", int32(1)))})},
			{name: "on nothing", options: option("viewOn", "not there", "pipeline", bson.A{})},
		}},
		{name: "views with a collation", collections: []collection{tickets, {name: "sorted", options: option("viewOn", "tickets", "pipeline", bson.A{}, "collation", german)}}},
		{name: "capped collections", collections: []collection{
			{name: "by size", options: option("capped", true, "size", int32(1<<20)), documents: reversed(many(200))},
			{name: "by number", options: option("capped", true, "size", int32(1<<20), "max", int32(500)), documents: reversed(many(100)),
				indexes: []bson.D{index("n_1", "n", 1)}},
			{name: "empty", options: option("capped", true, "size", int32(4096))},
		}},
		{name: "clustered collections", collections: []collection{
			{name: "clustered", options: option("clusteredIndex", option("key", option("_id", int32(1)), "unique", true, "name", "by id")), documents: many(50),
				indexes: []bson.D{index("n_1", "n", 1)}},
			{name: "clustered without a name", options: option("clusteredIndex", option("key", option("_id", int32(1)), "unique", true)), documents: IDs(2)},
		}},
		{name: "clustered collections whose documents expire", collections: []collection{
			{name: "clustered", options: option("clusteredIndex", option("key", option("_id", int32(1)), "unique", true), "expireAfterSeconds", int64(1<<30)),
				documents: []bson.Raw{document("_id", bson.NewDateTimeFromTime(time.Now().Truncate(time.Hour))), document("_id", "no date")}},
		}},
		{name: "collations", collections: []collection{
			{name: "german", options: option("collation", german), documents: many(20), indexes: []bson.D{index("n_1", "n", 1),
				append(index("simple", "n", -1), option("collation", option("locale", "simple"))...),
				append(index("french", "organization_id", 1), option("collation", option("locale", "fr", "backwards", true))...)}},
			{name: "numbers in order", options: option("collation", option("locale", "en", "numericOrdering", true)), documents: many(3)},
		}},
		{name: "validators", collections: []collection{
			{name: "strict", options: option("validator", option("must", option("$exists", true)), "validationLevel", "strict", "validationAction", "error"),
				documents: []bson.Raw{document("_id", 1, "from", "before the rule"), document("_id", 2, "must", 1)}},
			{name: "moderate", options: option("validator", option("$jsonSchema", option("bsonType", "object", "required", bson.A{"n"})), "validationLevel", "moderate", "validationAction", "warn"),
				documents: []bson.Raw{document("_id", 1)}},
		}},
		{name: "time series in the first form", collections: []collection{
			{name: "weather", options: option("timeseries", option("timeField", "at", "metaField", "where", "granularity", "minutes"), "expireAfterSeconds", int64(1<<30)),
				documents: oldBuckets(30), indexes: []bson.D{index("by place", "where", 1), index("latest", "at", -1)}},
			{name: "empty", options: option("timeseries", option("timeField", "at"))},
		}},
		{name: "time series in the compressed form", collections: []collection{
			{name: "weather", options: option("timeseries", option("timeField", "at")), documents: compressedBuckets(5)},
		}},
		{name: "images before and after a change", collections: []collection{
			{name: "watched", options: option("changeStreamPreAndPostImages", option("enabled", true)), documents: many(3)},
		}},
		{name: "functions of the server", collections: []collection{
			{name: "system.js", documents: []bson.Raw{document("_id", "add", "value", bson.JavaScript("function(a, b) { return a + b }"))}},
			{name: "invoices", documents: many(3)},
		}},
		{name: "storage options", collections: []collection{
			{name: "packed", options: option("storageEngine", option("wiredTiger", option("configString", "block_compressor=zlib"))), documents: many(3)},
		}},
	}
}

func reversed(list []bson.Raw) []bson.Raw {
	back := make([]bson.Raw, len(list))
	for i, d := range list {
		back[len(list)-1-i] = d
	}
	return back
}

// oldBuckets makes buckets as servers before 5.2 wrote them, and still read.
func oldBuckets(n int) []bson.Raw {
	start := time.Now().UTC().Truncate(time.Hour)
	list := make([]bson.Raw, n)
	for i := range list {
		at := bson.NewDateTimeFromTime(start.Add(time.Duration(i-n) * time.Hour))
		id := bson.NewObjectIDFromTimestamp(at.Time())
		first, second := option("_id", bson.ObjectID{1, byte(i)}, "at", at, "t", 20.5), option("_id", bson.ObjectID{2, byte(i)}, "at", at, "t", 21.0)
		data := bson.D{}
		for j, e := range first {
			data = append(data, bson.E{Key: e.Key, Value: option("0", e.Value, "1", second[j].Value)})
		}
		list[i] = document("_id", id, "control", option("version", int32(1), "min", first, "max", second), "meta", "station "+string(rune('a'+i%5)), "data", data)
	}
	return list
}

// compressedBuckets makes buckets as newer servers write them: each column is one binary value of subtype 7. Their
// content is that of two measurements: a literal for the first, and another for the second.
func compressedBuckets(n int) []bson.Raw {
	start := time.Now().UTC().Truncate(time.Hour)
	column := func(a, b any) bson.Binary {
		var data []byte
		for _, v := range []any{a, b} {
			d := document("", v)
			data = append(data, d[4:len(d)-1]...)
		}
		return bson.Binary{Subtype: byte(bsoncore.TypeArray) + 3, Data: append(data, 0)}
	}
	list := make([]bson.Raw, n)
	for i := range list {
		at := bson.NewDateTimeFromTime(start.Add(time.Duration(i-n) * time.Hour))
		a, b := bson.ObjectID{1, byte(i)}, bson.ObjectID{2, byte(i)}
		list[i] = document("_id", bson.NewObjectIDFromTimestamp(at.Time()),
			"control", option("version", int32(2), "min", option("_id", a, "at", at, "t", 20.5), "max", option("_id", b, "at", at+1, "t", 21.0), "count", int32(2)),
			"data", option("at", column(at, at+1), "_id", column(a, b), "t", column(20.5, 21.0)))
	}
	return list
}
