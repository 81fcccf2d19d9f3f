package dump

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/mongotest"
)

// childMinimal makes the process do the least that a dump must do: cursor, gzip, nothing.
const childMinimal = "RUNBOOK_TEST_DUMP_MINIMAL"

func minimal(ctx context.Context, db *mongo.Database) error {
	names, err := db.ListCollectionNames(ctx, bson.D{})
	if err != nil {
		return err
	}
	for _, name := range names {
		cursor, err := db.Collection(name).Find(ctx, bson.D{})
		if err != nil {
			return err
		}
		cursor.SetBatchSize(2000)
		z, err := gzip.NewWriterLevel(io.Discard, 3)
		if err != nil {
			return err
		}
		for cursor.Next(ctx) {
			if _, err := z.Write(cursor.Current); err != nil {
				return err
			}
		}
		if err := z.Close(); err != nil {
			return err
		}
		if err := cursor.Err(); err != nil {
			return err
		}
	}
	return nil
}

// BenchmarkProcess measures the processor time and the peak memory of a dumping process alone, beside the least that it
// must do. On a machine that others use, processor time says more than the clock.
func BenchmarkProcess(b *testing.B) {
	random := func(size int) []byte {
		var buf bytes.Buffer
		for i := 0; buf.Len() < size; i++ {
			fmt.Fprintf(&buf, "%x", i*2654435761)
		}
		return buf.Bytes()[:size]
	}
	shapes := map[string]func(b *testing.B, db *mongo.Database){
		"one large collection": func(b *testing.B, db *mongo.Database) {
			docs := records(b, 20_000)
			for range 40 {
				for i := range docs {
					id := bson.NewObjectID()
					copy(docs[i][9:21], id[:])
				}
				fill(b, db, "tickets", docs...)
			}
		},
		"16 MB documents in one collection": func(b *testing.B, db *mongo.Database) {
			for i := range 40 {
				fill(b, db, "scans", raw(b, bson.D{{Key: "_id", Value: i}, {Key: "b", Value: random(16<<20 - 100)}}))
			}
		},
		"16 MB documents in ten collections": func(b *testing.B, db *mongo.Database) {
			for i := range 40 {
				fill(b, db, fmt.Sprint("scans", i%10), raw(b, bson.D{{Key: "_id", Value: i}, {Key: "b", Value: random(16<<20 - 100)}}))
			}
		},
		"2000 tiny collections": func(b *testing.B, db *mongo.Database) {
			docs := records(b, 5)
			for i := range 2000 {
				fill(b, db, fmt.Sprint("tiny", i), docs...)
			}
		},
	}
	for name, shape := range shapes {
		b.Run(name, func(b *testing.B) {
			server := mongotest.Start(b)
			shape(b, server.Client(b).Database("shop"))
			for tool, env := range map[string][]string{
				"minimal": {childMinimal + "=yes"}, "gzip": nil, "zstd": {childZstd + "=yes"}, "gzip by one cursor": {childWhole + "=yes"},
			} {
				b.Run(tool, func(b *testing.B) {
					var peak, cpu float64
					for b.Loop() {
						cmd := exec.Command(os.Args[0])
						told := filepath.Join(b.TempDir(), "status")
						cmd.Env = append(append(os.Environ(), childStatus+"="+told, childURI+"="+server.URI(),
							childOptions+fmt.Sprintf(`={"Root":%q,"Name":"bench"}`, b.TempDir())), env...)
						cmd.Stderr = os.Stderr
						require.NoError(b, cmd.Run())
						said, err := os.ReadFile(told)
						require.NoError(b, err)
						var kib float64
						_, err = fmt.Sscanf(string(said[bytes.Index(said, []byte("VmHWM:")):]), "VmHWM: %f kB", &kib)
						require.NoError(b, err)
						peak = max(peak, kib/1024)
						cpu += (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
					}
					b.ReportMetric(peak, "peak-MiB")
					b.ReportMetric(cpu/float64(b.N), "cpu-s/op")
				})
			}
		})
	}
}
