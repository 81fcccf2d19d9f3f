package undelete

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/mongotest"
)

func TestAPreviewTellsWhatWouldHappenAndChangesNothing(t *testing.T) {
	onServers(t, func(t *testing.T, db *mongo.Database, srv *mongotest.Server) {
		garage(t, db, 20)
		b := take(t, db, "b1")
		kept := contentIn(t, db)["invoices"]
		for _, id := range []string{"inv_org_a_0001", "inv_org_a_0002", "inv_org_a_0003", "inv_org_a_0004", "inv_org_a_0019"} {
			deleteInvoice(t, db, id)
		}
		j := job(t, db, b)
		s := selectAll(t, j, Filter{Collections: []string{"invoices"}})
		require.EqualValues(t, 20, s.Documents)

		// Between the search and the preview the application goes on.
		put(t, db, "invoices",
			doc(t, "_id", "again", "invoice_id", "inv_org_a_0001", "organization_id", "org_a", "invoice_number", "INV-000801"),
			doc(t, "_id", "number", "invoice_id", "inv_x", "organization_id", "org_a", "invoice_number", "INV-000003"))
		for _, e := range linesOf[entry](t, j, selectionFile) {
			id, err := decodeID(e.ID)
			require.NoError(t, err)
			switch e.Key {
			case "inv_org_a_0003":
				put(t, db, "invoices", doc(t, "_id", id, "something", "else", "invoice_id", "inv_y"))
			case "inv_org_a_0004":
				require.Contains(t, kept, id.String())
			}
		}
		_, err := db.Collection("contacts").UpdateOne(t.Context(), where("contact_id", "ctc_org_a_0000"),
			where("$set", where("outstanding_receivable", 20.0, "note", "paid")))
		require.NoError(t, err)
		remove(t, db, "contacts", where("contact_id", "ctc_org_a_0001"))
		_, err = db.Collection("sequences").UpdateOne(t.Context(), where("organization_id", "org_a"), where("$set", where("current_value", int64(19))))
		require.NoError(t, err)

		before := contentIn(t, db)
		wrote := 0
		if srv != nil {
			srv.OnCommand(func(_, cmd string, _ bson.Raw) {
				switch cmd {
				case "insert", "update", "delete", "findAndModify", "create", "createIndexes", "drop":
					wrote++
				}
			})
		}
		p, err := j.Preview(t.Context(), s.Digest)
		require.NoError(t, err)
		serializable(t, p)
		require.Equal(t, before, contentIn(t, db))
		require.Zero(t, wrote)
		require.Equal(t, Outcomes{Insert: 17, Newer: 1, Recreated: 1, Conflict: 1}, p.Total)
		outcomes := map[string]Outcome{}
		for _, l := range linesOf[previewed](t, j, previewFile) {
			if l.Collection == "invoices" {
				outcomes[l.Key] = l.Outcome
				require.Equal(t, l.Outcome == Conflict, l.Conflict != nil)
				if l.Conflict != nil {
					require.Equal(t, conflict{"number", `{"_id":"number"}`}, *l.Conflict)
				}
			}
		}
		require.Equal(t, map[string]Outcome{"inv_org_a_0001": Recreated, "inv_org_a_0002": Conflict, "inv_org_a_0003": Newer,
			"inv_org_a_0004": Insert, "inv_org_a_0019": Insert}, outcomes)

		require.Equal(t, Related{Documents: 2, Changed: 1, Gone: 1, File: relatedFile}, p.Related)
		for _, l := range linesOf[relatedLine](t, j, relatedFile) {
			require.Equal(t, "invoices.contact_id", l.ReferredBy)
			if l.Key == "ctc_org_a_0000" {
				require.Equal(t, []string{"note", "outstanding_receivable"}, keys(l.Fields))
				require.JSONEq(t, `1500`, string(l.Fields["outstanding_receivable"].Backup))
				require.JSONEq(t, `20`, string(l.Fields["outstanding_receivable"].Now))
			} else {
				require.True(t, l.Gone)
			}
		}
		require.Equal(t, []CounterNow{{Collection: "sequences", Organization: "org_a", Of: "invoices", Value: 19, Selected: 20, Live: 801, Behind: true}}, p.Counters)
	})
}

func TestACounterThatComesBackItselfMustNotRunBackwards(t *testing.T) {
	db := mongotest.Start(t).Client(t).Database("d")
	garage(t, db, 5)
	b := take(t, db, "b1")
	remove(t, db, "sequences", where("organization_id", bson.D{{Key: "$ne", Value: "org_c"}}))
	put(t, db, "invoices", doc(t, "_id", "new", "invoice_id", "n", "organization_id", "org_b", "invoice_number", "INV-000006"))
	j := job(t, db, b)
	p, err := j.Preview(t.Context(), selectAll(t, j, Filter{}).Digest)
	require.NoError(t, err)
	five := int64(5)
	require.Equal(t, []CounterNow{
		{Collection: "sequences", Organization: "org_b", Of: "invoices", Missing: true, Restored: &five, Live: 6, Behind: true},
		{Collection: "sequences", Organization: "org_a", Of: "invoices", Missing: true, Restored: &five, Live: 5},
	}, p.Counters)
}

func TestUniqueKeysThatAreTakenAreNamedBefore(t *testing.T) {
	srv := mongotest.Start(t)
	db := srv.Client(t).Database("d")
	index(t, db, "c", "pair", where("a", 1, "b", -1), "unique", true)
	index(t, db, "c", "sparse", where("s", 1), "unique", true, "sparse", true)
	index(t, db, "c", "partial", where("p", 1), "unique", true, "partialFilterExpression", where("p", where("$gt", "")))
	index(t, db, "c", "list", where("l", 1), "unique", true, "sparse", true)
	index(t, db, "c", "plain", where("x", 1))
	gone := func(id string, pairs ...any) bson.Raw { return doc(t, append([]any{"_id", id}, pairs...)...) }
	put(t, db, "c",
		gone("free", "a", 1, "b", 1, "x", 1), gone("pair", "a", 2, "b", 2), gone("number types", "a", 3, "b", int64(3)),
		gone("half a pair", "a", 4, "b", 4), gone("missing is null", "a", 5),
		gone("sparse", "a", 6, "s", "s1"), gone("not in the sparse one", "a", 7),
		gone("partial", "a", 8, "p", "p1"), gone("outside of the partial one", "a", 9, "p", ""),
		gone("list", "a", 10, "l", bson.A{"l1", "l2"}), gone("other list", "a", 11, "l", bson.A{"l5"}))
	b := take(t, db, "b1")
	remove(t, db, "c", bson.D{})
	put(t, db, "c", gone("1", "a", 2, "b", 2, "x", 1), gone("2", "a", 3.0, "b", 3.0), gone("3", "a", 4, "b", 5), gone("4", "a", 5, "b", nil),
		gone("5", "a", 60, "s", "s1"), gone("6", "a", 70), gone("7", "a", 80, "p", "p1"), gone("8", "a", 90, "p", ""),
		gone("9", "a", 100, "l", bson.A{"l2", "l3"}))
	j := job(t, db, b)
	s := selectAll(t, j, Filter{})
	_, err := j.Preview(t.Context(), s.Digest)
	require.NoError(t, err)
	got := map[string]string{}
	for _, l := range linesOf[previewed](t, j, previewFile) {
		if l.Conflict != nil {
			got[string(l.ID)] = l.Conflict.Index + " " + l.Conflict.Holder
		}
	}
	require.Equal(t, map[string]string{
		`{"_id":"pair"}`: `pair {"_id":"1"}`, `{"_id":"number types"}`: `pair {"_id":"2"}`, `{"_id":"missing is null"}`: `pair {"_id":"4"}`,
		`{"_id":"sparse"}`: `sparse {"_id":"5"}`, `{"_id":"partial"}`: `partial {"_id":"7"}`, `{"_id":"list"}`: `list {"_id":"9"}`,
	}, got)

	// The server's own judgement is the same.
	u, err := j.Undelete(t.Context(), s.Digest)
	require.NoError(t, err)
	require.Equal(t, Outcomes{Insert: 5, Conflict: 6}, u.Total)
}

func TestAPreviewOfAnotherSelectionThanWasAskedForIsRefused(t *testing.T) {
	db := mongotest.Start(t).Client(t).Database("d")
	garage(t, db, 5)
	b := take(t, db, "b1")
	deleteInvoice(t, db, "inv_org_a_0001")
	j := job(t, db, b)
	s := selectAll(t, j, Filter{})
	_, err := j.Select(t.Context(), missingFile, Filter{Collections: []string{"invoices"}, Alone: true})
	require.NoError(t, err)
	var changed *ChangedError
	_, err = j.Preview(t.Context(), s.Digest)
	require.ErrorAs(t, err, &changed)
	_, err = j.Undelete(t.Context(), s.Digest)
	require.ErrorAs(t, err, &changed)
	_, err = j.Verify(t.Context(), s.Digest)
	require.ErrorAs(t, err, &changed)

	j.Sources[0].Manifest.Name = "another"
	s, err = j.Select(t.Context(), missingFile, Filter{})
	require.NoError(t, err)
	var missing *BackupError
	_, err = j.Preview(t.Context(), s.Digest)
	require.ErrorAs(t, err, &missing)
}

func TestWhatExpiresBeforeItComesBackIsLeft(t *testing.T) {
	db := mongotest.Start(t).Client(t).Database("d")
	index(t, db, "tokens", "ttl", where("at", 1), "expireAfterSeconds", 60)
	put(t, db, "tokens", doc(t, "_id", "t", "at", bson.NewDateTimeFromTime(time.Now())))
	b := take(t, db, "b1")
	remove(t, db, "tokens", bson.D{})
	j := job(t, db, b)
	s := selectAll(t, j, Filter{})
	require.EqualValues(t, 1, s.Documents)
	j.Now = func() time.Time { return time.Now().Add(time.Hour) }
	p, err := j.Preview(t.Context(), s.Digest)
	require.NoError(t, err)
	require.Equal(t, Outcomes{Expired: 1}, p.Total)
	u, err := j.Undelete(t.Context(), s.Digest)
	require.NoError(t, err)
	require.Equal(t, Outcomes{Expired: 1}, u.Total)
}
