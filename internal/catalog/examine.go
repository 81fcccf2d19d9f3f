package catalog

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/battwheels/runbook/internal/backup"
)

// Examine reads a backup whole, like Verify, and keeps nothing of it: no state, no manifest of another tool's backup, and no copy of
// one that is left offsite only, of which it reads the manifest alone. The source of such a one has no Dir. A damaged backup is a
// *backup.CorruptError, an unfinished or unknown one a *NoBackupError.
func (c *Catalog) Examine(ctx context.Context, id string, progress func(backup.Progress)) (Entry, backup.Source, error) {
	e, err := c.entry(ctx, id)
	if err != nil {
		return Entry{}, backup.Source{}, err
	}
	switch {
	case e.Origin == Own && e.State == Incomplete:
		return Entry{}, backup.Source{}, &NoBackupError{Target: c.Target, Want: id, Reason: clause(e.Why)}
	case e.Origin == Offsite && (e.unreadable || e.manifest == nil):
		return Entry{}, backup.Source{}, &NoBackupError{Target: c.Target, Want: id, Reason: clause(e.Why)}
	case e.Origin == Offsite:
		return e, backup.Source{Manifest: e.manifest}, nil
	}
	m, err := c.examine(ctx, &e, progress)
	if err != nil {
		return Entry{}, backup.Source{}, fmt.Errorf("check backup %s: %w", e.ID, err)
	}
	return e, backup.Source{Dir: e.Data, Manifest: m}, nil
}

func (c *Catalog) examine(ctx context.Context, e *Entry, progress func(backup.Progress)) (*backup.Manifest, error) {
	if e.Origin == Own {
		m, err := backup.ReadManifest(e.Home)
		if err != nil {
			return nil, err
		}
		return m, backup.Verify(ctx, backup.Source{Dir: e.Data, Manifest: m}, progress)
	}
	if m, ok := c.adopted(e); ok {
		return m, backup.Verify(ctx, backup.Source{Dir: e.Data, Manifest: m}, progress)
	}
	return backup.Adopt(ctx, e.Data, backup.AdoptOptions{Name: e.Name, Target: c.Target, Database: c.Database, Time: e.Time}, progress)
}

// NewestOffsite returns the newest whole copy in the bucket, by its manifest, which is read anew. ok is false where there is none. An
// error is the bucket's.
func (c *Catalog) NewestOffsite(ctx context.Context) (m *backup.Manifest, ok bool, err error) {
	if c.Offsite == nil {
		return nil, false, errors.New("no offsite storage is configured: set storage.offsite.url")
	}
	limited, cancel := context.WithTimeout(ctx, offsiteWithin)
	defer cancel()
	copies, err := c.Offsite.List(limited, c.Target)
	if err != nil {
		return nil, false, err
	}
	var newest string
	for _, cp := range copies {
		if at, _ := readName(cp.Name); cp.Whole && !at.IsZero() && cp.Name > newest {
			newest = cp.Name
		}
	}
	if newest == "" {
		return nil, false, nil
	}
	// What was read and kept before proves nothing of the bucket.
	fresh := *c.Offsite
	if fresh.Cache, err = os.MkdirTemp("", "offsite-"); err != nil {
		return nil, false, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(fresh.Cache)) }()
	m, err = fresh.Manifest(limited, c.Target, newest)
	return m, err == nil, err
}

// Known returns where a backup that was examined before can be read from, like Source, and also one that is offsite only, whose source
// has no Dir, and one of another tool of which no manifest is kept, which is walked again.
func (c *Catalog) Known(ctx context.Context, id string) (Entry, backup.Source, error) {
	e, err := c.entry(ctx, id)
	if err != nil {
		return Entry{}, backup.Source{}, err
	}
	if e.Origin == Offsite {
		return c.Examine(ctx, id, nil)
	}
	if s, err := c.Source(ctx, id); err == nil {
		return e, s, nil
	} else if e.Origin == Own {
		return Entry{}, backup.Source{}, err
	}
	return c.Examine(ctx, id, nil)
}
