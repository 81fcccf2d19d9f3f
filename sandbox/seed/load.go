package seed

import (
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"golang.org/x/sync/errgroup"
)

// batch is how many documents go to the server at once; FerretDB does not gain from more.
const batch = 500

// Load creates every collection, its indexes and its documents in an empty database. The progress function may be nil;
// it is told, from one goroutine at a time, how many documents of how many are in.
func (d *Dataset) Load(ctx context.Context, db *mongo.Database, progress func(done, total int)) error {
	names, err := db.ListCollectionNames(ctx, bson.D{})
	if err != nil {
		return fmt.Errorf("seed %s: %w", db.Name(), err)
	}
	if len(names) > 0 {
		return fmt.Errorf("seed %s: it already has %d collections; seed an empty database, or drop this one first", db.Name(), len(names))
	}
	loaded := make(chan int)
	reported := make(chan struct{})
	go func() {
		defer close(reported)
		done, total := 0, d.Documents()
		for n := range loaded {
			done += n
			if progress != nil {
				progress(done, total)
			}
		}
	}()
	// FerretDB keeps a database in one SQLite file: more writers than two only wait for each other.
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(2)
	for _, c := range d.Collections {
		group.Go(func() error {
			if err := c.load(groupCtx, db, loaded); err != nil {
				return fmt.Errorf("seed %s.%s: %w", db.Name(), c.Name, err)
			}
			return nil
		})
	}
	err = group.Wait()
	close(loaded)
	<-reported
	return err
}

func (c Collection) load(ctx context.Context, db *mongo.Database, loaded chan<- int) error {
	if err := db.CreateCollection(ctx, c.Name); err != nil {
		return err
	}
	if len(c.Indexes) > 0 {
		var models []mongo.IndexModel
		for _, x := range c.Indexes {
			o := options.Index()
			if x.Unique {
				o.SetUnique(true)
			}
			models = append(models, mongo.IndexModel{Keys: x.Keys, Options: o})
		}
		if _, err := db.Collection(c.Name).Indexes().CreateMany(ctx, models); err != nil {
			return fmt.Errorf("create indexes: %w", err)
		}
	}
	for rest := c.Documents; len(rest) > 0; {
		n := min(batch, len(rest))
		if _, err := db.Collection(c.Name).InsertMany(ctx, rest[:n]); err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		loaded <- n
		rest = rest[n:]
	}
	return nil
}
