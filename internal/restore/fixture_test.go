package restore

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/backup"
)

// ledger is a backup as every server can hold it.
func ledger(t testing.TB) []given {
	return []given{
		{name: "customers", documents: people(t, 2500, "as it was"), indexes: []bson.Raw{
			index(t, "n_1", "n", "unique", true),
			doc(t, "v", int32(2), "key", bson.D{{Key: "organization_id", Value: int32(1)}, {Key: "n", Value: int32(-1)}}, "name", "org_n"),
		}},
		{name: "invoices", documents: people(t, 30, "invoice"), indexes: []bson.Raw{index(t, "name_1", "name")}},
		{name: "sequences", documents: []bson.Raw{doc(t, "_id", "invoice", "value", int64(31))}},
		{name: "empty"},
	}
}

// rich is what only a full server holds.
func rich(t testing.TB) []given {
	now := time.Now().UTC().Truncate(time.Millisecond)
	var log []bson.Raw
	for i := range 40 {
		log = append(log, doc(t, "_id", int32(i), "line", fmt.Sprintf("%d bottles", 40-i)))
	}
	return []given{
		{name: "password_reset_tokens",
			indexes: []bson.Raw{index(t, "expires_at_1", "expires_at", "expireAfterSeconds", int32(0))},
			documents: []bson.Raw{
				doc(t, "_id", "gone", "expires_at", bson.NewDateTimeFromTime(now.Add(-time.Hour))),
				doc(t, "_id", "soon", "expires_at", bson.NewDateTimeFromTime(now.Add(24*time.Hour))),
				doc(t, "_id", "never", "expires_at", nil),
			}},
		{name: "log", options: doc(t, "capped", true, "size", int32(1<<16), "max", int32(100)), documents: log},
		{name: "strict",
			options:   doc(t, "validator", bson.D{{Key: "must", Value: bson.D{{Key: "$exists", Value: true}}}}, "validationLevel", "strict", "validationAction", "error"),
			documents: []bson.Raw{doc(t, "_id", int32(1), "from", "before the rule"), doc(t, "_id", int32(2), "must", true)}},
		{name: "journal_entries",
			indexes: []bson.Raw{doc(t, "v", int32(2), "unique", true,
				"key", bson.D{{Key: "organization_id", Value: int32(1)}, {Key: "source_document_id", Value: int32(1)}}, "name", "once",
				"partialFilterExpression", bson.D{{Key: "source_document_id", Value: bson.D{{Key: "$gt", Value: ""}}}})},
			documents: []bson.Raw{
				doc(t, "_id", int32(1), "organization_id", "a", "source_document_id", "x"),
				doc(t, "_id", int32(2), "organization_id", "a", "source_document_id", nil),
				doc(t, "_id", int32(3), "organization_id", "a", "source_document_id", nil),
			}},
		{name: "types", documents: []bson.Raw{
			doc(t, "_id", bson.D{{Key: "a", Value: int64(1)}}, "ts", bson.Timestamp{}, "d", bson.NewDecimal128(1, 2), "min", bson.MinKey{}, "js", bson.JavaScript("f()")),
			doc(t, "_id", 1.5, "nested", bson.D{{Key: "ts", Value: bson.Timestamp{}}}, "nan", []any{1.0, nil, "é"}),
		}},
		{name: "open_invoices", kind: backup.TypeView, options: doc(t, "viewOn", "invoices", "pipeline", bson.A{
			bson.D{{Key: "$match", Value: bson.D{{Key: "name", Value: "invoice"}}}},
		})},
	}
}

// backupFor makes the richest backup that the server can hold. None of its documents is due: a real server deletes such a one within a minute of
// its index, whether or not a test has looked at it by then.
func backupFor(t testing.TB, full bool) []given {
	if !full {
		return ledger(t)
	}
	list := rich(t)
	list[0].documents = list[0].documents[1:]
	return append(ledger(t), list...)
}

// ruin fills a database as a disaster leaves it: documents overwritten, collections gone, others that nobody backed up.
func ruin(t testing.TB, db *mongo.Database, full bool) {
	t.Helper()
	fill(t, db,
		given{name: "customers", documents: people(t, 1200, "garbage"), indexes: []bson.Raw{index(t, "name_1", "name")}},
		given{name: "sequences", documents: []bson.Raw{doc(t, "_id", "invoice", "value", int64(77))}},
		given{name: "new_since", documents: people(t, 5, "new"), indexes: []bson.Raw{index(t, "n_1", "n", "unique", true)}},
		given{name: "new_and_empty"},
	)
	if full {
		fill(t, db,
			given{name: "password_reset_tokens", documents: people(t, 2, "token")},
			given{name: "view_since", kind: backup.TypeView, options: doc(t, "viewOn", "new_since", "pipeline", bson.A{})},
			given{name: "open_invoices", kind: backup.TypeView, options: doc(t, "viewOn", "elsewhere", "pipeline", bson.A{})},
			// A view where the backup has a collection, and a collection's name that the backup has for a view below.
			given{name: "types", kind: backup.TypeView, options: doc(t, "viewOn", "customers", "pipeline", bson.A{})},
			given{name: "measurements", kind: backup.TypeTimeseries, options: doc(t, "timeseries", bson.D{{Key: "timeField", Value: "at"}})},
		)
	}
}

// expected is what a database holds that was restored from these collections.
func expected(t testing.TB, db *mongo.Database, list []given) state {
	t.Helper()
	scratch := db.Client().Database(db.Name() + "_x")
	s := makeBackup(t, list...)
	for i := range s.Manifest.Collections {
		c := &s.Manifest.Collections[i]
		require.NoError(t, create(t.Context(), scratch, c.Name, c))
		b := newBatch()
		for d, err := range s.Documents(t.Context(), c) {
			require.NoError(t, err)
			b.add(d)
		}
		if len(b.documents) > 0 {
			b.close()
			b.bypass = true
			require.NoError(t, write(t.Context(), scratch, b.command(c.Name, true)))
		}
		require.NoError(t, buildIndexes(t.Context(), scratch, c.Name, c, false, func(indexSpec) bool { return true }))
	}
	want := stateOf(t, scratch)
	require.NoError(t, scratch.Drop(t.Context()))
	return want
}
