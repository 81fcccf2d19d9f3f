package catalog

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/battwheels/runbook/internal/backup"
)

// What may be wrong with a backup, or with the backups as a whole: codes for programs.
const (
	Damaged        = "damaged"         // its files are not what they were
	Unreadable     = "unreadable"      // something may not or cannot be read
	Misplaced      = "misplaced"       // its name or manifest speaks of something else
	Future         = "future"          // its time has not come yet
	FewCollections = "few-collections" // fewer than expected or than its neighbour has
	FewDocuments   = "few-documents"   // far fewer than its predecessor has
	Unfinished     = "unfinished"      // the script's log does not say that it finished
	Marked         = "marked"          // somebody wrote down why
	HalfWritten    = "half-written"    // a writer died and left it
	SilentRun      = "silent-run"      // a run of the script began and never said how it ended
	FailedRun      = "failed-run"      // a run of the script said that it failed
	NotRunning     = "not-running"     // the script has not run for too long
	Shrinking      = "shrinking"       // fewer documents from backup to backup
	TooOld         = "rpo"             // the newest proven backup is older than allowed
	None           = "none"            // there is no backup
	LogUnusable    = "log"             // the script's log tells nothing
	NotOffsite     = "offsite"         // the newest backups lie on this host only
)

// How much smaller than its predecessor a backup may be before it is suspect, and before the monitor mentions it.
const (
	leastCollections = 0.9
	leastDocuments   = 0.7
	leastSize        = 0.5
	mentionDocuments = 0.9
)

// clockSlack is how far a backup's time may lie ahead of this host's clock.
const clockSlack = 5 * time.Minute

// doubt is one reason not to trust a backup.
type doubt struct {
	code string
	text string
}

func (e *Entry) doubt(code string, text string, args ...any) {
	e.doubts = append(e.doubts, doubt{code, fmt.Sprintf(text, args...)})
}

func (e *Entry) doubted(code string) bool {
	return slices.ContainsFunc(e.doubts, func(d doubt) bool { return d.code == code })
}

// judge finds what makes entries suspect, in the order of their times: each is compared with the last one before it that is not
// suspect itself. entries are ordered oldest first.
func (c *Catalog) judge(entries []Entry) {
	now := c.now()
	var before *Entry
	for i := range entries {
		e := &entries[i]
		if e.broken != "" {
			e.State = Incomplete
		} else {
			if e.Time.After(now.Add(clockSlack)) {
				e.doubt(Future, "its time, %s, lies in the future: a clock or the configured time zone is wrong", stamp(e.Time))
			}
			if e.regular() && !e.accepted {
				c.compare(e, before, entries[i+1:])
			}
		}
		for _, d := range e.doubts {
			e.Suspect = append(e.Suspect, d.text)
		}
		if e.State != Incomplete && len(e.Suspect) == 0 && e.regular() {
			before = e
		}
		e.Why = e.why()
	}
}

// compare holds an entry against what the log says, what is expected, and its neighbours.
func (c *Catalog) compare(e, before *Entry, after []Entry) {
	if e.manifest == nil && e.bases == nil {
		return
	}
	finished := e.Origin == Own || e.Origin == Offsite
	if e.log.known {
		finished = c.heed(e)
	}
	switch {
	case e.Collections < c.MinCollections:
		text := fmt.Sprintf("it has %d collections where at least %d are expected", e.Collections, c.MinCollections)
		if !finished && !e.log.known {
			text += ", and no log says that its dump finished"
		}
		e.doubt(FewCollections, "%s", text)
	case before != nil && float64(e.Collections) < leastCollections*float64(before.Collections):
		e.doubt(FewCollections, "it has %d collections, %s before it had %d", e.Collections, before.ID, before.Collections)
	case before != nil && !finished:
		// A dump that was killed between two collections looks whole from inside: what it lacks is all there is to see. One that
		// was killed when it had just opened its last file leaves what a collection without documents leaves.
		lacking, emptied := less(before.bases, e.bases)
		if len(lacking) > 0 {
			e.doubt(FewCollections, "it lacks %s that %s before it had, and no log says that its dump finished", some(lacking), before.ID)
		} else if len(emptied) > 0 {
			e.doubt(FewDocuments, "%s held documents in %s before it and not one now, and no log says that its dump finished", some(emptied), before.ID)
		}
	case before == nil && !finished:
		if next := firstRegular(after); next != nil && float64(e.Collections) < leastCollections*float64(next.Collections) {
			e.doubt(FewCollections, "it has %d collections, %s after it has %d, and no log says that its dump finished", e.Collections, next.ID, next.Collections)
		}
	}
	if before == nil || e.doubted(FewCollections) {
		return
	}
	switch {
	case e.manifest != nil && before.manifest != nil:
		if float64(e.Documents) < leastDocuments*float64(before.Documents) {
			e.doubt(FewDocuments, "it holds %d documents, %s before it held %d", e.Documents, before.ID, before.Documents)
		}
	case e.Kind == backup.Foreign && before.Kind == backup.Foreign:
		if float64(e.SizeOnDisk) < leastSize*float64(before.SizeOnDisk) {
			e.doubt(FewDocuments, "it takes %s on disk, %s before it takes %s", size(e.SizeOnDisk), before.ID, size(before.SizeOnDisk))
		}
	}
}

// heed takes in what the script's log says of an entry, and returns whether it says that the dump finished.
func (c *Catalog) heed(e *Entry) bool {
	r := e.log.run
	switch {
	case r == nil:
		e.doubt(Unfinished, "the log of the backup script knows no run that made it")
	case r.failed != "":
		e.doubt(Unfinished, "the log of its run says: %s", r.failed)
	case r.complete != "" && r.complete == e.Name && r.files > e.Collections:
		e.doubt(FewCollections, "its log counted %d collection files, and there are %d now", r.files, e.Collections)
	case r.finished.IsZero():
		e.doubt(Unfinished, "the log does not say that the run that made it finished")
	default:
		return true
	}
	return false
}

func firstRegular(entries []Entry) *Entry {
	for i := range entries {
		if e := &entries[i]; e.regular() && e.broken == "" && len(e.doubts) == 0 {
			return e
		}
	}
	return nil
}

// less names the collections that one dump had and another lacks, and those that had documents and now have a file of not one byte.
func less(before, now map[string]content) (lacking, emptied []string) {
	for _, name := range slices.Sorted(maps.Keys(before)) {
		switch c, there := now[name]; {
		case !there:
			lacking = append(lacking, name)
		case c.bytes == 0 && !before[name].none:
			emptied = append(emptied, name)
		}
	}
	return lacking, emptied
}

// some names the first few of a list.
func some(list []string) string {
	const shown = 3
	if len(list) <= shown {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more collections", strings.Join(list[:shown], ", "), len(list)-shown)
}
