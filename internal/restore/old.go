package restore

import (
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// Old is what one incident has set aside.
type Old struct {
	Incident    string
	Collections int
	Documents   int64
}

// Olds lists what incidents have set aside in a database, by incident.
func Olds(ctx context.Context, db *mongo.Database) ([]Old, error) {
	there, err := collections(ctx, db)
	if err != nil {
		return nil, err
	}
	byIncident := map[string]*Old{}
	for _, name := range sortedKeys(there) {
		incident, ok := oldIncident(name)
		if !ok {
			continue
		}
		o := byIncident[incident]
		if o == nil {
			o = &Old{Incident: incident}
			byIncident[incident] = o
		}
		n, err := count(ctx, db, name)
		if err != nil {
			return nil, err
		}
		o.Collections++
		o.Documents += n
	}
	var olds []Old
	for _, incident := range sortedKeys(byIncident) {
		olds = append(olds, *byIncident[incident])
	}
	return olds, nil
}

// DropOld drops what an incident has set aside, for good. Whether the incident is closed and its keep time has passed is
// for the caller to know.
func DropOld(ctx context.Context, db *mongo.Database, incident string) (int, error) {
	if err := checkIncident(incident); err != nil {
		return 0, err
	}
	return dropAll(ctx, db, func(name string) bool {
		of, ok := oldIncident(name)
		return ok && of == incident
	})
}

// count asks for a collection's number of documents as the server keeps it, without reading them.
func count(ctx context.Context, db *mongo.Database, collection string) (int64, error) {
	var answer struct {
		N int64 `bson:"n"`
	}
	err := persist(ctx, func() error {
		return db.RunCommand(ctx, bson.D{{Key: "count", Value: collection}}).Decode(&answer)
	})
	if err != nil {
		return 0, fmt.Errorf("count collection %s: %w", collection, err)
	}
	return answer.N, nil
}
