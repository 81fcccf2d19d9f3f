package garage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// pythonTime is how the application's Python prints a time.
const pythonTime = "2006-01-02T15:04:05.000000"

// Answer is what every write answers, a failed one too: what it changed until then is changed.
type Answer struct {
	Code    int       `json:"code"` // 0: done
	Message string    `json:"message,omitempty"`
	ID      string    `json:"id,omitempty"` // the application's own identifier
	Number  string    `json:"number,omitempty"`
	Written []Written `json:"written"`
}

// badInput is refused with 422 before anything is written, conflict with 409.
type (
	badInput string
	conflict string
)

func (b badInput) Error() string { return string(b) }
func (c conflict) Error() string { return string(c) }

// operation is one write of the application. It answers with the identifier and number of what it made.
type operation func(ctx context.Context, w *work, r *http.Request) (Answer, error)

// writeTimeout bounds one request's work on the database, bulkTimeout that of one that works on dozens of documents.
const (
	writeTimeout = 15 * time.Second
	bulkTimeout  = time.Minute
)

// writes routes a path to an operation: one at a time for each tenant, with the roles that may.
func (a *App) writes(pattern string, do operation, roles ...string) {
	a.writesWithin(writeTimeout, pattern, do, roles...)
}

func (a *App) writesWithin(most time.Duration, pattern string, do operation, roles ...string) {
	a.mux.HandleFunc(pattern, a.authorized(func(rw http.ResponseWriter, r *http.Request, c Claims) {
		// A client that goes away must not leave half an invoice.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), most)
		defer cancel()
		r.Body = http.MaxBytesReader(rw, r.Body, 1<<20)
		defer a.store.turn(c.OrganizationID)()
		w := &work{store: a.store, claims: c, now: time.Now().UTC(), written: []Written{}}
		answer, err := do(ctx, w, r)
		answer.Written = w.written
		status := http.StatusOK
		if r.Method == http.MethodPost {
			status = http.StatusCreated
		}
		if err != nil {
			status = statusOf(err)
			answer.Code, answer.Message = 1, err.Error()
			a.log.Warn("a write failed", "path", r.URL.Path, "status", status, "error", err)
		}
		respond(rw, status, answer)
	}, roles...))
}

func statusOf(err error) int {
	var bad badInput
	var clash conflict
	switch {
	case errors.As(err, &bad):
		return http.StatusUnprocessableEntity
	case errors.As(err, &clash), mongo.IsDuplicateKeyError(err):
		return http.StatusConflict
	case errors.Is(err, errNotFound):
		return http.StatusNotFound
	case mongo.IsNetworkError(err), mongo.IsTimeout(err):
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

// body reads a request's JSON; an unknown field is refused.
func body(r *http.Request, into any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return badInput("the body is not what this path takes: " + err.Error())
	}
	return nil
}

func respond(w http.ResponseWriter, status int, v any) {
	raw, err := json.Marshal(v)
	if err != nil {
		status, raw = http.StatusInternalServerError, []byte(`{"detail":"the answer cannot be written as JSON"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(raw) // whoever asked has gone, if it fails
}

func refuse(w http.ResponseWriter, status int, detail string) {
	respond(w, status, map[string]string{"detail": detail})
}

// kind is a sort of document that can be read one by one.
type kind struct{ collection, field string }

var readable = map[string]kind{
	"tickets":  {"tickets", "ticket_id"},
	"contacts": {"contacts", "contact_id"},
	"invoices": {"invoices", "invoice_id"},
	"payments": {"payments", "payment_id"},
}

func (a *App) read(k kind) func(http.ResponseWriter, *http.Request, Claims) {
	return func(w http.ResponseWriter, r *http.Request, c Claims) {
		raw, err := a.store.find(r.Context(), c.OrganizationID, k.collection, k.field, r.PathValue("id"))
		if err != nil {
			refuse(w, statusOf(err), err.Error())
			return
		}
		respond(w, http.StatusOK, map[string]any{"code": 0, "document": plain(raw)})
	}
}

func (a *App) list(k kind) func(http.ResponseWriter, *http.Request, Claims) {
	return func(w http.ResponseWriter, r *http.Request, c Claims) {
		limit, page, err := paging(r)
		if err != nil {
			refuse(w, http.StatusUnprocessableEntity, err.Error())
			return
		}
		cursor, err := a.store.db.Collection(k.collection).Find(r.Context(), bson.D{{Key: "organization_id", Value: c.OrganizationID}},
			options.Find().SetSort(bson.D{{Key: k.field, Value: 1}}).SetSkip(int64((page-1)*limit)).SetLimit(int64(limit)))
		var all []bson.Raw
		if err == nil {
			err = cursor.All(r.Context(), &all)
		}
		if err != nil {
			refuse(w, statusOf(err), err.Error())
			return
		}
		documents := []map[string]any{}
		for _, raw := range all {
			documents = append(documents, plain(raw))
		}
		respond(w, http.StatusOK, map[string]any{"code": 0, k.collection: documents, "page": page})
	}
}

// paging reads limit and page; the application never gives more than 200 at a time.
func paging(r *http.Request) (limit, page int, err error) {
	limit, page = 50, 1
	for name, into := range map[string]*int{"limit": &limit, "page": &page} {
		if s := r.URL.Query().Get(name); s != "" {
			n, err := strconv.Atoi(s)
			if err != nil || n < 1 {
				return 0, 0, fmt.Errorf("%s: %q is no number of at least 1", name, s)
			}
			*into = n
		}
	}
	return min(limit, 200), page, nil
}

// plain is a document as the application shows it: without _id, dates as text.
func plain(raw bson.Raw) map[string]any {
	out := map[string]any{}
	elements, err := raw.Elements()
	if err != nil {
		return map[string]any{"error": "the document is damaged"}
	}
	for _, e := range elements {
		if e.Key() != "_id" {
			out[e.Key()] = plainValue(e.Value())
		}
	}
	return out
}

func plainValue(v bson.RawValue) any {
	switch v.Type {
	case bson.TypeEmbeddedDocument:
		return plain(v.Document())
	case bson.TypeArray:
		values, _ := v.Array().Values()
		out := []any{}
		for _, x := range values {
			out = append(out, plainValue(x))
		}
		return out
	case bson.TypeDateTime:
		return v.Time().UTC().Format("2006-01-02T15:04:05.000Z07:00")
	case bson.TypeString:
		return v.StringValue()
	case bson.TypeBoolean:
		return v.Boolean()
	case bson.TypeInt32:
		return v.Int32()
	case bson.TypeInt64:
		return v.Int64()
	case bson.TypeDouble:
		return v.Double()
	case bson.TypeNull:
		return nil
	default:
		return v.String()
	}
}
