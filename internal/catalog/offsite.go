package catalog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/offsite"
)

// Offsite is the origin of our own backups of which only a copy elsewhere is left.
const Offsite = "offsite"

// offsitePrefix starts the id of a backup that is not on this host.
const offsitePrefix = "offsite/"

// offsiteWithin bounds the look into the bucket: at three in the morning the rest of the list must still come.
const offsiteWithin = 30 * time.Second

// remote looks into the bucket. It marks the entries of this host that have a copy there, and returns the backups that this host
// has not, so that a host that has nothing sees them all. A bucket that cannot be looked into becomes an entry that says so.
func (c *Catalog) remote(ctx context.Context, here []Entry) ([]Entry, error) {
	if c.Offsite == nil {
		return nil, nil
	}
	limited, cancel := context.WithTimeout(ctx, offsiteWithin)
	defer cancel()
	copies, err := c.Offsite.List(limited, c.Target)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err != nil {
		return []Entry{c.unreachable(err)}, nil
	}
	local := map[string]*Entry{}
	for i := range here {
		if e := &here[i]; e.Origin == Own && e.ID == e.Name {
			local[e.Name] = e
		}
	}
	var entries []Entry
	for _, cp := range copies {
		if e := local[cp.Name]; e != nil {
			e.Offsite = cp.Whole
			continue
		}
		if !cp.Whole || !plainName(cp.Name) {
			continue // one whose copying or deletion was interrupted, or that is not ours
		}
		m, err := c.Offsite.Manifest(limited, c.Target, cp.Name)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, fs.ErrNotExist):
			continue // deleted since the list was made
		case err != nil && !isDamage(err):
			return append(entries, c.unreachable(err)), nil
		}
		e := Entry{ID: offsitePrefix + cp.Name, Name: cp.Name, Origin: Offsite, State: Complete, Offsite: true, Home: filepath.Join(c.Root, cp.Name)}
		e.Time, e.Kind = readName(cp.Name)
		e.Finished = e.Time
		if err != nil {
			e.damaged = true
			e.doubt(Damaged, "%v", err)
		} else {
			c.describe(&e, m)
			for _, f := range m.Files() {
				e.SizeOnDisk += f.Size
			}
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func (c *Catalog) unreachable(err error) Entry {
	return Entry{
		ID: offsitePrefix, Name: c.Offsite.URL, Origin: Offsite, State: Incomplete, unreadable: true,
		broken: fmt.Sprintf("the offsite storage cannot be looked into (%v)", err),
	}
}

// fetch brings a backup of which only the offsite copy is left to this host, where it is one of our own again, under its name.
func (c *Catalog) fetch(ctx context.Context, e *Entry, progress func(backup.Progress)) (Entry, error) {
	if _, err := c.Offsite.Get(ctx, c.Target, e.Name, c.Root, progress); err != nil {
		return Entry{}, err
	}
	return c.entry(ctx, e.Name)
}

// Synced is what became of the offsite copies.
type Synced struct {
	Copied  []string // names of backups
	Deleted []string
}

// Sync copies the proven backups of this host that have no offsite copy, the newest first, and then deletes the copies that are
// older than keep and that a newer one replaces; keep 0 deletes none, nor does frozen. Every copy was proven when it was made, so
// any newer one replaces an older one. What was done until an error came is returned with it.
func (c *Catalog) Sync(ctx context.Context, keep time.Duration, frozen bool, progress func(backup.Progress)) (Synced, error) {
	var out Synced
	if c.Offsite == nil {
		return out, errors.New("no offsite storage is configured: set storage.offsite.url")
	}
	entries, err := c.List(ctx)
	if err != nil {
		return out, err
	}
	if e := unreachable(entries); e != nil {
		return out, errors.New(e.broken)
	}
	newer := false // a copy that is newer than the entry at hand is there
	for i := range entries {
		e := &entries[i]
		if e.Origin != Own || e.Offsite || !e.Proven() || newer && keep > 0 && c.now().Sub(e.Time) > keep {
			newer = newer || e.Offsite
			continue
		}
		newer = true
		if err := c.Offsite.Put(ctx, c.Target, backup.Source{Dir: e.Data, Manifest: e.manifest}, progress); err != nil {
			return out, err
		}
		out.Copied = append(out.Copied, e.Name)
	}
	if keep <= 0 || frozen {
		return out, nil
	}
	copies, err := c.Offsite.List(ctx, c.Target)
	if err != nil {
		return out, err
	}
	var newest string
	for _, cp := range copies {
		if at, _ := readName(cp.Name); cp.Whole && !at.IsZero() && cp.Name > newest {
			newest = cp.Name
		}
	}
	for _, cp := range copies {
		at, _ := readName(cp.Name)
		if at.IsZero() || cp.Name >= newest || c.now().Sub(at) <= keep {
			continue
		}
		if err := c.Offsite.Delete(ctx, c.Target, cp.Name); err != nil {
			return out, err
		}
		out.Deleted = append(out.Deleted, cp.Name)
	}
	return out, nil
}

// checkOffsite says when the newest proven backup of this host lies on this host only.
func (c *Catalog) checkOffsite(f *Findings, entries []Entry, now time.Time, allowed time.Duration) {
	if c.Offsite == nil {
		return
	}
	for i := range entries {
		e := &entries[i]
		if !e.Offsite {
			continue
		}
		if old := now.Sub(e.Time); allowed > 0 && old > allowed {
			f.add(NotOffsite, "the newest backup of %s that is offsite, %s, is %s old, and %s are allowed: see why the last backup was not copied",
				c.Target, e.Name, age(old), age(allowed))
		}
		return
	}
	if unreachable(entries) == nil {
		f.add(NotOffsite, "no backup of %s is offsite: if this host is lost, they all are", c.Target)
	}
}

// unreachable returns the entry that says that the bucket cannot be looked into.
func unreachable(entries []Entry) *Entry {
	for i := range entries {
		if e := &entries[i]; e.unreadable && e.Origin == Offsite {
			return e
		}
	}
	return nil
}

// bucket is the configured offsite storage, nil where there is none.
func bucket(url, storage string) *offsite.Bucket {
	if url == "" {
		return nil
	}
	return &offsite.Bucket{URL: url, Cache: filepath.Join(storage, "offsite")}
}
