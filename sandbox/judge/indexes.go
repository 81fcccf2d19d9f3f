package judge

import (
	"bytes"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/sandbox/ledger"
)

// options compares a collection's options, in whatever order the server lists them.
func (j *court) options(f ledger.Described, x *ledger.Collection) {
	if f.Type != x.Type {
		j.differs(Difference{Kind: OptionsDiffer, Collection: f.Name, Detail: "it is a " + f.Type + ", and was a " + x.Type})
		return
	}
	if !sameFields(f.Options, x.Options) {
		j.differs(Difference{Kind: OptionsDiffer, Collection: f.Name, Detail: "they are " + f.Options.String() + ", and were " + x.Options.String()})
	}
}

// indexes compares every index specification by name.
func (j *court) indexes(f ledger.Described, x *ledger.Collection) {
	want := map[string]bson.Raw{}
	for _, i := range x.Indexes {
		want[i.Name] = i.Spec
	}
	for _, i := range f.Indexes {
		spec, known := want[i.Name]
		delete(want, i.Name)
		switch {
		case !known:
			j.differs(Difference{Kind: IndexUnexpected, Collection: f.Name, Index: i.Name})
		case !sameFields(spec, i.Spec):
			j.differs(Difference{Kind: IndexDiffers, Collection: f.Name, Index: i.Name, Detail: "it is " + i.Spec.String() + ", and was " + spec.String()})
		}
	}
	for name := range want {
		j.differs(Difference{Kind: IndexMissing, Collection: f.Name, Index: name})
	}
}

// sameFields compares two documents whose own fields may stand in any order, while the order within each value counts:
// an index on (a, b) is another than one on (b, a). It leaves out "ns", which names the collection and which only old
// servers give.
func sameFields(a, b bson.Raw) bool {
	return slices.EqualFunc(fields(a), fields(b), bytes.Equal)
}

func fields(raw bson.Raw) [][]byte {
	elements, err := raw.Elements()
	if err != nil {
		return [][]byte{raw}
	}
	var sorted []bson.RawElement
	for _, e := range elements {
		if e.Key() != "ns" {
			sorted = append(sorted, e)
		}
	}
	slices.SortFunc(sorted, func(a, b bson.RawElement) int { return strings.Compare(a.Key(), b.Key()) })
	out := make([][]byte, len(sorted))
	for i, e := range sorted {
		out[i] = e
	}
	return out
}
