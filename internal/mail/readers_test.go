package mail

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/mongotest"
)

func TestRecipientsFromALiveDatabase(t *testing.T) {
	db := mongotest.Start(t).Client(t).Database("battwheels")
	_, err := db.Collection("organizations").InsertMany(t.Context(), []any{
		organization("o1", "Volt", email("hello@volt.example")), organization("o2", "Amp"),
		bson.D{{Key: "organization_id", Value: "o3"}, {Key: "is_active", Value: false}, email("c@ohm.example")},
	})
	require.NoError(t, err)
	_, err = db.Collection("users").InsertOne(t.Context(), user("o2", "asha@amp.example", "Asha", "owner", true))
	require.NoError(t, err)

	active, without, err := Recipients(t.Context(), FromDatabase(db), battwheels)
	require.NoError(t, err)
	require.Empty(t, without)
	require.Len(t, active, 2)
	require.Equal(t, "hello@volt.example", active[0].Email)
	require.Equal(t, "asha@amp.example", active[1].Email)

	_, _, err = Recipients(t.Context(), FromDatabase(db.Client().Database("empty")), battwheels)
	require.ErrorIs(t, err, ErrNoOrganizations)
}

func TestRecipientsFromABackup(t *testing.T) {
	dir := t.TempDir()
	data, err := bson.Marshal(organization("o1", "Volt", email("hello@volt.example")))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "organizations.bson"), data, 0o600))
	sum := sha256.Sum256(data)
	c := backup.Collection{Name: "organizations", Type: backup.TypeCollection,
		Data: backup.File{Path: "organizations.bson", Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:])}}
	c.Digest.Add(data)
	source := backup.Source{Dir: dir, Manifest: &backup.Manifest{Name: "b1", Collections: []backup.Collection{c}}}
	active, _, err := Recipients(t.Context(), FromBackup(source), battwheels)
	require.NoError(t, err)
	require.Len(t, active, 1)
	require.Equal(t, "hello@volt.example", active[0].Email)
}

func TestABackupWithoutOrganizationsIsNotTakenForNobody(t *testing.T) {
	_, _, err := Recipients(t.Context(), FromBackup(backup.Source{Manifest: &backup.Manifest{Name: "b1"}}), battwheels)
	require.ErrorContains(t, err, "b1 has no collection organizations")
}
