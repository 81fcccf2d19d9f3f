package undelete

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/mongotest"
)

// refuseExpr makes the server one that cannot compare whole documents.
func refuseExpr(srv *mongotest.Server) {
	srv.Fail(mongotest.Fault{Command: "find", Match: func(command bson.Raw) bool {
		filter, _ := command.Lookup("filter").DocumentOK()
		_, there := lookup(filter, "$expr")
		return there
	}, Error: &mongotest.Error{Code: 168, Message: "Unrecognized expression"}})
}

func TestUndoRemovesWhatWasInsertedAndIsAsItWas(t *testing.T) {
	onServers(t, func(t *testing.T, db *mongo.Database, srv *mongotest.Server) {
		for _, small := range []bool{false, true} {
			if small {
				if srv == nil {
					return
				}
				refuseExpr(srv)
				require.NoError(t, db.Drop(t.Context()))
			}
			garage(t, db, 20)
			b := take(t, db, "b1")
			for _, id := range []string{"inv_org_a_0000", "inv_org_a_0001", "inv_org_b_0002"} {
				deleteInvoice(t, db, id)
			}
			j := job(t, db, b)
			s := selectAll(t, j, Filter{})
			// What stands there before is not what was inserted.
			e := linesOf[entry](t, j, selectionFile)
			var there bson.Raw
			for d, err := range b.Documents(t.Context(), b.Manifest.Collection("invoices")) {
				require.NoError(t, err)
				if d.Lookup("invoice_id").StringValue() == "inv_org_b_0002" {
					there = doc(t, "x", d).Lookup("x").Document()
				}
			}
			put(t, db, "invoices", there)
			u, err := j.Undelete(t.Context(), s.Digest)
			require.NoError(t, err)
			require.Equal(t, Outcomes{Insert: int64(len(e)) - 1, There: 1}, u.Total)

			_, err = db.Collection("invoices").UpdateOne(t.Context(), where("invoice_id", "inv_org_a_0001"), where("$set", where("total", 1.0)))
			require.NoError(t, err)
			remove(t, db, "invoice_history", where("invoice_id", "inv_org_a_0001"))
			put(t, db, "invoices", doc(t, "_id", "later", "invoice_id", "inv_later", "organization_id", "org_a"))
			want := contentIn(t, db)
			for _, e := range e {
				id, err := decodeID(e.ID)
				require.NoError(t, err)
				if e.Key != "inv_org_a_0001" && e.Key != "inv_org_b_0002" {
					delete(want[e.Collection], id.String())
				}
			}
			n, err := j.Undo(t.Context())
			require.NoError(t, err)
			serializable(t, n)
			require.Equal(t, Undone{Removed: 9, Changed: 1, Gone: 1}, n)
			require.Equal(t, want, contentIn(t, db))
			again, err := j.Undo(t.Context())
			require.NoError(t, err)
			require.Equal(t, n, again)
			require.Equal(t, want, contentIn(t, db))
		}
	})
}

// The application may change a document in the moment between undo's look and its deletion.
func TestADocumentThatChangesInTheLastMomentIsNotRemoved(t *testing.T) {
	for _, row := range []struct {
		name   string
		small  bool // the server cannot compare whole documents
		change bson.D
	}{
		{"a field is changed", false, where("$set", where("total", 77.0))},
		{"a field is added", false, where("$set", where("paid", true))},
		{"a field is removed", false, where("$unset", where("notes", "", "total", ""))},
		{"a field is changed, on a small server", true, where("$set", where("total", 77.0))},
		{"a field is removed, on a small server", true, where("$unset", where("total", ""))},
	} {
		t.Run(row.name, func(t *testing.T) {
			srv := mongotest.Start(t)
			db := srv.Client(t).Database("d")
			if row.small {
				refuseExpr(srv)
			}
			j, s, _, without := deleted(t, db)
			_, err := j.Undelete(t.Context(), s.Digest)
			require.NoError(t, err)
			changed := false
			other := srv.Client(t).Database("d")
			remove := srv.OnCommand(func(_, cmd string, body bson.Raw) {
				if cmd == "delete" && body.Lookup("delete").StringValue() == "invoices" && !changed {
					changed = true
					_, err := other.Collection("invoices").UpdateOne(t.Context(), where("invoice_id", "inv_org_a_0001"), row.change)
					if err != nil {
						t.Error(err)
					}
				}
			})
			defer remove()
			n, err := j.Undo(t.Context())
			require.NoError(t, err)
			require.True(t, changed)
			require.Equal(t, Undone{Removed: 19, Changed: 1}, n)
			require.Len(t, contentIn(t, db)["invoices"], len(without["invoices"])+1)
		})
	}
}

func TestUndoingNothingIsNothing(t *testing.T) {
	db := mongotest.Start(t).Client(t).Database("d")
	j := job(t, db)
	n, err := j.Undo(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
}

func TestVerifyTellsWhatIsNotAsItWasPutBack(t *testing.T) {
	onServers(t, func(t *testing.T, db *mongo.Database, _ *mongotest.Server) {
		j, s, _, _ := deleted(t, db)
		_, err := j.Verify(t.Context(), s.Digest)
		var changed *ChangedError
		require.ErrorAs(t, err, &changed, "nothing was put back yet")
		_, err = j.Undelete(t.Context(), s.Digest)
		require.NoError(t, err)
		_, err = db.Collection("invoices").UpdateOne(t.Context(), where("invoice_id", "inv_org_a_0000"), where("$set", where("total", -1.0)))
		require.NoError(t, err)
		remove(t, db, "invoices", where("invoice_id", "inv_org_a_0001"))
		put(t, db, "invoice_line_items", doc(t, "_id", "twin", "line_item_id", "inv_org_a_0002_0", "organization_id", "org_a"))
		v, err := j.Verify(t.Context(), s.Digest)
		require.NoError(t, err)
		require.Equal(t, Verified{File: verifiedFile, Same: 18, Changed: 1, Gone: 1, Doubled: 1}, v)
		what := map[string]string{}
		for _, l := range linesOf[verified](t, j, verifiedFile) {
			what[l.Key] = l.What
		}
		require.Equal(t, map[string]string{"inv_org_a_0000": "changed since", "inv_org_a_0001": "deleted since",
			"inv_org_a_0002_0": "its key is held by another document, too"}, what)
	})
}
