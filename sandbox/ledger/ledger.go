// Package ledger remembers what a database must hold: everything that stood in it at the beginning, and every write
// that was acknowledged since, with its time and its exact bytes. Cut at a backup's moment it says, for each document,
// which states a true restore may bring back. It knows the product's promise and nothing of its code: writers fill it,
// package judge asks it.
package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// reserved says whether a collection belongs to the product itself. Those are no part of what is protected, and the ledger
// and the judge pass over them. Where a server does not rename collections with a dot in their names, the product writes a tilde.
func reserved(name string) bool {
	return strings.HasPrefix(name, "runbook.") || strings.HasPrefix(name, "runbook~")
}

// Origins of a state that the application did not write.
const (
	BySeed   = "seed"
	ByDamage = "damage"
)

// Write is one document as one write left it.
type Write struct {
	Collection string
	ID         bson.RawValue
	Raw        bson.Raw // the whole document; nil: deleted
	// Begin is a time at which the server could not yet have applied the write, End one by which it had said so.
	Begin, End time.Time
	// Maybe marks a write that was sent and never answered: it may have been applied or not. End is then unknown.
	Maybe bool
	By    string // who wrote it, for messages
}

// Uncertain is what may have been written by a request whose answer was lost with the bytes in it: any document of the
// collection whose field holds the value.
type Uncertain struct {
	Collection string
	Field      string
	Value      string
	Begin      time.Time
}

// Index is one index specification as listIndexes gave it.
type Index struct {
	Name string
	Spec bson.Raw
}

// Ledger is safe for use by several goroutines.
type Ledger struct {
	mu          sync.Mutex
	collections map[string]*collection
	uncertain   []Uncertain
	writes      int64
}

type collection struct {
	baseline  bool // it stood there at the beginning
	kind      string
	options   bson.Raw
	indexes   []Index
	documents map[string]*history
	created   time.Time // by the first write, where it did not stand there at the beginning
	createdBy time.Time
	drops     []Window
}

// history is the life of one document: its states in the order in which they came to be. Where it did not exist at
// the beginning, the first state is an absence.
type history struct {
	id     bson.RawValue
	states []Write
}

// New returns an empty ledger.
func New() *Ledger { return &Ledger{collections: map[string]*collection{}} }

// Key is what identifies a document within its collection: the type and the bytes of its _id.
func Key(id bson.RawValue) string { return string([]byte{byte(id.Type)}) + string(id.Value) }

// Baseline takes the whole database as it stands as the beginning. Nobody may be writing to it.
func (l *Ledger) Baseline(ctx context.Context, db *mongo.Database) error {
	specs, err := Describe(ctx, db)
	if err != nil {
		return fmt.Errorf("read the ledger's beginning: %w", err)
	}
	for _, s := range specs {
		c := &collection{baseline: true, kind: s.Type, options: s.Options, indexes: s.Indexes, documents: map[string]*history{}}
		if s.Type != "view" {
			for raw, err := range Documents(ctx, db, s.Name) {
				if err != nil {
					return fmt.Errorf("read the ledger's beginning: collection %s: %w", s.Name, err)
				}
				raw = slices.Clone(raw)
				id := raw.Lookup("_id")
				c.documents[Key(id)] = &history{id: id, states: []Write{{Collection: s.Name, ID: id, Raw: raw, By: BySeed}}}
			}
		}
		l.mu.Lock()
		l.collections[s.Name] = c
		l.mu.Unlock()
	}
	return nil
}

// Record adds writes. Those to one document must come in the order in which the database applied them, which a writer
// knows that waits for each answer.
func (l *Ledger) Record(writes ...Write) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range writes {
		c := l.collections[w.Collection]
		if c == nil {
			c = &collection{kind: "collection", documents: map[string]*history{}, created: w.Begin, createdBy: w.End}
			l.collections[w.Collection] = c
		}
		h := c.documents[Key(w.ID)]
		if h == nil {
			h = &history{id: w.ID, states: []Write{{Collection: w.Collection, ID: w.ID}}}
			c.documents[Key(w.ID)] = h
		}
		h.states = append(h.states, w)
		l.writes++
	}
}

// RecordUncertain adds what a request without an answer may have done.
func (l *Ledger) RecordUncertain(u ...Uncertain) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.uncertain = append(l.uncertain, u...)
}

// Dropped records that somebody dropped a whole collection: an absence of each of its documents.
func (l *Ledger) Dropped(name, by string, begin, end time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.collections[name]
	if c == nil {
		return
	}
	c.drops = append(c.drops, Window{begin, end})
	for _, h := range c.documents {
		h.states = append(h.states, Write{Collection: name, ID: h.id, Begin: begin, End: end, By: by})
	}
}

// Writes returns the number of writes recorded since the beginning, in documents.
func (l *Ledger) Writes() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.writes
}

// Save writes the ledger for people to read: one JSON object a line for each write since the beginning, ordered by
// time, the bytes in base64.
func (l *Ledger) Save(w io.Writer) error {
	type line struct {
		Begin      time.Time `json:"begin"`
		End        time.Time `json:"end,omitzero"`
		Collection string    `json:"collection"`
		ID         string    `json:"id"`
		Operation  string    `json:"operation"`
		By         string    `json:"by,omitempty"`
		Maybe      bool      `json:"maybe,omitempty"`
		Document   []byte    `json:"document,omitempty"`
	}
	l.mu.Lock()
	var lines []line
	for name, c := range l.collections {
		for _, h := range c.documents {
			for i, s := range h.states[1:] {
				operation := "replace"
				switch {
				case s.Raw == nil:
					operation = "delete"
				case h.states[i].Raw == nil:
					operation = "insert"
				}
				lines = append(lines, line{s.Begin, s.End, name, h.id.String(), operation, s.By, s.Maybe, s.Raw})
			}
		}
	}
	l.mu.Unlock()
	slices.SortFunc(lines, func(a, b line) int { return a.Begin.Compare(b.Begin) })
	e := json.NewEncoder(w)
	for _, x := range lines {
		if err := e.Encode(x); err != nil {
			return fmt.Errorf("save the ledger: %w", err)
		}
	}
	return nil
}

// Described is one collection as listCollections and listIndexes tell of it.
type Described struct {
	Name    string
	Type    string
	Options bson.Raw
	Indexes []Index
}

// Describe lists the collections of a database and their indexes, without those that belong to the product or to the
// server.
func Describe(ctx context.Context, db *mongo.Database) ([]Described, error) {
	cursor, err := db.ListCollections(ctx, bson.D{})
	if err != nil {
		return nil, fmt.Errorf("list collections: %w", err)
	}
	var all []Described
	for cursor.Next(ctx) {
		var d Described
		d.Name, _ = cursor.Current.Lookup("name").StringValueOK()
		d.Type, _ = cursor.Current.Lookup("type").StringValueOK()
		if o, ok := cursor.Current.Lookup("options").DocumentOK(); ok {
			d.Options = slices.Clone(o)
		}
		if reserved(d.Name) || strings.HasPrefix(d.Name, "system.") {
			continue
		}
		all = append(all, d)
	}
	if err := cursor.Err(); err != nil {
		return nil, fmt.Errorf("list collections: %w", err)
	}
	for i := range all {
		if all[i].Type == "view" {
			continue
		}
		indexes, err := db.Collection(all[i].Name).Indexes().List(ctx)
		if err != nil {
			return nil, fmt.Errorf("list indexes of %s: %w", all[i].Name, err)
		}
		for indexes.Next(ctx) {
			spec := slices.Clone(indexes.Current)
			name, _ := spec.Lookup("name").StringValueOK()
			all[i].Indexes = append(all[i].Indexes, Index{Name: name, Spec: spec})
		}
		if err := indexes.Err(); err != nil {
			return nil, fmt.Errorf("list indexes of %s: %w", all[i].Name, err)
		}
	}
	return all, nil
}

// Documents reads every document of a collection; the bytes are valid until the next one.
func Documents(ctx context.Context, db *mongo.Database, name string) func(yield func(bson.Raw, error) bool) {
	return func(yield func(bson.Raw, error) bool) {
		cursor, err := db.Collection(name).Find(ctx, bson.D{}, options.Find().SetBatchSize(1000))
		if err != nil {
			yield(nil, err)
			return
		}
		defer cursor.Close(context.WithoutCancel(ctx))
		for cursor.Next(ctx) {
			if !yield(cursor.Current, nil) {
				return
			}
		}
		if err := cursor.Err(); err != nil {
			yield(nil, err)
		}
	}
}
