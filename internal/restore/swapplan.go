package restore

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/battwheels/runbook/internal/backup"
)

// plan decides what moves where, from what stands in the database now. It changes nothing.
func (w *swapper) plan() error {
	s, err := LoadStaging(w.o.Dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && (s.Proof == nil || s.Token != w.o.Lease.Token) {
		return &BlockedError{"", "this attempt has no proven staging: stage and prove the backup first"}
	}
	if err != nil {
		return err
	}
	w.journal = swapJournal{
		State: swapping, Incident: w.o.Incident, Database: w.o.DB.Name(), Token: s.Token, Backup: s.Backup, Mark: s.Mark, BeganAt: time.Now().UTC(),
	}
	ofBackup := map[string]bool{}
	for _, sc := range s.Collections {
		ofBackup[sc.Name] = true
		if err := w.planStaged(sc); err != nil {
			return err
		}
	}
	if s.Whole {
		for _, name := range sortedKeys(w.there) {
			if !ofBackup[name] && !reserved(name) && !system(name) {
				if err := w.planLive(name); err != nil {
					return err
				}
			}
		}
	}
	for _, e := range w.journal.Entries {
		if _, taken := w.there[e.Old]; taken {
			return &BlockedError{e.Name, fmt.Sprintf("was set aside by this incident before, as %s: roll that swap back first", e.Old)}
		}
	}
	return nil
}

func (w *swapper) planStaged(sc StagedCollection) error {
	live, hadLive := w.there[sc.Name]
	if sc.Skipped != "" {
		w.journal.Left = append(w.journal.Left, fmt.Sprintf("%s (%s)", sc.Name, sc.Skipped))
		return nil
	}
	if _, ok := w.there[sc.Stage]; !ok {
		return &MissingError{sc.Name, sc.Stage, "is not there: the staging was removed; stage again"}
	}
	if hadLive && live.kind == backup.TypeTimeseries {
		return &BlockedError{sc.Name, "is a time series now, which servers do not rename: move it out of the way first"}
	}
	if sc.Type == backup.TypeView {
		after, err := newViewSpec(sc.Name, w.there[sc.Stage].options)
		if err != nil {
			return err
		}
		if hadLive && live.kind == backup.TypeView && sameOptions(live.options, w.there[sc.Stage].options) {
			return nil
		}
		w.journal.After = append(w.journal.After, after)
		if hadLive {
			return w.planLive(sc.Name)
		}
		return nil
	}
	e := entry{Name: sc.Name, Stage: sc.Stage, StageUUID: sc.UUID, Old: w.journal.old(sc.Name)}
	if hadLive && live.kind == backup.TypeView {
		if err := w.planLive(sc.Name); err != nil {
			return err
		}
	} else if hadLive {
		e.HadLive, e.LiveUUID = true, live.uuid
	}
	w.journal.Entries = append(w.journal.Entries, e)
	return nil
}

// planLive plans for something live that leaves its name to nothing, or to something of another kind.
func (w *swapper) planLive(name string) error {
	live := w.there[name]
	switch live.kind {
	case backup.TypeView:
		before, err := newViewSpec(name, live.options)
		if err != nil {
			return err
		}
		w.journal.Before = append(w.journal.Before, before)
	case backup.TypeTimeseries:
		w.journal.Left = append(w.journal.Left, name+" (servers do not rename time series)")
	default:
		if !(naming{w.journal.Database, w.journal.Mark}).renames(name) {
			w.journal.Left = append(w.journal.Left, fmt.Sprintf("%s (%s)", name, whyNot))
			return nil
		}
		w.journal.Entries = append(w.journal.Entries, entry{
			Name: name, Old: w.journal.old(name), HadLive: true, LiveUUID: live.uuid,
		})
	}
	return nil
}
