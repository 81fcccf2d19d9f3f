package garage

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// Written is one document as a request left it in the database. Clients that keep a ledger need nothing else.
type Written struct {
	Collection string `json:"collection"`
	// Document is the raw BSON as stored; of a deleted document only {_id: …}. Base64 in JSON.
	Document []byte `json:"document"`
	Deleted  bool   `json:"deleted,omitempty"`
	// Pending marks a write that was sent and that the database did not answer.
	Pending bool `json:"pending,omitempty"`
}

// store is the database with what one process must know to use it safely.
type store struct {
	db *mongo.Database

	mu sync.Mutex
	// turns makes the writes of one tenant wait for each other: a change reads a document, and replaces it whole.
	turns map[string]*sync.Mutex
	// where remembers the _id for an identifier of the application's. FerretDB looks up nothing else without reading
	// the whole collection.
	where map[string]bson.RawValue
}

func newStore(db *mongo.Database) *store {
	return &store{db: db, turns: map[string]*sync.Mutex{}, where: map[string]bson.RawValue{}}
}

// turn waits until no other write of the tenant is in hand.
func (s *store) turn(organization string) (done func()) {
	s.mu.Lock()
	m := s.turns[organization]
	if m == nil {
		m = &sync.Mutex{}
		s.turns[organization] = m
	}
	s.mu.Unlock()
	m.Lock()
	return m.Unlock
}

func (s *store) remembered(key string) (bson.RawValue, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, ok := s.where[key]
	return id, ok
}

func (s *store) remember(key string, id bson.RawValue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.where[key] = id
}

// errNotFound is for a document that is not there, or not of this tenant.
var errNotFound = errors.New("not found")

// find reads one document of a tenant by the application's own identifier.
func (s *store) find(ctx context.Context, organization, collection, field, value string) (bson.Raw, error) {
	key := collection + "\x00" + value
	if id, ok := s.remembered(key); ok {
		raw, err := s.db.Collection(collection).FindOne(ctx, bson.D{{Key: "_id", Value: id}}).Raw()
		if err == nil && is(raw, organization, field, value) {
			return raw, nil
		}
		if err != nil && !errors.Is(err, mongo.ErrNoDocuments) {
			return nil, fmt.Errorf("read %s: %w", collection, err)
		}
	}
	raw, err := s.db.Collection(collection).FindOne(ctx, bson.D{{Key: field, Value: value}, {Key: "organization_id", Value: organization}}).Raw()
	if errors.Is(err, mongo.ErrNoDocuments) {
		return nil, fmt.Errorf("%s %s: %w", collection, value, errNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", collection, err)
	}
	s.remember(key, raw.Lookup("_id"))
	return raw, nil
}

func is(raw bson.Raw, organization, field, value string) bool {
	o, _ := raw.Lookup("organization_id").StringValueOK()
	v, _ := raw.Lookup(field).StringValueOK()
	return o == organization && v == value
}

// all reads every document of a tenant whose field has one of the values.
func (s *store) all(ctx context.Context, organization, collection, field string, values ...string) ([]bson.Raw, error) {
	cursor, err := s.db.Collection(collection).Find(ctx, bson.D{
		{Key: "organization_id", Value: organization}, {Key: field, Value: bson.D{{Key: "$in", Value: values}}}})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", collection, err)
	}
	var all []bson.Raw
	if err := cursor.All(ctx, &all); err != nil {
		return nil, fmt.Errorf("read %s: %w", collection, err)
	}
	return all, nil
}

// work is one request's writes, in the order in which the database acknowledged them.
type work struct {
	*store
	claims  Claims
	now     time.Time
	written []Written
}

// insert stores a new document; it gets an _id.
func (w *work) insert(ctx context.Context, collection string, fields bson.D) (bson.Raw, error) {
	raw, err := bson.Marshal(append(bson.D{{Key: "_id", Value: bson.NewObjectID()}}, fields...))
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", collection, err)
	}
	_, err = w.db.Collection(collection).InsertOne(ctx, bson.Raw(raw))
	if err := w.note(collection, raw, false, err); err != nil {
		return nil, err
	}
	return raw, nil
}

// replace stores a document in place of the one with its _id.
func (w *work) replace(ctx context.Context, collection string, fields bson.D) (bson.Raw, error) {
	raw, err := bson.Marshal(fields)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", collection, err)
	}
	result, err := w.db.Collection(collection).ReplaceOne(ctx, bson.D{{Key: "_id", Value: bson.Raw(raw).Lookup("_id")}}, bson.Raw(raw),
		options.Replace().SetUpsert(false))
	if err == nil && result.MatchedCount == 0 {
		return nil, fmt.Errorf("write %s: the document has vanished: %w", collection, errNotFound)
	}
	if err := w.note(collection, raw, false, err); err != nil {
		return nil, err
	}
	return raw, nil
}

// remove deletes one document.
func (w *work) remove(ctx context.Context, collection string, document bson.Raw) error {
	id := document.Lookup("_id")
	raw, err := bson.Marshal(bson.D{{Key: "_id", Value: id}})
	if err != nil {
		return fmt.Errorf("delete from %s: %w", collection, err)
	}
	result, err := w.db.Collection(collection).DeleteOne(ctx, bson.D{{Key: "_id", Value: id}})
	if err == nil && result.DeletedCount == 0 {
		return nil
	}
	return w.note(collection, raw, true, err)
}

// removeMany deletes documents in one command: FerretDB reads the whole collection for each.
func (w *work) removeMany(ctx context.Context, collection string, documents []bson.Raw) error {
	if len(documents) == 0 {
		return nil
	}
	ids := bson.A{}
	for _, d := range documents {
		ids = append(ids, d.Lookup("_id"))
	}
	result, err := w.db.Collection(collection).DeleteMany(ctx, bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids}}}})
	if err == nil && result.DeletedCount != int64(len(documents)) {
		err = fmt.Errorf("%d of %d documents were there", result.DeletedCount, len(documents))
	}
	for _, id := range ids {
		raw, merr := bson.Marshal(bson.D{{Key: "_id", Value: id}})
		if merr != nil {
			return fmt.Errorf("delete from %s: %w", collection, merr)
		}
		if nerr := w.note(collection, raw, true, err); nerr != nil && err == nil {
			return nerr
		}
	}
	if err != nil {
		return fmt.Errorf("delete from %s: %w", collection, err)
	}
	return nil
}

// note keeps what a write did. A write that the database refused, and said so, did nothing; of any other failure nobody
// knows.
func (w *work) note(collection string, raw bson.Raw, deleted bool, err error) error {
	if err == nil {
		w.written = append(w.written, Written{Collection: collection, Document: raw, Deleted: deleted})
		return nil
	}
	var refused mongo.WriteException
	if !errors.As(err, &refused) || len(refused.WriteErrors) == 0 {
		w.written = append(w.written, Written{Collection: collection, Document: raw, Deleted: deleted, Pending: true})
	}
	return fmt.Errorf("write %s: %w", collection, err)
}
