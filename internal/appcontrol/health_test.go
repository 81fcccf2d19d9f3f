package appcontrol

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/battwheels/runbook/internal/config"
)

func healthOf(url string) config.Health {
	return config.Health{URL: url, Expect: map[string]string{"status": "healthy", "mongodb": "connected"},
		Timeout: config.Duration(5 * time.Second), Every: config.Duration(10 * time.Millisecond)}
}

func TestHealthIsWhatTheAnswerSaysAndNotItsStatus(t *testing.T) {
	for _, tc := range []struct {
		name    string
		status  int
		body    string
		expect  map[string]string
		healthy bool
		detail  string
	}{
		{"healthy", 200, `{"status":"healthy","version":"2.1","mongodb":"connected"}`, nil, true, "mongodb is connected, status is healthy"},
		{"200 and degraded", 200, `{"status":"degraded","mongodb":"disconnected","issues":["secret of a customer"]}`, nil, false,
			"HTTP 200: mongodb is disconnected, expected connected, status is degraded, expected healthy"},
		{"503 in the right words", 503, `{"status":"healthy","mongodb":"connected"}`, nil, true, "mongodb is connected, status is healthy"},
		{"a word missing", 200, `{"status":"healthy"}`, nil, false, "HTTP 200: mongodb is missing, expected connected"},
		{"a login page", 200, `<html>`, nil, false, "HTTP 200, and the answer is not JSON"},
		{"two answers in one", 200, `{"status":"healthy","mongodb":"connected"}{"status":"degraded"}`, nil, false, "HTTP 200, and the answer is not JSON"},
		{"a proxy's error", 502, ``, nil, false, "HTTP 502, and the answer is not JSON"},
		{"deeper words", 200, `{"checks":{"db":{"up":true,"lag":0}},"hosts":[{"ok":"yes"}],"a.b":"dotted"}`,
			map[string]string{"checks.db.up": "true", "checks.db.lag": "0", "hosts.0.ok": "yes", "a.b": "dotted"}, true,
			"a.b is dotted, checks.db.lag is 0, checks.db.up is true, hosts.0.ok is yes"},
		{"a path through nothing", 200, `{"checks":null,"hosts":[]}`, map[string]string{"checks.db": "up", "hosts.0": "x"}, false,
			"HTTP 200: checks.db is missing, expected up, hosts.0 is missing, expected x"},
		{"the string true is true", 200, `{"ok":"true"}`, map[string]string{"ok": "true"}, true, "ok is true"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tc.status)
				_, _ = w.Write([]byte(tc.body))
			}))
			defer s.Close()
			c := healthOf(s.URL)
			if tc.expect != nil {
				c.Expect = tc.expect
			}
			h, err := Healthy(t.Context(), c)
			require.NoError(t, err)
			require.Equal(t, Health{Healthy: tc.healthy, Detail: tc.detail}, h)
		})
	}
}

func TestAnApplicationThatDoesNotAnswerIsNotHealthy(t *testing.T) {
	s := httptest.NewServer(nil)
	s.Close()
	h, err := Healthy(t.Context(), healthOf(s.URL))
	require.NoError(t, err)
	require.False(t, h.Healthy)
	require.Contains(t, h.Detail, "connection refused")
}

func TestAwaitHealthyWaitsUntilTheWordsAreRight(t *testing.T) {
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) < 4 {
			_, _ = w.Write([]byte(`{"status":"starting"}`))
			return
		}
		_, _ = w.Write([]byte(`{"status":"healthy","mongodb":"connected"}`))
	}))
	defer s.Close()
	h, err := AwaitHealthy(t.Context(), healthOf(s.URL))
	require.NoError(t, err)
	require.True(t, h.Healthy)
	require.EqualValues(t, 4, asked.Load())
}

func TestAwaitHealthySaysAtTheEndWhatWasSaidLast(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"status":"degraded","mongodb":"connected"}`))
	}))
	defer s.Close()
	c := healthOf(s.URL)
	c.Timeout = config.Duration(200 * time.Millisecond)
	h, err := AwaitHealthy(t.Context(), c)
	var ce *ControlError
	require.ErrorAs(t, err, &ce)
	require.ErrorContains(t, err, "not healthy after 200ms: HTTP 200: status is degraded, expected healthy")
	require.False(t, h.Healthy)
}

func TestAwaitHealthyEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { cancel() }))
	defer s.Close()
	_, err := AwaitHealthy(ctx, healthOf(s.URL))
	require.ErrorIs(t, err, context.Canceled)
}

func TestAHealthCheckThatCannotWorkIsRefused(t *testing.T) {
	for name, c := range map[string]config.Health{
		"nothing expected": {URL: "http://127.0.0.1:1/"},
		"no host":          {URL: "/api/health", Expect: map[string]string{"a": "b"}},
		"not a URL":        {URL: "http://[::1", Expect: map[string]string{"a": "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			var ce *ControlError
			_, err := AwaitHealthy(t.Context(), c)
			require.ErrorAs(t, err, &ce)
		})
	}
}
