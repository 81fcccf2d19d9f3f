package catalog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/dump"
	"github.com/battwheels/runbook/internal/durable"
)

// deletingSuffix marks a backup whose deletion has begun.
const deletingSuffix = ".deleting"

// nameTime is how the names of our own backups begin.
const nameTime = "20060102T150405Z"

// own looks at our own backups. A directory that is not there means that there are none yet.
func (c *Catalog) own(ctx context.Context) ([]Entry, error) {
	dirs, err := os.ReadDir(c.Root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the backups of %s: %w", c.Target, err)
	}
	var entries []Entry
	for _, d := range dirs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		name := d.Name()
		if !d.IsDir() || !plainName(name) || strings.HasSuffix(name, deletingSuffix) {
			continue
		}
		e, err := c.ownEntry(name)
		if errors.Is(err, fs.ErrNotExist) {
			// Renamed or deleted since the directory was read.
			continue
		}
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func (c *Catalog) ownEntry(name string) (Entry, error) {
	dir := filepath.Join(c.Root, name)
	plain, unfinished := strings.CutSuffix(name, backup.IncompleteSuffix)
	e := Entry{ID: name, Name: plain, Origin: Own, State: Complete, Home: dir, Data: dir}
	e.Time, e.Kind = readName(plain)
	e.Finished = e.Time
	if unfinished {
		held, err := durable.Locked(filepath.Join(dir, dump.LockName))
		if err != nil {
			return e, err
		}
		e.writing, e.broken = held, "its writer stopped before it was whole"
		if held {
			e.broken = "it is being written now"
		}
		return e, e.measure()
	}
	m, err := backup.ReadManifest(dir)
	switch {
	case err == nil:
		c.describe(&e, m)
	case errors.Is(err, fs.ErrNotExist):
		if _, statErr := os.Stat(dir); statErr != nil {
			return e, statErr
		}
		e.broken = "it has no manifest"
	case isDamage(err):
		e.damaged = true
		e.doubt(Damaged, "%v", err)
	default:
		// A newer version wrote it, or it may not be read by us: nothing can be said of it.
		e.doubt(Unreadable, "its manifest cannot be read: %v", err)
	}
	if err := e.measure(); err != nil {
		return e, err
	}
	c.recall(&e)
	return e, nil
}

// readName takes the time and the kind out of the name of one of our own backups.
func readName(name string) (time.Time, backup.Kind) {
	stamp, rest, _ := strings.Cut(name, "-")
	at, err := time.Parse(nameTime, stamp)
	if err != nil {
		return time.Time{}, ""
	}
	kind, _, _ := strings.Cut(rest, "-")
	switch k := backup.Kind(kind); k {
	case backup.Scheduled, backup.Manual, backup.Emergency, backup.Safety:
		return at, k
	default:
		return at, ""
	}
}

// describe fills in what a manifest says, and compares the files' sizes with it.
func (c *Catalog) describe(e *Entry, m *backup.Manifest) {
	e.manifest, e.Kind = m, m.Kind
	e.Time, e.Finished = m.StartedAt, m.FinishedAt
	e.Documents, e.Bytes = m.Documents(), m.Bytes()
	e.bases = map[string]content{}
	for _, col := range m.Collections {
		if col.Type != backup.TypeView {
			e.bases[backup.FileBase(col.Name)] = content{bytes: col.Data.Size, none: col.Digest.Documents == 0}
		}
	}
	e.Collections = len(e.bases)
	switch {
	case m.Name != e.Name:
		e.doubt(Misplaced, "its manifest says that it is %s", m.Name)
	case m.Target != c.Target:
		e.doubt(Misplaced, "it is a backup of the target %s", m.Target)
	case m.Database != c.Database:
		e.doubt(Misplaced, "it is a backup of the database %s", m.Database)
	}
	if n := len(m.Unreadable); n > 0 && e.regular() {
		e.doubt(FewDocuments, "%s could not be read when it was made", plural(n, "part", "parts"))
	}
	if e.Origin == Offsite {
		return // its files are compared when it is fetched
	}
	for _, col := range m.Collections {
		for _, f := range col.Files() {
			info, err := os.Stat(filepath.Join(e.Data, filepath.FromSlash(f.Path)))
			switch {
			case errors.Is(err, fs.ErrNotExist):
				e.doubt(Damaged, "its file %s is missing", f.Path)
			case err != nil:
				e.doubt(Damaged, "its file %s cannot be read: %v", f.Path, err)
			case info.Size() != f.Size:
				e.doubt(Damaged, "its file %s has %d bytes where there were %d", f.Path, info.Size(), f.Size)
			default:
				continue
			}
			e.damaged = true
			return
		}
	}
}

// recall fills in what happened to the backup since it was made.
func (c *Catalog) recall(e *Entry) {
	r, err := readRecord(e.Home)
	if err != nil {
		e.doubt(Unreadable, "%v", err)
		return
	}
	if r.Data != "" && r.Data != e.Data {
		return
	}
	e.DuringIncident, e.VerifiedAt, e.RestoredAt, e.accepted = r.DuringIncident, r.VerifiedAt, r.RestoredAt, r.Accepted != ""
	if r.State != "" && e.manifest != nil {
		e.State = r.State
	}
	for _, reason := range r.Suspect {
		e.doubt(Marked, "%s", reason)
	}
	if r.Damage != "" {
		e.damaged = true
		e.doubt(Damaged, "%s", r.Damage)
	}
	if e.damaged {
		e.State = Complete
	}
}

// measure adds up what the entry takes on disk.
func (e *Entry) measure() error {
	e.SizeOnDisk = 0
	return filepath.WalkDir(e.Data, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return skipGone(err)
		}
		info, err := d.Info()
		if err == nil {
			e.SizeOnDisk += info.Size()
			if info.ModTime().After(e.written) {
				e.written = info.ModTime().UTC()
			}
		}
		return skipGone(err)
	})
}

// skipGone lets a walk go on past what a writer has renamed or removed meanwhile.
func skipGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// isDamage says whether a verification found the backup itself wrong, rather than being hindered.
func isDamage(err error) bool {
	if _, ok := errors.AsType[*backup.CorruptError](err); ok {
		return true
	}
	_, ok := errors.AsType[*backup.OplogError](err)
	return ok
}
