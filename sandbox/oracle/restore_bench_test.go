package oracle

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/dump"
	"github.com/battwheels/runbook/internal/mongotest"
	"github.com/battwheels/runbook/internal/restore"
)

// BenchmarkRestore loads the same backup with stock mongorestore, as it is and tuned as well as it can be, and with ours, in
// turn, into a server that discards and one that spends 30 µs a document.
func BenchmarkRestore(b *testing.B) {
	shapes := []struct {
		name                   string
		collections, documents int
		size                   int
	}{
		{"one large collection", 1, 400_000, 600},
		{"220 collections", 220, 1_500, 600},
		{"1000 tiny collections", 1000, 3, 600},
		{"few huge documents", 2, 12, 16<<20 - 1<<10},
	}
	servers := []struct {
		name    string
		options []mongotest.Option
	}{
		{"discards", []mongotest.Option{mongotest.WithDiscard(restore.LeaseCollection)}},
		{"30µs a document", []mongotest.Option{mongotest.WithDiscard(restore.LeaseCollection), mongotest.WithInsertCost(30 * time.Microsecond)}},
	}
	tools := []struct {
		name string
		args []string
	}{
		{"stock", nil},
		{"stock, 4 workers", []string{"--numInsertionWorkersPerCollection", "4"}},
		{"stock, 8 workers", []string{"--numInsertionWorkersPerCollection", "8"}},
		{"stock, 16 workers, 8 collections", []string{"--numInsertionWorkersPerCollection", "16", "-j", "8"}},
	}
	for _, s := range shapes {
		b.Run(s.name, func(b *testing.B) {
			source := madeUp(b, s.collections, s.documents, s.size)
			for _, server := range servers {
				srv := mongotest.Start(b, server.options...)
				db := srv.Client(b).Database("restored")
				for _, tool := range tools {
					b.Run(server.name+"/"+tool.name, func(b *testing.B) {
						b.SetBytes(source.Manifest.Bytes())
						for b.Loop() {
							stockRestore(b, srv.URI(), source.Dir, append([]string{"--gzip", "--nsFrom", shop + ".*", "--nsTo", db.Name() + ".*"}, tool.args...)...)
							b.StopTimer()
							require.NoError(b, db.Drop(b.Context()))
							b.StartTimer()
						}
					})
				}
				b.Run(server.name+"/ours", func(b *testing.B) { ours(b, db, source) })
			}
		})
	}
}

func ours(b *testing.B, db *mongo.Database, source backup.Source) {
	b.SetBytes(source.Manifest.Bytes())
	for n := 0; b.Loop(); n++ {
		b.StopTimer()
		require.NoError(b, db.Drop(b.Context()))
		lease, err := restore.Acquire(b.Context(), db, restore.Holder{Owner: "bench", Run: fmt.Sprint(n)}, true)
		require.NoError(b, err)
		b.StartTimer()
		_, err = restore.Stage(b.Context(), restore.StageOptions{DB: db, Source: source, Lease: lease, Dir: b.TempDir()})
		require.NoError(b, err)
	}
}

// madeUp dumps a database of documents that are as compressible as those of a business application.
func madeUp(b *testing.B, collections, documents, size int) backup.Source {
	b.Helper()
	server := mongotest.Start(b)
	defer func() { require.NoError(b, server.Close()) }()
	db := server.Client(b).Database(shop)
	r := rand.New(rand.NewPCG(1, 1))
	words := []string{"battery", "inspection", "replacement", "scooter", "warranty", "customer", "pending", "delivered", "controller", "brake"}
	for c := range collections {
		coll := db.Collection(fmt.Sprintf("collection_%04d", c))
		var list []any
		for n := range documents {
			text := make([]byte, 0, size)
			for len(text) < size-180 {
				if len(text) > 4096 {
					text = append(text, text...)
					continue
				}
				text = append(append(text, words[r.IntN(len(words))]...), ' ')
			}
			list = append(list, bson.D{{Key: "_id", Value: bson.NewObjectID()}, {Key: "ticket_id", Value: fmt.Sprintf("tkt_%012x", r.Uint64()>>16)},
				{Key: "organization_id", Value: fmt.Sprintf("org_%06d", r.IntN(40))}, {Key: "status", Value: words[r.IntN(len(words))]},
				{Key: "n", Value: n}, {Key: "total", Value: r.Float64() * 1000}, {Key: "created_at", Value: time.Unix(int64(n)*60, 0)},
				{Key: "notes", Value: string(text[:size-180])}})
			if len(list) == 10_000 || n == documents-1 || size > 1<<20 {
				_, err := coll.InsertMany(b.Context(), list)
				require.NoError(b, err)
				list = nil
			}
		}
		_, err := coll.Indexes().CreateOne(b.Context(), mongo.IndexModel{Keys: bson.D{{Key: "organization_id", Value: 1}}})
		require.NoError(b, err)
	}
	root := b.TempDir()
	m, err := dump.Run(b.Context(), db, dump.Options{Root: root, Name: "made-up"})
	require.NoError(b, err)
	return backup.Source{Dir: filepath.Join(root, "made-up"), Manifest: m}
}
