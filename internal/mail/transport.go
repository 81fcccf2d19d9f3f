package mail

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// exchange is what the Resend client does not hand on of one request: whether it left, and what exactly came back.
type exchange struct {
	left   atomic.Bool
	status int
	header http.Header
	body   []byte
}

type exchangeKey struct{}

// recorder is the RoundTripper that fills the exchange found in a request's context.
type recorder struct{ base http.RoundTripper }

// maxAnswer bounds what is read of an answer; one for a full batch has about ten kilobytes.
const maxAnswer = 1 << 20

func (r recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	x, ok := req.Context().Value(exchangeKey{}).(*exchange)
	if !ok {
		return r.base.RoundTrip(req)
	}
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { x.left.Store(true) }}
	resp, err := r.base.RoundTrip(req.WithContext(httptrace.WithClientTrace(req.Context(), trace)))
	if err != nil {
		return nil, err
	}
	x.left.Store(true)
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return nil, err
	}
	x.status, x.header, x.body = resp.StatusCode, resp.Header, body
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

// answer is the JSON of an answer, of success and error alike.
type answer struct {
	Name    string `json:"name"`
	Message string `json:"message"`
	ID      string `json:"id"`
	Data    []struct {
		ID string `json:"id"`
	} `json:"data"`
	Errors []struct {
		Index   int    `json:"index"`
		Message string `json:"message"`
	} `json:"errors"`
}

// perform runs one call of the Resend client and returns its answer, or what its failure means.
func (s *Sender) perform(ctx context.Context, call func(context.Context) error) (answer, error) {
	x := &exchange{}
	err := call(context.WithValue(ctx, exchangeKey{}, x))
	var a answer
	decodeErr := json.Unmarshal(x.body, &a)
	switch {
	case x.status == 0:
		reason := "no answer"
		if err != nil {
			reason = blank(err.Error(), s.key)
		}
		if ctx.Err() != nil {
			// The caller's own time is up: that is not the service's fault, and its request may be on its way.
			return a, errors.Join(&UnavailableError{Left: x.left.Load(), Reason: reason}, ctx.Err())
		}
		return a, &UnavailableError{Left: x.left.Load(), Reason: reason}
	case x.status/100 == 2 && decodeErr == nil:
		return a, nil
	case x.status/100 == 2:
		return a, &UnavailableError{Status: x.status, Left: true, Reason: "its answer is not JSON"}
	}
	reason := blank(strings.TrimSpace(a.Message), s.key)
	if reason == "" {
		reason = http.StatusText(x.status)
	}
	switch {
	case x.status == http.StatusTooManyRequests:
		limited := &RateLimitedError{RetryAfter: retryAfter(x.header, s.now())}
		if strings.HasSuffix(a.Name, "quota_exceeded") {
			limited.Quota = a.Name
			limited.RetryAfter = max(limited.RetryAfter, quotaPause)
		}
		return a, limited
	case x.status >= 500, x.status == http.StatusRequestTimeout, x.status == http.StatusTooEarly,
		x.status == http.StatusConflict && a.Name == "concurrent_idempotent_requests":
		return a, &UnavailableError{Status: x.status, Left: true, Reason: reason}
	}
	return a, &RefusedError{Status: x.status, Name: a.Name, Reason: reason}
}

// quotaPause is waited before a used-up quota is asked again: it opens in hours, not in seconds.
const quotaPause = 10 * time.Minute

// retryAfter reads the header's seconds or date. Resend counts requests by the second: one second is the guess.
func retryAfter(h http.Header, now time.Time) time.Duration {
	const guess = time.Second
	value := h.Get("Retry-After")
	if seconds, err := strconv.ParseFloat(value, 64); err == nil && seconds >= 0 && seconds < 1e6 {
		return max(time.Duration(seconds*float64(time.Second)), 100*time.Millisecond)
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(at.Sub(now), guess)
	}
	return guess
}
