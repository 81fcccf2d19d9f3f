package bucket_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/dump"
	"github.com/battwheels/runbook/internal/mongotest"
	"github.com/battwheels/runbook/internal/offsite"
	"github.com/battwheels/runbook/sandbox/bucket"
)

// A backup goes to S3 and comes back on another host byte for byte, a collection whose name S3 must not take for a folder and a file
// of several parts included.
func TestABackupSurvivesInS3(t *testing.T) {
	s, err := bucket.Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop()) })
	for _, e := range s.Environment() {
		name, value, _ := strings.Cut(e, "=")
		t.Setenv(name, value)
	}
	db := mongotest.Start(t).Client(t).Database("garage")
	noise := make([]byte, 4<<20)
	seed := uint64(1)
	for i := range noise { // what gzip cannot pack, so that the file is larger than a part
		seed ^= seed << 13
		seed ^= seed >> 7
		seed ^= seed << 17
		noise[i] = byte(seed)
	}
	for collection, docs := range map[string][]bson.D{
		"large":      {{{Key: "_id", Value: 1}, {Key: "n", Value: noise}}, {{Key: "_id", Value: 2}, {Key: "m", Value: noise[1:]}}, {{Key: "_id", Value: 3}, {Key: "m", Value: noise[2:]}}},
		"a/b c%d+é?": {{{Key: "_id", Value: 1}}},
	} {
		_, err := db.Collection(collection).InsertMany(t.Context(), docs)
		require.NoError(t, err)
	}
	root := t.TempDir()
	const name = "20260224T020000Z-scheduled-3f9a2c"
	m, err := dump.Run(t.Context(), db, dump.Options{Root: root, Name: name, Target: "battwheels", Kind: backup.Scheduled, Tool: "runbook test"})
	require.NoError(t, err)

	here := offsite.Bucket{URL: s.URL(), Cache: t.TempDir()}
	require.NoError(t, here.Put(t.Context(), "battwheels", backup.Source{Dir: filepath.Join(root, name), Manifest: m}, nil))
	there := offsite.Bucket{URL: s.URL(), Cache: t.TempDir()}
	list, err := there.List(t.Context(), "battwheels")
	require.NoError(t, err)
	require.Equal(t, []offsite.Copy{{Name: name, Whole: true}}, list)
	got, err := there.Get(t.Context(), "battwheels", name, t.TempDir(), nil)
	require.NoError(t, err)
	require.Equal(t, m, got.Manifest)
	require.NoError(t, backup.Verify(t.Context(), got, nil))
	for _, f := range m.Files() {
		want, err := os.ReadFile(filepath.Join(root, name, filepath.FromSlash(f.Path)))
		require.NoError(t, err)
		have, err := os.ReadFile(filepath.Join(got.Dir, filepath.FromSlash(f.Path)))
		require.NoError(t, err)
		require.Equal(t, want, have, f.Path)
	}
	require.NoError(t, there.Delete(t.Context(), "battwheels", name))
	list, err = here.List(t.Context(), "battwheels")
	require.NoError(t, err)
	require.Empty(t, list)
}
