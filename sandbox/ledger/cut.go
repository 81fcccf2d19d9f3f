package ledger

import (
	"bytes"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Window is the time in which something was read. A read that is one moment has From equal to To.
type Window struct{ From, To time.Time }

// Cut says at which moment a backup was made, and what a restore keeps that is newer.
type Cut struct {
	// Window is when the backup was read: from its start to its end.
	Window Window
	// Collections narrows the window for single collections, where the backup says when it read each. May be nil.
	Collections map[string]Window
	// Merged names the collections whose entries newer than the backup must survive the restore: the audit logs.
	Merged []string
}

func (c Cut) window(collection string) Window {
	if w, ok := c.Collections[collection]; ok {
		return w
	}
	return c.Window
}

// Expectation is what a database may and must hold after a restore of the backup that the cut describes.
type Expectation struct {
	Collections map[string]*Collection
	cut         Cut
	uncertain   map[string][]Uncertain
}

// Collection is what is expected of one collection.
type Collection struct {
	Name      string
	Type      string
	Options   bson.Raw
	Indexes   []Index
	Baseline  bool // it stood there at the beginning, so options and indexes are known
	MayMiss   bool // it may rightly not exist
	MayExist  bool // it may rightly exist
	Documents map[string]*Document
}

// Document is what is expected of one document.
type Document struct {
	ID     bson.RawValue
	Absent bool       // it may rightly not be there
	States []bson.Raw // or stand there with the bytes of one of these
	// Latest is its last state that a writer was told of, the damage left out; nil for an absence.
	Latest   bson.Raw
	LatestAt time.Time
	history  *history
	window   Window
}

// Expect works out what a restore must bring back.
//
// A write takes effect at some instant between its Begin and its End, and the backup reads a document at some instant
// between From and To. So a state may be in the backup if it can have begun by To, and the certain write that replaced
// it cannot have been in effect before From. A write acknowledged before From is therefore in, one that began after To
// is out, and only one that overlaps the window, or that nobody answered, leaves a choice.
//
// In merged collections a document that the backup does not hold comes back from what stood there when the
// application stopped: with its last state, whatever the window says. It must, if it began no earlier than From
// (in whole milliseconds, since that is how precisely an entry carries its own time).
func (l *Ledger) Expect(cut Cut) *Expectation {
	l.mu.Lock()
	defer l.mu.Unlock()
	merged := map[string]bool{}
	for _, name := range cut.Merged {
		merged[name] = true
	}
	e := &Expectation{Collections: map[string]*Collection{}, cut: cut, uncertain: map[string][]Uncertain{}}
	for name, c := range l.collections {
		w := cut.window(name)
		x := &Collection{Name: name, Type: c.kind, Options: c.options, Indexes: c.indexes, Baseline: c.baseline,
			MayExist:  c.baseline || !c.created.After(w.To) || merged[name],
			MayMiss:   !c.baseline && (c.createdBy.IsZero() || !c.createdBy.Before(w.From)),
			Documents: make(map[string]*Document, len(c.documents))}
		for key, h := range c.documents {
			d := h.at(w)
			if merged[name] {
				d.merge(h, w, c.drops)
			}
			if !d.Absent {
				x.MayMiss = false
			}
			x.Documents[key] = d
		}
		e.Collections[name] = x
	}
	for _, u := range l.uncertain {
		if u.Begin.After(cut.window(u.Collection).To) && !merged[u.Collection] {
			continue
		}
		e.uncertain[u.Collection] = append(e.uncertain[u.Collection], u)
	}
	return e
}

// at applies the window's rule to one document.
func (h *history) at(w Window) *Document {
	d := &Document{ID: h.id, history: h, window: w}
	for i, s := range h.states {
		if s.Begin.After(w.To) {
			continue
		}
		if replaced(h.states[i+1:], w.From) {
			continue
		}
		switch {
		case s.Raw == nil:
			d.Absent = true
		case !d.Allows(s.Raw):
			d.States = append(d.States, s.Raw)
		}
	}
	for _, s := range h.states {
		if s.By != ByDamage && !s.Maybe {
			d.Latest, d.LatestAt = s.Raw, s.Begin
		}
	}
	return d
}

// replaced says whether one of the later writes was surely in effect before the moment.
func replaced(later []Write, moment time.Time) bool {
	for _, s := range later {
		if !s.Maybe && s.End.Before(moment) {
			return true
		}
	}
	return false
}

// merge widens what is allowed by what the merge of newer entries brings back.
func (d *Document) merge(h *history, w Window, drops []Window) {
	if !d.Absent {
		return
	}
	last := len(h.states) - 1
	for ; last > 0 && h.states[last].Maybe; last-- {
		if raw := h.states[last].Raw; raw != nil && !d.Allows(raw) {
			d.States = append(d.States, raw)
		}
	}
	s := h.states[last]
	if s.Raw == nil {
		return
	}
	if !d.Allows(s.Raw) {
		d.States = append(d.States, s.Raw)
	}
	// What the damage wrote over an entry may have lost the field that says when it was made; such a one need not come
	// back. Neither need one with an unanswered write behind it that may have deleted it.
	if s.By == ByDamage || last < len(h.states)-1 {
		return
	}
	for _, drop := range drops {
		if !s.Begin.After(drop.To) { // recorded after the drop, and yet perhaps lost in it
			return
		}
	}
	if !h.states[1].Begin.Truncate(time.Millisecond).Before(w.From) {
		d.Absent = false
	}
}

// Uncertain says whether a request without an answer may explain whatever is found of a document. Raw is the document
// as found, or as expected where none was found.
func (e *Expectation) Uncertain(collection string, raw bson.Raw) bool {
	for _, u := range e.uncertain[collection] {
		value, ok := raw.Lookup(u.Field).StringValueOK()
		if !ok || value != u.Value {
			continue
		}
		x := e.Collections[collection]
		if x == nil {
			return true
		}
		d := x.Documents[Key(raw.Lookup("_id"))]
		if d == nil {
			return true
		}
		var later []Write
		for _, s := range d.history.states {
			if s.Begin.After(u.Begin) {
				later = append(later, s)
			}
		}
		if !replaced(later, d.window.From) {
			return true
		}
	}
	return false
}

// Allows says whether the document may stand there with these bytes.
func (d *Document) Allows(raw bson.Raw) bool {
	for _, s := range d.States {
		if bytes.Equal(s, raw) {
			return true
		}
	}
	return false
}

// Explain says in words what bytes are that may not stand there: a state of another time, what the damage wrote, or
// nothing that was ever written.
func (d *Document) Explain(raw bson.Raw) string {
	for _, s := range d.history.states {
		if s.Raw == nil || !bytes.Equal(s.Raw, raw) {
			continue
		}
		switch {
		case s.By == ByDamage:
			return "the damage is still in it"
		case s.Begin.After(d.window.To):
			return fmt.Sprintf("this state was written at %s, after the backup was finished", s.Begin.UTC().Format(time.RFC3339Nano))
		default:
			return "this state had been replaced before the backup began"
		}
	}
	return "nobody ever wrote these bytes"
}
