package appcontrol

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/battwheels/runbook/internal/config"
)

const (
	defaultHealthTimeout = 2 * time.Minute
	defaultHealthEvery   = 2 * time.Second
	// oneAnswer is how long one answer may take, whatever the whole wait is.
	oneAnswer = 10 * time.Second
)

// Health is what the application says of itself.
type Health struct {
	Healthy bool
	Detail  string // the expected words as they were found, or what was found instead; never more of the answer than these
}

// Healthy asks once. An application that does not answer, or answers something else than JSON, is not healthy, which is no
// error; an error means that the configuration is wrong or that ctx has ended.
func Healthy(ctx context.Context, h config.Health) (Health, error) {
	if len(h.Expect) == 0 {
		return Health{}, &ControlError{Action: "check health", Reason: "application.health.expect is empty",
			Do: "write the words of the JSON answer that mean healthy, like status: healthy"}
	}
	bounded, cancel := context.WithTimeout(ctx, oneAnswer)
	defer cancel()
	req, err := http.NewRequestWithContext(bounded, http.MethodGet, h.URL, nil)
	if err != nil || req.URL.Host == "" {
		return Health{}, &ControlError{Action: "check health", Reason: fmt.Sprintf("application.health.url %q is not an HTTP address", h.URL),
			Do: "write it like http://localhost:8001/api/health"}
	}
	req.Header.Set("Accept", "application/json")
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err == nil {
		defer resp.Body.Close()
		var body []byte
		if body, err = io.ReadAll(io.LimitReader(resp.Body, 1<<20)); err == nil {
			return judgeHealth(resp.StatusCode, body, h.Expect), nil
		}
	}
	if ctx.Err() != nil {
		return Health{}, ctx.Err()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("nothing within %s", oneAnswer)
	} else if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	return Health{Detail: "no answer: " + short(err.Error(), 200)}, nil
}

// AwaitHealthy asks until the application is healthy, for as long as the configuration says; past that, the *ControlError says
// what the application said last.
func AwaitHealthy(ctx context.Context, h config.Health) (Health, error) {
	timeout := cmp.Or(time.Duration(h.Timeout), defaultHealthTimeout)
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var last Health
	err := poll(bounded, cmp.Or(time.Duration(h.Every), defaultHealthEvery), func(ctx context.Context) (bool, error) {
		now, err := Healthy(ctx, h)
		if err == nil {
			last = now
		}
		return now.Healthy, err
	})
	if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
		return last, err
	}
	return last, &ControlError{Action: "await health", Reason: fmt.Sprintf("not healthy after %s: %s", timeout, cmp.Or(last.Detail, "no answer")),
		Do: "read the application's log; raise application.health.timeout if it only needs longer"}
}

func judgeHealth(status int, body []byte, expect map[string]string) Health {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var answer any
	if err := d.Decode(&answer); err != nil || d.More() {
		return Health{Detail: fmt.Sprintf("HTTP %d, and the answer is not JSON", status)}
	}
	var as, not []string
	for _, path := range slices.Sorted(maps.Keys(expect)) {
		want := expect[path]
		switch got, found := lookUp(answer, path); {
		case !found:
			not = append(not, fmt.Sprintf("%s is missing, expected %s", path, want))
		case got != want:
			not = append(not, fmt.Sprintf("%s is %s, expected %s", path, short(got, 60), want))
		default:
			as = append(as, path+" is "+got)
		}
	}
	if len(not) > 0 {
		return Health{Detail: fmt.Sprintf("HTTP %d: %s", status, strings.Join(not, ", "))}
	}
	return Health{Healthy: true, Detail: strings.Join(as, ", ")}
}

// lookUp follows a dotted path through objects and arrays. A key that has dots itself is found by the whole rest of the path.
func lookUp(v any, path string) (string, bool) {
	if path == "" {
		return word(v), true
	}
	first, rest, _ := strings.Cut(path, ".")
	switch v := v.(type) {
	case map[string]any:
		if whole, ok := v[path]; ok {
			return word(whole), true
		}
		if next, ok := v[first]; ok {
			return lookUp(next, rest)
		}
	case []any:
		if n, err := strconv.Atoi(first); err == nil && n >= 0 && n < len(v) {
			return lookUp(v[n], rest)
		}
	}
	return "", false
}

// word is a value as the configuration writes it: a string without its quotes, all else as JSON.
func word(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(b)
}

func short(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
