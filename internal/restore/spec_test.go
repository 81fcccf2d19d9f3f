package restore

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/mongotest"
)

func raw(t testing.TB, json string) bson.Raw {
	t.Helper()
	doc, err := backup.ToBSON([]byte(json))
	require.NoError(t, err)
	return doc
}

func TestIndexesAreTheSame(t *testing.T) {
	for _, c := range []struct {
		what string
		a, b string
		same bool
	}{
		{"version and namespace of old servers", `{"v":1,"key":{"a":1},"name":"a_1","ns":"d.c"}`, `{"v":2,"key":{"a":1},"name":"a_1"}`, true},
		{"what drivers of old left there", `{"key":{"a":1},"name":"a_1","safe":null,"w":1,"dropDups":true}`, `{"key":{"a":1},"name":"a_1"}`, true},
		{"how it was built", `{"key":{"a":1},"name":"a_1","background":true}`, `{"key":{"a":1},"name":"a_1"}`, true},
		{"a shell's doubles", `{"key":{"a":{"$numberDouble":"1.0"}},"name":"a_1"}`, `{"key":{"a":{"$numberInt":"1"}},"name":"a_1"}`, true},
		{"seconds of another type", `{"key":{"a":1},"name":"a","expireAfterSeconds":{"$numberLong":"900"}}`, `{"key":{"a":1},"name":"a","expireAfterSeconds":900}`, true},
		{"an option that is off", `{"key":{"a":1},"name":"a_1","unique":false}`, `{"key":{"a":1},"name":"a_1"}`, true},
		{"an old way to say yes", `{"key":{"a":1},"name":"a_1","unique":1}`, `{"key":{"a":1},"name":"a_1","unique":true}`, true},
		{"options in another order", `{"name":"a_1","unique":true,"key":{"a":1}}`, `{"key":{"a":1},"name":"a_1","unique":true}`, true},
		{"the simple collation said aloud", `{"key":{"a":1},"name":"a_1","collation":{"locale":"simple"}}`, `{"key":{"a":1},"name":"a_1"}`, true},
		{"the order of keys", `{"key":{"a":1,"b":1},"name":"x"}`, `{"key":{"b":1,"a":1},"name":"x"}`, false},
		{"direction", `{"key":{"a":1},"name":"x"}`, `{"key":{"a":-1},"name":"x"}`, false},
		{"kind", `{"key":{"a":"2dsphere"},"name":"x"}`, `{"key":{"a":"2d"},"name":"x"}`, false},
		{"unique", `{"key":{"a":1},"name":"x","unique":true}`, `{"key":{"a":1},"name":"x"}`, false},
		{"sparse", `{"key":{"a":1},"name":"x","sparse":true}`, `{"key":{"a":1},"name":"x"}`, false},
		{"hidden", `{"key":{"a":1},"name":"x","hidden":true}`, `{"key":{"a":1},"name":"x"}`, false},
		{"seconds", `{"key":{"a":1},"name":"x","expireAfterSeconds":60}`, `{"key":{"a":1},"name":"x","expireAfterSeconds":61}`, false},
		{"zero seconds are not none", `{"key":{"a":1},"name":"x","expireAfterSeconds":0}`, `{"key":{"a":1},"name":"x"}`, false},
		{"filter", `{"key":{"a":1},"name":"x","partialFilterExpression":{"a":{"$gt":""}}}`, `{"key":{"a":1},"name":"x"}`, false},
		{"type in a filter", `{"key":{"a":1},"name":"x","partialFilterExpression":{"a":"1"}}`, `{"key":{"a":1},"name":"x","partialFilterExpression":{"a":1}}`, false},
		{"collation", `{"key":{"a":1},"name":"x","collation":{"locale":"de"}}`, `{"key":{"a":1},"name":"x","collation":{"locale":"fr"}}`, false},
		{"a key that is not a number", `{"key":{"a":{"$numberDouble":"NaN"}},"name":"x"}`, `{"key":{"a":{"$numberDouble":"NaN"}},"name":"x"}`, true},
		{"a key of an old server, built anew", `{"v":1,"key":{"a":true,"b":""},"name":"x"}`, `{"key":{"a":1,"b":1},"name":"x"}`, true},
		{"a key of an old server, and another direction", `{"v":1,"key":{"a":true},"name":"x"}`, `{"key":{"a":-1},"name":"x"}`, false},
		{"large numbers in a filter", `{"key":{"a":1},"name":"x","partialFilterExpression":{"a":{"$numberLong":"9007199254740993"}}}`,
			`{"key":{"a":1},"name":"x","partialFilterExpression":{"a":{"$numberLong":"9007199254740992"}}}`, false},
		{"weights in another order", `{"key":{"_fts":"text","_ftsx":1},"name":"x","weights":{"a":1,"b":2}}`, `{"key":{"_fts":"text","_ftsx":1},"name":"x","weights":{"b":2,"a":1}}`, true},
		{"an option nobody here knows", `{"key":{"a":1},"name":"x","newOption":1}`, `{"key":{"a":1},"name":"x"}`, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			a, err := newIndexSpec(raw(t, c.a))
			require.NoError(t, err)
			b, err := newIndexSpec(raw(t, c.b))
			require.NoError(t, err)
			require.Equal(t, c.same, a.same(b))
			require.Equal(t, c.same, b.same(a))
		})
	}
}

func TestOptionsAreTheSame(t *testing.T) {
	for _, c := range []struct {
		what string
		a, b string
		same bool
	}{
		{"none", `{}`, `{}`, true},
		{"defaults that newer servers spell out", `{"validator":{"a":1}}`, `{"validator":{"a":1},"validationLevel":"strict","validationAction":"error"}`, true},
		{"another action", `{"validator":{"a":1},"validationAction":"warn"}`, `{"validator":{"a":1}}`, false},
		{"a size that is rounded up", `{"capped":true,"size":4000}`, `{"capped":true,"size":{"$numberLong":"4096"}}`, true},
		{"a size that is less than the least", `{"capped":true,"size":1}`, `{"capped":true,"size":4096}`, true},
		{"another size", `{"capped":true,"size":4096}`, `{"capped":true,"size":8192}`, false},
		{"obsolete ones", `{"autoIndexId":true,"temp":true,"create":"c","flags":1}`, `{}`, true},
		{"capped", `{"capped":true,"size":4096}`, `{}`, false},
		{"views", `{"viewOn":"a","pipeline":[{"$match":{"x":1,"y":1}}]}`, `{"viewOn":"a","pipeline":[{"$match":{"y":1,"x":1}}]}`, false},
		{"an empty pipeline", `{"viewOn":"a","pipeline":[]}`, `{"viewOn":"a"}`, true},
	} {
		t.Run(c.what, func(t *testing.T) {
			require.Equal(t, c.same, sameOptions(raw(t, c.a), raw(t, c.b)))
			require.Equal(t, c.same, sameOptions(raw(t, c.b), raw(t, c.a)))
		})
	}
}

func TestIndexCommandSaysTheSimpleCollationInACollectionThatHasAnother(t *testing.T) {
	s, err := newIndexSpec(raw(t, `{"v":2,"key":{"a":1},"name":"a_1","ns":"d.c"}`))
	require.NoError(t, err)
	require.Equal(t, raw(t, `{"key":{"a":1},"name":"a_1"}`), s.command(false))
	require.Equal(t, raw(t, `{"key":{"a":1},"name":"a_1","collation":{"locale":"simple"}}`), s.command(true))
	own, err := newIndexSpec(raw(t, `{"key":{"a":1},"name":"a_1","collation":{"locale":"de"}}`))
	require.NoError(t, err)
	require.Equal(t, raw(t, `{"key":{"a":1},"name":"a_1","collation":{"locale":"de"}}`), own.command(true))
}

// Before 3.4 an index could have any key; what was not below zero sorted upwards. No server builds such a one today.
func TestIndexesWithKeysOfOldServersAreBuiltAsTheySorted(t *testing.T) {
	for _, key := range []string{`true`, `""`, `0`, `{"$numberDouble":"NaN"}`, `{"$numberDouble":"-0.0"}`, `null`, `{"$date":{"$numberLong":"1"}}`} {
		s, err := newIndexSpec(raw(t, `{"v":1,"key":{"b":-1,"a":`+key+`},"name":"x"}`))
		require.NoError(t, err)
		require.Equal(t, raw(t, `{"key":{"b":-1,"a":1},"name":"x"}`), s.command(false))
	}
	for _, key := range []string{`1`, `-1`, `2.5`, `"hashed"`, `{"$numberLong":"-3"}`, `{"$numberDecimal":"1"}`} {
		s, err := newIndexSpec(raw(t, `{"v":1,"key":{"a":`+key+`},"name":"x"}`))
		require.NoError(t, err)
		require.Equal(t, raw(t, `{"key":{"a":`+key+`},"name":"x"}`), s.command(false))
	}
	onServers(t, func(t *testing.T, db *mongo.Database, _ *mongotest.Server) {
		o, so := attempt(t, db, makeBackup(t, given{name: "customers", documents: people(t, 3, "x"), indexes: []bson.Raw{
			raw(t, `{"v":1,"key":{"n":true},"name":"true","ns":"origin.customers"}`), raw(t, `{"v":1,"key":{"name":"","n":-1},"name":"empty","safe":null}`),
			raw(t, `{"v":1,"key":{"organization_id":{"$numberDouble":"0.0"}},"name":"zero","background":true,"dropDups":true}`),
		}}), "r1")
		stageAndProve(t, o)
		_, err := Swap(t.Context(), so)
		require.NoError(t, err)
		v, err := VerifyInPlace(t.Context(), o)
		require.NoError(t, err)
		require.Empty(t, v.Differences)
		require.Equal(t, 4, v.Indexes)
	})
}

func TestExpiries(t *testing.T) {
	at := func(ms int64) bson.DateTime { return bson.DateTime(ms) }
	spec, err := newIndexSpec(raw(t, `{"key":{"a.at":1},"name":"x","expireAfterSeconds":60}`))
	require.NoError(t, err)
	compound, err := newIndexSpec(raw(t, `{"key":{"b":1,"c":1},"name":"y","expireAfterSeconds":0}`))
	require.NoError(t, err)
	rules := expiriesOf(raw(t, `{"clusteredIndex":{"key":{"_id":1},"unique":true},"expireAfterSeconds":{"$numberLong":"10"}}`), []indexSpec{spec, compound})
	require.Len(t, rules, 2)
	for _, c := range []struct {
		what string
		doc  bson.Raw
		ms   int64
	}{
		{"a date", doc(t, "_id", 1, "a", bson.D{{Key: "at", Value: at(1000)}}), 61000},
		{"the earliest of several", doc(t, "_id", 1, "a", bson.D{{Key: "at", Value: bson.A{at(9000), at(3000), "x"}}}), 63000},
		{"no date", doc(t, "_id", 1, "a", bson.D{{Key: "at", Value: "1970-01-01"}}), 0},
		{"not there", doc(t, "_id", 1), 0},
		{"a clustered collection", doc(t, "_id", at(5000)), 15000},
		{"the sooner of two rules", doc(t, "_id", at(5000), "a", bson.D{{Key: "at", Value: at(-100000)}}), -40000},
	} {
		t.Run(c.what, func(t *testing.T) {
			end, ok := expires(c.doc, rules)
			require.Equal(t, c.ms != 0, ok)
			if ok {
				require.Equal(t, c.ms, end.UnixMilli())
			}
		})
	}
}
