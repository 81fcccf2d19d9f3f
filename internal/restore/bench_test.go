package restore

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/flate"
	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"golang.org/x/sync/errgroup"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/mongotest"
)

// shape is a backup as large as benchmarks need it, in the files that a dump of ours writes.
type shape struct {
	name        string
	collections int
	documents   int // in each
	size        int // of each document, about
}

var shapes = []shape{
	{"one large collection", 1, 400_000, 600},
	{"220 collections", 220, 1_500, 600},
	{"5000 tiny collections", 5000, 3, 600},
	{"few huge documents", 2, 12, 16<<20 - 1<<10},
}

var benchServers = []struct {
	name    string
	options []mongotest.Option
}{
	{"discards", []mongotest.Option{mongotest.WithDiscard(LeaseCollection)}},
	{"30µs a document", []mongotest.Option{mongotest.WithDiscard(LeaseCollection), mongotest.WithInsertCost(30 * time.Microsecond)}},
}

// make writes the backup. Its documents are as compressible as those of a business application.
func (s shape) make(b testing.TB) backup.Source {
	b.Helper()
	const database = "origin"
	dir := b.TempDir()
	require.NoError(b, os.Mkdir(filepath.Join(dir, database), 0o750))
	m := &backup.Manifest{Format: 1, Name: "bench", Database: database, Kind: backup.Manual, Compression: "gzip"}
	packer, err := backup.NewPacker(3)
	require.NoError(b, err)
	r := rand.New(rand.NewPCG(1, 1))
	put := func(path string, contents ...[]byte) backup.File {
		var file, member bytes.Buffer
		for _, c := range contents {
			require.NoError(b, packer.Pack(&member, c))
			file.Write(member.Bytes())
		}
		require.NoError(b, os.WriteFile(filepath.Join(dir, path), file.Bytes(), 0o600))
		sum := sha256.Sum256(file.Bytes())
		return backup.File{Path: path, Size: int64(file.Len()), SHA256: hex.EncodeToString(sum[:])}
	}
	for i := range s.collections {
		c := backup.Collection{Name: fmt.Sprintf("collection_%04d", i), Type: backup.TypeCollection}
		id, err := bson.Marshal(idIndex)
		require.NoError(b, err)
		for _, spec := range []bson.Raw{id, index(b, "org", "organization_id")} {
			x, err := backup.NewIndex(spec)
			require.NoError(b, err)
			c.Indexes = append(c.Indexes, x)
		}
		var members [][]byte
		var member []byte
		for n := range s.documents {
			d := record(b, r, n, s.size)
			c.Digest.Add(d)
			if member = append(member, d...); len(member) >= backup.MemberSize {
				members, member = append(members, member), nil
			}
		}
		if len(member) > 0 {
			members = append(members, member)
		}
		c.Data = put(backup.DataPath(database, c.Name, c.Type, true), members...)
		metadata, err := backup.Metadata{Collection: c.Name, Type: c.Type, Indexes: c.Indexes}.Encode()
		require.NoError(b, err)
		c.Metadata = put(backup.MetadataPath(database, c.Name, true), metadata)
		m.Collections = append(m.Collections, c)
	}
	require.NoError(b, backup.WriteManifest(dir, m))
	return backup.Source{Dir: dir, Manifest: m}
}

var words = []string{"battery", "inspection", "replacement", "scooter", "warranty", "customer", "pending", "delivered", "controller", "brake"}

func record(b testing.TB, r *rand.Rand, n, size int) bson.Raw {
	text := make([]byte, 0, size)
	for len(text) < size-180 {
		if size > 1<<20 && len(text) > 4096 {
			text = append(text, text...)
			continue
		}
		text = append(append(text, words[r.IntN(len(words))]...), ' ')
	}
	return doc(b, "_id", bson.NewObjectID(), "ticket_id", fmt.Sprintf("tkt_%012x", r.Uint64()>>16),
		"organization_id", fmt.Sprintf("org_%06d", r.IntN(40)), "status", words[r.IntN(len(words))], "n", int32(n),
		"total", r.Float64()*1000, "created_at", time.Unix(int64(n)*60, 0), "notes", string(text[:min(len(text), max(size-180, 0))]))
}

// BenchmarkStageOfShapes loads each shape into each server. The pipeline beside it is the least that a restore can do: unpack on
// every core, and insert raw.
func BenchmarkStageOfShapes(b *testing.B) {
	for _, s := range shapes {
		b.Run(s.name, func(b *testing.B) {
			source := s.make(b)
			for _, server := range benchServers {
				db := mongotest.Start(b, server.options...).Client(b).Database("d")
				b.Run(server.name+"/ours", func(b *testing.B) { benchmarkStage(b, db, source) })
				b.Run(server.name+"/pipeline", func(b *testing.B) { benchmarkPipeline(b, db, source) })
			}
		})
	}
}

func benchmarkStage(b *testing.B, db *mongo.Database, source backup.Source) {
	b.SetBytes(source.Manifest.Bytes())
	peak := watchMemory(b)
	lease, err := Acquire(b.Context(), db, holder(b.Name()), true)
	require.NoError(b, err)
	for b.Loop() {
		o := StageOptions{DB: db, Source: source, Lease: lease, Dir: b.TempDir()}
		_, err := Stage(b.Context(), o)
		require.NoError(b, err)
		b.StopTimer()
		_, err = Unstage(b.Context(), db, lease.Token)
		require.NoError(b, err)
		b.StartTimer()
	}
	b.ReportMetric(float64(peak())/(1<<20), "MiB-peak")
}

// watchMemory returns what was the most memory that the process held from now on, the server's share included.
func watchMemory(b *testing.B) (peak func() uint64) {
	runtime.GC()
	var most atomic.Uint64
	stop := make(chan struct{})
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}} // the dead ones not yet collected included
	var g errgroup.Group
	g.Go(func() error {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			metrics.Read(sample)
			most.Store(max(most.Load(), sample[0].Value.Uint64()))
			select {
			case <-tick.C:
			case <-stop:
				return nil
			}
		}
	})
	return func() uint64 {
		close(stop)
		require.NoError(b, g.Wait())
		return most.Load()
	}
}

func benchmarkPipeline(b *testing.B, db *mongo.Database, source backup.Source) {
	b.SetBytes(source.Manifest.Bytes())
	for b.Loop() {
		g, ctx := errgroup.WithContext(b.Context())
		g.SetLimit(5)
		members := make(chan func() error)
		g.Go(func() error {
			defer close(members)
			for i := range source.Manifest.Collections {
				c := &source.Manifest.Collections[i]
				file, err := os.ReadFile(filepath.Join(source.Dir, c.Data.Path))
				if err != nil {
					return err
				}
				for len(file) > 0 {
					n := binary.LittleEndian.Uint32(file[16:])
					member := file[:n]
					file = file[n:]
					members <- func() error {
						content := make([]byte, binary.LittleEndian.Uint32(member[n-4:]))
						z := flate.NewReader(bytes.NewReader(member[20 : n-8]))
						if _, err := io.ReadFull(z, content); err != nil {
							return err
						}
						batch := newBatch()
						for len(content) > 0 {
							n := binary.LittleEndian.Uint32(content)
							batch.array = append(batch.array, byte(bson.TypeEmbeddedDocument))
							batch.array = fmt.Append(batch.array, len(batch.documents))
							batch.array = append(batch.array, 0)
							batch.documents = append(batch.documents, 0)
							batch.array = append(batch.array, content[:n]...)
							content = content[n:]
						}
						batch.close()
						defer batch.free()
						return db.RunCommand(ctx, bson.D{{Key: "insert", Value: c.Name},
							{Key: "documents", Value: bson.RawValue{Type: bson.TypeArray, Value: batch.array}}, {Key: "ordered", Value: false}}).Err()
					}
				}
			}
			return nil
		})
		for range 4 {
			g.Go(func() error {
				for do := range members {
					if err := do(); err != nil {
						return err
					}
				}
				return nil
			})
		}
		require.NoError(b, g.Wait())
	}
}
