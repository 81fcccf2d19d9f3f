package mongotest

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
)

// withID is a fault's predicate for one document.
func withID(id int32) func(bson.Raw) bool {
	return func(d bson.Raw) bool {
		n, ok := d.Lookup("_id").Int32OK()
		return ok && n == id
	}
}

func TestAFaultStrikesWhereAndWhenItIsTold(t *testing.T) {
	failure := &Error{Code: 8000, Message: "boom"}
	tests := []struct {
		name  string
		fault Fault
		fails []int // of five inserts into app.c, each after a find
	}{
		{"every time", Fault{Command: "insert"}, []int{0, 1, 2, 3, 4}},
		{"the third time", Fault{Command: "insert", Skip: 2, Times: 1}, []int{2}},
		{"the first two times", Fault{Command: "insert", Times: 2}, []int{0, 1}},
		{"in this collection", Fault{Command: "insert", Namespace: "app.c", Times: 1}, []int{0}},
		{"in this database", Fault{Command: "insert", Namespace: "app", Times: 1}, []int{0}},
		{"in another collection", Fault{Command: "insert", Namespace: "app.d"}, nil},
		{"for a command like this", Fault{Match: func(c bson.Raw) bool { return c.Lookup("insert").Type == bson.TypeString }, Skip: 4}, []int{4}},
		{"for one document", Fault{Document: withID(3)}, []int{3}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, db := startDB(t)
			tt.fault.Error = failure
			armed := s.Fail(tt.fault)
			var failed []int
			for i := range 5 {
				require.ErrorIs(t, db.Collection("c").FindOne(t.Context(), doc(t, `{"_id": 100}`)).Err(), mongo.ErrNoDocuments)
				_, err := db.Collection("c").InsertOne(t.Context(), bson.D{{Key: "_id", Value: int32(i)}})
				if err != nil {
					requireCode(t, 8000, err)
					failed = append(failed, i)
				}
			}
			require.Equal(t, tt.fails, failed)
			require.Equal(t, len(failed), armed.Struck())
			armed.Lift()
			must(t, db, `{"insert": "c", "documents": [{"_id": 100}]}`)
		})
	}
}

func TestAnUnreadableDocumentEndsTheCursor(t *testing.T) {
	s, db := startDB(t)
	c := db.Collection("c")
	must(t, db, `{"insert": "c", "documents": [{"_id": 1}, {"_id": 2}, {"_id": 3}, {"_id": 4}, {"_id": 5}]}`)
	armed := s.Fail(Fault{Command: "find", Namespace: "app.c", Document: withID(4), Error: &Error{Code: 8001, Message: "unreadable"}})

	cur, err := c.Find(t.Context(), bson.D{}, options.Find().SetBatchSize(2))
	require.NoError(t, err)
	n := 0
	for cur.Next(t.Context()) {
		n++
	}
	requireCode(t, 8001, cur.Err())
	require.Equal(t, 2, n)
	require.Zero(t, s.Cursors())
	require.Equal(t, 1, armed.Struck())

	_, err = c.Find(t.Context(), doc(t, `{"_id": {"$gt": 3}}`))
	requireCode(t, 8001, err)
	_, err = c.Find(t.Context(), doc(t, `{"_id": {"$gt": 4}}`))
	require.NoError(t, err)
	n64, err := c.EstimatedDocumentCount(t.Context())
	require.NoError(t, err, "counting reads no document")
	require.EqualValues(t, 5, n64)
}

func TestTheIndexOnIDMayOutliveARecord(t *testing.T) {
	s, db := startDB(t)
	must(t, db, `{"insert": "c", "documents": [{"_id": 1, "a": 1}, {"_id": 2, "a": 2}]}`)
	s.Fail(Fault{Document: withID(2), Record: true, Error: &Error{Code: 8, Message: "cannot read"}})
	require.Len(t, all(t, db, `{"find": "c", "filter": {"_id": {"$gt": 1}}, "projection": {"_id": 1}, "sort": {"_id": 1}}`), 1)
	for _, read := range []string{
		`{"find": "c"}`, `{"find": "c", "projection": {"a": 1}}`, `{"find": "c", "filter": {"a": 2}, "projection": {"_id": 1}}`,
		`{"aggregate": "c", "pipeline": [{"$project": {"_id": 1}}], "cursor": {}}`,
	} {
		_, err := run(t, db, read)
		requireCode(t, 8, err)
	}
}

func TestADocumentThatCannotBeWritten(t *testing.T) {
	s, db := startDB(t)
	s.Fail(Fault{Document: withID(2), Error: &Error{Code: OutOfDiskSpace, Message: "no space left"}})
	_, err := db.Collection("c").InsertMany(t.Context(), docs(t, `{"_id": 1}`, `{"_id": 2}`, `{"_id": 3}`), options.InsertMany().SetOrdered(false))
	var we mongo.BulkWriteException
	require.ErrorAs(t, err, &we)
	require.Len(t, we.WriteErrors, 1)
	require.Equal(t, 1, we.WriteErrors[0].Index)
	require.EqualValues(t, OutOfDiskSpace, we.WriteErrors[0].Code)
	require.Len(t, all(t, db, `{"find": "c"}`), 2)
}

func TestADroppedConnection(t *testing.T) {
	for name, tt := range map[string]struct {
		drop Drop
		done int
	}{"before anything was done": {DropBefore, 0}, "after everything was done": {DropAfter, 1}} {
		t.Run(name, func(t *testing.T) {
			s, db := startDB(t)
			s.Fail(Fault{Command: "insert", Drop: tt.drop, Times: 1})
			_, err := run(t, db, `{"insert": "c", "documents": [{"_id": 1}]}`)
			require.True(t, mongo.IsNetworkError(err), "%v", err)
			require.Len(t, all(t, db, `{"find": "c"}`), tt.done)
		})
	}
}

func TestAMemberThatIsPrimaryNoMore(t *testing.T) {
	s, db := startDB(t, WithReplicaSet("rs0"))
	armed := s.Fail(Fault{Command: "insert", Times: 1, Error: &Error{Code: NotWritablePrimary, Message: "not primary"}})
	_, err := db.Collection("c").InsertOne(t.Context(), doc(t, `{"_id": 1}`))
	require.NoError(t, err, "the driver tries a retryable write again")
	require.Equal(t, 1, armed.Struck())
	s.Fail(Fault{Command: "insert", Error: &Error{Code: NotWritablePrimary, Message: "not primary"}})
	_, err = run(t, db, `{"insert": "c", "documents": [{"_id": 2}]}`)
	requireCode(t, NotWritablePrimary, err)
}

func TestAWriteConcernThatFails(t *testing.T) {
	s, db := startDB(t, WithReplicaSet("rs0"))
	armed := s.Fail(Fault{Command: "insert", Times: 1, WriteConcern: &Error{Code: WriteConcernTimeout, Message: "waiting for replication timed out"}})
	_, err := db.Collection("c").InsertOne(t.Context(), doc(t, `{"_id": 1}`))
	requireCode(t, WriteConcernTimeout, err)
	require.Len(t, all(t, db, `{"find": "c"}`), 1, "it was written all the same")
	armed.Lift()
	three := db.Collection("c", options.Collection().SetWriteConcern(&writeconcern.WriteConcern{W: 3}))
	_, err = three.InsertOne(t.Context(), doc(t, `{"_id": 2}`))
	requireCode(t, CannotSatisfyWriteConcern, err)
}

func TestACommandIsHeldUp(t *testing.T) {
	s, db := startDB(t)
	hold, reached := make(chan struct{}), make(chan struct{})
	remove := s.OnCommand(func(dbName, cmd string, c bson.Raw) {
		if cmd == "insert" && dbName == "app" && c.Lookup("insert").StringValue() == "c" {
			close(reached)
		}
	})
	s.Fail(Fault{Command: "insert", Hold: hold})
	done := make(chan error, 1)
	go func() {
		_, err := db.Collection("c").InsertOne(context.WithoutCancel(t.Context()), bson.D{{Key: "_id", Value: 1}})
		done <- err
	}()
	<-reached
	remove()
	ops := all(t, admin(db), `{"aggregate": 1, "cursor": {}, "pipeline": [{"$currentOp": {}}, {"$match": {"op": "insert"}}, {"$project": {"_id": 0, "ns": 1, "active": 1}}]}`)
	require.Equal(t, []string{`{"active":true,"ns":"app.c"}`}, ops)
	require.Empty(t, all(t, db, `{"find": "c"}`))
	close(hold)
	require.NoError(t, <-done)
	require.Len(t, all(t, db, `{"find": "c"}`), 1)
}

func TestAfterSettlingNothingOldIsCarriedOut(t *testing.T) {
	s, db := startDB(t)
	hold, reached := make(chan struct{}), make(chan struct{})
	remove := s.OnCommand(func(_, cmd string, _ bson.Raw) {
		if cmd == "insert" {
			close(reached)
		}
	})
	s.Fail(Fault{Command: "insert", Hold: hold, Times: 1})
	ctx, kill := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := db.Collection("c").InsertOne(ctx, bson.D{{Key: "_id", Value: 1}})
		done <- err
	}()
	<-reached
	remove()
	kill()
	require.Error(t, <-done, "the client is gone, its command is not")
	require.Empty(t, all(t, db, `{"find": "c"}`))
	close(hold)
	s.Settle()
	require.EqualValues(t, 1, must(t, s.Client(t).Database("app"), `{"count": "c"}`).Lookup("n").Int32())
}

func TestASlowCommandMeetsTheClientsDeadline(t *testing.T) {
	s, db := startDB(t)
	s.Fail(Fault{Command: "find", Delay: time.Minute})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := db.Collection("c").Find(ctx, bson.D{})
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestASlowCommandMeetsTheServersDeadline(t *testing.T) {
	s, db := startDB(t)
	s.Fail(Fault{Command: "find", Delay: time.Minute})
	_, err := run(t, db, `{"find": "c", "maxTimeMS": 1}`)
	requireCode(t, MaxTimeMSExpired, err)
}

func TestAWriteThatNobodyWaitsFor(t *testing.T) {
	s, db := startDB(t)
	unacknowledged := db.Collection("c", options.Collection().SetWriteConcern(writeconcern.Unacknowledged()))
	_, err := unacknowledged.InsertOne(t.Context(), doc(t, `{"_id": 1}`))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(all(t, db, `{"find": "c"}`)) == 1 }, 10*time.Second, time.Millisecond)
	require.Zero(t, s.Cursors())
}

func TestClientsAreListedByTheirNames(t *testing.T) {
	s, db := startDB(t)
	other, err := mongo.Connect(options.Client().ApplyURI(s.URI()).SetAppName("the app"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, other.Disconnect(context.Background())) })
	require.NoError(t, other.Ping(t.Context(), nil))
	idle := all(t, admin(db), `{"aggregate": 1, "cursor": {}, "pipeline": [{"$currentOp": {"idleConnections": true}},
		{"$match": {"appName": "the app", "active": false}}, {"$project": {"appName": 1}}, {"$limit": 1}]}`)
	require.Equal(t, []string{`{"appName":"the app"}`}, idle)
	require.NotEmpty(t, must(t, admin(db), `{"currentOp": 1}`).Lookup("inprog", "0", "command", "currentOp"))
}

func TestAServerComesBack(t *testing.T) {
	s, err := New()
	require.NoError(t, err)
	client := s.Client(t)
	require.NoError(t, client.Ping(t.Context(), nil))
	require.NoError(t, s.Close())
	require.NoError(t, s.Close(), "closing twice is fine")
	again := Start(t, WithAddress(s.Address()))
	require.Equal(t, s.URI(), again.URI())
	var seen atomic.Int32
	again.OnCommand(func(_, cmd string, _ bson.Raw) {
		if cmd == "ping" {
			seen.Add(1)
		}
	})
	require.Eventually(t, func() bool { return client.Ping(t.Context(), nil) == nil }, 10*time.Second, time.Millisecond)
	require.EqualValues(t, 1, seen.Load())
}
