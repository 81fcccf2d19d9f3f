package mail

import (
	"time"

	"github.com/battwheels/runbook/internal/incident"
)

// LedgerName is the file of the incident's folder that says what was sent.
const LedgerName = "ledger.jsonl"

// Receipt is one mail that the service accepted.
type Receipt struct {
	OrganizationID string `json:"organizationId,omitempty"`
	MailID         string `json:"mailId,omitempty"` // the service's own
}

// Failure is one mail that was not sent, or of which nobody knows, and why. It holds an address: keep it out of
// workflow histories.
type Failure struct {
	OrganizationID string `json:"organizationId,omitempty"`
	Email          string `json:"email"`
	Reason         string `json:"reason"`
}

// The events of the ledger.
const (
	eventTrying   = "trying"   // a request is about to leave
	eventNothing  = "nothing"  // that request was certainly not accepted
	eventSplit    = "split"    // the service refuses the batch as a whole: its mails go out one by one
	eventFinished = "finished" // the outcome of each mail is known, or given up
)

// whole stands for a batch in one request; the mails of a split batch are counted from 1.
const whole = 0

// entry is one line of the ledger.
type entry struct {
	At      time.Time `json:"at"`
	Outbox  string    `json:"outbox"`
	Batch   int       `json:"batch"`          // from 1, as in the file's name
	Mail    int       `json:"mail,omitempty"` // of a split batch, from 1
	Event   string    `json:"event"`
	Attempt string    `json:"attempt,omitempty"`
	Sent    []Receipt `json:"sent,omitempty"`
	Failed  []Failure `json:"failed,omitempty"`
	Unknown []Failure `json:"unknown,omitempty"`
}

func (e entry) result() BatchResult {
	return BatchResult{Batch: e.Batch - 1, Sent: e.Sent, Failed: e.Failed, Unknown: e.Unknown}
}

// unit is what one request carries: a batch, or one mail of a split batch.
type unit struct {
	finished *entry
	split    *entry
	// open are the requests that left and of which no outcome is known, by attempt.
	open map[string]time.Time
}

// openSince returns when the oldest request without an outcome left.
func (u unit) openSince() (since time.Time, ok bool) {
	for _, at := range u.open {
		if !ok || at.Before(since) {
			since, ok = at, true
		}
	}
	return since, ok
}

// history is what the ledger says of one outbox, by batch and mail.
type history map[[2]int]unit

func readHistory(f incident.Folder, outbox string) (history, error) {
	h := history{}
	for e, err := range incident.Lines[entry](f, LedgerName) {
		if err != nil {
			return nil, err
		}
		if e.Outbox != outbox {
			continue
		}
		key := [2]int{e.Batch, e.Mail}
		u := h[key]
		switch e.Event {
		case eventTrying:
			if u.open == nil {
				u.open = map[string]time.Time{}
			}
			u.open[e.Attempt] = e.At
		case eventNothing:
			delete(u.open, e.Attempt)
		case eventSplit:
			u.split, u.open = &e, nil
		case eventFinished:
			u.finished, u.open = &e, nil
		}
		h[key] = u
	}
	return h, nil
}

// Tally is the outcome of an outbox in numbers: fit for a workflow's history.
type Tally struct {
	Messages int `json:"messages"`
	Sent     int `json:"sent"`
	Failed   int `json:"failed"`  // refused for good
	Unknown  int `json:"unknown"` // listed for a person
	Pending  int `json:"pending"`
	Without  int `json:"without"` // no address at all
}

// Outcome is what the ledger says of a whole outbox.
type Outcome struct {
	Tally
	PendingBatches []int // counted from 0
	FailedMails    []Failure
	UnknownMails   []Failure
}

// Outcome reads from the ledger how far an outbox is.
func (o Outbox) Outcome(f incident.Folder) (Outcome, error) {
	h, err := readHistory(f, o.ID)
	if err != nil {
		return Outcome{}, err
	}
	out := Outcome{Tally: Tally{Messages: o.Messages, Without: len(o.Without)}}
	for n, b := range o.Batches {
		done := h[[2]int{n + 1, whole}].finished
		if done == nil {
			out.Pending += b.Messages
			out.PendingBatches = append(out.PendingBatches, n)
			continue
		}
		out.Sent += len(done.Sent)
		out.FailedMails = append(out.FailedMails, done.Failed...)
		out.UnknownMails = append(out.UnknownMails, done.Unknown...)
	}
	out.Failed, out.Unknown = len(out.FailedMails), len(out.UnknownMails)
	return out, nil
}
