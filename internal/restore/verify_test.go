package restore

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/mongotest"
)

// indexed gives every collection of a backup a document index.
func indexed(t testing.TB, s backup.Source) backup.Source {
	t.Helper()
	for i := range s.Manifest.Collections {
		c := &s.Manifest.Collections[i]
		if c.Type == backup.TypeView {
			continue
		}
		path := backup.IndexPath(s.Manifest.Database, c.Name)
		require.NoError(t, os.MkdirAll(filepath.Join(s.Dir, filepath.Dir(path)), 0o750))
		f, err := s.WriteIndex(t.Context(), c, filepath.Join(s.Dir, path))
		require.NoError(t, err)
		f.Path = path
		c.DocumentIndex = f
	}
	require.NoError(t, backup.WriteManifest(s.Dir, s.Manifest))
	require.NoError(t, backup.Verify(t.Context(), s, nil))
	return s
}

// Equal counts, and fifty documents overwritten: exactly these are named, with and without an index beside the backup, and
// only their collection is read twice.
func TestVerificationNamesTheDocumentsThatWereOverwritten(t *testing.T) {
	onServers(t, func(t *testing.T, db *mongo.Database, srv *mongotest.Server) {
		docs := people(t, 3000, "Asha")
		list := []given{{name: "customers", documents: docs}, {name: "vehicles", documents: people(t, 500, "scooter")}}
		fill(t, db, list...)
		var want []string
		for i := 7; i < 3000; i += 60 {
			id := fmt.Sprintf("cus_%05d", i)
			want = append(want, fmt.Sprintf("%q", id))
			_, err := db.Collection("customers").UpdateByID(t.Context(), id, bson.D{{Key: "$set", Value: bson.D{{Key: "name", Value: "Ravi"}}}})
			require.NoError(t, err)
		}
		require.Len(t, want, 50)
		plain := makeBackup(t, list...)
		for name, s := range map[string]backup.Source{"with an index": indexed(t, makeBackup(t, list...)), "without": plain} {
			t.Run(name, func(t *testing.T) {
				if s.IndexFile(s.Manifest.Collection("customers")) != "" {
					// The documents of the backup are not needed.
					require.NoError(t, os.Remove(filepath.Join(s.Dir, s.Manifest.Collection("customers").Data.Path)))
				}
				dir := t.TempDir()
				v, err := VerifyWith(t.Context(), db, s, VerifyOptions{Dir: dir})
				require.NoError(t, err)
				require.Equal(t, []Difference{{
					Collection: "customers", What: "0 documents missing, 50 changed, 0 too many", Changed: 50, ChangedIDs: want,
				}}, v.Differences)
				require.EqualValues(t, 3500, v.Documents)
				left, err := os.ReadDir(dir)
				require.NoError(t, err)
				require.Empty(t, left, "nothing is left behind")
			})
		}
		v, err := VerifyWith(t.Context(), db, plain, VerifyOptions{Level: LevelDigests})
		require.NoError(t, err)
		require.Len(t, v.Differences, 1)
		require.Contains(t, v.Differences[0].What, "3000 documents")
		require.Zero(t, v.Differences[0].Changed)
		v, err = VerifyWith(t.Context(), db, plain, VerifyOptions{Level: LevelCounts})
		require.NoError(t, err)
		require.Empty(t, v.Differences, "counts do not tell")
		_, err = db.Collection("customers").DeleteOne(t.Context(), bson.D{{Key: "_id", Value: "cus_00001"}})
		require.NoError(t, err)
		v, err = VerifyWith(t.Context(), db, plain, VerifyOptions{Level: LevelCounts})
		require.NoError(t, err)
		require.Equal(t, []Difference{{Collection: "customers", What: "2999 documents instead of 3000"}}, v.Differences)
		_, err = VerifyWith(t.Context(), db, plain, VerifyOptions{Level: "all"})
		require.ErrorContains(t, err, `verification level "all": want counts, digests or documents`)
	})
}

// More differ than are named: the counts are exact, and the list is bounded.
func TestVerificationCountsEveryDifferenceAndNamesTheFirst(t *testing.T) {
	onServers(t, func(t *testing.T, db *mongo.Database, _ *mongotest.Server) {
		before, after := people(t, 1000, "Asha"), people(t, 1500, "Asha")[300:]
		for i := range 200 {
			after[i] = doc(t, "_id", fmt.Sprintf("cus_%05d", 300+i), "n", "garbage")
		}
		fill(t, db, given{name: "customers", documents: after})
		v, err := VerifyDatabase(t.Context(), db, indexed(t, makeBackup(t, given{name: "customers", documents: before})), nil)
		require.NoError(t, err)
		require.Len(t, v.Differences, 1)
		d := v.Differences[0]
		require.Equal(t, "300 documents missing, 200 changed, 500 too many", d.What)
		require.Equal(t, [3]int64{300, 200, 500}, [3]int64{d.Missing, d.Changed, d.Extra})
		for from, ids := range map[int][]string{0: d.MissingIDs, 300: d.ChangedIDs, 1000: d.ExtraIDs} {
			require.Len(t, ids, mostNamed)
			require.Equal(t, fmt.Sprintf("%q", fmt.Sprintf("cus_%05d", from)), ids[0])
		}
	})
}

// Where documents expire, those are no difference whose time has come, and every other is.
func TestVerificationTellsExpiredDocumentsFromMissingOnes(t *testing.T) {
	db := mongotest.Start(t).Client(t).Database("test_database")
	var docs []bson.Raw
	for i := range 300 {
		at := time.Now().Add(24 * time.Hour)
		if i%3 == 0 {
			at = time.Unix(1.6e9, 0)
		}
		docs = append(docs, doc(t, "_id", int32(i), "at", bson.NewDateTimeFromTime(at)))
	}
	sessions := given{name: "sessions", indexes: []bson.Raw{index(t, "at_1", "at", "expireAfterSeconds", int32(60))}, documents: docs}
	s := indexed(t, makeBackup(t, sessions))
	sessions.documents = slices.DeleteFunc(slices.Clone(docs), func(d bson.Raw) bool {
		i := d.Lookup("_id").Int32()
		return i%3 == 0 && i > 30 || i == 100 // of those whose time had come some are still there; one is missing
	})
	fill(t, db, sessions)
	for level, want := range map[Level]string{LevelDocuments: "1 documents missing, 0 changed, 0 too many", LevelDigests: "1 documents missing, 0 changed, 0 too many"} {
		v, err := VerifyWith(t.Context(), db, s, VerifyOptions{Level: level})
		require.NoError(t, err)
		require.EqualValues(t, 89, v.TTLExpired)
		require.Len(t, v.Differences, 1)
		require.Equal(t, want, v.Differences[0].What)
		require.Equal(t, []string{`{"$numberInt":"100"}`}, v.Differences[0].MissingIDs)
	}
}

// A full or missing disk must not hide the difference itself.
func TestVerificationWithoutSpaceStillSaysThatSomethingDiffers(t *testing.T) {
	db := mongotest.Start(t).Client(t).Database("test_database")
	fill(t, db, given{name: "customers", documents: people(t, 10, "Ravi")})
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	v, err := VerifyWith(t.Context(), db, makeBackup(t, given{name: "customers", documents: people(t, 10, "Asha")}), VerifyOptions{Dir: filepath.Join(file, "no")})
	require.NoError(t, err)
	require.Len(t, v.Differences, 1)
	require.Contains(t, v.Differences[0].What, "cannot be told without space")
}

// A damaged index is an error of its own, and no verdict on the database.
func TestVerificationDoesNotBelieveADamagedIndex(t *testing.T) {
	db := mongotest.Start(t).Client(t).Database("test_database")
	s := indexed(t, makeBackup(t, given{name: "customers", documents: people(t, 10, "Asha")}))
	fill(t, db, given{name: "customers", documents: people(t, 10, "Ravi")})
	path := s.IndexFile(s.Manifest.Collection("customers"))
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	b[len(b)/2] ^= 1
	require.NoError(t, os.WriteFile(path, b, 0o600))
	_, err = VerifyDatabase(t.Context(), db, s, nil)
	require.ErrorAs(t, err, new(*backup.CorruptError))
}
