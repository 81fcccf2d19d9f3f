package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
)

// Standing is a swap that was made and not rolled back.
type Standing struct {
	Incident string
	Dir      string // the attempt's directory
	Database string
	Backup   string
	BeganAt  time.Time
	Half     bool // it was cut off, or its undoing was
	Placed   int  // collections that took a live name
	Aside    int  // collections that were set aside for them
}

// StandingSwaps lists the swaps that were not rolled back, the latest first. incidents is the directory with a folder for
// each incident of the target, in which each attempt has a directory staging-TOKEN.
func StandingSwaps(incidents string) ([]Standing, error) {
	dirs, err := filepath.Glob(filepath.Join(incidents, "*", "staging-*"))
	if err != nil {
		return nil, err
	}
	var all []Standing
	for _, dir := range dirs {
		var j swapJournal
		if err := load(dir, swapFile, &j); errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, err
		}
		if j.State == "" || j.State == rolledBack {
			continue
		}
		s := j.summary()
		all = append(all, Standing{
			Incident: j.Incident, Dir: dir, Database: j.Database, Backup: j.Backup, BeganAt: j.BeganAt,
			Half: j.State != swapDone, Placed: s.Placed, Aside: s.Aside,
		})
	}
	slices.SortFunc(all, func(a, b Standing) int { return cmp.Or(b.BeganAt.Compare(a.BeganAt), cmp.Compare(b.Dir, a.Dir)) })
	return all, nil
}

// CanRollBack says whether everything that a swap has set aside is still there, and changes nothing. Without it RollBack
// would bring back what it finds, and leave holes. A *BlockedError says what to do instead.
func CanRollBack(ctx context.Context, db *mongo.Database, s Standing) error {
	var j swapJournal
	if err := load(s.Dir, swapFile, &j); err != nil {
		return err
	}
	if j.Database != db.Name() {
		return &BlockedError{"", fmt.Sprintf("incident %s swapped collections of database %s, and this is %s", j.Incident, j.Database, db.Name())}
	}
	if j.State == rollingBack {
		return nil // some have returned to their names
	}
	there, err := collections(ctx, db)
	if err != nil {
		return err
	}
	var gone []string
	for _, e := range j.Entries {
		if !e.HadLive || e.Vanished {
			continue
		}
		_, old := there[e.Old]
		_, live := there[e.Name]
		// A swap that was cut off may not have come to it.
		if !old && !(live && s.Half) {
			gone = append(gone, e.Old)
		}
	}
	if len(gone) > 0 {
		return &BlockedError{"", fmt.Sprintf("what incident %s has set aside is gone: %s. Restore the safety dump of that incident instead", j.Incident, some(gone))}
	}
	return nil
}

// LastSwap is when collections of an incident were renamed last: by a swap, or by its undoing. What lies aside since then is
// not older. Zero where nothing was.
func LastSwap(incident string) (time.Time, error) {
	dirs, err := filepath.Glob(filepath.Join(incident, "staging-*"))
	if err != nil {
		return time.Time{}, err
	}
	var last time.Time
	for _, dir := range dirs {
		var j swapJournal
		if err := load(dir, swapFile, &j); errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return time.Time{}, err
		}
		if j.EndedAt.After(last) {
			last = j.EndedAt
		}
	}
	return last, nil
}
