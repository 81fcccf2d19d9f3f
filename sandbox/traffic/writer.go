package traffic

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/sandbox/garage"
	"github.com/battwheels/runbook/sandbox/ledger"
)

// writer works for its tenants, one request at a time, so that it knows the order of its writes.
type writer struct {
	traffic *Traffic
	random  *rand.Rand
	tenants []*tenant
}

// tenant remembers what the writer made, to change or delete it later.
type tenant struct {
	claims                            garage.Claims
	tickets, contacts, invoices, pays []string
	drafts                            []string // those of the invoices that nobody has seen
}

// forget drops an identifier that the application no longer knows.
func (t *tenant) forget(id string) {
	for _, list := range []*[]string{&t.tickets, &t.contacts, &t.invoices, &t.pays, &t.drafts} {
		*list = without(*list, id)
	}
}

// request is one call of the API, with what it may touch if nobody answers.
type request struct {
	method, path string
	body         any
	touches      []ledger.Uncertain
	done         func()   // where it succeeded
	of           []string // identifiers that it needs: forgotten where the application does not know them
}

func (w *writer) run(ctx context.Context, pace <-chan time.Time) {
	for {
		select {
		case <-pace:
		case <-ctx.Done():
			return
		}
		if !w.traffic.enter(ctx) {
			return
		}
		t := w.tenants[w.random.IntN(len(w.tenants))]
		w.do(ctx, t, w.choose(t))
	}
}

// do sends one request and enters the answer in the ledger. A request that began is not cancelled by the end of the
// traffic: it would leave an uncertain write for nothing.
func (w *writer) do(ctx context.Context, tenant *tenant, q request) {
	t := w.traffic
	begin := time.Now()
	answer, status, err := w.send(context.WithoutCancel(ctx), tenant.claims, q)
	end := time.Now()
	switch {
	case err == nil && status < 300:
		w.record(answer.Written, begin, end, q)
		q.done()
		t.leave(func() {
			t.stats.Requests++
			t.stats.Documents += int64(len(answer.Written))
			if t.stats.FirstAt.IsZero() {
				t.stats.FirstAt = end
			}
			t.stats.LastAt, t.lastSeen = end, end
		})
	case err == nil:
		w.record(answer.Written, begin, end, q)
		if status == http.StatusNotFound || status == http.StatusConflict {
			for _, id := range q.of {
				tenant.forget(id)
			}
		}
		t.leave(func() { t.stats.Failed++; t.lastSeen = end })
	case notSent(err):
		t.leave(func() { t.stats.Refused++; t.gone() })
	default:
		for i := range q.touches {
			q.touches[i].Begin = begin
		}
		t.config.Ledger.RecordUncertain(q.touches...)
		t.leave(func() { t.stats.Unanswered++ })
	}
}

func (w *writer) send(ctx context.Context, claims garage.Claims, q request) (garage.Answer, int, error) {
	raw, err := json.Marshal(q.body)
	if err != nil {
		return garage.Answer{}, 0, err
	}
	r, err := http.NewRequestWithContext(ctx, q.method, w.traffic.config.URL+q.path, bytes.NewReader(raw))
	if err != nil {
		return garage.Answer{}, 0, err
	}
	r.Header.Set("Authorization", "Bearer "+garage.Sign(w.traffic.config.Secret, claims))
	r.Header.Set("Content-Type", "application/json")
	response, err := w.traffic.client.Do(r)
	if err != nil {
		return garage.Answer{}, 0, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return garage.Answer{}, 0, err
	}
	var answer garage.Answer
	if err := json.Unmarshal(body, &answer); err != nil {
		return garage.Answer{}, 0, fmt.Errorf("the answer to %s %s is no JSON: %w", q.method, q.path, err)
	}
	return answer, response.StatusCode, nil
}

// callWithin is how long a person waits, who may have asked for much at once.
const callWithin = 2 * time.Minute

// Call makes one request of a person's, beside the writers, and enters what it wrote in the ledger. Anything but success is an
// error.
func (t *Traffic) Call(ctx context.Context, claims garage.Claims, method, path string, body any) (garage.Answer, error) {
	patient := &Traffic{config: t.config, client: &http.Client{Timeout: callWithin, Transport: t.client.Transport}}
	w, q := &writer{traffic: patient}, request{method: method, path: path, body: body}
	begin := time.Now()
	answer, status, err := w.send(ctx, claims, q)
	if err != nil {
		return answer, fmt.Errorf("%s %s: %w", method, path, err)
	}
	w.record(answer.Written, begin, time.Now(), q)
	if status >= 300 {
		return answer, fmt.Errorf("%s %s: the application answers %d: %s", method, path, status, answer.Message)
	}
	return answer, nil
}

// notSent says whether a request never reached the application.
func notSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// record enters what an answer says was written.
func (w *writer) record(written []garage.Written, begin, end time.Time, q request) {
	var all []ledger.Write
	for _, x := range written {
		raw := bson.Raw(x.Document)
		one := ledger.Write{Collection: x.Collection, ID: raw.Lookup("_id"), Raw: raw, Begin: begin, End: end,
			Maybe: x.Pending, By: q.method + " " + q.path}
		if x.Deleted {
			one.Raw = nil
		}
		all = append(all, one)
	}
	w.traffic.config.Ledger.Record(all...)
}

// watch asks for the application's health, seldom while it is there and often while it is away: the end of an outage
// is the first healthy answer.
func (t *Traffic) watch(ctx context.Context) {
	for {
		t.mu.Lock()
		every := 500 * time.Millisecond
		if t.away {
			every = 50 * time.Millisecond
		}
		changed := t.changed
		away := t.away
		t.mu.Unlock()
		timer := time.NewTimer(every)
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-timer.C:
				waiting = false
			case <-changed:
				t.mu.Lock()
				changed, waiting = t.changed, t.away == away
				t.mu.Unlock()
			}
		}
		healthy, err := t.health(ctx)
		if ctx.Err() != nil {
			return
		}
		now := time.Now()
		switch {
		case err != nil && notSent(err):
			t.update(t.gone)
		case err != nil:
		case away && healthy:
			t.update(func() {
				t.away, t.lastSeen = false, now
				t.outages[len(t.outages)-1].To = now
			})
		case !away:
			t.update(func() { t.lastSeen = now })
		}
	}
}

// health asks the application by its own words; a database in trouble is no outage while it answers.
func (t *Traffic) health(ctx context.Context) (healthy bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, t.config.URL+"/api/health", nil)
	if err != nil {
		return false, err
	}
	response, err := t.client.Do(r)
	if err != nil {
		return false, err
	}
	defer response.Body.Close()
	var words struct {
		Status  string `json:"status"`
		MongoDB string `json:"mongodb"`
	}
	if err := json.NewDecoder(response.Body).Decode(&words); err != nil {
		return false, err
	}
	return words.Status == "healthy" && words.MongoDB == "connected", nil
}
