package dump

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"math/big"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/backup"
)

// splitting says which collections are read in ranges, and how large these are.
type splitting struct {
	above int64 // bytes of a collection
	size  int64 // bytes of a range, about
	probe int64 // bytes that are read before the server is asked how large the collection is: small ones cost no question
}

var usualSplitting = splitting{above: 64 << 20, size: 32 << 20, probe: 2 << 20}

const (
	maxRanges       = 1024
	samplesPerRange = 16
	// The server takes a sample by random only where it is less than a twentieth of the collection; a larger one would
	// read all documents.
	sampleShare = 20
	// Where documents cannot be sampled, as many _ids are read from their index.
	maxWalk = 1_000_000
)

// errLarge says that a collection is to be read in the ranges that were found.
var errLarge = errors.New("to be read in ranges")

// splittable says whether ranges of _id can be told apart at all. With a collation the server compares strings otherwise
// than by their bytes; capped collections and time series are read in their order by one cursor.
func (d *reading) splittable() bool {
	l := d.listing
	return !d.part && !d.unordered && !d.run.server.ferret && l.kind == backup.TypeCollection && l.name != "system.js" &&
		l.options.Lookup("capped").Type == 0 && l.options.Lookup("collation").Type == 0
}

// ranges divides a collection that is large enough into ranges of about equal size, or returns none. Whatever the server
// cannot answer leaves the collection whole.
func (d *reading) ranges(ctx context.Context) []backup.Bounds {
	if !d.splittable() || d.run.bytes > 0 && d.run.bytes < d.run.splitting.above {
		return nil
	}
	stats, err := d.run.command(ctx, bson.D{{Key: "collStats", Value: d.listing.name}})
	if err != nil {
		return nil
	}
	size, count := number(stats, "size"), number(stats, "count")
	if size < d.run.splitting.above {
		return nil
	}
	n := min(size/d.run.splitting.size, maxRanges, count)
	if n < 2 {
		return nil
	}
	first, err := d.endID(ctx, 1)
	if err != nil || first.Type == 0 {
		return nil
	}
	last, err := d.endID(ctx, -1)
	if err != nil || last.Type == 0 {
		return nil
	}
	return boundsAt(d.points(ctx, int(n), count, first, last), first, last)
}

// divide notes the ranges of a collection that is to be read in ranges.
func (d *reading) divide(ctx context.Context) bool {
	d.split = d.ranges(ctx)
	return len(d.split) > 0
}

// points are _ids that divide a collection, in the server's order.
func (d *reading) points(ctx context.Context, n int, count int64, first, last bson.RawValue) []bson.RawValue {
	samples := int64(n) * samplesPerRange
	// A sample reads documents, and a salvaging dump stays away from them.
	if !d.run.o.Salvage && count >= samples*sampleShare {
		if points, err := d.sample(ctx, n, samples); err == nil && len(points) > 0 {
			return points
		}
	}
	if count <= min(samples*sampleShare, maxWalk) || d.run.o.Salvage && count <= maxWalk {
		if points, err := d.walk(ctx, n, count); err == nil && len(points) > 0 {
			return points
		}
	}
	return between(n, first, last)
}

func (d *reading) sample(ctx context.Context, n int, samples int64) ([]bson.RawValue, error) {
	return d.every(ctx, samples/int64(n), bson.D{
		{Key: "aggregate", Value: d.listing.name},
		{Key: "pipeline", Value: bson.A{
			bson.D{{Key: "$sample", Value: bson.D{{Key: "size", Value: samples}}}},
			bson.D{{Key: "$project", Value: bson.D{{Key: "_id", Value: 1}}}},
			bson.D{{Key: "$sort", Value: bson.D{{Key: "_id", Value: 1}}}},
		}},
		{Key: "cursor", Value: bson.D{}},
	})
}

// walk reads every _id from the index, without the documents.
func (d *reading) walk(ctx context.Context, n int, count int64) ([]bson.RawValue, error) {
	return d.every(ctx, max(count/int64(n), 1), bson.D{
		{Key: "find", Value: d.listing.name}, {Key: "sort", Value: bson.D{{Key: "_id", Value: 1}}},
		{Key: "projection", Value: bson.D{{Key: "_id", Value: 1}}}, {Key: "batchSize", Value: 10_000},
	})
}

// every returns one _id in so many.
func (d *reading) every(ctx context.Context, step int64, cmd bson.D) ([]bson.RawValue, error) {
	var points []bson.RawValue
	i := int64(0)
	err := d.run.each(ctx, cmd, func(doc bson.Raw) error {
		if i++; i%step == 0 {
			id := doc.Lookup("_id")
			points = append(points, bson.RawValue{Type: id.Type, Value: bytes.Clone(id.Value)})
		}
		return nil
	})
	return points, err
}

// between divides by arithmetic what lies between two _ids.
func between(n int, first, last bson.RawValue) []bson.RawValue {
	r := scaleOf(first.Type)
	if r == nil || r.width == 0 || scaleOf(last.Type) != r {
		return nil
	}
	lo, hi := r.place(first), r.place(last)
	if lo == nil || hi == nil {
		return nil
	}
	var points []bson.RawValue
	width := new(big.Int).Sub(hi, lo)
	for i := 1; i < n; i++ {
		at := new(big.Int).Mul(width, big.NewInt(int64(i)))
		points = append(points, r.value(at.Add(lo, at.Div(at, big.NewInt(int64(n))))))
	}
	return points
}

// boundsAt makes ranges that hold every _id once: of each type that has a point, the ranges between its points, and all
// other types in one, unless the first and the last _id say that there are none.
func boundsAt(points []bson.RawValue, first, last bson.RawValue) []backup.Bounds {
	var all []backup.Bounds
	var types []bson.Type
	var previous bson.RawValue
	for _, p := range points {
		if scaleOf(p.Type) == nil || isNaN(p) || p.Equal(previous) {
			continue
		}
		if t := backup.Bracket(p.Type); previous.Type == 0 || t != backup.Bracket(previous.Type) {
			types = append(types, t)
			all = append(all, backup.Bounds{To: p}, backup.Bounds{From: p})
		} else {
			all[len(all)-1].To = p
			all = append(all, backup.Bounds{From: p})
		}
		previous = p
	}
	if len(all) == 0 {
		return nil
	}
	if len(types) > 1 || types[0] != backup.Bracket(first.Type) || types[0] != backup.Bracket(last.Type) || isNaN(first) {
		all = append(all, backup.Bounds{Except: types})
	}
	if _, err := backup.NewRanges(all); err != nil {
		return nil
	}
	return all
}

// within says whether an _id can belong to a range: a compatible server that ignores a filter gives it away by the first
// document. Of types whose order is not known here it says yes.
func within(b backup.Bounds, id bson.RawValue) bool {
	for _, t := range b.Except {
		if backup.Bracket(id.Type) == t && !isNaN(id) {
			return false
		}
	}
	if c, known := compared(id, b.From); known && c < 0 {
		return false
	}
	if c, known := compared(id, b.To); known && c >= 0 {
		return false
	}
	return true
}

func compared(a, b bson.RawValue) (c int, known bool) {
	if isInteger(a.Type) && isInteger(b.Type) {
		return cmp.Compare(a.AsInt64(), b.AsInt64()), true
	}
	if a.Type != b.Type {
		return 0, false
	}
	switch a.Type {
	case bson.TypeObjectID:
		return bytes.Compare(a.Value, b.Value), true
	case bson.TypeString:
		return cmp.Compare(a.StringValue(), b.StringValue()), true
	case bson.TypeDateTime:
		return cmp.Compare(a.DateTime(), b.DateTime()), true
	default:
		return 0, false
	}
}

func isInteger(t bson.Type) bool { return t == bson.TypeInt32 || t == bson.TypeInt64 }
