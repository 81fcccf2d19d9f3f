package mailbox

import (
	"encoding/json"
	"net/http"
	"net/mail"
	"strings"
	"time"
)

// message is a mail as clients send it.
type message struct {
	From        string            `json:"from"`
	To          addresses         `json:"to"`
	CC          addresses         `json:"cc"`
	BCC         addresses         `json:"bcc"`
	ReplyTo     addresses         `json:"reply_to"`
	Subject     string            `json:"subject"`
	HTML        string            `json:"html"`
	Text        string            `json:"text"`
	Tags        []tag             `json:"tags"`
	Headers     map[string]string `json:"headers"`
	ScheduledAt string            `json:"scheduled_at"`
	Attachments []json.RawMessage `json:"attachments"`
}

type tag struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// addresses may be one string or a list of them.
type addresses []string

func (a *addresses) UnmarshalJSON(raw []byte) error {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		*a = addresses{one}
		return nil
	}
	return json.Unmarshal(raw, (*[]string)(a))
}

// check finds what the service would refuse.
func (m message) check(batch bool) *apiError {
	switch {
	case m.From == "":
		return invalid("Missing `from` field.")
	case len(m.To) == 0:
		return invalid("Missing `to` field.")
	case len(m.To) > maxTo:
		return invalid("Invalid `to` field. At most %d recipients are allowed.", maxTo)
	case m.Subject == "":
		return invalid("Missing `subject` field.")
	case strings.ContainsAny(m.Subject, "\r\n"):
		return invalid("Invalid `subject` field. Line breaks are not allowed.")
	case m.HTML == "" && m.Text == "":
		return invalid("Missing `html` or `text` field.")
	case batch && len(m.Attachments) > 0:
		return invalid("The `attachments` field is not supported in a batch.")
	case batch && m.ScheduledAt != "":
		return invalid("The `scheduled_at` field is not supported in a batch.")
	}
	for _, list := range []struct {
		field string
		all   []string
	}{{"from", []string{m.From}}, {"to", m.To}, {"cc", m.CC}, {"bcc", m.BCC}, {"reply_to", m.ReplyTo}} {
		for _, address := range list.all {
			if e := checkAddress(list.field, address); e != nil {
				return e
			}
		}
	}
	return nil
}

func checkAddress(field, address string) *apiError {
	parsed, err := mail.ParseAddress(address)
	if err == nil {
		_, domain, _ := strings.Cut(parsed.Address, "@")
		switch {
		case domain == "example.com" || domain == "example.org" || domain == "example.net":
			return invalid("Invalid `%s` field. Please use our testing email address instead of domains like `%s`.", field, domain)
		case strings.Contains(domain, ".") && !strings.HasSuffix(domain, ".") && ascii(parsed.Address):
			return nil
		}
	}
	return invalid("Invalid `%s` field. The email address needs to follow the `email@example.com` or `Name <email@example.com>` format.", field)
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

func (m message) mail(r *http.Request, batch bool) Mail {
	out := Mail{ID: newID(), ReceivedAt: time.Now().UTC(), From: m.From, To: m.To, CC: m.CC, BCC: m.BCC, ReplyTo: m.ReplyTo,
		Subject: m.Subject, HTML: m.HTML, Text: m.Text, Headers: m.Headers, Batch: batch, IdempotencyKey: r.Header.Get("Idempotency-Key")}
	for _, t := range m.Tags {
		if out.Tags == nil {
			out.Tags = map[string]string{}
		}
		out.Tags[t.Name] = t.Value
	}
	return out
}
