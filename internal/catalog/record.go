package catalog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/durable"
)

// recordName is the file that says what happened to a backup since it was made.
const recordName = "state.json"

// foreignPrefix starts the id of a backup that another tool made.
const foreignPrefix = "foreign/"

// Record is what happened to a backup since it was made. The manifest never changes; this does.
type Record struct {
	State      State      `json:"state"`
	VerifiedAt *time.Time `json:"verifiedAt,omitempty"`
	RestoredAt *time.Time `json:"restoredAt,omitempty"`
	// Suspect holds reasons that somebody wrote down; those that follow from counts and logs are found anew each time.
	Suspect        []string   `json:"suspect,omitempty"`
	Damage         string     `json:"damage,omitempty"` // what the last verification found
	DamagedAt      *time.Time `json:"damagedAt,omitempty"`
	DuringIncident string     `json:"duringIncident,omitempty"`
	// Accepted says who declared that few collections or documents, or a log that is silent, are as they should be here.
	Accepted string `json:"accepted,omitempty"`
	// Data is the directory of the foreign backup that this record is about: another one may take its name later.
	Data string `json:"data,omitempty"`
}

// readRecord reads a backup's record. A missing one is the zero record. A broken one is an error: what it said is lost, and the
// backup must be verified again.
func readRecord(home string) (Record, error) {
	b, err := os.ReadFile(filepath.Join(home, recordName))
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, nil
	}
	if err != nil {
		return Record{}, fmt.Errorf("read what is known of a backup: %w", err)
	}
	var r Record
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return Record{}, fmt.Errorf("%s is not readable (%w): verify the backup again", filepath.Join(home, recordName), err)
	}
	switch r.State {
	case "", Complete, Verified, Restored:
		return r, nil
	default:
		return Record{}, fmt.Errorf("%s holds the state %q: verify the backup again", filepath.Join(home, recordName), r.State)
	}
}

// Mark changes what is known of a backup, durably. Calls for one backup, of several processes too, come one after the other.
func (c *Catalog) Mark(ctx context.Context, id string, change func(*Record)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	home, data, err := c.place(id)
	if err != nil {
		return err
	}
	if data != home {
		if err := os.MkdirAll(home, 0o750); err != nil {
			return fmt.Errorf("mark backup %s: %w", id, err)
		}
	} else if _, err := os.Stat(filepath.Join(home, backup.ManifestName)); err != nil {
		return fmt.Errorf("mark backup %s: %w", id, err)
	}
	dir, err := os.Open(home)
	if err != nil {
		return fmt.Errorf("mark backup %s: %w", id, err)
	}
	defer dir.Close()
	if err := lock(dir); err != nil {
		return fmt.Errorf("mark backup %s: %w", id, err)
	}
	r, err := readRecord(home)
	if err != nil || r.Data != "" && r.Data != data {
		// It says nothing that could still be believed, or speaks of another backup.
		r = Record{}
	}
	if data != home {
		r.Data = data
	}
	change(&r)
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("mark backup %s: %w", id, err)
	}
	if err := durable.WriteFile(filepath.Join(home, recordName), append(b, '\n'), 0o640); err != nil {
		return fmt.Errorf("mark backup %s: %w", id, err)
	}
	return nil
}

// lock waits until no other process holds the directory. It is held for the writing of one small file.
func lock(dir *os.File) error {
	for {
		if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// Accept records that a person finds a backup's counts, or its silent log, as they should be. Damage is never accepted.
func (c *Catalog) Accept(ctx context.Context, id, by string) error {
	return c.Mark(ctx, id, func(r *Record) { r.Accepted = by })
}

// place returns where the record and the files of a backup are, by its id alone.
func (c *Catalog) place(id string) (home, data string, err error) {
	rest, isForeign := strings.CutPrefix(id, foreignPrefix)
	if !isForeign {
		if !plainName(id) {
			return "", "", fmt.Errorf("%q is not the id of a backup", id)
		}
		home = filepath.Join(c.Root, id)
		return home, home, nil
	}
	number, name := 1, rest
	if n, after, found := strings.Cut(rest, "/"); found {
		number, err = strconv.Atoi(n)
		name = after
		if err != nil || number < 2 {
			return "", "", fmt.Errorf("%q is not the id of a backup", id)
		}
	}
	if !plainName(name) || number > len(c.Foreign) {
		return "", "", fmt.Errorf("%q is not the id of a backup", id)
	}
	return c.foreignHome(number-1, name), filepath.Join(c.Foreign[number-1].Dir, name), nil
}

func plainName(s string) bool {
	return s != "" && s != "." && s != ".." && !strings.HasPrefix(s, ".") && filepath.Base(s) == s && filepath.IsLocal(s)
}

// foreignID names a backup in the i-th configured directory.
func foreignID(i int, name string) string {
	if i == 0 {
		return foreignPrefix + name
	}
	return foreignPrefix + strconv.Itoa(i+1) + "/" + name
}

func (c *Catalog) foreignHome(i int, name string) string {
	if i == 0 {
		return filepath.Join(c.ForeignRoot, name)
	}
	return filepath.Join(c.ForeignRoot, strconv.Itoa(i+1), name)
}
