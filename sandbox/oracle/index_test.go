package oracle

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/mongotest"
)

// TestMongorestorePassesOverDocumentIndexes restores a backup whose collections are large enough to have document indexes: from its
// own directory, where the folder of the indexes looks like a database's, and from the database's. A database of that folder's name
// is no exception.
func TestMongorestorePassesOverDocumentIndexes(t *testing.T) {
	for _, database := range []string{shop, "index"} {
		for name, folder := range map[string]string{"the backup": "", "the database's folder": database} {
			t.Run(database+" from "+name, func(t *testing.T) {
				uri := mongotest.Start(t).URI()
				client := connect(t, uri)
				db := client.Database(database)
				names := []string{"invoices/2026 €", strings.Repeat("größe/", 25)}
				for _, collection := range names {
					var docs []any
					for i := range 1500 {
						docs = append(docs, bson.D{{Key: "_id", Value: i}, {Key: "text", Value: strings.Repeat("x", 1000)}})
					}
					_, err := db.Collection(collection).InsertMany(t.Context(), docs)
					require.NoError(t, err)
				}
				source := ownBackup(t, db)
				for _, collection := range names {
					require.FileExists(t, source.IndexFile(source.Manifest.Collection(collection)))
				}
				before := contents(t, db)
				dir, from := source.Dir, database
				args := []string{}
				if folder != "" {
					dir = filepath.Join(dir, folder)
					args = append(args, "--db", database)
				}
				require.NoError(t, db.Drop(t.Context()))
				require.EqualValues(t, 3000, stockRestore(t, uri, dir, append([]string{"--gzip", "--nsFrom", from + ".*", "--nsTo", from + ".*"}, args...)...))
				require.Equal(t, before, contents(t, db))
				databases, err := client.ListDatabaseNames(t.Context(), bson.D{})
				require.NoError(t, err)
				require.Equal(t, []string{database}, databases, "nothing else was restored")
			})
		}
	}
}
