package restore

import (
	"context"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/backup"
)

// What package undelete, which puts single documents back beside living ones, shares with a restore.

// InsertRaw inserts documents byte for byte, past the collection's validation, and returns when a majority has them. It
// tries again when the connection breaks. It returns which of them the server refused because their _id or another
// unique key is taken: perhaps by the document itself, from a try whose answer was lost. Any other refusal is a
// *RefusedError or *SpaceError; the other documents may have been inserted then. The caller bounds their number and size.
func InsertRaw(ctx context.Context, db *mongo.Database, collection string, documents []bson.Raw) (taken []int, err error) {
	if len(documents) == 0 {
		return nil, nil
	}
	b := newBatch()
	defer b.free()
	for _, d := range documents {
		b.add(d)
	}
	b.close()
	return insert(ctx, db, collection, collection, b, false)
}

// Write runs a command that changes something, until a majority has it in its journal. It does not try again.
func Write(ctx context.Context, db *mongo.Database, command bson.D) error {
	return write(ctx, db, command)
}

// Persist tries something until it succeeds, fails for good, or has failed for some ten seconds.
func Persist(ctx context.Context, do func() error) error { return persist(ctx, do) }

// Primary returns the database read at the primary, with its latest state.
func Primary(db *mongo.Database) *mongo.Database { return primary(db) }

// TimeOf reads the time in a field: a date, or an ISO 8601 string, which is UTC where it has no zone.
func TimeOf(doc bson.Raw, path string) (time.Time, bool) { return timeOf(doc, path) }

// Expiry says when documents of a collection expire by its TTL rules.
type Expiry struct{ rules []expiry }

// ExpiryIn returns the rules that held in a collection of a backup.
func ExpiryIn(c *backup.Collection) (Expiry, error) {
	rules, err := expiriesIn(c, false)
	return Expiry{rules}, err
}

// At returns when the server may delete a document. ok is false where it never does.
func (e Expiry) At(doc bson.Raw) (at time.Time, ok bool) { return expires(doc, e.rules) }
