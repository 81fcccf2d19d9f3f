package backup

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/bits"

	"github.com/zeebo/xxh3"
)

// Digest identifies the documents of a collection whatever their order: the 128-bit sum of the XXH3-128 hash of each
// document's raw BSON, with their number and bytes. It guards against accidents, not against a forger: files are
// guarded by SHA-256. The zero Digest is that of an empty collection.
type Digest struct {
	Documents int64
	Bytes     int64
	hi, lo    uint64
}

// Hash is the XXH3-128 hash of one document's raw BSON.
type Hash = xxh3.Uint128

// HashOf hashes raw bytes: a document, or an _id value with its type.
func HashOf(raw []byte) Hash { return xxh3.Hash128(raw) }

// Add adds one document's raw BSON.
func (d *Digest) Add(raw []byte) { d.AddHash(HashOf(raw), len(raw)) }

// AddHash adds one document by its hash and its length in bytes.
func (d *Digest) AddHash(h Hash, size int) {
	d.Documents++
	d.Bytes += int64(size)
	d.sum(h.Hi, h.Lo)
}

// Merge adds all documents of another digest.
func (d *Digest) Merge(o Digest) {
	d.Documents += o.Documents
	d.Bytes += o.Bytes
	d.sum(o.hi, o.lo)
}

func (d *Digest) sum(hi, lo uint64) {
	var carry uint64
	d.lo, carry = bits.Add64(d.lo, lo, 0)
	d.hi, _ = bits.Add64(d.hi, hi, carry)
}

// String returns the sum in hex, without the counts.
func (d Digest) String() string { return fmt.Sprintf("%016x%016x", d.hi, d.lo) }

type digestJSON struct {
	Documents int64  `json:"documents"`
	Bytes     int64  `json:"bytes"`
	Sum       string `json:"sum"`
}

// MarshalJSON writes documents, bytes and the sum in hex.
func (d Digest) MarshalJSON() ([]byte, error) {
	return json.Marshal(digestJSON{d.Documents, d.Bytes, d.String()})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (d *Digest) UnmarshalJSON(b []byte) error {
	var j digestJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	sum, err := hex.DecodeString(j.Sum)
	if err != nil || len(sum) != 16 {
		return fmt.Errorf("digest sum %q: want 32 hex digits", j.Sum)
	}
	*d = Digest{Documents: j.Documents, Bytes: j.Bytes}
	for i := range 8 {
		d.hi = d.hi<<8 | uint64(sum[i])
		d.lo = d.lo<<8 | uint64(sum[i+8])
	}
	return nil
}
