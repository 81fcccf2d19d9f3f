package conformance

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// Held is what a database holds under one name.
type Held struct {
	Type      string
	Options   string
	Indexes   []string
	Documents []string // of a time series: its buckets
}

// bucketsOf begins a command on the buckets of a time series as the server lists it. One with a UUID is a collection that holds them itself, and
// shows them with rawData; any other is a view of them.
func bucketsOf(command, name string, listed bson.Raw) bson.D {
	if _, _, ok := listed.Lookup("info", "uuid").BinaryOK(); ok {
		return bson.D{{Key: command, Value: name}, {Key: "rawData", Value: true}}
	}
	return bson.D{{Key: command, Value: "system.buckets." + name}}
}

// Contents reads all that a database holds, as it is compared.
func Contents(t *testing.T, db *mongo.Database) map[string]Held {
	t.Helper()
	all, err := contents(t.Context(), db)
	require.NoError(t, err)
	return all
}

// contents reads all that a database holds, through the driver alone. What is runbook's own and what servers keep for
// themselves is left out. The order of documents counts where the server keeps it: in capped collections.
func contents(ctx context.Context, db *mongo.Database) (map[string]Held, error) {
	all := map[string]Held{}
	list, err := every(ctx)(db.ListCollections(ctx, bson.D{}))
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		name := c.Lookup("name").StringValue()
		if strings.HasPrefix(name, "runbook.") || strings.HasPrefix(name, "runbook~") || strings.HasPrefix(name, "system.") && name != "system.js" {
			continue
		}
		idIndex, _ := c.Lookup("idIndex").DocumentOK()
		h := Held{Type: c.Lookup("type").StringValue(), Options: ordered(c.Lookup("options").Document()) + "idIndex: " + ordered(idIndex)}
		if h.Type != "view" {
			if err := h.read(ctx, db, name, c); err != nil {
				return nil, fmt.Errorf("collection %q: %w", name, err)
			}
		}
		all[name] = h
	}
	return all, nil
}

func (h *Held) read(ctx context.Context, db *mongo.Database, name string, listed bson.Raw) error {
	indexes, err := every(ctx)(db.Collection(name).Indexes().List(ctx))
	if err != nil {
		return err
	}
	for _, i := range indexes {
		h.Indexes = append(h.Indexes, ordered(i))
	}
	slices.Sort(h.Indexes)
	find := bson.D{{Key: "find", Value: name}}
	if h.Type == "timeseries" {
		find = bucketsOf("find", name, listed)
	}
	documents, err := every(ctx)(db.RunCommandCursor(ctx, find))
	if err != nil {
		return err
	}
	for _, d := range documents {
		h.Documents = append(h.Documents, shown(d))
	}
	if !strings.Contains(h.Options, `"capped"`) {
		slices.Sort(h.Documents)
	}
	return nil
}

// shown is a document's bytes, or what stands for those of a large one.
func shown(d bson.Raw) string {
	if len(d) > 4<<10 {
		return fmt.Sprintf("%d bytes with the SHA-256 %x", len(d), sha256.Sum256(d))
	}
	return fmt.Sprintf("%x", []byte(d))
}

// ordered writes options or an index specification with its fields by name: servers list them in an order of their own.
// Below the top, where order counts, it stays, but in collations and weights, where it does not.
func ordered(d bson.Raw) string {
	if d == nil {
		return "none"
	}
	elements, err := d.Elements()
	if err != nil {
		return fmt.Sprintf("%x", []byte(d))
	}
	slices.SortFunc(elements, func(a, b bson.RawElement) int { return strings.Compare(a.Key(), b.Key()) })
	var s strings.Builder
	for _, e := range elements {
		if sub, ok := e.Value().DocumentOK(); ok && (e.Key() == "collation" || e.Key() == "weights") {
			fmt.Fprintf(&s, "%q: {%s}; ", e.Key(), ordered(sub))
			continue
		}
		fmt.Fprintf(&s, "%q: %s %x; ", e.Key(), e.Value(), []byte(e))
	}
	return s.String()
}

// every reads a cursor to its end.
func every(ctx context.Context) func(*mongo.Cursor, error) ([]bson.Raw, error) {
	return func(c *mongo.Cursor, err error) ([]bson.Raw, error) {
		if err != nil {
			return nil, err
		}
		var list []bson.Raw
		for c.Next(ctx) {
			list = append(list, bytes.Clone(c.Current))
		}
		return list, errors.Join(c.Err(), c.Close(ctx))
	}
}

// wreck is the disaster: what was there is gone or wrong, and something is there that was not. What a restore under an
// application leaves alone, because servers do not rename it, stays.
func wreck(ctx context.Context, db *mongo.Database, holds map[string]Held) error {
	garbage := bson.A{bson.D{{Key: "_id", Value: "garbage"}, {Key: "written", Value: "by mistake"}}}
	names := make([]string, 0, len(holds))
	for name := range holds {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		h := holds[name]
		if h.Type == "timeseries" || strings.HasPrefix(name, "system.") {
			continue
		}
		if h.Type == "view" || i%2 == 0 {
			if err := db.Collection(name).Drop(ctx); err != nil {
				return err
			}
			continue
		}
		if len(h.Indexes) > 1 {
			if err := db.RunCommand(ctx, bson.D{{Key: "dropIndexes", Value: name}, {Key: "index", Value: "*"}}).Err(); err != nil {
				return err
			}
		}
		err := db.RunCommand(ctx, bson.D{{Key: "insert", Value: name}, {Key: "documents", Value: garbage}, {Key: "bypassDocumentValidation", Value: true}}).Err()
		if err != nil {
			return err
		}
	}
	return db.RunCommand(ctx, bson.D{{Key: "insert", Value: "since_then"}, {Key: "documents", Value: garbage}}).Err()
}
