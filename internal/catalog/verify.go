package catalog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/battwheels/runbook/internal/backup"
)

// Verify reads a backup whole and records what it finds. One of our own must be byte for byte what its manifest says. One of
// another tool is walked to the end the first time, and a manifest of it is kept; later it must be what that says. A damaged
// backup is recorded as such and comes back as *backup.CorruptError; an unfinished or unknown one as *NoBackupError. The entry
// may be verified and suspect all the same: its counts are then too low, or its log does not say that it finished. A backup of
// which only the offsite copy is left is fetched first, and the entry returned is that of this host.
func (c *Catalog) Verify(ctx context.Context, id string, progress func(backup.Progress)) (Entry, backup.Source, error) {
	e, err := c.entry(ctx, id)
	if err != nil {
		return Entry{}, backup.Source{}, err
	}
	if e.Origin == Own && e.State == Incomplete {
		return Entry{}, backup.Source{}, &NoBackupError{Target: c.Target, Want: id, Reason: clause(e.Why)}
	}
	if e.Origin == Offsite && !e.unreadable {
		if e, err = c.fetch(ctx, &e, progress); err != nil {
			return Entry{}, backup.Source{}, err
		}
	}
	m, err := c.read(ctx, &e, progress)
	if err != nil {
		if ctx.Err() != nil || !isDamage(err) {
			return Entry{}, backup.Source{}, fmt.Errorf("verify backup %s: %w", e.ID, err)
		}
		now := c.now().UTC()
		markErr := c.Mark(ctx, e.ID, func(r *Record) {
			r.State, r.Damage, r.DamagedAt = Complete, err.Error(), &now
		})
		if errors.Is(markErr, fs.ErrNotExist) {
			markErr = nil
		}
		return Entry{}, backup.Source{}, errors.Join(fmt.Errorf("verify backup %s: %w", e.ID, err), markErr)
	}
	now := c.now().UTC()
	if err := c.Mark(ctx, e.ID, func(r *Record) {
		if r.State != Restored || r.Damage != "" {
			r.State = Verified
		}
		r.VerifiedAt, r.Damage, r.DamagedAt = &now, "", nil
	}); err != nil {
		return Entry{}, backup.Source{}, err
	}
	if e, err = c.entry(ctx, e.ID); err != nil {
		return Entry{}, backup.Source{}, err
	}
	return e, backup.Source{Dir: e.Data, Manifest: m}, nil
}

// read reads every byte of a backup and returns the manifest that it is proven against.
func (c *Catalog) read(ctx context.Context, e *Entry, progress func(backup.Progress)) (*backup.Manifest, error) {
	m, err := c.examine(ctx, e, progress)
	if err != nil {
		return nil, err
	}
	if _, ok := c.adopted(e); ok || e.Origin == Own {
		return m, nil
	}
	if err := os.MkdirAll(e.Home, 0o750); err != nil {
		return nil, fmt.Errorf("keep the manifest of %s: %w", e.ID, err)
	}
	if err := backup.WriteManifest(e.Home, m); err != nil {
		return nil, fmt.Errorf("keep the manifest of %s: %w", e.ID, err)
	}
	return m, nil
}

// Source returns where a backup can be read from. One of another tool must have been verified once: only then is there a
// manifest of it.
func (c *Catalog) Source(ctx context.Context, id string) (backup.Source, error) {
	if err := ctx.Err(); err != nil {
		return backup.Source{}, err
	}
	home, data, err := c.place(id)
	if err != nil {
		return backup.Source{}, &NoBackupError{Target: c.Target, Want: id, Reason: err.Error()}
	}
	m, err := backup.ReadManifest(home)
	switch {
	case errors.Is(err, fs.ErrNotExist) && home == data:
		return backup.Source{}, &NoBackupError{Target: c.Target, Want: id, Reason: "there is no such backup, or it was never finished"}
	case errors.Is(err, fs.ErrNotExist):
		return backup.Source{}, &NoBackupError{Target: c.Target, Want: id, Reason: "it was never verified; run: runbook backups verify " + c.Target + " " + id}
	case err != nil:
		return backup.Source{}, err
	}
	if _, err := os.Stat(filepath.Join(data, m.Database)); err != nil {
		return backup.Source{}, fmt.Errorf("read backup %s: %w", id, err)
	}
	return backup.Source{Dir: data, Manifest: m}, nil
}

// entry returns the entry of that id.
func (c *Catalog) entry(ctx context.Context, id string) (Entry, error) {
	entries, err := c.List(ctx)
	if err != nil {
		return Entry{}, err
	}
	e, ok := find(entries, id)
	if !ok {
		return Entry{}, &NoBackupError{Target: c.Target, Want: id, Reason: "there is no backup of that name"}
	}
	return *e, nil
}
