package undelete

import (
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/restore"
)

// find calls each with the documents that match, at the primary. It begins again when the connection breaks, and calls
// begin before each try. Documents are valid during the call only.
func (j Job) find(ctx context.Context, collection string, filter bson.D, projection bson.D, begin func(), each func(bson.Raw)) error {
	o := options.Find().SetBatchSize(2 * batchDocuments)
	if projection != nil {
		o.SetProjection(projection)
	}
	err := restore.Persist(ctx, func() error {
		begin()
		cursor, err := restore.Primary(j.DB).Collection(collection).Find(ctx, filter, o)
		if err != nil {
			return err
		}
		for cursor.Next(ctx) {
			each(cursor.Current)
		}
		return errors.Join(cursor.Err(), cursor.Close(context.WithoutCancel(ctx)))
	})
	if err != nil {
		return fmt.Errorf("read collection %s: %w", collection, err)
	}
	return nil
}

func in(field string, values bson.A) bson.D {
	return bson.D{{Key: field, Value: bson.D{{Key: "$in", Value: values}}}}
}

// idsThere returns which of these _ids stand in a collection.
func (j Job) idsThere(ctx context.Context, collection string, ids bson.A) (map[backup.Hash]bool, error) {
	there := map[backup.Hash]bool{}
	if len(ids) == 0 {
		return there, nil
	}
	err := j.find(ctx, collection, in("_id", ids), bson.D{{Key: "_id", Value: 1}}, func() { clear(there) }, func(doc bson.Raw) {
		if id, ok := lookup(doc, "_id"); ok {
			there[hashOf(id)] = true
		}
	})
	return there, err
}

// named is a key within an organization.
type named struct{ tenant, key string }

// keysThere returns which keys are held by living documents, and by which: the hashes of their _ids.
func (j Job) keysThere(ctx context.Context, collection, field string, keys bson.A) (map[named][]backup.Hash, error) {
	there := map[named][]backup.Hash{}
	if len(keys) == 0 {
		return there, nil
	}
	projection := bson.D{{Key: "_id", Value: 1}, {Key: field, Value: 1}}
	if j.Tenant != "" && j.Tenant != field {
		projection = append(projection, bson.E{Key: j.Tenant, Value: 1})
	}
	err := j.find(ctx, collection, in(field, keys), projection, func() { clear(there) }, func(doc bson.Raw) {
		if key, ok := textAt(doc, field); ok {
			id, _ := lookup(doc, "_id")
			n := named{j.tenantOf(doc), key}
			there[n] = append(there[n], hashOf(id))
		}
	})
	return there, err
}

// standing is how a document stands in the database.
type standing int

const (
	absent    standing = iota
	same               // byte for byte
	different          // another one has its _id
	recreated          // absent, but one with its key, in its organization, is there
)

// picked is a document to be put back.
type picked struct {
	*entry
	hash backup.Hash // of its _id
	id   bson.RawValue
	doc  bson.Raw
}

// standings says of each document how it stands. doubled tells which keys are held by more than the document itself.
func (j Job) standings(ctx context.Context, collection string, batch []picked) (list []standing, doubled []bool, err error) {
	list, doubled = make([]standing, len(batch)), make([]bool, len(batch))
	contents := map[backup.Hash]string{}
	ids, keys := bson.A{}, bson.A{}
	field := j.Rules.Keys[collection]
	for _, p := range batch {
		ids = append(ids, p.id)
		if p.Key == "" || field == "" {
			continue
		}
		if v, ok := lookup(p.doc, field); ok {
			keys = append(keys, v)
		}
	}
	if len(ids) == 0 {
		return list, doubled, nil
	}
	err = j.find(ctx, collection, in("_id", ids), nil, func() { clear(contents) }, func(doc bson.Raw) {
		if id, ok := lookup(doc, "_id"); ok {
			contents[hashOf(id)] = contentOf(doc)
		}
	})
	if err != nil {
		return nil, nil, err
	}
	held, err := j.keysThere(ctx, collection, field, keys)
	if err != nil {
		return nil, nil, err
	}
	for i, p := range batch {
		others := 0
		for _, h := range held[named{p.Organization, p.Key}] {
			if h != p.hash {
				others++
			}
		}
		content, there := contents[p.hash]
		doubled[i] = there && p.Key != "" && others > 0
		switch {
		case there && content == p.Content:
			list[i] = same
		case there:
			list[i] = different
		case p.Key != "" && others > 0:
			list[i] = recreated
		}
	}
	return list, doubled, nil
}

// alive lists the collections of the database, without views.
func (j Job) alive(ctx context.Context) (map[string]bool, error) {
	var all map[string]bool
	err := restore.Persist(ctx, func() error {
		all = map[string]bool{}
		cursor, err := restore.Primary(j.DB).ListCollections(ctx, bson.D{})
		if err != nil {
			return err
		}
		for cursor.Next(ctx) {
			name, _ := cursor.Current.Lookup("name").StringValueOK()
			kind, _ := cursor.Current.Lookup("type").StringValueOK()
			all[name] = kind == "" || kind == string(backup.TypeCollection)
		}
		return errors.Join(cursor.Err(), cursor.Close(context.WithoutCancel(ctx)))
	})
	if err != nil {
		return nil, fmt.Errorf("list the collections of %s: %w", j.DB.Name(), err)
	}
	return all, nil
}

// indexes returns a living collection's index specifications; none where it is not there.
func (j Job) indexes(ctx context.Context, collection string) ([]bson.Raw, error) {
	const namespaceNotFound = 26
	var specs []bson.Raw
	err := restore.Persist(ctx, func() error {
		specs = nil
		cursor, err := restore.Primary(j.DB).Collection(collection).Indexes().List(ctx)
		if err != nil {
			return err
		}
		return cursor.All(ctx, &specs)
	})
	var command mongo.CommandError
	if errors.As(err, &command) && command.Code == namespaceNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the indexes of %s: %w", collection, err)
	}
	return specs, nil
}
