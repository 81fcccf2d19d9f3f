package backup

import (
	"bytes"
	"encoding/binary"
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
	"github.com/zeebo/xxh3"
	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"
)

func writeIndex(t testing.TB, path string, memory int, docs []bson.Raw) File {
	t.Helper()
	w := NewIndexWriter(path)
	w.memory = memory
	var e IndexEntries
	for batch := range slices.Chunk(docs, 7) {
		e.Reset()
		for _, d := range batch {
			e.Add(d, HashOf(d))
		}
		require.NoError(t, w.Add(t.Context(), &e))
	}
	f, err := w.Finish(t.Context())
	require.NoError(t, err)
	require.NoError(t, w.Abandon())
	left, err := filepath.Glob(path + ".*")
	require.NoError(t, err)
	require.Empty(t, left, "what was put aside is removed")
	return f
}

func openIndex(t testing.TB, path string) *IndexReader {
	t.Helper()
	r, err := OpenIndex(path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

// ids are of every type that a server takes for an _id, and of some shapes that are hard to keep.
func ids() []any {
	all := []any{
		nil, true, false, math.NaN(), math.Inf(-1), math.Copysign(0, -1), 1.5, int32(math.MinInt32), int32(-1), int32(0), int32(1), int64(math.MinInt64), int64(-1), int64(1),
		int64(math.MaxInt64), "", "a", "A", "\x00", "ä", strings.Repeat("x", maxKey-1), strings.Repeat("x", maxKey), strings.Repeat("x", 5000) + "1",
		strings.Repeat("x", 5000) + "2", bson.NilObjectID, bson.ObjectID{1}, bson.NewDateTimeFromTime(bson.DateTime(0).Time()), bson.DateTime(-1), bson.DateTime(1),
		bson.Timestamp{}, bson.Timestamp{T: 1, I: 2}, bson.Binary{}, bson.Binary{Subtype: 4, Data: make([]byte, 16)}, bson.Binary{Data: make([]byte, 300)},
		bson.D{}, bson.D{{Key: "a", Value: 1}}, bson.D{{Key: "a", Value: strings.Repeat("y", 200)}}, bson.MinKey{}, bson.MaxKey{},
		bson.JavaScript("1"), bson.Symbol("a"), bson.NewDecimal128(1, 2), bson.Undefined{},
	}
	for i := range 40 {
		all = append(all, i*i, fmt.Sprint("inv_", i), bson.ObjectID{6, byte(i)})
	}
	return all
}

func TestAnIndexNamesDocumentsByAnyID(t *testing.T) {
	seen := map[string]int{}
	for i, id := range ids() {
		d := raw(t, bson.D{{Key: "_id", Value: id}, {Key: "x", Value: 1}})
		key := appendKey(nil, d, HashOf(d))
		require.LessOrEqual(t, len(key), maxKey)
		other, twice := seen[string(key)]
		if twice { // the list has a few twice
			require.True(t, d.Lookup("_id").Equal(raw(t, bson.D{{Key: "_id", Value: ids()[other]}}).Lookup("_id")), "%v and %v", ids()[other], id)
		}
		seen[string(key)] = i
		moved := raw(t, bson.D{{Key: "x", Value: 1}, {Key: "_id", Value: id}})
		require.Equal(t, key, appendKey(nil, moved, HashOf(moved)), "the _id need not stand first")
		v, whole := Change{key: key}.ID()
		if !whole {
			require.Greater(t, len(d.Lookup("_id").Value), maxKey-1)
			require.Contains(t, Change{key: key}.String(), "…")
			continue
		}
		require.True(t, d.Lookup("_id").Equal(v), "%v became %v", d.Lookup("_id"), v)
		require.Equal(t, d.Lookup("_id").String(), Change{key: key}.String())
	}
	without := raw(t, bson.D{{Key: "x", Value: 1}})
	require.Equal(t, "(no _id)", Change{key: appendKey(nil, without, HashOf(without))}.String())
}

// naive counts what differs between two lists of documents, of which several may have one _id.
func naive(t testing.TB, from, to []bson.Raw) (Counts, map[string]int) {
	type pile struct{ from, to map[Hash]int }
	piles := map[string]pile{}
	for side, docs := range [][]bson.Raw{from, to} {
		for _, d := range docs {
			key := "none " + string(d)
			if id, err := d.LookupErr("_id"); err == nil {
				key = string(rune(id.Type)) + string(id.Value)
			}
			p, ok := piles[key]
			if !ok {
				p = pile{map[Hash]int{}, map[Hash]int{}}
				piles[key] = p
			}
			[]map[Hash]int{p.from, p.to}[side][HashOf(d)]++
		}
	}
	var c Counts
	names := map[string]int{}
	for key, p := range piles {
		same, left, right := 0, 0, 0
		for h, n := range p.from {
			same += min(n, p.to[h])
			left += n
		}
		for _, n := range p.to {
			right += n
		}
		left, right = left-same, right-same
		changed := min(left, right)
		c = c.Plus(Counts{Same: int64(same), Changed: int64(changed), Missing: int64(left - changed), Added: int64(right - changed)})
		name := "(no _id)"
		if !strings.HasPrefix(key, "none ") {
			var v bson.RawValue
			for _, d := range slices.Concat(from, to) {
				if id, err := d.LookupErr("_id"); err == nil && string(rune(id.Type))+string(id.Value) == key {
					v = id
					break
				}
			}
			name = v.String()
			n := 1 + len(v.Value)
			if v.Type == bson.TypeString {
				n -= 5
			}
			if n > maxKey {
				name = "long"
			}
		}
		for what, n := range map[ChangeKind]int{Changed: changed, Missing: left - changed, Added: right - changed} {
			if n > 0 {
				names[string(what)+" "+name] += n
			}
		}
	}
	return c, names
}

func TestMergingTwoIndexesIsTheNaiveComparison(t *testing.T) {
	all := ids()
	rapid.Check(t, func(r *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		require.NoError(t, err)
		side := func(name string) ([]bson.Raw, *IndexReader) {
			var docs []bson.Raw
			for range rapid.IntRange(0, 120).Draw(r, "documents "+name) {
				d := bson.D{{Key: "v", Value: rapid.IntRange(0, 2).Draw(r, "version")}}
				if i := rapid.IntRange(-1, len(all)-1).Draw(r, "_id"); i >= 0 {
					d = slices.Insert(d, 0, bson.E{Key: "_id", Value: all[i]})
				}
				docs = append(docs, raw(t, d))
			}
			memory := rapid.SampledFrom([]int{1, 100, 500, 3000, indexMemory}).Draw(r, "memory")
			path := filepath.Join(dir, name)
			writeIndex(t, path, memory, docs)
			return docs, openIndex(t, path)
		}
		from, a := side("from")
		to, b := side("to")
		want, wantNames := naive(t, from, to)
		names := map[string]int{}
		got, err := DiffIndexes(t.Context(), a, b, func(c Change) error {
			name := c.String()
			if strings.HasSuffix(name, "…") {
				name = "long"
			}
			names[string(c.What)+" "+name]++
			return nil
		})
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.Equal(t, wantNames, names)
	})
}

func TestIndexesOfRangesBecomeTheIndexOfTheCollection(t *testing.T) {
	docs := invoices(t, 10_000)
	dir := t.TempDir()
	whole := filepath.Join(dir, "whole")
	writeIndex(t, whole, 10_000, docs)
	for name, docs := range map[string][]bson.Raw{"in order": docs, "in no order": shuffled(docs)} {
		t.Run(name, func(t *testing.T) {
			var parts []string
			for part := range slices.Chunk(docs, 70) { // more parts than are merged at a time
				path := filepath.Join(dir, fmt.Sprint("part", len(parts)))
				writeIndex(t, path, indexMemory, part)
				parts = append(parts, path)
			}
			path := filepath.Join(dir, "merged")
			f, err := MergeIndexes(t.Context(), path, digestOf(docs), parts...)
			require.NoError(t, err)
			left, err := filepath.Glob(path + ".*")
			require.NoError(t, err)
			require.Empty(t, left)

			r := openIndex(t, path)
			counts, err := DiffIndexes(t.Context(), openIndex(t, whole), r, nil)
			require.NoError(t, err)
			require.Equal(t, Counts{Same: int64(len(docs))}, counts)
			require.NoError(t, r.Matches(&Collection{Digest: digestOf(docs), DocumentIndex: f}))

			_, err = MergeIndexes(t.Context(), path, digestOf(docs), parts[1:]...)
			require.ErrorAs(t, err, new(*CorruptError), "a part is missing")
			b, err := os.ReadFile(parts[20])
			require.NoError(t, err)
			b[len(b)/2] ^= 4
			require.NoError(t, os.WriteFile(parts[20], b, 0o600))
			_, err = MergeIndexes(t.Context(), path, digestOf(docs), parts...)
			requireNamed(t, err, parts[20], "a part is damaged")
		})
	}
}

func shuffled(docs []bson.Raw) []bson.Raw {
	docs = slices.Clone(docs)
	rand.New(rand.NewPCG(1, 9)).Shuffle(len(docs), func(i, j int) { docs[i], docs[j] = docs[j], docs[i] })
	return docs
}

func digestOf(docs []bson.Raw) (d Digest) {
	for _, doc := range docs {
		d.Add(doc)
	}
	return d
}

func readIndex(path string, b []byte) (int, error) {
	r := newIndexReader(path, bytes.NewReader(b))
	for n := 0; ; n++ {
		switch err := r.next(); {
		case errors.Is(err, io.EOF):
			return n, nil
		case err != nil:
			return n, err
		}
	}
}

func TestEveryFlippedBitAndEveryCutOfAnIndexIsFound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index")
	var docs []bson.Raw
	for i := range 5000 { // two blocks
		docs = append(docs, raw(t, bson.D{{Key: "_id", Value: i}}))
	}
	writeIndex(t, path, indexMemory, docs)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	n, err := readIndex(path, whole)
	require.NoError(t, err)
	require.Equal(t, len(docs), n)
	found := func(b []byte, what string, at int) {
		_, err := readIndex(path, b)
		var corrupt *CorruptError
		require.ErrorAs(t, err, &corrupt, "%s %d", what, at)
	}
	step := 41 // coprime to 8: all bits of a byte come round; the ends are gone through bit by bit
	for bit := 0; bit < 8*len(whole); bit++ {
		if bit > 8*80 && bit < 8*(len(whole)-80) {
			bit += step - 1
		}
		if bit >= 8*len(whole) {
			break
		}
		whole[bit/8] ^= 1 << (bit % 8)
		found(whole, "bit", bit)
		whole[bit/8] ^= 1 << (bit % 8)
	}
	for size := 0; size < len(whole); size += 1 + size/50 {
		found(whole[:size], "cut to", size)
	}
	found(append(slices.Clone(whole), 0), "longer than", len(whole))
	first := 8 + 4 + int(binary.LittleEndian.Uint32(whole[8:])) + 8
	found(slices.Concat(whole[:8], whole[first:]), "without the first block of", len(whole))
	found(slices.Concat(whole[:first], whole[8:]), "with the first block twice, of", len(whole))
}

func TestAnIndexThatIsNotOfItsDocumentsIsFound(t *testing.T) {
	s := wholeShop(t)
	c := s.Manifest.Collection("invoices")
	docs := invoices(t, 2000)
	other := slices.Clone(docs)
	// The documents of two _ids, exchanged: count, hashes and their sum stay as they were.
	var e IndexEntries
	for _, d := range other {
		e.Add(d, HashOf(d))
	}
	e.entries[3].hash, e.entries[4].hash = e.entries[4].hash, e.entries[3].hash
	w := NewIndexWriter(s.IndexFile(c))
	require.NoError(t, w.Add(t.Context(), &e))
	f, err := w.Finish(t.Context())
	require.NoError(t, err)
	f.Path = c.DocumentIndex.Path
	c.DocumentIndex = f
	require.NoError(t, WriteManifest(s.Dir, s.Manifest))
	requireNamed(t, check(t, s.Dir), s.IndexFile(c), "documents exchanged")
}

// FuzzIndexReader gives the reader any bytes: as they are, and as a block whose checksum is right, so that what stands behind
// the checksum is reached too. It must end with an error or at the end, and never panic.
func FuzzIndexReader(f *testing.F) {
	path := filepath.Join(f.TempDir(), "index")
	var docs []bson.Raw
	for _, id := range ids() {
		docs = append(docs, raw(f, bson.D{{Key: "_id", Value: id}}))
	}
	w := NewIndexWriter(path)
	var e IndexEntries
	for _, d := range docs {
		e.Add(d, HashOf(d))
	}
	require.NoError(f, w.Add(f.Context(), &e))
	_, err := w.Finish(f.Context())
	require.NoError(f, err)
	whole, err := os.ReadFile(path)
	require.NoError(f, err)
	f.Add(whole)
	f.Add(whole[len(indexMagic) : len(whole)-indexTrailer-8-8])
	f.Add([]byte(indexMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, given := range [][]byte{b, sealed(b)} {
			_, err := readIndex(path, given)
			if err != nil {
				require.ErrorAs(t, err, new(*CorruptError))
			}
		}
	})
}

// sealed makes b a block with a right length and checksum, and lets a footer follow.
func sealed(b []byte) []byte {
	b = slices.Clone(b)
	if len(b) >= 4 {
		binary.LittleEndian.PutUint32(b, uint32(len(b)-4))
	}
	chain := xxh3.HashSeed(b, xxh3.HashString(indexMagic))
	out := slices.Concat([]byte(indexMagic), binary.LittleEndian.AppendUint64(b, chain))
	footer := make([]byte, indexTrailer)
	return binary.LittleEndian.AppendUint64(append(out, footer...), xxh3.HashSeed(footer, chain))
}
