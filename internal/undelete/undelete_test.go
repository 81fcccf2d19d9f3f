package undelete

import (
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"golang.org/x/sync/errgroup"

	"github.com/battwheels/runbook/internal/mongotest"
)

// acknowledged is what the writers of a test did, by collection and _id: the document's bytes as hex, "" once deleted.
type acknowledged struct {
	mu sync.Mutex
	content
}

func (a *acknowledged) set(collection string, id bson.RawValue, doc bson.Raw) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.content[collection] == nil {
		a.content[collection] = map[string]string{}
	}
	a.content[collection][id.String()] = hex.EncodeToString(doc)
}

// over lays the acknowledged writes over a database's content.
func (a *acknowledged) over(base content) content {
	all := content{}
	for name, docs := range base {
		all[name] = maps.Clone(docs)
	}
	for name, docs := range a.content {
		if all[name] == nil {
			all[name] = map[string]string{}
		}
		for id, d := range docs {
			if d == "" {
				delete(all[name], id)
			} else {
				all[name][id] = d
			}
		}
	}
	return all
}

// write makes, changes and deletes invoices of an organization until it is stopped.
func (a *acknowledged) write(ctx context.Context, t *testing.T, db *mongo.Database, org string, stop <-chan struct{}) error {
	for n := 0; ; n++ {
		select {
		case <-stop:
			return nil
		default:
		}
		id := bson.NewObjectID()
		invoice := fmt.Sprintf("inv_%s_new_%d", org, n)
		d := doc(t, "_id", id, "invoice_id", invoice, "organization_id", org, "invoice_number", fmt.Sprintf("INV-9%05d", n), "total", float64(n))
		if _, err := db.Collection("invoices").InsertOne(ctx, d); err != nil {
			return err
		}
		line := doc(t, "_id", bson.NewObjectID(), "line_item_id", invoice+"_0", "invoice_id", invoice, "organization_id", org)
		if _, err := db.Collection("invoice_line_items").InsertOne(ctx, line); err != nil {
			return err
		}
		a.set("invoice_line_items", line.Lookup("_id"), line)
		switch n % 3 {
		case 0:
			changed := doc(t, "_id", id, "invoice_id", invoice, "organization_id", org, "invoice_number", fmt.Sprintf("INV-9%05d", n), "total", float64(-n))
			if _, err := db.Collection("invoices").ReplaceOne(ctx, where("_id", id), changed); err != nil {
				return err
			}
			d = changed
		case 1:
			if _, err := db.Collection("invoices").DeleteOne(ctx, where("_id", id)); err != nil {
				return err
			}
			a.set("invoices", doc(t, "_id", id).Lookup("_id"), nil)
			continue
		}
		a.set("invoices", doc(t, "_id", id).Lookup("_id"), d)
	}
}

// One organization loses 300 invoices with their lines and history, a third of them with audit entries. The application,
// this organization's users included, goes on writing all the while. Afterwards the database is what it was, and what was
// written since, and nothing else.
func TestThreeHundredInvoicesComeBackWhileEverybodyWrites(t *testing.T) {
	onServers(t, func(t *testing.T, db *mongo.Database, _ *mongotest.Server) {
		const n = 300
		garage(t, db, n+20)
		seed := contentIn(t, db)
		b := take(t, db, "b1")
		since := &acknowledged{content: content{}}
		for i := range n {
			id := fmt.Sprintf("inv_org_a_%04d", i)
			if i%3 == 0 {
				e := doc(t, "_id", bson.NewObjectID(), "organization_id", "org_a", "user_id", "usr_1", "action", "delete", "resource_type", "invoice",
					"resource_id", id, "timestamp", time.Now().UTC().Format("2006-01-02T15:04:05.000000"))
				put(t, db, "audit_logs", e)
				since.set("audit_logs", e.Lookup("_id"), e)
			}
		}
		for _, c := range []string{"invoices", "invoice_line_items", "invoice_history"} {
			remove(t, db, c, where("organization_id", "org_a", "invoice_id", where("$lt", fmt.Sprintf("inv_org_a_%04d", n))))
		}
		// A contact's balance is rewritten by the deletion, and stays so.
		was, err := db.Collection("contacts").FindOne(t.Context(), where("contact_id", "ctc_org_a_0000")).Raw()
		require.NoError(t, err)
		contact := doc(t, "_id", was.Lookup("_id"),
			"contact_id", "ctc_org_a_0000", "organization_id", "org_a", "outstanding_receivable", 0.0)
		_, err = db.Collection("contacts").ReplaceOne(t.Context(), where("contact_id", "ctc_org_a_0000"), contact)
		require.NoError(t, err)
		since.set("contacts", contact.Lookup("_id"), contact)

		stop := make(chan struct{})
		writers, ctx := errgroup.WithContext(t.Context())
		for _, org := range []string{"org_a", "org_b", "org_c"} {
			writers.Go(func() error { return since.write(ctx, t, db, org, stop) })
		}

		j := job(t, db, b)
		f, err := j.Find(t.Context(), FindOptions{})
		require.NoError(t, err)
		require.EqualValues(t, 4*n, f.Documents)
		a, err := j.ReadAudit(t.Context(), garageLogs, time.Time{})
		require.NoError(t, err)
		require.EqualValues(t, n/3, a.Deletions)
		x, err := j.Explain(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, n/3, x.Audited)
		require.Zero(t, x.Lost)
		s, err := j.Select(t.Context(), x.File, Filter{Organizations: []string{"org_a"}, Collections: []string{"invoices"}})
		require.NoError(t, err)
		require.EqualValues(t, 4*n, s.Documents)
		require.EqualValues(t, 3*n, s.Dependants)
		p, err := j.Preview(t.Context(), s.Digest)
		require.NoError(t, err)
		require.Equal(t, Outcomes{Insert: 4 * n}, p.Total)
		require.EqualValues(t, 1, p.Related.Changed)
		u, err := j.Undelete(t.Context(), s.Digest)
		require.NoError(t, err)
		serializable(t, u)
		require.Equal(t, Outcomes{Insert: 4 * n}, u.Total)
		v, err := j.Verify(t.Context(), s.Digest)
		require.NoError(t, err)
		serializable(t, v)
		require.Equal(t, Verified{File: verifiedFile, Same: 4 * n, Whole: true}, v)
		close(stop)
		require.NoError(t, writers.Wait())

		require.Equal(t, since.over(seed), contentIn(t, db))

		again, err := j.Undelete(t.Context(), s.Digest)
		require.NoError(t, err)
		require.Equal(t, u, again)
		require.Equal(t, since.over(seed), contentIn(t, db))
		f, err = j.Find(t.Context(), FindOptions{})
		require.NoError(t, err)
		require.Zero(t, f.Documents)
	})
}

func TestADocumentThatStandsInTheWayIsNeverTouched(t *testing.T) {
	onServers(t, func(t *testing.T, db *mongo.Database, srv *mongotest.Server) {
		garage(t, db, 20)
		b := take(t, db, "b1")
		for i := range 6 {
			deleteInvoice(t, db, fmt.Sprintf("inv_org_a_%04d", i))
		}
		j := job(t, db, b)
		s := selectAll(t, j, Filter{Collections: []string{"invoices"}, Alone: true})
		ids := map[string]bson.RawValue{}
		for _, e := range linesOf[entry](t, j, selectionFile) {
			id, err := decodeID(e.ID)
			require.NoError(t, err)
			ids[e.Key] = id
		}
		inTheWay := []bson.Raw{
			doc(t, "_id", ids["inv_org_a_0000"], "invoice_id", "inv_org_a_0000", "organization_id", "org_a", "invoice_number", "INV-000001", "total", "newer"),
			doc(t, "_id", "anew", "invoice_id", "inv_org_a_0001", "organization_id", "org_a", "invoice_number", "INV-000002"),
			doc(t, "_id", "number", "invoice_id", "inv_n", "organization_id", "org_a", "invoice_number", "INV-000003"),
		}
		put(t, db, "invoices", inTheWay[:2]...)
		// The third comes in the very last moment.
		if srv != nil {
			var once sync.Once
			remove := srv.OnCommand(func(_, cmd string, body bson.Raw) {
				if ordered, told := body.Lookup("ordered").BooleanOK(); cmd == "insert" && told && !ordered {
					once.Do(func() { put(t, db, "invoices", inTheWay[2]) })
				}
			})
			defer remove()
		} else {
			put(t, db, "invoices", inTheWay[2])
		}
		before := contentIn(t, db)
		u, err := j.Undelete(t.Context(), s.Digest)
		require.NoError(t, err)
		require.Equal(t, Outcomes{Insert: 3, Newer: 1, Recreated: 1, Conflict: 1}, u.Total)
		after := contentIn(t, db)
		require.Len(t, after["invoices"], len(before["invoices"])+3+boolean(srv != nil))
		for _, d := range inTheWay {
			require.Equal(t, hex.EncodeToString(d), after["invoices"][d.Lookup("_id").String()])
		}
		reasons := map[string]left{}
		undo, err := j.readUndo()
		require.NoError(t, err)
		for _, d := range undo.lefts {
			for _, l := range d.Left {
				reasons[l.Key] = l
			}
		}
		require.Equal(t, []string{"inv_org_a_0000", "inv_org_a_0001", "inv_org_a_0002"}, keys(reasons))
		require.Equal(t, &conflict{"number", `{"_id":"number"}`}, reasons["inv_org_a_0002"].Conflict)
		v, err := j.Verify(t.Context(), s.Digest)
		require.NoError(t, err)
		require.Equal(t, Verified{File: verifiedFile, Same: 3, Left: 3, Whole: true}, v)
	})
}

func TestEveryTypeComesBackByteForByte(t *testing.T) {
	srv := mongotest.Start(t)
	db := srv.Client(t).Database("d")
	run(t, db, where("create", "strict", "validator", where("must", where("$exists", true))))
	odd := doc(t, "_id", where("a", int64(1)), "ts", bson.Timestamp{}, "d", bson.NewDecimal128(1, 2), "min", bson.MinKey{}, "js", bson.JavaScript("f()"),
		"nan", bson.A{1.0, nil, "é"}, "", "empty name", "a.b", 1, "$c", 2)
	require.NoError(t, db.RunCommand(t.Context(), where("insert", "strict", "documents", bson.A{odd, doc(t, "_id", 1.5)},
		"bypassDocumentValidation", true, "bypassEmptyTsReplacement", true)).Err())
	before := contentIn(t, db)
	b := take(t, db, "b1")
	remove(t, db, "strict", bson.D{})
	j := job(t, db, b)
	s := selectAll(t, j, Filter{})
	_, err := j.Undelete(t.Context(), s.Digest)
	require.NoError(t, err)
	require.Equal(t, before, contentIn(t, db))
	n, err := j.Undo(t.Context())
	require.NoError(t, err)
	require.Equal(t, Undone{Removed: 2}, n)
	require.Empty(t, contentIn(t, db)["strict"])
}

func TestACollectionThatIsGoneIsNotMadeAnew(t *testing.T) {
	onServers(t, func(t *testing.T, db *mongo.Database, _ *mongotest.Server) {
		garage(t, db, 5)
		b := take(t, db, "b1")
		require.NoError(t, db.Collection("contacts").Drop(t.Context()))
		deleteInvoice(t, db, "inv_org_a_0001")
		j := job(t, db, b)
		s := selectAll(t, j, Filter{})
		p, err := j.Preview(t.Context(), s.Digest)
		require.NoError(t, err)
		require.Equal(t, []string{"contacts"}, p.Gone)
		before := contentIn(t, db)
		_, err = j.Undelete(t.Context(), s.Digest)
		var gone *NoCollectionError
		require.ErrorAs(t, err, &gone)
		require.Equal(t, []string{"contacts"}, gone.Collections)
		require.Equal(t, before, contentIn(t, db), "nothing else is put back either")
	})
}

func TestAFenceStopsARunThatWasOvertaken(t *testing.T) {
	db := mongotest.Start(t).Client(t).Database("d")
	garage(t, db, 5)
	b := take(t, db, "b1")
	deleteInvoice(t, db, "inv_org_a_0001")
	before := contentIn(t, db)
	j := job(t, db, b)
	s := selectAll(t, j, Filter{})
	j.Fence = func(context.Context) error { return context.DeadlineExceeded }
	_, err := j.Undelete(t.Context(), s.Digest)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, before, contentIn(t, db))
	j.Fence = nil
	u, err := j.Undelete(t.Context(), s.Digest)
	require.NoError(t, err)
	require.EqualValues(t, 4, u.Total.Insert)
}

func TestALostAnswerIsNotAConflict(t *testing.T) {
	srv := mongotest.Start(t)
	db := srv.Client(t).Database("d")
	garage(t, db, 5)
	before := contentIn(t, db)
	b := take(t, db, "b1")
	deleteInvoice(t, db, "inv_org_a_0001")
	j := job(t, db, b)
	s := selectAll(t, j, Filter{})
	srv.Fail(mongotest.Fault{Command: "insert", Times: 2, Drop: mongotest.DropAfter})
	u, err := j.Undelete(t.Context(), s.Digest)
	require.NoError(t, err)
	require.Equal(t, Outcomes{Insert: 4}, u.Total)
	require.Equal(t, before, contentIn(t, db))
}

func TestAFullServerIsSaid(t *testing.T) {
	srv := mongotest.Start(t)
	db := srv.Client(t).Database("d")
	garage(t, db, 5)
	b := take(t, db, "b1")
	deleteInvoice(t, db, "inv_org_a_0001")
	j := job(t, db, b)
	s := selectAll(t, j, Filter{})
	srv.Fail(mongotest.Fault{Command: "insert", Error: &mongotest.Error{Code: 14031, Message: "full"}})
	_, err := j.Undelete(t.Context(), s.Digest)
	var space *SpaceError
	require.ErrorAs(t, err, &space)
}
