package dump

import (
	"context"
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/zeebo/xxh3"
	"golang.org/x/sync/errgroup"

	"github.com/battwheels/runbook/internal/backup"
)

// partsDir holds, inside a directory that is being written, the ranges of collections that are not whole yet: a folder
// for each collection, with the plan and, for each range, its part of the file and then its record.
const (
	partsDir = ".parts"
	planFile = "plan.json"
)

// plan is how a collection is divided. All attempts keep to it.
type plan struct {
	UUID     string         `json:"uuid,omitempty"`
	File     string         `json:"file"` // the collection's
	ReadFrom time.Time      `json:"readFrom"`
	Ranges   []backup.Range `json:"ranges"` // their bounds
}

// record is a range that is whole on disk: as a part of its own, or already in the collection's file.
type record struct {
	Range      backup.Range        `json:"range"`
	Sum        string              `json:"sum"` // XXH3 of its part of the file
	Unreadable []backup.Unreadable `json:"unreadable,omitempty"`
}

// ranged is one collection that is read in ranges, by several cursors. Each range is written to a part of its own; the parts are
// put into the collection's file in their order, as soon as all before them are there.
type ranged struct {
	*reading
	dir     string
	plan    plan
	bounds  []backup.Bounds
	records []*record
	ready   []chan struct{} // closed when the record is there

	file      *os.File
	sum       hash.Hash // of the file so far
	size      int64
	assembled int // ranges in it
}

func (d *reading) partsFolder() string {
	return filepath.Join(d.run.work, partsDir, backup.FileBase(d.listing.name))
}

// planned returns the plan of a dead attempt at the same collection.
func (d *reading) planned() *plan {
	b, err := os.ReadFile(filepath.Join(d.partsFolder(), planFile))
	if err != nil || !d.splittable() {
		return nil
	}
	p := new(plan)
	if json.Unmarshal(b, p) != nil || p.UUID != d.listing.uuid || p.File != filepath.Base(d.path) || len(p.Ranges) == 0 {
		return nil
	}
	return p
}

// inRanges reads the collection by the plan and puts its file together.
func (d *reading) inRanges(ctx context.Context, p *plan) error {
	x := &ranged{reading: d, dir: d.partsFolder(), plan: *p, sum: sha256.New()}
	var err error
	if x.bounds, err = backup.BoundsOf(p.Ranges); err != nil {
		return errFilterIgnored // a plan that cannot be read is one that cannot be followed
	}
	if err := x.open(); err != nil {
		return onDisk(d.run.work, err)
	}
	err = x.read(ctx)
	if err == nil {
		return onDisk(d.run.work, x.finish(ctx))
	}
	return errors.Join(err, onDisk(d.run.work, x.file.Close()))
}

// divided reads the collection in the ranges that were found for it.
func (d *reading) divided(ctx context.Context) (done bool, err error) {
	p, err := d.newPlan(d.split)
	if err != nil {
		return true, onDisk(d.run.work, err)
	}
	return d.byPlan(ctx, p)
}

// byPlan reads in ranges, unless the server turns out not to know ranges: then the collection is read by one cursor.
func (d *reading) byPlan(ctx context.Context, p *plan) (done bool, err error) {
	err = d.inRanges(ctx, p)
	if err == nil && !d.run.progress.moment() && !d.exists(ctx) {
		return true, errDropped
	}
	d.unordered = errors.Is(err, errFilterIgnored)
	return !d.unordered, err
}

// newPlan forgets what another plan may have left.
func (d *reading) newPlan(bounds []backup.Bounds) (*plan, error) {
	if err := os.RemoveAll(d.partsFolder()); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(d.partsFolder(), 0o750); err != nil {
		return nil, err
	}
	p := &plan{UUID: d.listing.uuid, File: filepath.Base(d.path), ReadFrom: d.into.ReadFrom}
	var err error
	if p.Ranges, err = backup.NewRanges(bounds); err != nil {
		return nil, err
	}
	return p, writeJSON(filepath.Join(d.partsFolder(), planFile), p)
}

func writeJSON(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o600)
}

func (x *ranged) part(i int) string { return filepath.Join(x.dir, fmt.Sprintf("%04d", i)) }

func (x *ranged) partIndex(i int) string { return x.part(i) + ".documents" }

// open finds out which ranges dead attempts have finished. Nothing of them was flushed, so all of it is hashed.
func (x *ranged) open() (err error) {
	n := len(x.bounds)
	x.records, x.ready = make([]*record, n), make([]chan struct{}, n)
	for i := range n {
		x.ready[i] = make(chan struct{})
		b, err := os.ReadFile(x.part(i) + ".json")
		r := new(record)
		if err == nil && json.Unmarshal(b, r) == nil && (len(r.Unreadable) == 0 || x.run.o.Salvage) {
			x.records[i] = r
		}
	}
	if x.file, err = os.OpenFile(x.path, os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return err
	}
	if err := x.begun(); err != nil {
		return errors.Join(err, x.file.Close())
	}
	for i := x.assembled; i < n; i++ {
		if r := x.records[i]; r != nil && !x.wholePart(i, r) {
			x.records[i] = nil
		}
	}
	for i, r := range x.records {
		if r != nil {
			x.run.tracker.Add(x.listing.name, r.Range.Digest.Documents, r.Range.Digest.Bytes)
			close(x.ready[i])
		}
	}
	return nil
}

// begun counts the ranges that the file holds already, and cuts off what follows them.
func (x *ranged) begun() error {
	for i, r := range x.records {
		if r == nil {
			break
		}
		state, err := x.sum.(encoding.BinaryMarshaler).MarshalBinary()
		if err != nil {
			return err
		}
		h := xxh3.New()
		n, err := io.Copy(io.MultiWriter(h, x.sum), io.NewSectionReader(x.file, x.size, r.Range.Size))
		if err != nil {
			return err
		}
		if n != r.Range.Size || hex.EncodeToString(h.Sum(nil)) != r.Sum {
			if err := x.sum.(encoding.BinaryUnmarshaler).UnmarshalBinary(state); err != nil {
				return err
			}
			break
		}
		x.size += n
		x.assembled = i + 1
	}
	if err := x.file.Truncate(x.size); err != nil {
		return err
	}
	_, err := x.file.Seek(x.size, io.SeekStart)
	return err
}

func (x *ranged) wholePart(i int, r *record) bool {
	sum, size, err := hashFile(x.part(i), xxh3.New())
	return err == nil && size == r.Range.Size && sum == r.Sum
}

// read reads what is missing while the file is put together.
func (x *ranged) read(ctx context.Context) error {
	missing := make(chan int, len(x.records))
	for i, r := range x.records {
		if r == nil {
			missing <- i
		}
	}
	close(missing)
	g, ctx := errgroup.WithContext(ctx)
	for range min(x.run.o.Parallel, len(missing)) {
		g.Go(func() error {
			for i := range missing {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				if err := x.one(ctx, i); err != nil {
					return err
				}
				close(x.ready[i])
			}
			return nil
		})
	}
	g.Go(func() error { return onDisk(x.run.work, x.assemble(ctx)) })
	return g.Wait()
}

// one reads one range and records it.
func (x *ranged) one(ctx context.Context, i int) error {
	d := &reading{
		run: x.run, listing: x.listing, into: new(backup.Collection), path: x.part(i), index: x.partIndex(i), part: true, bounds: x.bounds[i], plain: x.plain,
	}
	d.keep = func() error {
		r := &record{Range: x.plan.Ranges[i], Sum: d.into.Data.SHA256, Unreadable: d.unreadable}
		r.Range.Size, r.Range.Digest = d.into.Data.Size, d.into.Digest
		x.records[i] = r
		return onDisk(x.run.work, writeJSON(x.part(i)+".json", r))
	}
	return d.documents(ctx)
}

// assemble appends the parts in their order.
func (x *ranged) assemble(ctx context.Context) error {
	for ; x.assembled < len(x.records); x.assembled++ {
		select {
		case <-x.ready[x.assembled]:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := x.append(x.assembled); err != nil {
			return err
		}
	}
	return nil
}

func (x *ranged) append(i int) error {
	part, err := os.Open(x.part(i))
	if err != nil {
		return err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(x.file, x.sum)}, struct{ io.Reader }{part}, make([]byte, 256<<10))
	if err = errors.Join(err, part.Close()); err != nil {
		return err
	}
	if n != x.records[i].Range.Size {
		return fmt.Errorf("%s has %d bytes, of which %d were written: the file was changed", part.Name(), n, x.records[i].Range.Size)
	}
	x.size += n
	return os.Remove(x.part(i))
}

// finish ends the file and describes the collection.
func (x *ranged) finish(ctx context.Context) error {
	c := x.into
	for _, r := range x.records {
		c.Digest.Merge(r.Range.Digest)
		c.Ranges = append(c.Ranges, r.Range)
		x.unreadable = append(x.unreadable, r.Unreadable...)
	}
	if x.size == 0 {
		member, err := x.run.packers.nothing()
		if err == nil {
			_, err = io.MultiWriter(x.file, x.sum).Write(member)
		}
		if err != nil {
			return errors.Join(err, x.file.Close())
		}
		x.size = int64(len(member))
	}
	if err := x.file.Close(); err != nil {
		return err
	}
	c.ReadFrom, c.Order = x.plan.ReadFrom, backup.OrderID
	if len(x.bounds[len(x.bounds)-1].Except) > 0 {
		c.Order = backup.OrderRanges
	}
	rel, err := filepath.Rel(x.run.work, x.path)
	c.Data = backup.File{Path: filepath.ToSlash(rel), Size: x.size, SHA256: hex.EncodeToString(x.sum.Sum(nil))}
	return errors.Join(err, x.joinIndexes(ctx))
}

// joinIndexes makes the collection's document index of those of its ranges. They were never flushed: where a crash has
// taken one, the documents are read again.
func (x *ranged) joinIndexes(ctx context.Context) error {
	c := x.into
	parts := make([]string, len(x.records))
	for i := range parts {
		parts[i] = x.partIndex(i)
	}
	f, err := backup.MergeIndexes(ctx, x.index, c.Digest, parts...)
	if errors.As(err, new(*backup.CorruptError)) {
		f, err = backup.Source{Dir: x.run.work}.WriteIndex(ctx, c, x.index)
	}
	f.Path = backup.IndexPath(x.run.db.Name(), x.listing.name)
	c.DocumentIndex = f
	return err
}

// forgetParts removes what a collection that is whole needs no longer.
func (r *run) forgetParts(collection string) error {
	err := os.RemoveAll(filepath.Join(r.work, partsDir, backup.FileBase(collection)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
