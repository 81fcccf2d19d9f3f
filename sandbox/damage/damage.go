// Package damage breaks the sandbox's database for real, through the driver: it drops whole collections, writes garbage
// over documents of others and deletes some, and says what it did. Scenarios call it between the backup and the alert.
package damage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/sandbox/document"
	"github.com/battwheels/runbook/sandbox/ledger"
)

// Options say what to break. The zero Options are DefaultOptions.
type Options struct {
	Seed      uint64
	Drop      []string           // whole collections
	Overwrite map[string]float64 // collection → share of its documents that become garbage
	Delete    map[string]float64 // collection → share of its documents that are deleted
}

// DefaultOptions break an application thoroughly: nobody can log in, money is gone, and what is left cannot be
// trusted. They spare the audit logs, whose newer entries a restore is to keep.
func DefaultOptions() Options {
	return Options{
		Drop:      []string{"invoices", "contacts", "inventory", "sequences"},
		Overwrite: map[string]float64{"tickets": 0.3, "organizations": 0.5, "users": 0.25, "items": 0.1},
		Delete:    map[string]float64{"payments": 0.4, "journal_entries": 0.2, "invoice_line_items": 0.1},
	}
}

// Report is what was broken.
type Report struct {
	Began       time.Time      `json:"began"`
	Ended       time.Time      `json:"ended"`
	Dropped     []string       `json:"dropped"` // ordered by name
	Overwritten map[string]int `json:"overwritten"`
	Deleted     map[string]int `json:"deleted"`
}

// Documents is the number of documents overwritten and deleted, without those of dropped collections.
func (r Report) Documents() int {
	n := 0
	for _, m := range []map[string]int{r.Overwritten, r.Deleted} {
		for _, v := range m {
			n += v
		}
	}
	return n
}

// String tells it in one sentence.
func (r Report) String() string {
	var parts []string
	if len(r.Dropped) > 0 {
		parts = append(parts, "dropped "+strings.Join(r.Dropped, ", "))
	}
	for _, x := range []struct {
		verb string
		m    map[string]int
	}{{"wrote garbage over", r.Overwritten}, {"deleted", r.Deleted}} {
		var of []string
		for name, n := range x.m {
			of = append(of, fmt.Sprintf("%d %s", n, name))
		}
		if len(of) > 0 {
			slices.Sort(of)
			parts = append(parts, x.verb+" "+strings.Join(of, ", "))
		}
	}
	return strings.Join(parts, "; ")
}

// Do breaks the database. What it did is entered in the ledger as damage, which may be nil. An error leaves it broken
// in part; the report is then of that part.
func Do(ctx context.Context, db *mongo.Database, o Options, l *ledger.Ledger) (Report, error) {
	if len(o.Drop)+len(o.Overwrite)+len(o.Delete) == 0 {
		seed := o.Seed
		o = DefaultOptions()
		o.Seed = seed
	}
	if l == nil {
		l = ledger.New()
	}
	w := &wrecker{db: db, ledger: l, random: rand.New(rand.NewPCG(o.Seed, 0xbad))}
	r := Report{Began: time.Now(), Overwritten: map[string]int{}, Deleted: map[string]int{}}
	err := func() error {
		for _, name := range sortedKeys(o.Overwrite) {
			n, err := w.some(ctx, name, o.Overwrite[name], w.overwrite)
			r.Overwritten[name] = n
			if err != nil {
				return fmt.Errorf("damage %s: %w", name, err)
			}
		}
		for _, name := range sortedKeys(o.Delete) {
			n, err := w.some(ctx, name, o.Delete[name], w.remove)
			r.Deleted[name] = n
			if err != nil {
				return fmt.Errorf("damage %s: %w", name, err)
			}
		}
		for _, name := range slices.Sorted(slices.Values(o.Drop)) {
			begin := time.Now()
			if err := db.Collection(name).Drop(ctx); err != nil {
				return fmt.Errorf("damage %s: drop: %w", name, err)
			}
			l.Dropped(name, ledger.ByDamage, begin, time.Now())
			r.Dropped = append(r.Dropped, name)
		}
		return nil
	}()
	r.Ended = time.Now()
	return r, err
}

type wrecker struct {
	db     *mongo.Database
	ledger *ledger.Ledger
	random *rand.Rand
}

// some picks a share of a collection's documents and does something to each.
func (w *wrecker) some(ctx context.Context, name string, share float64, do func(context.Context, *mongo.Collection, bson.Raw) (bool, error)) (int, error) {
	var picked []bson.Raw
	for raw, err := range ledger.Documents(ctx, w.db, name) {
		if err != nil {
			return 0, err
		}
		if w.random.Float64() < share {
			picked = append(picked, slices.Clone(raw))
		}
	}
	done := 0
	for _, raw := range picked {
		did, err := do(ctx, w.db.Collection(name), raw)
		if err != nil {
			return done, err
		}
		if did {
			done++
		}
	}
	return done, nil
}

// overwrite replaces a document by one of the kinds of garbage that broken software leaves.
func (w *wrecker) overwrite(ctx context.Context, c *mongo.Collection, raw bson.Raw) (bool, error) {
	garbage, err := bson.Marshal(w.garbage(raw))
	if err != nil {
		return false, err
	}
	begin := time.Now()
	result, err := c.ReplaceOne(ctx, byID(raw), bson.Raw(garbage))
	if mongo.IsDuplicateKeyError(err) {
		return false, nil // a unique index saved it
	}
	if err != nil {
		return false, fmt.Errorf("overwrite: %w", err)
	}
	if result.MatchedCount == 0 {
		return false, nil // the application deleted it meanwhile
	}
	w.note(c.Name(), raw, garbage, begin)
	return true, nil
}

// garbage keeps the _id. Fields with a unique index are kept unique, or the server would save the document.
func (w *wrecker) garbage(raw bson.Raw) bson.D {
	id := raw.Lookup("_id")
	noise := make([]byte, 48)
	for i := range noise {
		noise[i] = byte(w.random.Uint32())
	}
	switch w.random.IntN(3) {
	case 0: // nothing of it is left
		return document.Of("_id", id, "\u0007corrupt", bson.Binary{Data: noise}, unique(raw), fmt.Sprintf("%x", noise[:9]))
	case 1: // the fields are there, their values are not
		d := bson.D{}
		elements, err := raw.Elements()
		if err != nil {
			return document.Of("_id", id)
		}
		for _, e := range elements {
			switch {
			case e.Key() == "_id":
				d = append(d, bson.E{Key: "_id", Value: id})
			case e.Value().Type == bson.TypeString:
				d = append(d, bson.E{Key: e.Key(), Value: fmt.Sprintf("%x", noise[:12])})
			default:
				d = append(d, bson.E{Key: e.Key(), Value: nil})
			}
		}
		return d
	default: // one byte of a text, which nobody would see
		var d bson.D
		if err := bson.Unmarshal(raw, &d); err != nil {
			return document.Of("_id", id)
		}
		for i := len(d) - 1; i > 0; i-- {
			if s, ok := d[i].Value.(string); ok && s != "" && s[0] < 0x80 {
				d[i].Value = string(rune(s[0]^1)) + s[1:]
				return d
			}
		}
		return append(d, bson.E{Key: "checksum", Value: int64(w.random.Uint32())})
	}
}

// unique is the name of the field after _id, which in this application carries a unique index where any does.
func unique(raw bson.Raw) string {
	elements, err := raw.Elements()
	if err != nil || len(elements) < 2 {
		return "lost"
	}
	return elements[1].Key()
}

func (w *wrecker) remove(ctx context.Context, c *mongo.Collection, raw bson.Raw) (bool, error) {
	begin := time.Now()
	result, err := c.DeleteOne(ctx, byID(raw))
	if err != nil {
		return false, fmt.Errorf("delete: %w", err)
	}
	if result.DeletedCount == 0 {
		return false, nil
	}
	w.note(c.Name(), raw, nil, begin)
	return true, nil
}

func (w *wrecker) note(collection string, raw, now bson.Raw, begin time.Time) {
	w.ledger.Record(ledger.Write{Collection: collection, ID: raw.Lookup("_id"), Raw: now, Begin: begin, End: time.Now(), By: ledger.ByDamage})
}

// Altered is one document that was changed behind everybody's back.
type Altered struct {
	Collection string `json:"collection"`
	ID         string `json:"id"`
	Field      string `json:"field"`
}

// ErrNothingToAlter is for a collection without a document that has a text.
var ErrNothingToAlter = errors.New("no document with a text in it")

// Sabotage changes one character in one document of a collection, and enters it in no ledger: a judge who is worth his
// bread finds it.
func Sabotage(ctx context.Context, db *mongo.Database, collection string) (Altered, error) {
	for raw, err := range ledger.Documents(ctx, db, collection) {
		if err != nil {
			return Altered{}, fmt.Errorf("sabotage %s: %w", collection, err)
		}
		var d bson.D
		if err := bson.Unmarshal(raw, &d); err != nil {
			return Altered{}, fmt.Errorf("sabotage %s: %w", collection, err)
		}
		for i := len(d) - 1; i > 0; i-- {
			s, ok := d[i].Value.(string)
			if !ok || s == "" || s[0] >= 0x80 {
				continue
			}
			d[i].Value = string(rune(s[0]^1)) + s[1:]
			if _, err := db.Collection(collection).ReplaceOne(ctx, byID(raw), d); err != nil {
				return Altered{}, fmt.Errorf("sabotage %s: %w", collection, err)
			}
			return Altered{Collection: collection, ID: raw.Lookup("_id").String(), Field: d[i].Key}, nil
		}
	}
	return Altered{}, fmt.Errorf("sabotage %s: %w", collection, ErrNothingToAlter)
}

func byID(raw bson.Raw) bson.D { return bson.D{{Key: "_id", Value: raw.Lookup("_id")}} }

func sortedKeys(m map[string]float64) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
