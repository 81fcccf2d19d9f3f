package undelete

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/mongotest"
)

// BenchmarkFind compares a backup with a database that has lost a hundredth of it, and then a second backup that equals
// the first in all but one document.
func BenchmarkFind(b *testing.B) {
	db := mongotest.Start(b).Client(b).Database("d")
	const n = 100_000
	var docs []bson.Raw
	for i := range n {
		docs = append(docs, doc(b, "_id", bson.NewObjectID(), "invoice_id", fmt.Sprintf("inv_%06d", i), "organization_id", fmt.Sprintf("org_%d", i%7),
			"n", int32(i), "notes", "some words that a customer said about a vehicle", "total", float64(i)))
	}
	put(b, db, "invoices", docs...)
	older := take(b, db, "b1")
	put(b, db, "invoices", doc(b, "_id", "one more", "organization_id", "org_1"))
	newer := take(b, db, "b2")
	remove(b, db, "invoices", where("n", where("$lt", n/100)))
	j := job(b, db, newer, older)
	b.ReportAllocs()
	b.SetBytes(newer.Manifest.Bytes() + older.Manifest.Bytes())
	for b.Loop() {
		f, err := j.Find(b.Context(), FindOptions{})
		require.NoError(b, err)
		require.EqualValues(b, n/100, f.Documents)
	}
}

// BenchmarkFindNewer looks for the hundredth of a safety dump that is newer than the restored backup, in a database that is as the
// backup: once with the document indexes of both, once without.
func BenchmarkFindNewer(b *testing.B) {
	db := mongotest.Start(b).Client(b).Database("d")
	const n = 200_000
	invoices := func(from, to int) (docs []bson.Raw) {
		for i := from; i < to; i++ {
			docs = append(docs, doc(b, "_id", bson.NewObjectID(), "invoice_id", fmt.Sprintf("inv_%06d", i), "organization_id", fmt.Sprintf("org_%d", i%7),
				"n", int32(i), "notes", "some words that a customer said about a vehicle", "total", float64(i)))
		}
		return docs
	}
	put(b, db, "invoices", invoices(0, n)...)
	old := take(b, db, "backup")
	put(b, db, "invoices", invoices(n, n+n/100)...)
	safety := take(b, db, "safety")
	remove(b, db, "invoices", where("n", where("$gte", n)))
	for _, how := range []struct {
		name string
		old  backup.Source
	}{{"indexes", old}, {"documents", withoutIndexes(old)}} {
		b.Run(how.name, func(b *testing.B) {
			j := job(b, db, safety)
			b.ReportAllocs()
			b.SetBytes(safety.Manifest.Bytes())
			for b.Loop() {
				f, err := j.Find(b.Context(), FindOptions{Without: &how.old})
				require.NoError(b, err)
				require.EqualValues(b, n/100, f.Documents)
			}
		})
	}
}
