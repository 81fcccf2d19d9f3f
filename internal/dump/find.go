package dump

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/battwheels/runbook/internal/backup"
)

// query is one find.
type query struct {
	filter bson.D
	sort   bson.D
	batch  int // fixed size; 0 lets it grow
}

// find runs a query and calls f with each document, which is valid during the call.
func (d *reading) find(ctx context.Context, q query, f func(bson.Raw) error) error {
	cmd := bson.D{{Key: "find", Value: d.listing.dataName()}}
	if d.listing.raw() {
		cmd = append(cmd, bson.E{Key: "rawData", Value: true})
	}
	if q.filter != nil {
		cmd = append(cmd, bson.E{Key: "filter", Value: q.filter})
	}
	if q.sort != nil {
		cmd = append(cmd, bson.E{Key: "sort", Value: q.sort})
	}
	pace := newPace()
	if q.batch > 0 {
		pace.size = q.batch
	}
	cmd = append(cmd, bson.E{Key: "batchSize", Value: pace.size})
	rc, ok := d.run.progress.readConcern()
	if d.snapshot = ok && !d.plain; !d.snapshot {
		rc = d.run.acknowledged
	}
	if rc != nil {
		cmd = append(cmd, bson.E{Key: "readConcern", Value: rc})
	}
	memory := share{of: d.run.limits}
	if err := memory.want(ctx, wantBatchBytes); err != nil {
		return err
	}
	defer memory.release()
	asked := time.Now()
	cursor, err := d.run.db.RunCommandCursor(ctx, cmd, options.RunCmd().SetReadPreference(d.run.documentsFrom()))
	if err != nil {
		return err
	}
	defer closeCursor(ctx, cursor)
	var documents int
	var bytes int64
	var took time.Duration
	for cursor.Next(ctx) {
		if documents == 0 {
			took = time.Since(asked)
		}
		documents, bytes = documents+1, bytes+int64(len(cursor.Current))
		if err := f(cursor.Current); err != nil {
			return err
		}
		if cursor.RemainingBatchLength() > 0 {
			continue
		}
		if err := memory.want(ctx, bytes); err != nil {
			return err
		}
		if err := d.run.limits.pace(ctx, documents, bytes); err != nil {
			return err
		}
		if q.batch == 0 {
			cursor.SetBatchSize(int32(pace.next(documents, bytes, took)))
		} else {
			cursor.SetBatchSize(int32(q.batch))
		}
		documents, bytes, asked = 0, 0, time.Now()
	}
	return cursor.Err()
}

// natural reads the documents as they lie. When the collection proves not to be small it ends with errLarge, if ranges of
// it were found.
func (d *reading) natural(ctx context.Context) error {
	if d.part {
		return d.find(ctx, query{filter: d.bounds.Filter(bson.RawValue{}), sort: bson.D{{Key: "_id", Value: 1}}}, d.inside(d.w.add))
	}
	var read int64
	asked := !d.splittable()
	return d.find(ctx, query{}, func(doc bson.Raw) error {
		if read += int64(len(doc)); !asked && read >= d.run.splitting.probe {
			asked = true
			if d.divide(ctx) {
				return errLarge
			}
		}
		return d.w.add(doc)
	})
}

// inside looks at the first document of a range.
func (d *reading) inside(add func(bson.Raw) error) func(bson.Raw) error {
	looked := false
	return func(doc bson.Raw) error {
		if !looked && !within(d.bounds, doc.Lookup("_id")) {
			return errFilterIgnored
		}
		looked = true
		return add(doc)
	}
}

// exists says whether the collection is still the one that was listed. Where that cannot be told it says yes.
func (d *reading) exists(ctx context.Context) bool {
	there := false
	err := d.run.each(ctx, bson.D{
		{Key: "listCollections", Value: 1}, {Key: "filter", Value: bson.D{{Key: "name", Value: d.listing.name}}}, {Key: "cursor", Value: bson.D{}},
	}, func(doc bson.Raw) error {
		l, err := newListing(doc)
		there = there || l.name == d.listing.name && l.uuid == d.listing.uuid
		return err
	})
	return there || err != nil
}

// byID reads in the order of _id, and carries on after the last document that it got while each try gets any further.
func (d *reading) byID(ctx context.Context) error {
	var first, last bson.RawValue
	for try := 0; ; {
		q := query{filter: d.bounds.Filter(last), sort: bson.D{{Key: "_id", Value: 1}}}
		resumed := last.Type != 0
		got := false
		err := d.find(ctx, q, d.inside(func(doc bson.Raw) error {
			id := doc.Lookup("_id")
			if resumed && !got && (id.Equal(first) || id.Equal(last)) {
				return errFilterIgnored
			}
			got = true
			last.Type, last.Value = id.Type, append(last.Value[:0], id.Value...)
			if first.Type == 0 {
				first = bson.RawValue{Type: id.Type, Value: slices.Clone(id.Value)}
			}
			return d.w.add(doc)
		}))
		if err == nil || ours(ctx, err) || !passes(err) || isNaN(last) {
			return err
		}
		if try++; got {
			try = 0
		}
		if try == d.run.tries() {
			return err
		}
		if wait := d.run.patience.pause(ctx, try); wait != nil {
			return fmt.Errorf("%w (%w)", err, wait)
		}
	}
}

// ordered says whether the collection can be read in parts by _id: $gt and its like match values of one type only, so
// that the first and the last _id must be of one type.
func (d *reading) ordered(ctx context.Context) bool {
	if d.part {
		return len(d.bounds.Except) == 0
	}
	if d.unordered || d.listing.kind != backup.TypeCollection || d.listing.options.Lookup("capped").Type != 0 {
		return false
	}
	first, err := d.endID(ctx, 1)
	if err != nil || first.Type == 0 || isNaN(first) {
		return false
	}
	last, err := d.endID(ctx, -1)
	return err == nil && backup.Bracket(first.Type) == backup.Bracket(last.Type)
}

// endID returns the first (1) or the last (-1) _id, or none in an empty collection.
func (d *reading) endID(ctx context.Context, direction int) (bson.RawValue, error) {
	reply, err := d.run.command(ctx, bson.D{
		{Key: "find", Value: d.listing.name}, {Key: "sort", Value: bson.D{{Key: "_id", Value: direction}}},
		{Key: "projection", Value: bson.D{{Key: "_id", Value: 1}}}, {Key: "limit", Value: 1}, {Key: "singleBatch", Value: true},
	})
	if err != nil {
		return bson.RawValue{}, err
	}
	return reply.Lookup("cursor", "firstBatch", "0", "_id"), nil
}

// isNaN says whether nothing is greater than a value: it sorts first among the numbers, and $gt never matches.
func isNaN(v bson.RawValue) bool {
	if d, ok := v.Decimal128OK(); ok {
		return d.IsNaN()
	}
	f, ok := v.DoubleOK()
	return ok && math.IsNaN(f)
}
