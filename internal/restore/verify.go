package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"golang.org/x/sync/errgroup"

	"github.com/battwheels/runbook/internal/backup"
)

// Verification is what came of comparing a database with a backup. It is a success when there are no Differences.
type Verification struct {
	Collections int              `json:"collections"` // views included
	Documents   int64            `json:"documents"`
	Indexes     int              `json:"indexes"`
	TTLExpired  int64            `json:"ttlExpired"` // missing, because their time had come
	Counts      map[string]int64 `json:"counts"`     // documents of each collection
	Skipped     []string         `json:"skipped,omitempty"`
	Differences []Difference     `json:"differences,omitempty"`
}

// VerifyInPlace compares what a swap has put in place with the backup: every document by digest, indexes and options.
// Documents may be missing only where a TTL index has let them expire. What Stage left alone is not compared.
func VerifyInPlace(ctx context.Context, o StageOptions) (Verification, error) {
	s, err := LoadStaging(o.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Verification{}, err
	}
	skipped := map[string]string{}
	for _, c := range s.Collections {
		if c.Skipped != "" {
			skipped[c.Name] = c.Skipped
		}
	}
	return verify(ctx, o, LevelDocuments, skipped)
}

// Level is how closely a verification looks at documents. Options and indexes are always compared.
type Level string

// The levels of verification, from the fastest.
const (
	LevelCounts    Level = "counts"    // as many documents; nothing is read
	LevelDigests   Level = "digests"   // each collection holds the same documents; all are read
	LevelDocuments Level = "documents" // and where not, these differ: such a collection is read twice
)

// VerifyOptions adjusts a verification.
type VerifyOptions struct {
	Level    Level  // default LevelDocuments
	Dir      string // for what is put aside while documents are compared; default the system's temporary directory
	Parallel int    // collections at a time
	Progress func(backup.Progress)
}

// VerifyDatabase compares a whole database with a backup, time series included, down to the documents that differ.
func VerifyDatabase(ctx context.Context, db *mongo.Database, s backup.Source, progress func(backup.Progress)) (Verification, error) {
	return VerifyWith(ctx, db, s, VerifyOptions{Progress: progress})
}

// VerifyWith compares a whole database with a backup, time series included.
func VerifyWith(ctx context.Context, db *mongo.Database, s backup.Source, o VerifyOptions) (Verification, error) {
	switch o.Level {
	case "", LevelCounts, LevelDigests, LevelDocuments:
	default:
		return Verification{}, fmt.Errorf("verification level %q: want %s, %s or %s", o.Level, LevelCounts, LevelDigests, LevelDocuments)
	}
	stage := StageOptions{DB: db, Source: s, Dir: o.Dir, Parallel: o.Parallel, Progress: o.Progress}
	return verify(ctx, stage, o.Level, nil)
}

func verify(ctx context.Context, o StageOptions, level Level, skipped map[string]string) (Verification, error) {
	there, err := collections(ctx, o.DB)
	if err != nil {
		return Verification{}, err
	}
	m := o.Source.Manifest
	v := Verification{Counts: map[string]int64{}}
	t := backup.NewTracker(backup.Progress{
		Step: "verifying", CollectionsTotal: len(m.Collections), DocumentsTotal: m.Documents(), BytesTotal: m.Bytes(),
	}, o.Progress)
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(o.parallel())
	for i := range m.Collections {
		c := &m.Collections[i]
		if o.Collections != nil && !slices.Contains(o.Collections, c.Name) {
			continue
		}
		if why, ok := skipped[c.Name]; ok {
			v.Skipped = append(v.Skipped, fmt.Sprintf("%s (%s)", c.Name, why))
			continue
		}
		g.Go(func() error {
			found, err := verifyCollection(gctx, o.DB, there, o.Source, c, comparison{level: level, dir: o.Dir, tracker: t})
			if err != nil {
				return err
			}
			t.Done()
			mu.Lock()
			defer mu.Unlock()
			v.Collections++
			v.Documents += found.documents
			v.Indexes += len(c.Indexes)
			v.TTLExpired += found.expired
			if c.Type != backup.TypeView {
				v.Counts[c.Name] = found.documents
			}
			v.Differences = append(v.Differences, found.wrong...)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return Verification{}, err
	}
	t.Finish()
	if o.Collections == nil {
		for _, name := range sortedKeys(there) {
			if !reserved(name) && !system(name) && m.Collection(name) == nil && there[name].kind != backup.TypeTimeseries {
				v.Differences = append(v.Differences, Difference{Collection: name, What: "it is not in the backup"})
			}
		}
	}
	slices.SortFunc(v.Differences, func(a, b Difference) int { return cmp.Compare(a.Collection, b.Collection) })
	return v, nil
}

func verifyCollection(ctx context.Context, db *mongo.Database, there map[string]info, s backup.Source, c *backup.Collection, how comparison) (compared, error) {
	at, ok := there[c.Name]
	if !ok {
		return compared{wrong: []Difference{{Collection: c.Name, What: "it is missing"}}}, nil
	}
	return compareCollection(ctx, db, c.Name, at, s, c, how)
}

// comparison says what is compared of a collection.
type comparison struct {
	withoutTTL       bool // TTL indexes may not be built yet
	withoutDocuments bool
	level            Level
	dir              string // for what is put aside; empty is the system's temporary directory
	tracker          *backup.Tracker
}

// compared is what was found in a collection.
type compared struct {
	documents int64
	expired   int64
	wrong     []Difference
}

// compareCollection compares one collection, which stands in the database under the name at, with the backup's.
func compareCollection(ctx context.Context, db *mongo.Database, at string, there info, s backup.Source, c *backup.Collection, how comparison) (compared, error) {
	var found compared
	if there.kind != c.Type {
		found.wrong = append(found.wrong, Difference{Collection: c.Name, What: fmt.Sprintf("it is a %s and should be a %s", there.kind, c.Type)})
		return found, nil
	}
	options, err := backup.ToBSON(c.Options)
	if err != nil {
		return found, fmt.Errorf("options of %s: %w", c.Name, err)
	}
	if has := orEmpty(there.options); !sameOptions(options, has) {
		found.wrong = append(found.wrong, Difference{Collection: c.Name, What: fmt.Sprintf("its options are %s and should be %s", has, options)})
	}
	if c.Type == backup.TypeView {
		return found, nil
	}
	wrong, err := checkIndexes(ctx, db, at, c, how.withoutTTL)
	if err != nil {
		return found, err
	}
	found.wrong = append(found.wrong, wrong...)
	if how.withoutDocuments {
		return found, nil
	}
	documents, err := compareContent(ctx, db, there.site(at), s, c, how)
	if err != nil {
		return found, err
	}
	found.documents, found.expired = documents.documents, documents.expired
	if documents.wrong != nil {
		found.wrong = append(found.wrong, *documents.wrong)
	}
	return found, nil
}

func checkIndexes(ctx context.Context, db *mongo.Database, at string, c *backup.Collection, withoutTTL bool) ([]Difference, error) {
	if c.Type == backup.TypeView {
		return nil, nil
	}
	want, err := specsOf(c.Indexes)
	if err != nil {
		return nil, fmt.Errorf("collection %s: %w", c.Name, err)
	}
	have, err := listIndexes(ctx, db, at)
	if err != nil {
		return nil, err
	}
	have = slices.DeleteFunc(have, func(spec bson.Raw) bool { return madeByServer(spec, c) })
	texts, err := compareIndexes(want, have, withoutTTL)
	if err != nil {
		return nil, fmt.Errorf("collection %s: %w", c.Name, err)
	}
	var wrong []Difference
	for _, text := range texts {
		wrong = append(wrong, Difference{Collection: c.Name, What: text})
	}
	return wrong, nil
}

// madeByServer says whether an index that a backup of a time series does not have is the one that servers make for each by themselves, from 6.3 on.
func madeByServer(spec bson.Raw, c *backup.Collection) bool {
	options, err := backup.ToBSON(c.Options)
	if c.Type != backup.TypeTimeseries || err != nil {
		return false
	}
	meta, _ := options.Lookup("timeseries", "metaField").StringValueOK()
	at, _ := options.Lookup("timeseries", "timeField").StringValueOK()
	name, _ := spec.Lookup("name").StringValueOK()
	return name == meta+"_1_"+at+"_1" && !slices.ContainsFunc(c.Indexes, func(i backup.Index) bool { return i.Name == name })
}

func orEmpty(doc bson.Raw) bson.Raw {
	if len(doc) == 0 {
		return bson.Raw{5, 0, 0, 0, 0}
	}
	return doc
}
