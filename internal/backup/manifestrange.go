package backup

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// The orders in which the documents of a collection may lie in its file. None is said where it is not known.
const (
	OrderNatural = "natural" // as the server gave them when it was asked for no order
	OrderID      = "_id"     // in the server's order of _id
	OrderRanges  = "ranges"  // range after range, in the order of _id within each
)

// Range is a part of a collection's documents, by _id. The ranges of a collection hold each of its documents once, and lie
// in its file in the manifest's order, one after the other.
type Range struct {
	// From (included) and To (not included) are _ids in canonical extended JSON; where one is missing the range is open on
	// that side. The server compares within one type only, so that a range holds _ids of its bounds' type alone: numbers of
	// every type are one type there, and NaN is of none.
	From json.RawMessage `json:"from,omitempty"`
	To   json.RawMessage `json:"to,omitempty"`
	// Others marks the range of all _ids that are of no type that another range of the collection has as its bound.
	Others bool `json:"others,omitempty"`
	// Size is how many bytes of the file, compressed, the range takes up.
	Size   int64  `json:"size"`
	Digest Digest `json:"digest"`
}

// Bounds says which _ids belong to a range.
type Bounds struct {
	From, To bson.RawValue // of type 0 where the range is open
	Except   []bson.Type   // where set, all but the _ids that compare with these types
}

// Open says whether every _id belongs to it.
func (b Bounds) Open() bool { return b.From.Type == 0 && b.To.Type == 0 && len(b.Except) == 0 }

// Filter selects the documents of the range on a server; nil selects all. after, unless it is of type 0, leaves out all up to and with that _id,
// which must be comparable with the bounds.
func (b Bounds) Filter(after bson.RawValue) bson.D {
	if len(b.Except) > 0 {
		return b.others()
	}
	var id bson.D
	switch {
	case after.Type != 0:
		id = append(id, bson.E{Key: "$gt", Value: after})
	case b.From.Type != 0:
		id = append(id, bson.E{Key: "$gte", Value: b.From})
	}
	if b.To.Type != 0 {
		id = append(id, bson.E{Key: "$lt", Value: b.To})
	}
	if len(id) == 0 {
		return nil
	}
	return bson.D{{Key: "_id", Value: id}}
}

// others selects what is of none of the excepted types. NaN is a number that no range of numbers holds.
func (b Bounds) others() bson.D {
	var types bson.A
	nan := false
	for _, t := range b.Except {
		for _, same := range comparedWith(t) {
			types = append(types, int32(int8(same)))
			nan = nan || same == bson.TypeDouble
		}
	}
	filter := bson.D{{Key: "_id", Value: bson.D{{Key: "$not", Value: bson.D{{Key: "$type", Value: types}}}}}}
	if !nan {
		return filter
	}
	return bson.D{{Key: "$or", Value: bson.A{filter, bson.D{{Key: "_id", Value: math.NaN()}}}}}
}

// comparedWith are the types whose values the server compares with those of t.
func comparedWith(t bson.Type) []bson.Type {
	switch Bracket(t) {
	case bson.TypeDouble:
		return []bson.Type{bson.TypeDouble, bson.TypeInt32, bson.TypeInt64, bson.TypeDecimal128}
	case bson.TypeString:
		return []bson.Type{bson.TypeString, bson.TypeSymbol}
	default:
		return []bson.Type{t}
	}
}

// Bracket gives types that the server compares with each other the same type.
func Bracket(t bson.Type) bson.Type {
	switch t {
	case bson.TypeInt32, bson.TypeInt64, bson.TypeDouble, bson.TypeDecimal128:
		return bson.TypeDouble
	case bson.TypeSymbol:
		return bson.TypeString
	default:
		return t
	}
}

// NewRanges writes bounds into the form of the manifest. It fails where a bound cannot be written without loss.
func NewRanges(all []Bounds) ([]Range, error) {
	ranges := make([]Range, len(all))
	for i, b := range all {
		ranges[i].Others = len(b.Except) > 0
		for _, side := range []struct {
			v  bson.RawValue
			to *json.RawMessage
		}{{b.From, &ranges[i].From}, {b.To, &ranges[i].To}} {
			if side.v.Type == 0 {
				continue
			}
			j, err := valueToJSON(side.v)
			if err != nil {
				return nil, err
			}
			*side.to = j
		}
	}
	return ranges, nil
}

// BoundsOf reads the bounds of a collection's ranges back, in their order.
func BoundsOf(ranges []Range) ([]Bounds, error) {
	all := make([]Bounds, len(ranges))
	var types []bson.Type
	for i, r := range ranges {
		for _, side := range []struct {
			j  json.RawMessage
			to *bson.RawValue
		}{{r.From, &all[i].From}, {r.To, &all[i].To}} {
			if len(side.j) == 0 {
				continue
			}
			v, err := valueFromJSON(side.j)
			if err != nil {
				return nil, fmt.Errorf("bound of range %d: %w", i, err)
			}
			*side.to = v
			if t := Bracket(v.Type); !slices.Contains(types, t) {
				types = append(types, t)
			}
		}
	}
	for i, r := range ranges {
		if r.Others {
			if len(types) == 0 || all[i].From.Type != 0 || all[i].To.Type != 0 {
				return nil, fmt.Errorf("range %d holds the other types, and there are none or it has bounds", i)
			}
			all[i].Except = types
		}
	}
	return all, nil
}

const wrapped = `{"_id":`

// valueToJSON writes one value as canonical extended JSON.
func valueToJSON(v bson.RawValue) (json.RawMessage, error) {
	doc, err := bson.Marshal(bson.D{{Key: "_id", Value: v}})
	if err != nil {
		return nil, err
	}
	j, err := ToJSON(doc)
	if err != nil {
		return nil, err
	}
	return j[len(wrapped) : len(j)-1], nil
}

func valueFromJSON(j json.RawMessage) (bson.RawValue, error) {
	doc, err := ToBSON(append(append([]byte(wrapped), j...), '}'))
	if err != nil {
		return bson.RawValue{}, err
	}
	return doc.LookupErr("_id")
}

// checkRanges refuses ranges that are not the collection.
func (c *Collection) checkRanges() error {
	if len(c.Ranges) == 0 {
		return nil
	}
	var sum Digest
	var size int64
	for _, r := range c.Ranges {
		sum.Merge(r.Digest)
		size += r.Size
	}
	if sum != c.Digest || c.Digest.Documents > 0 && size != c.Data.Size {
		return errors.New("its ranges together are not the collection")
	}
	_, err := BoundsOf(c.Ranges)
	return err
}
