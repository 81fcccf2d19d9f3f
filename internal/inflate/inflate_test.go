package inflate

import (
	"bytes"
	stdflate "compress/flate"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/flate"
	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// contents are what DEFLATE meets: nothing, no two alike, all alike, few symbols, skewed ones with long codes, documents.
func contents(t testing.TB) map[string][]byte {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 1))
	of := func(n int, next func() byte) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = next()
		}
		return b
	}
	var documents []byte
	for i := range 2000 {
		doc, err := bson.Marshal(bson.D{
			{Key: "_id", Value: bson.NewObjectID()}, {Key: "ticket", Value: fmt.Sprintf("tkt_%012x", r.Uint64()>>16)}, {Key: "open", Value: i%3 == 0},
			{Key: "cost", Value: r.Float64() * 1000}, {Key: "parts", Value: bson.A{"controller", "brake", "hub motor"}[:r.IntN(4)]},
		})
		require.NoError(t, err)
		documents = append(documents, doc...)
	}
	return map[string][]byte{
		"nothing":   {},
		"one byte":  {7},
		"zeros":     make([]byte, 1_000_000),
		"random":    of(200_000, func() byte { return byte(r.Uint32()) }),
		"hex":       of(200_000, func() byte { return "0123456789abcdef"[r.IntN(16)] }),
		"skewed":    of(200_000, func() byte { return byte(r.ExpFloat64() * 4) }),
		"period 5":  bytes.Repeat([]byte("abcde"), 50_000),
		"a word":    []byte("hello hello hello hello"),
		"documents": documents,
	}
}

// deflated is content as two independent compressors write it, at every level they have.
func deflated(t testing.TB, content []byte) [][]byte {
	t.Helper()
	var all [][]byte
	for level := flate.HuffmanOnly; level <= flate.BestCompression; level++ {
		for _, open := range []func(io.Writer) (io.WriteCloser, error){
			func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, level) },
			func(w io.Writer) (io.WriteCloser, error) { return stdflate.NewWriter(w, level) },
		} {
			var b bytes.Buffer
			w, err := open(&b)
			require.NoError(t, err)
			_, err = w.Write(content)
			require.NoError(t, err)
			require.NoError(t, w.Close())
			all = append(all, b.Bytes())
		}
	}
	return all
}

func TestWhatWasCompressedComesBack(t *testing.T) {
	var d Inflater
	for name, content := range contents(t) {
		t.Run(name, func(t *testing.T) {
			for _, z := range deflated(t, content) {
				got := make([]byte, len(content))
				require.NoError(t, d.Inflate(got, z))
				require.True(t, bytes.Equal(content, got))
			}
		})
	}
}

// A stream that is cut off, goes on, or has another length than was promised is refused.
func TestAStreamThatIsNotWholeIsRefused(t *testing.T) {
	var d Inflater
	for name, content := range contents(t) {
		t.Run(name, func(t *testing.T) {
			for _, z := range deflated(t, content) {
				got := make([]byte, len(content)+1)
				require.ErrorIs(t, d.Inflate(got, z), ErrCorrupt)
				if len(content) > 0 {
					require.ErrorIs(t, d.Inflate(got[:len(content)-1], z), ErrCorrupt)
				}
				got = got[:len(content)]
				require.ErrorIs(t, d.Inflate(got, append(bytes.Clone(z), 0)), ErrCorrupt)
				for _, n := range []int{0, 1, len(z) / 2, len(z) - 1} {
					require.ErrorIs(t, d.Inflate(got, z[:n]), ErrCorrupt)
				}
			}
		})
	}
}

// agrees unpacks with the standard library too: both give the same, or both refuse.
func agrees(t *testing.T, d *Inflater, stream []byte, size int) {
	t.Helper()
	in := bytes.NewReader(stream)
	want, err := io.ReadAll(io.LimitReader(stdflate.NewReader(in), int64(size)+1))
	got := make([]byte, size)
	if err != nil || len(want) != size || in.Len() > 0 {
		require.ErrorIs(t, d.Inflate(got, stream), ErrCorrupt)
		return
	}
	require.NoError(t, d.Inflate(got, stream))
	require.True(t, bytes.Equal(want, got))
}

// Wherever a bit flips: what comes is what the standard library makes of it, be it content or a refusal. (The content is wrong then,
// which the checksum says.)
func TestAFlippedBitIsReadAsTheStandardLibraryReadsIt(t *testing.T) {
	var d Inflater
	r := rand.New(rand.NewPCG(2, 2))
	for name, content := range contents(t) {
		if len(content) == 0 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			content = content[:min(len(content), 60_000)]
			for _, z := range deflated(t, content) {
				for i := range 60 {
					bit := r.IntN(8 * len(z))
					if i < 30 {
						bit = r.IntN(8 * min(len(z), 100)) // in the codes' sizes
					}
					z[bit/8] ^= 1 << (bit % 8)
					agrees(t, &d, z, len(content))
					z[bit/8] ^= 1 << (bit % 8)
				}
			}
		})
	}
}

func FuzzInflate(f *testing.F) {
	for _, content := range contents(f) {
		content = content[:min(len(content), 2000)]
		for _, z := range deflated(f, content) {
			f.Add(z, len(content))
		}
	}
	f.Fuzz(func(t *testing.T, stream []byte, size int) {
		var d Inflater
		agrees(t, &d, stream, min(max(size, 0), 1<<20))
	})
}

func BenchmarkInflate(b *testing.B) {
	content := contents(b)["documents"]
	z := deflated(b, content)[10]
	got := make([]byte, len(content))
	b.Run("inflate", func(b *testing.B) {
		b.SetBytes(int64(len(content)))
		var d Inflater
		for b.Loop() {
			require.NoError(b, d.Inflate(got, z))
		}
	})
	b.Run("a reader of streams", func(b *testing.B) {
		b.SetBytes(int64(len(content)))
		r := flate.NewReader(nil)
		for b.Loop() {
			require.NoError(b, r.(flate.Resetter).Reset(bytes.NewReader(z), nil))
			_, err := io.ReadFull(r, got)
			require.NoError(b, err)
		}
	})
}
