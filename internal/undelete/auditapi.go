package undelete

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/config"
)

const (
	mostPages = 10_000
	mostBody  = 32 << 20 // bytes of one page
)

// api reads the application's audit log, newest first, until it is older than wanted. Entries that are written meanwhile
// push others onto the next page, where they are met again: each is taken once. Snapshots are left out: in JSON they have
// lost their types.
func (r *auditReader) api(ctx context.Context, api config.AuditAPI) error {
	client := &http.Client{Timeout: time.Duration(api.Timeout)}
	defer client.CloseIdleConnections()
	seen := map[string]bool{}
	for page := 1; page <= mostPages; page++ {
		body, err := fetchPage(ctx, client, api, page)
		if err != nil {
			return fmt.Errorf("page %d of the application's audit log: %w", page, err)
		}
		older := true // all of the page
		for _, e := range body.logs {
			d, err := e.deletion()
			if err != nil {
				r.audit.Undated++
				continue
			}
			if d.At.Before(r.audit.Since) {
				continue
			}
			older = false
			once := strings.Join([]string{e.AuditID, d.At.String(), d.Action, d.Type, d.ID}, "\x00")
			if seen[once] {
				continue
			}
			seen[once] = true
			r.audit.Entries++
			if !deletes(d.Action, r.actions) {
				continue
			}
			if err := r.add(&d); err != nil {
				return err
			}
		}
		// A page of none but undated entries says nothing of how old the next one is; an empty or short one is the last.
		if older && body.dated() || len(body.logs) < api.PageSize || body.pages > 0 && page >= body.pages {
			return nil
		}
	}
	return fmt.Errorf("the application's audit log has more than %d pages: read it from the database", mostPages)
}

// apiPage is one page, in either of its shapes.
type apiPage struct {
	logs  []apiEntry
	pages int // in all; 0 where the answer does not tell
}

func (p apiPage) dated() bool {
	for _, e := range p.logs {
		if _, err := e.deletion(); err == nil {
			return true
		}
	}
	return len(p.logs) == 0
}

type apiEntry struct {
	AuditID      string `json:"audit_id"`
	Organization string `json:"organization_id"`
	UserID       string `json:"user_id"`
	Action       string `json:"action"`
	Type         string `json:"resource_type"`
	ID           string `json:"resource_id"`
	Timestamp    string `json:"timestamp"`
}

// deletion reads the entry as the database's are read.
func (e apiEntry) deletion() (deletion, error) {
	raw, err := bson.Marshal(bson.D{
		{Key: "timestamp", Value: e.Timestamp}, {Key: "organization_id", Value: e.Organization}, {Key: "user_id", Value: e.UserID},
		{Key: "action", Value: e.Action}, {Key: "resource_type", Value: e.Type}, {Key: "resource_id", Value: e.ID},
	})
	if err != nil {
		return deletion{}, err
	}
	d, _, ok := entryOf(raw, config.AuditLog{Collection: "api", Time: "timestamp"})
	if !ok {
		return deletion{}, fmt.Errorf("an audit entry's timestamp is %q", e.Timestamp)
	}
	return d, nil
}

func fetchPage(ctx context.Context, client *http.Client, api config.AuditAPI, page int) (p apiPage, err error) {
	query := url.Values{"limit": {strconv.Itoa(api.PageSize)}, "page": {strconv.Itoa(page)}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, api.URL+"?"+query.Encode(), nil)
	if err != nil {
		return apiPage{}, err
	}
	request.Header.Set("Authorization", "Bearer "+api.Token.Value())
	request.Header.Set("Accept", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return apiPage{}, err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	b, err := io.ReadAll(io.LimitReader(response.Body, mostBody+1))
	if err != nil {
		return apiPage{}, err
	}
	switch {
	case response.StatusCode != http.StatusOK:
		return apiPage{}, &APIError{response.StatusCode, "it answered " + quoteSome(b)}
	case len(b) > mostBody:
		return apiPage{}, &APIError{response.StatusCode, fmt.Sprintf("a page is larger than %d MiB: lower deletions.api.pageSize", mostBody>>20)}
	}
	return decodePage(response.StatusCode, b)
}

func decodePage(status int, b []byte) (apiPage, error) {
	var body struct {
		Code    int             `json:"code"`
		Message string          `json:"message"`
		Logs    json.RawMessage `json:"audit_logs"`
	}
	if err := json.Unmarshal(b, &body); err != nil || len(body.Logs) == 0 {
		return apiPage{}, &APIError{status, "it answered no audit_logs: " + quoteSome(b)}
	}
	if body.Code != 0 {
		return apiPage{}, &APIError{status, fmt.Sprintf("it answered code %d: %q", body.Code, body.Message)}
	}
	var flat []apiEntry
	if json.Unmarshal(body.Logs, &flat) == nil {
		return apiPage{logs: flat}, nil
	}
	var nested struct {
		Logs  []apiEntry `json:"logs"`
		Pages int        `json:"total_pages"`
	}
	if err := json.Unmarshal(body.Logs, &nested); err != nil {
		return apiPage{}, &APIError{status, "audit_logs is neither a list nor an object with logs: " + err.Error()}
	}
	return apiPage{nested.Logs, nested.Pages}, nil
}

func quoteSome(b []byte) string {
	const some = 200
	return strconv.Quote(string(b[:min(len(b), some)]))
}
