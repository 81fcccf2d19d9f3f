package backup

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
)

func TestExtendedJSONKeepsEveryTypeAndTheOrderOfKeys(t *testing.T) {
	dec, err := bson.ParseDecimal128("1.50")
	require.NoError(t, err)
	nan, err := bson.ParseDecimal128("NaN")
	require.NoError(t, err)
	doc, err := bson.Marshal(bson.D{
		{Key: "z", Value: 1.0}, {Key: "a", Value: int32(1)}, {Key: "long", Value: int64(1)}, {Key: "nan", Value: math.NaN()},
		{Key: "inf", Value: math.Inf(-1)}, {Key: "negative zero", Value: math.Copysign(0, -1)}, {Key: "tiny", Value: 5e-324},
		{Key: "big", Value: 1e300}, {Key: "s", Value: "ä \u2028 <&> \" \\ \x00 end"}, {Key: "doc", Value: bson.D{{Key: "y", Value: 1}, {Key: "b", Value: bson.D{}}}},
		{Key: "array", Value: bson.A{}}, {Key: "bin", Value: bson.Binary{Subtype: 4, Data: []byte("0123456789abcdef")}},
		{Key: "old", Value: bson.Binary{Subtype: 2, Data: []byte("0123")}}, {Key: "undefined", Value: bson.Undefined{}}, {Key: "id", Value: bson.NewObjectID()},
		{Key: "bool", Value: true}, {Key: "date", Value: bson.NewDateTimeFromTime(time.Unix(-1, 0))}, {Key: "far", Value: bson.DateTime(math.MaxInt64)}, {Key: "null", Value: nil},
		{Key: "re", Value: bson.Regex{Pattern: "^a/b\\.", Options: "imx"}}, {Key: "ptr", Value: bson.DBPointer{DB: "x.y", Pointer: bson.NewObjectID()}},
		{Key: "js", Value: bson.JavaScript("f()")}, {Key: "sym", Value: bson.Symbol("s")}, {Key: "scope", Value: bson.CodeWithScope{Code: "f()", Scope: bson.D{{Key: "x", Value: 1}}}},
		{Key: "ts", Value: bson.Timestamp{T: 4294967295, I: 1}}, {Key: "dec", Value: dec}, {Key: "decnan", Value: nan}, {Key: "min", Value: bson.MinKey{}}, {Key: "max", Value: bson.MaxKey{}},
		{Key: "$dollar", Value: 1}, {Key: "a.b", Value: 2}, {Key: "", Value: 3}, {Key: "filter", Value: bson.D{{Key: "s", Value: bson.D{{Key: "$gt", Value: ""}, {Key: "$type", Value: "string"}}}}},
	})
	require.NoError(t, err)
	j, err := ToJSON(doc)
	require.NoError(t, err)
	again, err := ToBSON(j)
	require.NoError(t, err)
	require.Equal(t, bson.Raw(doc), again)
}

func TestMetadataThatGoesOnAfterItsEndIsRefused(t *testing.T) {
	_, err := DecodeMetadata([]byte(`{"options":{},"indexes":[]}`))
	require.NoError(t, err)
	for _, more := range []string{"}", "{}", "\x00", " and more", `{"options":{"capped":true}}`} {
		_, err := DecodeMetadata([]byte(`{"options":{},"indexes":[]}` + more))
		require.Error(t, err, more)
	}
}
