package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/backup"
)

// apply writes one collection, as it was counted. made says that it was not there then; an earlier run may have begun it.
func (p *partial) apply(ctx context.Context, c *backup.Collection, undoAt string, made bool) (r PartialCollection, err error) {
	if made {
		if err := p.checkLease(ctx); err != nil {
			return r, err
		}
		if err := create(ctx, p.DB, c.Name, c); err != nil {
			return r, err
		}
	}
	before, end, err := p.kept(ctx, c, undoAt)
	if err != nil {
		return r, err
	}
	defer end()
	for s, err := range p.portions(ctx, c) {
		if err != nil {
			return r, err
		}
		if err := p.write(ctx, c, s, before, &r); err != nil {
			return r, err
		}
	}
	for doc, err := range before.rest() {
		if err == nil && p.Mode != Replace {
			err = fmt.Errorf("the undo folder %s holds document _id %s of %s, which was not to be changed", undoAt, nameOf(doc), c.Name)
		}
		if err != nil {
			return r, err
		}
		if err := p.checkLease(ctx); err != nil {
			return r, err
		}
		if err := p.exchange(ctx, c.Name, doc, nil, backup.HashOf(doc)); err != nil {
			return r, err
		}
	}
	if !made {
		return r, nil
	}
	h, err := ask(ctx, p.DB)
	if err != nil {
		return r, err
	}
	return r, buildIndexes(ctx, p.DB, c.Name, c, h.SetName != "", func(indexSpec) bool { return true })
}

// write puts a portion into the database.
func (p *partial) write(ctx context.Context, c *backup.Collection, s *portion, before *keptDocuments, r *PartialCollection) error {
	hashes, err := before.of(s)
	if err != nil {
		return err
	}
	stand, err := p.look(ctx, c.Name, s, func(i int, live bson.Raw) error {
		if p.Mode != InsertMissing && hashes[i] != backup.HashOf(live) {
			return &ChangedError{Collection: c.Name, ID: nameOf(live)}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := p.checkLease(ctx); err != nil {
		return err
	}
	conflict := func(doc bson.Raw) {
		r.Conflicts++
		if len(r.Examples) < 5 {
			r.Examples = append(r.Examples, nameOf(doc))
		}
	}
	b := newBatch()
	defer b.free()
	for i, how := range stand {
		switch {
		case how == missing:
			b.add(s.docs[i])
		case how == different && p.Mode != InsertMissing:
			err := p.exchange(ctx, c.Name, s.docs[i], s.docs[i], hashes[i])
			if code(err) == codeDuplicateKey {
				conflict(s.docs[i])
			} else if err != nil {
				return err
			}
		}
	}
	if len(b.documents) == 0 {
		return nil
	}
	b.close()
	there, err := insert(ctx, p.DB, c.Name, c.Name, b, false)
	if err != nil || len(there) == 0 {
		return err
	}
	same, err := alike(ctx, p.DB, c.Name, b, there)
	if err != nil {
		return err
	}
	for _, n := range there {
		if !same[n] {
			conflict(b.at(n))
		}
	}
	return nil
}

// exchange puts a document in the place of the one that has its _id, or removes that one where next is nil. If what it
// took away was not what is kept, it puts that back.
func (p *partial) exchange(ctx context.Context, collection string, of, next bson.Raw, before backup.Hash) error {
	if next != nil && backup.EmptyTimestamp(next) {
		return p.update(ctx, collection, next)
	}
	id := of.Lookup("_id")
	command := bson.D{{Key: "findAndModify", Value: collection}, {Key: "query", Value: bson.D{{Key: "_id", Value: id}}}}
	if next == nil {
		command = append(command, bson.E{Key: "remove", Value: true})
	} else {
		command = append(command, bson.E{Key: "update", Value: replacement(next)})
	}
	tried := false
	err := persist(ctx, func() error {
		if tried {
			done, err := p.stands(ctx, collection, id, next)
			if done || err != nil {
				return err
			}
		}
		tried = true
		var answer struct {
			Value bson.Raw `bson:"value"`
		}
		err := writeAnd(ctx, p.DB, command, &answer)
		if refusedByValidator(err) {
			err = writeAnd(ctx, p.DB, bypassing(command), &answer)
		}
		if err != nil {
			return err
		}
		switch {
		case answer.Value == nil && next == nil, answer.Value != nil && backup.HashOf(answer.Value) == before:
			return nil
		case answer.Value != nil:
			if err := p.putBack(ctx, collection, answer.Value, next == nil); err != nil {
				return err
			}
		}
		return &ChangedError{Collection: collection, ID: nameOf(of)}
	})
	if err == nil || code(err) == codeDuplicateKey {
		return err
	}
	return fmt.Errorf("restore document _id %s of %s: %w", nameOf(of), collection, err)
}

// stands says whether a document stands as it should, after the answer to a command was lost.
func (p *partial) stands(ctx context.Context, collection string, id bson.RawValue, want bson.Raw) (bool, error) {
	live, err := primary(p.DB).Collection(collection).FindOne(ctx, bson.D{{Key: "_id", Value: id}}).Raw()
	if errors.Is(err, mongo.ErrNoDocuments) {
		return want == nil, nil
	}
	return err == nil && want != nil && bytes.Equal(live, want), err
}

func (p *partial) putBack(ctx context.Context, collection string, doc bson.Raw, removed bool) error {
	if !removed {
		return p.update(ctx, collection, doc)
	}
	b := newBatch()
	defer b.free()
	b.add(doc)
	b.close()
	_, err := insert(ctx, p.DB, collection, collection, b, false)
	return err
}

// update is for documents with an empty timestamp, which findAndModify would fill in.
func (p *partial) update(ctx context.Context, collection string, doc bson.Raw) error {
	change := bson.D{{Key: "q", Value: bson.D{{Key: "_id", Value: doc.Lookup("_id")}}}, {Key: "u", Value: replacement(doc)}}
	command := bson.D{
		{Key: "update", Value: collection}, {Key: "updates", Value: bson.A{change}},
	}
	if backup.EmptyTimestamp(doc) {
		command = append(command, bson.E{Key: "bypassEmptyTsReplacement", Value: true})
	}
	err := persist(ctx, func() error {
		err := write(ctx, p.DB, command)
		if refusedByValidator(err) {
			err = write(ctx, p.DB, bypassing(command))
		}
		return err
	})
	if unknownField(err, "bypassEmptyTsReplacement") {
		return &RefusedError{
			Collection: collection, What: "document _id " + nameOf(doc), Code: code(err),
			Reason: "it has an empty Timestamp, which this version of the server would replace by the current time",
		}
	}
	return err
}

// replacement is the update that puts a document in the place of another. Where the name of a field begins with a dollar, servers take it as
// a literal only: they insert such documents from 5.0 on, and would refuse them here.
func replacement(doc bson.Raw) any {
	elements, err := doc.Elements()
	if err != nil || !slices.ContainsFunc(elements, func(e bson.RawElement) bool { return strings.HasPrefix(e.Key(), "$") }) {
		return doc
	}
	return bson.A{bson.D{{Key: "$replaceWith", Value: bson.D{{Key: "$literal", Value: doc}}}}}
}

// bypassing is a command past the collection's validator.
func bypassing(command bson.D) bson.D {
	return append(slices.Clone(command), bson.E{Key: "bypassDocumentValidation", Value: true})
}

// keptDocuments goes through an undo file beside the backup's documents, which it follows in their order.
type keptDocuments struct {
	next func() (bson.Raw, error, bool)
	doc  bson.Raw // the one that is next; nil at the end
	err  error
}

// kept opens the undo file of a collection. Where there is none it is empty.
func (p *partial) kept(ctx context.Context, c *backup.Collection, undoAt string) (k *keptDocuments, end func(), err error) {
	k = &keptDocuments{}
	if undoAt == "" {
		return k, func() {}, nil
	}
	m, err := backup.ReadManifest(filepath.Clean(undoAt))
	if err != nil {
		return nil, nil, fmt.Errorf("read what was there before: %w", err)
	}
	of := m.Collection(c.Name)
	if of == nil {
		return k, func() {}, nil
	}
	k.next, end = iter.Pull2(backup.Source{Dir: undoAt, Manifest: m}.Documents(ctx, of))
	k.advance()
	return k, end, nil
}

func (k *keptDocuments) advance() {
	doc, err, ok := k.next()
	if k.doc, k.err = nil, err; ok && err == nil {
		k.doc = doc
	}
}

// of returns the hashes of what is kept of a portion's documents, by their places.
func (k *keptDocuments) of(s *portion) (map[int]backup.Hash, error) {
	hashes := map[int]backup.Hash{}
	for k.doc != nil {
		i, ours := s.place[keyOf(k.doc)]
		if !ours {
			break
		}
		hashes[i] = backup.HashOf(k.doc)
		k.advance()
	}
	return hashes, k.err
}

// rest is what is kept of documents that the backup does not have.
func (k *keptDocuments) rest() iter.Seq2[bson.Raw, error] {
	return func(yield func(bson.Raw, error) bool) {
		for k.doc != nil {
			if !yield(slices.Clone(k.doc), nil) {
				return
			}
			k.advance()
		}
		if k.err != nil {
			yield(nil, k.err)
		}
	}
}
