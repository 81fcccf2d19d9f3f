package catalog

import (
	"cmp"
	"context"
	"slices"
	"strings"
)

// List returns every backup of the target, newest first, each with what is known of it and why it can or cannot be trusted. It
// reads names, sizes and the ends of files only: Verify reads them whole.
func (c *Catalog) List(ctx context.Context) ([]Entry, error) {
	entries, _, err := c.scan(ctx)
	return entries, err
}

// scan is List, and returns the directories of other tools with their logs too.
func (c *Catalog) scan(ctx context.Context) ([]Entry, []*source, error) {
	entries, err := c.own(ctx)
	if err != nil {
		return nil, nil, err
	}
	away, err := c.remote(ctx, entries)
	if err != nil {
		return nil, nil, err
	}
	entries = append(entries, away...)
	var sources []*source
	for i := range c.Foreign {
		s, err := c.source(i)
		if err != nil {
			return nil, nil, err
		}
		sources = append(sources, s)
		found, err := c.others(ctx, s)
		if err != nil {
			return nil, nil, err
		}
		entries = append(entries, found...)
	}
	slices.SortStableFunc(entries, func(a, b Entry) int {
		return cmp.Or(a.Time.Compare(b.Time), strings.Compare(a.ID, b.ID))
	})
	c.judge(entries)
	slices.Reverse(entries)
	return entries, sources, nil
}

// find returns the entry of that id, or of that name where only one has it. The id of an offsite copy that was fetched since stands
// for the backup on this host.
func find(entries []Entry, id string) (*Entry, bool) {
	var named []*Entry
	name := strings.TrimPrefix(id, offsitePrefix)
	for i := range entries {
		e := &entries[i]
		switch {
		case e.unreadable && !e.archive:
		case e.ID == id:
			return e, true
		case e.Name == name && (name == id || e.ID == name):
			named = append(named, e)
		}
	}
	if len(named) != 1 {
		return nil, false
	}
	return named[0], true
}
