package undelete

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/words"
)

// Outcome is what becomes of a document that is to be put back.
type Outcome string

// The outcomes.
const (
	Insert    Outcome = "insert"    // it is absent, and is inserted
	There     Outcome = "there"     // it stands there already, byte for byte
	Newer     Outcome = "newer"     // another document has its _id: it stays
	Recreated Outcome = "recreated" // another document of its organization has its key: it stays
	Conflict  Outcome = "conflict"  // another document has one of its unique keys: it stays
	Expired   Outcome = "expired"   // a TTL index would delete it at once
)

// Preview is what Undelete would do, and what a person should know before they let it.
type Preview struct {
	File        string       `json:"file"` // the list of documents with their outcomes
	Selection   string       `json:"selection"`
	Total       Outcomes     `json:"total"`
	Collections []Previewed  `json:"collections,omitempty"`
	Gone        []string     `json:"gone,omitempty"` // collections that are not there any more: nothing can be put back into them
	Related     Related      `json:"related"`
	Counters    []CounterNow `json:"counters,omitempty"`
	Lost        int64        `json:"lost,omitempty"` // deleted, and stand nowhere
	LostFile    string       `json:"lostFile,omitempty"`
	NewIDs      int64        `json:"newIDs,omitempty"` // come from snapshots without an _id, and get a new one
}

// Outcomes counts documents.
type Outcomes struct {
	Insert    int64 `json:"insert"`
	There     int64 `json:"there,omitempty"`
	Newer     int64 `json:"newer,omitempty"`
	Recreated int64 `json:"recreated,omitempty"`
	Conflict  int64 `json:"conflict,omitempty"`
	Expired   int64 `json:"expired,omitempty"`
}

// LeftOut says in words which documents were not inserted, and why: "2 stood there already, 1 had expired"; empty where
// all were.
func (o Outcomes) LeftOut() string {
	var parts []string
	for _, x := range []struct {
		n   int64
		why string
	}{
		{o.There, "stood there already"}, {o.Newer, "with a newer document in their place"}, {o.Recreated, "made anew"},
		{o.Conflict, "whose unique key another document holds"}, {o.Expired, "had expired"},
	} {
		if x.n > 0 {
			parts = append(parts, words.Number(x.n)+" "+x.why)
		}
	}
	return strings.Join(parts, ", ")
}

func (o *Outcomes) count(what Outcome) {
	switch what {
	case Insert:
		o.Insert++
	case There:
		o.There++
	case Newer:
		o.Newer++
	case Recreated:
		o.Recreated++
	case Conflict:
		o.Conflict++
	case Expired:
		o.Expired++
	}
}

func (o *Outcomes) plus(p Outcomes) {
	o.Insert += p.Insert
	o.There += p.There
	o.Newer += p.Newer
	o.Recreated += p.Recreated
	o.Conflict += p.Conflict
	o.Expired += p.Expired
}

// Previewed counts one collection's.
type Previewed struct {
	Collection string `json:"collection"`
	Outcomes
}

// previewed is a line of the list of outcomes.
type previewed struct {
	Collection   string          `json:"collection"`
	ID           json.RawMessage `json:"id"`
	Key          string          `json:"key,omitempty"`
	Organization string          `json:"organization,omitempty"`
	Outcome      Outcome         `json:"outcome"`
	Conflict     *conflict       `json:"conflict,omitempty"`
}

// Preview looks at what the selection of that digest would change. It writes nothing to the database.
func (j Job) Preview(ctx context.Context, selection string) (Preview, error) {
	collections, err := j.selected(selection)
	if err != nil {
		return Preview{}, err
	}
	alive, err := j.alive(ctx)
	if err != nil {
		return Preview{}, err
	}
	l, err := newList(j.Dir, previewFile)
	if err != nil {
		return Preview{}, err
	}
	defer func() { _ = l.drop() }()
	out := Preview{File: previewFile, Selection: selection}
	t := backup.NewTracker(backup.Progress{Step: "looking at what would be put back", CollectionsTotal: len(collections)}, j.Progress)
	numbers := newNumbers(j)
	for _, name := range collections {
		if !alive[name] {
			out.Gone = append(out.Gone, name)
		}
		indexes, err := j.uniqueIndexes(ctx, name)
		if err != nil {
			return Preview{}, err
		}
		one := Previewed{Collection: name}
		err = j.pick(ctx, name, func(ctx context.Context, batch []picked) error {
			t.Add(name, int64(len(batch)), 0)
			numbers.see(name, batch)
			return j.previewBatch(ctx, indexes, batch, func(p *picked, what Outcome, c *conflict) error {
				one.count(what)
				if p.NewID {
					out.NewIDs++
				}
				return l.add(previewed{name, p.ID, p.Key, p.Organization, what, c})
			})
		})
		if err != nil {
			return Preview{}, err
		}
		out.Collections = append(out.Collections, one)
		out.Total.plus(one.Outcomes)
		t.Done()
	}
	if err := l.commit(); err != nil {
		return Preview{}, err
	}
	if out.Related, err = j.related(ctx); err != nil {
		return Preview{}, err
	}
	if out.Counters, err = numbers.compare(ctx); err != nil {
		return Preview{}, err
	}
	t.Finish()
	return out, j.countLost(&out)
}

func (j Job) previewBatch(ctx context.Context, indexes []uniqueIndex, batch []picked, tell func(*picked, Outcome, *conflict) error) error {
	stand, _, err := j.standings(ctx, batch[0].Collection, batch)
	if err != nil {
		return err
	}
	taken, err := j.conflicts(ctx, batch[0].Collection, indexes, batch)
	if err != nil {
		return err
	}
	for i := range batch {
		what := j.outcomeOf(&batch[i], stand[i])
		c, conflicting := taken[i]
		if what != Insert || !conflicting {
			err = tell(&batch[i], what, nil)
		} else {
			err = tell(&batch[i], Conflict, &c)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// outcomeOf says what is to be done with a document that stands like that.
func (j Job) outcomeOf(p *picked, s standing) Outcome {
	switch {
	case s == same:
		return There
	case s == different:
		return Newer
	case s == recreated:
		return Recreated
	case !p.Expires.IsZero() && !p.Expires.After(j.now()):
		return Expired
	default:
		return Insert
	}
}

func (j Job) countLost(out *Preview) error {
	for _, err := range lines[json.RawMessage](j.Dir, lostFile) {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		out.Lost++
		out.LostFile = lostFile
	}
	return nil
}
