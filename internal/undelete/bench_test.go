package undelete

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"go.mongodb.org/mongo-driver/v2/bson"

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
