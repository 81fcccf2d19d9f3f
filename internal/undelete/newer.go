package undelete

import (
	"context"
	"errors"

	"github.com/battwheels/runbook/internal/backup"
)

// newer sets the search to the documents that this backup has and the one of FindOptions.Without lacks. A document that both
// have and the database has not was deleted since, and stays away.
func (s *search) newer(ctx context.Context, source backup.Source, c *backup.Collection) error {
	if s.without == nil {
		return nil
	}
	old := s.without.Manifest.Collection(s.name)
	s.from, s.to = windowOf(s.without.Manifest, old).from, windowOf(source.Manifest, c).to
	switch {
	case old == nil || old.Type != backup.TypeCollection:
		return nil // all of it is newer: the application has made the collection anew
	case old.Digest == c.Digest:
		s.only = map[backup.Hash]struct{}{}
		return nil
	}
	done, err := s.newerByIndex(ctx, source, old, c)
	if done || err != nil {
		return err
	}
	// Without indexes, or where more is newer than can be remembered: what the database lacks, less what the older one has.
	s.only, s.gather = map[backup.Hash]struct{}{}, true
	err = s.source(ctx, source, c)
	s.gather = false
	if err != nil || len(s.only) == 0 {
		return err
	}
	for doc, err := range s.without.Documents(ctx, old) {
		if err != nil {
			return err
		}
		if id, ok := lookup(doc, "_id"); ok {
			delete(s.only, hashOf(id))
		}
	}
	return nil
}

// errNoIndex says that the document indexes cannot tell which documents are newer.
var errNoIndex = errors.New("the document indexes do not tell")

// newerByIndex merges the document indexes of both, and reads no document.
func (s *search) newerByIndex(ctx context.Context, source backup.Source, old, c *backup.Collection) (done bool, err error) {
	if s.without.IndexFile(old) == "" || source.IndexFile(c) == "" {
		return false, nil
	}
	s.only = map[backup.Hash]struct{}{}
	_, err = backup.CompareCollection(ctx, *s.without, source, old, c, func(change backup.Change) error {
		if change.What != backup.Added {
			return nil
		}
		id, whole := change.ID()
		if !whole || len(s.only) == s.limit {
			return errNoIndex
		}
		s.only[hashOf(id)] = struct{}{}
		return nil
	})
	if errors.Is(err, errNoIndex) {
		return false, nil
	}
	return err == nil, err
}

// collect notes which of a batch are absent.
func (s *search) collect(hashes []backup.Hash, there map[backup.Hash]bool) error {
	for _, h := range hashes {
		if there[h] {
			continue
		}
		if len(s.only) == s.limit {
			return errTooMany
		}
		s.only[h] = struct{}{}
	}
	return nil
}
