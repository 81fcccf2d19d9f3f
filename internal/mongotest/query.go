package mongotest

import (
	"bytes"
	"slices"
	"sort"
	"strings"

	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// query is which documents, in which order.
type query struct {
	filter   document
	sort     document
	hint     value
	min, max document
}

// scan gives one record after another, and nil at the end.
type scan func() (*record, error)

func hintOf(d document) value {
	v, _ := lookup(d, "hint")
	return v
}

// plan makes the scan of a query, in the order that the real server would give: that of _id where it would use that
// index, else of insertion. The server is locked while a scan is called, but need not be in between.
func (c *collection) plan(q query) (scan, error) {
	match, err := compileFilter(q.filter)
	if err != nil {
		return nil, err
	}
	next, sorted, err := c.source(q)
	if err != nil {
		return nil, err
	}
	if match != nil {
		next = filtered(next, match)
	}
	if sorted || len(q.sort) <= 5 {
		return next, nil
	}
	return sortedBy(next, q.sort)
}

// source picks where to look, and tells whether that order is the wanted one already.
func (c *collection) source(q query) (next scan, sorted bool, err error) {
	hint, natural, err := c.hinted(q.hint)
	if err != nil {
		return nil, false, err
	}
	if len(q.min) > 5 || len(q.max) > 5 {
		if hint == nil {
			return nil, false, errorf(MissingMinMaxHint, "When using min()/max() a hint of which index to use must be provided")
		}
		next, err := c.between(hint, q.min, q.max)
		return next, false, err
	}
	if id, ok := equalID(q.filter); ok && c.ids != nil && natural == 0 {
		if r := c.ids[string(appendIdentity(nil, id))]; r != nil {
			return list([]*record{r}), true, nil
		}
		return list(nil), true, nil
	}
	direction, byID := orderOfID(q.sort)
	low, high := boundsOfID(q.filter)
	onID := hint != nil && bytes.Equal(hint, keyOnID)
	switch {
	case natural < 0:
		return backwards(c.records), false, nil
	case !byID && (natural > 0 || !c.clustered && !onID && low.Type == 0 && high.Type == 0):
		return c.natural(), false, nil
	}
	records := inBounds(c.byID(), low, high)
	if direction < 0 {
		return backwards(records), true, nil
	}
	return list(records), byID, nil
}

// hinted is the key of the index that a hint names, or the direction of $natural.
func (c *collection) hinted(hint value) (key document, natural int, err error) {
	if name, ok := hint.StringValueOK(); ok {
		if x := c.indexNamed(name); x != nil {
			return x.key, 0, nil
		}
	} else if d, ok := hint.DocumentOK(); ok {
		if len(d) == 5 {
			return nil, 0, nil
		}
		if v, ok := lookup(d, "$natural"); ok {
			n, _ := asInt(v)
			return nil, int(n), nil
		}
		for _, x := range c.indexes {
			if compareDocuments(x.key, d) == 0 {
				return x.key, 0, nil
			}
		}
	} else {
		return nil, 0, nil
	}
	return nil, 0, errorf(BadValue, "error processing query: ns=%s planner returned error :: caused by :: hint provided does "+
		"not correspond to an existing index", c.ns)
}

// equalID is the one _id that a filter asks for.
func equalID(filter document) (value, bool) {
	v, ok := lookup(filter, "_id")
	if !ok || v.Type == bsoncore.TypeRegex {
		return v, false
	}
	if d, isDoc := v.DocumentOK(); isDoc && isOperators(d) {
		return lookup(d, "$eq")
	}
	return v, true
}

func orderOfID(sort document) (direction int64, ok bool) {
	for e := range elements(sort) {
		direction, _ = asInt(e.Value())
		return direction, e.Key() == "_id" && direction != 0
	}
	return 1, false
}

// boundsOfID are the bounds that a filter sets to _id; they are inclusive here, the filter does the rest.
func boundsOfID(filter document) (low, high value) {
	ops := subdocument(filter, "_id")
	if !isOperators(ops) {
		return low, high
	}
	for e := range elements(ops) {
		switch e.Key() {
		case "$gt", "$gte":
			low = e.Value()
		case "$lt", "$lte":
			high = e.Value()
		}
	}
	return low, high
}

func inBounds(records []*record, low, high value) []*record {
	// Where a record was deleted, its _id is gone; the nearest one that is left decides.
	id := func(i int) (value, bool) {
		for ; i < len(records); i++ {
			if d := records[i].doc; d != nil {
				return idOf(d), true
			}
		}
		return value{}, false
	}
	first, last := 0, len(records)
	if high.Type != 0 {
		last = sort.Search(len(records), func(i int) bool {
			v, ok := id(i)
			return !ok || compare(v, high) > 0
		})
	}
	if low.Type != 0 {
		first = sort.Search(last, func(i int) bool {
			v, ok := id(i)
			return !ok || compare(v, low) >= 0
		})
	}
	return records[first:last]
}

// natural goes through a collection in order of insertion, and sees what is inserted or deleted meanwhile.
func (c *collection) natural() scan {
	at, last, epoch := 0, uint64(0), c.epoch
	return func() (*record, error) {
		if epoch != c.epoch {
			at = sort.Search(len(c.records), func(i int) bool { return c.records[i].seq > last })
			epoch = c.epoch
		}
		for at < len(c.records) {
			r := c.records[at]
			at++
			last = r.seq
			if r.doc != nil {
				return r, nil
			}
		}
		return nil, nil
	}
}

func list(records []*record) scan {
	return func() (*record, error) {
		for len(records) > 0 {
			r := records[0]
			if records = records[1:]; r.doc != nil {
				return r, nil
			}
		}
		return nil, nil
	}
}

func backwards(records []*record) scan {
	return func() (*record, error) {
		for len(records) > 0 {
			r := records[len(records)-1]
			if records = records[:len(records)-1]; r.doc != nil {
				return r, nil
			}
		}
		return nil, nil
	}
}

func filtered(next scan, match matcher) scan {
	return func() (*record, error) {
		for {
			r, err := next()
			if r == nil || err != nil || match(r.doc) {
				return r, err
			}
		}
	}
}

func drain(next scan) ([]*record, error) {
	var all []*record
	for {
		r, err := next()
		if r == nil || err != nil {
			return all, err
		}
		all = append(all, r)
	}
}

// between goes through an index from min up to, but without, max. Unlike $gte and $lt these cross types.
func (c *collection) between(key, least, most document) (scan, error) {
	next, err := sortedBy(c.natural(), key)
	if err != nil {
		return nil, err
	}
	order, err := parseSort(key)
	if err != nil {
		return nil, err
	}
	for _, bound := range []document{least, most} {
		if len(bound) > 5 && countElements(bound) != len(order) {
			return nil, errorf(51174, "The index chosen is not compatible with min/max")
		}
	}
	return filtered(next, func(d document) bool {
		return (len(least) <= 5 || order.compareBound(d, least) >= 0) && (len(most) <= 5 || order.compareBound(d, most) < 0)
	}), nil
}

// order is a sort specification.
type order []orderField

type orderField struct {
	path       []string
	descending bool
}

func parseSort(spec document) (order, error) {
	var o order
	for e := range elements(spec) {
		n, ok := asInt(e.Value())
		if !ok || n != 1 && n != -1 {
			return nil, errorf(15975, "$sort key ordering must be 1 (for ascending) or -1 (for descending)")
		}
		o = append(o, orderField{strings.Split(e.Key(), "."), n < 0})
	}
	return o, nil
}

func (o order) keys(d document) []value {
	keys := make([]value, len(o))
	for i, f := range o {
		keys[i] = sortKey(d, f.path, f.descending)
	}
	return keys
}

func (o order) compare(a, b []value) int {
	for i, f := range o {
		c := compare(a[i], b[i])
		if f.descending {
			c = -c
		}
		if c != 0 {
			return c
		}
	}
	return 0
}

func (o order) compareBound(d, bound document) int {
	var values []value
	for e := range elements(bound) {
		values = append(values, e.Value())
	}
	return o.compare(o.keys(d), values)
}

// sortedBy reads all of a scan when it is first called, and gives it back sorted.
func sortedBy(next scan, spec document) (scan, error) {
	o, err := parseSort(spec)
	if err != nil {
		return nil, err
	}
	var sorted scan
	return func() (*record, error) {
		if sorted == nil {
			all, err := drain(next)
			if err != nil {
				return nil, err
			}
			sorted = list(sortRecords(all, o))
		}
		return sorted()
	}, nil
}

func sortRecords(records []*record, o order) []*record {
	type keyed struct {
		keys []value
		r    *record
	}
	list := make([]keyed, len(records))
	for i, r := range records {
		list[i] = keyed{o.keys(r.doc), r}
	}
	slices.SortStableFunc(list, func(a, b keyed) int { return o.compare(a.keys, b.keys) })
	for i, k := range list {
		records[i] = k.r
	}
	return records
}

// matching are the records that a write is about: all of them, or the first.
func (c *collection) matching(q query, all bool) ([]*record, error) {
	next, err := c.plan(q)
	if err != nil {
		return nil, err
	}
	if all {
		return drain(next)
	}
	r, err := next()
	if r == nil || err != nil {
		return nil, err
	}
	return []*record{r}, nil
}
