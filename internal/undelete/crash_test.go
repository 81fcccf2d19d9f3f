package undelete

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/mongotest"
)

// killer ends a run at its nth command, as kill -9 would: nothing that follows reaches the server.
type killer struct {
	srv   *mongotest.Server
	at    int64
	after bool // the command still arrives and is carried out

	seen atomic.Int64
	dead atomic.Bool
}

var background = map[string]bool{"hello": true, "isMaster": true, "endSessions": true, "killCursors": true, "ping": true}

// run does something under the killer and says whether it was killed.
func (k *killer) run(t *testing.T, do func(ctx context.Context) error) bool {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	remove := k.srv.OnCommand(func(_, cmd string, _ bson.Raw) {
		if background[cmd] || k.dead.Load() {
			return
		}
		if k.seen.Add(1) == k.at {
			k.dead.Store(!k.after)
			cancel()
		}
	})
	defer remove()
	fault := k.srv.Fail(mongotest.Fault{Drop: mongotest.DropBefore, Match: func(command bson.Raw) bool {
		elements, err := command.Elements()
		return err == nil && len(elements) > 0 && !background[elements[0].Key()] && k.dead.Load()
	}})
	defer fault.Lift()
	err := do(ctx)
	if k.seen.Load() < k.at {
		require.NoError(t, err)
		return false
	}
	return true
}

// everyCrash runs a test for the nth command of some work being its last, for every n, once with that command lost and
// once with only its answer lost. The test returns whether the work was killed.
func everyCrash(t *testing.T, atLeast int64, test func(t *testing.T, connect func() *mongo.Database, k *killer) bool) {
	srv := mongotest.Start(t)
	for _, after := range []bool{false, true} {
		for n := int64(1); ; n++ {
			killed, ran := false, false
			t.Run(fmt.Sprintf("command %d after %t", n, after), func(t *testing.T) {
				ran = true
				name := fmt.Sprintf("d%d_%t", n, after)
				connect := func() *mongo.Database { return srv.Client(t).Database(name) }
				killed = test(t, connect, &killer{srv: srv, at: n, after: after})
				require.NoError(t, connect().Drop(t.Context()))
			})
			if t.Failed() || !ran {
				return
			}
			if !killed {
				require.Greater(t, n, atLeast, "the work is more than a few commands")
				break
			}
		}
	}
}

// deleted is a garage that has lost something, and what it held before.
func deleted(t *testing.T, db *mongo.Database) (j Job, s Selection, whole, without content) {
	t.Helper()
	garage(t, db, 12)
	whole = contentIn(t, db)
	b := take(t, db, "b1")
	for i := range 5 {
		deleteInvoice(t, db, fmt.Sprintf("inv_org_a_%04d", i))
	}
	without = contentIn(t, db)
	j = job(t, db, b)
	return j, selectAll(t, j, Filter{Collections: []string{"invoices"}}), whole, without
}

func TestAKilledUndeleteCarriesOn(t *testing.T) {
	t.Parallel()
	everyCrash(t, 10, func(t *testing.T, connect func() *mongo.Database, k *killer) bool {
		j, s, whole, _ := deleted(t, connect())
		killed := k.run(t, func(ctx context.Context) error {
			_, err := j.Undelete(ctx, s.Digest)
			return err
		})
		j.DB = connect()
		u, err := j.Undelete(t.Context(), s.Digest)
		require.NoError(t, err)
		require.Equal(t, Outcomes{Insert: 20}, u.Total)
		require.Equal(t, whole, contentIn(t, j.DB))
		v, err := j.Verify(t.Context(), s.Digest)
		require.NoError(t, err)
		require.Equal(t, Verified{File: verifiedFile, Same: 20, Whole: true}, v)

		// What the users delete now stays deleted, however often it is run again.
		deleteInvoice(t, j.DB, "inv_org_a_0001")
		after := contentIn(t, j.DB)
		again, err := j.Undelete(t.Context(), s.Digest)
		require.NoError(t, err)
		require.Equal(t, u, again)
		require.Equal(t, after, contentIn(t, j.DB))
		v, err = j.Verify(t.Context(), s.Digest)
		require.NoError(t, err)
		require.Equal(t, Verified{File: verifiedFile, Same: 16, Gone: 4}, v)
		return killed
	})
}

func TestAKilledUndeleteIsUndoneWhole(t *testing.T) {
	t.Parallel()
	everyCrash(t, 10, func(t *testing.T, connect func() *mongo.Database, k *killer) bool {
		j, s, _, without := deleted(t, connect())
		killed := k.run(t, func(ctx context.Context) error {
			_, err := j.Undelete(ctx, s.Digest)
			return err
		})
		j.DB = connect()
		_, err := j.Undo(t.Context())
		require.NoError(t, err)
		require.Equal(t, without, contentIn(t, j.DB))
		var undone *UndoneError
		_, err = j.Undelete(t.Context(), s.Digest)
		require.ErrorAs(t, err, &undone)
		_, err = j.Verify(t.Context(), s.Digest)
		require.ErrorAs(t, err, &undone)
		return killed
	})
}

func TestAKilledUndoCarriesOn(t *testing.T) {
	t.Parallel()
	everyCrash(t, 5, func(t *testing.T, connect func() *mongo.Database, k *killer) bool {
		j, s, _, without := deleted(t, connect())
		_, err := j.Undelete(t.Context(), s.Digest)
		require.NoError(t, err)
		killed := k.run(t, func(ctx context.Context) error {
			_, err := j.Undo(ctx)
			return err
		})
		j.DB = connect()
		n, err := j.Undo(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 20, n.Removed+n.Gone)
		require.Zero(t, n.Changed)
		require.Equal(t, without, contentIn(t, j.DB))
		return killed
	})
}

// The undo file may end in the middle of a line: what it says was never done.
func TestALineThatAKillHasCutShortTellsNothing(t *testing.T) {
	db := mongotest.Start(t).Client(t).Database("d")
	j, s, whole, _ := deleted(t, db)
	j.Fence = func(context.Context) error { return context.Canceled }
	_, err := j.Undelete(t.Context(), s.Digest)
	require.Error(t, err)
	path := filepath.Join(j.Dir, undoFile)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, b[:len(b)-40], 0o600))
	j.Fence = nil
	u, err := j.Undelete(t.Context(), s.Digest)
	require.NoError(t, err)
	require.Equal(t, Outcomes{Insert: 20}, u.Total)
	require.Equal(t, whole, contentIn(t, db))
}

// A document that was changed between the kill and the next run is the users' own by then.
func TestWhatWasChangedAfterAKillStays(t *testing.T) {
	srv := mongotest.Start(t)
	db := srv.Client(t).Database("d")
	j, s, whole, _ := deleted(t, db)
	ctx, cancel := context.WithCancel(t.Context())
	remove := srv.OnCommand(func(_, cmd string, body bson.Raw) {
		if cmd == "insert" && body.Lookup("insert").StringValue() == "invoice_line_items" {
			cancel()
		}
	})
	_, err := j.Undelete(ctx, s.Digest)
	require.ErrorIs(t, err, context.Canceled)
	remove()
	require.Eventually(t, func() bool { return len(contentIn(t, db)["invoice_line_items"]) == len(whole["invoice_line_items"]) },
		10*time.Second, time.Millisecond, "the command is on its way")
	line := where("invoice_id", "inv_org_a_0001", "organization_id", "org_a")
	changed, err := db.Collection("invoice_line_items").UpdateMany(t.Context(), line, where("$set", where("rate", 1.0)))
	require.NoError(t, err)
	require.EqualValues(t, 2, changed.ModifiedCount)
	u, err := j.Undelete(t.Context(), s.Digest)
	require.NoError(t, err)
	require.Equal(t, Outcomes{Insert: 20 - changed.ModifiedCount, Newer: changed.ModifiedCount}, u.Total)
	after := contentIn(t, db)
	for name, docs := range whole {
		require.Len(t, after[name], len(docs))
	}
}
