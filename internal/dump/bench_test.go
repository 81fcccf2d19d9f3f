package dump

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

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
	var bytes int64
	for b.Loop() {
		o := Options{Root: b.TempDir(), Name: "bench"}
		m, err := Run(b.Context(), db, o)
		require.NoError(b, err)
		bytes = m.Bytes()
	}
	b.SetBytes(bytes)
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
