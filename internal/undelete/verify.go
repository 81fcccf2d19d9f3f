package undelete

import (
	"context"
	"encoding/json"

	"github.com/battwheels/runbook/internal/backup"
)

// Verified is how the documents stand that were put back. While the application runs, its users may have changed or
// deleted some of them since: that is counted, and for a person to judge.
type Verified struct {
	File    string `json:"file"`              // the list of those that are not as they were put back
	Same    int64  `json:"same"`              // inserted, and there byte for byte
	Changed int64  `json:"changed,omitempty"` // inserted, and changed since
	Gone    int64  `json:"gone,omitempty"`    // inserted, and deleted since
	Expired int64  `json:"expired,omitempty"` // inserted, and deleted by a TTL index since
	Left    int64  `json:"left,omitempty"`    // not inserted, because of what stood there
	Missed  int64  `json:"missed,omitempty"`  // neither inserted nor left: Undelete was not finished
	Doubled int64  `json:"doubled,omitempty"` // their key is held by another document, too, made meanwhile
	// Strange counts documents in the undo file that were not selected. There can be none.
	Strange int64 `json:"strange,omitempty"`
	// Whole says that every selected document was inserted and stands there as it was, or was left for a reason, and
	// nothing else was inserted.
	Whole bool `json:"whole"`
}

// verified is a line of the list.
type verified struct {
	Collection   string          `json:"collection"`
	ID           json.RawMessage `json:"id"`
	Key          string          `json:"key,omitempty"`
	Organization string          `json:"organization,omitempty"`
	What         string          `json:"what"`
}

// Verify reads back every document of the selection, and compares what was inserted with what was selected.
func (j Job) Verify(ctx context.Context, selection string) (Verified, error) {
	collections, err := j.selected(selection)
	if err != nil {
		return Verified{}, err
	}
	u, err := j.readUndo()
	switch {
	case err != nil:
		return Verified{}, err
	case u.begun:
		return Verified{}, &UndoneError{}
	case u.selection != selection:
		return Verified{}, &ChangedError{Want: selection, Have: u.selection}
	}
	l, err := newList(j.Dir, verifiedFile)
	if err != nil {
		return Verified{}, err
	}
	defer func() { _ = l.drop() }()
	out := Verified{File: verifiedFile}
	t := backup.NewTracker(backup.Progress{Step: "reading back", CollectionsTotal: len(collections)}, j.Progress)
	var inserted int64
	for _, name := range collections {
		err := j.pick(ctx, name, func(ctx context.Context, batch []picked) error {
			t.Add(name, int64(len(batch)), 0)
			stand, doubled, err := j.standings(ctx, name, batch)
			if err != nil {
				return err
			}
			for i := range batch {
				p := &batch[i]
				s := spot{name, p.hash}
				if u.inserted(s) {
					inserted++
				}
				what := out.count(u, s, j.outcomeOf(p, stand[i]))
				if doubled[i] {
					out.Doubled++
					what = "its key is held by another document, too"
				}
				if what == "" {
					continue
				}
				if err := l.add(verified{name, p.ID, p.Key, p.Organization, what}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return Verified{}, err
		}
		t.Done()
	}
	t.Finish()
	for s := range u.intended {
		if u.inserted(s) {
			out.Strange++
		}
	}
	out.Strange -= inserted
	out.Whole = out.Changed+out.Gone+out.Missed+out.Doubled+out.Strange == 0
	return out, l.commit()
}

// count counts one document, and says what is remarkable about it.
func (v *Verified) count(u *undoing, s spot, now Outcome) string {
	leftAs, wasLeft := u.left[s]
	switch {
	case wasLeft:
		v.Left++
		return "left: " + string(leftAs)
	case !u.intended[s]:
		v.Missed++
		return "not put back"
	case now == There:
		v.Same++
		return ""
	case now == Newer:
		v.Changed++
		return "changed since"
	case now == Expired:
		v.Expired++
		return "expired since"
	default:
		v.Gone++
		return "deleted since"
	}
}
