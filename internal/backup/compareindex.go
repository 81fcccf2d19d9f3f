package backup

import (
	"context"
	"errors"
	"fmt"
)

// compareByIndex compares a collection by its document indexes alone. Only to tell tenants apart are files read, and of these
// only those that hold documents that differ; a document is told by its key. done is false where an index lacks, or where
// so many documents differ that they cannot be remembered.
func compareByIndex(ctx context.Context, from, to Source, a, b *Collection, field string, limit int, t *Tracker) (total Counts, tenants map[string]Counts, done bool, err error) {
	if a == nil || b == nil || a.DocumentIndex.Path == "" || b.DocumentIndex.Path == "" {
		return Counts{}, nil, false, nil
	}
	differ := NewDiffering(field, limit)
	total, err = CompareCollection(ctx, from, to, a, b, differ.Note)
	switch {
	case errors.Is(err, ErrTooManyDiffer):
		return Counts{}, nil, false, nil
	case err != nil:
		return Counts{}, nil, true, err
	case field != "":
		tenants, err = tenantsOf(ctx, from, to, a, b, total, differ)
	}
	t.Add(a.Name, a.Digest.Documents+b.Digest.Documents, a.Digest.Bytes+b.Digest.Bytes)
	return total, tenants, true, err
}

// CompareCollection merges the document indexes of a collection in two backups, which must have them (see Source.IndexFile),
// and calls visit as DiffIndexes does. The indexes are proven against their manifests.
func CompareCollection(ctx context.Context, from, to Source, a, b *Collection, visit func(Change) error) (_ Counts, err error) {
	var open [2]*IndexReader
	sides := [2]struct {
		source Source
		of     *Collection
	}{{from, a}, {to, b}}
	for i, side := range sides {
		path := side.source.IndexFile(side.of)
		if path == "" {
			return Counts{}, fmt.Errorf("collection %s has no document index in backup %s", side.of.Name, side.source.Manifest.Name)
		}
		if open[i], err = OpenIndex(path); err != nil {
			return Counts{}, err
		}
		defer func() { err = errors.Join(err, open[i].Close()) }()
	}
	counts, err := DiffIndexes(ctx, open[0], open[1], visit)
	if err != nil {
		return Counts{}, err
	}
	return counts, errors.Join(open[0].Matches(a), open[1].Matches(b))
}

// tenantsOf reads the documents that differ.
func tenantsOf(ctx context.Context, from, to Source, a, b *Collection, total Counts, differ *Differing) (map[string]Counts, error) {
	if total.Missing+total.Changed > 0 {
		for doc, err := range from.Documents(ctx, a) {
			if err != nil {
				return nil, err
			}
			differ.Before(doc)
		}
	}
	if total.Added+total.Changed > 0 {
		for doc, err := range to.Documents(ctx, b) {
			if err != nil {
				return nil, err
			}
			differ.After(doc)
		}
	}
	return differ.Tenants(), nil
}
