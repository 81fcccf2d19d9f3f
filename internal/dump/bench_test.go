package dump

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"golang.org/x/sys/unix"

	"github.com/battwheels/runbook/internal/backup"
)

// records makes documents of some 500 bytes, as compressible as those of a business application.
func records(b *testing.B, n int) []bson.Raw {
	b.Helper()
	r := rand.New(rand.NewPCG(1, 1))
	words := []string{"battery", "inspection", "replacement", "scooter", "warranty", "customer", "pending", "delivered", "controller", "brake"}
	var docs []bson.Raw
	for i := range n {
		text := ""
		for range 30 {
			text += words[r.IntN(len(words))] + " "
		}
		docs = append(docs, raw(b, bson.D{
			{Key: "_id", Value: bson.NewObjectID()}, {Key: "ticket_id", Value: fmt.Sprintf("tkt_%012x", r.Uint64()>>16)}, {Key: "organization_id", Value: fmt.Sprintf("org_%06d", r.IntN(40))},
			{Key: "status", Value: words[r.IntN(len(words))]}, {Key: "total", Value: r.Float64() * 1000}, {Key: "created_at", Value: time.Unix(int64(i)*60, 0)}, {Key: "notes", Value: text},
		}))
	}
	return docs
}

func benchmark(b *testing.B, db *mongo.Database) {
	var bytes, data, indexes int64
	for b.Loop() {
		o := Options{Root: b.TempDir(), Name: "bench"}
		m, err := Run(b.Context(), db, o)
		require.NoError(b, err)
		bytes, data, indexes = m.Bytes(), 0, 0
		for _, c := range m.Collections {
			data, indexes = data+c.Data.Size, indexes+c.DocumentIndex.Size
		}
	}
	b.SetBytes(bytes)
	b.ReportMetric(100*float64(indexes)/float64(data), "index-%")
}

func BenchmarkDumpOfOneLargeCollection(b *testing.B) {
	db := database(b)
	docs := records(b, 20_000)
	for range 10 {
		for i := range docs {
			id := bson.NewObjectID()
			copy(docs[i][9:21], id[:])
		}
		fill(b, db, "tickets", docs...)
	}
	benchmark(b, db)
}

func BenchmarkDumpOf220Collections(b *testing.B) {
	db := database(b)
	docs := records(b, 1000)
	for i := range 220 {
		fill(b, db, fmt.Sprintf("collection_%03d", i), docs...)
	}
	benchmark(b, db)
}

func BenchmarkVerify(b *testing.B) {
	db := database(b)
	docs := records(b, 20_000)
	for i := range 5 {
		fill(b, db, fmt.Sprintf("tickets_%d", i), docs...)
	}
	o := Options{Root: b.TempDir(), Name: "bench"}
	m, err := Run(b.Context(), db, o)
	require.NoError(b, err)
	s := backup.Source{Dir: o.Root + "/" + o.Name, Manifest: m}
	runtime.GC()
	b.SetBytes(m.Bytes())
	for b.Loop() {
		require.NoError(b, backup.Verify(b.Context(), s, nil))
	}
}

// BenchmarkProofOfADump says what digest, document index and SHA-256 cost the compressing goroutines and the writer of a file
// together, beside compressing alone: processor time of this process for each document of some 500 bytes.
func BenchmarkProofOfADump(b *testing.B) {
	docs := records(b, 20_000)
	var all []byte
	for _, d := range docs {
		all = append(all, d...)
	}
	packer, err := backup.NewPacker(3)
	require.NoError(b, err)
	for name, what := range map[string]struct{ digest, index, sum bool }{
		"compressing alone":           {},
		"with digest":                 {digest: true},
		"with digest and index":       {digest: true, index: true},
		"with digest, index, SHA-256": {digest: true, index: true, sum: true},
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(all)))
			before := processorTime()
			for b.Loop() {
				w := backup.NewIndexWriter(filepath.Join(b.TempDir(), "index"))
				sum := sha256.New()
				var digest backup.Digest
				var entries backup.IndexEntries
				var packed bytes.Buffer
				for batch := range slices.Chunk(docs, 2000) {
					content := all[:0:0]
					entries.Reset()
					for _, d := range batch {
						content = append(content, d...)
						if err := d.Validate(); err != nil {
							b.Fatal(err)
						}
						if what.digest {
							h := backup.HashOf(d)
							digest.AddHash(h, len(d))
							if what.index {
								entries.Add(d, h)
							}
						}
					}
					require.NoError(b, packer.Pack(&packed, content))
					if what.index {
						require.NoError(b, w.Add(b.Context(), &entries))
					}
					if what.sum {
						sum.Write(packed.Bytes())
					}
				}
				if what.index {
					_, err := w.Finish(b.Context())
					require.NoError(b, err)
				}
			}
			b.ReportMetric(float64((processorTime()-before).Nanoseconds())/float64(b.N)/float64(len(docs)), "cpu-ns/doc")
		})
	}
}

func processorTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
