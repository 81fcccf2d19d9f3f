package backup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"
)

// anyValue draws a value of any BSON type, in documents and arrays down to a few levels.
func anyValue(t *rapid.T, depth int) any {
	kinds := 20
	if depth == 0 {
		kinds = 18
	}
	switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
	case 0:
		return rapid.String().Draw(t, "string")
	case 1:
		return rapid.Int32().Draw(t, "int32")
	case 2:
		return rapid.Int64().Draw(t, "int64")
	case 3:
		f := rapid.Float64().Draw(t, "double")
		if math.IsNaN(f) {
			return math.NaN() // extended JSON has one only, and says so
		}
		return f
	case 4:
		return rapid.Bool().Draw(t, "bool")
	case 5:
		return nil
	case 6:
		return bson.DateTime(rapid.Int64().Draw(t, "date"))
	case 7:
		return bson.ObjectID(rapid.SliceOfN(rapid.Byte(), 12, 12).Draw(t, "object id"))
	case 8:
		return bson.Binary{Subtype: rapid.Byte().Draw(t, "subtype"), Data: rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "binary")}
	case 9:
		return bson.Timestamp{T: rapid.Uint32().Draw(t, "t"), I: rapid.Uint32().Draw(t, "i")}
	case 10:
		return decimals[rapid.IntRange(0, len(decimals)-1).Draw(t, "decimal")]
	case 11:
		return bson.Regex{Pattern: rapid.StringMatching(`[a-zé/\\.^$]*`).Draw(t, "pattern"), Options: rapid.SampledFrom([]string{"", "i", "imsx"}).Draw(t, "options")}
	case 12:
		return bson.JavaScript(rapid.String().Draw(t, "code"))
	case 13:
		return bson.Symbol(rapid.String().Draw(t, "symbol"))
	case 14:
		return bson.CodeWithScope{Code: bson.JavaScript(rapid.String().Draw(t, "code")), Scope: bson.D{{Key: "x", Value: rapid.Int32().Draw(t, "x")}}}
	case 15:
		return bson.DBPointer{DB: rapid.StringMatching(`[a-z]+\.[a-z]+`).Draw(t, "ns"), Pointer: bson.ObjectID{1}}
	case 16:
		return rapid.SampledFrom([]any{bson.MinKey{}, bson.MaxKey{}}).Draw(t, "key")
	case 17:
		return bson.Undefined{}
	case 18:
		a := bson.A{}
		for range rapid.IntRange(0, 4).Draw(t, "length") {
			a = append(a, anyValue(t, depth-1))
		}
		return a
	default:
		return anyDocument(t, depth-1)
	}
}

var decimals = func() []bson.Decimal128 {
	var list []bson.Decimal128
	for _, s := range []string{"0", "-0", "1.50", "1E+6000", "-1E-6100", "Infinity", "-Infinity", "NaN", "9.999999999999999999999999999999999E+6144"} {
		d, err := bson.ParseDecimal128(s)
		if err != nil {
			panic(err)
		}
		list = append(list, d)
	}
	return list
}()

func anyDocument(t *rapid.T, depth int) bson.D {
	d := bson.D{}
	for range rapid.IntRange(0, 5).Draw(t, "fields") {
		key := rapid.OneOf(rapid.StringMatching(`[a-z_.é ]{0,8}`), rapid.SampledFrom([]string{"", "_id", "$gt", "$exists", "$and", "twice", "twice"})).Draw(t, "key")
		d = append(d, bson.E{Key: key, Value: anyValue(t, depth)})
	}
	return d
}

// Whatever documents a collection has, and wherever its writer ends one gzip member and begins the next, it is read back byte
// for byte in its order, and the digest says so.
func TestAnyDocumentsSurviveTheirFile(t *testing.T) {
	dir := t.TempDir()
	p, err := NewPacker(1)
	require.NoError(t, err)
	rapid.Check(t, func(t *rapid.T) {
		var digest Digest
		var all, file []byte
		var docs []bson.Raw
		for range rapid.IntRange(0, 12).Draw(t, "documents") {
			d, err := bson.Marshal(anyDocument(t, 3))
			require.NoError(t, err)
			docs, all = append(docs, d), append(all, d...)
			digest.Add(d)
		}
		rest, member := all, new(bytes.Buffer)
		for len(rest) > 0 || len(file) == 0 {
			n := rapid.IntRange(0, len(rest)).Draw(t, "member")
			require.NoError(t, p.Pack(member, rest[:n]))
			file, rest = append(file, member.Bytes()...), rest[n:]
		}
		path := filepath.Join(dir, "c.bson.gz")
		require.NoError(t, os.WriteFile(path, file, 0o600))
		r, err := openDocuments(t.Context(), path)
		require.NoError(t, err)
		defer r.close()
		var got []bson.Raw
		for {
			d, err := r.next()
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err)
			require.NoError(t, d.Validate())
			got = append(got, slices.Clone(d))
		}
		require.Equal(t, digest, r.digest)
		require.Equal(t, docs, got)
	})
}

// Whatever options and indexes a collection has, metadata gives them back byte for byte, or says that it cannot: it never
// changes them silently.
func TestAnyMetadataSurvivesItsFile(t *testing.T) {
	lossy := 0
	rapid.Check(t, func(t *rapid.T) {
		options, err := bson.Marshal(anyDocument(t, 2))
		require.NoError(t, err)
		spec, err := bson.Marshal(append(bson.D{{Key: "v", Value: 2}, {Key: "key", Value: bson.D{{Key: "a", Value: 1}}}, {Key: "name", Value: rapid.String().Draw(t, "name")}}, bson.E{
			Key: "partialFilterExpression", Value: anyDocument(t, 2)}))
		require.NoError(t, err)
		j, err := ToJSON(options)
		if err != nil {
			lossy++
			return
		}
		index, err := NewIndex(spec)
		if err != nil {
			lossy++
			return
		}
		name := rapid.StringN(1, 60, -1).Draw(t, "collection")
		b, err := Metadata{Collection: name, Type: TypeCollection, Options: j, Indexes: []Index{index}}.Encode()
		require.NoError(t, err)
		m, err := DecodeMetadata(b)
		require.NoError(t, err, "%s", b)
		require.Equal(t, name, m.Collection)
		again, err := ToBSON(m.Options)
		require.NoError(t, err)
		require.Equal(t, bson.Raw(options), again)
		require.Len(t, m.Indexes, 1)
		again, err = ToBSON(m.Indexes[0].Spec)
		require.NoError(t, err)
		require.Equal(t, bson.Raw(spec), again)
	})
	t.Logf("%d could not be written as extended JSON without loss, and were refused", lossy)
}

// A thousand times one bit is flipped, or the end is cut off, anywhere in a backup: in documents, metadata or manifest. Each is
// found by what every restore does first, and the file is named.
func TestAThousandFlippedBitsAndCutsAreEachNamed(t *testing.T) {
	s := wholeShop(t)
	list := files(t, s.Dir)
	slices.Sort(list)
	whole, total := map[string][]byte{}, 0
	for _, file := range list {
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		whole[file] = b
		total += len(b)
	}
	r := rand.New(rand.NewPCG(10, 3))
	struck := map[string]int{}
	for n := range 1000 {
		file := list[r.IntN(len(list))]
		if n%2 == 0 { // where it would strike by chance
			at := r.IntN(total)
			for _, file = range list {
				if at -= len(whole[file]); at < 0 {
					break
				}
			}
		}
		bad := slices.Clone(whole[file])
		var what string
		if n%5 == 0 {
			bad = bad[:r.IntN(len(bad))]
			what = fmt.Sprintf("%d: cut to %d bytes", n, len(bad))
		} else {
			bit := r.IntN(8 * len(bad))
			bad[bit/8] ^= 1 << (bit % 8)
			what = fmt.Sprintf("%d: bit %d flipped", n, bit)
		}
		require.NoError(t, os.WriteFile(file, bad, 0o600))
		requireNamed(t, check(t, s.Dir), file, what)
		require.NoError(t, os.WriteFile(file, whole[file], 0o600))
		struck[filepath.Ext(strings.TrimSuffix(file, gzipExt))]++
	}
	require.NoError(t, check(t, s.Dir))
	require.Greater(t, struck[".bson"], 300)
	require.Greater(t, struck[".json"], 300, "metadata and manifest")
}
