package dump

import (
	"cmp"
	"math"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"
)

func valueOf(t interface {
	require.TestingT
	Helper()
}, v any) bson.RawValue {
	t.Helper()
	kind, b, err := bson.MarshalValue(v)
	require.NoError(t, err)
	return bson.RawValue{Type: kind, Value: b}
}

func TestRulerKeepsTheOrderOfIDs(t *testing.T) {
	for name, draw := range map[string]func(t *rapid.T) (a, b any, order int){
		"strings": func(t *rapid.T) (any, any, int) {
			a, b := rapid.String().Draw(t, "a"), rapid.String().Draw(t, "b")
			return a, b, strings.Compare(a, b)
		},
		"integers": func(t *rapid.T) (any, any, int) {
			a, b := rapid.Int32().Draw(t, "a"), rapid.Int64().Draw(t, "b")
			return a, b, cmp.Compare(int64(a), b)
		},
		"dates": func(t *rapid.T) (any, any, int) {
			a, b := rapid.Int64().Draw(t, "a"), rapid.Int64().Draw(t, "b")
			return bson.DateTime(a), bson.DateTime(b), cmp.Compare(a, b)
		},
	} {
		t.Run(name, rapid.MakeCheck(func(t *rapid.T) {
			x, y, order := draw(t)
			a, b := valueOf(t, x), valueOf(t, y)
			r := scaleOf(b.Type)
			require.NotNil(t, r)
			pa, pb := r.place(a), r.place(b)
			if order != 0 && pa.Cmp(pb) != 0 {
				require.Equal(t, order, pa.Cmp(pb))
			}
			require.LessOrEqual(t, pb.Cmp(r.highest()), 0)
			require.GreaterOrEqual(t, pb.Sign(), 0)
			floor := r.value(pb)
			require.Equal(t, pb, r.place(floor), "a place's value stands at that place")
			if text, ok := b.StringValueOK(); ok {
				low, _ := floor.StringValueOK()
				require.LessOrEqual(t, low, text)
			} else {
				require.True(t, floor.Equal(b), "these types map exactly")
			}
		}))
	}
}

func TestRulerOfObjectIDsIsExact(t *testing.T) {
	id := bson.NewObjectIDFromTimestamp(time.Unix(1e9, 0))
	r := scaleOf(bson.TypeObjectID)
	place := r.place(valueOf(t, id))
	require.True(t, r.value(place).Equal(valueOf(t, id)))
	require.Equal(t, "000000000000000000000000", r.value(new(big.Int)).ObjectID().Hex())
	require.Equal(t, "ffffffffffffffffffffffff", r.value(r.highest()).ObjectID().Hex())
	uuid := valueOf(t, bson.Binary{Subtype: 4, Data: []byte("0123456789abcdef")})
	r = scaleOf(uuid.Type)
	require.True(t, r.value(r.place(uuid)).Equal(uuid))
	require.Nil(t, r.place(valueOf(t, bson.Binary{Data: []byte("short")})))
	require.Nil(t, scaleOf(bson.TypeEmbeddedDocument).place(valueOf(t, bson.D{})), "documents have no middle")
}

func TestRawValuesAreWhatTheySay(t *testing.T) {
	for _, r := range scales {
		require.NoError(t, r.first.Validate())
	}
	for _, p := range points {
		require.NoError(t, p.Validate())
	}
	require.Equal(t, bson.DateTime(math.MinInt64), bson.DateTime(scaleOf(bson.TypeDateTime).first.DateTime()))
}

func TestPaceGrowsTowards2MBAndFallsBackWhereThatIsSlower(t *testing.T) {
	fast := newPace()
	for range 10 {
		fast.next(fast.size, int64(fast.size)*100, time.Duration(fast.size)*time.Microsecond)
	}
	require.Equal(t, wantBatchBytes/100, fast.size)

	huge := newPace()
	huge.next(2, 24<<20, time.Millisecond)
	require.Equal(t, 1, huge.size, "twelve megabytes each")

	ferret := newPace()
	for range 10 {
		perDocument := 100 * time.Microsecond
		if ferret.size > 500 {
			perDocument *= 2
		}
		ferret.next(ferret.size, int64(ferret.size)*100, time.Duration(ferret.size)*perDocument)
	}
	require.Equal(t, firstBatch, ferret.size)
}
