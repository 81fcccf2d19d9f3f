package undelete

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/config"
)

// Job is what every step needs. A step takes what it works on from the folder, so that a Job can be made anew for each.
type Job struct {
	DB *mongo.Database
	// Sources are the backups that may be read, newest first. Documents are taken from the newest one that holds them.
	Sources []backup.Source
	// Rules say how documents hang together.
	Rules config.Deletions
	// Tenant is the field that names a document's organization; "" where there are none.
	Tenant string
	// Dir is a folder of this undelete's own. It is made where it is missing.
	Dir string
	// Fence is asked right before each write, and forbids it by an error; nil where nobody else may be at work.
	Fence func(context.Context) error
	// Now is the clock by which documents expire; nil is time.Now.
	Now func() time.Time
	// Parallel is how many collections are compared at a time; 0 is 4.
	Parallel int
	Progress func(backup.Progress)
}

// The lists that the steps keep in the folder.
const (
	missingFile   = "missing.jsonl"   // Find: every document that is absent
	groupsFile    = "groups.json"     // Find, Explain: all groups
	deletionsFile = "deletions.jsonl" // ReadAudit: every deletion that an audit log tells of
	explainedFile = "explained.jsonl" // Explain: the missing ones with their audit entries, and those to be had from snapshots
	lostFile      = "lost.jsonl"      // Explain: deleted since the newest backup, with no snapshot
	selectionFile = "selection.jsonl" // Select
	previewFile   = "preview.jsonl"   // Preview: each selected document and what would become of it
	relatedFile   = "related.jsonl"   // Preview: documents that changed since
	undoFile      = "undo.jsonl"      // Undelete: what it inserts, before it does
	verifiedFile  = "verified.jsonl"  // Verify: what is not as it was put back
)

// ExplainedFile is the list that Explain makes, for a step that no longer has its result at hand.
const ExplainedFile = explainedFile

// A batch of documents is as much as one command carries well.
const (
	batchDocuments = 500
	batchBytes     = 4 << 20
)

func (j Job) now() time.Time {
	if j.Now != nil {
		return j.Now()
	}
	return time.Now()
}

func (j Job) parallel() int {
	if j.Parallel > 0 {
		return j.Parallel
	}
	return 4
}

func (j Job) makeDir() error {
	if err := os.MkdirAll(j.Dir, 0o700); err != nil {
		return fmt.Errorf("make the folder of the undelete: %w", err)
	}
	return nil
}

func (j Job) fence(ctx context.Context) error {
	if j.Fence == nil {
		return nil
	}
	return j.Fence(ctx)
}

// source returns the backup of that name.
func (j Job) source(name string) (backup.Source, error) {
	i := slices.IndexFunc(j.Sources, func(s backup.Source) bool { return s.Manifest.Name == name })
	if i < 0 {
		return backup.Source{}, &BackupError{Backup: name, Why: "is not among those that were given to this step"}
	}
	return j.Sources[i], nil
}

// tenantOf returns the text of a document's organization, or "".
func (j Job) tenantOf(doc bson.Raw) string {
	if j.Tenant == "" {
		return ""
	}
	t, _ := textAt(doc, j.Tenant)
	return t
}
