// Package judge decides whether a restore told the truth: it reads the whole database through the driver alone and
// holds every document's raw bytes and every index against the ledger of acknowledged writes. It imports none of the
// product's packages, so that no mistake of theirs can hide from it. The sandbox's scenarios call it before traffic
// resumes.
package judge

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"golang.org/x/sync/errgroup"

	"github.com/battwheels/runbook/sandbox/ledger"
)

// Kind says in which way something differs.
type Kind string

// The ways to differ.
const (
	CollectionMissing    Kind = "collection missing"
	CollectionUnexpected Kind = "collection unexpected"
	OptionsDiffer        Kind = "options differ"
	IndexMissing         Kind = "index missing"
	IndexUnexpected      Kind = "index unexpected"
	IndexDiffers         Kind = "index differs"
	DocumentMissing      Kind = "document missing"
	DocumentUnexpected   Kind = "document unexpected"
	DocumentDiffers      Kind = "document differs"
	DocumentTwice        Kind = "document twice"
)

// Difference is one thing that is not as it must be.
type Difference struct {
	Kind       Kind   `json:"kind"`
	Collection string `json:"collection"`
	ID         string `json:"id,omitempty"`    // the document's _id, as extended JSON
	Index      string `json:"index,omitempty"` // the index's name
	Detail     string `json:"detail,omitempty"`
}

// String is the difference in one line.
func (d Difference) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", d.Collection, d.Kind)
	for _, s := range []string{d.ID, d.Index} {
		if s != "" {
			b.WriteString(" " + s)
		}
	}
	if d.Detail != "" {
		b.WriteString(": " + d.Detail)
	}
	return b.String()
}

// Kept is how many differences a verdict names of each collection; beyond it they are only counted.
const Kept = 20

// Verdict is what the judge found.
type Verdict struct {
	Recovered   bool `json:"recovered"` // nothing differs
	Collections int  `json:"collections"`
	Documents   int  `json:"documents"`
	Indexes     int  `json:"indexes"`
	// Either counts documents that a write overlapped with the backup, where one of several states is right;
	// Unanswered those that only a request without an answer explains.
	Either     int `json:"either"`
	Unanswered int `json:"unanswered"`
	// Differing counts all differences, Where those of each collection, and Differences names the first of them.
	Differing   int            `json:"differing"`
	Where       map[string]int `json:"where,omitempty"`
	Differences []Difference   `json:"differences,omitempty"`
	Lost        Lost           `json:"lost"`
}

// Lost is what writers were told is safe, and which the restored database rightly does not have because it is newer
// than the backup.
type Lost struct {
	Created int       `json:"created"` // documents that are gone
	Changed int       `json:"changed"` // that are back in an older state
	Deleted int       `json:"deleted"` // that had been deleted, and are back
	Oldest  time.Time `json:"oldest,omitzero"`
	Newest  time.Time `json:"newest,omitzero"`
}

// Total is the number of documents that lost something.
func (l Lost) Total() int { return l.Created + l.Changed + l.Deleted }

func (l *Lost) add(at time.Time) {
	if l.Oldest.IsZero() || at.Before(l.Oldest) {
		l.Oldest = at
	}
	if at.After(l.Newest) {
		l.Newest = at
	}
}

// Judge compares the database with the expectation. The error is only for a database that cannot be read.
func Judge(ctx context.Context, db *mongo.Database, expect *ledger.Expectation) (Verdict, error) {
	found, err := ledger.Describe(ctx, db)
	if err != nil {
		return Verdict{}, fmt.Errorf("judge %s: %w", db.Name(), err)
	}
	j := &court{db: db, expect: expect}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	seen := map[string]bool{}
	for _, f := range found {
		seen[f.Name] = true
		group.Go(func() error {
			if err := j.collection(groupCtx, f); err != nil {
				return fmt.Errorf("judge %s.%s: %w", db.Name(), f.Name, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return Verdict{}, err
	}
	for name, x := range expect.Collections {
		if !seen[name] {
			j.absent(x)
		}
	}
	return j.verdict(), nil
}

// court gathers what the goroutines find.
type court struct {
	db     *mongo.Database
	expect *ledger.Expectation

	mu sync.Mutex
	v  Verdict
}

func (j *court) verdict() Verdict {
	v := j.v
	slices.SortFunc(v.Differences, func(a, b Difference) int {
		return strings.Compare(a.Collection+"\x00"+a.ID+a.Index, b.Collection+"\x00"+b.ID+b.Index)
	})
	v.Recovered = v.Differing == 0
	return v
}

func (j *court) differs(d Difference) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.v.Differing++
	if j.v.Where == nil {
		j.v.Where = map[string]int{}
	}
	j.v.Where[d.Collection]++
	if j.v.Where[d.Collection] <= Kept {
		j.v.Differences = append(j.v.Differences, d)
	}
}

func (j *court) count(f func(*Verdict)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f(&j.v)
}

// collection judges one collection that exists.
func (j *court) collection(ctx context.Context, f ledger.Described) error {
	j.count(func(v *Verdict) { v.Collections++; v.Indexes += len(f.Indexes) })
	x := j.expect.Collections[f.Name]
	switch {
	case x == nil:
		// Only a request without an answer can have made it; then each of its documents must be explained below.
		x = &ledger.Collection{Name: f.Name}
		j.collectionUnknown(ctx, f)
	case !x.MayExist:
		j.differs(Difference{Kind: CollectionUnexpected, Collection: f.Name, Detail: "it was created after the backup was finished"})
	}
	if x.Baseline {
		j.options(f, x)
		j.indexes(f, x)
	}
	if f.Type == "view" {
		return nil
	}
	return j.documents(ctx, f.Name, x)
}

func (j *court) collectionUnknown(ctx context.Context, f ledger.Described) {
	for raw, err := range ledger.Documents(ctx, j.db, f.Name) {
		if err == nil && j.expect.Uncertain(f.Name, raw) {
			return
		}
		break
	}
	j.differs(Difference{Kind: CollectionUnexpected, Collection: f.Name, Detail: "no writer ever used this name"})
}

// documents judges every document of one collection, those that should be there and are not included.
func (j *court) documents(ctx context.Context, name string, x *ledger.Collection) error {
	seen := make(map[string]bool, len(x.Documents))
	documents := 0
	for raw, err := range ledger.Documents(ctx, j.db, name) {
		if err != nil {
			return err
		}
		documents++
		id := raw.Lookup("_id")
		key := ledger.Key(id)
		if seen[key] {
			j.differs(Difference{Kind: DocumentTwice, Collection: name, ID: id.String()})
			continue
		}
		seen[key] = true
		j.document(name, id, raw, x.Documents[key])
	}
	j.count(func(v *Verdict) { v.Documents += documents })
	for key, d := range x.Documents {
		if !seen[key] {
			j.missing(name, d)
		}
	}
	return nil
}

// document judges one document that was found.
func (j *court) document(name string, id bson.RawValue, raw bson.Raw, d *ledger.Document) {
	switch {
	case d != nil && d.Allows(raw):
		if d.Absent || len(d.States) > 1 {
			j.count(func(v *Verdict) { v.Either++ })
		}
	case j.expect.Uncertain(name, raw):
		j.count(func(v *Verdict) { v.Unanswered++ })
	case d == nil:
		j.differs(Difference{Kind: DocumentUnexpected, Collection: name, ID: id.String(), Detail: "nobody ever wrote it"})
	case len(d.States) == 0:
		j.differs(Difference{Kind: DocumentUnexpected, Collection: name, ID: id.String(), Detail: d.Explain(raw)})
	default:
		j.differs(Difference{Kind: DocumentDiffers, Collection: name, ID: id.String(),
			Detail: d.Explain(raw) + "; " + firstDifference(d.States[len(d.States)-1], raw)})
	}
	if d == nil || bytes.Equal(d.Latest, raw) || d.LatestAt.IsZero() {
		return
	}
	j.count(func(v *Verdict) {
		v.Lost.add(d.LatestAt)
		if d.Latest == nil {
			v.Lost.Deleted++
		} else {
			v.Lost.Changed++
		}
	})
}

// missing judges one document that was not found.
func (j *court) missing(name string, d *ledger.Document) {
	switch {
	case d.Absent && len(d.States) > 0:
		j.count(func(v *Verdict) { v.Either++ })
	case d.Absent:
	case j.expect.Uncertain(name, d.States[len(d.States)-1]):
		j.count(func(v *Verdict) { v.Unanswered++ })
	default:
		j.differs(Difference{Kind: DocumentMissing, Collection: name, ID: d.ID.String()})
	}
	if d.Latest != nil && !d.LatestAt.IsZero() {
		j.count(func(v *Verdict) { v.Lost.Created++; v.Lost.add(d.LatestAt) })
	}
}

// absent judges a collection that does not exist.
func (j *court) absent(x *ledger.Collection) {
	if !x.MayMiss && x.MayExist {
		j.differs(Difference{Kind: CollectionMissing, Collection: x.Name, Detail: fmt.Sprintf("with %d documents", len(x.Documents))})
	}
	for _, d := range x.Documents {
		if d.Absent {
			j.missing(x.Name, d)
		}
	}
}

// firstDifference names the first field in which two documents differ, without their values: they may be personal.
func firstDifference(want, got bson.Raw) string {
	w, wErr := want.Elements()
	g, gErr := got.Elements()
	if wErr != nil || gErr != nil {
		return "its bytes are no valid BSON document"
	}
	for i := range max(len(w), len(g)) {
		switch {
		case i >= len(g):
			return fmt.Sprintf("field %q is missing", w[i].Key())
		case i >= len(w):
			return fmt.Sprintf("field %q is new", g[i].Key())
		case w[i].Key() != g[i].Key():
			return fmt.Sprintf("field %q stands where %q was", g[i].Key(), w[i].Key())
		case !bytes.Equal(w[i], g[i]):
			return fmt.Sprintf("field %q differs", w[i].Key())
		}
	}
	return "no field differs, but the bytes do"
}
