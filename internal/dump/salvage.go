package dump

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/backup"
)

// Bounds of the salvage of one collection or range: how many reads may fail in all; how many of them may take the connection
// with them, which is what a server that dies looks like; and after how many unreadable documents in a row the next
// readable one is looked for in leaps. Where the index on _id can be read, an unreadable document costs three reads that fail, and
// each that follows it one; where it cannot, finding one costs a hundred, and a damaged page holds many.
const (
	maxFailedReads = 10_000
	maxLostServers = 2_000
	maxInARow      = 8
)

// salvageBatch is how many documents are read at a time. The last one of them before the damage come again one by one.
const salvageBatch = 1000

// salvage reads what can be read of a collection around documents that cannot, after the read that ended with cause.
// It adds to d.w, and lists what it leaves out. It fails only when it must not go on. The server compares _ids within
// one type only, so each type is read on its own.
func (d *reading) salvage(ctx context.Context, cause error) error {
	s := &salvager{reading: d}
	if d.unordered || d.listing.kind != backup.TypeCollection || d.listing.options.Lookup("capped").Type != 0 {
		return s.untilItBreaks(ctx, cause)
	}
	for _, r := range scales {
		if d.run.server.lacks(r.kind) || !d.holds(r) {
			continue
		}
		if err := s.between(ctx, r); err != nil {
			return err
		}
	}
	for _, id := range points {
		if d.part && len(d.bounds.Except) == 0 {
			break
		}
		if d.run.server.lacks(id.Type) {
			continue
		}
		if err := s.point(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// holds says whether _ids of a type may be in what is read.
func (d *reading) holds(r *ruler) bool {
	b := d.bounds
	switch {
	case len(b.Except) > 0:
		return !slices.ContainsFunc(b.Except, func(t bson.Type) bool { return scaleOf(t) == r })
	case b.Open():
		return true
	default:
		return scaleOf(b.From.Type) == r || scaleOf(b.To.Type) == r
	}
}

// salvager keeps the count of what salvaging has cost.
type salvager struct {
	*reading
	failed, lost int
	noIndex      bool // the index on _id cannot be read either
}

// untilItBreaks reads a collection without usable _ids from its beginning.
func (s *salvager) untilItBreaks(ctx context.Context, cause error) error {
	err := s.find(ctx, query{batch: 1}, s.w.add)
	if stop := s.failure(ctx, err); stop != nil {
		return stop
	}
	if err == nil {
		return nil
	}
	s.leaveOut("", fmt.Errorf("all after %d documents: %w", s.w.taken, errors.Join(cause, err)))
	return nil
}

// failure counts a failed read. It returns an error when salvaging must end: cancelled, or the disk. It waits for a
// server that has gone away.
func (s *salvager) failure(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ours(ctx, err) {
		return err
	}
	s.failed++
	if passes(err) {
		s.lost++
		if err := s.run.awaitServer(ctx); err != nil && ours(ctx, err) {
			return err
		}
	}
	return nil
}

// exhausted says that going on costs more than it brings.
func (s *salvager) exhausted() bool { return s.failed >= maxFailedReads || s.lost >= maxLostServers }

var errEnough = errors.New("enough")

// point reads the documents with one _id.
func (s *salvager) point(ctx context.Context, id bson.RawValue) error {
	err := s.find(ctx, query{filter: bson.D{{Key: "_id", Value: id}}, batch: 1}, s.w.add)
	if err == nil {
		return nil
	}
	if stop := s.failure(ctx, err); stop != nil {
		return stop
	}
	s.leaveOut(id.String(), err)
	return nil
}

// between reads upwards from the lowest possible _id. Each time a read breaks, it looks for the lowest _id at which
// reading fails, leaves that out, and goes on above it.
func (s *salvager) between(ctx context.Context, r *ruler) error {
	at := position{above: bson.E{Key: "$gte", Value: r.first}, place: new(big.Int), to: s.bounds.To}
	if from := s.bounds.From; from.Type != 0 {
		at.above.Value = from
		if place := r.place(from); place != nil {
			at.place = place
		}
	}
	for row := 1; ; row++ {
		reached := s.w.taken
		// A failed batch gives none of its documents.
		var cause error
		for _, size := range []int{salvageBatch, 1} {
			if cause = s.upwards(ctx, &at, size, r); cause == nil {
				return nil
			}
			if stop := s.failure(ctx, cause); stop != nil {
				return stop
			}
		}
		next, known, err := s.byIndex(ctx, at)
		if err != nil {
			return err
		}
		if known {
			at, row = next, 0
			continue
		}
		bad, err := s.lowestBad(ctx, r, at)
		if err != nil {
			return err
		}
		if bad != nil && bad.Cmp(r.highest()) > 0 && passes(cause) && !s.exhausted() {
			continue // nothing fails any more: the server was away for another reason
		}
		if bad == nil || bad.Cmp(r.highest()) > 0 {
			s.leaveOut("from "+at.String()+" to where reading downwards breaks", fmt.Errorf("given up after %d failed reads: %w", s.failed, cause))
			return s.downwards(ctx, at)
		}
		if s.w.taken > reached {
			row = 1
		}
		if row <= maxInARow {
			at, err = s.past(ctx, r, at, bad, cause)
		} else {
			at, err = s.leap(ctx, r, at, bad, cause)
		}
		if err != nil {
			return err
		}
	}
}

// byIndex asks the index which documents come next and reads them one by one, until one can be read. known is false where
// the index does not say.
func (s *salvager) byIndex(ctx context.Context, at position) (next position, known bool, err error) {
	for !s.noIndex && !s.exhausted() {
		id, err := s.nextID(ctx, at)
		if err != nil {
			s.noIndex = true
			return at, known, s.failure(ctx, err)
		}
		if id.Type == 0 {
			return at, true, nil
		}
		// A server that is away tells nothing of a document: it is asked for again, unless a read has just broken there.
		for try := known; ; try = false {
			err = s.find(ctx, query{filter: bson.D{{Key: "_id", Value: id}}, batch: 1}, s.w.add)
			if stop := s.failure(ctx, err); stop != nil {
				return at, false, stop
			}
			if err == nil || !passes(err) || !try {
				break
			}
		}
		at, known = at.beyond("$gt", id, at.place), true
		if err == nil {
			break
		}
		s.leaveOut(id.String(), err)
	}
	return at, known, nil
}

// nextID returns the _id of the next document without reading the document, or none at the end.
func (s *salvager) nextID(ctx context.Context, at position) (bson.RawValue, error) {
	reply, err := s.run.command(ctx, bson.D{
		{Key: "find", Value: s.listing.name}, {Key: "filter", Value: at.filter()}, {Key: "sort", Value: bson.D{{Key: "_id", Value: 1}}},
		{Key: "projection", Value: bson.D{{Key: "_id", Value: 1}}}, {Key: "limit", Value: 1}, {Key: "singleBatch", Value: true},
	})
	if err != nil {
		return bson.RawValue{}, err
	}
	return reply.Lookup("cursor", "firstBatch", "0", "_id"), nil
}

var one = big.NewInt(1)

// position is where the upward reading stands: the bound of what is still to be read, and a place not above it.
type position struct {
	above bson.E
	place *big.Int
	to    bson.RawValue // not to be reached; of type 0 where there is no such bound
}

func (p position) String() string { return p.above.Value.(bson.RawValue).String() }

func (p position) filter(more ...bson.E) bson.D {
	bounds := append(bson.D{p.above}, more...)
	if p.to.Type != 0 {
		bounds = append(bounds, bson.E{Key: "$lt", Value: p.to})
	}
	return bson.D{{Key: "_id", Value: bounds}}
}

// beyond moves on to above a value.
func (p position) beyond(op string, id bson.RawValue, place *big.Int) position {
	return position{bson.E{Key: op, Value: id}, place, p.to}
}

// past leaves out what cannot be read at a place, and returns where to go on.
func (s *salvager) past(ctx context.Context, r *ruler, at position, bad *big.Int, cause error) (position, error) {
	id := r.value(bad)
	err := s.find(ctx, query{filter: bson.D{{Key: "_id", Value: id}}, batch: 1}, func(bson.Raw) error { return nil })
	if stop := s.failure(ctx, err); stop != nil {
		return at, stop
	}
	if err != nil {
		s.leaveOut(id.String(), cause)
		return at.beyond("$gt", id, new(big.Int).Add(bad, one)), nil //nolint:nilerr // what cannot be read is left out by name
	}
	// The value itself can be read: what cannot lies below it, where _ids are finer than places.
	s.leaveOut(fmt.Sprintf("between %s and %s", at, id), cause)
	return at.beyond("$gte", id, bad), nil
}

// leap leaves out a stretch of documents, and returns where the next readable one begins. What is readable between two
// damaged stretches that are close together may be lost with them; the manifest names the whole range.
func (s *salvager) leap(ctx context.Context, r *ruler, at position, bad *big.Int, cause error) (position, error) {
	lo, hi := bad, new(big.Int).Add(r.highest(), one) // the next document after lo cannot be read
	for step := big.NewInt(1); ; step = new(big.Int).Lsh(step, 1) {
		next := new(big.Int).Add(bad, step)
		if next.Cmp(r.highest()) >= 0 || s.exhausted() {
			break
		}
		ok, err := s.readableAfter(ctx, r, at, next)
		if err != nil {
			return at, err
		}
		if ok {
			hi = next
			break
		}
		lo = next
	}
	for !s.exhausted() {
		middle := new(big.Int).Add(lo, hi)
		middle.Rsh(middle, 1)
		if middle.Cmp(lo) == 0 {
			break
		}
		ok, err := s.readableAfter(ctx, r, at, middle)
		if err != nil {
			return at, err
		}
		if ok {
			hi = middle
		} else {
			lo = middle
		}
	}
	if hi.Cmp(r.highest()) > 0 {
		hi = r.highest()
	}
	end := r.value(hi)
	s.leaveOut(fmt.Sprintf("between %s and %s, that one included", at, end), cause)
	return at.beyond("$gt", end, new(big.Int).Set(hi)), nil
}

// readableAfter says whether the next document after a place can be read, or there is none.
func (s *salvager) readableAfter(ctx context.Context, r *ruler, at position, place *big.Int) (bool, error) {
	filter := at.beyond("$gt", r.value(place), place).filter()
	err := s.find(ctx, query{filter: filter, sort: bson.D{{Key: "_id", Value: 1}}, batch: 1}, func(bson.Raw) error { return errEnough })
	if err == nil || errors.Is(err, errEnough) {
		return true, nil
	}
	return false, s.failure(ctx, err)
}

// upwards reads what lies above, and moves at past each document that it gets.
func (s *salvager) upwards(ctx context.Context, at *position, size int, r *ruler) error {
	var last bson.RawValue
	err := s.find(ctx, query{filter: at.filter(), sort: bson.D{{Key: "_id", Value: 1}}, batch: size}, func(doc bson.Raw) error {
		id := doc.Lookup("_id")
		last.Type, last.Value = id.Type, append(last.Value[:0], id.Value...)
		return s.w.add(doc)
	})
	if last.Type != 0 {
		at.above = bson.E{Key: "$gt", Value: last}
		if place := r.place(last); place != nil {
			at.place = place
		}
	}
	return err
}

// downwards reads from the highest _id down to what cannot be read, when the search from below was given up.
func (s *salvager) downwards(ctx context.Context, at position) error {
	err := s.find(ctx, query{filter: at.filter(), sort: bson.D{{Key: "_id", Value: -1}}, batch: 1}, s.w.add)
	return s.failure(ctx, err)
}

// lowestBad finds the lowest place up to which reading fails: nil when it is too costly or the type has no
// places, past the top when nothing below that fails.
func (s *salvager) lowestBad(ctx context.Context, r *ruler, at position) (*big.Int, error) {
	if r.width == 0 {
		return nil, nil
	}
	lo, hi := new(big.Int).Set(at.place), new(big.Int).Add(r.highest(), one)
	for lo.Cmp(hi) < 0 {
		if s.exhausted() {
			return nil, nil
		}
		middle := new(big.Int).Add(lo, hi)
		middle.Rsh(middle, 1)
		q := query{filter: at.filter(bson.E{Key: "$lte", Value: r.value(middle)}), sort: bson.D{{Key: "_id", Value: 1}}, batch: 1}
		err := s.find(ctx, q, func(bson.Raw) error { return errEnough })
		if err == nil || errors.Is(err, errEnough) {
			lo = middle.Add(middle, one)
			continue
		}
		if stop := s.failure(ctx, err); stop != nil {
			return nil, stop
		}
		hi = middle
	}
	return hi, nil
}
