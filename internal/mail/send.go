package mail

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/resend/resend-go/v2"

	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/internal/incident"
)

// keysRememberedFor is how long a request is repeated under its key. Resend remembers keys for 24 hours: the hour
// between is for clocks that differ and for a request that takes its time.
const keysRememberedFor = 23 * time.Hour

// requestTimeout bounds one request; the context may end it earlier.
const requestTimeout = time.Minute

// Sender sends mails through Resend.
type Sender struct {
	client *resend.Client
	from   string
	key    string
	now    func() time.Time
}

// New returns a sender. A nil transport means http.DefaultTransport.
func New(cfg config.Mail, transport http.RoundTripper) (*Sender, error) {
	if err := checkFrom(cfg.From); err != nil {
		return nil, err
	}
	key := strings.TrimSpace(cfg.APIKey.Value())
	if key == "" {
		return nil, errors.New("mail.apiKey is empty: give it by reference, like ${RESEND_API_KEY}")
	}
	if transport == nil {
		transport = http.DefaultTransport
	}
	client := resend.NewCustomClient(&http.Client{
		Transport: recorder{transport},
		Timeout:   requestTimeout,
		// A redirect would carry the key to a host that nobody configured.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, key)
	if cfg.BaseURL != "" {
		base, err := url.Parse(strings.TrimRight(cfg.BaseURL, "/") + "/")
		if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
			return nil, fmt.Errorf("mail.baseURL is %q: want a URL like https://api.resend.com", cfg.BaseURL)
		}
		client.BaseURL = base
	}
	return &Sender{client: client, from: cfg.From, key: key, now: time.Now}, nil
}

// BatchResult is the outcome of a batch. It holds addresses: give its numbers to a workflow's history, not itself.
type BatchResult struct {
	Batch   int // counted from 0
	Sent    []Receipt
	Failed  []Failure // refused for good
	Unknown []Failure // accepted or not: a person has to look
	// Already says that the ledger had the outcome, and nothing was sent now.
	Already bool
}

// SendBatch sends batch n of a frozen outbox, counted from 0, unless the ledger says that its outcome is known: then
// that is returned. Mails that the service refuses are listed, and hold nobody else up. The error is a
// *RateLimitedError, *UnavailableError or *incident.BusyError (try again), a *RefusedError (a person must mend
// something first; trying again then is safe), or a *FrozenError (nothing may be sent).
func (s *Sender) SendBatch(ctx context.Context, f incident.Folder, o Outbox, n int) (_ BatchResult, err error) {
	messages, err := o.Read(f, n)
	if err != nil {
		return BatchResult{}, err
	}
	release, err := f.Lock(dir(o.Name))
	if err != nil {
		return BatchResult{}, err
	}
	defer func() { err = errors.Join(err, release()) }()

	h, err := readHistory(f, o.ID)
	if err != nil {
		return BatchResult{}, err
	}
	if done := h[[2]int{n + 1, whole}].finished; done != nil {
		result := done.result()
		result.Already = true
		return result, nil
	}
	b := &batch{Sender: s, folder: f, outbox: o, n: n, messages: messages, history: h}
	return b.run(ctx)
}

// SendOne sends one mail to a person inside. The key makes repeated calls one mail for 24 hours; there is no ledger
// behind it, so it is for mails whose asking does not outlive a day. Errors are those of SendBatch.
func (s *Sender) SendOne(ctx context.Context, key string, m Message) (Receipt, error) {
	if key == "" {
		return Receipt{}, errors.New("send a mail: it has no key, so it could be sent twice")
	}
	a, err := s.perform(ctx, func(ctx context.Context) error {
		_, err := s.client.Emails.SendWithOptions(ctx, request(s.from, m),
			&resend.SendEmailOptions{IdempotencyKey: idempotencyKey(key)})
		return err
	})
	if refused, ok := errors.AsType[*RefusedError](err); ok && refused.Name == "invalid_idempotent_request" {
		// An earlier attempt sent it, in slightly other words: this key's mail is out.
		return Receipt{OrganizationID: m.Contact.OrganizationID}, nil
	}
	if err != nil {
		return Receipt{}, fmt.Errorf("send %q: %w", m.Subject, err)
	}
	return Receipt{OrganizationID: m.Contact.OrganizationID, MailID: a.ID}, nil
}

// SendEach sends one mail to each of several people inside, under a key of its own each. A refused address holds nobody
// else up: it is listed. The error is the last one that is worth trying again, or the refusal where all were refused.
func (s *Sender) SendEach(ctx context.Context, key string, to []Contact, render func(Contact) (Message, error)) (sent []Receipt, failed []Failure, err error) {
	var refusal error
	for _, c := range to {
		m, renderErr := render(c)
		if renderErr != nil {
			return sent, failed, renderErr
		}
		receipt, sendErr := s.SendOne(ctx, key+"/"+strings.ToLower(c.Email), m)
		if refused, ok := errors.AsType[*RefusedError](sendErr); ok {
			failed, refusal = append(failed, failure(m, refused.Reason)), sendErr
			continue
		}
		if sendErr != nil {
			err = sendErr
			continue
		}
		sent = append(sent, receipt)
	}
	if err == nil && len(sent) == 0 {
		err = refusal
	}
	return sent, failed, err
}

func request(from string, m Message) *resend.SendEmailRequest {
	return &resend.SendEmailRequest{
		From: from, To: []string{m.Contact.Email}, ReplyTo: m.ReplyTo,
		Subject: m.Subject, Html: m.HTML, Text: m.Text, Headers: m.Headers,
	}
}

// attemptID tells the requests of one unit apart in the ledger. It is no part of any key.
func attemptID() string { return rand.Text()[:8] }
