package catalog

import (
	"fmt"
	"strings"
	"time"

	"github.com/battwheels/runbook/internal/backup"
)

// Choice is the backup to restore, and what was thought of every one.
type Choice struct {
	Entry      Entry       `json:"entry"`
	Candidates []Candidate `json:"candidates"` // newest first
}

// Candidate is a backup that was looked at.
type Candidate struct {
	Entry    Entry  `json:"entry"`
	Eligible bool   `json:"eligible"`
	Why      string `json:"why"`
}

// NoBackupError says that no backup can be restored, and why each one cannot.
type NoBackupError struct {
	Target     string
	Want       string // the one asked for by name
	Reason     string // why that one cannot be had
	Before     time.Time
	Candidates []Candidate
}

// Error explains the newest candidates, and says what to do.
func (e *NoBackupError) Error() string {
	const shown = 10
	var b strings.Builder
	switch {
	case e.Want != "":
		fmt.Fprintf(&b, "backup %s of %s cannot be used: %s; name another one", e.Want, e.Target, e.Reason)
	case e.Before.IsZero():
		fmt.Fprintf(&b, "no backup of %s can be chosen by itself", e.Target)
	default:
		fmt.Fprintf(&b, "no backup of %s from before %s can be chosen by itself", e.Target, stamp(e.Before))
	}
	if len(e.Candidates) == 0 && e.Want != "" {
		return b.String()
	}
	if len(e.Candidates) == 0 {
		b.WriteString(": there is none. Look for one in the configured directories, or ask whoever may hold a copy")
		return b.String()
	}
	if e.Want == "" {
		b.WriteString("; a person can name one of them")
	}
	b.WriteByte(':')
	for i, c := range e.Candidates {
		if i == shown {
			fmt.Fprintf(&b, "\n- and %d older ones", len(e.Candidates)-shown)
			break
		}
		fmt.Fprintf(&b, "\n- %s: %s", c.Entry.ID, c.Why)
	}
	return b.String()
}

// Choose returns the newest of the entries (as List orders them) that may be restored without a person's word: whole, not suspect,
// not made during an incident, not an emergency or safety dump, and finished before the given time where there is one. The
// caller verifies it, and chooses again without it when that fails. want names one instead, which then only has to be whole.
// The error is a *NoBackupError; the candidates are returned with it too.
func (c *Catalog) Choose(entries []Entry, before time.Time, want string) (Choice, error) {
	var choice Choice
	chosen := -1
	for i := range entries {
		e := &entries[i]
		reason := e.unfit(before)
		candidate := Candidate{Entry: *e, Eligible: reason == "", Why: reason}
		if reason == "" {
			candidate.Why = "It could be chosen; a newer one was."
			if chosen < 0 {
				chosen = i
				candidate.Why = "It is the newest that can be trusted."
				if !before.IsZero() {
					candidate.Why = fmt.Sprintf("It is the newest that can be trusted from before %s.", stamp(before))
				}
			}
		}
		choice.Candidates = append(choice.Candidates, candidate)
	}
	none := &NoBackupError{Target: c.Target, Want: want, Before: before, Candidates: choice.Candidates}
	if want != "" {
		e, ok := find(entries, want)
		switch {
		case !ok:
			none.Reason = "there is no backup of that name"
			return choice, none
		case e.State == Incomplete:
			none.Reason = clause(e.Why)
			return choice, none
		}
		choice.Entry = *e
		return choice, nil
	}
	if chosen < 0 {
		return choice, none
	}
	choice.Entry = entries[chosen]
	return choice, nil
}

// unfit says why an entry is not chosen by itself; empty where it may be.
func (e *Entry) unfit(before time.Time) string {
	switch {
	case e.State == Incomplete, len(e.Suspect) > 0, e.Kind == backup.Emergency, e.Kind == backup.Safety, e.DuringIncident != "":
		return e.Why
	case !before.IsZero() && !e.Finished.Before(before):
		return fmt.Sprintf("It was finished at %s, not before %s, and may hold the damage.", stamp(e.Finished), stamp(before))
	default:
		return ""
	}
}

// clause makes a part of a longer sentence of a sentence.
func clause(s string) string { return strings.TrimSuffix(strings.ToLower(s[:1])+s[1:], ".") }
