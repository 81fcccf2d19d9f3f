package undelete

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/backup"
)

// Filter is how a person narrows what was found. What is left out does not narrow; all that is given must be met.
type Filter struct {
	Collections   []string `json:"collections,omitempty"`
	Organizations []string `json:"organizations,omitempty"`
	// From and To bound the deletion: the time of its audit entry where there is one, else the window in which it vanished
	// must touch them.
	From time.Time `json:"from,omitzero"`
	To   time.Time `json:"to,omitzero"`
	// IDs are declared keys, or _ids: as text, or as extended JSON.
	IDs []string `json:"ids,omitempty"`
	// By are the ids of the users who deleted them; only documents with an audit entry can meet it.
	By []string `json:"by,omitempty"`
	// Alone leaves the dependants out that are not themselves chosen.
	Alone bool `json:"alone,omitempty"`
	// Earlier takes dependants along, too, that vanished between older backups than the document on which they depend.
	Earlier bool `json:"earlier,omitempty"`
}

// Selection is the documents that are to be put back.
type Selection struct {
	File string `json:"file"` // the list, in the Job's folder
	// Digest identifies the documents: whoever approves a selection approves this.
	Digest     string `json:"digest"`
	Documents  int64  `json:"documents"`
	Dependants int64  `json:"dependants,omitempty"` // of these, came along with others
	Snapshots  int64  `json:"snapshots,omitempty"`  // of these, come from audit entries
	// Earlier counts dependants that were left out because they vanished earlier: taken off by an edit, most likely. But a
	// backup that was made in the middle of a deletion, or is not of one moment, may have missed them already.
	Earlier       int64      `json:"earlier,omitempty"`
	Bytes         int64      `json:"bytes"`
	Collections   []Selected `json:"collections,omitempty"`
	Organizations int        `json:"organizations,omitempty"` // how many are concerned
}

// Selected counts one collection's.
type Selected struct {
	Collection string `json:"collection"`
	Documents  int64  `json:"documents"`
	Dependants int64  `json:"dependants,omitempty"`
}

// rounds bounds how deep dependants depend on dependants.
const rounds = 16

// Select narrows the documents of a list, Found.File or Explained.File, and takes along those that depend on a chosen one,
// are missing as well, and vanished no earlier than it: a line that was taken off an invoice before that was deleted
// stays off.
func (j Job) Select(ctx context.Context, file string, f Filter) (Selection, error) {
	if file != missingFile && file != explainedFile {
		return Selection{}, fmt.Errorf("select documents: there is no list %q; expected the file that Find or Explain gave", file)
	}
	if !f.From.IsZero() && !f.To.IsZero() && f.To.Before(f.From) {
		return Selection{}, fmt.Errorf("select documents: to (%s) is before from (%s)", f.To.UTC().Format(time.RFC3339), f.From.UTC().Format(time.RFC3339))
	}
	s := &selector{Job: j, file: file, match: newMatcher(f), chosen: map[int]bool{}, parents: map[relation]int{}}
	for n := 0; ; n++ {
		grew, err := s.pass(ctx, n == 0)
		if err != nil {
			return Selection{}, err
		}
		if !grew || f.Alone || len(j.Rules.Dependants) == 0 {
			break
		}
		if n == rounds {
			return Selection{}, errors.New("select documents: dependants depend on each other in a circle: look at deletions.dependants")
		}
	}
	return s.write()
}

// selector goes through the list until no more dependants are found.
type selector struct {
	Job
	file   string
	match  matcher
	chosen map[int]bool // by line; true for dependants
	// parents are the chosen documents on which others may depend, with their rank: how many backups are newer than the one
	// that holds them.
	parents map[relation]int
}

// relation is a value by which documents of a collection depend on a chosen one: rule is its index in the declared map.
type relation struct {
	rule   int
	tenant string
	value  string
}

func (s *selector) pass(ctx context.Context, first bool) (grew bool, err error) {
	n := -1
	for e, err := range lines[entry](s.Dir, s.file) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return false, err
		}
		n++
		if _, already := s.chosen[n]; already {
			continue
		}
		switch {
		case first && s.match.matches(&e):
			s.chosen[n] = false
		case !first && s.dependence(&e) != none && (s.match.filter.Earlier || s.dependence(&e) == together):
			s.chosen[n] = true
		default:
			continue
		}
		grew = true
		s.expect(&e)
	}
	return grew, nil
}

// expect notes by which values others may depend on a chosen document.
func (s *selector) expect(e *entry) {
	for i, d := range s.Rules.Dependants {
		if d.Of != e.Collection {
			continue
		}
		value := e.Values[s.Rules.KeyOf(d.Of, d.Key, d.Field)]
		if value == "" {
			continue
		}
		r := relation{i, e.Organization, value}
		if rank, there := s.parents[r]; !there || e.Rank > rank {
			s.parents[r] = e.Rank
		}
	}
}

// dependence is how a missing document depends on the chosen ones.
type dependence int

const (
	none     dependence = iota
	together            // it vanished between the same backups, or later
	earlier
)

func (s *selector) dependence(e *entry) dependence {
	how := none
	for i, d := range s.Rules.Dependants {
		if d.Collection != e.Collection {
			continue
		}
		rank, there := s.parents[relation{i, e.Organization, e.Values[d.Field]}]
		switch {
		case there && e.Rank <= rank:
			return together
		case there:
			how = earlier
		}
	}
	return how
}

func (s *selector) write() (Selection, error) {
	l, err := newList(s.Dir, selectionFile)
	if err != nil {
		return Selection{}, err
	}
	defer func() { _ = l.drop() }()
	out := Selection{File: selectionFile}
	each, organizations := map[string]*Selected{}, map[string]bool{}
	n := -1
	for e, err := range lines[entry](s.Dir, s.file) {
		if err != nil {
			return Selection{}, err
		}
		n++
		dependant, chosen := s.chosen[n]
		if !chosen {
			out.Earlier += int64(boolean(!s.match.filter.Alone && s.dependence(&e) == earlier))
			continue
		}
		e.Dependant = dependant
		one := each[e.Collection]
		if one == nil {
			one = &Selected{Collection: e.Collection}
			each[e.Collection] = one
		}
		one.Documents++
		one.Dependants += int64(boolean(dependant))
		out.Documents++
		out.Dependants += int64(boolean(dependant))
		out.Snapshots += int64(boolean(e.Document != nil))
		out.Bytes += e.Bytes
		if e.Organization != "" {
			organizations[e.Organization] = true
		}
		if err := l.add(e); err != nil {
			return Selection{}, err
		}
	}
	if err := l.commit(); err != nil {
		return Selection{}, err
	}
	out.Digest, out.Organizations = l.digest.String(), len(organizations)
	for _, name := range slices.Sorted(maps.Keys(each)) {
		out.Collections = append(out.Collections, *each[name])
	}
	slices.SortStableFunc(out.Collections, func(a, b Selected) int { return cmp.Compare(b.Documents, a.Documents) })
	return out, nil
}

// matcher is a filter made ready.
type matcher struct {
	filter                              Filter
	collections, organizations, ids, by map[string]bool
	jsonIDs                             map[backup.Hash]bool
}

func newMatcher(f Filter) matcher {
	m := matcher{f, set(f.Collections), set(f.Organizations), set(f.IDs), set(f.By), map[backup.Hash]bool{}}
	for _, id := range f.IDs {
		if doc, err := backup.ToBSON([]byte(`{"_id":` + id + `}`)); err == nil {
			m.jsonIDs[hashOf(doc.Lookup("_id"))] = true
		}
	}
	return m
}

func set(list []string) map[string]bool {
	m := map[string]bool{}
	for _, s := range list {
		m[s] = true
	}
	return m
}

func (m *matcher) matches(e *entry) bool {
	f := &m.filter
	switch {
	case len(m.collections) > 0 && !m.collections[e.Collection],
		len(m.organizations) > 0 && !m.organizations[e.Organization],
		len(m.ids) > 0 && !m.matchesID(e),
		len(m.by) > 0 && (e.Why == nil || !m.by[e.Why.By]):
		return false
	}
	from, to := e.From, e.To
	if e.Why != nil {
		from, to = e.Why.At, e.Why.At
	}
	return (f.From.IsZero() || !to.Before(f.From)) && (f.To.IsZero() || !from.After(f.To))
}

func (m *matcher) matchesID(e *entry) bool {
	if e.Key != "" && m.ids[e.Key] {
		return true
	}
	id, err := decodeID(e.ID)
	if err != nil {
		return false
	}
	if t, ok := text(id); ok && m.ids[t] {
		return true
	}
	return id.Type != bson.Type(0) && m.jsonIDs[hashOf(id)]
}
