package mailbox

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Limits of the real service.
const (
	maxBatch     = 100
	maxTo        = 50
	maxKey       = 256
	maxBody      = 40 << 20
	rememberKeys = 24 * time.Hour
)

// apiError is an error in the service's own form.
type apiError struct {
	StatusCode int    `json:"statusCode"`
	Name       string `json:"name"`
	Message    string `json:"message"`
}

func (e *apiError) Error() string { return e.Name + ": " + e.Message }

func invalid(format string, a ...any) *apiError {
	return &apiError{http.StatusUnprocessableEntity, "validation_error", fmt.Sprintf(format, a...)}
}

// remembered is the first request that came with an idempotency key, and its answer.
type remembered struct {
	fingerprint [sha256.Size]byte
	at          time.Time
	answer      []byte
}

// handler answers one request of the API with a value that is sent as JSON. It runs with the lock held.
type handler func(r *http.Request, body []byte) (any, *apiError)

// api wraps a handler in what every request goes through: the key, the rate, the failures that were ordered, and the
// memory for idempotency keys.
func (b *Box) api(next handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			answerError(w, &apiError{http.StatusRequestEntityTooLarge, "validation_error", "The request is too large."})
			return
		}
		now := time.Now()
		b.mu.Lock()
		b.counts.Requests++
		failure := b.failing(r, now)
		if failure.before() {
			b.counts.Failed++
			b.mu.Unlock()
			b.fail(w, r, failure)
			return
		}
		if e := b.admit(w, r, now); e != nil {
			b.mu.Unlock()
			answerError(w, e)
			return
		}
		answer, e := b.once(r, body, now, next)
		if e == nil && failure.after() {
			b.counts.Failed++
			b.mu.Unlock()
			b.fail(w, r, failure)
			return
		}
		b.mu.Unlock()
		if e != nil {
			answerError(w, e)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer) // whoever asked has gone, if it fails
	})
}

// admit checks the key and the rate. The lock is held.
func (b *Box) admit(w http.ResponseWriter, r *http.Request, now time.Time) *apiError {
	key, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || key == "" {
		return &apiError{http.StatusUnauthorized, "missing_api_key", "Missing API Key in the authorization header."}
	}
	if subtle.ConstantTimeCompare([]byte(key), []byte(b.config.APIKey)) != 1 {
		return &apiError{http.StatusForbidden, "invalid_api_key", "API key is invalid."}
	}
	for len(b.recent) > 0 && now.Sub(b.recent[0]) >= time.Second {
		b.recent = b.recent[1:]
	}
	wait := 0.0
	over := len(b.recent) >= b.config.Rate
	if len(b.recent) > 0 {
		wait = math.Ceil((time.Second - now.Sub(b.recent[0])).Seconds())
	}
	if !over {
		b.recent = append(b.recent, now)
	}
	w.Header().Set("ratelimit-limit", strconv.Itoa(b.config.Rate))
	w.Header().Set("ratelimit-remaining", strconv.Itoa(b.config.Rate-len(b.recent)))
	w.Header().Set("ratelimit-reset", strconv.Itoa(int(max(1, wait))))
	if over {
		b.counts.RateLimited++
		w.Header().Set("retry-after", strconv.Itoa(int(max(1, wait))))
		return &apiError{http.StatusTooManyRequests, "rate_limit_exceeded",
			fmt.Sprintf("Too many requests. You can only make %d requests per second.", b.config.Rate)}
	}
	return nil
}

// once runs a request unless its idempotency key was seen before. The lock is held.
func (b *Box) once(r *http.Request, body []byte, now time.Time, next handler) ([]byte, *apiError) {
	key := r.Header.Get("Idempotency-Key")
	_, given := r.Header["Idempotency-Key"]
	if !given || r.Method != http.MethodPost {
		return encode(next(r, body))
	}
	if key == "" || len(key) > maxKey {
		return nil, &apiError{http.StatusBadRequest, "invalid_idempotency_key", "The key must be between 1-256 chars."}
	}
	fingerprint := sha256.Sum256(append([]byte(r.URL.Path+"\x00"), body...))
	if seen := b.remembered[key]; seen != nil && now.Sub(seen.at) < rememberKeys {
		if seen.fingerprint != fingerprint {
			return nil, &apiError{http.StatusConflict, "invalid_idempotent_request",
				"Same idempotency key used with a different request payload."}
		}
		b.counts.Replayed++
		return seen.answer, nil
	}
	answer, e := encode(next(r, body))
	if e == nil { // a refused request is not remembered: it sent nothing
		b.remembered[key] = &remembered{fingerprint: fingerprint, at: now, answer: answer}
	}
	return answer, e
}

func encode(v any, e *apiError) ([]byte, *apiError) {
	if e != nil {
		return nil, e
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, &apiError{http.StatusInternalServerError, "application_error", "An unexpected error occurred."}
	}
	return raw, nil
}

func answerError(w http.ResponseWriter, e *apiError) {
	raw, _ := json.Marshal(e) // two strings and a number always encode
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.StatusCode)
	_, _ = w.Write(raw)
}

type sent struct {
	ID string `json:"id"`
}

func (b *Box) send(r *http.Request, body []byte) (any, *apiError) {
	var m message
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, &apiError{http.StatusBadRequest, "validation_error", "The request body is not valid JSON: " + err.Error()}
	}
	if e := m.check(false); e != nil {
		b.counts.Refused++
		return nil, e
	}
	mail := m.mail(r, false)
	b.keep(mail)
	return sent{mail.ID}, nil
}

type batchError struct {
	Index   int    `json:"index"`
	Message string `json:"message"`
}

func (b *Box) sendBatch(r *http.Request, body []byte) (any, *apiError) {
	permissive := false
	switch mode := r.Header.Get("x-batch-validation"); mode {
	case "", "strict":
	case "permissive":
		permissive = true
	default:
		return nil, invalid("Invalid `x-batch-validation` header %q. Use `strict` or `permissive`.", mode)
	}
	var messages []message
	if err := json.Unmarshal(body, &messages); err != nil {
		return nil, &apiError{http.StatusBadRequest, "validation_error", "The request body is not a JSON array of emails: " + err.Error()}
	}
	if len(messages) == 0 || len(messages) > maxBatch {
		return nil, invalid("A batch takes 1 to %d emails; this one has %d.", maxBatch, len(messages))
	}
	answer := struct {
		Data   []sent       `json:"data"`
		Errors []batchError `json:"errors,omitempty"`
	}{Data: []sent{}}
	var mails []Mail
	for i, m := range messages {
		if e := m.check(true); e != nil {
			b.counts.Refused++
			if !permissive {
				return nil, e
			}
			answer.Errors = append(answer.Errors, batchError{i, e.Message})
			continue
		}
		mail := m.mail(r, true)
		mails = append(mails, mail)
		answer.Data = append(answer.Data, sent{mail.ID})
	}
	if len(mails) > 0 {
		b.keep(mails...)
	}
	return answer, nil
}

func (b *Box) retrieve(r *http.Request, _ []byte) (any, *apiError) {
	for _, m := range b.mails {
		if m.ID == r.PathValue("id") {
			return map[string]any{"object": "email", "id": m.ID, "from": m.From, "to": m.To, "cc": m.CC, "bcc": m.BCC,
				"reply_to": m.ReplyTo, "subject": m.Subject, "html": m.HTML, "text": m.Text,
				"created_at": m.ReceivedAt.Format("2006-01-02 15:04:05.000000-07"), "last_event": "delivered"}, nil
		}
	}
	return nil, &apiError{http.StatusNotFound, "not_found", "Email not found"}
}

func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
