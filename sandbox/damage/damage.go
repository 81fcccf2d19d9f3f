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
	// Poison names collections that get one document which FerretDB v1 stores and can never read again, nor anything
	// after it: a cursor breaks at its field name. It stands for a damaged page. Other servers read it.
	Poison []string
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
	Poisoned    []string       `json:"poisoned,omitempty"`
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
	if len(r.Poisoned) > 0 {
		parts = append(parts, "made unreadable "+strings.Join(r.Poisoned, ", "))
	}
	return strings.Join(parts, "; ")
}

// Do breaks the database. What it did is entered in the ledger as damage, which may be nil. An error leaves it broken
// in part; the report is then of that part.
func Do(ctx context.Context, db *mongo.Database, o Options, l *ledger.Ledger) (Report, error) {
	if len(o.Drop)+len(o.Overwrite)+len(o.Delete)+len(o.Poison) == 0 {
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
			n, err := w.overwrite(ctx, name, o.Overwrite[name])
			r.Overwritten[name] = n
			if err != nil {
				return fmt.Errorf("damage %s: %w", name, err)
			}
		}
		for _, name := range sortedKeys(o.Delete) {
			n, err := w.remove(ctx, name, o.Delete[name])
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
		for _, name := range slices.Sorted(slices.Values(o.Poison)) {
			if err := w.poison(ctx, name); err != nil {
				return fmt.Errorf("damage %s: poison: %w", name, err)
			}
			r.Poisoned = append(r.Poisoned, name)
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

// batch is how many documents are damaged at once. FerretDB reads the whole collection for each command, whether it
// names one document or many.
const batch = 500

// pick chooses a share of a collection's documents.
func (w *wrecker) pick(ctx context.Context, name string, share float64) ([]bson.Raw, error) {
	var picked []bson.Raw
	for raw, err := range ledger.Documents(ctx, w.db, name) {
		if err != nil {
			return nil, err
		}
		if w.random.Float64() < share {
			picked = append(picked, slices.Clone(raw))
		}
	}
	return picked, nil
}

// overwrite writes one of the kinds of garbage that broken software leaves over a share of the documents: it takes
// them out, and puts in others under the same _id.
func (w *wrecker) overwrite(ctx context.Context, name string, share float64) (int, error) {
	picked, err := w.pick(ctx, name, share)
	if err != nil {
		return 0, err
	}
	unique, err := w.uniqueFields(ctx, name)
	if err != nil {
		return 0, err
	}
	done := 0
	for chunk := range slices.Chunk(picked, batch) {
		garbage := make([]bson.Raw, len(chunk))
		for i, raw := range chunk {
			if garbage[i], err = bson.Marshal(w.garbage(raw, unique)); err != nil {
				return done, err
			}
		}
		begin := time.Now()
		_, err := w.db.Collection(name).DeleteMany(ctx, byIDs(chunk))
		if err == nil {
			_, err = w.db.Collection(name).InsertMany(ctx, garbage)
		}
		w.note(name, chunk, garbage, begin, err)
		if err != nil {
			return done, fmt.Errorf("overwrite: %w", err)
		}
		done += len(chunk)
	}
	return done, nil
}

// remove deletes a share of the documents.
func (w *wrecker) remove(ctx context.Context, name string, share float64) (int, error) {
	picked, err := w.pick(ctx, name, share)
	if err != nil {
		return 0, err
	}
	done := 0
	for chunk := range slices.Chunk(picked, batch) {
		begin := time.Now()
		result, err := w.db.Collection(name).DeleteMany(ctx, byIDs(chunk))
		w.note(name, chunk, make([]bson.Raw, len(chunk)), begin, err)
		if err != nil {
			return done, fmt.Errorf("delete: %w", err)
		}
		done += int(result.DeletedCount)
	}
	return done, nil
}

// poison inserts a document with a control character in a field's name, which FerretDB v1 writes into its JSON as it
// is.
func (w *wrecker) poison(ctx context.Context, name string) error {
	raw, err := bson.Marshal(document.Of("_id", bson.NewObjectID(), "page\a", "damaged"))
	if err != nil {
		return err
	}
	begin := time.Now()
	_, err = w.db.Collection(name).InsertOne(ctx, bson.Raw(raw))
	w.note(name, []bson.Raw{raw}, []bson.Raw{raw}, begin, err)
	return err
}

// note enters in the ledger what became of documents; where the server gave an error, it may have happened or not.
func (w *wrecker) note(collection string, was, is []bson.Raw, begin time.Time, err error) {
	end := time.Now()
	writes := make([]ledger.Write, len(was))
	for i, raw := range was {
		writes[i] = ledger.Write{Collection: collection, ID: raw.Lookup("_id"), Raw: is[i], Begin: begin, End: end, Maybe: err != nil, By: ledger.ByDamage}
	}
	w.ledger.Record(writes...)
}

// garbage is what is left of a document: the _id, and something in the fields that must be unique.
func (w *wrecker) garbage(raw bson.Raw, unique []string) bson.D {
	id := raw.Lookup("_id")
	noise := make([]byte, 48)
	for i := range noise {
		noise[i] = byte(w.random.Uint32())
	}
	switch w.random.IntN(3) {
	case 0: // nothing of it is left
		d := document.Of("_id", id, "corrupt", bson.Binary{Data: noise})
		for _, field := range unique {
			d = append(d, bson.E{Key: field, Value: fmt.Sprintf("%x", noise[:9])})
		}
		return d
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

// uniqueFields lists the fields of a collection's unique indexes: garbage must differ in them, or the server would
// refuse it.
func (w *wrecker) uniqueFields(ctx context.Context, name string) ([]string, error) {
	cursor, err := w.db.Collection(name).Indexes().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list indexes: %w", err)
	}
	var specs []struct {
		Key    bson.D `bson:"key"`
		Unique bool   `bson:"unique"`
	}
	if err := cursor.All(ctx, &specs); err != nil {
		return nil, fmt.Errorf("list indexes: %w", err)
	}
	var fields []string
	for _, spec := range specs {
		for _, k := range spec.Key {
			if spec.Unique && k.Key != "_id" && !slices.Contains(fields, k.Key) {
				fields = append(fields, k.Key)
			}
		}
	}
	return fields, nil
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

func byIDs(raws []bson.Raw) bson.D {
	ids := make(bson.A, len(raws))
	for i, raw := range raws {
		ids[i] = raw.Lookup("_id")
	}
	return document.Of("_id", document.Of("$in", ids))
}

func sortedKeys(m map[string]float64) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
