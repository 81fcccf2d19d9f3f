package undelete

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/durable"
	"github.com/battwheels/runbook/internal/incident"
)

// record is a line of the undo file. Exactly one of its parts is set. Each line is on disk before what it tells of
// happens (Intent, Undoing), or after it has happened (Done, Finished, Removed).
type record struct {
	At        time.Time  `json:"at"`
	Selection string     `json:"selection,omitempty"` // the first line: what is put back
	Intent    *intent    `json:"intent,omitempty"`
	Done      *settled   `json:"done,omitempty"`
	Finished  *Undeleted `json:"finished,omitempty"`
	Undoing   bool       `json:"undoing,omitempty"`
	Removed   *removed   `json:"removed,omitempty"`
}

// intent is documents that are about to be inserted, all of them absent at that moment.
type intent struct {
	Batch      int               `json:"batch"`
	Collection string            `json:"collection"`
	IDs        []json.RawMessage `json:"ids"`
	Contents   []string          `json:"contents"` // the hash of each document's bytes
}

// settled says that a batch is through, and which documents were not inserted.
type settled struct {
	Batch      int    `json:"batch"`
	Collection string `json:"collection"`
	Left       []left `json:"left,omitempty"`
}

// left is a document that was left as it stood.
type left struct {
	ID       json.RawMessage `json:"id"`
	Key      string          `json:"key,omitempty"`
	Outcome  Outcome         `json:"outcome"`
	Conflict *conflict       `json:"conflict,omitempty"`
}

// removed is what undoing a batch came to.
type removed struct {
	Batch int    `json:"batch"`
	Count Undone `json:"count"`
}

// spot is a document's place.
type spot struct {
	collection string
	id         backup.Hash
}

// undoFile as it was read.
type undoing struct {
	selection string
	intents   []intent
	intended  map[spot]bool
	settled   map[spot]bool // the batch that was to insert it is through, or it was left
	left      map[spot]Outcome
	lefts     []settled
	finished  *Undeleted
	begun     bool // to be undone
	removed   map[int]Undone
	last      int // batch
}

// inserted says whether Undelete put a document there, or, where it was killed, may have.
func (u *undoing) inserted(s spot) bool {
	_, l := u.left[s]
	return u.intended[s] && !l
}

func (j Job) folder() incident.Folder { return incident.Folder{Dir: j.Dir} }

func (j Job) note(r record) error {
	r.At = time.Now().UTC()
	return j.folder().Append(undoFile, r)
}

// readUndo reads the undo file. A line that a kill has cut short tells of nothing that has happened.
func (j Job) readUndo() (*undoing, error) {
	u := &undoing{intended: map[spot]bool{}, settled: map[spot]bool{}, left: map[spot]Outcome{}, removed: map[int]Undone{}}
	pending := map[int][]spot{}
	for r, err := range incident.Lines[record](j.folder(), undoFile) {
		if err != nil {
			return nil, err
		}
		switch {
		case r.Selection != "":
			u.selection = r.Selection
		case r.Intent != nil:
			u.intents = append(u.intents, *r.Intent)
			u.last = max(u.last, r.Intent.Batch)
			for _, id := range r.Intent.IDs {
				s, err := spotOf(r.Intent.Collection, id)
				if err != nil {
					return nil, err
				}
				u.intended[s] = true
				pending[r.Intent.Batch] = append(pending[r.Intent.Batch], s)
			}
		case r.Done != nil:
			if err := u.through(r.Done, pending[r.Done.Batch]); err != nil {
				return nil, err
			}
			delete(pending, r.Done.Batch)
		case r.Finished != nil:
			u.finished = r.Finished
		case r.Undoing:
			u.begun = true
		case r.Removed != nil:
			u.removed[r.Removed.Batch] = r.Removed.Count
		}
	}
	return u, nil
}

func (u *undoing) through(d *settled, batch []spot) error {
	u.last = max(u.last, d.Batch)
	for _, s := range batch {
		u.settled[s] = true
	}
	if len(d.Left) > 0 {
		u.lefts = append(u.lefts, *d)
	}
	for _, l := range d.Left {
		s, err := spotOf(d.Collection, l.ID)
		if err != nil {
			return err
		}
		u.settled[s] = true
		u.left[s] = l.Outcome
	}
	return nil
}

func spotOf(collection string, id json.RawMessage) (spot, error) {
	v, err := decodeID(id)
	if err != nil {
		return spot{}, fmt.Errorf("the _id %s in %s: %w", id, undoFile, err)
	}
	return spot{collection, hashOf(v)}, nil
}

// lock keeps two runs on this host from writing the undo file at a time. Runs on other hosts are the Fence's to stop.
func (j Job) lock() (*durable.Lock, error) {
	l, err := durable.TryLock(filepath.Join(j.Dir, undoFile+".lock"))
	if err != nil {
		return nil, fmt.Errorf("another run is at work on this undelete: %w", err)
	}
	return l, nil
}
