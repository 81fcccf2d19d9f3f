package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/battwheels/runbook/sandbox/seed"
)

// Shape is a database to measure with.
type Shape struct {
	Name string
	// many says that there is more than one collection; plain, that no settings of the stock tool are tried: all of them only make
	// it slower here, by minutes.
	many, plain bool
	make        func(scale float64, put put) error
}

// put fills one collection with documents and a plain index on the field, where one is named.
type put func(collection, field string, documents []bson.Raw) error

// The shapes of an ordinary server, and those that FerretDB v1 can hold. The documents are the sandbox's: as compressible as those
// of a business application, which random words are not.
var (
	full = []Shape{
		{"one large collection", false, false, tickets(85)},
		{"220 collections", true, false, garages(14)},
		{"5000 tiny collections", true, true, tiny},
		{"few huge documents", true, false, huge},
	}
	small = []Shape{
		{"one collection", false, false, tickets(1)},
		{"220 small collections", true, false, garages(0.3)},
	}
)

// tickets is one collection of so many times 9,000 tickets.
func tickets(times int) func(float64, put) error {
	return func(scale float64, put put) error {
		c := seed.Generate(seed.Options{Seed: 1, Scale: 3}).Collection("tickets")
		for range max(1, int(float64(times)*scale)) {
			if err := put(c.Name, "organization_id", renewed(c.Documents)); err != nil {
				return err
			}
		}
		return nil
	}
}

// garages is the sandbox's database of 220 collections, so many times three as large.
func garages(times float64) func(float64, put) error {
	return func(scale float64, put put) error {
		for _, c := range seed.Generate(seed.Options{Seed: 1, Scale: 3 * times * scale}).Collections {
			field := ""
			if len(c.Indexes) > 0 {
				field = "organization_id"
			}
			if err := put(c.Name, field, c.Documents); err != nil {
				return err
			}
		}
		return nil
	}
}

// tiny is 5,000 collections of three tickets each.
func tiny(scale float64, put put) error {
	documents := seed.Generate(seed.Options{Seed: 1, Scale: 1}).Collection("tickets").Documents
	for i := range max(1, int(5000*scale)) {
		some := documents[i%(len(documents)-3):][:3]
		if err := put(fmt.Sprintf("tiny_%04d", i), "organization_id", renewed(some)); err != nil {
			return err
		}
	}
	return nil
}

// huge is two collections of documents that are almost as large as a server takes them.
func huge(scale float64, put put) error {
	r := rand.New(rand.NewPCG(1, 1))
	words := []string{"battery", "inspection", "replacement", "scooter", "warranty", "customer", "pending", "delivered", "controller", "brake"}
	var text []byte
	for len(text) < 1<<20 {
		text = append(append(text, words[r.IntN(len(words))]...), ' ')
	}
	for _, name := range []string{"manuals", "scans"} {
		for range max(1, int(16*scale)) {
			doc, err := bson.Marshal(bson.D{{Key: "_id", Value: bson.NewObjectID()}, {Key: "text", Value: string(slices.Repeat(text, 16)[:16<<20-1<<10])}})
			if err != nil {
				return err
			}
			if err := put(name, "", []bson.Raw{doc}); err != nil {
				return err
			}
		}
	}
	return nil
}

// idAt is where the value of a first field _id begins: after the document's length, the type and the name.
const idAt = 4 + 1 + len("_id\x00")

// renewed are copies of documents that have an ObjectID first, with new ones. What repeats lies farther apart than gzip looks back.
func renewed(documents []bson.Raw) []bson.Raw {
	copies := make([]bson.Raw, len(documents))
	for i, d := range documents {
		copies[i] = slices.Clone(d)
		id := bson.NewObjectID()
		copy(copies[i][idAt:], id[:])
	}
	return copies
}

// Loaded is what a server was filled with.
type Loaded struct {
	Collections      int
	Documents, Bytes int64
}

const (
	database = "bench"
	// loadBytes and loadDocuments bound one insert: a server takes 48 MB and 100,000 documents.
	loadBytes, loadDocuments = 32 << 20, 10_000
)

// load fills an empty database, with indexes or without.
func (s Shape) load(ctx context.Context, uri string, scale float64, indexes bool) (Loaded, error) {
	var loaded Loaded
	seen := map[string]bool{}
	err := with(ctx, uri, func(db *mongo.Database) error {
		return s.make(scale, func(name, field string, documents []bson.Raw) error {
			coll := db.Collection(name)
			for len(documents) > 0 {
				n, bytes := 0, 0
				for ; n < len(documents) && n < loadDocuments && (n == 0 || bytes+len(documents[n]) < loadBytes); n++ {
					bytes += len(documents[n])
				}
				if _, err := coll.InsertMany(ctx, documents[:n]); err != nil {
					return fmt.Errorf("fill %s: %w", name, err)
				}
				loaded.Documents, loaded.Bytes = loaded.Documents+int64(n), loaded.Bytes+int64(bytes)
				documents = documents[n:]
			}
			if seen[name] {
				return nil
			}
			seen[name] = true
			loaded.Collections++
			if field == "" || !indexes {
				return nil
			}
			if _, err := coll.Indexes().CreateOne(ctx, mongo.IndexModel{Keys: bson.D{{Key: field, Value: 1}}}); err != nil {
				return fmt.Errorf("index %s: %w", name, err)
			}
			return nil
		})
	})
	return loaded, err
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
