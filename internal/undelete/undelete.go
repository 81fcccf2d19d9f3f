package undelete

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/restore"
)

// Undeleted is what was put back.
type Undeleted struct {
	Selection   string      `json:"selection"`
	File        string      `json:"file"`  // the undo file: everything that was inserted, and everything that was left, by _id
	Total       Outcomes    `json:"total"` // Insert counts what was inserted
	Collections []Previewed `json:"collections,omitempty"`
}

// Undelete inserts the documents of the selection of that digest that are still absent, byte for byte. It never changes a
// document that is there. Killed anywhere and run again, it carries on; run again after its end, it gives its former
// result and does nothing. The collections must be there: *NoCollectionError.
func (j Job) Undelete(ctx context.Context, selection string) (out Undeleted, err error) {
	collections, err := j.selected(selection)
	if err != nil {
		return Undeleted{}, err
	}
	lock, err := j.lock()
	if err != nil {
		return Undeleted{}, err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	before, err := j.readUndo()
	switch {
	case err != nil:
		return Undeleted{}, err
	case before.begun:
		return Undeleted{}, &UndoneError{}
	case before.selection != "" && before.selection != selection:
		return Undeleted{}, &ChangedError{Want: selection, Have: before.selection}
	case before.finished != nil:
		return *before.finished, nil
	}
	if err := j.allThere(ctx, collections); err != nil {
		return Undeleted{}, err
	}
	if before.selection == "" {
		if err := j.note(record{Selection: selection}); err != nil {
			return Undeleted{}, err
		}
	}
	w := &writer{Job: j, before: before, number: before.last}
	w.tracker = backup.NewTracker(backup.Progress{Step: "putting documents back", CollectionsTotal: len(collections)}, j.Progress)
	for _, name := range collections {
		if w.indexes, err = j.uniqueIndexes(ctx, name); err != nil {
			return Undeleted{}, err
		}
		if err := j.pick(ctx, name, w.batch); err != nil {
			return Undeleted{}, fmt.Errorf("put documents back into %s: %w", name, err)
		}
		w.tracker.Done()
	}
	w.tracker.Finish()
	after, err := j.readUndo()
	if err != nil {
		return Undeleted{}, err
	}
	out = after.result(selection, collections)
	return out, j.note(record{Finished: &out})
}

// allThere refuses collections that an insert would make anew.
func (j Job) allThere(ctx context.Context, collections []string) error {
	alive, err := j.alive(ctx)
	if err != nil {
		return err
	}
	gone := slices.DeleteFunc(slices.Clone(collections), func(name string) bool { return alive[name] })
	if len(gone) > 0 {
		return &NoCollectionError{Collections: gone}
	}
	return nil
}

// writer inserts batches.
type writer struct {
	Job
	before  *undoing
	indexes []uniqueIndex // of the collection at hand
	number  int           // of the last batch
	tracker *backup.Tracker
}

// batch inserts those of a batch that are absent.
func (w *writer) batch(ctx context.Context, batch []picked) error {
	collection := batch[0].Collection
	w.tracker.Add(collection, int64(len(batch)), 0)
	batch = slices.DeleteFunc(slices.Clone(batch), func(p picked) bool { return w.before.settled[spot{collection, p.hash}] })
	if len(batch) == 0 {
		return nil
	}
	stand, _, err := w.standings(ctx, collection, batch)
	if err != nil {
		return err
	}
	var insert []picked
	var leave []left
	for i, p := range batch {
		switch what := w.outcomeOf(&batch[i], stand[i]); {
		case what == Insert:
			insert = append(insert, p)
		case what == There && w.before.intended[spot{collection, p.hash}]:
			// It was absent when a run that was killed set out to insert it: that run did.
		default:
			leave = append(leave, left{p.ID, p.Key, what, nil})
		}
	}
	if len(insert)+len(leave) == 0 {
		return nil
	}
	w.number++
	if len(insert) > 0 {
		refused, err := w.insert(ctx, collection, insert)
		if err != nil {
			return err
		}
		leave = append(leave, refused...)
	}
	return w.note(record{Done: &settled{Batch: w.number, Collection: collection, Left: leave}})
}

// insert writes down what is to be inserted, inserts it, and returns what the server refused.
func (w *writer) insert(ctx context.Context, collection string, batch []picked) ([]left, error) {
	in := intent{Batch: w.number, Collection: collection}
	docs := make([]bson.Raw, len(batch))
	for i, p := range batch {
		in.IDs, in.Contents, docs[i] = append(in.IDs, p.ID), append(in.Contents, p.Content), p.doc
	}
	if err := w.note(record{Intent: &in}); err != nil {
		return nil, err
	}
	if err := w.fence(ctx); err != nil {
		return nil, err
	}
	taken, err := restore.InsertRaw(ctx, w.DB, collection, docs)
	if space := (*restore.SpaceError)(nil); errors.As(err, &space) {
		return nil, &SpaceError{}
	}
	if err != nil || len(taken) == 0 {
		return nil, err
	}
	return w.refused(ctx, collection, batch, taken)
}

// refused tells why the server has not taken documents: unless it has, and the answer was lost.
func (w *writer) refused(ctx context.Context, collection string, batch []picked, taken []int) ([]left, error) {
	var some []picked
	for _, i := range taken {
		some = append(some, batch[i])
	}
	stand, _, err := w.standings(ctx, collection, some)
	if err != nil {
		return nil, err
	}
	holders, err := w.conflicts(ctx, collection, w.indexes, some)
	if err != nil {
		return nil, err
	}
	var leave []left
	for i, p := range some {
		switch stand[i] {
		case same: // by a try whose answer was lost: it was absent a moment ago
		case different:
			leave = append(leave, left{p.ID, p.Key, Newer, nil})
		default:
			l := left{p.ID, p.Key, Conflict, nil}
			if c, known := holders[i]; known {
				l.Conflict = &c
			}
			leave = append(leave, l)
		}
	}
	return leave, nil
}

// result counts what the undo file tells.
func (u *undoing) result(selection string, collections []string) Undeleted {
	each := map[string]*Outcomes{}
	for _, name := range collections {
		each[name] = &Outcomes{}
	}
	count := func(collection string, what Outcome) {
		if each[collection] == nil {
			each[collection] = &Outcomes{}
		}
		each[collection].count(what)
	}
	for s := range u.intended {
		if u.inserted(s) {
			count(s.collection, Insert)
		}
	}
	for s, what := range u.left {
		count(s.collection, what)
	}
	out := Undeleted{Selection: selection, File: undoFile}
	for _, name := range collections {
		out.Collections = append(out.Collections, Previewed{name, *each[name]})
		out.Total.plus(*each[name])
	}
	return out
}

// Left calls each with the documents that Undelete left as they stood, and why: for reports.
func (j Job) Left(each func(collection string, id json.RawMessage, key string, what Outcome) error) error {
	u, err := j.readUndo()
	if err != nil {
		return err
	}
	for _, d := range u.lefts {
		for _, l := range d.Left {
			if err := each(d.Collection, l.ID, l.Key, l.Outcome); err != nil {
				return err
			}
		}
	}
	return nil
}
