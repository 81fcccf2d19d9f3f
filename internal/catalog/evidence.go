package catalog

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/battwheels/runbook/internal/backup"
)

// Evidence is what a backup's contents say of it, beside those of the one before it: the newest backup may hold the damage, too.
type Evidence struct {
	ID      string `json:"id"`
	Against string `json:"against,omitempty"` // the backup before it; empty where there is none to compare with
	// Collections that held documents before and hold none now, that lost a large part of them, and of which most documents
	// were changed at once. Volatile ones do not count.
	Gone      []string `json:"gone,omitempty"`
	Fallen    []Shift  `json:"fallen,omitempty"`
	Rewritten []Shift  `json:"rewritten,omitempty"`
	// Doubtful says that it is not chosen by itself while an older one is not doubtful.
	Doubtful bool   `json:"doubtful,omitempty"`
	Why      string `json:"why"` // one sentence for people
}

// Shift is what became of a collection between two backups: how many documents it held, and how many of these are left, or were
// changed.
type Shift struct {
	Collection string `json:"collection"`
	Before     int64  `json:"before"`
	Now        int64  `json:"now"` // left, or changed
}

// EvidenceOptions say what is known of the target's collections.
type EvidenceOptions struct {
	Key      []string // that people know by heart: what happens to one of these is enough
	Volatile []string // whose documents come and go by themselves
	Only     []string // that matter; none: all
}

// When a collection counts as fallen or rewritten. Few documents prove nothing. Collections that people know by heart lose
// documents seldom, and a fifth of them never by daily work; others are emptied by jobs. What is rewritten is compared with
// how much is changed from backup to backup otherwise: a collection of which a quarter changes every day may change by half.
const (
	fewDocuments   = 20
	keyFallen      = 0.2
	fallen         = 0.5
	rewritten      = 0.5
	rewrittenUsual = 0.25
	// One collection of many may have been cleared out by its owner; so many at once were not.
	manyShifts = 3
	// A collection without a document index is compared by reading it, up to so many bytes of BSON.
	readableBytes = 16 << 20
)

// readFrom is how many backups are compared by what was changed in them, the newest ones: that takes reading. Counts are compared of all.
const readFrom = 7

// Evidence compares the eligible ones of the candidates, which are ordered newest first: each with the last one before it that is not
// doubtful itself, because damage that nobody saw is in every backup that came after it. Backups of which only a copy is left
// offsite are compared by their manifests alone. A backup that cannot be compared is not doubtful, nor is one that a person has accepted.
func (c *Catalog) Evidence(ctx context.Context, candidates []Candidate, o EvidenceOptions) ([]Evidence, error) {
	var eligible []*Entry
	for i := range candidates {
		if candidates[i].Eligible {
			eligible = append(eligible, &candidates[i].Entry)
		}
	}
	w := &weighing{options: o, shares: map[[2]string]map[string]float64{}}
	var all []Evidence
	var before, beforeThat *Entry
	for i, e := range slices.Backward(eligible) {
		w.reads = i < readFrom
		one, err := w.weigh(ctx, e, before, beforeThat)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			// Damaged files are for the check of every byte to find, before anything is restored. What the manifests tell stands.
			one.judge(o)
			one.Why = "Not all of it could be compared with the one before: " + err.Error() + " " + one.Why
		}
		if one.Doubtful && e.accepted {
			one.Doubtful, one.Why = false, "Somebody has accepted it. "+one.Why
		}
		if !one.Doubtful && (err == nil || before == nil) {
			before, beforeThat = e, before
		}
		all = append(all, one)
	}
	slices.Reverse(all)
	return all, nil
}

type weighing struct {
	options EvidenceOptions
	shares  map[[2]string]map[string]float64 // changed share by collection, of pairs that were compared
	reads   bool                             // what was changed is looked for
}

func (w *weighing) weigh(ctx context.Context, e, older, oldest *Entry) (Evidence, error) {
	out := Evidence{ID: e.ID}
	switch {
	case older == nil:
		out.Why = "There is no older one to compare it with."
		return out, nil
	case e.manifest == nil || older.manifest == nil:
		out.Why = "It cannot be compared: it, or the one before it, was never checked."
		return out, nil
	}
	out.Against = older.ID
	for i := range older.manifest.Collections {
		was := &older.manifest.Collections[i]
		if was.Type != backup.TypeCollection || was.Digest.Documents == 0 || !w.matters(was.Name) || w.expires(was) {
			continue
		}
		before, now := was.Digest.Documents, int64(0)
		if is := e.manifest.Collection(was.Name); is != nil {
			now = is.Digest.Documents
		}
		lost, limit := before-now, fallen
		if slices.Contains(w.options.Key, was.Name) {
			limit = keyFallen
		}
		switch {
		case now == 0 && (before >= fewDocuments || slices.Contains(w.options.Key, was.Name)):
			out.Gone = append(out.Gone, was.Name)
		case lost >= fewDocuments && float64(lost) >= limit*float64(before):
			out.Fallen = append(out.Fallen, Shift{was.Name, before, now})
		}
	}
	var changed map[string]float64
	if w.reads {
		var err error
		if changed, err = w.changed(ctx, e, older); err != nil {
			return out, err
		}
	}
	for i := range older.manifest.Collections {
		was := &older.manifest.Collections[i]
		if changed[was.Name] < rewritten || was.Digest.Documents < fewDocuments || !w.matters(was.Name) {
			continue
		}
		usual, err := w.changed(ctx, older, oldest)
		if err != nil {
			return out, err
		}
		// Without a backup before, it is not known how much is usual.
		if oldest == nil || usual[was.Name] >= rewrittenUsual {
			continue
		}
		out.Rewritten = append(out.Rewritten, Shift{was.Name, was.Digest.Documents, int64(changed[was.Name] * float64(was.Digest.Documents))})
	}
	out.judge(w.options)
	return out, nil
}

func (w *weighing) matters(collection string) bool {
	return !slices.Contains(w.options.Volatile, collection) && (len(w.options.Only) == 0 || slices.Contains(w.options.Only, collection))
}

// expires says whether a server deletes a collection's documents by itself.
func (w *weighing) expires(c *backup.Collection) bool {
	return slices.ContainsFunc(c.Indexes, func(i backup.Index) bool {
		spec, err := backup.ToBSON(i.Spec)
		return err == nil && spec.Lookup("expireAfterSeconds").Type != 0
	})
}

// changed is which share of a collection's documents were changed from one backup to the next, for the collections where that
// can be told with little reading.
func (w *weighing) changed(ctx context.Context, e, older *Entry) (map[string]float64, error) {
	if older == nil || e.manifest == nil || older.manifest == nil || !e.here() || !older.here() {
		return nil, nil
	}
	pair := [2]string{e.ID, older.ID}
	if known, ok := w.shares[pair]; ok {
		return known, nil
	}
	from, to := backup.Source{Dir: older.Data, Manifest: older.manifest}, backup.Source{Dir: e.Data, Manifest: e.manifest}
	a, b := *from.Manifest, *to.Manifest
	a.Collections, b.Collections = nil, nil
	for i := range from.Manifest.Collections {
		was := &from.Manifest.Collections[i]
		is := to.Manifest.Collection(was.Name)
		if is == nil || was.Type != backup.TypeCollection || is.Type != backup.TypeCollection || was.Digest == is.Digest || was.Digest.Documents < fewDocuments {
			continue
		}
		indexed := from.IndexFile(was) != "" && to.IndexFile(is) != ""
		if indexed || was.Digest.Bytes+is.Digest.Bytes <= readableBytes {
			a.Collections, b.Collections = append(a.Collections, *was), append(b.Collections, *is)
		}
	}
	from.Manifest, to.Manifest = &a, &b
	diff, err := backup.Compare(ctx, from, to, backup.CompareOptions{})
	if err != nil {
		return nil, err
	}
	shares := map[string]float64{}
	for name, n := range diff.Collections {
		if before := n.Same + n.Changed + n.Missing; before > 0 {
			shares[name] = float64(n.Changed) / float64(before)
		}
	}
	w.shares[pair] = shares
	return shares, nil
}

// here says whether a backup's files lie on this host.
func (e *Entry) here() bool { return e.Origin != Offsite }

// judge finds the verdict. A collection that people know by heart is enough; of others it takes several.
func (v *Evidence) judge(o EvidenceOptions) {
	var parts, names []string
	if len(v.Gone) > 0 {
		parts, names = append(parts, "it holds nothing of "+some(v.Gone)), append(names, v.Gone...)
	}
	for _, x := range []struct {
		shifts []Shift
		verb   string
	}{{v.Fallen, "has %d of %d documents left"}, {v.Rewritten, "had %d of %d documents changed"}} {
		for i, s := range x.shifts {
			names = append(names, s.Collection)
			if i < 2 {
				parts = append(parts, s.Collection+" "+fmt.Sprintf(x.verb, s.Now, s.Before))
			}
		}
		if more := len(x.shifts) - 2; more > 0 {
			parts = append(parts, fmt.Sprintf("so it is with %d more collections", more))
		}
	}
	if len(parts) == 0 {
		v.Why = "Its contents are like those of " + v.Against + "."
		return
	}
	key := slices.ContainsFunc(names, func(name string) bool { return slices.Contains(o.Key, name) })
	v.Doubtful = key || len(names) >= manyShifts
	v.Why = "Since " + v.Against + ", " + strings.Join(parts, "; ") + "."
}

// Weigh takes the newest candidate that is not doubtful, instead of a newer one that is, and returns the evidence against those that
// were passed over. Evidence may be of more backups than the choice has candidates: these stay out of it.
func (c *Choice) Weigh(evidence []Evidence) []Evidence {
	var over []Evidence
	at := map[string]*Candidate{}
	for i := range c.Candidates {
		if c.Candidates[i].Eligible {
			at[c.Candidates[i].Entry.ID] = &c.Candidates[i]
		}
	}
	for _, v := range evidence {
		x := at[v.ID]
		switch {
		case x == nil:
		case v.Doubtful:
			over = append(over, v)
		default:
			if len(over) > 0 {
				x.Why, c.Entry = "It is the newest whose contents are not doubtful.", x.Entry
			}
			for _, v := range over {
				at[v.ID].Why = "It may hold the damage. " + v.Why
			}
			return over
		}
	}
	return nil
}
