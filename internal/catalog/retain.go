package catalog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/dump"
	"github.com/battwheels/runbook/internal/durable"
)

const (
	// evidenceKeep is how long emergency and safety dumps are kept at least: what they hold may exist nowhere else.
	evidenceKeep = 30 * 24 * time.Hour
	// unfinishedKeep is how long an unfinished backup waits for its writer to come back to it.
	unfinishedKeep = 24 * time.Hour
)

// RetainPolicy says what may be deleted.
type RetainPolicy struct {
	Keep   time.Duration // by the backup's own time
	Now    time.Time
	Frozen bool     // an incident is open: nothing is deleted
	Using  []string // ids that somebody works with
}

// Deleted is a backup that retention deleted.
type Deleted struct {
	ID  string `json:"id"`
	Why string `json:"why"`
}

// Kept is a backup that stays.
type Kept struct {
	ID  string `json:"id"`
	Why string `json:"why"`
}

// Retention is what was deleted and what stays, newest first.
type Retention struct {
	Deleted []Deleted `json:"deleted,omitempty"`
	Kept    []Kept    `json:"kept"`
}

// Retain deletes the backups that are older than the policy keeps and that a newer proven one replaces; those of another tool only
// where its directory is configured so. A backup of our own is replaced by one of our own only: the other tool deletes its
// own without asking us. Unfinished ones whose writer is gone go after a day. A backup is renamed before it is removed, so that
// a crash never leaves half of one under its name. What was deleted until an error came is returned with it.
func (c *Catalog) Retain(ctx context.Context, p RetainPolicy) (Retention, error) {
	if p.Keep <= 0 || p.Now.IsZero() {
		return Retention{}, errors.New("retention: Keep and Now are required")
	}
	c = c.at(p.Now)
	entries, sources, err := c.scan(ctx)
	if err != nil {
		return Retention{}, err
	}
	var out Retention
	if !p.Frozen {
		if err := c.finishDeleting(sources); err != nil {
			return out, err
		}
	}
	for i := range entries {
		e := &entries[i]
		if e.unreadable {
			continue
		}
		goes, why := c.goes(e, entries[:i], p)
		if !goes {
			out.Kept = append(out.Kept, Kept{e.ID, why})
			continue
		}
		if err := ctx.Err(); err != nil {
			return out, err
		}
		switch err := c.remove(e); {
		case errors.Is(err, durable.ErrLocked):
			out.Kept = append(out.Kept, Kept{e.ID, "It is being written now."})
			continue
		case err != nil:
			return out, fmt.Errorf("retention: delete backup %s: %w", e.ID, err)
		}
		out.Deleted = append(out.Deleted, Deleted{e.ID, why})
	}
	if p.Frozen {
		return out, nil
	}
	return out, c.forget(sources, p)
}

// goes decides on one entry; newer are those that List puts before it.
func (c *Catalog) goes(e *Entry, newer []Entry, p RetainPolicy) (bool, string) {
	old := p.Now.Sub(e.Time)
	switch {
	case p.Frozen:
		return false, "An incident is open: nothing is deleted."
	case slices.Contains(p.Using, e.ID), slices.Contains(p.Using, e.Name):
		return false, "It is in use."
	case e.Origin == Offsite:
		return false, "It is not on this host."
	case e.foreign != nil && !e.foreign.Retention:
		return false, "Another tool made it and looks after it."
	case e.Time.IsZero():
		return false, "Its time is not known; a person may delete it."
	case e.writing:
		return false, "It is being written now."
	case e.Origin == Own && strings.HasSuffix(e.ID, backup.IncompleteSuffix):
		if old < unfinishedKeep {
			return false, "It is not whole, and its writer may come back to it."
		}
		return true, "It was never finished, and its writer is gone."
	case e.Origin == Own && e.State == Incomplete:
		return false, "It lost its manifest, and its documents may be all there; a person may delete it."
	case old <= p.Keep:
		return false, fmt.Sprintf("It is %s old and is kept for %s.", age(max(old, 0)), age(p.Keep))
	case (e.Kind == backup.Emergency || e.Kind == backup.Safety) && old <= evidenceKeep:
		return false, fmt.Sprintf("It belongs to an incident and is kept for %s.", age(evidenceKeep))
	}
	for i := range newer {
		n := &newer[i]
		if n.Origin != Offsite && n.Proven() && n.Time.After(e.Time) && (n.Origin == Own || e.Origin != Own) {
			return true, fmt.Sprintf("It is %s old, and %s, which is newer and proven, replaces it.", age(old), n.ID)
		}
	}
	return false, "It is older than it need be, but no newer proven backup replaces it."
}

// remove deletes the files of an entry, and what is known of it.
func (c *Catalog) remove(e *Entry) (err error) {
	// Its writer may have come back since the list was made; once the lock is ours it cannot any more.
	if strings.HasSuffix(e.ID, backup.IncompleteSuffix) {
		held, lockErr := durable.TryLock(filepath.Join(e.Data, dump.LockName))
		if lockErr != nil {
			return lockErr
		}
		defer func() { err = errors.Join(err, held.Release()) }()
	}
	if err := removeDir(e.Data); err != nil || e.Home == e.Data {
		return err
	}
	if _, err := os.Stat(e.Home); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return removeDir(e.Home)
}

func removeDir(dir string) error {
	doomed := dir + deletingSuffix
	if err := durable.Rename(dir, doomed); err != nil {
		return err
	}
	return os.RemoveAll(doomed)
}

// finishDeleting removes what an interrupted deletion has left, in our own directories and in those that are ours to clean.
func (c *Catalog) finishDeleting(sources []*source) error {
	if err := sweep(c.Root, func(string) bool { return true }); err != nil {
		return err
	}
	for _, s := range sources {
		if err := sweep(filepath.Dir(c.foreignHome(s.index, "x")), s.name.MatchString); err != nil {
			return err
		}
		if !s.Retention {
			continue
		}
		if err := sweep(s.Dir, s.name.MatchString); err != nil {
			return err
		}
	}
	return nil
}

// sweep removes the directories whose deletion has begun, where what they were called before is ours.
func sweep(dir string, ours func(name string) bool) error {
	found, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("retention: %w", err)
	}
	for _, d := range found {
		name, doomed := strings.CutSuffix(d.Name(), deletingSuffix)
		if !d.IsDir() || !doomed || !ours(name) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, d.Name())); err != nil {
			return fmt.Errorf("retention: %w", err)
		}
	}
	return nil
}

// forget removes what is known of foreign backups that their own tool has deleted, once they would be too old anyway.
func (c *Catalog) forget(sources []*source, p RetainPolicy) error {
	for _, s := range sources {
		// Where the directory itself is away, as when a volume is not mounted, its backups may come back.
		if there, err := os.ReadDir(s.Dir); err != nil || len(there) == 0 {
			continue
		}
		parent := filepath.Dir(c.foreignHome(s.index, "x"))
		homes, err := os.ReadDir(parent)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("retention: %w", err)
		}
		for _, h := range homes {
			parts := s.name.FindStringSubmatch(h.Name())
			if parts == nil || p.Now.Sub(s.timeOf(parts)) <= p.Keep {
				continue
			}
			if _, err := os.Stat(filepath.Join(s.Dir, h.Name())); !errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err := removeDir(filepath.Join(parent, h.Name())); err != nil {
				return fmt.Errorf("retention: %w", err)
			}
		}
	}
	return nil
}
