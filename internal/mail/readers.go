package mail

import (
	"context"
	"fmt"
	"iter"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/backup"
)

// FromDatabase reads from a live database.
func FromDatabase(db *mongo.Database) Reader {
	return func(ctx context.Context, collection string) iter.Seq2[bson.Raw, error] {
		return func(yield func(bson.Raw, error) bool) {
			cursor, err := db.Collection(collection).Find(ctx, bson.D{})
			if err != nil {
				yield(nil, err)
				return
			}
			// A failure to close says nothing of the documents that were read.
			defer func() { _ = cursor.Close(context.WithoutCancel(ctx)) }()
			for cursor.Next(ctx) {
				if !yield(cursor.Current, nil) {
					return
				}
			}
			if err := cursor.Err(); err != nil {
				yield(nil, err)
			}
		}
	}
}

// FromBackup reads from a backup: for when the live database cannot be read.
func FromBackup(s backup.Source) Reader {
	return func(ctx context.Context, collection string) iter.Seq2[bson.Raw, error] {
		c := s.Manifest.Collection(collection)
		if c == nil {
			return func(yield func(bson.Raw, error) bool) {
				yield(nil, fmt.Errorf("backup %s has no collection %s", s.Manifest.Name, collection))
			}
		}
		return s.Documents(ctx, c)
	}
}
