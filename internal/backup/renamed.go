package backup

import (
	"fmt"
	"slices"
	"strings"
)

// Renamed returns the same backup with other names for some of its collections. What refers to a collection by its name,
// such as a view, is left as it is.
func (s Source) Renamed(names map[string]string) (Source, error) {
	m := *s.Manifest
	m.Collections = slices.Clone(m.Collections)
	for from := range names {
		if s.Manifest.Collection(from) == nil {
			return Source{}, fmt.Errorf("backup %s has no collection %q", m.Name, from)
		}
	}
	taken := map[string]string{}
	for i := range m.Collections {
		c := &m.Collections[i]
		from := c.Name
		if to, ok := names[from]; ok {
			c.Name = to
		}
		if c.Name != from && (c.Name == "" || strings.ContainsAny(c.Name, "$\x00") || Reserved(c.Name) || strings.HasPrefix(c.Name, "system.")) {
			return Source{}, fmt.Errorf("collection %q cannot be named %q", from, c.Name)
		}
		if other, ok := taken[c.Name]; ok {
			return Source{}, fmt.Errorf("collections %q and %q would both be named %q", other, from, c.Name)
		}
		taken[c.Name] = from
	}
	return Source{Dir: s.Dir, Manifest: &m}, nil
}
