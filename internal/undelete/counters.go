package undelete

import (
	"cmp"
	"context"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/config"
)

// CounterNow compares a declared counter with the numbers in use. A counter that stands below one gives out a number
// twice; it is for people to raise it, in the application. Nothing here writes one.
type CounterNow struct {
	Collection   string `json:"collection"`
	Organization string `json:"organization,omitempty"`
	Of           string `json:"of"`              // the numbered collection
	Value        int64  `json:"value,omitempty"` // of the counter in the database
	Missing      bool   `json:"missing,omitempty"`
	// Restored is the value with which the counter itself would come back, where it is among the selected documents.
	Restored *int64 `json:"restored,omitempty"`
	Selected int64  `json:"selected"`       // the highest number among the documents to be put back
	Live     int64  `json:"live,omitempty"` // the highest among the living ones
	// Behind says that the counter stands, or would stand, below a number in use.
	Behind bool `json:"behind"`
}

// mostCounters bounds the result: those that are behind come first.
const mostCounters = 50

// numbers gathers the numbers of the documents that are to be put back.
type numbers struct {
	Job
	patterns []*regexp.Regexp         // of each declared counter; nil where it is no pattern
	highest  []map[string]int64       // of each declared counter, by organization
	counters map[string][]counterBack // counters among the selected documents, by collection
}

type counterBack struct{ doc bson.Raw }

func newNumbers(j Job) *numbers {
	n := &numbers{Job: j, counters: map[string][]counterBack{}}
	for _, c := range j.Rules.Counters {
		re, err := regexp.Compile(c.Pattern)
		if err != nil || re.NumSubexp() != 1 {
			re = nil
		}
		n.patterns, n.highest = append(n.patterns, re), append(n.highest, map[string]int64{})
	}
	return n
}

// see takes note of documents to be put back.
func (n *numbers) see(collection string, batch []picked) {
	for i, c := range n.Rules.Counters {
		for _, p := range batch {
			if c.Of == collection {
				if number, ok := n.numberIn(i, p.doc); ok {
					who := n.organizationFor(c, p.Organization)
					n.highest[i][who] = max(n.highest[i][who], number)
				}
			}
			if c.Collection == collection && matchesCounter(c, p.doc, "") {
				n.counters[collection] = append(n.counters[collection], counterBack{p.doc})
			}
		}
	}
}

// organizationFor returns the organization whose counter numbers a document; "" where one counter serves all.
func (n *numbers) organizationFor(c config.Counter, organization string) string {
	for _, v := range c.Match {
		if strings.Contains(v, config.Organization) {
			return organization
		}
	}
	return ""
}

func (n *numbers) numberIn(counter int, doc bson.Raw) (int64, bool) {
	v, ok := lookup(doc, n.Rules.Counters[counter].Number)
	if !ok {
		return 0, false
	}
	if number, ok := whole(v); ok {
		return number, true
	}
	t, ok := text(v)
	if !ok || n.patterns[counter] == nil {
		return 0, false
	}
	m := n.patterns[counter].FindStringSubmatch(t)
	if m == nil {
		return 0, false
	}
	number, err := strconv.ParseInt(m[1], 10, 64)
	return number, err == nil
}

// matchesCounter says whether a document is the counter of an organization, or, for "", of any.
func matchesCounter(c config.Counter, doc bson.Raw, organization string) bool {
	for field, want := range c.Match {
		if organization == "" && strings.Contains(want, config.Organization) {
			continue
		}
		if have, _ := textAt(doc, field); have != strings.ReplaceAll(want, config.Organization, organization) {
			return false
		}
	}
	return true
}

// compare reads the counters, and the numbers of the living documents.
func (n *numbers) compare(ctx context.Context) ([]CounterNow, error) {
	var list []CounterNow
	for i, c := range n.Rules.Counters {
		// A counter that comes back itself matters even where nothing that it numbers does.
		for _, back := range n.counters[c.Collection] {
			if matchesCounter(c, back.doc, "") {
				who := n.organizationFor(c, n.tenantOf(back.doc))
				if _, known := n.highest[i][who]; !known {
					n.highest[i][who] = 0
				}
			}
		}
		for who, highest := range n.highest[i] {
			one, err := n.counter(ctx, i, who)
			if err != nil {
				return nil, err
			}
			one.Selected = highest
			value := one.Value
			if one.Missing && one.Restored != nil {
				value = *one.Restored
			}
			one.Behind = value < max(one.Selected, one.Live)
			list = append(list, one)
		}
	}
	slices.SortFunc(list, func(a, b CounterNow) int {
		return cmp.Or(boolean(b.Behind)-boolean(a.Behind), cmp.Compare(a.Collection, b.Collection), cmp.Compare(a.Of, b.Of),
			cmp.Compare(a.Organization, b.Organization))
	})
	return list[:min(len(list), mostCounters)], nil
}

func (n *numbers) counter(ctx context.Context, i int, who string) (CounterNow, error) {
	c := n.Rules.Counters[i]
	one := CounterNow{Collection: c.Collection, Organization: who, Of: c.Of, Missing: true}
	filter := bson.D{}
	for field, want := range c.Match {
		filter = append(filter, bson.E{Key: field, Value: bson.D{{Key: "$in", Value: valuesOf(strings.ReplaceAll(want, config.Organization, who))}}})
	}
	err := n.find(ctx, c.Collection, filter, nil, func() { one.Missing, one.Value = true, 0 }, func(doc bson.Raw) {
		if v, ok := lookup(doc, c.Value); ok {
			if number, ok := whole(v); ok {
				one.Missing, one.Value = false, max(one.Value, number)
			}
		}
	})
	if err != nil {
		return one, err
	}
	for _, back := range n.counters[c.Collection] {
		if v, ok := lookup(back.doc, c.Value); ok && matchesCounter(c, back.doc, who) {
			if number, ok := whole(v); ok {
				one.Restored = &number
			}
		}
	}
	living := bson.D{}
	if who != "" {
		living = bson.D{{Key: n.Tenant, Value: bson.D{{Key: "$in", Value: valuesOf(who)}}}}
	}
	err = n.find(ctx, c.Of, living, bson.D{{Key: c.Number, Value: 1}}, func() { one.Live = 0 }, func(doc bson.Raw) {
		if number, ok := n.numberIn(i, doc); ok {
			one.Live = max(one.Live, number)
		}
	})
	return one, err
}
