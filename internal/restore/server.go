package restore

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"github.com/battwheels/runbook/internal/backup"
)

// The servers' error codes on which anything here depends.
const (
	codeBadValue          = 2
	codeUnauthorized      = 13
	codeInvalidNamespace  = 73
	codeNamespaceNotFound = 26
	codeNamespaceExists   = 48
	codeValidation        = 121
	codeDuplicateKey      = 11000
	codeOutOfDiskSpace    = 14031
	codeUnknownField      = 40415
)

// passing are the codes of errors that may pass: no primary, a shutdown, a cursor that was lost or killed, a time-out, a write that is
// not acknowledged by a majority yet, a cache that is full (365, from 6.0 on), an index that is being built on a collection that is to
// be renamed (12587).
var passing = []int{
	6, 7, 24, 43, 50, 64, 89, 91, 112, 133, 134, 175, 189, 202, 237, 262, 317, 365, 9001, 10107, 11600, 11602, 12587, 13435, 13436,
}

// tries bounds how often something that may pass is tried, with growing pauses: about ten seconds in all. Whoever calls
// this package tries again from outside.
const tries = 7

// firstPause is the first of these pauses; each one is twice the one before.
const firstPause = 80 * time.Millisecond

// info is what listCollections says of one collection.
type info struct {
	kind    backup.Type
	uuid    string // hex; empty where the server gives none
	options bson.Raw
}

// site is where documents lie: in a collection, or as the buckets of a time series.
type site struct {
	collection string
	// raw says that the buckets are the series' own documents, which are seen and written with rawData (MongoDB 8.3, DRIVERS-3064). Before, they
	// lay in a collection beside it.
	raw bool
}

func plain(collection string) site { return site{collection: collection} }

// site is where the documents lie of what stands under the name; of a view it has no name.
func (i info) site(name string) site {
	switch {
	case i.kind == backup.TypeView:
		return site{}
	case i.kind == backup.TypeTimeseries && i.uuid != "":
		return site{name, true} // it is a collection itself
	case i.kind == backup.TypeTimeseries:
		return plain(backup.BucketsPrefix + name)
	default:
		return plain(name)
	}
}

// find reads all documents, as a majority has them.
func (at site) find(ctx context.Context, db *mongo.Database) (*mongo.Cursor, error) {
	if !at.raw {
		return proven(db).Collection(at.collection).Find(ctx, bson.D{})
	}
	return proven(db).RunCommandCursor(ctx, bson.D{
		{Key: "find", Value: at.collection}, {Key: "rawData", Value: true}, {Key: "readConcern", Value: bson.D{{Key: "level", Value: "majority"}}},
	})
}

// count counts them.
func (at site) count(ctx context.Context, db *mongo.Database) (n int64, err error) {
	if !at.raw {
		return proven(db).Collection(at.collection).CountDocuments(ctx, bson.D{})
	}
	cursor, err := at.find(ctx, db)
	if err != nil {
		return 0, err
	}
	for cursor.Next(ctx) {
		n++
	}
	return n, errors.Join(cursor.Err(), cursor.Close(context.WithoutCancel(ctx)))
}

// proven returns the database as it must be read for a proof: what a majority has, from the primary.
func proven(db *mongo.Database) *mongo.Database {
	return db.Client().Database(db.Name(), options.Database().
		SetReadConcern(readconcern.Majority()).SetReadPreference(readpref.Primary()))
}

// primary returns the database read at the primary, with its latest state: the node that a rename would go to.
func primary(db *mongo.Database) *mongo.Database {
	return db.Client().Database(db.Name(), options.Database().
		SetReadConcern(readconcern.Local()).SetReadPreference(readpref.Primary()))
}

// collections lists everything in the database by name.
func collections(ctx context.Context, db *mongo.Database) (map[string]info, error) {
	return listed(ctx, db, bson.D{})
}

func listed(ctx context.Context, db *mongo.Database, filter bson.D) (map[string]info, error) {
	var all map[string]info
	err := persist(ctx, func() error {
		all = map[string]info{}
		cursor, err := primary(db).ListCollections(ctx, filter)
		if err != nil {
			return err
		}
		for cursor.Next(ctx) {
			var entry struct {
				Name    string      `bson:"name"`
				Type    backup.Type `bson:"type"`
				Options bson.Raw    `bson:"options"`
				Info    struct {
					UUID bson.Binary `bson:"uuid"`
				} `bson:"info"`
			}
			if err := bson.Unmarshal(cursor.Current, &entry); err != nil {
				return errors.Join(fmt.Errorf("an entry of listCollections: %w", err), cursor.Close(ctx))
			}
			if entry.Type == "" {
				entry.Type = backup.TypeCollection
			}
			all[entry.Name] = info{entry.Type, hex.EncodeToString(entry.Info.UUID.Data), bytes.Clone(entry.Options)}
		}
		return errors.Join(cursor.Err(), cursor.Close(ctx))
	})
	if err != nil {
		return nil, fmt.Errorf("list the collections of %s: %w", db.Name(), err)
	}
	return all, nil
}

// write runs a command that changes something and returns when a majority has it in its journal. A server without a
// journal is asked for the majority alone.
func write(ctx context.Context, db *mongo.Database, command bson.D) error {
	return writeAnd(ctx, db, command, nil)
}

// writeAnd is write for a command whose answer matters.
func writeAnd(ctx context.Context, db *mongo.Database, command bson.D, answer any) error {
	durable := bson.D{{Key: "w", Value: "majority"}, {Key: "j", Value: true}}
	run := func(concern bson.D) error {
		r := db.RunCommand(ctx, append(slices.Clip(command), bson.E{Key: "writeConcern", Value: concern}))
		if r.Err() != nil || answer == nil {
			return r.Err()
		}
		return r.Decode(answer)
	}
	err := run(durable)
	if code(err) == codeBadValue && strings.Contains(err.Error(), "journal") {
		err = run(durable[:1])
	}
	return err
}

// renameTime bounds how long a rename may wait on the server for its turn: not so long that it could still happen after
// another attempt has taken over.
const renameTime = 10 * time.Second

func rename(ctx context.Context, db *mongo.Database, from, to string) error {
	return write(ctx, db.Client().Database("admin"), bson.D{
		{Key: "renameCollection", Value: db.Name() + "." + from}, {Key: "to", Value: db.Name() + "." + to},
		{Key: "maxTimeMS", Value: renameTime.Milliseconds()},
	})
}

// drop drops a collection, which may be gone already.
func drop(ctx context.Context, db *mongo.Database, collection string) error {
	err := persist(ctx, func() error {
		err := write(ctx, db, bson.D{{Key: "drop", Value: collection}})
		if code(err) == codeNamespaceNotFound {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("drop collection %s: %w", collection, err)
	}
	return nil
}

// dropAll drops the collections that are chosen, and counts them.
func dropAll(ctx context.Context, db *mongo.Database, chosen func(name string) bool) (int, error) {
	all, err := collections(ctx, db)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, name := range sortedKeys(all) {
		if !chosen(name) {
			continue
		}
		if err := drop(ctx, db, name); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// listIndexes returns a collection's index specifications as the server gives them.
func listIndexes(ctx context.Context, db *mongo.Database, collection string) ([]bson.Raw, error) {
	var specs []bson.Raw
	err := persist(ctx, func() error {
		specs = nil
		cursor, err := primary(db).Collection(collection).Indexes().List(ctx)
		if err != nil {
			return err
		}
		for cursor.Next(ctx) {
			specs = append(specs, bytes.Clone(cursor.Current))
		}
		return errors.Join(cursor.Err(), cursor.Close(ctx))
	})
	if err != nil {
		return nil, fmt.Errorf("list the indexes of %s: %w", collection, err)
	}
	return specs, nil
}

// hello is what the server says of itself.
type hello struct {
	SetName   string    `bson:"setName"`
	Msg       string    `bson:"msg"` // "isdbgrid" on a mongos
	LocalTime time.Time `bson:"localTime"`
}

func ask(ctx context.Context, db *mongo.Database) (hello, error) {
	var h hello
	err := persist(ctx, func() error {
		return db.Client().Database("admin").RunCommand(ctx, bson.D{{Key: "hello", Value: 1}}).Decode(&h)
	})
	if err != nil {
		return hello{}, fmt.Errorf("ask the server about itself: %w", err)
	}
	if h.LocalTime.IsZero() {
		h.LocalTime = time.Now()
	}
	return h, nil
}

// persist tries something until it succeeds, fails for good, or has failed too often.
func persist(ctx context.Context, do func() error) error {
	pause := firstPause
	for n := 1; ; n++ {
		err := do()
		if err == nil || n == tries || !transient(err) || ctx.Err() != nil {
			return err
		}
		if !rest(ctx, pause) {
			return errors.Join(ctx.Err(), err)
		}
		pause *= 2
	}
}

// rest waits, unless the context ends first.
func rest(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// transient says whether trying again may help. An error that is no answer of the server is one of the connection.
func transient(err error) bool {
	var command mongo.CommandError
	var exception mongo.WriteException
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, mongo.ErrClientDisconnected), errors.Is(err, mongo.ErrNoDocuments):
		return false
	case errors.As(err, &exception):
		if len(exception.WriteErrors) == 0 {
			return exception.WriteConcernError != nil
		}
		return !slices.ContainsFunc(exception.WriteErrors, func(e mongo.WriteError) bool { return !slices.Contains(passing, e.Code) })
	case errors.As(err, &command):
		return command.Code == 0 || slices.Contains(passing, int(command.Code)) ||
			command.HasErrorLabel("RetryableWriteError") || command.HasErrorLabel("TransientTransactionError")
	default:
		return mongo.IsNetworkError(err) || mongo.IsTimeout(err) || unsent(err)
	}
}

// unsent says whether a command never left: it waited for a connection when another one broke, which ends the wait of all.
// The driver gives such an error bare, without the labels that others have.
func unsent(err error) bool {
	var pool interface {
		error
		Retryable() bool
	}
	return errors.As(err, &pool) && pool.Retryable()
}

// code returns the server's code of a failed command, or zero.
func code(err error) int {
	var command mongo.CommandError
	if errors.As(err, &command) {
		return int(command.Code)
	}
	return 0
}

// refusedByValidator says whether a document does not satisfy its collection's validator. Restores pass over validators, because what
// stood in the database stays right; but that takes a right that the role readWrite does not include, so it is asked for only
// where a validator has spoken.
func refusedByValidator(err error) bool {
	var exception mongo.WriteException
	if errors.As(err, &exception) {
		return slices.ContainsFunc(exception.WriteErrors, func(e mongo.WriteError) bool { return e.Code == codeValidation })
	}
	return code(err) == codeValidation
}

// unknownField says whether the server refuses a field of a command that newer ones know.
func unknownField(err error, field string) bool {
	c := code(err)
	return (c == codeUnknownField || c == codeBadValue || c == 9 || c == 72) && strings.Contains(err.Error(), field)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
