package activities

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// grown is a shop with orders that were made before its last backup.
func grown(t *testing.T) (Base, *mongo.Database, BackupRef) {
	t.Helper()
	b, db, _ := shop(t)
	target := b.Config.Targets["shop"]
	target.Verify.KeyCounts = []string{"collections", "orders"}
	target.Backup.Parallel, target.Backup.Level, target.Backup.MemoryMB = 1, 1, 32
	b.Config.Targets["shop"] = target
	insert(t, db, 100, time.Now().Add(-time.Hour))
	var ref BackupRef
	perform(t, (&Data{Base: b}).DumpDatabase, DumpInput{Target: "shop", Name: "20260224T020000Z-scheduled-aaaaaa", Kind: "scheduled"}, &ref)
	perform(t, (&Catalog{Base: b}).CheckBackup, CheckInput{Attempt: Attempt{Target: "shop"}, ID: ref.ID}, &ref)
	return b, db, ref
}

func insert(t *testing.T, db *mongo.Database, n int, at time.Time) {
	t.Helper()
	var docs []any
	for range n {
		docs = append(docs, bson.D{{Key: "_id", Value: bson.NewObjectIDFromTimestamp(at)}, {Key: "total", Value: 12}})
	}
	_, err := db.Collection("orders").InsertMany(t.Context(), docs)
	require.NoError(t, err)
}

func observe(t *testing.T, b Base) Observation {
	t.Helper()
	var o Observation
	perform(t, (&Data{Base: b}).ObserveDatabase, ObserveInput{Target: "shop"}, &o)
	return o
}

func TestWhatIsLeftOfADatabase(t *testing.T) {
	for _, row := range []struct {
		name  string
		hurt  func(*testing.T, *mongo.Database)
		state string
		says  string
	}{
		{"nothing happened", func(*testing.T, *mongo.Database) {}, DatabaseWhole, "it answers, with 101 documents in 2 collections"},
		{"it grew", func(t *testing.T, db *mongo.Database) { insert(t, db, 50, time.Now()) }, DatabaseWhole, "151 documents"},
		{"it is gone, and an empty one answers", func(t *testing.T, db *mongo.Database) {
			require.NoError(t, db.Drop(t.Context()))
		}, DatabaseEmpty, "0 collections"},
		{"its collections were made again by the application that restarted", func(t *testing.T, db *mongo.Database) {
			require.NoError(t, db.Drop(t.Context()))
			require.NoError(t, db.CreateCollection(t.Context(), "orders"))
		}, DatabaseEmpty, "1 collections without a document"},
		{"people work in a new one", func(t *testing.T, db *mongo.Database) {
			require.NoError(t, db.Drop(t.Context()))
			insert(t, db, 90, time.Now().Add(time.Minute))
		}, DatabaseYoung, "it was made anew"},
		{"most of it is gone", func(t *testing.T, db *mongo.Database) {
			require.NoError(t, db.Collection("orders").Drop(t.Context()))
			insert(t, db, 10, time.Now().Add(-2*time.Hour))
		}, DatabaseFallen, "orders (10, the backup has 100)"},
	} {
		t.Run(row.name, func(t *testing.T) {
			b, db, ref := grown(t)
			row.hurt(t, db)
			o := observe(t, b)
			require.Equal(t, row.state, o.State, o.What)
			require.Contains(t, o.What, row.says)
			if o.State != DatabaseEmpty {
				require.Equal(t, ref.ID, o.Backup)
			}
		})
	}
}

func TestADatabaseThatDoesNotAnswerIsAnObservation(t *testing.T) {
	b, _, srv := shop(t)
	dir := t.TempDir()
	target := b.Config.Targets["shop"]
	target.PodLoss.Volume.Path = filepath.Join(dir, "db")
	b.Config.Targets["shop"] = target
	require.NoError(t, srv.Close())
	o := observe(t, b)
	require.Equal(t, DatabaseSilent, o.State)
	require.Contains(t, o.What, "it does not answer: ")
	require.True(t, o.VolumeGone)
	require.Contains(t, o.Volume, "db is not there")
}

func TestTheVolumeIsLookedAt(t *testing.T) {
	dir := t.TempDir()
	b := Base{HostQueue: "runbook@battwheels-1"}
	see := func(path, says string, gone bool) {
		t.Helper()
		text, isGone := b.volume(path)
		require.Equal(t, says, text)
		require.Equal(t, gone, isGone)
	}
	see("", "", false)
	see(dir, dir+" is empty, as battwheels-1 sees it", true)
	see(dir+"/db", dir+"/db is not there, as battwheels-1 sees it", true)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "WiredTiger"), nil, 0o600))
	see(dir, dir+" is there, as battwheels-1 sees it", false)
	see(filepath.Join(dir, "WiredTiger"), dir+"/WiredTiger cannot be looked into, as battwheels-1 sees it", false)
}

func TestAServerWithoutItsUsersIsToldFromOneThatIsGone(t *testing.T) {
	for says, err := range map[string]error{
		"it answers, and refuses us: does its user exist? (Unauthorized) not authorized on shop to execute command": mongo.CommandError{Code: 13, Name: "Unauthorized", Message: "not authorized on shop to execute command"},
		"it does not answer: dial tcp 127.0.0.1:1: connect: connection refused": errors.New(
			"server selection error: context deadline exceeded, current topology: { Type: Unknown, Servers: [{ Addr: 127.0.0.1:1, Type: Unknown, Last error: dial tcp 127.0.0.1:1: connect: connection refused }, ] }"),
		"it answers, and refuses us: does its user exist? auth error: Authentication failed.": errors.New("server selection error: { Last error: auth error: Authentication failed. }"),
	} {
		require.Equal(t, says, why(err))
	}
}

func TestWithoutABackupThereIsNothingToCompareWith(t *testing.T) {
	b, _, _ := shop(t)
	o := observe(t, b)
	require.Equal(t, DatabaseWhole, o.State)
	require.Contains(t, o.What, "no proven backup to compare it with")
}

func TestWhatCameBackIsComparedByDocument(t *testing.T) {
	b, db, ref := grown(t)
	ctx := t.Context()
	insert(t, db, 7, time.Now())
	_, err := db.Collection("orders").DeleteOne(ctx, bson.D{{Key: "total", Value: 12}})
	require.NoError(t, err)
	require.NoError(t, db.Collection("customers").Drop(ctx))
	var now BackupRef
	perform(t, (&Data{Base: b}).DumpDatabase, DumpInput{Target: "shop", Name: "20260224T040000Z-emergency-bbbbbb", Kind: "emergency", Incident: "inc1"}, &now)
	var c Compared
	perform(t, (&Data{Base: b}).CompareWithBackup, CompareInput{Target: "shop", Incident: "inc1", Backup: ref.ID, Against: now.ID}, &c)
	require.Equal(t, int64(99), c.Radius.Same)
	require.Equal(t, int64(7), c.Radius.Added)
	require.Equal(t, int64(2), c.Radius.Missing)
	require.Equal(t, []string{"customers"}, c.Gone)
	require.Equal(t, []KeyCount{{Name: "collections", Backup: 2, Now: 1}, {Name: "orders", Backup: 100, Now: 106}}, c.KeyCounts)
	folder, err := b.folder("shop", "inc1")
	require.NoError(t, err)
	require.FileExists(t, folder.Path(radiusFile(now.ID)))
}

// A backup made while the incident is open is never what the database is compared with.
func TestABackupOfTheIncidentIsNotComparedWith(t *testing.T) {
	b, db, ref := grown(t)
	require.NoError(t, db.Collection("orders").Drop(t.Context()))
	insert(t, db, 1, time.Now().Add(-2*time.Hour))
	var during BackupRef
	perform(t, (&Data{Base: b}).DumpDatabase, DumpInput{Target: "shop", Name: "20260224T050000Z-scheduled-cccccc", Kind: "scheduled", Incident: "inc1"}, &during)
	o := observe(t, b)
	require.Equal(t, DatabaseFallen, o.State)
	require.Equal(t, ref.ID, o.Backup)
}
