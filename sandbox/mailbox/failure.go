package mailbox

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// Mode is a way to fail.
type Mode string

// The ways to fail.
const (
	Working Mode = ""
	Broken  Mode = "broken"  // answers with an error of the 5xx kind; nothing is accepted
	Timeout Mode = "timeout" // accepts, and never answers: the sender cannot know
	Dropped Mode = "dropped" // accepts, and ends the connection without a word: likewise
	Down    Mode = "down"    // ends the connection without a word; nothing is accepted
	Stuck   Mode = "stuck"   // never answers; nothing is accepted
	Limited Mode = "limited" // answers 429, and asks to wait a second; nothing is accepted
	Refused Mode = "refused" // answers 422 to the request as a whole, whatever is in it; nothing is accepted
)

// modes are all ways to fail, as they are listed for people.
var modes = []Mode{Working, Broken, Timeout, Dropped, Down, Stuck, Limited, Refused}

// Failure is an order to fail.
type Failure struct {
	Mode   Mode      `json:"mode"`
	Status int       `json:"status,omitempty"` // of Broken; default 500
	Count  int       `json:"count,omitempty"`  // requests that fail; 0: until another order
	Until  time.Time `json:"until,omitzero"`   // zero: until another order
}

// before says whether the request fails before anything is looked at.
func (f Failure) before() bool { return f.Mode != Working && !f.after() }

// after says whether the request is carried out first.
func (f Failure) after() bool { return f.Mode == Timeout || f.Mode == Dropped }

// Request is one request to the API, for a script to choose by.
type Request struct {
	Key   string // its idempotency key
	Mails int    // accepted before it
}

// Script gives each request from now on the failure that f returns for it, which goes before what Fail ordered; nil ends
// that. f runs with the box locked: it must not call its methods.
func (b *Box) Script(f func(Request) Failure) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.script = f
}

// Fail orders a failure from now on; the zero Failure ends it.
func (b *Box) Fail(f Failure) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failure = f
}

// failing takes one request off the order. The lock is held.
func (b *Box) failing(r *http.Request, now time.Time) Failure {
	if b.script != nil {
		if f := b.script(Request{Key: r.Header.Get("Idempotency-Key"), Mails: len(b.mails)}); f.Mode != Working {
			return f
		}
	}
	f := b.failure
	if f.Mode == Working {
		return f
	}
	if !f.Until.IsZero() && now.After(f.Until) {
		b.failure = Failure{}
		return Failure{}
	}
	if f.Count > 0 {
		b.failure.Count--
		if b.failure.Count == 0 {
			b.failure = Failure{}
		}
	}
	return f
}

// fail does to one request what was ordered.
func (b *Box) fail(w http.ResponseWriter, r *http.Request, f Failure) {
	switch f.Mode {
	case Broken:
		status := f.Status
		if status == 0 {
			status = http.StatusInternalServerError
		}
		answerError(w, &apiError{status, "application_error", "An unexpected error occurred."})
	case Limited:
		w.Header().Set("retry-after", "1")
		answerError(w, &apiError{http.StatusTooManyRequests, "rate_limit_exceeded", "Too many requests."})
	case Refused:
		answerError(w, invalid("The request is refused, and does not say which of its emails is meant."))
	case Timeout, Stuck:
		select {
		case <-r.Context().Done():
		case <-b.closing:
		}
		panic(http.ErrAbortHandler)
	case Down, Dropped:
		panic(http.ErrAbortHandler) // the server's own way to end a connection without an answer
	}
}

func (b *Box) showFailure(w http.ResponseWriter, _ *http.Request) {
	b.mu.Lock()
	f := b.failure
	b.mu.Unlock()
	writeJSON(w, f)
}

// setFailure takes an order over HTTP, for people and for scenarios in other processes.
func (b *Box) setFailure(w http.ResponseWriter, r *http.Request) {
	var f Failure
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		http.Error(w, `want {"mode", "status", "count", "until"}: `+err.Error(), http.StatusUnprocessableEntity)
		return
	}
	if !slices.Contains(modes, f.Mode) {
		http.Error(w, fmt.Sprintf("mode must be one of %q", modes), http.StatusUnprocessableEntity)
		return
	}
	b.Fail(f)
	writeJSON(w, f)
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(v) // whoever asked has gone, if it fails
}
