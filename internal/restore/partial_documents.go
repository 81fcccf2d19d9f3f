package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"strconv"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/backup"
)

const (
	// A portion has at most so many documents and, but for a last one, bytes.
	portionDocuments = 1000
	portionBytes     = 1 << 20
	// mostRemembered bounds the documents of one collection that a filter chooses where others are removed: a hash of each
	// _id is remembered, which takes about 50 bytes.
	mostRemembered = 2 << 20
)

// portion is some of the backup's documents that the filter chooses.
type portion struct {
	docs  []bson.Raw
	place map[string]int // by keyOf
	bytes int
}

// keyOf is equal for every two _id that cannot stand in one collection: numbers count by their value.
func keyOf(doc bson.Raw) string {
	id := doc.Lookup("_id")
	switch {
	case id.Type == bson.TypeInt32 || id.Type == bson.TypeInt64:
		return "n" + strconv.FormatInt(id.AsInt64(), 10)
	case id.Type == bson.TypeDouble && id.Double() == math.Trunc(id.Double()) && math.Abs(id.Double()) < 1<<63:
		return "n" + strconv.FormatInt(int64(id.Double()), 10)
	default:
		return string(append([]byte{byte(id.Type)}, id.Value...))
	}
}

// portions goes through the chosen documents of a collection, each time in the same portions.
func (p *partial) portions(ctx context.Context, c *backup.Collection) iter.Seq2[*portion, error] {
	return func(yield func(*portion, error) bool) {
		s := &portion{place: map[string]int{}}
		var told, read backup.Digest
		for doc, err := range p.Source.DocumentsAhead(ctx, c, p.ahead) {
			if err != nil {
				yield(nil, err)
				return
			}
			read.AddHash(backup.Hash{}, len(doc))
			if !p.Filter.Matches(doc) {
				continue
			}
			if _, err := doc.LookupErr("_id"); err != nil {
				yield(nil, &RefusedError{Collection: c.Name, What: "a document without _id", Reason: "it cannot be told apart from others"})
				return
			}
			s.place[keyOf(doc)] = len(s.docs)
			s.docs = append(s.docs, bytes.Clone(doc))
			s.bytes += len(doc)
			if len(s.docs) < portionDocuments && s.bytes < portionBytes {
				continue
			}
			if !yield(s, nil) {
				return
			}
			s = &portion{place: map[string]int{}}
			p.tracker.Add(c.Name, read.Documents-told.Documents, read.Bytes-told.Bytes)
			told = read
		}
		p.tracker.Add(c.Name, read.Documents-told.Documents, read.Bytes-told.Bytes)
		if len(s.docs) > 0 {
			yield(s, nil)
		}
	}
}

// standing is how a document of the backup stands in the database.
type standing byte

const (
	missing standing = iota
	identical
	different
)

// look finds out how the documents of a portion stand. It calls each with every one that differs, once.
func (p *partial) look(ctx context.Context, collection string, s *portion, each func(i int, live bson.Raw) error) ([]standing, error) {
	stand := make([]standing, len(s.docs))
	if _, there := p.there[collection]; !there {
		return stand, nil
	}
	ids := make(bson.A, len(s.docs))
	for i, d := range s.docs {
		ids[i] = d.Lookup("_id")
	}
	err := persist(ctx, func() error {
		cursor, err := primary(p.DB).Collection(collection).Find(ctx, bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids}}}})
		if err != nil {
			return err
		}
		for cursor.Next(ctx) {
			i, ours := s.place[keyOf(cursor.Current)]
			switch {
			case !ours || stand[i] != missing: // seen before the connection broke
			case bytes.Equal(cursor.Current, s.docs[i]):
				stand[i] = identical
			default:
				stand[i] = different
				if err := each(i, cursor.Current); err != nil {
					return errors.Join(err, cursor.Close(context.WithoutCancel(ctx)))
				}
			}
		}
		return errors.Join(cursor.Err(), cursor.Close(context.WithoutCancel(ctx)))
	})
	if err != nil {
		return nil, fmt.Errorf("compare documents of %s: %w", collection, err)
	}
	return stand, nil
}

// countOne compares one collection, and keeps what will be overwritten or removed.
func (p *partial) countOne(ctx context.Context, c *backup.Collection, keep *undo) (r PartialCollection, err error) {
	_, there := p.there[c.Name]
	r = PartialCollection{Name: c.Name, Created: !there}
	rules, err := expiriesIn(c, false)
	if err != nil {
		return r, err
	}
	var kept *undoFile
	if keep != nil {
		kept = keep.collection(c)
		defer func() {
			if err != nil {
				kept.abandon()
			}
		}()
	}
	chosen := map[backup.Hash]struct{}{}
	for s, err := range p.portions(ctx, c) {
		if err != nil {
			return r, err
		}
		stand, err := p.look(ctx, c.Name, s, func(_ int, live bson.Raw) error {
			if p.Mode == InsertMissing {
				return nil
			}
			return kept.add(live)
		})
		if err != nil {
			return r, err
		}
		r.Matched += int64(len(s.docs))
		for i, how := range stand {
			switch {
			case how == identical:
				r.Identical++
			case how == different && p.Mode == InsertMissing:
				r.Different++
			case how == different:
				r.Overwrite++
			default:
				r.Insert++
				if end, ok := expires(s.docs[i], rules); ok && !end.After(time.Now()) {
					r.expired++
				}
			}
			if p.Mode == Replace && !p.wholesale() {
				chosen[backup.HashOf([]byte(keyOf(s.docs[i])))] = struct{}{}
			}
		}
		if len(chosen) > mostRemembered {
			return r, fmt.Errorf("collection %s: the filter chooses more than %d documents, too many to tell which others to remove: use the mode overwrite, or replace the whole collection", c.Name, mostRemembered)
		}
	}
	if p.wholesale() && there {
		n, err := count(ctx, p.DB, c.Name)
		if err != nil {
			return r, err
		}
		r.Remove = max(n-r.Identical-r.Overwrite, 0)
	} else if p.Mode == Replace && there {
		if err := p.others(ctx, c, chosen, func(doc bson.Raw) error {
			r.Remove++
			return kept.add(doc)
		}); err != nil {
			return r, err
		}
	}
	return r, kept.finish()
}

// others calls each, once, with every document in the database that the filter chooses and the backup does not have.
func (p *partial) others(ctx context.Context, c *backup.Collection, chosen map[backup.Hash]struct{}, each func(bson.Raw) error) error {
	seen := map[backup.Hash]struct{}{}
	var failed error
	err := read(ctx, p.DB, plain(c.Name), func() {}, func(doc bson.Raw) {
		if failed != nil || !p.Filter.Matches(doc) {
			return
		}
		id := backup.HashOf([]byte(keyOf(doc)))
		if _, ours := chosen[id]; ours {
			return
		}
		if _, again := seen[id]; again {
			return
		}
		seen[id] = struct{}{}
		failed = each(doc)
	})
	return errors.Join(err, failed)
}
