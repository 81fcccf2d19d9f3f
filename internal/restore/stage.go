package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"golang.org/x/sync/errgroup"

	"github.com/battwheels/runbook/internal/backup"
)

// defaultParallel is how many collections are worked on at a time unless told otherwise.
const defaultParallel = 4

// StageOptions say what is loaded, from where, and beside which database.
type StageOptions struct {
	DB     *mongo.Database
	Source backup.Source
	Lease  Lease
	// Dir is where this attempt keeps what it has done. It is made where missing.
	Dir         string
	Collections []string // nil: all
	Parallel    int      // collections at a time; 0: four
	Progress    func(backup.Progress)
	// Indexed, where set, is told how long the indexes of each collection took to build, from several goroutines at once.
	Indexed func(time.Duration)
}

func (o StageOptions) parallel() int {
	if o.Parallel > 0 {
		return o.Parallel
	}
	return defaultParallel
}

// Staging is what stands beside the live data. It is kept in the attempt's directory.
type Staging struct {
	Token    int64  `json:"token"`
	Database string `json:"database"`
	Backup   string `json:"backup"`
	Manifest string `json:"manifest"` // the manifest's checksum
	Mark     string `json:"mark"`     // between the parts of the staged names
	// Whole says that all of the backup is staged, so that a swap also sets aside what the backup does not have.
	Whole       bool               `json:"whole"`
	Proof       *Proof             `json:"proof,omitempty"` // nil until it is proven
	Collections []StagedCollection `json:"collections"`
	Documents   int64              `json:"documents"`
	Bytes       int64              `json:"bytes"`
}

// StagedCollection is one collection or view of the backup, and where it is staged.
type StagedCollection struct {
	Name      string        `json:"name"`
	Stage     string        `json:"stage,omitempty"`
	Type      backup.Type   `json:"type"`
	Documents int64         `json:"documents"`
	Bytes     int64         `json:"bytes"`
	Digest    backup.Digest `json:"digest"`
	TTL       []string      `json:"ttl,omitempty"`     // indexes that are built after the proof
	UUID      string        `json:"uuid,omitempty"`    // of the proven copy, where the server tells
	Skipped   string        `json:"skipped,omitempty"` // why it is left alone
}

// milestone is a journal's line: a collection was loaded whole, with its indexes; or it was read back and equals the
// backup, so that from then on its documents may expire.
type milestone struct {
	Token      int64  `json:"token"`
	Manifest   string `json:"manifest"`
	Collection string `json:"collection"`
	UUID       string `json:"uuid,omitempty"`
}

// Stage loads a backup into collections beside the live ones, which it does not touch, and builds their indexes, except
// those that would make documents expire. Killed and run again under the same lease, it keeps the collections that were
// finished and starts the others over. What older attempts have staged is dropped.
//
// A file that is not what the manifest says is a *backup.CorruptError; what the server does not take is an *IndexError,
// a *RefusedError or a *SpaceError.
func Stage(ctx context.Context, o StageOptions) (Staging, error) {
	if m := o.Source.Manifest; m.Kind == backup.Undo {
		return Staging{}, fmt.Errorf("%s holds only the documents that a partial restore overwrote or removed, no whole collection: restore it in part, with the mode %s", m.Name, Overwrite)
	}
	if err := o.Lease.Check(ctx); err != nil {
		return Staging{}, err
	}
	names, err := namingFor(ctx, o.DB)
	if err != nil {
		return Staging{}, err
	}
	s, err := plan(o, names)
	if err != nil {
		return Staging{}, err
	}
	if moved, err := onTheMove(o); moved || err != nil {
		if err != nil {
			return Staging{}, err
		}
		return LoadStaging(o.Dir)
	}
	if err := os.MkdirAll(o.Dir, 0o750); err != nil {
		return Staging{}, fmt.Errorf("stage: %w", err)
	}
	if err := o.Lease.DropStale(ctx); err != nil {
		return Staging{}, err
	}
	there, err := collections(ctx, o.DB)
	if err != nil {
		return Staging{}, err
	}
	j, done, err := openJournal[milestone](o.Dir, stagedJournal)
	if err != nil {
		return Staging{}, err
	}
	l, err := newLoader(ctx, o, s, there, j)
	if err != nil {
		return Staging{}, errors.Join(err, j.close())
	}
	finished := l.finished(s, done, there)
	err = checkSpace(ctx, o.DB, s, finished)
	if err == nil {
		err = l.all(ctx, s, finished)
	}
	if err = errors.Join(err, j.close()); err != nil {
		return Staging{}, err
	}
	return s, save(o.Dir, stagingFile, s)
}

// plan decides for each collection of the backup where it is staged, or why it is not.
func plan(o StageOptions, names naming) (Staging, error) {
	m := o.Source.Manifest
	s := Staging{Token: o.Lease.Token, Database: o.DB.Name(), Backup: m.Name, Manifest: m.Checksum, Whole: o.Collections == nil, Mark: names.mark}
	for _, name := range o.Collections {
		if m.Collection(name) == nil {
			return Staging{}, fmt.Errorf("backup %s has no collection %q", m.Name, name)
		}
	}
	for i := range m.Collections {
		c := &m.Collections[i]
		if o.Collections != nil && !slices.Contains(o.Collections, c.Name) {
			continue
		}
		sc := StagedCollection{Name: c.Name, Type: c.Type, Documents: c.Digest.Documents, Bytes: c.Digest.Bytes, Digest: c.Digest}
		specs, err := specsOf(c.Indexes)
		if err != nil {
			return Staging{}, fmt.Errorf("backup %s, collection %s: %w", m.Name, c.Name, err)
		}
		for _, spec := range specs {
			if spec.ttl() {
				sc.TTL = append(sc.TTL, spec.name)
			}
		}
		switch {
		case reserved(c.Name):
			sc.Skipped = "it belongs to runbook itself"
		case system(c.Name):
			sc.Skipped = "servers do not rename system collections"
		case c.Type == backup.TypeTimeseries:
			sc.Skipped = "servers do not rename time series"
		case !names.renames(c.Name):
			return Staging{}, &RefusedError{Collection: c.Name, What: "the name", Code: codeInvalidNamespace, Reason: whyNot}
		default:
			sc.Stage = names.stage(s.Token, c.Name)
			s.Documents += sc.Documents
			s.Bytes += sc.Bytes
		}
		s.Collections = append(s.Collections, sc)
	}
	return s, nil
}

// DropStale drops what attempts with a lower token have staged. They are fenced off: a rename of theirs that is still to come
// finds nothing to put in place. A write of theirs that was on its way may still stage something anew, so whoever holds the
// lease calls this again before giving it back.
func (l Lease) DropStale(ctx context.Context) error {
	if err := l.Check(ctx); err != nil {
		return err
	}
	if _, err := dropAll(ctx, l.db, func(name string) bool {
		token, ok := stageToken(name)
		return ok && token < l.Token
	}); err != nil {
		return fmt.Errorf("drop what older attempts have staged: %w", err)
	}
	return nil
}

// Unstage drops what an attempt has staged, and nothing else.
func Unstage(ctx context.Context, db *mongo.Database, token int64) (int, error) {
	return dropAll(ctx, db, func(name string) bool {
		of, ok := stageToken(name)
		return ok && of == token
	})
}

// onTheMove says whether this attempt has begun to swap: then its collections are no longer where they were staged.
func onTheMove(o StageOptions) (bool, error) {
	var j swapJournal
	err := load(o.Dir, swapFile, &j)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return j.Token == o.Lease.Token && j.State != rolledBack, err
}

// LoadStaging reads what Stage and Prove have kept in an attempt's directory.
func LoadStaging(dir string) (Staging, error) {
	var s Staging
	err := load(dir, stagingFile, &s)
	return s, err
}

// collectionOf returns the backup's collection of a staged one.
func (o StageOptions) collectionOf(sc StagedCollection) (*backup.Collection, error) {
	c := o.Source.Manifest.Collection(sc.Name)
	if c == nil {
		return nil, fmt.Errorf("collection %q was staged from another backup than %s", sc.Name, o.Source.Manifest.Name)
	}
	return c, nil
}

// largestFirst orders the staged collections so that no large one is begun last.
func (s Staging) largestFirst() []int {
	order := make([]int, len(s.Collections))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(s.Collections[b].Bytes, s.Collections[a].Bytes) })
	return order
}

// each works on the staged collections, several at a time.
func (o StageOptions) each(ctx context.Context, s Staging, do func(context.Context, int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(o.parallel())
	for _, i := range s.largestFirst() {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return do(ctx, i)
		})
	}
	return g.Wait()
}

// checkSpace compares what is still to be loaded with the free disk of the server, where the server tells it. How much
// of it data takes on disk is taken from what the database has now.
func checkSpace(ctx context.Context, db *mongo.Database, s Staging, finished map[string]bool) error {
	var need int64
	for _, c := range s.Collections {
		if c.Skipped == "" && !finished[c.Name] {
			need += c.Bytes
		}
	}
	var d disk
	// Without the right to ask, or an answer, the server itself says when it is full.
	if err := db.RunCommand(ctx, bson.D{{Key: "dbStats", Value: 1}}).Decode(&d); err != nil {
		return ctx.Err()
	}
	return d.holds(need)
}

// disk is what dbStats says of a database and of the file system below it. Compatible servers leave some of it out.
type disk struct {
	DataSize    float64 `bson:"dataSize"`
	StorageSize float64 `bson:"storageSize"`
	IndexSize   float64 `bson:"indexSize"`
	FsUsedSize  float64 `bson:"fsUsedSize"`
	FsTotalSize float64 `bson:"fsTotalSize"`
}

func (d disk) holds(need int64) error {
	if d.FsTotalSize <= 0 {
		return nil
	}
	if estimate, free := d.estimate(need); estimate > free {
		return &SpaceError{Need: estimate, Have: free}
	}
	return nil
}

// estimate says what so many bytes of documents will take on disk, and what is free.
func (d disk) estimate(need int64) (estimate, free int64) {
	// A database with hardly anything in it says nothing about how well its data is compressed.
	const telling = 1 << 20
	ratio := 1.0
	if d.DataSize > telling {
		ratio = min((d.StorageSize+d.IndexSize)/d.DataSize, 1.5)
	}
	return int64(float64(need) * ratio), int64(d.FsTotalSize - d.FsUsedSize)
}
