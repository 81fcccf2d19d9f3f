package activities

import (
	"slices"
	"time"

	"github.com/battwheels/runbook/internal/backup"
)

// BackupRef is a backup as the history names it: its id in the catalog, and counts.
type BackupRef struct {
	ID          string    `json:"id"`
	Time        time.Time `json:"time"` // every write acknowledged before it is in the backup
	Kind        string    `json:"kind"`
	State       string    `json:"state"`
	Collections int       `json:"collections"`
	Documents   int64     `json:"documents"`
	Bytes       int64     `json:"bytes"`
	Unreadable  int       `json:"unreadable,omitempty"` // collections or ranges that a salvaging dump left out
	Moment      bool      `json:"moment,omitempty"`     // read at one cluster time
	Suspect     []string  `json:"suspect,omitempty"`
}

func refOf(m *backup.Manifest) BackupRef {
	return BackupRef{
		ID:          m.Name,
		Time:        m.StartedAt,
		Kind:        string(m.Kind),
		State:       "complete",
		Collections: len(m.Collections),
		Documents:   m.Documents(),
		Bytes:       m.Bytes(),
		Unreadable:  len(m.Unreadable),
		Moment:      m.Moment,
	}
}

// Attempt names one attempt at a restore: what fences an old one off.
type Attempt struct {
	Target   string `json:"target"`
	Incident string `json:"incident"`
	Run      string `json:"run"` // the workflow's run: the lease is its own
	Token    int64  `json:"token,omitempty"`
	Backup   string `json:"backup,omitempty"`
	// Collections are those that are restored, each of them whole; empty: all.
	Collections []string `json:"collections,omitempty"`
}

// restores says whether the attempt restores a collection.
func (a Attempt) restores(collection string) bool {
	return len(a.Collections) == 0 || slices.Contains(a.Collections, collection)
}
