package undelete

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/restore"
)

// search is the search in one collection.
type search struct {
	*finder
	name     string
	key      string                   // the declared key's field
	values   []string                 // fields whose values relate it to others
	settled  map[backup.Hash]struct{} // _ids that need not be asked for again: alive, or missing and listed
	only     map[backup.Hash]struct{} // the _ids to look for; nil for all
	gather   bool                     // absent _ids are collected in only, and not listed
	room     int                      // for living ones among them
	keys     map[named]bool           // of missing ones: an older document with the same key is what the newer one replaced
	expiry   []restore.Expiry
	list     *list
	groups   grouping
	missing  int
	bytes    int64
	recr     int64
	expired  int64
	rank     int
	from, to time.Time
	backup   string
}

// errTooMany ends the search in a collection.
var errTooMany = errors.New("more documents are missing than are listed")

// collection looks for missing documents from the newest backup to the oldest. A document that is absent, and stood in no
// newer backup, vanished between this backup and the next newer one.
func (f *finder) collection(ctx context.Context, name, part string) error {
	s := &search{
		finder: f, name: name, key: f.Rules.Keys[name], values: f.relating(name),
		settled: map[backup.Hash]struct{}{}, room: mostSeen / f.parallel(), keys: map[named]bool{}, groups: grouping{},
	}
	var err error
	if s.list, err = newList(f.parts, part); err != nil {
		return err
	}
	defer func() { _ = s.list.drop() }()
	live, err := s.liveExpiry(ctx)
	if err != nil {
		return err
	}
	to, newer := f.at, (*backup.Collection)(nil)
	for i, source := range f.Sources {
		c := source.Manifest.Collection(name)
		if c == nil || c.Type != backup.TypeCollection {
			to, newer = windowOf(source.Manifest, nil).to, nil
			continue
		}
		w := windowOf(source.Manifest, c)
		// Where the next newer backup holds the same documents, all of them have been looked at.
		if newer == nil || newer.Digest != c.Digest {
			then, err := restore.ExpiryIn(c)
			if err != nil {
				return err
			}
			s.rank, s.from, s.to, s.backup, s.expiry = i, w.from, to, source.Manifest.Name, []restore.Expiry{then, live}
			if err = s.newer(ctx, source, c); err == nil {
				err = s.source(ctx, source, c)
			}
			if errors.Is(err, errTooMany) {
				f.mu.Lock()
				defer f.mu.Unlock()
				f.found.TooMany = append(f.found.TooMany, name)
				return nil
			} else if err != nil {
				return err
			}
		}
		to, newer = w.to, c
	}
	return s.finish()
}

func (s *search) finish() error {
	if err := s.list.commit(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.found.Documents += int64(s.missing)
	s.found.Bytes += s.bytes
	s.found.Recreated += s.recr
	s.found.Expired += s.expired
	if _, there := s.alive[s.name]; !there && s.missing > 0 {
		s.found.Gone = append(s.found.Gone, s.name)
	}
	maps.Copy(s.finder.groups, s.groups)
	return nil
}

// liveExpiry returns the TTL rules that hold in the database, which may be newer than the backups'.
func (s *search) liveExpiry(ctx context.Context) (restore.Expiry, error) {
	specs, err := s.indexes(ctx, s.name)
	if err != nil {
		return restore.Expiry{}, err
	}
	c := backup.Collection{Name: s.name}
	for _, spec := range specs {
		if _, ttl := lookup(spec, "expireAfterSeconds"); !ttl {
			continue
		}
		index, err := backup.NewIndex(spec)
		if err != nil {
			return restore.Expiry{}, err
		}
		c.Indexes = append(c.Indexes, index)
	}
	return restore.ExpiryIn(&c)
}

// window is the time in which a backup, or a collection of it, was read.
type window struct{ from, to time.Time }

func windowOf(m *backup.Manifest, c *backup.Collection) window {
	w := window{m.StartedAt, m.FinishedAt}
	if c != nil && !c.ReadFrom.IsZero() {
		w.from = c.ReadFrom
	}
	if c != nil && !c.ReadTo.IsZero() {
		w.to = c.ReadTo
	}
	if w.to.Before(w.from) {
		w.to = w.from
	}
	return window{w.from.UTC(), w.to.UTC()}
}

// relating returns the fields of a collection's documents that relate them to others'.
func (j Job) relating(name string) []string {
	fields := map[string]bool{}
	for _, d := range j.Rules.Dependants {
		if d.Collection == name {
			fields[d.Field] = true
		}
		if d.Of == name {
			fields[j.Rules.KeyOf(d.Of, d.Key, d.Field)] = true
		}
	}
	return slices.Sorted(maps.Keys(fields))
}

// source looks at the documents of one backup, a batch at a time.
func (s *search) source(ctx context.Context, source backup.Source, c *backup.Collection) error {
	var arena []byte
	var ends []int
	var hashes []backup.Hash
	look := func() error {
		batch := make([]bson.Raw, len(ends))
		begin := 0
		for i, end := range ends {
			batch[i], begin = bson.Raw(arena[begin:end]), end
		}
		err := s.batch(ctx, batch, hashes)
		s.tracker.Add(s.name, int64(len(batch)), int64(len(arena)))
		arena, ends, hashes = arena[:0], ends[:0], hashes[:0]
		return err
	}
	for doc, err := range source.Documents(ctx, c) {
		if err != nil {
			return err
		}
		id, ok := lookup(doc, "_id")
		if !ok {
			continue // only old servers' system collections have such
		}
		h := hashOf(id)
		if _, wanted := s.only[h]; !wanted && s.only != nil && !s.gather {
			continue
		}
		if _, settled := s.settled[h]; settled {
			continue
		}
		arena, hashes = append(arena, doc...), append(hashes, h)
		ends = append(ends, len(arena))
		if len(ends) >= 2*batchDocuments || len(arena) >= batchBytes {
			if err := look(); err != nil {
				return err
			}
		}
	}
	if len(ends) == 0 {
		return nil
	}
	return look()
}

// batch lists those of the documents that are absent.
func (s *search) batch(ctx context.Context, batch []bson.Raw, hashes []backup.Hash) error {
	ids := bson.A{}
	for _, doc := range batch {
		ids = append(ids, doc.Lookup("_id"))
	}
	there, err := s.idsThere(ctx, s.name, ids)
	if err != nil {
		return err
	}
	if s.gather {
		return s.collect(hashes, there)
	}
	keys := bson.A{}
	for i, doc := range batch {
		if there[hashes[i]] || s.key == "" {
			continue
		}
		if v, ok := lookup(doc, s.key); ok {
			if _, names := text(v); names {
				keys = append(keys, v)
			}
		}
	}
	held, err := s.keysThere(ctx, s.name, s.key, keys)
	if err != nil {
		return err
	}
	for i, doc := range batch {
		if there[hashes[i]] {
			s.remember(hashes[i])
			continue
		}
		if err := s.absent(doc, hashes[i], held); err != nil {
			return err
		}
	}
	return nil
}

func (s *search) remember(h backup.Hash) {
	if s.room > 0 && len(s.Sources) > 1 {
		s.room--
		s.settled[h] = struct{}{}
	}
}

// absent lists a document that is not there by its _id, unless it left rightly.
func (s *search) absent(doc bson.Raw, h backup.Hash, held map[named][]backup.Hash) error {
	e := entry{Collection: s.name, Organization: s.tenantOf(doc), Backup: s.backup, Rank: s.rank, From: s.from, To: s.to,
		Content: contentOf(doc), Bytes: int64(len(doc))}
	if s.key != "" {
		e.Key, _ = textAt(doc, s.key)
	}
	name := named{e.Organization, e.Key}
	if e.Key != "" && (len(held[name]) > 0 || s.keys[name]) {
		s.recr++
		s.remember(h)
		return nil
	}
	for _, rules := range s.expiry {
		if at, ok := rules.At(doc); ok && (e.Expires.IsZero() || at.Before(e.Expires)) {
			e.Expires = at.UTC()
		}
	}
	if !e.Expires.IsZero() && !e.Expires.After(s.at) {
		s.expired++
		s.remember(h)
		return nil
	}
	var err error
	if e.ID, err = encodeID(doc.Lookup("_id")); err != nil {
		return err
	}
	e.Values = valuesIn(doc, s.values)
	if s.missing++; s.missing > s.limit {
		return errTooMany
	}
	s.settled[h] = struct{}{}
	if e.Key != "" {
		s.keys[name] = true
	}
	s.bytes += e.Bytes
	s.groups.count(&e)
	return s.list.add(&e)
}

func valuesIn(doc bson.Raw, fields []string) map[string]string {
	var values map[string]string
	for _, f := range fields {
		if t, ok := textAt(doc, f); ok {
			if values == nil {
				values = map[string]string{}
			}
			values[f] = t
		}
	}
	return values
}
