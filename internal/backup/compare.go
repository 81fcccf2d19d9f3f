package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/sync/errgroup"
)

// Counts says how many documents of two states are the same, added (only in the second), changed, or missing (only in
// the first). A document is known by its _id.
type Counts struct {
	Same    int64 `json:"same"`
	Added   int64 `json:"added"`
	Changed int64 `json:"changed"`
	Missing int64 `json:"missing"`
}

// Plus returns the sum of both.
func (c Counts) Plus(o Counts) Counts {
	return Counts{c.Same + o.Same, c.Added + o.Added, c.Changed + o.Changed, c.Missing + o.Missing}
}

// Differ says whether anything but Same is counted.
func (c Counts) Differ() bool { return c.Added != 0 || c.Changed != 0 || c.Missing != 0 }

// Diff is what lies between two backups of a database, counted by document.
type Diff struct {
	Total       Counts            `json:"total"`
	Collections map[string]Counts `json:"collections"`
	// Tenants counts by the value of the tenant's field what is not the same; who has nothing of that is not in it. A
	// changed document counts for the tenant that it had and for the one that it has; one that names no tenant counts for
	// none.
	Tenants map[string]Counts `json:"tenants,omitempty"`
	// TenantsIn is Tenants for each collection in which anything of theirs is not the same.
	TenantsIn       map[string]map[string]Counts `json:"tenantsIn,omitempty"`
	NewCollections  []string                     `json:"newCollections,omitempty"`  // only in the second
	GoneCollections []string                     `json:"goneCollections,omitempty"` // only in the first
}

// CompareOptions adjusts Compare.
type CompareOptions struct {
	TenantField string // dotted path; "" counts no tenants
	Parallel    int    // collections at a time; 0 chooses
	Progress    func(Progress)
}

// maxWaiting bounds the documents that a comparison remembers because their counterpart has not come yet: some 100
// bytes each. Two dumps of one database have nearly the same order, so that few wait; where more do, the comparison reads
// the files several times and each time looks at a part of the _ids.
const maxWaiting = 1 << 20

// Compare counts the documents that differ between two backups, by collection and by tenant. Views are compared by
// name alone, and where both manifests have the same digest nothing is read. Where both have a document index, these are
// merged, and documents are read only to tell the tenants of those that differ; else both files are read. Whatever is read
// is proven against its manifest.
func Compare(ctx context.Context, from, to Source, o CompareOptions) (Diff, error) {
	d := Diff{Collections: map[string]Counts{}}
	type job struct {
		name string
		a, b *Collection
	}
	var jobs []job
	for i := range from.Manifest.Collections {
		c := &from.Manifest.Collections[i]
		other := to.Manifest.Collection(c.Name)
		if other == nil {
			d.GoneCollections = append(d.GoneCollections, c.Name)
		}
		jobs = append(jobs, job{c.Name, c, other})
	}
	for i := range to.Manifest.Collections {
		if c := &to.Manifest.Collections[i]; from.Manifest.Collection(c.Name) == nil {
			d.NewCollections = append(d.NewCollections, c.Name)
			jobs = append(jobs, job{c.Name, nil, c})
		}
	}
	if o.TenantField != "" {
		d.Tenants, d.TenantsIn = map[string]Counts{}, map[string]map[string]Counts{}
	}
	t := NewTracker(Progress{
		Step:             "comparing backups",
		CollectionsTotal: len(jobs),
		DocumentsTotal:   from.Manifest.Documents() + to.Manifest.Documents(),
		BytesTotal:       from.Manifest.Bytes() + to.Manifest.Bytes(),
	}, o.Progress)
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	if o.Parallel <= 0 {
		o.Parallel = workers()
	}
	g.SetLimit(o.Parallel)
	for _, j := range jobs {
		g.Go(func() error {
			counts, tenants, err := compareCollection(ctx, from, to, j.a, j.b, o.TenantField, maxWaiting/o.Parallel, t)
			if err != nil {
				return fmt.Errorf("compare collection %s: %w", j.name, err)
			}
			t.Done()
			mu.Lock()
			defer mu.Unlock()
			d.Total = d.Total.Plus(counts)
			d.Collections[j.name] = counts
			if len(tenants) > 0 {
				d.TenantsIn[j.name] = tenants
			}
			for name, c := range tenants {
				d.Tenants[name] = d.Tenants[name].Plus(c)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return Diff{}, err
	}
	t.Finish()
	return d, nil
}

var errTooManyWaiting = errors.New("too many documents wait for their counterpart")

func compareCollection(ctx context.Context, from, to Source, a, b *Collection, field string, limit int, t *Tracker) (Counts, map[string]Counts, error) {
	if a != nil && b != nil && a.Digest == b.Digest {
		t.Add(a.Name, 2*a.Digest.Documents, 2*a.Digest.Bytes)
		return Counts{Same: a.Digest.Documents}, nil, nil
	}
	if counts, tenants, done, err := compareByIndex(ctx, from, to, a, b, field, limit, t); done || err != nil {
		return counts, tenants, err
	}
	for parts := uint64(1); ; parts *= 4 {
		c := newComparison(field, parts, limit)
		var err error
		for part := range parts {
			if err = c.pass(ctx, from, to, a, b, part, t); err != nil {
				break
			}
			t = nil // only the first reading is progress
		}
		if !errors.Is(err, errTooManyWaiting) {
			return c.total, c.byTenant(), err
		}
	}
}

// comparison meets the documents of two files. Both are read in turn; a document whose counterpart has come is counted
// and forgotten, any other waits.
type comparison struct {
	field   []string
	parts   uint64
	limit   int
	waiting [2]map[Hash]waiting
	ended   [2]bool // nothing more comes from that side
	total   Counts
	tenants []Counts
	names   []string
	numbers map[string]uint32
}

// waiting is a document that waits for its counterpart. tenant is its number in names; 0 is none.
type waiting struct {
	content Hash
	tenant  uint32
}

func newComparison(field string, parts uint64, limit int) *comparison {
	c := &comparison{
		parts:   parts,
		limit:   limit,
		tenants: make([]Counts, 1),
		names:   []string{""},
		numbers: map[string]uint32{"": 0},
	}
	if field != "" {
		c.field = strings.Split(field, ".")
	}
	return c
}

func (c *comparison) byTenant() map[string]Counts {
	m := map[string]Counts{}
	for i, name := range c.names[1:] {
		if n := c.tenants[i+1]; n.Differ() {
			m[name] = n
		}
	}
	return m
}

// pass reads both files once and compares the documents of one part.
func (c *comparison) pass(ctx context.Context, from, to Source, a, b *Collection, part uint64, t *Tracker) error {
	c.waiting = [2]map[Hash]waiting{{}, {}}
	sides := [2]struct {
		source Source
		of     *Collection
	}{{from, a}, {to, b}}
	var open [2]*documents
	for i, s := range sides {
		if s.of == nil || s.of.Data.Path == "" {
			continue
		}
		r, err := openDocuments(ctx, filepath.Join(s.source.Dir, filepath.FromSlash(s.of.Data.Path)))
		if err != nil {
			return err
		}
		defer r.close()
		open[i] = r
	}
	c.ended = [2]bool{open[0] == nil, open[1] == nil}
	var documents, bytes int64
	for open[0] != nil || open[1] != nil {
		for i, r := range open {
			if r == nil {
				continue
			}
			doc, err := r.next()
			if errors.Is(err, io.EOF) {
				if err := r.matches(sides[i].of); err != nil {
					return err
				}
				open[i], c.ended[i] = nil, true
				continue
			}
			if err != nil {
				return err
			}
			documents, bytes = documents+1, bytes+int64(len(doc))
			if bytes >= MemberSize {
				t.Add(sides[i].of.Name, documents, bytes)
				documents, bytes = 0, 0
			}
			if err := c.meet(doc, i, part); err != nil {
				return err
			}
		}
	}
	if documents > 0 {
		t.Add(cmpName(a, b), documents, bytes)
	}
	for side, alone := range c.waiting {
		for _, w := range alone {
			c.count(only[side], w.tenant)
		}
	}
	return nil
}

// only is how a document counts that stands on one side alone.
var only = [2]Counts{{Missing: 1}, {Added: 1}}

func cmpName(a, b *Collection) string {
	if a != nil {
		return a.Name
	}
	return b.Name
}

// meet takes one document of one side.
func (c *comparison) meet(doc bson.Raw, side int, part uint64) error {
	content := HashOf(doc)
	key := content // a document without _id is known by its content
	if id, err := doc.LookupErr("_id"); err == nil {
		key = hashID(id)
	}
	if c.parts > 1 && key.Lo%c.parts != part {
		return nil
	}
	mine := waiting{content, c.tenantOf(doc)}
	other, found := c.waiting[1-side][key]
	if !found && c.ended[1-side] {
		c.count(only[side], mine.tenant)
		return nil
	}
	if !found {
		c.waiting[side][key] = mine
		if len(c.waiting[0])+len(c.waiting[1]) > c.limit {
			return errTooManyWaiting
		}
		return nil
	}
	delete(c.waiting[1-side], key)
	if other.content == mine.content {
		c.count(Counts{Same: 1}, mine.tenant)
		return nil
	}
	c.count(Counts{Changed: 1}, mine.tenant)
	if other.tenant != mine.tenant && other.tenant != 0 {
		c.tenants[other.tenant].Changed++
	}
	return nil
}

func hashID(id bson.RawValue) Hash {
	var b [64]byte
	return HashOf(append(append(b[:0], byte(id.Type)), id.Value...))
}

func (c *comparison) count(n Counts, tenant uint32) {
	c.total = c.total.Plus(n)
	n.Same = 0
	c.tenants[tenant] = c.tenants[tenant].Plus(n)
}

// tenantOf returns the number of a document's tenant. A value that is not a string goes by its extended JSON.
func (c *comparison) tenantOf(doc bson.Raw) uint32 {
	if c.field == nil {
		return 0
	}
	v, err := doc.LookupErr(c.field...)
	if err != nil {
		return 0
	}
	var name string
	switch v.Type {
	case bson.TypeString:
		name, _ = v.StringValueOK()
	case bson.TypeObjectID:
		id, _ := v.ObjectIDOK()
		name = id.Hex()
	case bson.TypeNull, bson.TypeUndefined:
		return 0
	default:
		name = v.String()
	}
	n, ok := c.numbers[name]
	if !ok {
		n = uint32(len(c.names))
		name = strings.Clone(name)
		c.numbers[name] = n
		c.names = append(c.names, name)
		c.tenants = append(c.tenants, Counts{})
	}
	return n
}
