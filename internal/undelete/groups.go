package undelete

import (
	"cmp"
	"slices"
	"time"
)

// Group is the missing documents of one collection and organization that vanished between the same two backups.
type Group struct {
	Collection   string    `json:"collection"`
	Organization string    `json:"organization,omitempty"`
	Backup       string    `json:"backup,omitempty"` // the newest that holds them; "" where they come from snapshots in an audit log
	From         time.Time `json:"from"`             // they were there
	To           time.Time `json:"to"`               // they were not
	Documents    int64     `json:"documents"`
	Audited      int64     `json:"audited,omitempty"` // of these an audit entry tells
}

// Groups is the largest groups, and how much lies in the others. All of them are in the file groups.json.
type Groups struct {
	Largest       []Group `json:"largest,omitempty"`
	More          int     `json:"more,omitempty"`
	MoreDocuments int64   `json:"moreDocuments,omitempty"`
}

// mostGroups is as many lines as a table for a person should have.
const mostGroups = 60

type groupKey struct {
	collection, organization string
	backup                   string
}

type grouping map[groupKey]*Group

func (g grouping) count(e *entry) {
	k := groupKey{e.Collection, e.Organization, e.Backup}
	one := g[k]
	if one == nil {
		one = &Group{Collection: e.Collection, Organization: e.Organization, Backup: e.Backup, From: e.From, To: e.To}
		g[k] = one
	}
	if e.From.Before(one.From) {
		one.From = e.From
	}
	if e.To.After(one.To) {
		one.To = e.To
	}
	one.Documents++
	if e.Why != nil {
		one.Audited++
	}
}

// save writes all groups to the folder and returns the largest.
func (g grouping) save(dir string) (Groups, error) {
	all := make([]Group, 0, len(g))
	for _, one := range g {
		all = append(all, *one)
	}
	slices.SortFunc(all, func(a, b Group) int {
		return cmp.Or(cmp.Compare(b.Documents, a.Documents), cmp.Compare(a.Collection, b.Collection),
			cmp.Compare(a.Organization, b.Organization), b.From.Compare(a.From))
	})
	if err := saveJSON(dir, groupsFile, all); err != nil {
		return Groups{}, err
	}
	few := Groups{Largest: all[:min(len(all), mostGroups)]}
	for _, one := range all[len(few.Largest):] {
		few.More++
		few.MoreDocuments += one.Documents
	}
	return few, nil
}
