package restore

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/mongotest"
)

func TestMergeNewerPutsBackWhatTheBackupCouldNotHave(t *testing.T) {
	since := time.Date(2026, 2, 24, 2, 0, 0, 0, time.UTC)
	entry := func(id string, at any, what string) bson.Raw {
		return doc(t, "_id", id, "timestamp", at, "action", what)
	}
	old := entry("old", "2026-02-23T10:00:00.123000", "delete")
	both := entry("both", "2026-02-24T02:00:01", "delete")
	safety := makeBackup(t, given{name: "audit_logs", documents: []bson.Raw{
		old,
		both,
		entry("gone from the backup", "2026-02-20T10:00:00", "long before"),
		entry("no zone", "2026-02-24T10:00:00.123000", "after"),
		entry("zone", "2026-02-24T05:00:00+02:00", "after"),
		entry("date", bson.NewDateTimeFromTime(since.Add(time.Hour)), "after"),
		entry("slow clock", "2026-02-24T01:58:00Z", "after"),
		entry("changed", "2026-02-24T03:00:00Z", "as the disaster left it"),
		entry("garbage", "yesterday", "?"),
		doc(t, "_id", "no time at all"),
	}})
	onServers(t, func(t *testing.T, db *mongo.Database, srv *mongotest.Server) {
		ctx := t.Context()
		fill(t, db, given{name: "audit_logs", documents: []bson.Raw{old, both, entry("changed", "2026-02-24T03:00:00Z", "as the backup has it")}})
		if srv != nil {
			srv.Fail(mongotest.Fault{Command: "insert", Times: 1, Drop: mongotest.DropAfter})
		}
		m, err := MergeNewer(ctx, db, safety, "audit_logs", "timestamp", since)
		require.NoError(t, err)
		if srv == nil {
			require.Equal(t, Merged{Inserted: 4, Existing: 1, Conflicts: 1, Undated: 2}, m)
		} else {
			require.Equal(t, Merged{Existing: 5, Conflicts: 1, Undated: 2}, m, "the answer was lost, the entries were not")
		}
		m, err = MergeNewer(ctx, db, safety, "audit_logs", "timestamp", since)
		require.NoError(t, err)
		require.Equal(t, Merged{Existing: 5, Conflicts: 1, Undated: 2}, m)
		var kept struct {
			Action string `bson:"action"`
		}
		require.NoError(t, db.Collection("audit_logs").FindOne(ctx, bson.D{{Key: "_id", Value: "changed"}}).Decode(&kept))
		require.Equal(t, "as the backup has it", kept.Action)
		n, err := db.Collection("audit_logs").CountDocuments(ctx, bson.D{})
		require.NoError(t, err)
		require.EqualValues(t, 7, n)

		m, err = MergeNewer(ctx, db, safety, "audit_log", "timestamp", since)
		require.NoError(t, err)
		require.Zero(t, m, "a dump without the collection has nothing to merge")
	})
}
