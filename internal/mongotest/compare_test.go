package mongotest

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
	"pgregory.net/rapid"
)

// inOrder is a value of each kind, as a sort of the real server puts them.
var inOrder = []string{
	`{"$minKey": 1}`, `{"$undefined": true}`, `null`, `{"$numberDouble": "NaN"}`, `{"$numberDecimal": "-Infinity"}`,
	`{"$numberLong": "-9223372036854775808"}`, `-1.5`, `{"$numberInt": "0"}`, `{"$numberDecimal": "0.1"}`, `{"$numberDouble": "0.1"}`,
	`{"$numberInt": "1"}`, `{"$numberLong": "9007199254740992"}`, `{"$numberLong": "9007199254740993"}`,
	`{"$numberDecimal": "1E6000"}`, `{"$numberDouble": "Infinity"}`, `""`, `"B"`, `"a"`, `{"$symbol": "ab"}`, `"ä"`,
	`{}`, `{"a": 1}`, `{"a": 1, "b": 1}`, `{"b": 0}`, `{"a": "x"}`, `[]`, `[1]`, `[1, 2]`, `["a"]`,
	`{"$binary": {"base64": "//8=", "subType": "00"}}`, `{"$binary": {"base64": "AAAA", "subType": "00"}}`,
	`{"$binary": {"base64": "AAAA", "subType": "05"}}`, `{"$oid": "000000000000000000000001"}`, `{"$oid": "ff0000000000000000000000"}`,
	`false`, `true`, `{"$date": {"$numberLong": "-1"}}`, `{"$date": {"$numberLong": "1"}}`, `{"$timestamp": {"t": 1, "i": 9}}`,
	`{"$timestamp": {"t": 4294967295, "i": 0}}`, `{"$regularExpression": {"pattern": "a", "options": ""}}`,
	`{"$regularExpression": {"pattern": "a", "options": "i"}}`, `{"$dbPointer": {"$ref": "x", "$id": {"$oid": "000000000000000000000001"}}}`,
	`{"$code": "a"}`, `{"$code": "a", "$scope": {}}`, `{"$code": "a", "$scope": {"x": 1}}`, `{"$maxKey": 1}`,
}

func valueOf(t testing.TB, json string) value {
	v := raw(t, `{"v": `+json+`}`).Lookup("v")
	return value{Type: bsoncore.Type(v.Type), Data: v.Value}
}

func TestEveryTypeHasItsPlaceInTheOrder(t *testing.T) {
	for i, a := range inOrder {
		for j, b := range inOrder {
			want := 0
			if i != j {
				want = (i - j) / max(i-j, j-i)
			}
			require.Equal(t, want, compare(valueOf(t, a), valueOf(t, b)), "%s and %s", a, b)
		}
	}
}

func TestNumbersAreComparedExactly(t *testing.T) {
	tests := []struct {
		name, a, b string
		want       int
	}{
		{"a long beyond a double's precision", `{"$numberLong": "9007199254740993"}`, `{"$numberDouble": "9007199254740992"}`, 1},
		{"int and double", `{"$numberInt": "1"}`, `{"$numberDouble": "1.0"}`, 0},
		{"decimals written differently", `{"$numberDecimal": "1.0"}`, `{"$numberDecimal": "1.000"}`, 0},
		{"a tenth in two bases", `{"$numberDecimal": "0.1"}`, `{"$numberDouble": "0.1"}`, -1},
		{"zeros", `{"$numberDouble": "-0.0"}`, `{"$numberInt": "0"}`, 0},
		{"NaN of two types", `{"$numberDecimal": "NaN"}`, `{"$numberDouble": "NaN"}`, 0},
		{"infinities of two types", `{"$numberDecimal": "Infinity"}`, `{"$numberDouble": "Infinity"}`, 0},
		{"the largest long and a double above it", `{"$numberLong": "9223372036854775807"}`, `{"$numberDouble": "9223372036854775808"}`, -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, b := valueOf(t, tt.a), valueOf(t, tt.b)
			require.Equal(t, tt.want, compare(a, b))
			require.Equal(t, -tt.want, compare(b, a))
			require.Equal(t, tt.want == 0, string(appendIdentity(nil, a)) == string(appendIdentity(nil, b)))
		})
	}
}

func TestIdentityAgreesWithOrder(t *testing.T) {
	number := rapid.Custom(func(t *rapid.T) any {
		n := rapid.Int64Range(-3, 3).Draw(t, "n")
		switch rapid.IntRange(0, 4).Draw(t, "type") {
		case 0:
			return int32(n)
		case 1:
			return n << rapid.IntRange(0, 60).Draw(t, "shift")
		case 2:
			return float64(n) / 2
		case 3:
			return rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), math.Inf(-1), 1 << 62, 1 << 63}).Draw(t, "special")
		default:
			d, err := bson.ParseDecimal128(rapid.SampledFrom([]string{"1", "1.0", "0.5", "-0", "NaN", "1E3", "-Infinity"}).Draw(t, "decimal"))
			require.NoError(t, err)
			return d
		}
	})
	var any1 *rapid.Generator[any]
	any1 = rapid.Custom(func(t *rapid.T) any {
		switch rapid.IntRange(0, 5).Draw(t, "kind") {
		case 0:
			return rapid.SampledFrom([]string{"", "a", "b", "ab"}).Draw(t, "string")
		case 1:
			return bson.A(rapid.SliceOfN(any1, 0, 2).Draw(t, "array"))
		case 2:
			return bson.D{{Key: rapid.SampledFrom([]string{"", "a"}).Draw(t, "key"), Value: any1.Draw(t, "field")}}
		case 3:
			return rapid.SampledFrom([]any{bson.Null{}, true, false, bson.MinKey{}, bson.Binary{Subtype: 5, Data: []byte{1}}}).Draw(t, "other")
		default:
			return number.Draw(t, "number")
		}
	})
	draw := func(t *rapid.T, name string) value {
		kind, data, err := bson.MarshalValue(any1.Draw(t, name))
		require.NoError(t, err)
		return value{Type: bsoncore.Type(kind), Data: data}
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := draw(t, "a"), draw(t, "b"), draw(t, "c")
		require.Equal(t, compare(a, b), -compare(b, a))
		require.Equal(t, compare(a, b) == 0, string(appendIdentity(nil, a)) == string(appendIdentity(nil, b)))
		if compare(a, b) <= 0 && compare(b, c) <= 0 {
			require.LessOrEqual(t, compare(a, c), 0)
		}
	})
}
