package alert

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/battwheels/runbook/internal/config"
)

const (
	// maxBody bounds a webhook's body: about a thousand alerts.
	maxBody = 1 << 20
	// startWithin bounds the start of all incidents of one webhook, below the sender's patience.
	startWithin = 10 * time.Second
)

// Answer is the JSON that a webhook is answered with.
type Answer struct {
	Incidents []Incident `json:"incidents"`         // started or joined
	Ignored   []Ignored  `json:"ignored"`           // alerts that start nothing, and why
	Failed    []Failed   `json:"failed,omitempty"`  // not started; the sender tries again
	Notes     []string   `json:"notes,omitempty"`   // what had to be guessed
	Message   string     `json:"message,omitempty"` // of a request that was refused as a whole
}

// Incident is one that an alert started or joined.
type Incident struct {
	Target     string `json:"target"`
	Alert      string `json:"alert"`
	WorkflowID string `json:"workflowId"`
}

// Ignored is an alert that starts nothing.
type Ignored struct {
	Alert  string `json:"alert"`
	Reason string `json:"reason"`
}

// Failed is an alert whose incident could not be started now.
type Failed struct {
	Target string `json:"target"`
	Alert  string `json:"alert"`
}

type handler struct {
	targets map[string]config.Target
	token   [sha256.Size]byte
	armed   bool // a token is configured
	starter Starter
	log     *slog.Logger
}

// NewHandler answers POST /alerts, for whoever has the configured token, and GET /healthz and /readyz for everybody. Without a
// configured token nobody gets in.
func NewHandler(cfg *config.Config, starter Starter, log *slog.Logger) http.Handler {
	token := cfg.Webhook.Token.Value()
	h := &handler{targets: cfg.Targets, token: sha256.Sum256([]byte(token)), armed: token != "", starter: starter, log: log}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /alerts", h.alerts)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { h.say(w, http.StatusOK, "alive") })
	mux.HandleFunc("GET /readyz", h.ready)
	return mux
}

func (h *handler) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), startWithin)
	defer cancel()
	if err := h.starter.Ready(ctx); err != nil {
		h.log.WarnContext(ctx, "no incident could be started now", "error", err)
		h.say(w, http.StatusServiceUnavailable, "no incident could be started now; the receiver's log says why")
		return
	}
	h.say(w, http.StatusOK, "ready")
}

func (h *handler) alerts(w http.ResponseWriter, r *http.Request) {
	if !h.allowed(r) {
		h.log.WarnContext(r.Context(), "webhook refused: wrong or missing bearer token", "from", r.RemoteAddr)
		w.Header().Set("WWW-Authenticate", `Bearer realm="runbook"`)
		h.say(w, http.StatusUnauthorized, "send the token of webhook.token as: Authorization: Bearer TOKEN")
		return
	}
	m, err := decode(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		status := http.StatusBadRequest
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			status, err = http.StatusRequestEntityTooLarge, fmt.Errorf("the body is larger than %d bytes; set max_alerts in webhook_configs", maxBody)
		}
		h.log.WarnContext(r.Context(), "webhook refused", "from", r.RemoteAddr, "error", err)
		h.say(w, status, err.Error())
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), startWithin)
	defer cancel()
	h.answer(w, h.handle(ctx, m))
}

// allowed compares hashes, so that the time it takes tells nothing of the token, not even its length.
func (h *handler) allowed(r *http.Request) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	sum := sha256.Sum256([]byte(strings.TrimSpace(token)))
	same := subtle.ConstantTimeCompare(sum[:], h.token[:]) == 1
	return h.armed && same && strings.EqualFold(scheme, "Bearer")
}

// handle starts what the message's alerts mean.
func (h *handler) handle(ctx context.Context, m message) Answer {
	ans := Answer{Incidents: []Incident{}, Ignored: []Ignored{}}
	for _, a := range h.sort(ctx, m, &ans) {
		id, err := h.starter.StartIncident(ctx, a)
		if err != nil {
			h.log.ErrorContext(ctx, "incident not started; the sender is asked to try again", a.logValue(), "error", err)
			ans.Failed = append(ans.Failed, Failed{Target: a.Target, Alert: a.Name})
			continue
		}
		h.log.InfoContext(ctx, "incident started or joined", a.logValue(), "workflowId", id)
		ans.Incidents = append(ans.Incidents, Incident{Target: a.Target, Alert: a.Name, WorkflowID: id})
	}
	return ans
}

// sort keeps the alerts that start something, the earliest first, one for each target and name: an alert that fires for
// each of a hundred hosts is one reason for an incident, and not a hundred.
func (h *handler) sort(ctx context.Context, m message, ans *Answer) []Alert {
	type key struct{ target, name string }
	kept := map[key]Alert{}
	ignore := func(f fields, reason string) {
		h.log.InfoContext(ctx, "alert starts nothing", "alert", f.Labels["alertname"], "target", f.Labels["target"], "reason", reason)
		ans.Ignored = append(ans.Ignored, Ignored{Alert: f.Labels["alertname"], Reason: reason})
	}
	for _, f := range m.Alerts {
		if f.Status == resolved {
			ignore(f, "it is resolved, and a resolved alert starts nothing")
			continue
		}
		target, reason := h.target(f)
		if reason != "" {
			ignore(f, reason)
			continue
		}
		a, note := f.alert(target, m.ExternalURL)
		if note != "" {
			h.log.WarnContext(ctx, "alert was read with a guess", a.logValue(), "note", note)
			ans.Notes = append(ans.Notes, a.Name+": "+note)
		}
		k := key{a.Target, a.Name}
		if other, twice := kept[k]; !twice || a.before(other) {
			kept[k] = a
		}
	}
	return slices.SortedFunc(maps.Values(kept), func(a, b Alert) int {
		switch {
		case a.before(b):
			return -1
		case b.before(a):
			return 1
		}
		return cmp.Or(cmp.Compare(a.Target, b.Target), cmp.Compare(a.Name, b.Name))
	})
}

// target finds the target that an alert means, or says why there is none.
func (h *handler) target(f fields) (name, reason string) {
	alert := f.Labels["alertname"]
	if name = f.Labels["target"]; name != "" {
		t, ok := h.targets[name]
		switch {
		case !ok:
			return "", fmt.Sprintf("its label target is %q, and the targets are: %s", name, h.names())
		case !t.Lists(alert):
			return "", fmt.Sprintf("alerts of target %s does not list %s in the configuration", name, alert)
		}
		return name, ""
	}
	var meant []string
	for name, t := range h.targets {
		if t.Lists(alert) {
			meant = append(meant, name)
		}
	}
	slices.Sort(meant)
	switch len(meant) {
	case 0:
		return "", "no target lists it under alerts in the configuration"
	case 1:
		return meant[0], ""
	default:
		return "", "it has no label target, and more than one target lists it: " + strings.Join(meant, ", ")
	}
}

func (h *handler) names() string {
	return strings.Join(slices.Sorted(maps.Keys(h.targets)), ", ")
}

func (h *handler) answer(w http.ResponseWriter, a Answer) {
	status := http.StatusOK
	switch {
	case len(a.Failed) > 0:
		// Those that were started are only joined when the sender repeats all of them.
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "5")
		a.Message = "not every incident could be started; send it again"
	case len(a.Incidents) > 0:
		status = http.StatusAccepted
	default:
		a.Message = "nothing was started"
	}
	h.write(w, status, a)
}

func (h *handler) say(w http.ResponseWriter, status int, message string) {
	h.write(w, status, map[string]string{"message": message})
}

func (h *handler) write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		h.log.Warn("answer not written", "error", err)
	}
}
