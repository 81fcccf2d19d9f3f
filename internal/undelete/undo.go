package undelete

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/restore"
)

// Undone is what became of the documents that were inserted.
type Undone struct {
	Removed int64 `json:"removed"`
	Changed int64 `json:"changed,omitempty"` // since they were inserted: they stay
	Gone    int64 `json:"gone,omitempty"`    // already
}

func (u *Undone) plus(o Undone) {
	u.Removed += o.Removed
	u.Changed += o.Changed
	u.Gone += o.Gone
}

// Undo deletes what Undelete inserted, where it still is byte for byte what was inserted; killed or finished, before or
// after. From then on Undelete refuses to go on in this folder. It can be killed and run again.
func (j Job) Undo(ctx context.Context) (out Undone, err error) {
	lock, err := j.lock()
	if err != nil {
		return Undone{}, err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	u, err := j.readUndo()
	if err != nil {
		return Undone{}, err
	}
	if !u.begun {
		if err := j.note(record{Undoing: true}); err != nil {
			return Undone{}, err
		}
	}
	e := &eraser{Job: j, u: u, seen: map[spot]bool{}}
	// The last batches first: an invoice goes before its lines.
	for _, in := range slices.Backward(u.intents) {
		if count, done := u.removed[in.Batch]; done {
			out.plus(count)
			continue
		}
		count, err := e.batch(ctx, in)
		if err != nil {
			return Undone{}, fmt.Errorf("undo in %s: %w", in.Collection, err)
		}
		if err := j.note(record{Removed: &removed{in.Batch, count}}); err != nil {
			return Undone{}, err
		}
		out.plus(count)
	}
	return out, nil
}

// eraser removes batches.
type eraser struct {
	Job
	u    *undoing
	seen map[spot]bool
	// whole says whether the server can compare whole documents in a condition; asked once.
	whole *bool
}

// batch removes what one intent inserted.
func (e *eraser) batch(ctx context.Context, in intent) (Undone, error) {
	var out Undone
	ids, contents := bson.A{}, map[backup.Hash]string{}
	for i, raw := range in.IDs {
		id, err := decodeID(raw)
		if err != nil {
			return out, err
		}
		s := spot{in.Collection, hashOf(id)}
		if e.seen[s] || !e.u.inserted(s) || i >= len(in.Contents) {
			continue
		}
		e.seen[s] = true
		ids, contents[s.id] = append(ids, id), in.Contents[i]
	}
	if len(ids) == 0 {
		return out, nil
	}
	there, err := e.read(ctx, in.Collection, ids)
	if err != nil {
		return out, err
	}
	out.Gone = int64(len(ids) - len(there))
	var unchanged []bson.Raw
	for h, doc := range there {
		if contentOf(doc) == contents[h] {
			unchanged = append(unchanged, doc)
		} else {
			out.Changed++
		}
	}
	if len(unchanged) == 0 {
		return out, nil
	}
	if err := e.erase(ctx, in.Collection, unchanged); err != nil {
		return out, err
	}
	// What is there still was changed between the look and the deletion.
	still, err := e.read(ctx, in.Collection, idsOf(unchanged))
	out.Changed += int64(len(still))
	out.Removed = int64(len(unchanged) - len(still))
	return out, err
}

func idsOf(docs []bson.Raw) bson.A {
	ids := bson.A{}
	for _, d := range docs {
		ids = append(ids, d.Lookup("_id"))
	}
	return ids
}

func (e *eraser) read(ctx context.Context, collection string, ids bson.A) (map[backup.Hash]bson.Raw, error) {
	there := map[backup.Hash]bson.Raw{}
	err := e.find(ctx, collection, in("_id", ids), nil, func() { clear(there) }, func(doc bson.Raw) {
		there[hashOf(doc.Lookup("_id"))] = slices.Clone(doc)
	})
	return there, err
}

// erase deletes documents, each on the condition that it still is what was read.
func (e *eraser) erase(ctx context.Context, collection string, docs []bson.Raw) error {
	if e.whole == nil {
		can, err := e.comparesWhole(ctx, collection, docs[0])
		if err != nil {
			return err
		}
		e.whole = &can
	}
	// Many conditions in one statement: a small server reads the whole collection for each statement.
	const conditions = 100
	deletes := bson.A{}
	for chunk := range slices.Chunk(docs, conditions) {
		either := bson.A{}
		for _, doc := range chunk {
			q := wholeGuard(doc)
			if !*e.whole || len(doc) > batchBytes {
				q = fieldGuard(doc)
			}
			either = append(either, q)
		}
		deletes = append(deletes, bson.D{{Key: "q", Value: bson.D{{Key: "$or", Value: either}}}, {Key: "limit", Value: int32(0)}})
	}
	command := bson.D{{Key: "delete", Value: collection}, {Key: "deletes", Value: deletes}, {Key: "ordered", Value: false}}
	if err := e.fence(ctx); err != nil {
		return err
	}
	return restore.Persist(ctx, func() error { return restore.Write(ctx, e.DB, command) })
}

// wholeGuard matches a document while all of it is as it was.
func wholeGuard(doc bson.Raw) bson.D {
	return bson.D{{Key: "_id", Value: doc.Lookup("_id")}, {Key: "$expr", Value: bson.D{{Key: "$eq", Value: bson.A{
		"$$ROOT", bson.D{{Key: "$literal", Value: doc}},
	}}}}}
}

// fieldGuard matches a document while its fields have the values that they had. It does not see a field that was added
// since: servers that cannot compare whole documents leave that gap, between two commands.
func fieldGuard(doc bson.Raw) bson.D {
	q := bson.D{{Key: "_id", Value: doc.Lookup("_id")}}
	elements, err := doc.Elements()
	if err != nil {
		return q
	}
	size := 0
	for _, e := range elements {
		key, v := e.Key(), e.Value()
		if key == "_id" || key == "" || strings.HasPrefix(key, "$") || strings.Contains(key, ".") || v.Type == bson.TypeUndefined {
			continue
		}
		if size += len(e); size > batchBytes {
			size -= len(e)
			continue
		}
		q = append(q, bson.E{Key: key, Value: bson.D{{Key: "$eq", Value: v}}})
	}
	return q
}

// comparesWhole asks the server, with a document that is there: it must find it by all of it, and not find it by nothing.
// A server that does not know the comparison refuses it, or takes no notice.
func (e *eraser) comparesWhole(ctx context.Context, collection string, doc bson.Raw) (bool, error) {
	if len(doc) > batchBytes {
		return false, nil
	}
	found := [2]bool{}
	empty := bson.D{{Key: "_id", Value: doc.Lookup("_id")}, {Key: "$expr", Value: bson.D{{Key: "$eq", Value: bson.A{
		"$$ROOT", bson.D{{Key: "$literal", Value: bson.D{}}},
	}}}}}
	for i, filter := range []bson.D{wholeGuard(doc), empty} {
		err := e.find(ctx, collection, filter, bson.D{{Key: "_id", Value: 1}}, func() { found[i] = false }, func(bson.Raw) { found[i] = true })
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if err != nil {
			return false, nil //nolint:nilerr // it does not know how; the other guard does
		}
	}
	return found[0] && !found[1], nil
}
