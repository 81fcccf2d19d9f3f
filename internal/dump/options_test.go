package dump

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/mongotest"
)

func TestZstdDumpHoldsTheSameDocuments(t *testing.T) {
	_, db := inMemory(t)
	large := fill(t, db, "large", numbered(t, 3000)...)
	small := fill(t, db, "small", numbered(t, 30)...)
	command(t, db, bson.D{{Key: "create", Value: "empty"}})
	o := opts(t)
	asGzip := provenIn(t, db, o, fine).Manifest
	o.Name, o.Compression = "zstd", Zstd
	s := provenIn(t, db, o, fine)
	require.Equal(t, "zstd", s.Manifest.Compression)
	require.FileExists(t, filepath.Join(s.Dir, "shop", "large.bson.zst"))
	require.FileExists(t, filepath.Join(s.Dir, "shop", "large.metadata.json.gz"))
	requireSame(t, large, contents(t, s, "large"))
	requireSame(t, small, contents(t, s, "small"))
	require.Empty(t, contents(t, s, "empty"))
	require.NotEmpty(t, s.Manifest.Collection("large").Ranges)
	for _, c := range asGzip.Collections {
		require.Equal(t, c.Digest, s.Manifest.Collection(c.Name).Digest)
	}
}

func TestNextAttemptWithAnotherCompressionKeepsNothing(t *testing.T) {
	server, db := inMemory(t)
	docs := fill(t, db, "a", numbered(t, 3000)...)
	fill(t, db, "b", numbered(t, 30)...)
	o := opts(t)
	o.Parallel = 1
	broken := server.Fail(mongotest.Fault{Command: "find", Namespace: "shop.b", Error: &mongotest.Error{Code: 8, Message: "disk"}})
	_, err := start(t.Context(), db, o, fine)
	require.Error(t, err)
	broken.Lift()
	o.Compression = Zstd
	s := provenIn(t, db, o, fine)
	requireSame(t, docs, contents(t, s, "a"))
	entries, err := os.ReadDir(filepath.Join(s.Dir, "shop"))
	require.NoError(t, err)
	require.Len(t, entries, 4)
}

func TestRateLimitHoldsTheReadingBack(t *testing.T) {
	_, db := inMemory(t)
	var size int64
	for _, doc := range fill(t, db, "a", numbered(t, 2000)...) {
		size += int64(len(doc))
	}
	for name, change := range map[string]func(*Options){
		"documents": func(o *Options) { o.DocumentsPerSecond = 4000 },
		"bytes":     func(o *Options) { o.BytesPerSecond = 2 * size },
	} {
		t.Run(name, func(t *testing.T) {
			o := opts(t)
			change(&o)
			began := time.Now()
			provenIn(t, db, o, fine)
			require.Greater(t, time.Since(began), 300*time.Millisecond, "half a second's worth, less what passes at once")
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			o.Name = "cancelled"
			_, err := start(ctx, db, o, fine)
			require.Error(t, err)
		})
	}
}

func TestSecondariesAreReadAfterTheyHaveSeenWhatThePrimaryAcknowledged(t *testing.T) {
	server, db := inMemory(t, mongotest.WithReplicaSet("rs0"))
	docs := fill(t, db, "a", numbered(t, 100)...)
	server.Fail(mongotest.Fault{Command: "find", Match: func(cmd bson.Raw) bool {
		level, _ := cmd.Lookup("readConcern", "level").StringValueOK()
		return level == "snapshot"
	}, Error: &mongotest.Error{Code: 246, Message: "no snapshot"}})
	var causal, preferred atomic.Int64
	server.OnCommand(func(_, cmd string, doc bson.Raw) {
		if cmd != "find" || doc.Lookup("readConcern", "level").Type != 0 {
			return
		}
		if doc.Lookup("readConcern", "afterClusterTime").Type == bson.TypeTimestamp {
			causal.Add(1)
		}
		if mode, _ := doc.Lookup("$readPreference", "mode").StringValueOK(); mode == "secondaryPreferred" {
			preferred.Add(1)
		}
	})
	o := opts(t)
	o.ReadPreference = "secondaryPreferred"
	s := proven(t, db, o)
	requireSame(t, docs, contents(t, s, "a"))
	require.Equal(t, "secondaryPreferred", s.Manifest.Server.ReadPreference)
	require.Equal(t, int64(1), causal.Load())
	require.Equal(t, int64(1), preferred.Load())
}

// TestMemoryIsSharedByTheCursors reads large documents from many collections at once: batches wait for each other.
func TestMemoryIsSharedByTheCursors(t *testing.T) {
	l := newLimits(Options{Memory: leastMemory})
	a, b := share{of: l}, share{of: l}
	require.NoError(t, a.want(t.Context(), wantBatchBytes))
	require.NoError(t, b.want(t.Context(), wantBatchBytes))
	require.NoError(t, a.want(t.Context(), 8<<20), "as much as is left")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	require.Error(t, b.want(ctx, 16<<20), "all of it is too much while another reads")
	a.release()
	require.NoError(t, b.want(t.Context(), 16<<20))
	b.release()
	require.True(t, l.memory.TryAcquire(l.total), "everything was given back")
}

func TestLargestDocumentsPassThroughTheLeastMemory(t *testing.T) {
	_, db := inMemory(t)
	var want []bson.Raw
	for c := range 4 {
		for i := range 3 {
			doc := raw(t, bson.D{{Key: "_id", Value: fmt.Sprint(c, i)}, {Key: "b", Value: bytes.Repeat([]byte{byte(i)}, 16<<20-64)}})
			want = append(want, fill(t, db, fmt.Sprint("c", c), doc)...)
		}
	}
	o := opts(t)
	o.Memory = leastMemory
	s := proven(t, db, o)
	require.EqualValues(t, len(want), s.Manifest.Documents())
}
