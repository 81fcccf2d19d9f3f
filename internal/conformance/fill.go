package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// testCase is what a database may hold, and by what name a server that cannot hold it is told.
type testCase struct {
	name        string
	collections []collection
}

// collection is one collection, view or time series. Of a time series the documents are its buckets.
type collection struct {
	name      string
	options   bson.D
	indexes   []bson.D
	documents []bson.Raw
	// keepsTimestamps says that the server is told not to replace an empty timestamp by the time of day.
	keepsTimestamps bool
}

func (c testCase) documents() (n int64) {
	for _, c := range c.collections {
		n += int64(len(c.documents))
	}
	return n
}

// fill makes the collections. Its error is the server's refusal.
func (c testCase) fill(ctx context.Context, db *mongo.Database) error {
	for _, c := range c.collections {
		if err := c.fill(ctx, db); err != nil {
			return err
		}
	}
	return nil
}

func (c collection) fill(ctx context.Context, db *mongo.Database) error {
	// Servers refuse to create system.js, and make it by themselves.
	if c.name != "system.js" {
		if err := db.RunCommand(ctx, slices.Concat(bson.D{{Key: "create", Value: c.name}}, c.options)).Err(); err != nil {
			return err
		}
	}
	insert := bson.D{{Key: "insert", Value: c.name}}
	if field(c.options, "timeseries") != nil {
		listed, err := every(ctx)(db.ListCollections(ctx, bson.D{{Key: "name", Value: c.name}}))
		if err != nil || len(listed) != 1 {
			return errors.Join(errors.New("the server has made a time series that it does not list"), err)
		}
		insert = bucketsOf("insert", c.name, listed[0])
	}
	n := 1000
	if len(c.documents) > 0 && len(c.documents[0]) > 1<<20 {
		n = 1 // a command has room for one of the largest: its body, too, is a document of about 16 MB
	}
	for batch := range slices.Chunk(c.documents, n) {
		insert := slices.Concat(insert, bson.D{{Key: "documents", Value: batch}, {Key: "bypassDocumentValidation", Value: true}})
		if c.keepsTimestamps {
			insert = append(insert, bson.E{Key: "bypassEmptyTsReplacement", Value: true})
		}
		if err := db.RunCommand(ctx, insert).Err(); err != nil {
			return err
		}
	}
	if len(c.indexes) == 0 {
		return nil
	}
	return db.RunCommand(ctx, bson.D{{Key: "createIndexes", Value: c.name}, {Key: "indexes", Value: c.indexes}}).Err()
}

// kept makes sure that the server holds what it was given: some accept what they do not know, and forget it.
func (c testCase) kept(ctx context.Context, db *mongo.Database) error {
	all, err := contents(ctx, db)
	if err != nil {
		return err
	}
	for _, c := range c.collections {
		h, there := all[c.name]
		if !there {
			return fmt.Errorf("the server has accepted collection %q, and does not list it", c.name)
		}
		if err := c.kept(ctx, db, h); err != nil {
			return fmt.Errorf("collection %q: %w", c.name, err)
		}
	}
	return nil
}

func (c collection) kept(ctx context.Context, db *mongo.Database, h Held) error {
	want := make([]string, len(c.documents))
	for i, d := range c.documents {
		want[i] = shown(d)
	}
	have := slices.Clone(h.Documents)
	slices.Sort(want)
	slices.Sort(have)
	if !slices.Equal(want, have) {
		return errors.New("the server has accepted the documents, and gives back others")
	}
	listed, err := every(ctx)(db.ListCollections(ctx, bson.D{{Key: "name", Value: c.name}}))
	if err != nil || len(listed) != 1 {
		return errors.Join(errors.New("the server does not find it by its name"), err)
	}
	options, _ := listed[0].Lookup("options").DocumentOK()
	if err := fieldsOf(options, c.options, "option"); err != nil {
		return err
	}
	if h.Type == "view" {
		return nil
	}
	indexes, err := every(ctx)(db.Collection(c.name).Indexes().List(ctx))
	if err != nil {
		return err
	}
	for _, want := range c.indexes {
		i := slices.IndexFunc(indexes, func(have bson.Raw) bool {
			return have.Lookup("name").StringValue() == field(want, "name")
		})
		if i < 0 {
			return fmt.Errorf("the server has accepted the index %v, and does not list it", field(want, "name"))
		}
		if err := fieldsOf(indexes[i], want, fmt.Sprintf("index %v: field", field(want, "name"))); err != nil {
			return err
		}
	}
	return nil
}

// fieldsOf makes sure that every field of an option or specification is there in some form: servers complete them.
func fieldsOf(have bson.Raw, want bson.D, what string) error {
	for _, e := range want {
		if c, ok := e.Value.(bson.D); ok && e.Key == "collation" && field(c, "locale") == "simple" {
			continue // that is what none means
		}
		if _, err := have.LookupErr(e.Key); err != nil {
			return fmt.Errorf("the server has accepted the %s %q, and forgets it", what, e.Key)
		}
	}
	return nil
}

func field(d bson.D, key string) any {
	for _, e := range d {
		if e.Key == key {
			return e.Value
		}
	}
	return nil
}
