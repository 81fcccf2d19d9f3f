// Package catalog is all backups of one target: runbook's own and those that another tool leaves in its directories. It lists and
// explains them, checks them, chooses the one to restore, deletes what newer proven ones replace, and finds what is wrong. It
// never makes or restores a backup, and never asks a server. Activities and the commands call it.
package catalog

import (
	"path/filepath"
	"time"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/internal/offsite"
)

// State is how far a backup is known to be good. Beside it a backup may be suspect.
type State string

// The states of a backup, in the order in which trust grows.
const (
	Incomplete State = "incomplete" // not whole on disk: being written, or its writer died
	Complete   State = "complete"   // whole on disk, as far as a look at its files tells
	Verified   State = "verified"   // every file, document and count was checked
	Restored   State = "restored"   // a restore or drill loaded it and proved it by digest
)

// Own is the origin of runbook's own backups. Others have their directory as origin.
const Own = "runbook"

// Entry is one backup as the catalog sees it now.
type Entry struct {
	ID             string      `json:"id"`   // NAME of our own, offsite/NAME where only a copy is left, foreign/NAME of others, NAME.incomplete of unfinished ones
	Name           string      `json:"name"` // the directory's
	Origin         string      `json:"origin"`
	Kind           backup.Kind `json:"kind"`
	State          State       `json:"state"`
	Suspect        []string    `json:"suspect,omitempty"`        // reasons not to trust it, each a clause
	DuringIncident string      `json:"duringIncident,omitempty"` // made while this incident was open
	Time           time.Time   `json:"time,omitzero"`            // the backup's own; never a file's modification time
	Finished       time.Time   `json:"finished,omitzero"`        // until when documents may have been read; Time where unknown
	Collections    int         `json:"collections"`              // views are not counted: they have no data
	Documents      int64       `json:"documents,omitempty"`      // 0 of a foreign one that was never verified
	Bytes          int64       `json:"bytes,omitempty"`          // likewise; BSON, uncompressed
	SizeOnDisk     int64       `json:"sizeOnDisk"`
	Offsite        bool        `json:"offsite,omitempty"` // a whole copy of it is in the offsite storage
	VerifiedAt     *time.Time  `json:"verifiedAt,omitempty"`
	RestoredAt     *time.Time  `json:"restoredAt,omitempty"`
	Why            string      `json:"why"`  // one sentence for people
	Home           string      `json:"home"` // directory of state.json and manifest.json
	Data           string      `json:"data"` // directory against which the files' paths are resolved

	manifest   *backup.Manifest
	bases      map[string]content // of the collections with data, by their file names without ending
	doubts     []doubt
	broken     string // what makes it incomplete
	writing    bool   // a living process is at work on it
	unreadable bool   // not a backup at all but a place that cannot be looked into, or an archive
	archive    bool
	accepted   bool
	damaged    bool
	log        logged
	written    time.Time // when the newest of its files was written
	foreign    *config.Foreign
}

// content is what is known of a collection's documents without reading them.
type content struct {
	bytes int64 // of its file
	none  bool  // it holds no document
}

// regular says whether an entry is one of the backups that come again and again, which can be compared with each other.
func (e *Entry) regular() bool {
	return e.Kind != backup.Emergency && e.Kind != backup.Safety && e.DuringIncident == "" && !e.unreadable
}

// Manifest is what a backup says of itself; nil where it has none.
func (e Entry) Manifest() *backup.Manifest { return e.manifest }

// Proven says whether a backup may replace another: verified or better, not suspect, and not made during an incident.
func (e Entry) Proven() bool {
	return (e.State == Verified || e.State == Restored) && len(e.Suspect) == 0 && e.regular()
}

// Catalog knows where the backups of one target lie. The zero value of a field means what its comment says.
type Catalog struct {
	Target         string
	Database       string
	Root           string           // of our own backups: STORAGE/backups/TARGET
	ForeignRoot    string           // of what is known of others: STORAGE/foreign/TARGET
	Foreign        []config.Foreign // directories of other tools' dumps
	Offsite        *offsite.Bucket  // of copies; nil: there is none
	MinCollections int              // fewer are suspect; 0: no expectation

	// Now is the clock by which a backup lies in the future; nil: the system's.
	Now func() time.Time
}

// New makes the catalog of a configured target.
func New(target string, cfg *config.Config) *Catalog {
	t := cfg.Targets[target]
	return &Catalog{
		Target:         target,
		Database:       t.Database.Name,
		Root:           filepath.Join(cfg.Storage.Dir, "backups", target),
		ForeignRoot:    filepath.Join(cfg.Storage.Dir, "foreign", target),
		Foreign:        t.Foreign,
		Offsite:        bucket(cfg.Storage.Offsite.URL, cfg.Storage.Dir),
		MinCollections: t.Monitor.MinCollections,
	}
}

func (c *Catalog) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}

// at is the catalog as it is seen at that time.
func (c *Catalog) at(now time.Time) *Catalog {
	seen := *c
	seen.Now = func() time.Time { return now }
	return &seen
}
