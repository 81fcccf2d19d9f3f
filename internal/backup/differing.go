package backup

import (
	"errors"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// ErrTooManyDiffer says that more documents differ than can be remembered, so that they cannot be told apart by tenant.
var ErrTooManyDiffer = errors.New("too many documents differ to tell whose they are")

// Differing remembers which documents of a collection differ between two states, and counts them by tenant when it meets them
// again: first all documents of the state before, then all of the state after. A changed one counts for the tenant that it had and
// for the one that it has. It is not safe for concurrent use.
type Differing struct {
	c    *comparison
	most int
	what map[Hash]ChangeKind
	had  map[Hash]uint32
	key  []byte
}

// NewDiffering counts by the value of a field, a dotted path, and remembers at most so many documents, some 60 bytes each. Without a
// field it remembers none, and counts nothing.
func NewDiffering(field string, most int) *Differing {
	return &Differing{c: newComparison(field, 1, 0), most: most, what: map[Hash]ChangeKind{}, had: map[Hash]uint32{}}
}

// Note remembers a document that differs; it is made for DiffIndexes. It fails with ErrTooManyDiffer, also where two documents of one
// _id differ.
func (d *Differing) Note(c Change) error {
	if d.c.field == nil {
		return nil
	}
	key := HashOf(c.key)
	if _, twice := d.what[key]; twice || len(d.what) == d.most {
		return ErrTooManyDiffer
	}
	d.what[key] = c.What
	return nil
}

// Before meets a document of the state before.
func (d *Differing) Before(doc bson.Raw) {
	key, what, ok := d.known(doc)
	switch {
	case !ok:
	case what == Changed:
		tenant := d.c.tenantOf(doc)
		d.had[key] = tenant
		d.c.tenants[tenant].Changed++
	case what == Missing:
		d.Count(Missing, doc)
	}
}

// After meets a document of the state after. One that is met again, because a reading had to start over, is not counted again.
func (d *Differing) After(doc bson.Raw) {
	key, what, ok := d.known(doc)
	if !ok {
		return
	}
	delete(d.what, key)
	switch what {
	case Missing:
	case Added:
		d.Count(Added, doc)
	case Changed:
		if tenant := d.c.tenantOf(doc); d.had[key] != tenant {
			d.c.tenants[tenant].Changed++
		}
	}
}

// Count counts a document that was not noted: one of a collection that only one of the states has.
func (d *Differing) Count(what ChangeKind, doc bson.Raw) {
	n := &d.c.tenants[d.c.tenantOf(doc)]
	switch what {
	case Added:
		n.Added++
	case Changed:
		n.Changed++
	case Missing:
		n.Missing++
	}
}

// Tenants returns what was counted; a document that names no tenant counts for none.
func (d *Differing) Tenants() map[string]Counts { return d.c.byTenant() }

func (d *Differing) known(doc bson.Raw) (Hash, ChangeKind, bool) {
	d.key = appendKey(d.key[:0], doc, Hash{})
	if d.key[0] == noID {
		d.key = appendKey(d.key[:0], doc, HashOf(doc))
	}
	key := HashOf(d.key)
	what, ok := d.what[key]
	return key, what, ok
}
