package garage_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/mongotest"
	"github.com/battwheels/runbook/sandbox/garage"
	"github.com/battwheels/runbook/sandbox/seed"
)

const secret = "not a secret"

// world is a running application on a small database.
type world struct {
	t    *testing.T
	url  string
	db   *mongo.Database
	data *seed.Dataset
	org  string
	stop func() error
}

func open(t *testing.T, change func(*garage.Config)) *world {
	t.Helper()
	server := mongotest.Start(t)
	w := &world{t: t, db: server.Client(t).Database("battwheels"), data: seed.Generate(seed.Options{Seed: 1, Scale: 0.02})}
	require.NoError(t, w.data.Load(t.Context(), w.db, nil))
	w.org = w.data.Organizations[0].ID
	ready := make(chan string, 1)
	c := garage.Config{Listen: "127.0.0.1:0", MongoURI: server.URI(), Database: "battwheels", Token: secret, Ready: func(a string) { ready <- a }}
	if change != nil {
		change(&c)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- garage.Run(ctx, c) }()
	select {
	case a := <-ready:
		w.url = "http://" + a
	case err := <-ended:
		t.Fatal(err)
	}
	w.stop = func() error { cancel(); return <-ended }
	t.Cleanup(func() { cancel() })
	return w
}

func (w *world) token(role string) string {
	return garage.Sign(secret, garage.Claims{OrganizationID: w.org, UserID: "user_1", Email: "a@b.example", Name: "Asha", Role: role})
}

func (w *world) call(method, path, token string, body any) (int, []byte) {
	w.t.Helper()
	raw, err := json.Marshal(body)
	require.NoError(w.t, err)
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, bytes.NewReader(raw))
	require.NoError(w.t, err)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := http.DefaultClient.Do(r)
	require.NoError(w.t, err)
	defer answer.Body.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(answer.Body)
	require.NoError(w.t, err)
	return answer.StatusCode, b.Bytes()
}

// write calls as the owner, and holds every byte that the answer tells of against the database.
func (w *world) write(method, path string, body any) garage.Answer {
	w.t.Helper()
	status, raw := w.call(method, path, w.token("owner"), body)
	require.Less(w.t, status, 300, "%s", raw)
	if method == http.MethodPost {
		require.Equal(w.t, http.StatusCreated, status)
	}
	var a garage.Answer
	require.NoError(w.t, json.Unmarshal(raw, &a))
	require.NotEmpty(w.t, a.Written)
	last := map[string]garage.Written{}
	for _, x := range a.Written {
		last[x.Collection+bson.Raw(x.Document).Lookup("_id").String()] = x
	}
	for _, x := range last {
		require.False(w.t, x.Pending)
		got, err := w.db.Collection(x.Collection).FindOne(w.t.Context(), bson.D{{Key: "_id", Value: bson.Raw(x.Document).Lookup("_id")}}).Raw()
		if x.Deleted {
			require.ErrorIs(w.t, err, mongo.ErrNoDocuments)
			continue
		}
		require.NoError(w.t, err)
		require.Equal(w.t, bson.Raw(x.Document), got)
	}
	return a
}

func (w *world) count(collection string, filter bson.D) int {
	w.t.Helper()
	n, err := w.db.Collection(collection).CountDocuments(w.t.Context(), filter)
	require.NoError(w.t, err)
	return int(n)
}

// touched lists the collections that an answer tells of.
func touched(a garage.Answer) map[string]int {
	m := map[string]int{}
	for _, x := range a.Written {
		m[x.Collection]++
	}
	return m
}

func invoice() map[string]any {
	return map[string]any{"items": []any{map[string]any{"name": "Fuse", "quantity": 2, "rate": 100.5}, map[string]any{"name": "Relay", "quantity": 1, "rate": 20}}}
}

func TestATicketFromFirstToLast(t *testing.T) {
	w := open(t, nil)
	a := w.write("POST", "/api/tickets", map[string]any{"ticket_id": "tkt_00000000abcd", "title": "No charge"})
	require.Equal(t, "tkt_00000000abcd", a.ID)
	require.Regexp(t, `^TKT-\d{6}$`, a.Number)
	require.Equal(t, map[string]int{"sequences": 1, "tickets": 1, "ticket_activities": 1}, touched(a))
	b := w.write("POST", "/api/tickets", map[string]any{"title": "No charge"})
	require.Greater(t, b.Number, a.Number, "numbers go up")

	w.write("PUT", "/api/tickets/"+a.ID, map[string]any{"status": "resolved"})
	_, raw := w.call("GET", "/api/tickets/"+a.ID, w.token("technician"), nil)
	require.Contains(t, string(raw), `"status":"resolved"`)

	d := w.write("DELETE", "/api/tickets/"+a.ID, nil)
	require.Equal(t, map[string]int{"tickets": 1, "audit_logs": 1}, touched(d))
	require.Equal(t, 1, w.count("audit_logs", bson.D{{Key: "resource_id", Value: a.ID}, {Key: "resource_type", Value: "TICKET"}, {Key: "action", Value: "delete"}}))
	status, _ := w.call("DELETE", "/api/tickets/"+a.ID, w.token("owner"), nil)
	require.Equal(t, http.StatusNotFound, status)
}

func TestDeletingADraftInvoiceIsSilent(t *testing.T) {
	w := open(t, nil)
	a := w.write("POST", "/api/invoices", invoice())
	require.Equal(t, map[string]int{"sequences": 1, "invoices": 1, "invoice_line_items": 2, "invoice_history": 1}, touched(a))
	logs, money := w.count("audit_logs", bson.D{}), w.count("audit_log", bson.D{})
	d := w.write("DELETE", "/api/invoices/"+a.ID, nil)
	require.Equal(t, map[string]int{"invoices": 1, "invoice_line_items": 2, "invoice_history": 1}, touched(d))
	require.Equal(t, logs, w.count("audit_logs", bson.D{}))
	require.Equal(t, money, w.count("audit_log", bson.D{}))
}

func TestASentInvoiceIsVoidedNotDeleted(t *testing.T) {
	w := open(t, nil)
	a := w.write("POST", "/api/invoices", invoice())
	w.write("PUT", "/api/invoices/"+a.ID, map[string]any{"status": "sent"})
	status, raw := w.call("DELETE", "/api/invoices/"+a.ID, w.token("owner"), nil)
	require.Equal(t, http.StatusConflict, status)
	require.Contains(t, string(raw), "void it")
	v := w.write("POST", "/api/invoices/"+a.ID+"/void", nil)
	require.Equal(t, map[string]int{"invoices": 1, "invoice_history": 1, "audit_log": 1, "audit_logs": 1}, touched(v))
	require.Equal(t, 1, w.count("audit_logs", bson.D{{Key: "action", Value: "invoice.voided"}, {Key: "resource_id", Value: a.ID}}))
}

func TestDeletingAContactTakesWhatHangsOnIt(t *testing.T) {
	w := open(t, nil)
	a := w.write("POST", "/api/contacts", map[string]any{"name": "Ravi", "persons": []string{"A", "B"}})
	w.write("PUT", "/api/contacts/"+a.ID, map[string]any{"phone": "1"})
	logs := w.count("audit_logs", bson.D{})
	d := w.write("DELETE", "/api/contacts/"+a.ID, nil)
	require.Equal(t, map[string]int{"contacts": 1, "contact_persons": 2, "contact_history": 1}, touched(d))
	require.Equal(t, logs, w.count("audit_logs", bson.D{}))
}

func TestAPaymentMovesBalancesAndItsDeletionMovesThemBack(t *testing.T) {
	w := open(t, nil)
	contact := w.write("POST", "/api/contacts", map[string]any{"name": "Ravi"})
	in := invoice()
	in["contact_id"] = contact.ID
	inv := w.write("POST", "/api/invoices", in)
	due := func() float64 {
		raw, err := w.db.Collection("invoices").FindOne(t.Context(), bson.D{{Key: "invoice_id", Value: inv.ID}}).Raw()
		require.NoError(t, err)
		return raw.Lookup("balance_due").Double()
	}
	total := due()
	p := w.write("POST", "/api/payments", map[string]any{"invoice_id": inv.ID, "amount": 60})
	require.Equal(t, map[string]int{"payments": 1, "invoices": 1, "contacts": 1, "audit_log": 1}, touched(p))
	require.InDelta(t, total-60, due(), 0.001)
	d := w.write("DELETE", "/api/payments/"+p.ID, nil)
	require.Equal(t, map[string]int{"payments": 1, "invoices": 1, "contacts": 1, "audit_log": 1}, touched(d))
	require.InDelta(t, total, due(), 0.001)
	raw, err := w.db.Collection("audit_log").FindOne(t.Context(), bson.D{{Key: "entity_id", Value: p.ID}, {Key: "action", Value: "DELETE"}}).Raw()
	require.NoError(t, err)
	require.Equal(t, p.ID, raw.Lookup("before_snapshot", "payment_id").StringValue(), "the deleted payment stands whole in the entry")
}

func TestBadInputIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	w := open(t, nil)
	for name, c := range map[string]struct {
		path string
		body any
		want string
	}{
		"a ticket without a title":    {"/api/tickets", map[string]any{}, "title"},
		"a misspelt field":            {"/api/tickets", map[string]any{"titel": "x"}, "titel"},
		"an identifier not like ours": {"/api/tickets", map[string]any{"title": "x", "ticket_id": "inv_00000000abcd"}, "tkt_"},
		"an invoice without items":    {"/api/invoices", map[string]any{}, "items"},
		"a payment of nothing":        {"/api/payments", map[string]any{"invoice_id": "inv_1", "amount": 0}, "amount"},
	} {
		t.Run(name, func(t *testing.T) {
			status, raw := w.call("POST", c.path, w.token("owner"), c.body)
			require.Equal(t, http.StatusUnprocessableEntity, status)
			var a garage.Answer
			require.NoError(t, json.Unmarshal(raw, &a))
			require.Contains(t, a.Message, c.want)
			require.Empty(t, a.Written)
		})
	}
}

func TestTokens(t *testing.T) {
	w := open(t, nil)
	good := w.token("owner")
	expired := garage.Sign(secret, garage.Claims{OrganizationID: w.org, Role: "owner", Expires: 1})
	for name, c := range map[string]struct {
		token string
		want  int
	}{
		"none": {"", 401}, "nonsense": {"abc", 401}, "of another secret": {garage.Sign("other", garage.Claims{OrganizationID: w.org, Role: "owner"}), 401},
		"expired": {expired, 401}, "changed": {good[:len(good)-2] + "xx", 401}, "of a role that may not": {w.token("technician"), 403}, "good": {good, 200},
	} {
		status, raw := w.call("GET", "/api/audit-logs", c.token, nil)
		require.Equal(t, c.want, status, "%s: %s", name, raw)
	}
	ticket := w.write("POST", "/api/tickets", map[string]any{"title": "x"})
	other := garage.Sign(secret, garage.Claims{OrganizationID: w.data.Organizations[1].ID, Role: "owner"})
	status, _ := w.call("DELETE", "/api/tickets/"+ticket.ID, other, nil)
	require.Equal(t, http.StatusNotFound, status, "another tenant's ticket does not exist")
}

func TestTheAuditLogInBothShapes(t *testing.T) {
	for _, nested := range []bool{false, true} {
		t.Run(fmt.Sprintf("nested %v", nested), func(t *testing.T) {
			w := open(t, func(c *garage.Config) { c.NestedAudit = nested })
			for range 5 {
				a := w.write("POST", "/api/tickets", map[string]any{"title": "x"})
				w.write("DELETE", "/api/tickets/"+a.ID, nil)
			}
			var times []string
			for page := 1; ; page++ {
				status, raw := w.call("GET", fmt.Sprintf("/api/audit-logs?limit=2&page=%d", page), w.token("admin"), nil)
				require.Equal(t, 200, status)
				var flat struct {
					Code  int              `json:"code"`
					Total *int             `json:"total"`
					Logs  []map[string]any `json:"audit_logs"`
				}
				var object struct {
					Logs struct {
						Logs       []map[string]any `json:"logs"`
						Total      int              `json:"total"`
						Page       int              `json:"page"`
						PerPage    int              `json:"per_page"`
						TotalPages int              `json:"total_pages"`
					} `json:"audit_logs"`
				}
				var logs []map[string]any
				if nested {
					require.NoError(t, json.Unmarshal(raw, &object))
					logs = object.Logs.Logs
					require.Equal(t, page, object.Logs.Page)
					require.Equal(t, 2, object.Logs.PerPage)
					require.Equal(t, (object.Logs.Total+1)/2, object.Logs.TotalPages)
				} else {
					require.NoError(t, json.Unmarshal(raw, &flat))
					logs = flat.Logs
					require.Equal(t, page == 1, flat.Total != nil, "the total is on the first page only")
				}
				if len(logs) == 0 {
					break
				}
				for _, l := range logs {
					require.Equal(t, w.org, l["organization_id"])
					times = append(times, l["timestamp"].(string))
				}
			}
			require.GreaterOrEqual(t, len(times), 5)
			require.True(t, strings.HasPrefix(times[0], time.Now().UTC().Format("2006-")), "newest first: %s", times[0])
			status, raw := w.call("GET", "/api/audit-logs?action=delete&resource_type=TICKET", w.token("owner"), nil)
			require.Equal(t, 200, status)
			require.NotContains(t, string(raw), `"invoice.voided"`)
			status, _ = w.call("GET", "/api/audit-logs?page=zero", w.token("owner"), nil)
			require.Equal(t, 422, status)
		})
	}
}

func TestHealthTellsByWordsNotByStatus(t *testing.T) {
	health := func(w *world) (string, string, []any) {
		status, raw := w.call("GET", "/api/health", "", nil)
		require.Equal(t, 200, status)
		var h map[string]any
		require.NoError(t, json.Unmarshal(raw, &h))
		require.NotEmpty(t, h["version"])
		issues, _ := h["issues"].([]any)
		return h["status"].(string), h["mongodb"].(string), issues
	}
	w := open(t, nil)
	status, mongodb, issues := health(w)
	require.Equal(t, "healthy connected []", fmt.Sprint(status, " ", mongodb, " ", issues))

	_, err := w.db.Collection("users").UpdateOne(t.Context(), bson.D{}, bson.D{{Key: "$unset", Value: bson.D{{Key: "role", Value: 1}}}})
	require.NoError(t, err)
	status, mongodb, issues = health(w)
	require.Equal(t, "degraded connected", status+" "+mongodb)
	require.Equal(t, []any{"users: a document has no role"}, issues)

	require.NoError(t, w.db.Collection("organizations").Drop(t.Context()))
	_, _, issues = health(w)
	require.Contains(t, issues, "organizations: is empty")
}

func TestHealthWithoutADatabase(t *testing.T) {
	w := open(t, func(c *garage.Config) { c.MongoURI = "mongodb://127.0.0.1:1/" })
	status, raw := w.call("GET", "/api/health", "", nil)
	require.Equal(t, 200, status)
	require.Contains(t, string(raw), `"status":"degraded"`)
	require.Contains(t, string(raw), `"mongodb":"disconnected"`)
}

func TestAWriteThatTheDatabaseNeverAnsweredIsPending(t *testing.T) {
	server := mongotest.Start(t)
	db := server.Client(t).Database("battwheels")
	data := seed.Generate(seed.Options{Seed: 1, Scale: 0.02})
	require.NoError(t, data.Load(t.Context(), db, nil))
	w := open(t, func(c *garage.Config) { c.MongoURI = server.URI() })
	server.Fail(mongotest.Fault{Command: "insert", Namespace: "battwheels.ticket_activities", Drop: mongotest.DropAfter, Times: 1})
	status, raw := w.call("POST", "/api/tickets", w.token("owner"), map[string]any{"title": "x"})
	require.Equal(t, http.StatusServiceUnavailable, status)
	var a garage.Answer
	require.NoError(t, json.Unmarshal(raw, &a))
	require.Len(t, a.Written, 3)
	require.Equal(t, []bool{false, false, true}, []bool{a.Written[0].Pending, a.Written[1].Pending, a.Written[2].Pending})
}

func TestStoppingLetsNoAnswerGo(t *testing.T) {
	w := open(t, nil)
	w.write("POST", "/api/tickets", map[string]any{"title": "x"})
	require.NoError(t, w.stop())
	_, err := http.Get(w.url + "/api/health")
	require.Error(t, err)
}

func TestRunWithoutAToken(t *testing.T) {
	require.ErrorContains(t, garage.Run(t.Context(), garage.Config{}), "no token")
}

// TestInvoicesAreDeletedByTheDozen proves that both ways remove lines and history, too, and that only one of them is audited.
func TestInvoicesAreDeletedByTheDozen(t *testing.T) {
	w := open(t, nil)
	for path, entries := range map[string]int{"/api/invoices/bulk-delete": 0, "/api/invoices/purge": 2} {
		var ids []string
		for range 2 {
			ids = append(ids, w.write(http.MethodPost, "/api/invoices", map[string]any{"items": []map[string]any{{"name": "Labour", "quantity": 1, "rate": 10.0}}}).ID)
		}
		a := w.write(http.MethodPost, path, map[string]any{"invoice_ids": ids})
		want := map[string]int{"invoices": 2, "invoice_line_items": 2, "invoice_history": 2}
		if entries > 0 {
			want["audit_logs"] = entries
		}
		require.Equal(t, want, touched(a), path)
		require.Equal(t, entries, w.count("audit_logs", bson.D{{Key: "action", Value: "invoice.deleted"}, {Key: "resource_id", Value: bson.D{{Key: "$in", Value: ids}}}}))
		status, _ := w.call(http.MethodPost, path, w.token("owner"), map[string]any{"invoice_ids": ids})
		require.Equal(t, http.StatusNotFound, status, "they are gone")
	}
	sent := w.write(http.MethodPost, "/api/invoices", map[string]any{"status": "sent", "items": []map[string]any{{"name": "Labour", "quantity": 1, "rate": 10.0}}}).ID
	status, _ := w.call(http.MethodPost, "/api/invoices/bulk-delete", w.token("owner"), map[string]any{"invoice_ids": []string{sent}})
	require.Equal(t, http.StatusConflict, status, "somebody has seen it")
	status, _ = w.call(http.MethodPost, "/api/invoices/bulk-delete", w.token("owner"), map[string]any{"invoice_ids": []string{}})
	require.Equal(t, http.StatusUnprocessableEntity, status)
}
