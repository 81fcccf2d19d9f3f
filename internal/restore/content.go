package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/backup"
)

// read calls each with every document of a collection, as a majority has it. It starts over when the connection breaks,
// and then calls begin again.
func read(ctx context.Context, db *mongo.Database, at site, begin func(), each func(bson.Raw)) error {
	err := persist(ctx, func() error {
		begin()
		cursor, err := at.find(ctx, db)
		if err != nil {
			return err
		}
		for cursor.Next(ctx) {
			each(cursor.Current)
		}
		return errors.Join(cursor.Err(), cursor.Close(context.WithoutCancel(ctx)))
	})
	if err != nil {
		return fmt.Errorf("read collection %s: %w", at.collection, err)
	}
	return nil
}

// digest reads a collection and adds up its documents.
func digest(ctx context.Context, db *mongo.Database, at site, t *backup.Tracker) (backup.Digest, error) {
	var d, told backup.Digest
	err := read(ctx, db, at, func() { d = backup.Digest{} }, func(doc bson.Raw) {
		d.Add(doc)
		if d.Bytes-told.Bytes >= backup.MemberSize {
			t.Add(at.collection, d.Documents-told.Documents, d.Bytes-told.Bytes)
			told = d
		}
	})
	t.Add(at.collection, d.Documents-told.Documents, d.Bytes-told.Bytes)
	return d, err
}

// content is what a comparison of documents found.
type content struct {
	documents int64 // that are there
	expired   int64 // that are not there, rightly
	wrong     *Difference
}

// compareContent compares the documents at a place of the database with a
// backup's collection's: by their number, by digest, and where that differs, one by one. Where TTL rules hold, a document may be missing
// when its time has come, so that there each is looked at whatever the level; the rules of indexes do not hold as long as the
// indexes are not built.
func compareContent(ctx context.Context, db *mongo.Database, at site, s backup.Source, c *backup.Collection, how comparison) (content, error) {
	rules, err := expiriesIn(c, how.withoutTTL)
	if err != nil {
		return content{}, err
	}
	if how.level == LevelCounts {
		return compareCounts(ctx, db, at, c, len(rules) > 0)
	}
	d, err := digest(ctx, db, at, how.tracker)
	if err != nil {
		return content{}, err
	}
	found := content{documents: d.Documents}
	if d == c.Digest {
		return found, nil
	}
	found.wrong = &Difference{Collection: c.Name, What: fmt.Sprintf("%d documents (%d bytes, digest %s) instead of %d (%d bytes, digest %s)",
		d.Documents, d.Bytes, d, c.Digest.Documents, c.Digest.Bytes, c.Digest)}
	if how.level == LevelDigests && len(rules) == 0 {
		return found, nil
	}
	each, err := compareEach(ctx, db, at, s, c, rules, how.dir)
	if disk := new(fs.PathError); errors.As(err, &disk) {
		found.wrong.What += fmt.Sprintf("; which documents differ cannot be told without space to compare them: %v", disk)
		return found, nil
	}
	return each, err
}

// compareCounts compares the numbers of documents. Where some expire, there may be fewer.
func compareCounts(ctx context.Context, db *mongo.Database, at site, c *backup.Collection, expire bool) (content, error) {
	var found content
	err := persist(ctx, func() (err error) {
		found.documents, err = at.count(ctx, db)
		return err
	})
	if err != nil {
		return content{}, fmt.Errorf("count the documents of %s: %w", at.collection, err)
	}
	switch missing := c.Digest.Documents - found.documents; {
	case missing == 0:
	case missing > 0 && expire:
		found.expired = missing
	default:
		found.wrong = &Difference{Collection: c.Name, What: fmt.Sprintf("%d documents instead of %d", found.documents, c.Digest.Documents)}
	}
	return found, nil
}

// mostNamed bounds the documents of each kind that a Difference names.
const mostNamed = 100

// compareEach finds which documents differ: it reads the collection once, writes a document index of what is there, and
// merges that with the backup's, which is made of its documents where it has none. Both lie in dir while they are too large
// for the memory.
func compareEach(ctx context.Context, db *mongo.Database, at site, s backup.Source, c *backup.Collection, rules []expiry, dir string) (found content, err error) {
	if dir != "" {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return content{}, err
		}
	}
	if dir, err = os.MkdirTemp(dir, "compare-"); err != nil {
		return content{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	there := filepath.Join(dir, "there")
	if found.documents, err = indexOf(ctx, db, at, there); err != nil {
		return content{}, err
	}
	want := s.IndexFile(c)
	if want == "" {
		want = filepath.Join(dir, "backup")
		if _, err := s.WriteIndex(ctx, c, want); err != nil {
			return content{}, err
		}
	}
	m := merging{Difference: Difference{Collection: c.Name}, of: c}
	if len(rules) > 0 {
		expired := filepath.Join(dir, "expired")
		if err := indexExpired(ctx, db, s, c, rules, expired); err != nil {
			return content{}, err
		}
		if m.expired, err = backup.OpenIndex(expired); err != nil {
			return content{}, err
		}
		defer func() { err = errors.Join(err, m.expired.Close()) }()
	}
	if err := m.merge(ctx, want, there); err != nil {
		return content{}, err
	}
	found.expired = m.gone
	if m.Missing+m.Changed+m.Extra > 0 {
		m.What = fmt.Sprintf("%d documents missing, %d changed, %d too many", m.Missing, m.Changed, m.Extra)
		found.wrong = &m.Difference
	}
	return found, nil
}

// merging is the merge of a backup's index with that of a collection.
type merging struct {
	Difference
	expired *backup.IndexReader // of the backup's documents that may be gone; nil where none ever is
	gone    int64               // of these
	of      *backup.Collection
}

func (m *merging) merge(ctx context.Context, from, to string) (err error) {
	var open [2]*backup.IndexReader
	for i, path := range []string{from, to} {
		if open[i], err = backup.OpenIndex(path); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, open[i].Close()) }()
	}
	if _, err := backup.DiffIndexes(ctx, open[0], open[1], m.note); err != nil || m.of.DocumentIndex.Path == "" {
		return err
	}
	return open[0].Matches(m.of)
}

func (m *merging) note(c backup.Change) error {
	n, ids := &m.Changed, &m.ChangedIDs
	switch c.What {
	case backup.Missing:
		if m.expired != nil {
			if gone, err := m.expired.Has(c); err != nil {
				return err
			} else if gone {
				m.gone++
				return nil
			}
		}
		n, ids = &m.Missing, &m.MissingIDs
	case backup.Added:
		n, ids = &m.Extra, &m.ExtraIDs
	case backup.Changed:
	}
	if *n++; len(*ids) < mostNamed {
		*ids = append(*ids, c.String())
	}
	return nil
}

// indexOf reads a collection and writes the index of its documents to path.
func indexOf(ctx context.Context, db *mongo.Database, at site, path string) (documents int64, err error) {
	w := backup.NewIndexWriter(path)
	var e backup.IndexEntries
	var failed error
	begin := func() {
		failed = errors.Join(failed, w.Abandon())
		w = backup.NewIndexWriter(path)
		documents = 0
	}
	err = read(ctx, db, at, begin, func(doc bson.Raw) {
		documents++
		e.Reset()
		e.Add(doc, backup.HashOf(doc))
		if failed == nil {
			failed = w.Add(ctx, &e)
		}
	})
	if err = errors.Join(failed, err); err == nil {
		_, err = w.Finish(ctx)
	}
	return documents, errors.Join(err, w.Abandon())
}

// indexExpired writes the index of the backup's documents whose time has come.
func indexExpired(ctx context.Context, db *mongo.Database, s backup.Source, c *backup.Collection, rules []expiry, path string) error {
	now, err := ask(ctx, db)
	if err != nil {
		return err
	}
	w := backup.NewIndexWriter(path)
	var e backup.IndexEntries
	for doc, err := range s.Documents(ctx, c) {
		if err != nil {
			return errors.Join(err, w.Abandon())
		}
		if end, ok := expires(doc, rules); !ok || end.After(now.LocalTime) {
			continue
		}
		e.Reset()
		e.Add(doc, backup.HashOf(doc))
		if err := w.Add(ctx, &e); err != nil {
			return errors.Join(err, w.Abandon())
		}
	}
	_, err = w.Finish(ctx)
	return errors.Join(err, w.Abandon())
}

// nameOf names a document for people, by its _id as extended JSON.
func nameOf(doc bson.Raw) string {
	id, err := doc.LookupErr("_id")
	if err != nil {
		return "(no _id)"
	}
	return id.String()
}
