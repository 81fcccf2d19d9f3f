package mail

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	netmail "net/mail"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/battwheels/runbook/internal/config"
)

const testKey = "re_test_51f0c2"

// service speaks Resend's HTTP API as its documentation has it: keys remembered for 24 hours, batches of at most 100,
// strict and permissive validation, errors with name and message.
type service struct {
	*httptest.Server
	t testing.TB

	mu       sync.Mutex
	now      func() time.Time
	answers  map[string]remembered
	accepted map[string]int // mails by address
	requests int
	nextID   int
	// before sees each request first; true means that it has answered.
	before func(n int, w http.ResponseWriter, r *http.Request) bool
	// after sees each accepted request before it is answered; true means that no answer is to be sent.
	after func(n int) bool
	// wholly makes the service refuse a batch as a whole for its bad addresses, as in strict mode.
	wholly bool
}

type remembered struct {
	at     time.Time
	body   string
	status int
	answer any
}

// clock is set by the test and read by the service.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newService(t testing.TB) *service {
	s := &service{t: t, now: time.Now, answers: map[string]remembered{}, accepted: map[string]int{}}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

func (s *service) sender(t testing.TB) *Sender {
	t.Helper()
	sender, err := New(config.Mail{
		From: "Battwheels OS <noreply@battwheels.example>", APIKey: config.NewSecret(testKey), BaseURL: s.URL,
	}, nil)
	require.NoError(t, err)
	sender.now = s.now
	return sender
}

func (s *service) seen() (requests int, accepted map[string]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests, maps.Clone(s.accepted)
}

type wireMail struct {
	From    string            `json:"from"`
	To      []string          `json:"to"`
	Subject string            `json:"subject"`
	HTML    string            `json:"html"`
	Text    string            `json:"text"`
	Headers map[string]string `json:"headers"`
}

func fail(w http.ResponseWriter, status int, name, message string) {
	reply(w, status, map[string]any{"statusCode": status, "name": name, "message": message})
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (s *service) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	n := s.requests
	if s.before != nil && s.before(n, w, r) {
		return
	}
	if r.Header.Get("Authorization") != "Bearer "+testKey {
		fail(w, 403, "invalid_api_key", "API key is invalid: "+r.Header.Get("Authorization"))
		return
	}
	body, err := io.ReadAll(r.Body)
	require.NoError(s.t, err)
	key := r.Header.Get("Idempotency-Key")
	if key == "" || len(key) > 256 {
		fail(w, 400, "invalid_idempotency_key", "The key must be between 1-256 chars.")
		return
	}
	if known, ok := s.answers[key]; ok && s.now().Sub(known.at) < 24*time.Hour {
		if known.body != string(body) {
			fail(w, 409, "invalid_idempotent_request", "Same idempotency key used with a different request payload.")
			return
		}
		reply(w, known.status, known.answer)
		return
	}
	status, answer := s.accept(r, body)
	if status == 200 {
		s.answers[key] = remembered{at: s.now(), body: string(body), status: status, answer: answer}
		if s.after != nil && s.after(n) {
			panic(http.ErrAbortHandler)
		}
	}
	reply(w, status, answer)
}

func (s *service) accept(r *http.Request, body []byte) (int, any) {
	refusal := func(status int, message string) (int, any) {
		return status, map[string]any{"statusCode": status, "name": "validation_error", "message": message}
	}
	var mails []wireMail
	single := r.URL.Path == "/emails"
	switch {
	case r.Method != http.MethodPost:
		return refusal(405, "method")
	case single:
		var m wireMail
		require.NoError(s.t, json.Unmarshal(body, &m))
		mails = []wireMail{m}
	case r.URL.Path == "/emails/batch":
		require.NoError(s.t, json.Unmarshal(body, &mails))
	default:
		return refusal(404, r.URL.Path)
	}
	if len(mails) > 100 {
		return refusal(422, "The batch contains more than 100 emails.")
	}
	permissive := r.Header.Get("x-batch-validation") == "permissive" && !s.wholly
	data, errs := []map[string]any{}, []map[string]any{}
	for i, m := range mails {
		if bad := invalid(m); bad != "" {
			if single || !permissive {
				return refusal(422, bad)
			}
			errs = append(errs, map[string]any{"index": i, "message": bad})
		}
	}
	bad := map[int]bool{}
	for _, e := range errs {
		bad[e["index"].(int)] = true
	}
	for i, m := range mails {
		if bad[i] {
			continue
		}
		s.nextID++
		s.accepted[m.To[0]]++
		data = append(data, map[string]any{"id": fmt.Sprintf("id-%s", m.To[0])})
	}
	if single {
		return 200, data[0]
	}
	return 200, map[string]any{"data": data, "errors": errs}
}

func invalid(m wireMail) string {
	if _, err := netmail.ParseAddress(m.From); err != nil || m.From == "refused@battwheels.example" {
		return "Invalid `from` field. The email address needs to follow the `email@example.com` format."
	}
	if len(m.To) != 1 || !wellFormed(m.To[0]) {
		return "Invalid `to` field. The email address needs to follow the `email@example.com` format."
	}
	return ""
}

// wellFormed refuses what is an address to the standard and not to a mail service.
func wellFormed(s string) bool {
	a, err := netmail.ParseAddress(s)
	if err != nil {
		return false
	}
	for i := len(a.Address) - 1; i >= 0; i-- {
		switch a.Address[i] {
		case '.':
			return true
		case '@':
			return false
		}
	}
	return false
}
