package mongotest

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
)

func TestTheServerSaysWhatItIs(t *testing.T) {
	_, db := startDB(t, WithReplicaSet("rs0"), WithVersion("7.0.14"))
	hello := must(t, admin(db), `{"hello": 1}`)
	require.Equal(t, "rs0", hello.Lookup("setName").StringValue())
	require.EqualValues(t, 21, hello.Lookup("maxWireVersion").Int32())
	require.Equal(t, "7.0.14", must(t, admin(db), `{"buildInfo": 1}`).Lookup("version").StringValue())
	require.EqualValues(t, 300, must(t, admin(db), `{"getParameter": 1, "minSnapshotHistoryWindowInSeconds": 1}`).
		Lookup("minSnapshotHistoryWindowInSeconds").Int32())
	_, err := run(t, db, `{"hello": 1, "x": 1}`)
	require.NoError(t, err)
	for _, bad := range []string{"8", "8.x.1", "3.6.0"} {
		_, err := New(WithVersion(bad))
		require.ErrorContains(t, err, bad)
	}
}

func TestWhatClientsAskAServer(t *testing.T) {
	tests := []struct {
		command string
		path    []string
		want    any
	}{
		{`{"ping": 1}`, []string{"ok"}, 1.0},
		{`{"serverStatus": 1}`, []string{"storageEngine", "name"}, "wiredTiger"},
		{`{"connectionStatus": 1, "showPrivileges": true}`, []string{"authInfo"}, `{"authenticatedUsers":[],"authenticatedUserRoles":[]}`},
		{`{"setParameter": 1, "ttlMonitorEnabled": false}`, []string{"was"}, true},
		{`{"getParameter": 1, "ttlMonitorEnabled": 1}`, []string{"ttlMonitorEnabled"}, false},
		{`{"getParameter": "*"}`, []string{"transactionLifetimeLimitSeconds"}, int32(60)},
		{`{"listDatabases": 1, "filter": {"name": "none"}}`, []string{"totalSize"}, int64(0)},
	}
	_, db := startDB(t)
	for _, tt := range tests {
		t.Run(tt.command, func(t *testing.T) {
			got := must(t, admin(db), tt.command).Lookup(tt.path...)
			if json, ok := tt.want.(string); ok && got.Type == bson.TypeEmbeddedDocument {
				require.JSONEq(t, json, got.String())
				return
			}
			want, err := bson.Marshal(bson.D{{Key: "v", Value: tt.want}})
			require.NoError(t, err)
			require.Equal(t, bson.Raw(want).Lookup("v").String(), got.String())
		})
	}
	require.Contains(t, must(t, db, `{"whatsmyuri": 1}`).Lookup("you").StringValue(), "127.0.0.1:")
	_, err := run(t, admin(db), `{"getParameter": 1, "none": 1}`)
	requireCode(t, InvalidOptions, err)
	_, err = run(t, admin(db), `{"setParameter": 1, "none": 1}`)
	requireCode(t, InvalidOptions, err)
	_, err = run(t, db, `{"listDatabases": 1}`)
	requireCode(t, Unauthorized, err)
}
