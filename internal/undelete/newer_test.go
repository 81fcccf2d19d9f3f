package undelete

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/mongotest"
)

// restored makes a database of which a backup was taken, in which people then worked and damage was done, of which a safety dump was
// taken, and which was then put back to the backup.
func restored(t *testing.T, db *mongo.Database) (old, safety backup.Source) {
	t.Helper()
	garage(t, db, 20)
	put(t, db, "numbers", doc(t, "_id", int32(1)), doc(t, "_id", "kept"))
	old = take(t, db, "backup")
	put(t, db, "invoices",
		doc(t, "_id", "n1", "invoice_id", "inv_n1", "organization_id", "org_a", "invoice_number", "INV-000901", "total", 12.5),
		doc(t, "_id", "n2", "invoice_id", "inv_n2", "organization_id", "org_b", "invoice_number", "INV-000902"))
	put(t, db, "invoice_line_items", doc(t, "_id", "l1", "line_item_id", "l1", "invoice_id", "inv_n1", "organization_id", "org_a"))
	put(t, db, "numbers", doc(t, "_id", int64(2)))
	put(t, db, "sessions", doc(t, "_id", "s1"))
	put(t, db, "rubbish", doc(t, "_id", "r1"), doc(t, "_id", "r2"))
	_, err := db.Collection("invoices").UpdateMany(t.Context(), where("organization_id", "org_c"), bson.D{{Key: "$set", Value: where("total", -1)}})
	require.NoError(t, err)
	safety = take(t, db, "safety")
	remove(t, db, "invoices", where("_id", bson.D{{Key: "$in", Value: bson.A{"n1", "n2"}}}))
	remove(t, db, "invoice_line_items", where("_id", "l1"))
	remove(t, db, "numbers", where("_id", int64(2)))
	remove(t, db, "sessions", bson.D{})
	require.NoError(t, db.Collection("rubbish").Drop(t.Context()))
	return old, safety
}

// TestWhatIsNewerThanTheRestoredBackupIsFoundInTheSafetyDump proves which documents count as newer: those that the safety dump has, and
// neither the backup nor the database. What was deleted since the restore stays away, and so does what was changed.
func TestWhatIsNewerThanTheRestoredBackupIsFoundInTheSafetyDump(t *testing.T) {
	onServers(t, func(t *testing.T, db *mongo.Database, _ *mongotest.Server) {
		old, safety := restored(t, db)
		deleteInvoice(t, db, "inv_org_b_0003") // by a user, after the restore
		put(t, db, "invoices", doc(t, "_id", "anew", "invoice_id", "inv_n2", "organization_id", "org_b", "invoice_number", "INV-000950"))

		j := job(t, db, safety)
		all, err := j.Find(t.Context(), FindOptions{})
		require.NoError(t, err)
		require.EqualValues(t, 3+4+2, all.Documents, "without the backup, what was deleted since is taken for missing")

		f, err := j.Find(t.Context(), FindOptions{Without: &old})
		require.NoError(t, err)
		serializable(t, f)
		require.Equal(t, map[string][]string{"invoices": {"inv_n1"}, "invoice_line_items": {"l1"}, "numbers": {"2"}}, found(t, j, missingFile))
		require.EqualValues(t, 1, f.Recreated, "inv_n2 was entered again")
		require.Equal(t, []string{"rubbish"}, f.Gone)
		require.Equal(t, []string{"safety"}, f.Backups)
		for _, g := range f.Groups.Largest {
			require.False(t, g.From.Before(old.Manifest.StartedAt), "made after the backup began")
			require.False(t, g.To.After(safety.Manifest.FinishedAt.UTC()), "and before the safety dump ended")
		}
	})
}

// TestNewerDocumentsComeBackByteForByte goes on to the insert, its proof and its undo.
func TestNewerDocumentsComeBackByteForByte(t *testing.T) {
	onServers(t, func(t *testing.T, db *mongo.Database, _ *mongotest.Server) {
		old, safety := restored(t, db)
		before := contentIn(t, db)
		j := job(t, db, safety)
		_, err := j.Find(t.Context(), FindOptions{Without: &old})
		require.NoError(t, err)
		s, err := j.Select(t.Context(), missingFile, Filter{Organizations: []string{"org_a"}})
		require.NoError(t, err)
		out, err := j.Undelete(t.Context(), s.Digest)
		require.NoError(t, err)
		require.EqualValues(t, 2, out.Total.Insert)
		v, err := j.Verify(t.Context(), s.Digest)
		require.NoError(t, err)
		require.True(t, v.Whole)
		after := contentIn(t, db)
		for collection, id := range map[string]string{"invoices": `"n1"`, "invoice_line_items": `"l1"`} {
			var stood bson.Raw
			for d, err := range safety.Documents(t.Context(), safety.Manifest.Collection(collection)) {
				require.NoError(t, err)
				if d.Lookup("_id").String() == id {
					stood = append(bson.Raw{}, d...)
				}
			}
			require.Equal(t, fmt.Sprintf("%x", []byte(stood)), after[collection][id])
			delete(after[collection], id)
		}
		require.Equal(t, before, after, "nothing else has changed")
		u, err := j.Undo(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 2, u.Removed)
		require.Equal(t, before, contentIn(t, db))
	})
}

// TestNewerIsTheSameByIndexAndByReading proves that the merged document indexes tell what the documents themselves tell, with _ids of
// many types, and with long ones, of which an index keeps a part only.
func TestNewerIsTheSameByIndexAndByReading(t *testing.T) {
	for name, long := range map[string]bool{"indexes tell": false, "an _id is too long for them": true} {
		t.Run(name, func(t *testing.T) {
			db := mongotest.Start(t).Client(t).Database("d")
			text := strings.Repeat("x", 2000)
			var docs []bson.Raw
			for i := range 800 {
				docs = append(docs, doc(t, "_id", int32(i), "text", text))
			}
			put(t, db, "big", docs...)
			old := take(t, db, "backup")
			put(t, db, "big", doc(t, "_id", int64(5000)), doc(t, "_id", 7000.0), doc(t, "_id", "text"), doc(t, "_id", bson.NewObjectID()), doc(t, "_id", where("a", 1)))
			if long {
				put(t, db, "big", doc(t, "_id", text))
			}
			safety := take(t, db, "safety")
			require.NotEmpty(t, old.Manifest.Collection("big").DocumentIndex.Path, "the test is about indexes")
			require.NotEmpty(t, safety.Manifest.Collection("big").DocumentIndex.Path)
			remove(t, db, "big", bson.D{{Key: "text", Value: bson.D{{Key: "$exists", Value: false}}}})
			remove(t, db, "big", where("_id", int32(3)))

			list := func(old, safety backup.Source) map[string][]string {
				j := job(t, db, safety)
				_, err := j.Find(t.Context(), FindOptions{Without: &old})
				require.NoError(t, err)
				return found(t, j, missingFile)
			}
			byIndex := list(old, safety)
			want := 5
			if long {
				want++
			}
			require.Len(t, byIndex["big"], want)
			require.Equal(t, byIndex, list(withoutIndexes(old), safety))
		})
	}
}

func withoutIndexes(s backup.Source) backup.Source {
	m := *s.Manifest
	m.Collections = append([]backup.Collection{}, m.Collections...)
	for i := range m.Collections {
		m.Collections[i].DocumentIndex = backup.File{}
	}
	return backup.Source{Dir: s.Dir, Manifest: &m}
}

// TestMoreNewerDocumentsThanAreListedAreNamed bounds what is remembered: what the database has already does not count against it.
func TestMoreNewerDocumentsThanAreListedAreNamed(t *testing.T) {
	db := mongotest.Start(t).Client(t).Database("d")
	put(t, db, "audit_logs", doc(t, "_id", "first"))
	old := take(t, db, "backup")
	for i := range 40 {
		put(t, db, "audit_logs", doc(t, "_id", int32(i)))
	}
	safety := take(t, db, "safety")
	remove(t, db, "audit_logs", where("_id", int32(7)))
	j := job(t, db, safety)
	f, err := j.Find(t.Context(), FindOptions{Without: &old, Limit: 5})
	require.NoError(t, err)
	require.EqualValues(t, 1, f.Documents)
	require.Empty(t, f.TooMany)
	remove(t, db, "audit_logs", bson.D{})
	f, err = j.Find(t.Context(), FindOptions{Without: &old, Limit: 5})
	require.NoError(t, err)
	require.Equal(t, []string{"audit_logs"}, f.TooMany)
}

// TestADamagedBackupTellsNothingIsNewer proves that neither an index nor a file that was damaged is believed.
func TestADamagedBackupTellsNothingIsNewer(t *testing.T) {
	db := mongotest.Start(t).Client(t).Database("d")
	old, safety := restored(t, db)
	path := filepath.Join(old.Dir, filepath.FromSlash(old.Manifest.Collection("invoices").Data.Path))
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	b[len(b)/2] ^= 0xff
	require.NoError(t, os.WriteFile(path, b, 0o600))
	j := job(t, db, safety)
	_, err = j.Find(t.Context(), FindOptions{Without: &old})
	require.ErrorContains(t, err, "invoices")
	require.NoFileExists(t, filepath.Join(j.Dir, missingFile))
}
