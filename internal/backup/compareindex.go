package backup

import (
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// compareByIndex compares a collection by its document indexes alone. Only to tell tenants apart are files read, and of these
// only those that hold documents that differ; a document is told by its key. done is false where an index lacks, or where
// so many documents differ that they cannot be remembered.
func compareByIndex(ctx context.Context, from, to Source, a, b *Collection, field string, limit int, t *Tracker) (total Counts, tenants map[string]Counts, done bool, err error) {
	if a == nil || b == nil || a.DocumentIndex.Path == "" || b.DocumentIndex.Path == "" {
		return Counts{}, nil, false, nil
	}
	differ := map[Hash]ChangeKind{}
	total, err = CompareCollection(ctx, from, to, a, b, func(c Change) error {
		if field == "" {
			return nil
		}
		key := HashOf(c.key)
		if _, twice := differ[key]; twice || len(differ) == limit {
			return errTooManyWaiting
		}
		differ[key] = c.What
		return nil
	})
	switch {
	case errors.Is(err, errTooManyWaiting):
		return Counts{}, nil, false, nil
	case err != nil:
		return Counts{}, nil, true, err
	case field != "":
		tenants, err = tenantsOf(ctx, from, to, a, b, field, total, differ)
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

// tenantsOf reads the documents that differ. A changed one counts for the tenant that it had and for the one that it has.
func tenantsOf(ctx context.Context, from, to Source, a, b *Collection, field string, total Counts, differ map[Hash]ChangeKind) (map[string]Counts, error) {
	c := newComparison(field, 1, 0)
	had := map[Hash]uint32{}
	if total.Missing+total.Changed > 0 {
		err := eachThatDiffers(ctx, from, a, differ, func(key Hash, what ChangeKind, doc bson.Raw) {
			tenant := c.tenantOf(doc)
			if what == Changed {
				had[key] = tenant
				c.tenants[tenant].Changed++
			} else {
				c.tenants[tenant].Missing++
			}
		})
		if err != nil {
			return nil, err
		}
	}
	if total.Added+total.Changed > 0 {
		err := eachThatDiffers(ctx, to, b, differ, func(key Hash, what ChangeKind, doc bson.Raw) {
			tenant := c.tenantOf(doc)
			switch {
			case what == Added:
				c.tenants[tenant].Added++
			case had[key] != tenant:
				c.tenants[tenant].Changed++
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return c.byTenant(), nil
}

func eachThatDiffers(ctx context.Context, s Source, c *Collection, differ map[Hash]ChangeKind, do func(Hash, ChangeKind, bson.Raw)) error {
	var key []byte
	for doc, err := range s.Documents(ctx, c) {
		if err != nil {
			return err
		}
		key = appendKey(key[:0], doc, Hash{})
		if key[0] == noID {
			key = appendKey(key[:0], doc, HashOf(doc))
		}
		h := HashOf(key)
		if what, ok := differ[h]; ok {
			do(h, what, doc)
		}
	}
	return nil
}
