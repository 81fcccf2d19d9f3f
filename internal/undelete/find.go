package undelete

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/battwheels/runbook/internal/backup"
)

// FindOptions adjusts Find.
type FindOptions struct {
	// Volatile looks at the collections, too, whose documents come and go by themselves.
	Volatile bool
	// Collections looks at these alone; nil at all.
	Collections []string
	// Limit is how many missing documents of one collection are listed; 0 is half a million. A collection that misses
	// more is for restoring whole.
	Limit int
	// Without lists only documents that this backup does not have, by _id: those that are newer than it. Nil lists all that
	// is absent. A collection that the database does not have is then named in Gone, and its documents are neither listed
	// nor counted: it came after the backup, and lies aside whole.
	Without *backup.Source
}

// Found is what stood in a backup and is absent now.
type Found struct {
	File      string `json:"file"` // the list, in the Job's folder
	Documents int64  `json:"documents"`
	Bytes     int64  `json:"bytes"`
	Groups    Groups `json:"groups"`
	Recreated int64  `json:"recreated,omitempty"` // absent by _id, but there under the same key
	Expired   int64  `json:"expired,omitempty"`   // by a TTL index
	// Gone are collections that are not in the database any more. Their documents are counted, and need more than an insert.
	Gone []string `json:"gone,omitempty"`
	// TooMany are collections that miss more documents than are listed.
	TooMany []string `json:"tooMany,omitempty"`
	// Skipped are those that were not looked at, with the reason.
	Skipped map[string]string `json:"skipped,omitempty"`
	Backups []string          `json:"backups"` // that were compared, newest first
	At      time.Time         `json:"at"`
}

const (
	defaultLimit = 1 << 19
	// mostSeen bounds the living _ids that are remembered from one backup to the next older one, in all collections.
	mostSeen = 1 << 20
)

// Find compares the backups, each read to its proven end, with the living database. Of the database only _ids and
// declared keys are read, and only those that a backup holds.
func (j Job) Find(ctx context.Context, o FindOptions) (Found, error) {
	if len(j.Sources) == 0 {
		return Found{}, errors.New("search for what is missing: there is no backup to compare with")
	}
	if err := j.makeDir(); err != nil {
		return Found{}, err
	}
	alive, err := j.alive(ctx)
	if err != nil {
		return Found{}, err
	}
	f := &finder{Job: j, alive: alive, limit: o.Limit, without: o.Without, at: j.now().UTC(), groups: grouping{}}
	if f.limit <= 0 {
		f.limit = defaultLimit
	}
	f.found = Found{File: missingFile, Skipped: map[string]string{}, At: f.at}
	for _, s := range j.Sources {
		f.found.Backups = append(f.found.Backups, s.Manifest.Name)
	}
	names := f.names(o)
	if f.parts, err = partsDir(j.Dir); err != nil {
		return Found{}, err
	}
	defer func() { _ = os.RemoveAll(f.parts) }()
	f.tracker = backup.NewTracker(backup.Progress{Step: "searching for missing documents", CollectionsTotal: len(names)}, j.Progress)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(j.parallel())
	for i, name := range names {
		g.Go(func() error {
			if err := f.collection(gctx, name, partName(i)); err != nil {
				return fmt.Errorf("search for what is missing in %s: %w", name, err)
			}
			f.tracker.Done()
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return Found{}, err
	}
	f.tracker.Finish()
	return f.finish(len(names))
}

func partName(i int) string { return fmt.Sprintf("%05d.jsonl", i) }

// partsDir makes a folder for the parts of the list. Those of a run that was killed are removed.
func partsDir(dir string) (string, error) {
	old, err := filepath.Glob(filepath.Join(dir, ".find-*"))
	if err != nil {
		return "", err
	}
	for _, o := range old {
		if err := os.RemoveAll(o); err != nil {
			return "", fmt.Errorf("search for what is missing: %w", err)
		}
	}
	return os.MkdirTemp(dir, ".find-*")
}

// finder is one search.
type finder struct {
	Job
	alive   map[string]bool
	limit   int
	without *backup.Source
	at      time.Time
	parts   string
	tracker *backup.Tracker

	mu     sync.Mutex
	found  Found
	groups grouping
}

// names lists the collections to look at, and notes the others.
func (f *finder) names(o FindOptions) []string {
	all := map[string]bool{}
	for _, s := range f.Sources {
		for _, c := range s.Manifest.Collections {
			switch {
			case backup.Reserved(c.Name), strings.HasPrefix(c.Name, "system."), c.Type == backup.TypeView:
			case o.Collections != nil && !slices.Contains(o.Collections, c.Name):
			case !o.Volatile && slices.Contains(f.Rules.Volatile, c.Name):
				f.found.Skipped[c.Name] = "its documents come and go by themselves"
			case c.Type != backup.TypeCollection:
				f.found.Skipped[c.Name] = "it is a time series"
			case capped(&c):
				f.found.Skipped[c.Name] = "it is capped: its oldest documents leave by themselves"
			default:
				all[c.Name] = true
			}
		}
	}
	for name := range all {
		isCollection, there := f.alive[name]
		if there && !isCollection {
			f.found.Skipped[name] = "it is a view or a time series now"
		}
		if !there && f.without != nil {
			f.found.Gone = append(f.found.Gone, name)
			delete(all, name)
		}
		if f.found.Skipped[name] != "" {
			delete(all, name)
		}
	}
	return slices.Sorted(maps.Keys(all))
}

func capped(c *backup.Collection) bool {
	o, err := backup.ToBSON(c.Options)
	if err != nil {
		return false
	}
	v, _ := lookup(o, "capped")
	n, isNumber := whole(v)
	yes, _ := v.BooleanOK()
	return yes || isNumber && n != 0
}

// finish puts the parts of the list together, in the order of the collections.
func (f *finder) finish(parts int) (Found, error) {
	l, err := newList(f.Dir, missingFile)
	if err != nil {
		return Found{}, err
	}
	defer func() { _ = l.drop() }()
	for i := range parts {
		for e, err := range lines[entry](f.parts, partName(i)) {
			if errors.Is(err, os.ErrNotExist) {
				break
			}
			if err == nil {
				err = l.add(e)
			}
			if err != nil {
				return Found{}, err
			}
		}
	}
	if err := l.commit(); err != nil {
		return Found{}, err
	}
	if f.found.Groups, err = f.groups.save(f.Dir); err != nil {
		return Found{}, err
	}
	slices.Sort(f.found.Gone)
	slices.Sort(f.found.TooMany)
	return f.found, nil
}
