package mail

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	netmail "net/mail"
	"slices"

	"github.com/battwheels/runbook/internal/incident"
)

// BatchSize is the most mails that Resend takes in one request.
const BatchSize = 100

// Message is one rendered mail.
type Message struct {
	Contact Contact           `json:"contact"`
	ReplyTo string            `json:"replyTo,omitempty"`
	Subject string            `json:"subject"`
	HTML    string            `json:"html"`
	Text    string            `json:"text"`
	Headers map[string]string `json:"headers,omitempty"`
}

// Draft is what Freeze turns into an Outbox.
type Draft struct {
	// Name tells the outboxes of one incident apart: "" is the first notice, others are "all-clear", "correction-1".
	Name string
	// ID is unique in the world and the same in every attempt: TARGET/INCIDENT, and Name where there is one.
	ID       string
	From     string
	Messages []Message
	Without  []Contact // those who should have been told and have no address
}

// Outbox is the index of mails that are frozen: who is told, and in which words, does not change any more. The mails
// themselves lie in one file for each batch, so that sending one does not read them all.
type Outbox struct {
	Name     string    `json:"name,omitempty"`
	ID       string    `json:"id"`
	From     string    `json:"from"`
	Messages int       `json:"messages"`
	Batches  []Batch   `json:"batches"`
	Without  []Contact `json:"without,omitempty"`
}

// Batch is one request's worth of frozen mails.
type Batch struct {
	File     string `json:"file"` // in the incident's folder
	SHA256   string `json:"sha256"`
	Messages int    `json:"messages"`
	Key      string `json:"key"` // idempotency key
}

// dir is the directory of an outbox's batches, index the file that makes it frozen.
func dir(name string) string {
	if name == "" {
		return "outbox"
	}
	return "outbox-" + name
}

func index(name string) string { return dir(name) + ".json" }

// Freeze writes recipients and bodies down, and returns the index. Where an outbox of that name is frozen already, it
// is returned as it is, whatever the draft says: recipients may have changed since, mails may have gone out.
// Another attempt that freezes or sends at the same time makes it fail with *incident.BusyError.
func Freeze(f incident.Folder, d Draft) (_ Outbox, err error) {
	release, err := f.Lock(dir(d.Name))
	if err != nil {
		return Outbox{}, err
	}
	defer func() { err = errors.Join(err, release()) }()

	switch frozen, err := Load(f, d.Name); {
	case err == nil:
		return frozen, nil
	case !errors.Is(err, fs.ErrNotExist):
		return Outbox{}, err
	}
	if d.ID == "" {
		return Outbox{}, errors.New("freeze the mails: the draft has no ID, so its mails could be sent twice")
	}
	if err := checkFrom(d.From); err != nil {
		return Outbox{}, err
	}
	o := Outbox{Name: d.Name, ID: d.ID, From: d.From, Messages: len(d.Messages), Without: d.Without}
	for messages := range slices.Chunk(d.Messages, BatchSize) {
		n := len(o.Batches)
		data, err := json.MarshalIndent(messages, "", " ")
		if err != nil {
			return Outbox{}, fmt.Errorf("freeze the mails: %w", err)
		}
		sum := sha256.Sum256(data)
		b := Batch{
			File:     fmt.Sprintf("%s/%03d.json", dir(d.Name), n+1),
			SHA256:   hex.EncodeToString(sum[:]),
			Messages: len(messages),
			Key:      idempotencyKey(fmt.Sprintf("%s/batch/%d", d.ID, n+1)),
		}
		if err := f.WriteFile(b.File, data); err != nil {
			return Outbox{}, err
		}
		o.Batches = append(o.Batches, b)
	}
	// The index comes last: until it is there, nothing is frozen and nothing can have been sent.
	if err := f.PutJSON(index(d.Name), o); err != nil {
		return Outbox{}, err
	}
	return o, nil
}

// Load returns the frozen outbox of that name. The error is fs.ErrNotExist where none is frozen yet.
func Load(f incident.Folder, name string) (Outbox, error) {
	var o Outbox
	if err := f.GetJSON(index(name), &o); err != nil {
		return Outbox{}, err
	}
	return o, nil
}

// Read returns the mails of batch n, counted from 0, exactly as they were frozen.
func (o Outbox) Read(f incident.Folder, n int) ([]Message, error) {
	if n < 0 || n >= len(o.Batches) {
		return nil, fmt.Errorf("outbox %s has %d batches: there is no number %d", o.ID, len(o.Batches), n)
	}
	b := o.Batches[n]
	data, err := f.ReadFile(b.File)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &FrozenError{f.Path(b.File), "the file is gone"}
	}
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != b.SHA256 {
		return nil, &FrozenError{f.Path(b.File), "its SHA-256 is another one"}
	}
	var messages []Message
	if err := json.Unmarshal(data, &messages); err != nil {
		return nil, &FrozenError{f.Path(b.File), err.Error()}
	}
	return messages, nil
}

func checkFrom(from string) error {
	if _, err := netmail.ParseAddress(from); err != nil {
		return fmt.Errorf(`mail.from is %q: want an address, like "Battwheels OS <noreply@example.com>"`, from)
	}
	return nil
}

// idempotencyKey keeps within the 256 characters that Resend takes.
func idempotencyKey(s string) string {
	key := "runbook/" + s
	if len(key) <= 200 {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	return "runbook/" + hex.EncodeToString(sum[:])
}
