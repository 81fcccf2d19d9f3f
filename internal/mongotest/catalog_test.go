package mongotest

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// info is what listCollections says of one collection.
func info(t *testing.T, s *Server, name string) bson.Raw {
	t.Helper()
	answer := must(t, s.Client(t).Database("app"), `{"listCollections": 1, "filter": {"name": "`+name+`"}}`)
	values, err := answer.Lookup("cursor", "firstBatch").Array().Values()
	require.NoError(t, err)
	require.Len(t, values, 1, "collections named %s", name)
	return values[0].Document()
}

func TestOptionsAreListedAsTheyWereSent(t *testing.T) {
	tests := []struct{ name, options, kind, want string }{
		{"plain", ``, "collection", `{}`},
		{"capped", `"capped": true, "size": 4096, "max": 7`, "collection", `{"capped": true, "size": 4096, "max": 7}`},
		{"validator, its keys in order", `"validator": {"z": {"$exists": true}, "a": 1}, "validationLevel": "moderate"`,
			"collection", `{"validator": {"z": {"$exists": true}, "a": 1}, "validationLevel": "moderate"}`},
		{"collation", `"collation": {"locale": "de", "strength": 2}`, "collection", `{"collation": {"locale": "de", "strength": 2}}`},
		{"view", `"viewOn": "base", "pipeline": [{"$match": {"x": 1}}]`, "view", `{"viewOn": "base", "pipeline": [{"$match": {"x": 1}}]}`},
		{"time series", `"timeseries": {"timeField": "t", "metaField": "m"}`, "timeseries",
			`{"timeseries": {"timeField": "t", "metaField": "m", "granularity": "seconds", "bucketMaxSpanSeconds": 3600}}`},
		{"clustered", `"clusteredIndex": {"key": {"_id": 1}, "unique": true}`, "collection",
			`{"clusteredIndex": {"v": 2, "key": {"_id": 1}, "name": "_id_", "unique": true}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, db := startDB(t)
			command := `{"create": "c"`
			if tt.options != "" {
				command += ", " + tt.options
			}
			must(t, db, command+"}")
			got := info(t, s, "c")
			require.Equal(t, tt.kind, got.Lookup("type").StringValue())
			require.Equal(t, raw(t, tt.want), got.Lookup("options").Document())
			must(t, db, command+"}") // the same again changes nothing
			require.Equal(t, got, info(t, s, "c"))
		})
	}
}

func TestCreateRefuses(t *testing.T) {
	tests := []struct {
		name, command string
		code          int32
	}{
		{"a name that is taken", `{"create": "taken", "capped": true, "size": 4096}`, NamespaceExists},
		{"an option that nobody knows", `{"create": "c", "cappd": true}`, UnknownField},
		{"a capped collection without a size", `{"create": "c", "capped": true}`, InvalidOptions},
		{"a size without capped", `{"create": "c", "size": 4096}`, InvalidOptions},
		{"a dollar in the name", `{"create": "c$"}`, InvalidNamespace},
		{"a name that belongs to the server", `{"create": "system.mine"}`, InvalidNamespace},
		{"a document for such a name", `{"insert": "system.mine", "documents": [{}]}`, InvalidNamespace},
		{"a document among the views", `{"insert": "system.views", "documents": [{}]}`, InvalidNamespace},
		{"a document in the profile", `{"update": "system.profile", "updates": [{"q": {}, "u": {"$set": {"a": 1}}}]}`, InvalidNamespace},
		{"system in the midst of a name", `{"create": "my.system.c"}`, BadValue},
		{"a document for such a name, too", `{"insert": "my.system.c", "documents": [{}]}`, BadValue},
		{"no name", `{"create": ""}`, InvalidNamespace},
		{"a name that is too long", `{"create": "` + strings.Repeat("x", 252) + `"}`, InvalidNamespace},
	}
	_, db := startDB(t)
	must(t, db, `{"create": "taken"}`)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := run(t, db, tt.command)
			requireCode(t, tt.code, err)
		})
	}
	must(t, db, `{"create": "`+strings.Repeat("x", 251)+`"}`)
	_, err := run(t, db.Client().Database("APP"), `{"create": "c"}`)
	requireCode(t, DatabaseDifferCase, err)
}

// Since 7.0 a collection may be created that stands there alike.
func TestCreatingTheSameAgain(t *testing.T) {
	_, db := startDB(t, WithVersion("7.0.0"))
	must(t, db, `{"create": "c", "capped": true, "size": 4096}`)
	must(t, db, `{"create": "c", "capped": true, "size": 4096}`)
	_, err := run(t, db, `{"create": "c", "capped": true, "size": 8192}`)
	requireCode(t, NamespaceExists, err)
	_, db = startDB(t, WithVersion("6.0.4"))
	must(t, db, `{"create": "c"}`)
	_, err = run(t, db, `{"create": "c"}`)
	requireCode(t, NamespaceExists, err)
}

func TestRenamingMovesEverythingAlong(t *testing.T) {
	s, db := startDB(t)
	must(t, db, `{"create": "c", "validator": {"x": {"$gt": 0}}}`)
	must(t, db, `{"createIndexes": "c", "indexes": [{"key": {"x": -1}, "name": "by x", "unique": true}]}`)
	must(t, db, `{"insert": "c", "documents": [{"_id": 1, "x": 5}]}`)
	before, indexes := info(t, s, "c"), all(t, db, `{"listIndexes": "c"}`)

	must(t, admin(db), `{"renameCollection": "app.c", "to": "app.runbook.old.i.c"}`)

	after := info(t, s, "runbook.old.i.c")
	require.Equal(t, before.Lookup("info", "uuid"), after.Lookup("info", "uuid"))
	require.Equal(t, before.Lookup("options"), after.Lookup("options"))
	require.Equal(t, indexes, all(t, db, `{"listIndexes": "runbook.old.i.c"}`))
	require.Equal(t, []string{`{"_id":1,"x":5}`}, all(t, db, `{"find": "runbook.old.i.c"}`))
	require.Empty(t, all(t, db, `{"find": "c"}`))
	_, err := db.Collection("runbook.old.i.c").InsertOne(t.Context(), doc(t, `{"_id": 2, "x": 5}`))
	requireCode(t, DuplicateKey, err)
	_, err = db.Collection("runbook.old.i.c").InsertOne(t.Context(), doc(t, `{"_id": 2, "x": 0}`))
	requireCode(t, DocumentValidationFailure, err)
}

func TestRenameRefuses(t *testing.T) {
	tests := []struct {
		name, from, to string
		code           int32
	}{
		{"what is not there", "app.none", "app.new", NamespaceNotFound},
		{"a name that is taken", "app.c", "app.taken", NamespaceExists},
		{"the name of a view", "app.c", "app.view", NamespaceExists},
		{"a view", "app.view", "app.new", CommandNotSupportedOnView},
		{"a time series", "app.series", "app.new", CommandNotSupportedOnView},
		{"a collection to itself", "app.c", "app.c", IllegalOperation},
		{"a system collection", "app.c", "app.system.x", IllegalOperation},
		{"system in the midst of a name", "app.c", "app.my.system.x", IllegalOperation},
		{"a name that is too long", "app.c", "app." + strings.Repeat("x", 252), InvalidNamespace},
	}
	_, db := startDB(t)
	must(t, db, `{"create": "c"}`)
	must(t, db, `{"create": "taken"}`)
	must(t, db, `{"create": "view", "viewOn": "c", "pipeline": []}`)
	must(t, db, `{"create": "series", "timeseries": {"timeField": "t"}}`)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := run(t, admin(db), `{"renameCollection": "`+tt.from+`", "to": "`+tt.to+`"}`)
			requireCode(t, tt.code, err)
		})
	}
	_, err := run(t, db, `{"renameCollection": "app.c", "to": "app.new"}`)
	requireCode(t, Unauthorized, err)
}

func TestRenamingOverACollectionDropsIt(t *testing.T) {
	_, db := startDB(t)
	must(t, db, `{"insert": "new", "documents": [{"_id": "new"}]}`)
	must(t, db, `{"insert": "old", "documents": [{"_id": "old"}]}`)
	must(t, admin(db), `{"renameCollection": "app.new", "to": "app.old", "dropTarget": true}`)
	require.Equal(t, []string{`{"_id":"new"}`}, all(t, db, `{"find": "old"}`))
	require.Empty(t, all(t, db, `{"find": "new"}`))
}

func TestListingCollections(t *testing.T) {
	_, db := startDB(t)
	must(t, db, `{"create": "b"}`)
	must(t, db, `{"create": "a"}`)
	must(t, db, `{"create": "v", "viewOn": "a", "pipeline": []}`)
	for command, want := range map[string][]string{
		`{"listCollections": 1, "nameOnly": true, "cursor": {"batchSize": 1}}`: {
			`{"name":"a","type":"collection"}`, `{"name":"b","type":"collection"}`, `{"name":"system.views","type":"collection"}`,
			`{"name":"v","type":"view"}`},
		`{"listCollections": 1, "nameOnly": true, "filter": {"type": "view"}}`: {`{"name":"v","type":"view"}`},
		`{"listCollections": 1, "nameOnly": true, "filter": {"name": {"$regex": "^[ab]$"}}}`: {
			`{"name":"a","type":"collection"}`, `{"name":"b","type":"collection"}`},
		`{"listCollections": 1, "filter": {"name": "v"}}`: {
			`{"name":"v","type":"view","options":{"viewOn":"a","pipeline":[]},"info":{"readOnly":true}}`},
	} {
		require.ElementsMatch(t, want, all(t, db, command), command)
	}
	names, err := db.Client().ListDatabaseNames(t.Context(), doc(t, `{}`))
	require.NoError(t, err)
	require.Equal(t, []string{"app"}, names)
	must(t, db, `{"dropDatabase": 1}`)
	names, err = db.Client().ListDatabaseNames(t.Context(), doc(t, `{}`))
	require.NoError(t, err)
	require.Empty(t, names)
}

func TestDroppingWhatIsNotThere(t *testing.T) {
	_, db := startDB(t, WithVersion("6.0.4"))
	_, err := run(t, db, `{"drop": "none"}`)
	requireCode(t, NamespaceNotFound, err)
	_, db = startDB(t, WithVersion("7.0.0"))
	must(t, db, `{"drop": "none"}`)
}

func TestAViewReadsItsCollectionThroughItsPipeline(t *testing.T) {
	_, db := startDB(t)
	must(t, db, `{"insert": "c", "documents": [{"_id": 1, "x": 1, "secret": 1}, {"_id": 2, "x": 2, "secret": 1}]}`)
	must(t, db, `{"create": "v", "viewOn": "c", "pipeline": [{"$match": {"x": {"$gt": 1}}}, {"$project": {"secret": 0}}]}`)
	require.Equal(t, []string{`{"_id":2,"x":2}`}, all(t, db, `{"find": "v"}`))
	require.Equal(t, []string{}, all(t, db, `{"find": "v", "filter": {"secret": 1}}`))
	require.EqualValues(t, 1, must(t, db, `{"count": "v"}`).Lookup("n").Int32())
	_, err := db.Collection("v").InsertOne(t.Context(), doc(t, `{"x": 1}`))
	requireCode(t, CommandNotSupportedOnView, err)
}

func TestATimeSeriesKeepsItsMeasurementsInBuckets(t *testing.T) {
	_, db := startDB(t)
	must(t, db, `{"create": "s", "timeseries": {"timeField": "t", "metaField": "m"}}`)
	must(t, db, `{"insert": "s", "documents": [{"_id": 1, "t": {"$date": "2026-02-24T02:00:00Z"}, "m": "pump", "v": 7}]}`)
	require.Equal(t, []string{`{"t":{"$date":"2026-02-24T02:00:00Z"},"m":"pump","_id":1,"v":7}`}, all(t, db, `{"find": "s"}`))
	buckets := all(t, db, `{"find": "system.buckets.s", "projection": {"_id": 0, "meta": 1, "data.v": 1}}`)
	require.Equal(t, []string{`{"meta":"pump","data":{"v":{"0":7}}}`}, buckets)
	_, err := db.Collection("s").InsertOne(t.Context(), doc(t, `{"v": 1}`))
	requireCode(t, BadValue, err)
	must(t, db, `{"drop": "s"}`)
	require.Equal(t, []string{`{"name":"system.views","type":"collection"}`}, all(t, db, `{"listCollections": 1, "nameOnly": true}`))
	require.Empty(t, all(t, db, `{"find": "system.views"}`))
}

// From 6.3 on a time series with a meta field has an index from the beginning, and others may be added.
func TestATimeSeriesHasIndexes(t *testing.T) {
	made := `{"v":2,"key":{"m":1,"t":1},"name":"m_1_t_1"}`
	for version, want := range map[string][]string{"6.0.4": {}, "7.0.0": {made}} {
		_, db := startDB(t, WithVersion(version))
		must(t, db, `{"create": "plain", "timeseries": {"timeField": "t"}}`)
		require.Empty(t, all(t, db, `{"listIndexes": "plain"}`))
		must(t, db, `{"create": "s", "timeseries": {"timeField": "t", "metaField": "m"}}`)
		require.Equal(t, want, all(t, db, `{"listIndexes": "s"}`))
		must(t, db, `{"createIndexes": "s", "indexes": [{"key": {"t": -1}, "name": "latest"}, {"key": {"m": 1, "t": 1}, "name": "m_1_t_1"}]}`)
		require.ElementsMatch(t, []string{made, `{"v":2,"key":{"t":-1},"name":"latest"}`}, all(t, db, `{"listIndexes": "s"}`))
		must(t, db, `{"dropIndexes": "s", "index": "latest"}`)
		require.Equal(t, []string{made}, all(t, db, `{"listIndexes": "s"}`))
	}
}
