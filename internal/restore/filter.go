package restore

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Filter chooses documents as the server would, without asking it: a backup's documents lie in files. The zero Filter
// chooses all. It knows equality, $in, $eq, $gt, $gte, $lt and $lte on scalar values, by fields or dotted paths, all of
// which must hold. As on the server, a list matches when one of its elements does.
type Filter struct {
	text       string
	conditions []condition
}

// String returns the filter as it was written.
func (f Filter) String() string { return f.text }

// condition is what must hold of the values under one path.
type condition struct {
	path string
	test func(bson.RawValue) bool
}

// All says whether the filter chooses every document.
func (f Filter) All() bool { return len(f.conditions) == 0 }

// ParseFilter reads a filter in extended JSON, such as {"organization_id": "org_1"} or
// {"_id": {"$in": [{"$oid": "…"}]}, "created_at": {"$gte": {"$date": "2026-02-24T00:00:00Z"}}}. What it does not know it
// refuses by name: a filter that meant something else would restore something else.
func ParseFilter(text string) (Filter, error) {
	var doc bson.Raw
	if err := bson.UnmarshalExtJSON([]byte(text), false, &doc); err != nil {
		return Filter{}, fmt.Errorf(`filter: it is not extended JSON like {"organization_id": "org_1"}: %w`, err)
	}
	elements, err := doc.Elements()
	if err != nil {
		return Filter{}, fmt.Errorf("filter: %w", err)
	}
	if len(elements) == 0 {
		return Filter{}, errors.New("filter: it is empty; leave it out to mean all documents")
	}
	f := Filter{text: text}
	for _, e := range elements {
		if err := f.add(e.Key(), e.Value()); err != nil {
			return Filter{}, fmt.Errorf("filter: %s: %w", e.Key(), err)
		}
	}
	return f, nil
}

// known is said beside whatever is refused.
const known = "known are a value, $eq, $in, $gt, $gte, $lt and $lte, by field, all of which must hold"

func (f *Filter) add(path string, v bson.RawValue) error {
	if strings.HasPrefix(path, "$") {
		return errors.New("this operator is not known; " + known)
	}
	if path == "" || slices.Contains(strings.Split(path, "."), "") {
		return errors.New("a path has empty parts")
	}
	operators, isDocument := v.DocumentOK()
	if !isDocument {
		return f.equal(path, v)
	}
	elements, err := operators.Elements()
	if err != nil {
		return err
	}
	if len(elements) == 0 || !strings.HasPrefix(elements[0].Key(), "$") {
		return errors.New(`a document as a value is not known: name the fields in it by dotted paths, like "address.city"`)
	}
	for _, e := range elements {
		if err := f.operator(path, e.Key(), e.Value()); err != nil {
			return err
		}
	}
	return nil
}

func (f *Filter) equal(path string, want ...bson.RawValue) error {
	for _, w := range want {
		if err := scalar(w); err != nil {
			return err
		}
	}
	f.conditions = append(f.conditions, condition{path, func(v bson.RawValue) bool {
		return slices.ContainsFunc(want, func(w bson.RawValue) bool {
			order, comparable := compareValues(v, w)
			return comparable && order == 0
		})
	}})
	return nil
}

// accepts are the orders, of a value against the operand, with which each operator is content.
var accepts = map[string][]int{"$gt": {1}, "$gte": {0, 1}, "$lt": {-1}, "$lte": {-1, 0}}

func (f *Filter) operator(path, name string, operand bson.RawValue) error {
	orders, isRange := accepts[name]
	switch {
	case name == "$eq":
		return f.equal(path, operand)
	case name == "$in":
		list, ok := operand.ArrayOK()
		if !ok {
			return errors.New("$in needs a list of values")
		}
		values, err := list.Values()
		if err != nil {
			return err
		}
		return f.equal(path, values...)
	case !isRange:
		return fmt.Errorf("the operator %s is not known; %s", name, known)
	}
	if err := scalar(operand); err != nil {
		return err
	}
	if operand.Type == bson.TypeBoolean || operand.Type == bson.TypeBinary {
		return fmt.Errorf("%s needs a number, a string, a date or an ObjectId", name)
	}
	f.conditions = append(f.conditions, condition{path, func(v bson.RawValue) bool {
		order, comparable := compareValues(v, operand)
		return comparable && slices.Contains(orders, order)
	}})
	return nil
}

// scalar refuses operands whose meaning on the server goes beyond comparing two values.
func scalar(v bson.RawValue) error {
	switch v.Type {
	case bson.TypeString, bson.TypeBoolean, bson.TypeObjectID, bson.TypeDateTime, bson.TypeBinary,
		bson.TypeInt32, bson.TypeInt64, bson.TypeDouble, bson.TypeDecimal128:
		return nil
	case bson.TypeNull:
		return errors.New("null is not known as a value: it would also mean documents that lack the field")
	case bson.TypeRegex:
		return errors.New("patterns are not known; " + known)
	default:
		return fmt.Errorf("a value of type %s is not known; want a number, a string, a boolean, a date, an ObjectId or binary data", v.Type)
	}
}

// Matches says whether the filter chooses a document.
func (f Filter) Matches(doc bson.Raw) bool {
	return !slices.ContainsFunc(f.conditions, func(c condition) bool { return !c.holds(doc, c.path) })
}

// holds says whether a value that lies in doc under the rest of the path passes the test.
func (c condition) holds(doc bson.Raw, path string) bool {
	key, rest, deeper := strings.Cut(path, ".")
	v, err := doc.LookupErr(key)
	if err != nil {
		return false
	}
	if !deeper {
		if c.test(v) {
			return true
		}
		list, isArray := v.ArrayOK()
		if !isArray {
			return false
		}
		values, err := list.Values()
		return err == nil && slices.ContainsFunc(values, c.test)
	}
	if sub, ok := v.DocumentOK(); ok {
		return c.holds(sub, rest)
	}
	list, isArray := v.ArrayOK()
	if !isArray {
		return false
	}
	// Of a list, every document in it is meant, and by a number the element at that place.
	at, _, _ := strings.Cut(rest, ".")
	if _, err := strconv.Atoi(at); err == nil && c.holds(bson.Raw(list), rest) {
		return true
	}
	values, err := list.Values()
	return err == nil && slices.ContainsFunc(values, func(v bson.RawValue) bool {
		sub, ok := v.DocumentOK()
		return ok && c.holds(sub, rest)
	})
}

// compareValues compares two values as the server does; values of different kinds are not comparable. Numbers of all
// types are of one kind.
func compareValues(a, b bson.RawValue) (order int, comparable bool) {
	if a.IsNumber() && b.IsNumber() {
		return compareNumbers(a, b)
	}
	if a.Type != b.Type {
		return 0, false
	}
	switch a.Type {
	case bson.TypeDateTime:
		return cmp.Compare(a.DateTime(), b.DateTime()), true
	case bson.TypeString:
		return strings.Compare(a.StringValue(), b.StringValue()), true
	default: // the bytes of an ObjectId, a boolean, and binary data, of which only equality is asked
		return bytes.Compare(a.Value, b.Value), true
	}
}

func compareNumbers(a, b bson.RawValue) (order int, comparable bool) {
	x, okX := exact(a)
	y, okY := exact(b)
	if okX && okY {
		return x.Cmp(y), true
	}
	// What is left are infinities, and what is not a number: that only equals itself.
	p, q := float(a), float(b)
	if math.IsNaN(p) || math.IsNaN(q) {
		return 0, math.IsNaN(p) && math.IsNaN(q)
	}
	return cmp.Compare(p, q), true
}

// exact returns a finite number without loss.
func exact(v bson.RawValue) (*big.Rat, bool) {
	switch v.Type {
	case bson.TypeInt32:
		return new(big.Rat).SetInt64(int64(v.Int32())), true
	case bson.TypeInt64:
		return new(big.Rat).SetInt64(v.Int64()), true
	case bson.TypeDouble:
		r := new(big.Rat).SetFloat64(v.Double())
		return r, r != nil
	case bson.TypeDecimal128:
		digits, exponent, err := v.Decimal128().BigInt()
		if err != nil {
			return nil, false
		}
		scale := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(exponent, -exponent))), nil))
		r := new(big.Rat).SetInt(digits)
		if exponent < 0 {
			return r.Quo(r, scale), true
		}
		return r.Mul(r, scale), true
	default:
		return nil, false
	}
}

// float returns a number that exact cannot, or one near it.
func float(v bson.RawValue) float64 {
	if d, ok := v.Decimal128OK(); ok {
		switch {
		case d.IsNaN():
			return math.NaN()
		case d.IsInf() != 0:
			return math.Inf(d.IsInf())
		}
	}
	if r, ok := exact(v); ok {
		f, _ := r.Float64()
		return f
	}
	return v.Double()
}
