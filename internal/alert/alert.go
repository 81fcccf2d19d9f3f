// Package alert receives the webhooks of a Prometheus Alertmanager (format version 4) and starts the incident that an alert
// means. It answers 2xx only when the incident is durable or when there is nothing to start, so that Alertmanager's own retries
// carry an alert over a Temporal that is down.
//
// It knows neither Temporal nor playbooks: whoever serves it passes a Starter. It decides nothing about an incident but which
// target it concerns and since when; a person's approval comes later.
package alert

import (
	"context"
	"log/slog"
	"time"
)

// Alert is one alert that concerns a target.
type Alert struct {
	Target      string
	Name        string    // the label alertname
	Summary     string    // the annotation summary, else description; one line
	StartsAt    time.Time // when it began to fire; zero where the sender does not say
	Since       time.Time // when the damage began: the label or annotation "since", else StartsAt
	Source      string    // the sender's http(s) link to the alert, or empty
	Fingerprint string    // the same for every notification of the same alert
}

// Starter starts incidents.
type Starter interface {
	// StartIncident starts the incident of the alert's target, or joins the one that runs, and returns its workflow's id. It
	// returns nil only when that is durable. It is called again for the same alert whenever the sender repeats it, and
	// concurrently.
	StartIncident(ctx context.Context, a Alert) (workflowID string, err error)
	// Ready says why no incident could be started now, or nil.
	Ready(ctx context.Context) error
}

// logValue is what the log says of an alert.
func (a Alert) logValue() slog.Attr {
	return slog.Group("alert", "target", a.Target, "name", a.Name, "startsAt", a.StartsAt, "since", a.Since, "fingerprint", a.Fingerprint)
}

// before orders alerts by when the damage began; one that does not say comes last.
func (a Alert) before(b Alert) bool {
	return !a.Since.IsZero() && (b.Since.IsZero() || a.Since.Before(b.Since))
}
