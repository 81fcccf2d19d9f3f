package backup

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// kinds of _id, as applications have them, in the order in which a dump meets them.
var kinds = []struct {
	name string
	id   func(r *rand.Rand, i int) any
}{
	{"ObjectIDs in order", func(r *rand.Rand, i int) any {
		id := bson.NewObjectIDFromTimestamp(time.Unix(1.7e9+int64(i)/3, 0))
		binary.BigEndian.PutUint32(id[8:], uint32(i))
		return id
	}},
	{"ObjectIDs of three processes", func(r *rand.Rand, i int) any {
		id := bson.NewObjectIDFromTimestamp(time.Unix(1.7e9+int64(i)/3, 0))
		p := uint64(r.IntN(3)+1) * 0x9e3779b97f4a7c15
		binary.BigEndian.PutUint64(id[4:], p<<24|uint64(i))
		return id
	}},
	{"whole numbers in order", func(_ *rand.Rand, i int) any { return i }},
	{"random strings", func(r *rand.Rand, _ int) any { return fmt.Sprintf("inv_%012x", r.Uint64()>>16) }},
	{"random UUIDs", func(r *rand.Rand, _ int) any {
		b := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, r.Uint64()), r.Uint64())
		return bson.Binary{Subtype: 4, Data: b}
	}},
}

// BenchmarkIndexWriter says what a document more costs a dump, and what its index takes on disk: bytes/doc.
func BenchmarkIndexWriter(b *testing.B) {
	const n = 1 << 20
	for _, k := range kinds {
		b.Run(k.name, func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, 1))
			docs := make([]bson.Raw, n)
			hashes := make([]Hash, n)
			for i := range docs {
				docs[i] = raw(b, bson.D{{Key: "_id", Value: k.id(r, i)}, {Key: "x", Value: i}})
				hashes[i] = HashOf(docs[i])
			}
			path := filepath.Join(b.TempDir(), "index")
			var size int64
			for b.Loop() {
				w := NewIndexWriter(path)
				var e IndexEntries
				for i := 0; i < n; i += 2048 {
					e.Reset()
					for j := i; j < i+2048; j++ {
						e.Add(docs[j], hashes[j])
					}
					require.NoError(b, w.Add(b.Context(), &e))
				}
				f, err := w.Finish(b.Context())
				require.NoError(b, err)
				size = f.Size
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/doc")
			b.ReportMetric(float64(size)/n, "bytes/doc")
		})
	}
}

// BenchmarkDiffIndexes says what a comparison by indexes costs for each document of the larger side.
func BenchmarkDiffIndexes(b *testing.B) {
	const n = 1 << 20
	dir := b.TempDir()
	for side := range 2 {
		w := NewIndexWriter(filepath.Join(dir, fmt.Sprint(side)))
		var e IndexEntries
		for i := range n {
			e.Reset()
			d := raw(b, bson.D{{Key: "_id", Value: i}, {Key: "x", Value: i % (1000 - side)}})
			e.Add(d, HashOf(d))
			require.NoError(b, w.Add(b.Context(), &e))
		}
		_, err := w.Finish(b.Context())
		require.NoError(b, err)
	}
	for b.Loop() {
		from, err := OpenIndex(filepath.Join(dir, "0"))
		require.NoError(b, err)
		to, err := OpenIndex(filepath.Join(dir, "1"))
		require.NoError(b, err)
		c, err := DiffIndexes(b.Context(), from, to, nil)
		require.NoError(b, err)
		require.EqualValues(b, n, c.Same+c.Changed)
		require.NoError(b, from.Close())
		require.NoError(b, to.Close())
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/doc")
}

// BenchmarkCompare compares two backups of which one document in a thousand differs: by their indexes, by these with tenants,
// and by reading both.
func BenchmarkCompare(b *testing.B) {
	sides := func(index bool) (from, to Source) {
		before := invoices(b, 200_000)
		after := slices.Clone(before)
		for i := 0; i < len(after); i += 1000 {
			after[i] = raw(b, bson.D{{Key: "_id", Value: i}, {Key: "organization_id", Value: "org_9"}})
		}
		return write(b, content{name: "x", docs: before, index: index}), write(b, content{name: "x", docs: after, index: index})
	}
	for name, row := range map[string]struct {
		index bool
		field string
	}{"by indexes": {true, ""}, "by indexes, with tenants": {true, "organization_id"}, "by reading": {false, ""}, "by reading, with tenants": {false, "organization_id"}} {
		b.Run(name, func(b *testing.B) {
			from, to := sides(row.index)
			b.SetBytes(from.Manifest.Bytes() + to.Manifest.Bytes())
			for b.Loop() {
				d, err := Compare(b.Context(), from, to, CompareOptions{TenantField: row.field})
				require.NoError(b, err)
				require.EqualValues(b, 200, d.Total.Changed)
			}
		})
	}
}
