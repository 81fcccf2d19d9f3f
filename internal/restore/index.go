package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/backup"
)

// create makes a collection or view as the backup has it, under another name.
func create(ctx context.Context, db *mongo.Database, name string, c *backup.Collection) error {
	options, err := backup.ToBSON(c.Options)
	if err != nil {
		return fmt.Errorf("options of %s: %w", c.Name, err)
	}
	fields, err := fieldsOf(options, obsoleteOptions)
	if err != nil {
		return fmt.Errorf("options of %s: %w", c.Name, err)
	}
	command := bson.D{{Key: "create", Value: name}}
	for _, f := range fields {
		command = append(command, bson.E{Key: f.key, Value: f.value})
	}
	err = persist(ctx, func() error {
		err := write(ctx, db, command)
		if code(err) == codeNamespaceExists {
			// The answer to an earlier try was lost. Whatever else it may be, the proof compares it with the backup.
			return nil
		}
		return err
	})
	switch {
	case err == nil:
		return nil
	case answered(err):
		what := "the options " + document(fields).String()
		if c.Type == backup.TypeView {
			what = "the view " + document(fields).String()
		}
		return &RefusedError{Collection: c.Name, What: what, Code: code(err), Reason: err.Error()}
	default:
		return fmt.Errorf("create %s: %w", name, err)
	}
}

// answered says whether the server itself refuses, and would again. Lacking rights is not the backup's fault.
func answered(err error) bool {
	const authenticationFailed = 18
	c := code(err)
	return c != 0 && c != codeUnauthorized && c != authenticationFailed && !transient(err)
}

// buildIndexes builds those of a collection's indexes that are chosen, in one command. The collection stands in the
// database under the name at.
func buildIndexes(ctx context.Context, db *mongo.Database, at string, c *backup.Collection, replicaSet bool, chosen func(indexSpec) bool) error {
	specs, err := specsOf(c.Indexes)
	if err != nil {
		return fmt.Errorf("collection %s: %w", c.Name, err)
	}
	specs = slices.DeleteFunc(specs, func(s indexSpec) bool { return !s.builtByUs() || !chosen(s) })
	if len(specs) == 0 {
		return nil
	}
	options, err := backup.ToBSON(c.Options)
	if err != nil {
		return fmt.Errorf("collection %s: %w", c.Name, err)
	}
	collation := !options.Lookup("collation").IsZero() && !simpleCollation(options.Lookup("collation"))
	err = createIndexes(ctx, db, at, specs, collation, replicaSet)
	if !answered(err) {
		if err != nil {
			return fmt.Errorf("build the indexes of %s: %w", c.Name, err)
		}
		return nil
	}
	// The answer does not say which one is refused: one at a time they do.
	var refused []error
	for _, s := range specs {
		err := createIndexes(ctx, db, at, []indexSpec{s}, collation, replicaSet)
		switch {
		case err == nil:
		case answered(err):
			refused = append(refused, &IndexError{Collection: c.Name, Index: s.name, Reason: err.Error()})
		default:
			return fmt.Errorf("build the indexes of %s: %w", c.Name, err)
		}
	}
	return errors.Join(refused...)
}

func createIndexes(ctx context.Context, db *mongo.Database, at string, specs []indexSpec, collation, replicaSet bool) error {
	list := bson.A{}
	for _, s := range specs {
		list = append(list, s.command(collation))
	}
	command := bson.D{{Key: "createIndexes", Value: at}, {Key: "indexes", Value: list}}
	if replicaSet {
		// The default waits for every voting member, and for ever when one of them is down.
		command = append(command, bson.E{Key: "commitQuorum", Value: "majority"})
	}
	return persist(ctx, func() error { return write(ctx, db, command) })
}
