package restore

import (
	"fmt"
	"strings"
	"time"
)

// LeaseHeldError says that somebody else works on the database.
type LeaseHeldError struct {
	Owner   string
	Purpose string
	Since   time.Time
}

// Error names the owner and says what to do.
func (e *LeaseHeldError) Error() string {
	return fmt.Sprintf("%s works on this database since %s (%s): wait until it is done; only when you are sure that it is dead, take the lease over", e.Owner, e.Since.UTC().Format(time.RFC3339), e.Purpose)
}

// LeaseLostError says that another attempt has taken over. This one must not touch the database any more.
type LeaseLostError struct {
	Token int64 // ours
	Now   int64 // the one in force; zero where the lease is gone
	Owner string
}

// Error names the new owner and says what to do.
func (e *LeaseLostError) Error() string {
	if e.Now == 0 {
		return fmt.Sprintf("the lease on this database (token %d) is gone: somebody removed collection %s; start a new attempt", e.Token, LeaseCollection)
	}
	if e.Owner == "" {
		return fmt.Sprintf("the lease on this database (token %d) was given back: start a new attempt", e.Token)
	}
	return fmt.Sprintf("the lease on this database (token %d) was taken over by %s (token %d): this attempt stops here; look at that one", e.Token, e.Owner, e.Now)
}

// IndexError says that the server refuses an index that the backup has.
type IndexError struct {
	Collection string
	Index      string
	Reason     string
}

// Error names collection and index and says what to do.
func (e *IndexError) Error() string {
	return fmt.Sprintf("index %q of collection %q cannot be built on this server: %s; restore to a server that supports it, or from another backup", e.Index, e.Collection, e.Reason)
}

// RefusedError says that the server does not take a document, a collection's options or a view as the backup has it.
type RefusedError struct {
	Collection string
	What       string // "document _id …", "options …", "view …"
	Code       int
	Reason     string
}

// Error names what was refused and says what to do.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("the server refuses %s of collection %q: %s (code %d); restore to a server of the kind that the backup was made on, or from another backup", e.What, e.Collection, e.Reason, e.Code)
}

// SpaceError says that the server lacks the disk space for a second copy of the data.
type SpaceError struct {
	Need int64 // bytes, estimated; zero where the server ran full while loading
	Have int64
}

// Error gives the numbers and says what to do.
func (e *SpaceError) Error() string {
	if e.Need == 0 {
		return "the database server ran out of disk space while the backup was staged; nothing live was changed: free space and try again"
	}
	return fmt.Sprintf("staging this backup needs about %d MiB on the database server, which has %d MiB free; nothing was changed: free space and try again", e.Need>>20, e.Have>>20)
}

// ProofError says that what stands in the staged copy is not what the backup holds.
type ProofError struct {
	Differences []Difference
}

// Error names the collections and says what to do.
func (e *ProofError) Error() string {
	return fmt.Sprintf("the staged copy is not what the backup holds: %s; nothing live was changed: remove the staging and try again, or take another backup", summary(e.Differences))
}

// LiveReappearedError says that a collection that was moved aside stands there again: something writes to the database.
type LiveReappearedError struct {
	Collection string
	Old        string // where the one that was moved aside is
}

// Error names the collection and says what to do.
func (e *LiveReappearedError) Error() string {
	where := ""
	if e.Old != "" {
		where = fmt.Sprintf(" (the one before lies in %q)", e.Old)
	}
	return fmt.Sprintf("collection %q appeared while the swap was under way%s: something still writes to the database; stop it, then roll back", e.Collection, where)
}

// MissingError says that a collection that a swap or its undoing needs is not there, or is not the one that was proven.
type MissingError struct {
	Collection string
	Missing    string // the staged or old collection's name
	Why        string
}

// Error names the collection and says what to do.
func (e *MissingError) Error() string {
	return fmt.Sprintf("collection %q cannot be moved: %q %s", e.Collection, e.Missing, e.Why)
}

// BlockedError says why a swap does not begin, or not go on.
type BlockedError struct {
	Collection string
	Why        string // what stands in the way, and what to do
}

// Error says what stands in the way.
func (e *BlockedError) Error() string {
	if e.Collection == "" {
		return "the swap is blocked: " + e.Why
	}
	return fmt.Sprintf("the swap is blocked: collection %q %s", e.Collection, e.Why)
}

// NotEmptyError says that a database into which a backup was to be loaded holds something.
type NotEmptyError struct {
	Database    string
	Collections []string
}

// Error names some of the collections and says what to do.
func (e *NotEmptyError) Error() string {
	return fmt.Sprintf("database %q is not empty: it has %s; name an empty database, or restore with a swap", e.Database, some(e.Collections))
}

// WriterError says that somebody else uses the database.
type WriterError struct {
	Writers     []Writer // connected clients; empty where the server does not tell
	Collections []string // that changed while nobody should have written
}

// Writer is a client that is connected to the server.
type Writer struct {
	Address   string
	AppName   string
	Namespace string // of what it does right now; empty while it is idle
	Operation string
}

// Error names the writers and says what to do.
func (e *WriterError) Error() string {
	if len(e.Writers) == 0 {
		return fmt.Sprintf("something writes to the database: %s changed while it was watched; stop it and try again", some(e.Collections))
	}
	var names []string
	for _, w := range e.Writers {
		name := w.Address
		if w.AppName != "" {
			name = fmt.Sprintf("%s (%s)", w.AppName, w.Address)
		}
		if w.Namespace != "" {
			name += fmt.Sprintf(", at work on %s", w.Namespace)
		}
		names = append(names, name)
	}
	return fmt.Sprintf("other clients are connected to the database server: %s; stop them and try again, or name those that never write to this database in policy.ignoreClients", some(names))
}

// Difference is one way in which a database is not what the backup says.
type Difference struct {
	Collection string `json:"collection"`
	What       string `json:"what"` // one sentence for people
	// Missing, Changed and Extra count documents, where they were compared one by one.
	Missing int64 `json:"missing,omitempty"`
	Changed int64 `json:"changed,omitempty"`
	Extra   int64 `json:"extra,omitempty"`
	// MissingIDs, ChangedIDs and ExtraIDs name them by their _ids, as extended JSON: at most 100 each. They may be personal
	// data: they belong into the incident's folder, not into a history.
	MissingIDs []string `json:"missingIds,omitempty"`
	ChangedIDs []string `json:"changedIds,omitempty"`
	ExtraIDs   []string `json:"extraIds,omitempty"`
}

func (d Difference) String() string { return fmt.Sprintf("%s: %s", d.Collection, d.What) }

func summary(differences []Difference) string {
	texts := make([]string, len(differences))
	for i, d := range differences {
		texts[i] = d.String()
	}
	return some(texts)
}

// some joins the first few of a list.
func some(list []string) string {
	const few = 5
	text := strings.Join(list[:min(len(list), few)], ", ")
	if more := len(list) - few; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// ChangedError says that a document changed while it was about to be overwritten or removed. It was put back.
type ChangedError struct {
	Collection string
	ID         string
}

// Error names the document and says what to do.
func (e *ChangedError) Error() string {
	return fmt.Sprintf("document _id %s of collection %q was changed by somebody else while it was about to be restored, and was put back: stop what writes to the database, then start again", e.ID, e.Collection)
}

// PartialError says that a partial restore has been carried out and is not what it should be.
type PartialError struct {
	Differences []Difference
	Undo        string // the folder of what was there before; empty where nothing was overwritten
}

// Error names the collections and says what to do.
func (e *PartialError) Error() string {
	text := fmt.Sprintf("what was restored is not what the backup holds: %s; something writes to the database: stop it, then start again", summary(e.Differences))
	if e.Undo != "" {
		text += "; what was there before is in " + e.Undo
	}
	return text
}
