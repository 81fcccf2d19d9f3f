package undelete

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/internal/mongotest"
)

var garageLogs = []config.AuditLog{{Collection: "audit_logs", Time: "timestamp"}, {Collection: "audit_log", Time: "timestamp"}}

func TestDeletionsAreReadFromBothOfTheDatabasesLogs(t *testing.T) {
	since := time.Date(2026, 2, 24, 2, 0, 0, 0, time.UTC)
	onServers(t, func(t *testing.T, db *mongo.Database, _ *mongotest.Server) {
		entry := func(at any, action, kind, id string) bson.Raw {
			return doc(t, "organization_id", "org_a", "user_id", "usr_1", "user_email", "someone@example.com", "action", action,
				"resource_type", kind, "resource_id", id, "old_values", where("status", "draft"), "timestamp", at)
		}
		put(t, db, "audit_logs",
			entry("2026-02-24T01:59:59.123000", "delete", "invoice", "too old"),
			entry("2026-02-24T10:00:00.123000", "delete", "TICKET", "no zone"),
			entry("2026-02-24T01:30:00-05:00", "user.removed", "user", "zone"),
			entry("2026-02-23T23:30:00-05:00", "delete", "invoice", "zone puts it on the day before"),
			entry(bson.NewDateTimeFromTime(since.Add(time.Hour)), "Invoice.Deleted", "invoice", "date"),
			entry("2026-02-24T11:00:00", "invoice.voided", "invoice", "no deletion"),
			entry("2026-02-24T11:00:00", "delete", "invoice", ""),
			entry("9999 yesterday", "delete", "invoice", "undated"))
		before := where("_id", bson.NewObjectID(), "invoice_id", "inv_1", "total", 5.5)
		put(t, db, "audit_log",
			doc(t, "org_id", "org_b", "user_id", "usr_2", "user_role", "owner", "action", "DELETE", "entity_type", "invoice", "entity_id", "inv_1",
				"timestamp", "2026-02-24T12:00:00+00:00", "before_snapshot", before, "after_snapshot", nil),
			doc(t, "org_id", "org_b", "user_id", "usr_2", "action", "VOID", "entity_type", "invoice", "entity_id", "inv_2",
				"timestamp", "2026-02-24T12:00:00+00:00"))
		j := job(t, db)
		a, err := j.ReadAudit(t.Context(), garageLogs, since)
		require.NoError(t, err)
		serializable(t, a)
		require.EqualValues(t, 8, a.Entries)
		require.EqualValues(t, 5, a.Deletions)
		require.EqualValues(t, 1, a.Undated)
		require.Equal(t, []DeletedBy{
			{"usr_1", "org_a", "invoice", 2, since.Add(time.Hour), since.Add(150 * time.Minute)},
			{"usr_1", "org_a", "ticket", 1, since.Add(8*time.Hour + 123*time.Millisecond), since.Add(8*time.Hour + 123*time.Millisecond)},
			{"usr_1", "org_a", "user", 1, since.Add(4*time.Hour + 30*time.Minute), since.Add(4*time.Hour + 30*time.Minute)},
			{"usr_2", "org_b", "invoice", 1, since.Add(10 * time.Hour), since.Add(10 * time.Hour)},
		}, a.By)
		raw, err := json.Marshal(a)
		require.NoError(t, err)
		require.NotContains(t, string(raw), "someone@", "no address goes into a history")
		for _, d := range linesOf[deletion](t, j, deletionsFile) {
			if d.ID == "inv_1" {
				require.Equal(t, doc(t, "b", before).Lookup("b").Value, d.Snapshot, "byte for byte")
			}
		}
	})
}

func TestOtherNamesOfFieldsAreConfigured(t *testing.T) {
	db := mongotest.Start(t).Client(t).Database("d")
	put(t, db, "trail", doc(t, "when", bson.NewDateTimeFromTime(time.Now()), "what", "wiped", "kind", "invoice", "which", bson.NewObjectID(),
		"who", int64(7), "tenant", where("id", "org_a"), "was", where("invoice_id", "x")))
	j := job(t, db)
	j.Rules.Actions = []string{"wiped"}
	a, err := j.ReadAudit(t.Context(), []config.AuditLog{{Collection: "trail", Time: "when", Fields: config.AuditFields{
		Organization: "tenant.id", User: "who", Action: "what", Type: "kind", ID: "which", Snapshot: "was",
	}}}, time.Now().Add(-time.Hour))
	require.NoError(t, err)
	require.EqualValues(t, 1, a.Deletions)
	d := linesOf[deletion](t, j, deletionsFile)[0]
	require.Equal(t, "org_a", d.Organization)
	require.Equal(t, "7", d.User)
	require.Len(t, d.ID, 24)
	require.NotEmpty(t, d.Snapshot)
}

func TestALogThatCannotBeReadIsNamedAndTheOtherIsRead(t *testing.T) {
	srv := mongotest.Start(t)
	db := srv.Client(t).Database("d")
	put(t, db, "audit_log", doc(t, "action", "delete", "entity_type", "invoice", "entity_id", "1", "timestamp", time.Now()))
	srv.Fail(mongotest.Fault{Command: "find", Namespace: "d.audit_logs", Error: &mongotest.Error{Code: 13, Message: "no"}})
	a, err := job(t, db).ReadAudit(t.Context(), garageLogs, time.Now().Add(-time.Hour))
	require.NoError(t, err)
	require.EqualValues(t, 1, a.Deletions)
	require.Equal(t, []string{"audit_logs"}, keys(a.Unreadable))

	srv.Fail(mongotest.Fault{Command: "find", Namespace: "d.audit_log", Error: &mongotest.Error{Code: 13, Message: "no"}})
	_, err = job(t, db).ReadAudit(t.Context(), garageLogs, time.Now().Add(-time.Hour))
	require.ErrorContains(t, err, "none of the audit logs can be read")
}

// auditServer serves n entries, a minute apart, the newest first, in either of the application's shapes.
type auditServer struct {
	*httptest.Server
	n      int
	nested bool
	newest time.Time
	pages  int  // that were asked for
	shift  bool // an entry is written between any two pages
}

func serveAudit(t *testing.T, s *auditServer) config.AuditAPI {
	t.Helper()
	s.newest = time.Date(2026, 2, 24, 12, 0, 0, 0, time.UTC)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" {
			http.Error(w, `{"detail":"Not authenticated"}`, http.StatusUnauthorized)
			return
		}
		limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
		page, _ := strconv.Atoi(r.URL.Query().Get("page"))
		s.pages++
		logs := []map[string]any{}
		first := (page - 1) * limit
		if s.shift {
			first -= page - 1
		}
		for i := first; i < min(first+limit, s.n); i++ {
			logs = append(logs, map[string]any{
				"audit_id": fmt.Sprint(i), "organization_id": "org_a", "user_id": "usr_1", "action": "delete", "resource_type": "invoice",
				"resource_id": fmt.Sprintf("inv_%d", i), "old_values": map[string]any{"total": 5}, "metadata": nil,
				"timestamp": s.newest.Add(-time.Duration(i) * time.Minute).Format("2006-01-02T15:04:05.000000"),
			})
		}
		answer := map[string]any{"code": 0, "audit_logs": logs, "page": page}
		if s.nested {
			answer["audit_logs"] = map[string]any{"logs": logs, "total": s.n, "page": page, "per_page": limit, "total_pages": (s.n + limit - 1) / limit}
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(s.Close)
	t.Setenv("AUDIT_TOKEN", "secret")
	return config.AuditAPI{URL: s.URL + "/api/audit-logs", Token: config.NewSecret("secret"), PageSize: 10, Timeout: config.Duration(5 * time.Second)}
}

func TestTheApplicationsLogIsReadPageByPageUntilItIsOldEnough(t *testing.T) {
	for _, row := range []struct {
		name      string
		server    auditServer
		since     time.Duration // before the newest entry
		deletions int64
		pages     int
	}{
		{"a flat body", auditServer{n: 35}, 24 * time.Hour, 35, 4},
		{"a nested body", auditServer{n: 35, nested: true}, 24 * time.Hour, 35, 4},
		{"whole pages, flat: one more is asked for", auditServer{n: 30}, 24 * time.Hour, 30, 4},
		{"whole pages, nested: the number of pages is told", auditServer{n: 30, nested: true}, 24 * time.Hour, 30, 3},
		{"no further than needed", auditServer{n: 500}, 14 * time.Minute, 15, 3},
		{"an empty log", auditServer{}, time.Hour, 0, 1},
		{"entries are written meanwhile", auditServer{n: 45, shift: true}, 24 * time.Hour, 45, 5},
	} {
		t.Run(row.name, func(t *testing.T) {
			api := serveAudit(t, &row.server)
			j := job(t, mongotest.Start(t).Client(t).Database("d"))
			j.Rules.API = &api
			a, err := j.ReadAudit(t.Context(), nil, row.server.newest.Add(-row.since))
			require.NoError(t, err)
			require.Equal(t, row.deletions, a.Deletions)
			require.Equal(t, row.pages, row.server.pages)
		})
	}
}

func TestWhatTheApplicationAnswersInsteadIsNamed(t *testing.T) {
	for _, row := range []struct {
		name   string
		status int
		body   string
		want   string
		again  bool
	}{
		{"not logged in", 401, `{}`, "give deletions.api.token the token of an owner or admin", false},
		{"not allowed", 403, `{}`, "give deletions.api.token the token of an owner or admin", false},
		{"starting", 503, `starting`, "HTTP 503", true},
		{"too many", 429, ``, "HTTP 429", true},
		{"no JSON", 200, `<html>`, "no audit_logs", false},
		{"another body", 200, `{"detail": "x"}`, "no audit_logs", false},
		{"a code of its own", 200, `{"code": 57, "message": "no", "audit_logs": []}`, `code 57: "no"`, false},
		{"logs of another shape", 200, `{"code": 0, "audit_logs": "none"}`, "neither a list nor an object", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(row.status)
				_, err := w.Write([]byte(row.body))
				if err != nil {
					t.Error(err)
				}
			}))
			defer s.Close()
			j := job(t, mongotest.Start(t).Client(t).Database("d"))
			j.Rules.API = &config.AuditAPI{URL: s.URL, Token: config.NewSecret("hunter2"), PageSize: 10, Timeout: config.Duration(time.Second)}
			_, err := j.ReadAudit(t.Context(), nil, time.Time{})
			require.ErrorContains(t, err, row.want)
			require.NotContains(t, err.Error(), "hunter2")
			var api *APIError
			require.ErrorAs(t, err, &api)
			require.Equal(t, row.again, api.Temporary())
		})
	}
}

func TestMissingDocumentsAreJoinedWithTheEntriesThatTellOfThem(t *testing.T) {
	onServers(t, func(t *testing.T, db *mongo.Database, _ *mongotest.Server) {
		garage(t, db, 10)
		id := bson.NewObjectID()
		put(t, db, "tickets", doc(t, "_id", id, "organization_id", "org_a", "title", "known by _id alone"))
		b := take(t, db, "b1")
		for i := range 3 {
			deleteInvoice(t, db, fmt.Sprintf("inv_org_a_%04d", i))
		}
		deleteInvoice(t, db, "inv_org_b_0000")
		remove(t, db, "tickets", where("_id", id))
		now := time.Now().UTC()
		log := func(at time.Time, org, kind, id string) bson.Raw {
			return doc(t, "organization_id", org, "user_id", "usr_1", "action", "delete", "resource_type", kind, "resource_id", id,
				"timestamp", at.Format("2006-01-02T15:04:05.000000"))
		}
		put(t, db, "audit_logs",
			log(now, "org_a", "INVOICE", "inv_org_a_0000"),
			log(now.Add(-time.Second), "org_a", "invoice", "inv_org_a_0000"),
			log(now.Add(-48*time.Hour), "org_a", "invoice", "inv_org_a_0001"), // another deletion, long undone
			log(now, "org_c", "invoice", "inv_org_b_0000"),                    // another organization's
			log(now, "org_a", "ticket", id.Hex()),
			log(now, "org_a", "invoice", "inv_org_a_0009"), // it lives
			log(now, "org_a", "invoice", "inv_since"),      // made and deleted since, told of twice
			log(now, "org_a", "spaceship", "1"))
		whole := doc(t, "_id", "own", "invoice_id", "inv_whole", "organization_id", "org_b", "total", int64(7))
		without := doc(t, "invoice_id", "inv_without", "organization_id", "org_b", "total", int64(8))
		snapshot := func(id string, before any) bson.Raw {
			return doc(t, "org_id", "org_b", "user_id", "usr_2", "action", "DELETE", "entity_type", "invoice", "entity_id", id,
				"timestamp", now.Format(time.RFC3339), "before_snapshot", before)
		}
		put(t, db, "audit_log", snapshot("inv_whole", whole), snapshot("inv_without", without), snapshot("inv_since", nil),
			snapshot("inv_other", where("invoice_id", "something else")),
			snapshot("inv_foreign", where("invoice_id", "inv_foreign", "organization_id", "org_a")))

		j := job(t, db, b)
		_, err := j.Find(t.Context(), FindOptions{})
		require.NoError(t, err)
		_, err = j.ReadAudit(t.Context(), garageLogs, now.Add(-72*time.Hour))
		require.NoError(t, err)
		var x Explained
		for range 2 { // run again, it gives the same
			x, err = j.Explain(t.Context())
			require.NoError(t, err)
		}
		serializable(t, x)
		require.EqualValues(t, 4*4+1+2, x.Documents)
		require.EqualValues(t, 4, x.Audited, "one invoice, the ticket, two from snapshots")
		require.EqualValues(t, 2, x.Recoverable)
		require.Equal(t, map[string]int64{"spaceship": 1}, x.Unmapped)
		why := map[string]*Why{}
		documents := map[string]bson.Raw{}
		for _, e := range linesOf[entry](t, j, explainedFile) {
			if e.Collection == "invoices" || e.Collection == "tickets" {
				why[e.Key] = e.Why
				documents[e.Key] = e.Document
			}
		}
		require.Equal(t, now.Truncate(time.Microsecond), why["inv_org_a_0000"].At, "the latest entry speaks")
		require.Equal(t, "usr_1", why["inv_org_a_0000"].By)
		require.Nil(t, why["inv_org_a_0001"], "it stood in a backup after that")
		require.Nil(t, why["inv_org_b_0000"])
		require.Equal(t, whole, documents["inv_whole"])
		rest, err := documents["inv_without"].Elements()
		require.NoError(t, err)
		require.Equal(t, "_id", rest[0].Key())
		require.Equal(t, []byte(without[4:]), []byte(documents["inv_without"][4+17:]), "the snapshot's fields stay as they are")

		reasons := map[string]string{}
		for _, l := range linesOf[lost](t, j, lostFile) {
			reasons[l.ID+" of "+l.Organization] = l.Why
		}
		require.Equal(t, []string{
			"inv_foreign of org_b", "inv_org_b_0000 of org_c", "inv_other of org_b", "inv_since of org_a", "inv_since of org_b",
		}, keys(reasons))
		require.EqualValues(t, 5, x.Lost)
		require.Contains(t, reasons["inv_foreign of org_b"], "belongs to another organization")
		require.Contains(t, reasons["inv_other of org_b"], "not of the document")

		groups := map[string]int64{}
		for _, g := range x.Groups.Largest {
			groups[g.Collection+" "+g.Organization+" "+g.Backup] = g.Audited
		}
		require.EqualValues(t, 1, groups["invoices org_a b1"])
		require.EqualValues(t, 2, groups["invoices org_b "])

		require.NoError(t, os.Remove(filepath.Join(j.Dir, deletionsFile)))
		x, err = j.Explain(t.Context())
		require.NoError(t, err)
		require.Zero(t, x.Audited, "without audit logs there are the backups alone")
		require.EqualValues(t, 17, x.Documents)
	})
}
