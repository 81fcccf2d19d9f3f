package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// Shape is a database to measure with.
type Shape struct {
	Name        string
	Collections int
	Documents   int // in each collection
	Size        int // of a document, in bytes, about
}

// The shapes of an ordinary server, and those that FerretDB v1 can hold.
var (
	full = []Shape{
		{"one large collection", 1, 900_000, 600},
		{"220 collections", 220, 3_500, 600},
		{"5000 tiny collections", 5_000, 3, 600},
		{"few huge documents", 2, 16, 16<<20 - 1<<10},
	}
	small = []Shape{
		{"one collection", 1, 5_000, 600},
		{"220 small collections", 220, 50, 600},
	}
)

// times is a shape with more documents or fewer.
func (s Shape) times(scale float64) Shape {
	s.Documents = max(1, int(float64(s.Documents)*scale))
	return s
}

// Loaded is what a server was filled with.
type Loaded struct{ Documents, Bytes int64 }

const (
	database = "bench"
	// loadBatch bounds the bytes of one insert: the server takes 48 MB.
	loadBatch = 32 << 20
)

// load fills an empty database. The documents are as compressible as those of a business application.
func (s Shape) load(ctx context.Context, uri string) (Loaded, error) {
	var loaded Loaded
	err := with(ctx, uri, func(db *mongo.Database) error {
		r := rand.New(rand.NewPCG(1, 1)) //nolint:gosec // the same data each time
		for c := range s.Collections {
			coll := db.Collection(fmt.Sprintf("collection_%04d", c))
			var batch []any
			bytes := 0
			for n := range s.Documents {
				doc, err := bson.Marshal(s.document(r, n))
				if err != nil {
					return err
				}
				batch, bytes = append(batch, bson.Raw(doc)), bytes+len(doc)
				loaded.Documents, loaded.Bytes = loaded.Documents+1, loaded.Bytes+int64(len(doc))
				if len(batch) < 10_000 && bytes < loadBatch-s.Size && n < s.Documents-1 {
					continue
				}
				if _, err := coll.InsertMany(ctx, batch); err != nil {
					return fmt.Errorf("fill %s: %w", coll.Name(), err)
				}
				batch, bytes = nil, 0
			}
			if _, err := coll.Indexes().CreateOne(ctx, mongo.IndexModel{Keys: bson.D{{Key: "organization_id", Value: 1}}}); err != nil {
				return fmt.Errorf("index %s: %w", coll.Name(), err)
			}
		}
		return nil
	})
	return loaded, err
}

var words = []string{"battery", "inspection", "replacement", "scooter", "warranty", "customer", "pending", "delivered", "controller", "brake"}

// document has the fields of a ticket; its notes make up its size.
func (s Shape) document(r *rand.Rand, n int) bson.D {
	const others = 180 // bytes of the other fields
	notes := make([]byte, 0, s.Size)
	for len(notes) < s.Size-others {
		if len(notes) > 64<<10 {
			notes = append(notes, notes...)
			continue
		}
		notes = append(append(notes, words[r.IntN(len(words))]...), ' ')
	}
	return bson.D{
		{Key: "_id", Value: bson.NewObjectID()},
		{Key: "ticket_id", Value: fmt.Sprintf("tkt_%012x", r.Uint64()>>16)},
		{Key: "organization_id", Value: fmt.Sprintf("org_%06d", r.IntN(40))},
		{Key: "status", Value: words[r.IntN(len(words))]},
		{Key: "n", Value: n},
		{Key: "total", Value: r.Float64() * 1000},
		{Key: "created_at", Value: time.Unix(int64(n)*60, 0)},
		{Key: "notes", Value: string(notes[:min(len(notes), s.Size-others)])},
	}
}

// with calls do with the database that is measured.
func with(ctx context.Context, uri string, do func(*mongo.Database) error) error {
	c, err := mongo.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		return err
	}
	err = do(c.Database(database))
	if e := c.Disconnect(context.WithoutCancel(ctx)); err == nil {
		err = e
	}
	return err
}

func drop(ctx context.Context, uri string) error {
	return with(ctx, uri, func(db *mongo.Database) error { return db.Drop(ctx) })
}
