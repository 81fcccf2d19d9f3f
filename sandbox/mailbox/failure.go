package mailbox

import (
	"encoding/json"
	"net/http"
	"time"
)

// Mode is a way to fail.
type Mode string

// The ways to fail.
const (
	Working Mode = ""
	Broken  Mode = "broken"  // answers with an error of the 5xx kind; nothing is accepted
	Timeout Mode = "timeout" // accepts, and never answers: the sender cannot know
	Down    Mode = "down"    // ends the connection without a word; nothing is accepted
)

// Failure is an order to fail.
type Failure struct {
	Mode   Mode      `json:"mode"`
	Status int       `json:"status,omitempty"` // of Broken; default 500
	Count  int       `json:"count,omitempty"`  // requests that fail; 0: until another order
	Until  time.Time `json:"until,omitzero"`   // zero: until another order
}

// before says whether the request fails before anything is looked at.
func (f Failure) before() bool { return f.Mode == Broken || f.Mode == Down }

// Fail orders a failure from now on; the zero Failure ends it.
func (b *Box) Fail(f Failure) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failure = f
}

// failing takes one request off the order. The lock is held.
func (b *Box) failing(now time.Time) Failure {
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
	case Timeout:
		select {
		case <-r.Context().Done():
		case <-b.closing:
		}
		panic(http.ErrAbortHandler)
	case Down:
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
		http.Error(w, "want {\"mode\": \"\", \"broken\", \"timeout\" or \"down\", \"status\", \"count\", \"until\"}: "+err.Error(), http.StatusUnprocessableEntity)
		return
	}
	switch f.Mode {
	case Working, Broken, Timeout, Down:
		b.Fail(f)
		writeJSON(w, f)
	default:
		http.Error(w, "mode must be \"\", \"broken\", \"timeout\" or \"down\"", http.StatusUnprocessableEntity)
	}
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(v) // whoever asked has gone, if it fails
}
