package alert

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"
	"unicode"
)

// message is the body of a webhook in Alertmanager's format, version 4: the fields that are used. Others are allowed, because
// newer versions of Alertmanager add some.
type message struct {
	Version     string   `json:"version"`
	ExternalURL string   `json:"externalURL"`
	Alerts      []fields `json:"alerts"`
}

// fields is one alert of a message.
type fields struct {
	Status       string            `json:"status"`
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	StartsAt     time.Time         `json:"startsAt"`
	GeneratorURL string            `json:"generatorURL"`
	Fingerprint  string            `json:"fingerprint"`
}

const (
	firing   = "firing"
	resolved = "resolved"
)

// decode reads one message, and says what is wrong with a body that is none.
func decode(body io.Reader) (message, error) {
	var m message
	d := json.NewDecoder(body)
	if err := d.Decode(&m); err != nil {
		if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return m, fmt.Errorf("field %q must not be a %s", wrong.Field, wrong.Value)
		}
		return m, fmt.Errorf("the body is not JSON in Alertmanager's webhook format: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		if err != nil {
			return m, fmt.Errorf("the body does not end after its JSON object: %w", err)
		}
		return m, errors.New("the body holds more than one JSON value")
	}
	if m.Version != "4" {
		return m, fmt.Errorf("version is %q, and only \"4\" is understood: that of Alertmanager's webhook_configs", m.Version)
	}
	if len(m.Alerts) == 0 {
		return m, errors.New("alerts is empty")
	}
	for i, f := range m.Alerts {
		if f.Status != firing && f.Status != resolved {
			return m, fmt.Errorf("alerts[%d].status is %q, expected firing or resolved", i, f.Status)
		}
		if f.Labels["alertname"] == "" {
			return m, fmt.Errorf("alerts[%d].labels has no alertname", i)
		}
	}
	return m, nil
}

// alert is what a message's alert means for a target. A note says what had to be guessed.
func (f fields) alert(target, externalURL string) (a Alert, note string) {
	a = Alert{
		Target: target, Name: f.Labels["alertname"], StartsAt: f.StartsAt.UTC(), Since: f.StartsAt.UTC(), Fingerprint: f.Fingerprint,
		Summary: oneLine(first(f.Annotations["summary"], f.Annotations["description"])),
		Source:  first(link(f.GeneratorURL), link(externalURL)),
	}
	said := first(f.Annotations["since"], f.Labels["since"])
	if said == "" {
		return a, ""
	}
	since, err := time.Parse(time.RFC3339, strings.TrimSpace(said))
	switch {
	case err != nil:
		// Refusing the alert would lose it, and Alertmanager does not repeat what is refused.
		return a, fmt.Sprintf("since %q is not a moment like 2026-02-24T03:12:00Z; startsAt is taken", short(said, 40))
	case !a.StartsAt.IsZero() && since.After(a.StartsAt):
		return a, fmt.Sprintf("since %s is later than startsAt; startsAt is taken", said)
	}
	a.Since = since.UTC()
	return a, ""
}

func first(of ...string) string {
	for _, s := range of {
		if s != "" {
			return s
		}
	}
	return ""
}

// link keeps only what is safe to show as a link in mails, reports and the UI.
func link(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || len(s) > 2000 {
		return ""
	}
	u.User = nil
	return u.String()
}

// oneLine makes a sender's text fit for a line in mails, reports and the UI.
func oneLine(s string) string {
	words := strings.FieldsFunc(strings.ToValidUTF8(s, ""), func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) })
	return short(strings.Join(words, " "), 300)
}

func short(s string, most int) string {
	r := []rune(s)
	if len(r) <= most {
		return s
	}
	return string(r[:most-1]) + "…"
}
