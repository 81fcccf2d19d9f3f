package dump

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/durable"
)

// attemptDir holds, inside a directory that is being written, what the next attempt needs to carry on.
const (
	attemptDir   = ".attempt"
	attemptFile  = "attempt.json"
	outcomesFile = "outcomes.jsonl" // one line for each collection, as it is finished
)

// beginning is what all attempts at one dump share.
type beginning struct {
	Database    string    `json:"database"`
	StartedAt   time.Time `json:"startedAt"` // of the first attempt: the backup holds what was acknowledged before it
	ClusterTime *moment   `json:"clusterTime,omitempty"`
	Moment      bool      `json:"moment"`            // every collection so far was read at it
	Expired     bool      `json:"expired,omitempty"` // the server no longer has it
	Notes       []string  `json:"notes,omitempty"`
}

// moment is a cluster time.
type moment struct{ T, I uint32 }

// outcome is what became of one collection: it is whole on disk, or was dropped under the dump, or gave nothing.
type outcome struct {
	UUID       string              `json:"uuid,omitempty"`
	Collection *backup.Collection  `json:"collection,omitempty"`
	Dropped    bool                `json:"dropped,omitempty"`
	Unreadable []backup.Unreadable `json:"unreadable,omitempty"`
}

// attempt is what this attempt knows of itself and of its dead predecessors.
type attempt struct {
	mu       sync.Mutex
	b        beginning
	done     map[string]outcome // of predecessors, by collection
	outcomes *os.File
}

// resume takes over what a dead attempt left, or begins: with a cluster time to read at where the server has that.
func (r *run) resume(ctx context.Context, topology string, l listings) error {
	dir := filepath.Join(r.work, attemptDir)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return onDisk(r.work, err)
	}
	a := &r.progress
	a.done = map[string]outcome{}
	b, err := os.ReadFile(filepath.Join(dir, attemptFile))
	if err == nil && json.Unmarshal(b, &a.b) == nil && a.b.Database == r.db.Name() {
		r.manifest.StartedAt = a.b.StartedAt
		return onDisk(r.work, a.open(dir, os.O_RDWR))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return onDisk(r.work, err)
	}
	a.b = beginning{Database: r.db.Name(), StartedAt: r.manifest.StartedAt}
	if topology != "standalone" && topology != "unknown" && !r.o.Salvage {
		a.b.ClusterTime = r.now(ctx, l)
		a.b.Moment = a.b.ClusterTime != nil
	}
	if err := a.save(r.work); err != nil {
		return onDisk(r.work, err)
	}
	return onDisk(r.work, a.open(dir, os.O_RDWR|os.O_TRUNC))
}

// now opens a snapshot and returns its cluster time, or nil where the server has none to give.
func (r *run) now(ctx context.Context, l listings) *moment {
	i := slices.IndexFunc(l.collections, func(l listing) bool {
		return l.kind == backup.TypeCollection && l.options.Lookup("capped").Type == 0
	})
	if i < 0 {
		return nil
	}
	reply, err := r.command(ctx, bson.D{
		{Key: "find", Value: l.collections[i].name}, {Key: "limit", Value: 1}, {Key: "singleBatch", Value: true},
		{Key: "projection", Value: bson.D{{Key: "_id", Value: 1}}},
		{Key: "readConcern", Value: bson.D{{Key: "level", Value: "snapshot"}}},
	})
	if err != nil {
		return nil
	}
	t, i2, ok := reply.Lookup("cursor", "atClusterTime").TimestampOK()
	if !ok {
		return nil
	}
	return &moment{t, i2}
}

func (a *attempt) save(work string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	b, err := json.Marshal(a.b)
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(work, attemptDir, attemptFile), b, 0o600)
}

// open reads the outcomes of dead attempts, and writes on behind them. One that cannot be read, as the last of a crash, is done
// again.
func (a *attempt) open(dir string, flags int) (err error) {
	if a.outcomes, err = os.OpenFile(filepath.Join(dir, outcomesFile), os.O_CREATE|flags, 0o600); err != nil {
		return err
	}
	b, err := io.ReadAll(a.outcomes)
	if err != nil {
		return err
	}
	for line := range bytes.Lines(b) {
		var o outcome
		if json.Unmarshal(line, &o) == nil && o.Collection != nil {
			a.done[o.Collection.Name] = o
		}
	}
	if len(b) > 0 && b[len(b)-1] != '\n' {
		_, err = a.outcomes.WriteString("\n")
	}
	return err
}

// close is for the end of an attempt, whatever it was.
func (a *attempt) close() error {
	if a.outcomes == nil {
		return nil
	}
	return a.outcomes.Close()
}

// kept returns what a dead attempt finished of this collection, if it is the same collection still and its files are
// whole.
func (a *attempt) kept(r *run, l listing) (outcome, bool) {
	o, ok := a.done[l.name]
	if !ok || o.UUID != l.uuid || o.Collection.Type != l.kind || len(o.Unreadable) > 0 ||
		o.Collection.Data.Path != r.o.dataPath(r.db.Name(), l) {
		return outcome{}, false
	}
	for _, f := range o.Collection.Files() {
		if sum, size, err := hashFile(filepath.Join(r.work, f.Path), sha256.New()); err != nil || size != f.Size || sum != f.SHA256 {
			return outcome{}, false
		}
	}
	return o, true
}

func hashFile(path string, h hash.Hash) (sum string, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	size, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), size, errors.Join(err, f.Close())
}

// keep records a finished collection. Its files are hashed before they are trusted, so that neither they nor the record need be
// flushed now.
func (a *attempt) keep(l listing, o outcome) error {
	if o.Collection == nil {
		return nil
	}
	o.UUID = l.uuid
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(o); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	_, err := a.outcomes.Write(b.Bytes())
	return err
}

// size is how much of the disk dead attempts have taken: what they wrote is kept or written over.
func size(work string) int64 {
	var n int64
	_ = filepath.WalkDir(work, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if info, err := e.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil // what cannot be looked at counts nothing
	})
	return n
}

// readConcern is what finds of this dump carry: the snapshot while there is one.
func (a *attempt) readConcern() (bson.D, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.b.ClusterTime == nil || a.b.Expired {
		return nil, false
	}
	at := bson.Timestamp{T: a.b.ClusterTime.T, I: a.b.ClusterTime.I}
	return bson.D{{Key: "level", Value: "snapshot"}, {Key: "atClusterTime", Value: at}}, true
}

// loseMoment notes that a collection is read outside the snapshot, and where the snapshot is gone for good, that all
// that follow are.
func (a *attempt) loseMoment(work, collection string, err error) error {
	a.mu.Lock()
	if a.b.Expired {
		a.mu.Unlock()
		return nil
	}
	a.b.Moment = false
	a.b.Expired = hasCode(err, codeSnapshotTooOld)
	note := fmt.Sprintf("not of one moment: the snapshot could not be read in collection %s (%v)", collection, err)
	if hasCode(err, codeSnapshotTooOld) {
		note += "; raise the server parameter minSnapshotHistoryWindowInSeconds above the time that a dump takes"
	}
	if !slices.Contains(a.b.Notes, note) {
		a.b.Notes = append(a.b.Notes, note)
	}
	a.mu.Unlock()
	return a.save(work)
}

func (a *attempt) moment() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.b.Moment
}

func (a *attempt) clusterTime() string {
	return fmt.Sprintf("%d.%d", a.b.ClusterTime.T, a.b.ClusterTime.I)
}

func (a *attempt) note(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.b.Notes = append(a.b.Notes, fmt.Sprintf(format, args...))
}

func (a *attempt) notes() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.b.Notes)
}
