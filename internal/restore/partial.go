package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"golang.org/x/sync/errgroup"

	"github.com/battwheels/runbook/internal/backup"
)

// Mode says what a partial restore does to documents that are there already.
type Mode string

// The modes of a partial restore.
const (
	// InsertMissing inserts what is not there, and touches nothing that is.
	InsertMissing Mode = "insert-missing"
	// Overwrite also puts the backup's document in the place of one that differs.
	Overwrite Mode = "overwrite"
	// Replace also removes the documents that the filter chooses and the backup does not have: afterwards it chooses the
	// same documents in both. It needs a filter, but for a dry run; whole collections are replaced by Stage, Prove and Swap.
	Replace Mode = "replace"
)

// PartialOptions say which documents of a backup are put back, and where.
type PartialOptions struct {
	DB     *mongo.Database
	Source backup.Source // Renamed gives its collections other names
	Lease  Lease         // not needed for a dry run
	// Dir is where this attempt keeps its plan and, in undo, the documents that were there before.
	Dir         string
	Collections []string // by their names in the source; nil: all
	Filter      Filter
	Mode        Mode
	DryRun      bool // count only: nothing is written, neither to the database nor to Dir
	Parallel    int  // collections at a time; 0: two
	Progress    func(backup.Progress)
}

// PartialCollection counts the documents of one collection, as they were before anything was written.
type PartialCollection struct {
	Name      string `json:"name"`
	Created   bool   `json:"created,omitempty"` // it was not there
	Matched   int64  `json:"matched"`           // documents of the backup that the filter chooses
	Insert    int64  `json:"insert"`            // of these, not there
	Overwrite int64  `json:"overwrite"`         // there, and replaced by the backup's
	Identical int64  `json:"identical"`         // there, byte for byte
	Different int64  `json:"different"`         // there, and left as they are
	Remove    int64  `json:"remove"`            // there, and not in the backup
	// Conflicts were refused by a unique index: another document holds their key. Examples names some by _id. A dry run
	// does not know of them.
	Conflicts int64    `json:"conflicts,omitempty"`
	Examples  []string `json:"examples,omitempty"`

	expired int64 // of those not there: the server may have let them expire
}

// PartialResult is what a partial restore did, or would do.
type PartialResult struct {
	DryRun      bool                `json:"dryRun,omitempty"`
	Collections []PartialCollection `json:"collections"`
	// Undo is a folder in mongodump's format, with a manifest, of the documents that were overwritten or removed. A
	// partial restore of it with Overwrite puts them back. Empty where there were none.
	Undo string   `json:"undo,omitempty"`
	Left []string `json:"left,omitempty"` // what cannot be restored in part, and why
}

// Total adds up the collections.
func (r PartialResult) Total() PartialCollection {
	var t PartialCollection
	for _, c := range r.Collections {
		t.Matched += c.Matched
		t.Insert += c.Insert
		t.Overwrite += c.Overwrite
		t.Identical += c.Identical
		t.Different += c.Different
		t.Remove += c.Remove
		t.Conflicts += c.Conflicts
	}
	return t
}

// partialPlan is what an attempt has found out before it writes. It is on disk, as is the undo folder, before the first
// document is changed.
type partialPlan struct {
	Token    int64         `json:"token"`
	Database string        `json:"database"`
	Manifest string        `json:"manifest"`
	Filter   string        `json:"filter,omitempty"`
	Mode     Mode          `json:"mode"`
	Result   PartialResult `json:"result"`
}

const (
	partialFile = "partial.json"
	undoDir     = "undo"
)

// Partial puts chosen documents of a backup back among those that are there. It first counts, and keeps every document
// that it is going to overwrite or remove in an undo folder; then it writes; then it reads again and proves that what the
// filter chooses of the backup is there. A document that changes in between is put back and ends it with a *ChangedError:
// whoever calls it has made sure that nobody writes (Quiet), or lives with that.
//
// Indexes and options of a collection that exists are left alone; one that does not is made as the backup has it. Killed
// and run again with the same options and lease, it carries on, with the undo folder that it has.
func Partial(ctx context.Context, o PartialOptions) (PartialResult, error) {
	p, err := newPartial(ctx, o)
	if err != nil {
		return PartialResult{}, err
	}
	if o.DryRun {
		return p.count(ctx, nil)
	}
	if err := o.Lease.Check(ctx); err != nil {
		return PartialResult{}, err
	}
	result, err := p.prepare(ctx)
	if err != nil {
		return PartialResult{}, err
	}
	if err := p.each(ctx, func(ctx context.Context, c *backup.Collection) error {
		i := slices.IndexFunc(result.Collections, func(r PartialCollection) bool { return r.Name == c.Name })
		done, err := p.apply(ctx, c, result.Undo, result.Collections[i].Created)
		if err != nil {
			return err
		}
		// Each collection has a place of its own in the list.
		result.Collections[i].Conflicts, result.Collections[i].Examples = done.Conflicts, done.Examples
		return nil
	}); err != nil {
		return result, err
	}
	if err := p.prove(ctx, result); err != nil {
		return result, err
	}
	p.tracker.Finish()
	return result, nil
}

// partial is one run of Partial.
type partial struct {
	PartialOptions
	chosen  []*backup.Collection
	left    []string
	there   map[string]info
	ahead   *backup.ReadAhead
	tracker *backup.Tracker

	mu        sync.Mutex
	leaseSeen time.Time
}

func newPartial(ctx context.Context, o PartialOptions) (*partial, error) {
	switch o.Mode {
	case InsertMissing, Overwrite:
	case Replace:
		if o.Filter.All() && !o.DryRun {
			return nil, errors.New("partial restore: replace needs a filter; whole collections are staged and swapped")
		}
	default:
		return nil, fmt.Errorf("partial restore: mode %q: want %s, %s or %s", o.Mode, InsertMissing, Overwrite, Replace)
	}
	for _, name := range o.Collections {
		if o.Source.Manifest.Collection(name) == nil {
			return nil, fmt.Errorf("backup %s has no collection %q", o.Source.Manifest.Name, name)
		}
	}
	there, err := collections(ctx, o.DB)
	if err != nil {
		return nil, err
	}
	p := &partial{PartialOptions: o, there: there, ahead: backup.NewReadAhead(unpackedAhead)}
	var documents, bytes int64
	for i := range o.Source.Manifest.Collections {
		c := &o.Source.Manifest.Collections[i]
		named := slices.Contains(o.Collections, c.Name)
		if o.Collections != nil && !named {
			continue
		}
		if why := p.whyNot(c); why != "" {
			if named {
				return nil, fmt.Errorf("collection %q cannot be restored in part: %s", c.Name, why)
			}
			p.left = append(p.left, fmt.Sprintf("%s (%s)", c.Name, why))
			continue
		}
		p.chosen = append(p.chosen, c)
		documents, bytes = documents+c.Digest.Documents, bytes+c.Digest.Bytes
	}
	slices.SortStableFunc(p.chosen, func(a, b *backup.Collection) int { return cmp.Compare(b.Digest.Bytes, a.Digest.Bytes) })
	passes := int64(3) // counted, written, proven
	if o.DryRun {
		passes = 1
	}
	p.tracker = backup.NewTracker(backup.Progress{
		Step: "restoring in part", CollectionsTotal: len(p.chosen) * int(passes), DocumentsTotal: documents * passes, BytesTotal: bytes * passes,
	}, o.Progress)
	return p, nil
}

// whyNot says why documents of a collection cannot be put back one by one; empty where they can.
func (p *partial) whyNot(c *backup.Collection) string {
	at, there := p.there[c.Name]
	switch {
	case reserved(c.Name):
		return "it belongs to runbook itself"
	case c.Type == backup.TypeView:
		return "a view has no documents of its own"
	case c.Type == backup.TypeTimeseries:
		return "the documents of a time series cannot be told apart"
	case system(c.Name):
		return "it belongs to the server"
	case there && at.kind != backup.TypeCollection:
		return fmt.Sprintf("there is a %s of that name", at.kind)
	case there && truth(at.options.Lookup("capped")) && !p.wholesale():
		return "it is capped: what is inserted would push out what is there"
	default:
		return ""
	}
}

// wholesale says that what is counted would be done by a swap.
func (p *partial) wholesale() bool { return p.Mode == Replace && p.Filter.All() }

// each works on the chosen collections, the largest first, several at a time.
func (p *partial) each(ctx context.Context, do func(context.Context, *backup.Collection) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(cmp.Or(p.Parallel, 2))
	for _, c := range p.chosen {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := do(ctx, c); err != nil {
				return err
			}
			p.tracker.Done()
			return nil
		})
	}
	return g.Wait()
}

// count compares the chosen collections with the database. Where keep is given it gets what will be overwritten or removed.
func (p *partial) count(ctx context.Context, keep *undo) (PartialResult, error) {
	r := PartialResult{DryRun: p.DryRun, Left: p.left}
	err := p.each(ctx, func(ctx context.Context, c *backup.Collection) error {
		counted, err := p.countOne(ctx, c, keep)
		p.mu.Lock()
		defer p.mu.Unlock()
		r.Collections = append(r.Collections, counted)
		return err
	})
	slices.SortFunc(r.Collections, func(a, b PartialCollection) int { return cmp.Compare(a.Name, b.Name) })
	return r, err
}

// prepare counts and fills the undo folder, unless an earlier run of this attempt has done so.
func (p *partial) prepare(ctx context.Context) (PartialResult, error) {
	plan := partialPlan{
		Token: p.Lease.Token, Database: p.DB.Name(), Manifest: p.Source.Manifest.Checksum, Filter: p.Filter.String(), Mode: p.Mode,
	}
	var before partialPlan
	err := load(p.Dir, partialFile, &before)
	switch {
	case err == nil:
		if !samePlan(before, plan) {
			return PartialResult{}, fmt.Errorf("partial restore: %s holds another one, of attempt %d: use a directory of its own", p.Dir, before.Token)
		}
		return before.Result, nil
	case !errors.Is(err, fs.ErrNotExist):
		return PartialResult{}, err
	}
	dir := filepath.Join(p.Dir, undoDir)
	// Without a plan nothing was written yet, so what an earlier run has kept is worth nothing.
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(filepath.Join(dir, p.DB.Name()), 0o750)); err != nil {
		return PartialResult{}, fmt.Errorf("partial restore: %w", err)
	}
	keep := newUndo(dir, p.DB.Name(), p.Source.Manifest)
	if plan.Result, err = p.count(ctx, keep); err != nil {
		return PartialResult{}, err
	}
	if plan.Result.Undo, err = keep.finish(); err != nil {
		return PartialResult{}, err
	}
	return plan.Result, save(p.Dir, partialFile, plan)
}

func samePlan(a, b partialPlan) bool {
	return a.Token == b.Token && a.Database == b.Database && a.Manifest == b.Manifest && a.Filter == b.Filter && a.Mode == b.Mode
}

// prove counts again: nothing may be missing, and nothing different where that was to be overwritten.
func (p *partial) prove(ctx context.Context, done PartialResult) error {
	there, err := collections(ctx, p.DB)
	if err != nil {
		return err
	}
	p.there = there
	now, err := p.count(ctx, nil)
	if err != nil {
		return err
	}
	var wrong []Difference
	for i, c := range now.Collections {
		missing, conflicts := c.Insert-c.expired, done.Collections[i].Conflicts
		if missing+c.Overwrite > conflicts || c.Remove > 0 {
			wrong = append(wrong, Difference{
				Collection: c.Name, What: fmt.Sprintf("%d documents missing, %d different, %d too many after they were restored", missing, c.Overwrite, c.Remove),
			})
		}
	}
	if len(wrong) > 0 {
		return &PartialError{Differences: wrong, Undo: done.Undo}
	}
	return nil
}

// checkLease is Lease.Check, unless it was looked at just now.
func (p *partial) checkLease(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.leaseSeen) < leaseFor {
		return nil
	}
	if err := p.Lease.Check(ctx); err != nil {
		return err
	}
	p.leaseSeen = time.Now()
	return nil
}
