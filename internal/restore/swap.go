package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
)

// SwapOptions say which staging takes the place of what.
type SwapOptions struct {
	DB       *mongo.Database
	Lease    Lease
	Incident string // names what is set aside
	Dir      string // the attempt's directory, as Stage and Prove left it
}

// Swapped counts what a swap, or its undoing, has moved.
type Swapped struct {
	Placed int `json:"placed"` // staged collections that took the live names; undone: that left them
	Aside  int `json:"aside"`  // live collections set aside; undone: returned
	Views  int `json:"views"`  // views made anew
	// Left names what was not touched, and why.
	Left []string `json:"left,omitempty"`
	// Vanished names live collections that somebody else dropped before they could be set aside.
	Vanished []string `json:"vanished,omitempty"`
}

// swapState is how far a swap has come.
type swapState string

const (
	swapping    swapState = "swapping"
	swapDone    swapState = "swapped"
	rollingBack swapState = "rolling back"
	rolledBack  swapState = "rolled back"
)

// swapJournal is the plan of a swap. It is on disk before the first rename, and never made anew while the swap lasts: the
// live collections that it was made from are moving.
type swapJournal struct {
	State    swapState  `json:"state"`
	Incident string     `json:"incident"`
	Database string     `json:"database"`
	Token    int64      `json:"token"`
	Backup   string     `json:"backup"`
	Mark     string     `json:"mark"` // between the parts of our names
	Entries  []entry    `json:"entries"`
	Before   []viewSpec `json:"before,omitempty"` // views that go
	After    []viewSpec `json:"after,omitempty"`  // views that come
	Left     []string   `json:"left,omitempty"`
	BeganAt  time.Time  `json:"beganAt"`
	EndedAt  time.Time  `json:"endedAt,omitzero"`
}

// old returns where a live collection is set aside.
func (j *swapJournal) old(collection string) string {
	return naming{j.Database, j.Mark}.old(j.Incident, collection)
}

func (j *swapJournal) summary() Swapped {
	s := Swapped{Views: len(j.After), Left: j.Left}
	for _, e := range j.Entries {
		if e.Stage != "" {
			s.Placed++
		}
		if e.Vanished {
			s.Vanished = append(s.Vanished, e.Name)
		} else if e.HadLive {
			s.Aside++
		}
	}
	return s
}

// swapper carries a journal out.
type swapper struct {
	o       SwapOptions
	journal swapJournal
	there   map[string]info // as the server said last, and as our own renames have changed it since
}

// Swap sets the live collections aside and puts the proven ones in their place, by renaming. Collections that the backup
// does not have are set aside too when all of it was staged. Views are dropped and made anew; time series are left alone.
// The lease is looked at before every change. Killed anywhere and run again, Swap carries on where it was.
func Swap(ctx context.Context, o SwapOptions) (Swapped, error) {
	w, err := newSwapper(ctx, o)
	if err != nil {
		return Swapped{}, err
	}
	if j := w.journal; j.State != "" && j.Token != o.Lease.Token {
		return Swapped{}, &BlockedError{"", fmt.Sprintf("%s belongs to attempt %d, which is over: roll it back, and stage anew elsewhere", o.Dir, j.Token)}
	}
	switch w.journal.State {
	case swapDone:
		return w.journal.summary(), nil
	case rollingBack:
		return Swapped{}, &BlockedError{"", "it is being rolled back: roll back to the end first"}
	case swapping:
	default:
		if err := w.plan(); err != nil {
			return Swapped{}, err
		}
		if err := w.save(); err != nil {
			return Swapped{}, err
		}
	}
	if err := w.carryOut(ctx, direction{w.journal.Before, w.journal.After, entry.forward, false}); err != nil {
		return Swapped{}, err
	}
	return w.end(swapDone)
}

// RollBack undoes a swap, finished or not: everything that was set aside returns to its name, and the views with it. What
// the swap has placed may have been written to by now, even where it was cut off: somebody may have started the application
// on what it left. So it is kept among the incident's old collections. Killed anywhere and run again, RollBack carries on
// where it was.
//
// A later attempt may undo what an earlier one has left half done, under its own lease and with that one's directory.
func RollBack(ctx context.Context, o SwapOptions) (Swapped, error) {
	w, err := newSwapper(ctx, o)
	if err != nil {
		return Swapped{}, err
	}
	j := &w.journal
	switch j.State {
	case "":
		return Swapped{}, w.nothingMoved()
	case rolledBack:
		return j.summary(), nil
	case swapping, swapDone:
		token := strconv.FormatInt(j.Token, 10)
		for i := range j.Entries {
			e := &j.Entries[i]
			if e.Stage != "" {
				e.Back = j.old(strings.Join([]string{"placed", token, e.Name}, j.Mark))
			}
			e.Spare = j.old(strings.Join([]string{"appeared", token, e.Name}, j.Mark))
		}
		j.State, j.EndedAt = rollingBack, time.Time{}
		if err := w.save(); err != nil {
			return Swapped{}, err
		}
	}
	if err := w.carryOut(ctx, direction{j.After, j.Before, entry.backward, true}); err != nil {
		return Swapped{}, err
	}
	return w.end(rolledBack)
}

// Unfinished says whether a swap was begun in an attempt's directory that was neither finished nor rolled back: the
// database is neither what it was nor what it should become.
func Unfinished(dir string) (bool, error) {
	var j swapJournal
	err := load(dir, swapFile, &j)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return j.State == swapping || j.State == rollingBack, err
}

// ofOneCollection says whether an error leaves the other collections as they should be.
func ofOneCollection(err error) bool {
	_, missing := errors.AsType[*MissingError](err)
	_, appeared := errors.AsType[*LiveReappearedError](err)
	return err == nil || missing || appeared
}

func newSwapper(ctx context.Context, o SwapOptions) (*swapper, error) {
	if err := checkIncident(o.Incident); err != nil {
		return nil, err
	}
	if err := o.Lease.Check(ctx); err != nil {
		return nil, err
	}
	w := &swapper{o: o}
	if err := load(o.Dir, swapFile, &w.journal); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if j := w.journal; j.State != "" && (j.Token > o.Lease.Token || j.Incident != o.Incident || j.Database != o.DB.Name()) {
		return nil, &BlockedError{"", fmt.Sprintf("%s holds the swap of incident %s, attempt %d in database %s", o.Dir, j.Incident, j.Token, j.Database)}
	}
	return w, w.look(ctx)
}

func (w *swapper) look(ctx context.Context) error {
	there, err := collections(ctx, w.o.DB)
	if err == nil {
		w.there = there
	}
	return err
}

func (w *swapper) save() error { return save(w.o.Dir, swapFile, w.journal) }

// fence is looked at before every change. The lease keeps other attempts off. Two runs of this one have the same lease: one
// that was taken for dead may wake up when the other has carried the swap to its end, or rolled it back. The journal
// tells.
func (w *swapper) fence(ctx context.Context) error {
	if err := w.o.Lease.Check(ctx); err != nil {
		return err
	}
	var now swapJournal
	switch err := load(w.o.Dir, swapFile, &now); {
	case errors.Is(err, fs.ErrNotExist):
		return w.save()
	case err != nil:
		return err
	case now.State != w.journal.State || !now.BeganAt.Equal(w.journal.BeganAt):
		return &BlockedError{"", fmt.Sprintf("%s says %q by now: another run of this attempt has gone on, and this one stops here", w.o.Dir, now.State)}
	}
	return nil
}

// nothingMoved makes sure that where there is no journal there was no swap: a journal that was lost leaves what was set
// aside behind.
func (w *swapper) nothingMoved() error {
	known := map[string]bool{}
	journals, err := filepath.Glob(filepath.Join(filepath.Dir(w.o.Dir), "*", swapFile))
	if err != nil {
		return err
	}
	for _, path := range journals {
		var j swapJournal
		if err := load(filepath.Dir(path), swapFile, &j); err != nil {
			return err
		}
		for _, e := range j.Entries {
			known[e.Old], known[e.Back], known[e.Spare] = true, true, true
		}
	}
	var lost []string
	for _, name := range sortedKeys(w.there) {
		if of, ok := oldIncident(name); ok && of == w.o.Incident && !known[name] {
			lost = append(lost, name)
		}
	}
	if len(lost) > 0 {
		return &BlockedError{"", fmt.Sprintf("%s was lost from %s, and this incident has set aside %s: bring that directory back, or rename these collections back by hand", swapFile, w.o.Dir, some(lost))}
	}
	return nil
}

func (w *swapper) end(s swapState) (Swapped, error) {
	w.journal.State, w.journal.EndedAt = s, time.Now().UTC()
	return w.journal.summary(), w.save()
}

// direction is the way from one state of the database to the other.
type direction struct {
	leave, come []viewSpec
	table       func(entry, seen) (move, error)
	backward    bool // in the reverse order; and what cannot be brought back does not keep the rest from it
}

// passes bounds how often the whole way is gone. A process that was killed may have sent a command that the server carries
// out only after its successor has looked: the next pass finds what it did.
const passes = 3

func (w *swapper) carryOut(ctx context.Context, d direction) error {
	var err error
	for range passes {
		err = w.pass(ctx, d)
		if !ofOneCollection(err) {
			return err
		}
		if err := w.look(ctx); err != nil {
			return err
		}
		if err == nil && w.arrived(d) {
			return w.fence(ctx)
		}
		if !rest(ctx, firstPause) {
			return errors.Join(ctx.Err(), err)
		}
	}
	if err == nil {
		err = errors.New("collections keep moving while they are swapped: find out who else renames them, and try again")
	}
	return err
}

func (w *swapper) pass(ctx context.Context, d direction) error {
	if err := w.dropViews(ctx, d.leave, d.come); err != nil {
		return err
	}
	var failed []error
	for n := range w.journal.Entries {
		i := n
		if d.backward {
			i = len(w.journal.Entries) - 1 - n
		}
		err := w.settle(ctx, i, d.table)
		if err != nil && (!d.backward || !ofOneCollection(err)) {
			return err
		}
		failed = append(failed, err)
	}
	err := w.createViews(ctx, d.come)
	if !ofOneCollection(err) {
		return err
	}
	return errors.Join(append(failed, err)...)
}

// arrived says whether everything stands where it should, as far as was seen last.
func (w *swapper) arrived(d direction) bool {
	for _, e := range w.journal.Entries {
		if m, err := d.table(e, w.see(e)); err != nil || !m.done {
			return false
		}
	}
	return !slices.ContainsFunc(d.come, func(v viewSpec) bool { return !v.same(w.there[v.Name]) })
}

// settle moves one entry until its state table says that it is done. Whatever a failed rename may have left behind, the
// next look at the server tells it; and before something is called wrong, the server is asked once more.
func (w *swapper) settle(ctx context.Context, i int, table func(entry, seen) (move, error)) error {
	var failed error
	fresh := false
	pause := firstPause
	for n := 0; n < tries; {
		m, err := table(w.journal.Entries[i], w.see(w.journal.Entries[i]))
		switch {
		case m.done:
			return nil
		case (err != nil || m.vanished) && !fresh:
			if err := w.look(ctx); err != nil {
				return err
			}
			fresh = true
			continue
		case err != nil:
			return err
		case m.vanished:
			w.journal.Entries[i].Vanished = true
			if err := w.save(); err != nil {
				return err
			}
			continue
		}
		failed = w.rename(ctx, m)
		fresh = false
		if failed == nil {
			continue
		}
		n++
		c := code(failed)
		if c != codeNamespaceExists && c != codeNamespaceNotFound && !transient(failed) {
			return failed
		}
		if !rest(ctx, pause) {
			return errors.Join(ctx.Err(), failed)
		}
		pause *= 2
		if err := w.look(ctx); err != nil {
			return err
		}
		fresh = true
	}
	return failed
}

func (w *swapper) see(e entry) seen {
	at := func(name string) place {
		i, ok := w.there[name]
		return place{ok && name != "" && !w.ownView(name, i), i.uuid}
	}
	return seen{stage: at(e.Stage), old: at(e.Old), live: at(e.Name), back: at(e.Back), spare: at(e.Spare)}
}

// ownView says whether a view stands there that the swap or its undoing has made, or is going to drop: its name is free
// as far as collections go.
func (w *swapper) ownView(name string, i info) bool {
	is := func(v viewSpec) bool { return v.Name == name && v.same(i) }
	return slices.ContainsFunc(w.journal.Before, is) || slices.ContainsFunc(w.journal.After, is)
}

// rename is the only way in which a collection enters or leaves a live name.
func (w *swapper) rename(ctx context.Context, m move) error {
	if err := w.fence(ctx); err != nil {
		return err
	}
	err := rename(ctx, w.o.DB, m.from, m.to)
	if err != nil {
		return fmt.Errorf("rename %s to %s: %w", m.from, m.to, err)
	}
	w.there[m.to] = w.there[m.from]
	delete(w.there, m.from)
	return nil
}
