package backup

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math/bits"
	"path"
	"slices"

	"github.com/zeebo/xxh3"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// A document index lists the documents of one collection, each by its key (which says the _id) and the low 64 bits of the
// XXH3-128 hash of its raw BSON, ordered by key. Two of them are compared by merging, in little memory and without a look
// at the documents. It lies outside of the database's folder, in IndexFolder, where mongorestore passes it over.
//
//	header  8 bytes   "RBKDOCS" and the version, 1
//	blocks            each: u32 length of what follows up to the checksum; u32 documents; u32 length of the keys unpacked;
//	                  the keys, deflated; 8 bytes of hash for each document; u64 checksum
//	footer            u32 zero; u64 documents; u64 sum of the hashes; u64 sum of the pairs; u64 checksum
//
// All numbers are little endian. The keys of a block are three columns: for each, how many bytes it shares with the one
// before (u8; none for the first), how many follow (u8), and these bytes. A checksum is the XXH3-64 of what precedes it in
// its block or the footer, seeded with the checksum before (with the XXH3-64 of the header for the first), so that nothing
// can be flipped, cut off, left out or moved. The sum of the hashes is the low half of the collection's Digest; a pair is the
// XXH3-64 of a key, seeded with its document's hash, and ties the keys to the documents. Both sums are modulo 2^64.
//
// 64 bits of the hash are enough, because they are only compared with those of the same _id: one changed document in 2^64 is
// taken for the same, and then the collections' digests still differ. All 128 would make the index nearly twice as large.
const (
	indexMagic   = "RBKDOCS\x01"
	indexTrailer = 4 + 3*8 // the footer without its checksum
	blockEntries = 4096
	blockSuffix  = 64 << 10 // bytes of keys, apart from what is shared, after which a block ends
	largestBlock = 2*blockEntries + blockSuffix + maxKey
)

// IndexFolder is the folder of a backup that holds its document indexes, in a folder named after the database.
const IndexFolder = "index"

const indexExt = ".documents"

// IndexWorthBytes is how many bytes of documents a collection must have to get a document index. A smaller one is read as
// fast as its index would be, and thousands of small files more would take longer than all they save.
const IndexWorthBytes = MemberSize

// IndexPath returns where a collection's document index lies, relative to the backup's directory.
func IndexPath(database, collection string) string {
	return path.Join(IndexFolder, database, FileBase(collection)+indexExt)
}

// A key is the type of the _id and a form of its value that has the order in which applications make them: consecutive ones
// share their beginning, and a dump meets them nearly sorted. Documents without _id and long _ids have marks instead of a
// type.
const (
	noID       = 0x00 // then the hash of the document
	longID     = 0x80 // then the type, the beginning of the value, and the hash of type and value
	maxKey     = 128
	keptOfLong = 64
)

// indexHash is what an index keeps of a document's hash.
func indexHash(h Hash) uint64 { return h.Lo }

// appendKey appends the key of a document, whose hash is content.
func appendKey(dst []byte, doc bson.Raw, content Hash) []byte {
	// Servers put the _id first. Only what a damaged or compatible one gives has to be searched.
	id, ok := firstID(doc)
	if !ok {
		v, err := doc.LookupErr("_id")
		if err != nil {
			dst = binary.BigEndian.AppendUint64(append(dst, noID), content.Hi)
			return binary.BigEndian.AppendUint64(dst, content.Lo)
		}
		id = v
	}
	start := len(dst)
	dst = append(dst, byte(id.Type))
	switch id.Type {
	case bson.TypeInt32:
		dst = binary.BigEndian.AppendUint32(dst, binary.LittleEndian.Uint32(id.Value)^1<<31)
	case bson.TypeInt64, bson.TypeDateTime:
		dst = binary.BigEndian.AppendUint64(dst, binary.LittleEndian.Uint64(id.Value)^1<<63)
	case bson.TypeString:
		dst = append(dst, id.Value[4:max(4, len(id.Value)-1)]...) // without its length and its NUL
	default:
		dst = append(dst, id.Value...)
	}
	if len(dst)-start <= maxKey {
		return dst
	}
	h := hashID(id)
	dst = slices.Insert(dst[:start+1+keptOfLong], start, byte(longID))
	dst = binary.BigEndian.AppendUint64(dst, h.Hi)
	return binary.BigEndian.AppendUint64(dst, h.Lo)
}

// firstID returns the _id of a document whose first element it is.
func firstID(doc bson.Raw) (bson.RawValue, bool) {
	const at = 4 + 1 + len("_id\x00")
	if len(doc) < at || string(doc[5:at]) != "_id\x00" {
		return bson.RawValue{}, false
	}
	v, _, ok := bsoncore.ReadValue(doc[at:], bsoncore.Type(doc[4]))
	return bson.RawValue{Type: bson.Type(v.Type), Value: v.Data}, ok
}

// idOfKey returns the _id that a key says. Of a long one it says only how it begins, and of a document without _id nothing.
func idOfKey(key []byte) (id bson.RawValue, whole bool) {
	if len(key) == 0 || key[0] == noID || key[0] == longID {
		return bson.RawValue{}, false
	}
	id.Type = bson.Type(key[0])
	value := key[1:]
	switch id.Type {
	case bson.TypeInt32:
		if len(value) == 4 {
			id.Value = binary.LittleEndian.AppendUint32(nil, binary.BigEndian.Uint32(value)^1<<31)
		}
	case bson.TypeInt64, bson.TypeDateTime:
		if len(value) == 8 {
			id.Value = binary.LittleEndian.AppendUint64(nil, binary.BigEndian.Uint64(value)^1<<63)
		}
	case bson.TypeString:
		id.Value = binary.LittleEndian.AppendUint32(nil, uint32(len(value)+1))
		id.Value = append(append(id.Value, value...), 0)
	default:
		id.Value = slices.Clone(value)
	}
	return id, id.Validate() == nil
}

// IndexEntries are documents on their way into an index. It is not safe for concurrent use.
type IndexEntries struct {
	keys    []byte
	entries []indexEntry
}

type indexEntry struct {
	order uint64 // the bytes of the key in which it first may differ from others; set while sorting
	hash  uint64
	at    uint32 // of the key
	size  uint8
}

// entrySize is what an entry takes of memory beside its key.
const entrySize = 24

// Add adds a document, whose hash is h.
func (e *IndexEntries) Add(doc bson.Raw, h Hash) {
	at := len(e.keys)
	e.keys = appendKey(e.keys, doc, h)
	e.entries = append(e.entries, indexEntry{hash: indexHash(h), at: uint32(at), size: uint8(len(e.keys) - at)})
}

// Reset forgets the documents and keeps the memory.
func (e *IndexEntries) Reset() { e.keys, e.entries = e.keys[:0], e.entries[:0] }

func (e *IndexEntries) append(o *IndexEntries) {
	at := uint32(len(e.keys))
	e.keys = append(e.keys, o.keys...)
	for _, n := range o.entries {
		n.at += at
		e.entries = append(e.entries, n)
	}
}

func (e *IndexEntries) key(n indexEntry) []byte { return e.keys[n.at : n.at+uint32(n.size)] }

func (e *IndexEntries) size() int { return len(e.keys) + entrySize*len(e.entries) }

// sort orders by key, and equal keys by hash. It compares the eight bytes that follow what all keys share, and the whole keys
// only where these are equal.
func (e *IndexEntries) sort() {
	if len(e.entries) == 0 {
		return
	}
	first := e.key(e.entries[0])
	shared := len(first)
	sorted := true
	before := first
	for _, n := range e.entries[1:] {
		key := e.key(n)
		shared = sharedBytes(first[:shared], key)
		sorted = sorted && bytes.Compare(before, key) < 0
		before = key
	}
	if sorted {
		return
	}
	for i := range e.entries {
		n := &e.entries[i]
		var b [8]byte
		copy(b[:], e.key(*n)[shared:])
		n.order = binary.BigEndian.Uint64(b[:])
	}
	if !e.insert() {
		slices.SortFunc(e.entries, e.compare)
	}
}

func (e *IndexEntries) compare(a, b indexEntry) int {
	if a.order != b.order {
		return cmp.Compare(a.order, b.order)
	}
	return cmp.Or(bytes.Compare(e.key(a), e.key(b)), cmp.Compare(a.hash, b.hash))
}

// insert sorts by insertion, as long as entries are not far from their places: those of ObjectIDs that several processes made at
// the same time are not. It gives up, and returns false, before it takes longer than sorting.
func (e *IndexEntries) insert() bool {
	left := 4 * len(e.entries)
	for i := 1; i < len(e.entries); i++ {
		n, at := e.entries[i], i
		for ; at > 0 && e.compare(n, e.entries[at-1]) < 0; at-- {
			e.entries[at] = e.entries[at-1]
		}
		e.entries[at] = n
		if left -= i - at; left < 0 {
			return false
		}
	}
	return true
}

// sharedBytes is how many bytes two keys have in common at their beginning.
func sharedBytes(a, b []byte) int {
	n, i := min(len(a), len(b)), 0
	for ; i+8 <= n; i += 8 {
		if x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}

// indexSums are what an index says of all its documents.
type indexSums struct{ documents, hashes, pairs uint64 }

func (s *indexSums) add(key []byte, hash uint64) {
	s.documents++
	s.hashes += hash
	s.pairs += xxh3.HashSeed(key, hash)
}

func (s *indexSums) plus(o indexSums) {
	s.documents += o.documents
	s.hashes += o.hashes
	s.pairs += o.pairs
}
