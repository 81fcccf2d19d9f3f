package mail

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/battwheels/runbook/internal/incident"
)

// Each row lets the first requests go wrong in one way; in the end everybody has exactly one mail.
func TestTroubleOnTheWay(t *testing.T) {
	aborted := func(n int, w http.ResponseWriter, r *http.Request) bool { panic(http.ErrAbortHandler) }
	for name, tc := range map[string]struct {
		before func(n int, w http.ResponseWriter, r *http.Request) bool
		after  func(n int) bool
		check  func(t *testing.T, err error)
	}{
		"rate limit with retry-after": {
			before: func(_ int, w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Retry-After", "3")
				fail(w, 429, "rate_limit_exceeded", "Too many requests.")
				return true
			},
			check: func(t *testing.T, err error) {
				var limited *RateLimitedError
				require.ErrorAs(t, err, &limited)
				require.Equal(t, 3*time.Second, limited.RetryAfter)
			},
		},
		"daily quota": {
			before: func(_ int, w http.ResponseWriter, _ *http.Request) bool {
				fail(w, 429, "daily_quota_exceeded", "You have reached your daily email sending quota.")
				return true
			},
			check: func(t *testing.T, err error) {
				var limited *RateLimitedError
				require.ErrorAs(t, err, &limited)
				require.Equal(t, "daily_quota_exceeded", limited.Quota)
				require.GreaterOrEqual(t, limited.RetryAfter, time.Minute)
			},
		},
		"server error": {
			before: func(_ int, w http.ResponseWriter, _ *http.Request) bool {
				fail(w, 500, "application_error", "An unexpected error occurred.")
				return true
			},
			check: func(t *testing.T, err error) {
				var down *UnavailableError
				require.ErrorAs(t, err, &down)
				require.Equal(t, 500, down.Status)
				require.True(t, down.Left)
			},
		},
		"error page of a proxy": {
			before: func(_ int, w http.ResponseWriter, _ *http.Request) bool {
				w.WriteHeader(502)
				_, _ = w.Write([]byte("<html>Bad gateway</html>"))
				return true
			},
			check: func(t *testing.T, err error) { require.ErrorContains(t, err, "HTTP 502 (Bad Gateway)") },
		},
		"success that is no JSON": {
			before: func(_ int, w http.ResponseWriter, _ *http.Request) bool {
				_, _ = w.Write([]byte("<html>Please log in to the Wi-Fi</html>"))
				return true
			},
			check: func(t *testing.T, err error) { require.ErrorContains(t, err, "not JSON") },
		},
		"connection dropped before it was read": {
			before: aborted,
			check: func(t *testing.T, err error) {
				var down *UnavailableError
				require.ErrorAs(t, err, &down)
				require.True(t, down.Left, "nobody can know")
			},
		},
		"answer lost after accepting": {
			after: func(int) bool { return true },
			check: func(t *testing.T, err error) {
				var down *UnavailableError
				require.ErrorAs(t, err, &down)
				require.True(t, down.Left)
				require.ErrorContains(t, err, "may have been accepted")
			},
		},
		"same key still under way": {
			before: func(_ int, w http.ResponseWriter, _ *http.Request) bool {
				fail(w, 409, "concurrent_idempotent_requests", "Another request with the same key is in progress.")
				return true
			},
			check: func(t *testing.T, err error) { require.ErrorContains(t, err, "in progress") },
		},
		"key refused, then mended": {
			before: func(_ int, w http.ResponseWriter, r *http.Request) bool {
				fail(w, 403, "invalid_api_key", "API key is invalid: "+r.Header.Get("Authorization"))
				return true
			},
			check: func(t *testing.T, err error) {
				var refused *RefusedError
				require.ErrorAs(t, err, &refused)
				require.ErrorContains(t, err, "check mail.apiKey")
				require.NotContains(t, err.Error(), testKey)
			},
		},
		"domain not verified": {
			before: func(_ int, w http.ResponseWriter, _ *http.Request) bool {
				fail(w, 403, "validation_error", "The battwheels.example domain is not verified.")
				return true
			},
			check: func(t *testing.T, err error) { require.ErrorContains(t, err, "verify the domain") },
		},
		"redirected elsewhere": {
			before: func(_ int, w http.ResponseWriter, r *http.Request) bool {
				http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusTemporaryRedirect)
				return true
			},
			check: func(t *testing.T, err error) { require.ErrorContains(t, err, "check mail.baseURL") },
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, f := newService(t), folder(t)
			o := freeze(t, f, draft(30, 7))
			if tc.before != nil {
				s.before = func(n int, w http.ResponseWriter, r *http.Request) bool { return n <= 2 && tc.before(n, w, r) }
			}
			if tc.after != nil {
				s.after = func(n int) bool { return n <= 2 && tc.after(n) }
			}
			_, err := s.sender(t).SendBatch(t.Context(), f, o, 0)
			require.Error(t, err)
			tc.check(t, err)
			out, err := o.Outcome(f)
			require.NoError(t, err)
			require.Equal(t, 30, out.Pending)

			deadline := 5
			for deadline > 0 {
				if _, err = s.sender(t).SendBatch(t.Context(), f, o, 0); err == nil {
					break
				}
				deadline--
			}
			require.NoError(t, err)
			_, accepted := s.seen()
			require.Len(t, accepted, 29)
			for address, n := range accepted {
				require.Equal(t, 1, n, address)
			}
			out, err = o.Outcome(f)
			require.NoError(t, err)
			require.Equal(t, Tally{Messages: 30, Sent: 29, Failed: 1}, out.Tally)
			noSecrets(t, f)
		})
	}
}

func noSecrets(t *testing.T, f incident.Folder) {
	t.Helper()
	err := filesOf(f, func(name string, data []byte) {
		require.NotContains(t, string(data), testKey, name)
	})
	require.NoError(t, err)
}
