package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/backup"
)

// A batch that is merged into live data is sent when it has batchBytes or mostDocuments. A single document may be larger:
// 16 MiB fit into a message of 48.
const (
	batchBytes    = 4 << 20
	mostDocuments = 1000
)

// batch is documents on their way to the server: the raw array of an insert command.
type batch struct {
	array     []byte
	documents []int // where each document's bytes begin
	timestamp bool  // a document has an empty timestamp that the server would fill in
	bypass    bool  // past the collection's validator
	raw       bool  // buckets, to a time series that holds them itself
	weight    int64 // what it holds of a loader's budget
}

var batches = sync.Pool{New: func() any { return new(batch) }}

func newBatch() *batch {
	b := batches.Get().(*batch)
	b.array = append(b.array[:0], 0, 0, 0, 0)
	b.documents = b.documents[:0]
	b.timestamp, b.bypass, b.raw, b.weight = false, false, false, 0
	return b
}

func (b *batch) free() {
	if b.huge() {
		return // left to the garbage collector
	}
	batches.Put(b)
}

// huge says whether the batch grew with a huge document.
func (b *batch) huge() bool { return cap(b.array) > 2*largestBatch }

func (b *batch) add(doc bson.Raw) {
	b.array = append(b.array, byte(bson.TypeEmbeddedDocument))
	b.array = strconv.AppendInt(b.array, int64(len(b.documents)), 10)
	b.array = append(b.array, 0)
	b.documents = append(b.documents, len(b.array))
	b.array = append(b.array, doc...)
	b.timestamp = b.timestamp || backup.EmptyTimestamp(doc)
}

func (b *batch) size() int { return len(b.array) }

func (b *batch) at(i int) bson.Raw {
	at := b.documents[i]
	n := int(b.array[at]) | int(b.array[at+1])<<8 | int(b.array[at+2])<<16 | int(b.array[at+3])<<24
	return bson.Raw(b.array[at : at+n])
}

// close ends the array. Nothing can be added after it.
func (b *batch) close() {
	b.array = append(b.array, 0)
	n := len(b.array)
	b.array[0], b.array[1], b.array[2], b.array[3] = byte(n), byte(n>>8), byte(n>>16), byte(n>>24)
}

// command is the insert. The raw array goes into it as it is.
func (b *batch) command(collection string, ordered bool) bson.D {
	command := bson.D{
		{Key: "insert", Value: collection},
		{Key: "documents", Value: bson.RawValue{Type: bson.TypeArray, Value: b.array}},
		{Key: "ordered", Value: ordered},
	}
	if b.bypass {
		command = append(command, bson.E{Key: "bypassDocumentValidation", Value: true})
	}
	if b.raw {
		command = append(command, bson.E{Key: "rawData", Value: true})
	}
	if b.timestamp {
		command = append(command, bson.E{Key: "bypassEmptyTsReplacement", Value: true})
	}
	return command
}

// errStartOver says that it is not known how much of an ordered batch has arrived, so that the collection must be
// loaded again from its beginning.
var errStartOver = errors.New("the connection broke while an ordered collection was loaded")

// insert writes a batch so that each of its documents is there, whatever happens to the connection. It returns which
// documents the server had already, or others in their place: alike tells. ordered keeps the documents' order, for
// capped collections. of is the collection's name for people.
func insert(ctx context.Context, db *mongo.Database, collection, of string, b *batch, ordered bool) (there []int, err error) {
	err = persist(ctx, func() error {
		err := write(ctx, db, b.command(collection, ordered))
		if !b.bypass && !ordered && refusedByValidator(err) {
			b.bypass = true
			err = write(ctx, db, b.command(collection, ordered))
		}
		if transient(err) {
			if ordered {
				return errors.Join(errStartOver, errors.New(err.Error()))
			}
			return err
		}
		there = nil
		var exception mongo.WriteException
		if !errors.As(err, &exception) {
			return explain(err, of, b)
		}
		var passes []mongo.WriteError
		for _, e := range exception.WriteErrors {
			switch {
			case e.Index < 0 || e.Index >= len(b.documents):
				return err
			case slices.Contains(passing, e.Code):
				passes = append(passes, e)
			case e.Code == codeDuplicateKey:
				there = append(there, e.Index)
			case e.Code == codeOutOfDiskSpace:
				return &SpaceError{}
			default:
				what := "document _id " + nameOf(b.at(e.Index))
				if more := len(exception.WriteErrors) - 1; more > 0 {
					what += fmt.Sprintf(" (and %d more of the %d sent with it)", more, len(b.documents))
				}
				return &RefusedError{Collection: of, What: what, Code: e.Code, Reason: e.Message}
			}
		}
		if len(passes) > 0 {
			// An earlier try has left some of them there, and others cannot be written yet.
			exception.WriteErrors = passes
			return exception
		}
		return nil
	})
	return there, err
}

// mayNotBypass is why a restore into a collection with a validator fails under a user that has readWrite alone.
const mayNotBypass = "some documents do not satisfy it, and runbook's user may not pass over it: give it the role dbAdmin on this database, too"

// explain names what is known of a whole insert's failure.
func explain(err error, of string, b *batch) error {
	switch {
	case err == nil:
		return nil
	case code(err) == codeOutOfDiskSpace:
		return &SpaceError{}
	case b.bypass && code(err) == codeUnauthorized:
		return &RefusedError{Collection: of, What: "its validator", Code: code(err), Reason: mayNotBypass}
	case b.timestamp && unknownField(err, "bypassEmptyTsReplacement"):
		for i := range b.documents {
			if doc := b.at(i); backup.EmptyTimestamp(doc) {
				return &RefusedError{
					Collection: of, What: "document _id " + nameOf(doc), Code: code(err),
					Reason: "it has an empty Timestamp, which this version of the server would replace by the current time",
				}
			}
		}
	}
	return fmt.Errorf("insert into %s: %w", of, err)
}

// alike finds which of a batch's documents stand in the collection byte for byte, among those that it had already.
func alike(ctx context.Context, db *mongo.Database, collection string, b *batch, there []int) (map[int]bool, error) {
	ids := make(bson.A, len(there))
	for i, n := range there {
		ids[i] = b.at(n).Lookup("_id")
	}
	found := map[backup.Hash]bool{}
	err := persist(ctx, func() error {
		clear(found)
		find := bson.D{{Key: "find", Value: collection}, {Key: "filter", Value: bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids}}}}}}
		if b.raw {
			find = append(find, bson.E{Key: "rawData", Value: true})
		}
		cursor, err := primary(db).RunCommandCursor(ctx, find)
		if err != nil {
			return err
		}
		for cursor.Next(ctx) {
			found[backup.HashOf(cursor.Current)] = true
		}
		return errors.Join(cursor.Err(), cursor.Close(context.WithoutCancel(ctx)))
	})
	if err != nil {
		return nil, fmt.Errorf("compare documents of %s: %w", collection, err)
	}
	same := map[int]bool{}
	for _, n := range there {
		if found[backup.HashOf(b.at(n))] {
			same[n] = true
		}
	}
	return same, nil
}
