package undelete

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/mongotest"
)

func TestAPersonNarrowsWhatWasFound(t *testing.T) {
	srv := mongotest.Start(t)
	db := srv.Client(t).Database("d")
	garage(t, db, 10)
	put(t, db, "tickets", doc(t, "_id", bson.NewObjectID(), "ticket_id", "tkt_1", "organization_id", "org_b"))
	put(t, db, "error_codes", doc(t, "_id", int32(5), "code", "E005"), doc(t, "_id", "E006", "code", "E006"))
	older := take(t, db, "b1")
	deleteInvoice(t, db, "inv_org_a_0005")
	newer := take(t, db, "b2")
	between := time.Now()
	for _, id := range []string{"inv_org_a_0001", "inv_org_a_0002", "inv_org_b_0001"} {
		deleteInvoice(t, db, id)
	}
	remove(t, db, "tickets", bson.D{})
	remove(t, db, "error_codes", bson.D{})
	deleted := time.Now()
	put(t, db, "audit_logs", doc(t, "organization_id", "org_a", "user_id", "usr_1", "action", "delete", "resource_type", "invoice",
		"resource_id", "inv_org_a_0001", "timestamp", deleted))
	j := job(t, db, newer, older)
	_, err := j.Find(t.Context(), FindOptions{})
	require.NoError(t, err)
	_, err = j.ReadAudit(t.Context(), garageLogs, time.Time{})
	require.NoError(t, err)
	_, err = j.Explain(t.Context())
	require.NoError(t, err)

	invoices := func(keys ...string) map[string][]string { return map[string][]string{"invoices": keys} }
	for _, row := range []struct {
		name       string
		filter     Filter
		chosen     map[string][]string // without dependants
		documents  int64
		dependants int64
	}{
		{"everything", Filter{}, nil, 19, 0},
		{"one organization", Filter{Organizations: []string{"org_b"}, Collections: []string{"invoices", "tickets"}},
			map[string][]string{"invoices": {"inv_org_b_0001"}, "tickets": {"tkt_1"}}, 5, 3},
		{"one collection", Filter{Collections: []string{"invoices"}},
			invoices("inv_org_a_0001", "inv_org_a_0002", "inv_org_a_0005", "inv_org_b_0001"), 16, 12},
		{"one collection alone", Filter{Collections: []string{"invoices"}, Alone: true},
			invoices("inv_org_a_0001", "inv_org_a_0002", "inv_org_a_0005", "inv_org_b_0001"), 4, 0},
		{"what vanished before a moment", Filter{Collections: []string{"invoices"}, To: newer.Manifest.StartedAt.Add(-time.Nanosecond)},
			invoices("inv_org_a_0005"), 4, 3},
		{"what vanished after a moment", Filter{Collections: []string{"invoices"}, From: between},
			invoices("inv_org_a_0001", "inv_org_a_0002", "inv_org_b_0001"), 12, 9},
		{"an entry's time counts more than the window", Filter{Collections: []string{"invoices"}, From: deleted.Add(time.Hour), To: deleted.Add(2 * time.Hour)},
			nil, 0, 0},
		{"by key", Filter{IDs: []string{"inv_org_a_0002"}}, invoices("inv_org_a_0002"), 4, 3},
		{"by _id as extended JSON", Filter{IDs: []string{"5", `"E006"`}}, map[string][]string{"error_codes": {"5", "E006"}}, 2, 0},
		{"by _id as text", Filter{IDs: []string{"E006"}}, map[string][]string{"error_codes": {"E006"}}, 1, 0},
		{"by user", Filter{By: []string{"usr_1"}}, invoices("inv_org_a_0001"), 4, 3},
		{"nothing meets it", Filter{Organizations: []string{"org_x"}}, nil, 0, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			s, err := j.Select(t.Context(), explainedFile, row.filter)
			require.NoError(t, err)
			serializable(t, s)
			require.Equal(t, row.documents, s.Documents)
			require.Equal(t, row.dependants, s.Dependants)
			if row.chosen != nil {
				got := found(t, j, selectionFile)
				for _, c := range []string{"invoice_line_items", "invoice_history"} {
					delete(got, c)
				}
				require.Equal(t, row.chosen, got)
			}
			again, err := j.Select(t.Context(), explainedFile, row.filter)
			require.NoError(t, err)
			require.Equal(t, s, again)
		})
	}
	_, err = j.Select(t.Context(), "../elsewhere", Filter{})
	require.ErrorContains(t, err, "no list")
	_, err = j.Select(t.Context(), missingFile, Filter{From: deleted, To: between})
	require.ErrorContains(t, err, "is before from")
}

func TestDependantsComeAlongUnlessTheyWereTakenOffBefore(t *testing.T) {
	onServers(t, func(t *testing.T, db *mongo.Database, _ *mongotest.Server) {
		line := func(id, invoice, org string) bson.Raw {
			return doc(t, "_id", id, "line_item_id", id, "invoice_id", invoice, "organization_id", org)
		}
		put(t, db, "invoices", doc(t, "_id", 1, "invoice_id", "inv_1", "organization_id", "org_a"),
			doc(t, "_id", 2, "invoice_id", "inv_2", "organization_id", "org_a"))
		put(t, db, "invoice_line_items", line("l1", "inv_1", "org_a"), line("l2", "inv_1", "org_a"), line("l3", "inv_1", "org_b"), line("l4", "inv_2", "org_a"))
		put(t, db, "line_taxes", doc(t, "_id", "t1", "line", "l1", "organization_id", "org_a"), doc(t, "_id", "t2", "line", "l2", "organization_id", "org_a"))
		older := take(t, db, "b1")
		remove(t, db, "invoice_line_items", where("_id", "l2")) // taken off the invoice while it lived
		remove(t, db, "line_taxes", where("_id", "t2"))
		newer := take(t, db, "b2")
		for _, c := range []string{"invoices", "invoice_line_items", "line_taxes"} {
			remove(t, db, c, bson.D{})
		}
		j := job(t, db, newer, older)
		s := selectAll(t, j, Filter{IDs: []string{"inv_1"}})
		require.Equal(t, map[string][]string{"invoices": {"inv_1"}, "invoice_line_items": {"l1"}, "line_taxes": {"t1"}}, found(t, j, selectionFile),
			"taxes depend on lines; another organization's line does not belong to the invoice")
		require.EqualValues(t, 2, s.Dependants)
		require.EqualValues(t, 1, s.Earlier, "it is named that a line was left out; what depends on that one is not known to be concerned")
		require.Equal(t, []Selected{{"invoice_line_items", 1, 1}, {"invoices", 1, 0}, {"line_taxes", 1, 1}}, s.Collections)

		all, err := j.Select(t.Context(), missingFile, Filter{IDs: []string{"inv_1"}, Earlier: true})
		require.NoError(t, err)
		require.EqualValues(t, 5, all.Documents)
		require.Zero(t, all.Earlier)

		// An invoice that vanished earlier takes along what vanished with it or later.
		s = selectAll(t, job(t, db, newer, older), Filter{IDs: []string{"l2"}})
		require.EqualValues(t, 2, s.Documents)
	})
}
