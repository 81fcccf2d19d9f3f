package undelete

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/backup"
)

// selected checks that the selection in the folder is the one of that digest, and returns its collections, those first
// whose documents depend on others: an invoice comes back when its lines are there.
func (j Job) selected(digest string) ([]string, error) {
	d, err := digestOf(j.Dir, selectionFile)
	if err != nil {
		return nil, err
	}
	if d.String() != digest {
		return nil, &ChangedError{Want: digest, Have: d.String()}
	}
	there := map[string]bool{}
	for e, err := range lines[entry](j.Dir, selectionFile) {
		if err != nil {
			return nil, err
		}
		there[e.Collection] = true
	}
	depth := map[string]int{}
	for range rounds {
		for _, r := range j.Rules.Dependants {
			depth[r.Collection] = max(depth[r.Collection], min(depth[r.Of]+1, rounds))
		}
	}
	return slices.SortedFunc(maps.Keys(there), func(a, b string) int {
		return cmp.Or(cmp.Compare(depth[b], depth[a]), cmp.Compare(a, b))
	}), nil
}

// picking gives the selected documents of one collection in batches.
type picking struct {
	Job
	collection string
	batch      []picked
	size       int
	each       func(context.Context, []picked) error
}

// pick calls each with all selected documents of a collection, in batches, each document as the backup or the snapshot has
// it. Its bytes are proven by their hash: it is not needed that the backup is whole.
func (j Job) pick(ctx context.Context, collection string, each func(context.Context, []picked) error) error {
	p := &picking{Job: j, collection: collection, each: each}
	wanted := map[string]map[backup.Hash]*entry{}
	for e, err := range lines[entry](j.Dir, selectionFile) {
		if err != nil {
			return err
		}
		if e.Collection != collection {
			continue
		}
		h, err := e.hash()
		if err != nil {
			return err
		}
		if e.Document != nil {
			if err := p.add(ctx, &e, h, e.Document); err != nil {
				return err
			}
			continue
		}
		if wanted[e.Backup] == nil {
			wanted[e.Backup] = map[backup.Hash]*entry{}
		}
		wanted[e.Backup][h] = &e
	}
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		source, err := j.source(name)
		if err != nil {
			return err
		}
		if err := p.source(ctx, source, wanted[name]); err != nil {
			return err
		}
	}
	return p.flush(ctx)
}

func (p *picking) source(ctx context.Context, source backup.Source, wanted map[backup.Hash]*entry) error {
	name := source.Manifest.Name
	c := source.Manifest.Collection(p.collection)
	if c == nil {
		return &BackupError{name, "no longer holds collection " + p.collection}
	}
	for doc, err := range source.Documents(ctx, c) {
		if err != nil {
			return err
		}
		id, ok := lookup(doc, "_id")
		if !ok {
			continue
		}
		h := hashOf(id)
		e := wanted[h]
		if e == nil || contentOf(doc) != e.Content {
			continue
		}
		delete(wanted, h)
		if err := p.add(ctx, e, h, doc); err != nil {
			return err
		}
		if len(wanted) == 0 {
			return nil
		}
	}
	for _, e := range wanted {
		return &BackupError{name, fmt.Sprintf("no longer holds document %s of collection %s as it was found (and %d more)", e.ID, p.collection, len(wanted)-1)}
	}
	return nil
}

func (p *picking) add(ctx context.Context, e *entry, h backup.Hash, doc bson.Raw) error {
	if len(p.batch) > 0 && (len(p.batch) >= batchDocuments || p.size+len(doc) > batchBytes) {
		if err := p.flush(ctx); err != nil {
			return err
		}
	}
	own := slices.Clone(doc)
	p.batch, p.size = append(p.batch, picked{e, h, own.Lookup("_id"), own}), p.size+len(own)
	return nil
}

func (p *picking) flush(ctx context.Context) error {
	if len(p.batch) == 0 {
		return nil
	}
	err := p.each(ctx, p.batch)
	p.batch, p.size = nil, 0
	return err
}
