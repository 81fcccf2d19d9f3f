package catalog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/battwheels/runbook/internal/config"
)

// runLimit is how long a run of another tool's script may take before its silence is mentioned, and how late it may start.
const runLimit = 2 * time.Hour

// Findings is what a suspicious look at the backups found.
type Findings struct {
	Healthy  bool          `json:"healthy"`
	Problems []Problem     `json:"problems,omitempty"`
	Newest   Entry         `json:"newest"` // the newest proven one; zero where there is none
	Age      time.Duration `json:"age"`    // of that one
}

// Problem is one thing that is wrong, in a sentence that says what to do where that is not plain.
type Problem struct {
	Code string `json:"code"` // one of the constants
	Text string `json:"text"`
}

func (f *Findings) add(code, text string, args ...any) {
	f.Problems = append(f.Problems, Problem{code, sentence(fmt.Sprintf(text, args...))})
}

// Check looks at the backups as a suspicious person would: is the newest proven one young enough, is anything half-written,
// damaged or suspect, does the script's log tell of runs that failed or broke off without a word, do backups shrink. What lies
// further back than two periods of the RPO was told before and is not told again, except damage.
func (c *Catalog) Check(ctx context.Context, now time.Time, mon config.Monitor) (Findings, error) {
	c = c.at(now)
	c.MinCollections = mon.MinCollections
	entries, sources, err := c.scan(ctx)
	if err != nil {
		return Findings{}, err
	}
	rpo := time.Duration(mon.RPO)
	since := now.Add(-max(2*rpo, 48*time.Hour))
	var f Findings
	c.checkAge(&f, entries, now, rpo)
	c.checkOffsite(&f, entries, now, 2*rpo)
	for i := range entries {
		c.checkEntry(&f, &entries[i], since)
	}
	checkShrinking(&f, entries)
	for _, s := range sources {
		s.checkLog(&f, now, since, rpo)
	}
	f.Healthy = len(f.Problems) == 0
	return f, nil
}

func (c *Catalog) checkAge(f *Findings, entries []Entry, now time.Time, rpo time.Duration) {
	var unproven *Entry
	for i := range entries {
		e := &entries[i]
		if e.Proven() {
			f.Newest, f.Age = *e, now.Sub(e.Time)
			break
		}
		if unproven == nil && e.unfit(time.Time{}) == "" {
			unproven = e
		}
	}
	hint := "; make a backup now: runbook start Backup " + c.Target
	if unproven != nil {
		hint = fmt.Sprintf("; %s is newer but was never verified: runbook backups verify %s %s", unproven.ID, c.Target, unproven.ID)
	}
	switch {
	case len(entries) == 0:
		f.add(None, "there is no backup of %s at all%s", c.Target, hint)
	case f.Newest.ID == "":
		f.add(TooOld, "no backup of %s is proven%s", c.Target, hint)
	case rpo > 0 && f.Age > rpo:
		f.add(TooOld, "the newest proven backup, %s, is %s old, and %s are allowed%s", f.Newest.ID, age(f.Age), age(rpo), hint)
	}
}

func (c *Catalog) checkEntry(f *Findings, e *Entry, since time.Time) {
	recent := e.Time.IsZero() || e.Time.After(since)
	switch {
	case e.unreadable:
		f.add(Unreadable, "%s", e.Why)
	case e.writing:
	case e.State == Incomplete:
		if recent {
			f.add(HalfWritten, "backup %s is half-written: %s", e.ID, e.broken)
		}
	default:
		for _, d := range e.doubts {
			if recent || d.code == Damaged {
				f.add(d.code, "backup %s cannot be trusted: %s", e.ID, d.text)
			}
		}
	}
}

// checkShrinking compares the newest regular backup of which the documents are known with the one before it.
func checkShrinking(f *Findings, entries []Entry) {
	var newest *Entry
	for i := range entries {
		e := &entries[i]
		if !e.regular() || e.State == Incomplete || len(e.Suspect) > 0 || e.manifest == nil {
			continue
		}
		if newest == nil {
			newest = e
			continue
		}
		if float64(newest.Documents) < mentionDocuments*float64(e.Documents) {
			f.add(Shrinking, "backup %s holds %d documents, %s before it held %d: make sure that somebody meant to delete them",
				newest.ID, newest.Documents, e.ID, e.Documents)
		}
		return
	}
}

// checkLog reads the script's own word on its runs. Silence counts: under set -e the script ends before it can write ERROR.
func (s *source) checkLog(f *Findings, now, since time.Time, rpo time.Duration) {
	if s.Log == "" {
		return
	}
	if s.logErr != nil {
		hint := "the runs of the script cannot be watched"
		if errors.Is(s.logErr, fs.ErrPermission) {
			hint = "let the worker's user read it"
		}
		f.add(LogUnusable, "the backup script's log cannot be read (%v); %s", plainError(s.logErr), hint)
		return
	}
	if len(s.runs) == 0 {
		f.add(LogUnusable, "the log %s tells of no run of the backup script", s.Log)
		return
	}
	for i := range s.runs {
		r := &s.runs[i]
		last := i == len(s.runs)-1
		switch {
		case r.started.IsZero() || !r.started.After(since):
		case r.failed != "":
			f.add(FailedRun, "the backup script's run of %s failed: %s", stamp(r.started), r.failed)
		case r.finished.IsZero() && last && now.Sub(r.started) > runLimit:
			f.add(SilentRun, "the backup script began %s ago and has not said yet that it finished or failed: see whether it still runs, and %s", age(now.Sub(r.started)), s.Log)
		case r.finished.IsZero() && !last:
			f.add(SilentRun, "the backup script's run of %s ended without a word: it never said that it finished, nor that it failed; see %s", stamp(r.started), s.Log)
		}
	}
	newest := s.runs[len(s.runs)-1]
	if quiet := now.Sub(newest.first()); rpo > 0 && !newest.first().IsZero() && quiet > rpo+runLimit {
		f.add(NotRunning, "the backup script has not run for %s, says %s: look at its cron entry", age(quiet), s.Log)
	}
}
