package alert

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/battwheels/runbook/internal/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const token = "correct-horse-battery"

// recorder is a Starter that remembers what it was asked to start.
type recorder struct {
	mu      sync.Mutex
	started []Alert
	fail    map[string]error // by target
}

func (r *recorder) StartIncident(_ context.Context, a Alert) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.fail[a.Target]; err != nil {
		return "", err
	}
	r.started = append(r.started, a)
	return "incident/" + a.Target, nil
}

func (r *recorder) Ready(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(r.fail["battwheels"])
}

// receiver is a running webhook receiver over a real socket.
type receiver struct {
	*recorder
	url string
	log *bytes.Buffer
}

func serve(t *testing.T, targets map[string]config.Target) receiver {
	t.Helper()
	r := receiver{recorder: &recorder{fail: map[string]error{}}, log: &bytes.Buffer{}}
	cfg := &config.Config{Webhook: config.Webhook{Token: config.NewSecret(token)}, Targets: targets}
	s := httptest.NewServer(NewHandler(cfg, r.recorder, slog.New(slog.NewTextHandler(r.log, nil))))
	t.Cleanup(s.Close)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	r.url = s.URL
	return r
}

func oneTarget() map[string]config.Target {
	return map[string]config.Target{"battwheels": {Alerts: []string{"MongoDBCorruption", "MongoDBUnreadable"}}}
}

func (r receiver) post(t *testing.T, auth string, body io.Reader) (int, Answer) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+"/alerts", body)
	require.NoError(t, err)
	if auth != "" {
		req.Header.Set("Authorization", auth)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, "application/json", resp.Header.Get("Content-Type"))
	var a Answer
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&a))
	return resp.StatusCode, a
}

func (r receiver) send(t *testing.T, m map[string]any) (int, Answer) {
	t.Helper()
	b, err := json.Marshal(m)
	require.NoError(t, err)
	return r.post(t, "Bearer "+token, bytes.NewReader(b))
}

func webhook(alerts ...map[string]any) map[string]any {
	return map[string]any{"version": "4", "status": firing, "externalURL": "http://alertmanager:9093", "alerts": alerts}
}

func firingAlert(labels map[string]string, more map[string]any) map[string]any {
	a := map[string]any{"status": firing, "labels": labels, "startsAt": "2026-02-24T03:12:07Z", "fingerprint": "f1"}
	for k, v := range more {
		a[k] = v
	}
	return a
}

var corruption = map[string]string{"alertname": "MongoDBCorruption"}

func TestAnAlertmanagersOwnWebhookStartsAnIncident(t *testing.T) {
	body, err := os.ReadFile("testdata/firing.json")
	require.NoError(t, err)
	r := serve(t, oneTarget())
	status, ans := r.post(t, "Bearer "+token, bytes.NewReader(body))
	require.Equal(t, http.StatusAccepted, status)
	require.Equal(t, []Incident{{Target: "battwheels", Alert: "MongoDBCorruption", WorkflowID: "incident/battwheels"}}, ans.Incidents)
	began := time.Date(2026, 2, 24, 3, 12, 7, 451_000_000, time.UTC)
	require.Equal(t, []Alert{{
		Target: "battwheels", Name: "MongoDBCorruption", Summary: "Checksum errors on localhost:27017",
		StartsAt: began, Since: began, Fingerprint: "c4a7f2b8a1d09e33",
		Source: "http://prometheus:9090/graph?g0.expr=mongodb_checksum_errors+%3E+0&g0.tab=1",
	}}, r.started)
}

func TestWhoMayStartIncidents(t *testing.T) {
	for _, tc := range []struct {
		name   string
		auth   string
		status int
	}{
		{"the right token", "Bearer " + token, http.StatusAccepted},
		{"the scheme in any case", "bearer " + token, http.StatusAccepted},
		{"no token", "", http.StatusUnauthorized},
		{"an empty token", "Bearer ", http.StatusUnauthorized},
		{"a wrong token", "Bearer " + token + "x", http.StatusUnauthorized},
		{"another scheme", "Basic " + token, http.StatusUnauthorized},
		{"no scheme", token, http.StatusUnauthorized},
	} {
		t.Run(tc.name, func(t *testing.T) {
			body, err := json.Marshal(webhook(firingAlert(corruption, nil)))
			require.NoError(t, err)
			r := serve(t, oneTarget())
			status, _ := r.post(t, tc.auth, bytes.NewReader(body))
			require.Equal(t, tc.status, status)
			require.Equal(t, status == http.StatusAccepted, len(r.started) == 1)
			require.NotContains(t, r.log.String(), token)
		})
	}
}

func TestWithoutAConfiguredTokenNobodyGetsIn(t *testing.T) {
	s := &recorder{}
	h := NewHandler(&config.Config{Targets: oneTarget()}, s, slog.New(slog.DiscardHandler))
	for _, auth := range []string{"", "Bearer ", "Bearer"} {
		w := httptest.NewRecorder()
		req := httptest.NewRequest(http.MethodPost, "/alerts", strings.NewReader(`{}`))
		req.Header.Set("Authorization", auth)
		h.ServeHTTP(w, req)
		require.Equal(t, http.StatusUnauthorized, w.Code)
	}
	require.Empty(t, s.started)
}

func TestABodyThatIsNoWebhookIsRefusedAndSaysWhy(t *testing.T) {
	for _, tc := range []struct {
		name   string
		body   string
		status int
		want   string
	}{
		{"nothing", "", 400, "not JSON"},
		{"not JSON", "alert!", 400, "not JSON"},
		{"cut off", `{"version":"4","alerts":[`, 400, "not JSON"},
		{"another version", `{"version":"3","alerts":[{}]}`, 400, `version is "3", and only "4" is understood`},
		{"no version", `{}`, 400, `version is ""`},
		{"no alerts", `{"version":"4","alerts":[]}`, 400, "alerts is empty"},
		{"alerts of a wrong type", `{"version":"4","alerts":{"status":"firing"}}`, 400, `field "alerts" must not be a object`},
		{"a label of a wrong type", `{"version":"4","alerts":[{"labels":{"a":1}}]}`, 400, `must not be a number`},
		{"an unknown status", `{"version":"4","alerts":[{"status":"burning","labels":{"alertname":"A"}}]}`, 400, `alerts[0].status is "burning"`},
		{"no alertname", `{"version":"4","alerts":[{"status":"firing","labels":{}}]}`, 400, "alerts[0].labels has no alertname"},
		{"a time that is none", `{"version":"4","alerts":[{"status":"firing","labels":{"alertname":"A"},"startsAt":"yesterday"}]}`, 400, "yesterday"},
		{"two bodies in one", `{"version":"4","alerts":[{"status":"firing","labels":{"alertname":"A"}}]}{}`, 400, "more than one JSON value"},
		{"far too large", `{"version":"4","x":"` + strings.Repeat("x", maxBody) + `"}`, 413, "set max_alerts in webhook_configs"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := serve(t, oneTarget())
			status, ans := r.post(t, "Bearer "+token, strings.NewReader(tc.body))
			require.Equal(t, tc.status, status)
			require.Contains(t, ans.Message, tc.want)
			require.Empty(t, r.started)
		})
	}
}

// Alertmanager repeats what is not answered with 2xx, so an alert that means nothing here is answered with 200 and a reason.
func TestWhichAlertsStartWhichIncidents(t *testing.T) {
	two := oneTarget()
	two["chargers"] = config.Target{Alerts: []string{"MongoDBCorruption", "ChargersCorrupt"}}
	for _, tc := range []struct {
		name    string
		targets map[string]config.Target
		labels  map[string]string
		status  string
		start   string // the target whose incident starts
		reason  string
	}{
		{"named target, listed alert", two, map[string]string{"alertname": "MongoDBCorruption", "target": "chargers"}, firing, "chargers", ""},
		{"the only target needs no label", oneTarget(), corruption, firing, "battwheels", ""},
		{"an alert that only one of two targets lists", two, map[string]string{"alertname": "ChargersCorrupt"}, firing, "chargers", ""},
		{"an alert that both list, without a label", two, corruption, firing, "", "more than one target lists it: battwheels, chargers"},
		{"an unknown target", two, map[string]string{"alertname": "MongoDBCorruption", "target": "batwheels"}, firing, "",
			`its label target is "batwheels", and the targets are: battwheels, chargers`},
		{"an alert that the target does not list", two, map[string]string{"alertname": "ChargersCorrupt", "target": "battwheels"}, firing, "",
			"alerts of target battwheels does not list ChargersCorrupt"},
		{"an alert that nobody lists", oneTarget(), map[string]string{"alertname": "DiskFull"}, firing, "", "no target lists it"},
		{"a resolved alert", oneTarget(), corruption, resolved, "", "a resolved alert starts nothing"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := serve(t, tc.targets)
			status, ans := r.send(t, webhook(firingAlert(tc.labels, map[string]any{"status": tc.status})))
			if tc.start != "" {
				require.Equal(t, http.StatusAccepted, status)
				require.Len(t, r.started, 1)
				require.Equal(t, tc.start, r.started[0].Target)
				return
			}
			require.Equal(t, http.StatusOK, status)
			require.Empty(t, r.started)
			require.Equal(t, "nothing was started", ans.Message)
			require.Len(t, ans.Ignored, 1)
			require.Contains(t, ans.Ignored[0].Reason, tc.reason)
			require.Contains(t, r.log.String(), "alert starts nothing")
		})
	}
}

func TestSinceWhenTheDamageIs(t *testing.T) {
	starts := time.Date(2026, 2, 24, 3, 12, 7, 0, time.UTC)
	earlier := time.Date(2026, 2, 24, 2, 30, 0, 0, time.UTC)
	for _, tc := range []struct {
		name string
		more map[string]any
		want time.Time
		note string
	}{
		{"from when it fires", nil, starts, ""},
		{"an annotation says since when", map[string]any{"annotations": map[string]string{"since": "2026-02-24T08:00:00+05:30"}}, earlier, ""},
		{"a label says since when", map[string]any{"labels": map[string]string{"alertname": "MongoDBCorruption", "since": "2026-02-24T02:30:00Z"}}, earlier, ""},
		{"it says no moment", map[string]any{"annotations": map[string]string{"since": "last night"}}, starts, `since "last night" is not a moment like`},
		{"it says later than the alert", map[string]any{"annotations": map[string]string{"since": "2026-02-24T04:00:00Z"}}, starts, "later than startsAt"},
		{"nobody knows", map[string]any{"startsAt": "0001-01-01T00:00:00Z"}, time.Time{}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := serve(t, oneTarget())
			status, ans := r.send(t, webhook(firingAlert(corruption, tc.more)))
			require.Equal(t, http.StatusAccepted, status, "an alert is not lost over its since")
			require.Equal(t, tc.want, r.started[0].Since)
			require.Contains(t, strings.Join(ans.Notes, "\n"), tc.note)
			require.Equal(t, tc.note == "", len(ans.Notes) == 0)
		})
	}
}

func TestManyAlertsOfOneNameAreOneReasonAndTheEarliestCounts(t *testing.T) {
	var alerts []map[string]any
	for i := range 100 {
		alerts = append(alerts, firingAlert(corruption, map[string]any{"startsAt": time.Date(2026, 2, 24, 3, 0, (i+50)%100, 0, time.UTC)}))
	}
	alerts = append(alerts,
		firingAlert(corruption, map[string]any{"startsAt": "0001-01-01T00:00:00Z"}),
		firingAlert(map[string]string{"alertname": "MongoDBUnreadable"}, map[string]any{"startsAt": "2026-02-24T02:00:00Z"}))
	r := serve(t, oneTarget())
	status, _ := r.send(t, webhook(alerts...))
	require.Equal(t, http.StatusAccepted, status)
	require.Len(t, r.started, 2)
	require.Equal(t, "MongoDBUnreadable", r.started[0].Name, "the earliest is started first: it says since when")
	require.Equal(t, time.Date(2026, 2, 24, 3, 0, 0, 0, time.UTC), r.started[1].Since)
}

func TestWhatIsNotDurableIsAskedForAgain(t *testing.T) {
	targets := oneTarget()
	targets["chargers"] = config.Target{Alerts: []string{"ChargersCorrupt"}}
	r := serve(t, targets)
	r.fail["battwheels"] = errors.New("dial tcp 10.0.0.7:7233: connection refused")
	m := webhook(firingAlert(corruption, nil), firingAlert(map[string]string{"alertname": "ChargersCorrupt"}, nil))
	status, ans := r.send(t, m)
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, []Failed{{Target: "battwheels", Alert: "MongoDBCorruption"}}, ans.Failed)
	require.Len(t, ans.Incidents, 1, "one target's trouble does not hold up another's incident")
	require.Contains(t, r.log.String(), "10.0.0.7:7233", "the log says why; the answer does not")
	require.NotContains(t, fmt.Sprint(ans), "10.0.0.7")

	delete(r.fail, "battwheels")
	status, ans = r.send(t, m)
	require.Equal(t, http.StatusAccepted, status)
	require.Len(t, ans.Incidents, 2)
}

func TestTextOfTheAlertIsMadeFitForMailsAndLinks(t *testing.T) {
	for _, tc := range []struct {
		name            string
		more            map[string]any
		summary, source string
	}{
		{"line breaks and control characters", map[string]any{"annotations": map[string]string{"summary": " a\r\nBcc: x\x00\tb "}}, "a Bcc: x b", "http://alertmanager:9093"},
		{"a description where there is no summary", map[string]any{"annotations": map[string]string{"description": "d"}}, "d", "http://alertmanager:9093"},
		{"a very long one", map[string]any{"annotations": map[string]string{"summary": strings.Repeat("ü", 400)}}, strings.Repeat("ü", 299) + "…", "http://alertmanager:9093"},
		{"a link that runs a script", map[string]any{"generatorURL": "javascript:alert(1)"}, "", "http://alertmanager:9093"},
		{"a link with a password", map[string]any{"generatorURL": "https://user:pass@prometheus/graph"}, "", "https://prometheus/graph"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := serve(t, oneTarget())
			r.send(t, webhook(firingAlert(corruption, tc.more)))
			require.Equal(t, tc.summary, r.started[0].Summary)
			require.Equal(t, tc.source, r.started[0].Source)
		})
	}
}

func TestHealthAndReadiness(t *testing.T) {
	r := serve(t, oneTarget())
	get := func(path string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+path, nil)
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return resp.StatusCode
	}
	require.Equal(t, 200, get("/healthz"))
	require.Equal(t, 200, get("/readyz"))
	require.Equal(t, 405, get("/alerts"))
	require.Equal(t, 404, get("/"))
	r.fail["battwheels"] = errors.New("no Temporal")
	require.Equal(t, 200, get("/healthz"), "the receiver lives while Temporal is down")
	require.Equal(t, 503, get("/readyz"))
}

func FuzzHandlerStartsOnlyWhatIsConfigured(f *testing.F) {
	seed, err := os.ReadFile("testdata/firing.json")
	require.NoError(f, err)
	f.Add(seed)
	f.Add([]byte(`{"version":"4","alerts":[{"status":"firing","labels":{"alertname":"MongoDBCorruption","since":"x"},"startsAt":"2026-02-24T03:12:07Z"}]}`))
	f.Add([]byte(`{"version":"4","alerts":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		s := &recorder{}
		h := NewHandler(&config.Config{Webhook: config.Webhook{Token: config.NewSecret(token)}, Targets: oneTarget()}, s, slog.New(slog.DiscardHandler))
		w := httptest.NewRecorder()
		req := httptest.NewRequest(http.MethodPost, "/alerts", bytes.NewReader(body))
		req.Header.Set("Authorization", "Bearer "+token)
		h.ServeHTTP(w, req)
		require.True(t, json.Valid(w.Body.Bytes()))
		require.Equal(t, w.Code == http.StatusAccepted, len(s.started) > 0)
		for _, a := range s.started {
			require.Contains(t, oneTarget()["battwheels"].Alerts, a.Name)
			require.NotContains(t, a.Summary, "\n")
			require.False(t, a.Since.After(a.StartsAt) && !a.StartsAt.IsZero())
		}
	})
}
