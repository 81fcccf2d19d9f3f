package dump

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/backup"
)

// errDropped says that a collection went away while it was read.
var errDropped = errors.New("dropped while it was read")

// collection dumps one collection. An error ends the whole dump; what salvaging leaves out is in the outcome.
func (r *run) collection(ctx context.Context, l listing) (outcome, error) {
	c := &backup.Collection{Name: l.name, Type: l.kind}
	d := &reading{
		run: r, listing: l, into: c,
		path:  r.file(r.o.dataPath(r.db.Name(), l)),
		index: r.file(backup.IndexPath(r.db.Name(), l.name)),
	}
	err := d.metadata(ctx)
	if err == nil && l.kind != backup.TypeView {
		c.ReadFrom = time.Now().UTC()
		err = d.documents(ctx)
		c.ReadTo = time.Now().UTC()
	}
	switch {
	case err == nil:
		return outcome{Collection: c, Unreadable: d.unreadable}, nil
	case ours(ctx, err):
		return outcome{}, err
	case errors.Is(err, errDropped):
		return outcome{Dropped: true}, nil
	case !r.o.Salvage:
		if errors.As(err, new(*UnreadableError)) {
			return outcome{}, err
		}
		return outcome{}, &UnreadableError{Collection: l.name, Buckets: l.dataName() != l.name, Err: err}
	default:
		return outcome{Unreadable: append(d.unreadable, backup.Unreadable{Collection: l.name, Error: err.Error()})}, nil
	}
}

// reading is one collection, or one range of it, on its way from the server to its file.
type reading struct {
	run        *run
	listing    listing
	into       *backup.Collection
	path       string        // of the file
	index      string        // path of the document index
	part       bool          // the file is a range's part of the collection's file
	bounds     backup.Bounds // of the range
	split      []backup.Bounds
	keep       func() error // records that the file is whole
	w          *writer
	unreadable []backup.Unreadable
	snapshot   bool   // whether the last find asked for the dump's moment
	plain      bool   // never ask for it again
	unordered  bool   // never read in the order of _id
	twice      string // the _id of a document that came twice
	accept     bool   // take it nevertheless: nothing better can be had
}

func (d *reading) leaveOut(where string, err error) {
	d.unreadable = append(d.unreadable, backup.Unreadable{Collection: d.listing.name, Range: where, Error: err.Error()})
}

// metadata reads the indexes and writes the metadata file.
func (d *reading) metadata(ctx context.Context) error {
	r, l := d.run, d.listing
	m := backup.Metadata{Collection: l.name, Type: l.kind, UUID: l.uuid}
	if l.options != nil {
		var err error
		if m.Options, err = backup.ToJSON(l.options); err != nil {
			return fmt.Errorf("options: %w", err)
		}
	}
	if l.kind != backup.TypeView {
		err := r.patiently(ctx, func() error {
			m.Indexes = nil
			return r.each(ctx, bson.D{{Key: "listIndexes", Value: l.name}, {Key: "cursor", Value: bson.D{}}}, func(spec bson.Raw) error {
				index, err := backup.NewIndex(spec)
				m.Indexes = append(m.Indexes, index)
				return err
			})
		})
		switch {
		case err == nil:
		case hasCode(err, codeNamespaceNotFound):
			return errDropped
		case ours(ctx, err) || !r.o.Salvage:
			return fmt.Errorf("list indexes: %w", err)
		default:
			m.Indexes = nil
			d.leaveOut("", fmt.Errorf("its indexes are not known: %w", err))
		}
	}
	content, err := m.Encode()
	if err != nil {
		return err
	}
	d.into.Options, d.into.Indexes = m.Options, m.Indexes
	d.into.Metadata, err = r.writeSmall(backup.MetadataPath(r.db.Name(), l.name, true), content)
	return onDisk(r.work, err)
}

// writeSmall writes one compressed file.
func (r *run) writeSmall(path string, content []byte) (backup.File, error) {
	b, err := r.packers.small(content)
	if err != nil {
		return backup.File{}, err
	}
	f, err := os.OpenFile(filepath.Join(r.work, filepath.FromSlash(path)), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return backup.File{}, err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err != nil {
		return backup.File{}, err
	}
	sum := sha256.Sum256(b)
	return backup.File{Path: path, Size: int64(len(b)), SHA256: hex.EncodeToString(sum[:])}, nil
}

// documents reads the collection in the order that the server gives, or in ranges where it proves to be large. After a
// failure that may pass it reads in the order of _id where that is possible, because only such a read can carry on where it
// broke; ranges are read so from the beginning.
func (d *reading) documents(ctx context.Context) error {
	if p := d.planned(); p != nil {
		if done, err := d.byPlan(ctx, p); done {
			return err
		}
	}
	read, order := d.natural, backup.OrderNatural
	if d.part && len(d.bounds.Except) == 0 {
		read, order = d.byID, backup.OrderID
	}
	for try := 0; ; {
		err := d.alone(ctx, 1, read)
		switch {
		case err == nil && try > 0 && !d.exists(ctx):
			return errDropped // what was read after the failure may be another collection's, or a part
		case err == nil:
			if try > 0 {
				d.run.progress.note("collection %s was read again after a failure", d.listing.name)
			}
			d.into.Order = order
			return nil
		case errors.Is(err, errLarge):
			if done, err := d.divided(ctx); done {
				return err
			}
			continue
		case errors.Is(err, errFilterIgnored) && d.part:
			return err
		case ours(ctx, err), errors.As(err, new(*UnreadableError)):
			return err
		case errors.Is(err, errLostMoment):
			continue
		case errors.Is(err, errTwice):
			d.run.progress.note("collection %s was read again: the document with _id %s came twice, as when it is deleted and written anew meanwhile",
				d.listing.name, d.twice)
			if try++; d.ordered(ctx) && order != backup.OrderID {
				read, order = d.byID, backup.OrderID
			} else if try >= d.run.tries() {
				if !d.run.o.Salvage {
					return &UnreadableError{Collection: d.listing.name, ID: d.twice, Err: errTwice}
				}
				d.accept = true
				d.leaveOut(d.twice, errTwice)
			}
			continue
		case hasCode(err, codeNamespaceNotFound), hasCode(err, codeQueryPlanKilled) && !d.exists(ctx):
			return errDropped
		case errors.Is(err, errFilterIgnored):
			d.unordered = true
			read, order = d.natural, backup.OrderNatural
			continue
		case passes(err) && order != backup.OrderID && try < d.run.tries():
			wait := d.run.patience.pause(ctx, try)
			if try++; wait == nil {
				if d.ordered(ctx) {
					read, order = d.byID, backup.OrderID
				}
				continue
			}
			err = fmt.Errorf("%w (%w)", err, wait)
		}
		if !d.run.o.Salvage || ctx.Err() != nil {
			return err
		}
		if d.divide(ctx) {
			if done, err := d.divided(ctx); done {
				return err
			}
		}
		return d.alone(ctx, int64(d.run.o.Parallel), func(ctx context.Context) error { return d.salvage(ctx, err) })
	}
}

// alone writes the file while it holds so many of the dump's cursors. A salvage holds all: a server that dies of it would take
// the other reads along, again and again.
func (d *reading) alone(ctx context.Context, cursors int64, read func(context.Context) error) error {
	if err := d.run.cursors.Acquire(ctx, cursors); err != nil {
		return err
	}
	defer d.run.cursors.Release(cursors)
	if err := d.file(ctx, read); err != nil || d.keep == nil {
		return err
	}
	return d.keep() // before the cursor goes on to the next range: a crash costs one for each
}

// file writes a new data file with what read adds to d.w. A failed one is abandoned; the next try overwrites it.
func (d *reading) file(ctx context.Context, read func(context.Context) error) error {
	r := d.run
	w, err := newWriter(ctx, r, d.listing.name, d.path, d.index, d.part)
	if err != nil {
		return err
	}
	d.w = w
	err = d.atMoment(ctx, read)
	if err != nil {
		return errors.Join(err, w.abandon())
	}
	if d.into.Data, d.into.DocumentIndex, err = w.finish(); err != nil {
		return err
	}
	if d.twice = w.twice; w.twice != "" && !d.accept {
		r.tracker.Add(d.listing.name, -w.digest.Documents, -w.digest.Bytes)
		return errTwice
	}
	d.into.Digest = w.digest
	if d.into.DocumentIndex.Size > 0 {
		d.into.DocumentIndex.Path = backup.IndexPath(r.db.Name(), d.listing.name)
	}
	for _, b := range w.bad {
		d.leaveOut(b.id, fmt.Errorf("it is not valid BSON: %w", b.err))
	}
	return nil
}

// errLostMoment says that the collection must be read again, without the snapshot.
var errLostMoment = errors.New("the snapshot cannot be read")

// errTwice says that a file has two documents of one _id, which no collection can take back.
var errTwice = errors.New("it came twice, in two versions: it is being deleted and written anew again and again, or the index on _id is damaged")

// errFilterIgnored says that a compatible server does not do what resuming needs.
var errFilterIgnored = errors.New("the server ignored a filter on _id")

// atMoment reads at the dump's moment. Where the server refuses that, the collection is to be read without.
func (d *reading) atMoment(ctx context.Context, read func(context.Context) error) error {
	err := read(ctx)
	if err == nil || !d.snapshot || !ofSnapshot(err) || ours(ctx, err) {
		return err
	}
	d.plain = true
	if lost := d.run.progress.loseMoment(d.run.work, d.listing.name, err); lost != nil {
		return onDisk(d.run.work, lost)
	}
	return errLostMoment
}
