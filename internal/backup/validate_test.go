package backup

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"
)

// requireSameVerdict holds Validate against the driver's own. The driver takes bytes behind a document; we are given documents.
func requireSameVerdict(t require.TestingT, doc bson.Raw) {
	want := doc.Validate() == nil && int(binary.LittleEndian.Uint32(doc)) == len(doc)
	err := Validate(doc)
	require.Equal(t, want, err == nil, "%x: the driver says %v, we say %v", []byte(doc), doc.Validate(), err)
}

// TestValidateFindsWhatTheDriverFinds breaks documents of every type in one place, anywhere.
func TestValidateFindsWhatTheDriverFinds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, err := bson.Marshal(anyDocument(t, 2))
		require.NoError(t, err)
		requireSameVerdict(t, b)
		at := rapid.IntRange(0, len(b)-1).Draw(t, "at")
		b[at] ^= byte(rapid.IntRange(1, 255).Draw(t, "bits"))
		requireSameVerdict(t, b)
		cut := b[:rapid.IntRange(0, len(b)).Draw(t, "cut")]
		if len(cut) >= 4 {
			binary.LittleEndian.PutUint32(cut, uint32(len(cut)))
		}
		requireSameVerdict(t, cut)
	})
}

// TestEmptyTimestampIsFoundWhereTheDriverFindsOne looks at documents of every type, with and without one, and inside of others.
func TestEmptyTimestampIsFoundWhereTheDriverFindsOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := anyDocument(t, 2)
		empty := bson.Timestamp{}
		for range rapid.IntRange(0, 2).Draw(t, "more") {
			more := rapid.SampledFrom([]bson.E{
				{Key: "_id", Value: empty}, {Key: "at", Value: empty}, {Key: "", Value: empty}, {Key: "set", Value: bson.Timestamp{I: 1}},
				{Key: "inside", Value: bson.D{{Key: "at", Value: empty}}}, {Key: "n", Value: int64(0x11)}, {Key: "t", Value: bson.Timestamp{T: 0x11}},
			}).Draw(t, "element")
			at := rapid.IntRange(0, len(d)).Draw(t, "at")
			d = slices.Insert(d, at, more)
		}
		b, err := bson.Marshal(d)
		require.NoError(t, err)
		elements, err := bson.Raw(b).Elements()
		require.NoError(t, err)
		want := slices.ContainsFunc(elements, func(e bson.RawElement) bool {
			ts, i, ok := e.Value().TimestampOK()
			return ok && ts == 0 && i == 0 && e.Key() != "_id"
		})
		require.Equal(t, want, EmptyTimestamp(b), "%v", bson.Raw(b))
	})
}

func FuzzValidate(f *testing.F) {
	for _, doc := range []bson.D{
		{},
		{{Key: "", Value: ""}},
		{{Key: "r", Value: bson.Regex{Pattern: "a", Options: "i"}}, {Key: "p", Value: bson.DBPointer{DB: "d"}}},
		{{Key: "c", Value: bson.CodeWithScope{Code: "x", Scope: bson.D{}}}, {Key: "b", Value: bson.Binary{Subtype: 2, Data: []byte("x")}}},
	} {
		b, err := bson.Marshal(doc)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= 4 {
			requireSameVerdict(t, b)
		}
	})
}

func BenchmarkValidate(b *testing.B) {
	doc := raw(b, bson.D{
		{Key: "_id", Value: bson.NewObjectID()}, {Key: "organization_id", Value: "org_000001"}, {Key: "status", Value: "pending"}, {Key: "total", Value: 12.5},
		{Key: "n", Value: 3}, {Key: "paid", Value: true}, {Key: "notes", Value: "battery replaced, controller inspected, waiting for the customer's word"},
		{Key: "lines", Value: bson.A{bson.D{{Key: "part", Value: "P-1"}, {Key: "price", Value: 10}}}},
	})
	b.Run("driver", func(b *testing.B) {
		for b.Loop() {
			if doc.Validate() != nil {
				b.Fatal()
			}
		}
	})
	b.Run("ours", func(b *testing.B) {
		for b.Loop() {
			if Validate(doc) != nil {
				b.Fatal()
			}
		}
	})
}
