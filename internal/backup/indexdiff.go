package backup

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strconv"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// What happened to a document between two states.
const (
	Added   ChangeKind = "added"
	Changed ChangeKind = "changed"
	Missing ChangeKind = "missing"
)

// ChangeKind is how a document of two states differs.
type ChangeKind string

// Change is one document that is not the same in two states.
type Change struct {
	What ChangeKind
	key  []byte
}

// ID returns the document's _id, unless it has none or one that is longer than an index keeps.
func (c Change) ID() (bson.RawValue, bool) { return idOfKey(c.key) }

// String names the document by its _id as extended JSON; a long one by its beginning.
func (c Change) String() string {
	if id, ok := c.ID(); ok {
		return id.String()
	}
	switch {
	case len(c.key) > 2+keptOfLong && c.key[0] == longID && bson.Type(c.key[1]) == bson.TypeString:
		return strconv.Quote(string(c.key[2:2+keptOfLong])) + "…"
	case len(c.key) > 2+keptOfLong && c.key[0] == longID:
		return bson.Type(c.key[1]).String() + " " + hex.EncodeToString(c.key[2:2+keptOfLong]) + "…"
	default:
		return "(no _id)"
	}
}

// DiffIndexes merges the indexes of two states, counts their documents, and calls visit with each one that differs, in the
// order of keys; the change is valid until visit returns. visit may be nil, and so may be the index of a state that has no
// documents. Where several documents of a state have one _id, as many as possible count as the same, and then as changed.
func DiffIndexes(ctx context.Context, from, to *IndexReader, visit func(Change) error) (Counts, error) {
	d := indexDiff{visit: visit}
	a, b := group{r: from}, group{r: to}
	if err := errors.Join(a.next(), b.next()); err != nil {
		return Counts{}, err
	}
	for n := 0; !a.ended() || !b.ended(); n++ {
		if n%blockEntries == 0 && ctx.Err() != nil {
			return Counts{}, ctx.Err()
		}
		order := compareGroups(&a, &b)
		var err error
		switch {
		case order < 0:
			err = d.differ(Missing, a.key, len(a.hashes))
		case order > 0:
			err = d.differ(Added, b.key, len(b.hashes))
		default:
			err = d.meet(&a, &b)
		}
		if err == nil && order <= 0 {
			err = a.next()
		}
		if err == nil && order >= 0 {
			err = b.next()
		}
		if err != nil {
			return Counts{}, err
		}
	}
	return d.counts, nil
}

type indexDiff struct {
	counts Counts
	visit  func(Change) error
}

func (d *indexDiff) differ(what ChangeKind, key []byte, n int) error {
	for range n {
		switch what {
		case Added:
			d.counts.Added++
		case Changed:
			d.counts.Changed++
		case Missing:
			d.counts.Missing++
		}
		if d.visit != nil {
			if err := d.visit(Change{what, key}); err != nil {
				return err
			}
		}
	}
	return nil
}

// meet counts the documents of one key that both states have.
func (d *indexDiff) meet(a, b *group) error {
	same := 0
	if len(a.hashes) == 1 && len(b.hashes) == 1 {
		if a.hashes[0] == b.hashes[0] {
			same = 1
		}
	} else {
		for i, j := 0, 0; i < len(a.hashes) && j < len(b.hashes); {
			switch x, y := a.hashes[i], b.hashes[j]; {
			case x == y:
				same, i, j = same+1, i+1, j+1
			case x < y:
				i++
			default:
				j++
			}
		}
	}
	d.counts.Same += int64(same)
	left, right := len(a.hashes)-same, len(b.hashes)-same
	changed := min(left, right)
	return errors.Join(d.differ(Changed, a.key, changed), d.differ(Missing, a.key, left-changed), d.differ(Added, a.key, right-changed))
}

// group is the documents of one key, of which there is nearly always one.
type group struct {
	r      *IndexReader
	key    []byte
	hashes []uint64 // sorted; none at the end
	begun  bool
	over   bool // nothing follows
}

func (g *group) ended() bool { return len(g.hashes) == 0 }

func (g *group) next() error {
	g.hashes = g.hashes[:0]
	if g.r == nil {
		return nil
	}
	if !g.begun {
		g.begun = true
		if err := g.step(); err != nil {
			return err
		}
	}
	if g.over {
		return nil
	}
	g.key, g.hashes = append(g.key[:0], g.r.key...), append(g.hashes, g.r.hash)
	for {
		if err := g.step(); err != nil {
			return err
		}
		if g.over || !bytes.Equal(g.key, g.r.key) {
			break
		}
		g.hashes = append(g.hashes, g.r.hash)
	}
	if !slices.IsSorted(g.hashes) {
		slices.Sort(g.hashes)
	}
	return nil
}

func (g *group) step() error {
	err := g.r.next()
	if errors.Is(err, io.EOF) {
		g.over = true
		return nil
	}
	if err == nil && !g.over && bytes.Compare(g.r.key, g.key) < 0 {
		return g.r.corrupt("its documents are not in order")
	}
	return err
}

// compareGroups orders by key; what has ended comes last.
func compareGroups(a, b *group) int {
	switch {
	case a.ended():
		return 1
	case b.ended():
		return -1
	default:
		return bytes.Compare(a.key, b.key)
	}
}
