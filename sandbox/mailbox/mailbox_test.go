package mailbox

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/resend/resend-go/v2"
	"github.com/stretchr/testify/require"
)

func start(t *testing.T, c Config) (*Box, *resend.Client) {
	t.Helper()
	c.Listen, c.APIKey = "127.0.0.1:0", "re_test"
	b, err := Start(c)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, b.Close(ctx))
	})
	return b, client(t, b, "re_test")
}

func client(t *testing.T, b *Box, key string) *resend.Client {
	t.Helper()
	c := resend.NewCustomClient(&http.Client{Timeout: 2 * time.Second}, key)
	base, err := url.Parse(b.URL() + "/")
	require.NoError(t, err)
	c.BaseURL = base
	return c
}

func mailTo(to string) *resend.SendEmailRequest {
	return &resend.SendEmailRequest{From: "Battwheels OS <noreply@battwheels.example>", To: []string{to}, Subject: "Restored",
		Html: "<p>All is well</p>", Text: "All is well"}
}

func batchOf(n int) []*resend.SendEmailRequest {
	var all []*resend.SendEmailRequest
	for i := range n {
		all = append(all, mailTo(fmt.Sprintf("garage%d@voltworks.example", i)))
	}
	return all
}

func TestTheOfficialClientSendsAMailAndReadsItBack(t *testing.T) {
	b, c := start(t, Config{})
	sent, err := c.Emails.SendWithContext(t.Context(), mailTo("owner@voltworks.example"))
	require.NoError(t, err)
	got, err := c.Emails.GetWithContext(t.Context(), sent.Id)
	require.NoError(t, err)
	require.Equal(t, "Restored", got.Subject)
	mail, err := b.Await(t.Context(), func(m Mail) bool { return m.ID == sent.Id })
	require.NoError(t, err)
	require.Equal(t, []string{"owner@voltworks.example"}, mail.To)
	require.Equal(t, 1, b.Counts().Mails)
}

func TestAKeyIsRemembered(t *testing.T) {
	b, c := start(t, Config{})
	with := func(key string) *resend.SendEmailOptions { return &resend.SendEmailOptions{IdempotencyKey: key} }
	first, err := c.Emails.SendWithOptions(t.Context(), mailTo("a@voltworks.example"), with("k1"))
	require.NoError(t, err)

	again, err := c.Emails.SendWithOptions(t.Context(), mailTo("a@voltworks.example"), with("k1"))
	require.NoError(t, err)
	require.Equal(t, first.Id, again.Id, "same key and same body: the same answer")

	_, err = c.Emails.SendWithOptions(t.Context(), mailTo("b@voltworks.example"), with("k1"))
	require.ErrorContains(t, err, "different request payload")

	_, err = c.Batch.SendWithOptions(t.Context(), batchOf(1), &resend.BatchSendEmailOptions{IdempotencyKey: "k1"})
	require.ErrorContains(t, err, "different request payload")

	_, err = c.Emails.SendWithOptions(t.Context(), mailTo("a@voltworks.example"), with(strings.Repeat("k", 257)))
	require.ErrorContains(t, err, "1-256")

	_, err = c.Emails.SendWithOptions(t.Context(), mailTo("nobody"), with("k2"))
	require.Error(t, err)
	_, err = c.Emails.SendWithOptions(t.Context(), mailTo("a@voltworks.example"), with("k2"))
	require.NoError(t, err, "a refused request leaves its key free")
	require.Len(t, b.Mails(), 2)
	require.Equal(t, 1, b.Counts().Replayed)
}

func TestBatches(t *testing.T) {
	bad := batchOf(4)
	bad[1].To = []string{"service at volt dot in"}
	bad[3].To = []string{"someone@example.com"}
	attached := batchOf(1)
	attached[0].Attachments = []*resend.Attachment{{Filename: "a.txt", Content: []byte("a")}}
	for _, c := range []struct {
		name   string
		mails  []*resend.SendEmailRequest
		mode   resend.BatchValidationMode
		sent   int
		failed []int
		err    string
	}{
		{"100 go", batchOf(100), "", 100, nil, ""},
		{"101 do not", batchOf(101), "", 0, nil, "1 to 100"},
		{"101 do not, permissive or not", batchOf(101), resend.BatchValidationPermissive, 0, nil, "1 to 100"},
		{"none do not", []*resend.SendEmailRequest{}, "", 0, nil, "1 to 100"},
		{"strict is the default: one bad address refuses all", bad, "", 0, nil, "Invalid `to` field"},
		{"strict", bad, resend.BatchValidationStrict, 0, nil, "Invalid `to` field"},
		{"permissive sends the good ones and names the others", bad, resend.BatchValidationPermissive, 2, []int{1, 3}, ""},
		{"attachments are not for batches", attached, "", 0, nil, "attachments"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, client := start(t, Config{})
			answer, err := client.Batch.SendWithOptions(t.Context(), c.mails, &resend.BatchSendEmailOptions{BatchValidation: c.mode})
			require.Len(t, b.Mails(), c.sent)
			if c.err != "" {
				require.ErrorContains(t, err, c.err)
				return
			}
			require.NoError(t, err)
			require.Len(t, answer.Data, c.sent)
			var failed []int
			for _, e := range answer.Errors {
				failed = append(failed, e.Index)
				require.NotEmpty(t, e.Message)
			}
			require.Equal(t, c.failed, failed)
		})
	}
}

func TestAddresses(t *testing.T) {
	for address, good := range map[string]bool{
		"a@b.example": true, "Asha Kulkarni <a@b.example>": true, "a.b+c@sub.b.example": true,
		"": false, "a": false, "a@b": false, "a@": false, "@b.example": false, "a b@c.example": false,
		"a@b.example, c@d.example": false, "अ@b.example": false, "a@example.com": false,
	} {
		require.Equal(t, good, checkAddress("to", address) == nil, "%q", address)
	}
}

func TestOverTheRate(t *testing.T) {
	b, c := start(t, Config{Rate: 2})
	for range 2 {
		_, err := c.Emails.SendWithContext(t.Context(), mailTo("a@voltworks.example"))
		require.NoError(t, err)
	}
	_, err := c.Emails.SendWithContext(t.Context(), mailTo("a@voltworks.example"))
	var limited *resend.RateLimitError
	require.ErrorAs(t, err, &limited)
	require.Equal(t, "1", limited.RetryAfter)
	require.Equal(t, "2", limited.Limit)
	require.Equal(t, 1, b.Counts().RateLimited)
	require.Len(t, b.Mails(), 2)
}

func TestTheKeyOfTheAPI(t *testing.T) {
	b, _ := start(t, Config{})
	for key, want := range map[string]int{"": http.StatusUnauthorized, "Bearer re_other": http.StatusForbidden, "re_test": http.StatusUnauthorized} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.URL()+"/emails", strings.NewReader("{}"))
		require.NoError(t, err)
		r.Header.Set("Authorization", key)
		answer, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		require.Equal(t, want, answer.StatusCode, "%q", key)
	}
}

func TestFailuresToOrder(t *testing.T) {
	for _, c := range []struct {
		name     string
		failure  Failure
		err      string
		accepted bool
	}{
		{"broken accepts nothing", Failure{Mode: Broken, Status: 503, Count: 1}, "unexpected error", false},
		{"down accepts nothing", Failure{Mode: Down, Count: 1}, "EOF", false},
		{"a time-out accepts, and does not say so", Failure{Mode: Timeout, Count: 1}, "Timeout", true},
		{"dropped accepts, and does not say so", Failure{Mode: Dropped, Count: 1}, "EOF", true},
		{"stuck accepts nothing", Failure{Mode: Stuck, Count: 1}, "Timeout", false},
		{"limited accepts nothing", Failure{Mode: Limited, Count: 1}, "rate limit", false},
		{"refused accepts nothing", Failure{Mode: Refused, Count: 1}, "is refused", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, client := start(t, Config{})
			b.Fail(c.failure)
			key := &resend.SendEmailOptions{IdempotencyKey: "k"}
			_, err := client.Emails.SendWithOptions(t.Context(), mailTo("a@voltworks.example"), key)
			require.ErrorContains(t, err, c.err)
			require.Equal(t, c.accepted, len(b.Mails()) == 1)

			_, err = client.Emails.SendWithOptions(t.Context(), mailTo("a@voltworks.example"), key)
			require.NoError(t, err, "only one request was to fail")
			require.Len(t, b.Mails(), 1, "the same key sends no second mail")
		})
	}
}

func TestAScriptChoosesByTheRequest(t *testing.T) {
	b, c := start(t, Config{})
	b.Script(func(r Request) Failure {
		if r.Key == "second" && r.Mails == 1 {
			return Failure{Mode: Broken}
		}
		return Failure{}
	})
	send := func(key string) error {
		_, err := c.Emails.SendWithOptions(t.Context(), mailTo("a@voltworks.example"), &resend.SendEmailOptions{IdempotencyKey: key})
		return err
	}
	require.NoError(t, send("first"))
	require.Error(t, send("second"))
	require.NoError(t, send("third"))
	require.NoError(t, send("second"))
}

// TestADeadServiceComesBack at the same address, with all that it had accepted and every key that it had seen.
func TestADeadServiceComesBack(t *testing.T) {
	b, c := start(t, Config{})
	key := &resend.SendEmailOptions{IdempotencyKey: "k"}
	_, err := c.Emails.SendWithOptions(t.Context(), mailTo("a@voltworks.example"), key)
	require.NoError(t, err)
	require.NoError(t, b.Die())
	_, err = c.Emails.SendWithOptions(t.Context(), mailTo("a@voltworks.example"), key)
	require.Error(t, err)
	require.NoError(t, b.Resume())
	_, err = c.Emails.SendWithOptions(t.Context(), mailTo("a@voltworks.example"), key)
	require.NoError(t, err)
	require.Len(t, b.Mails(), 1)
	require.NoError(t, b.Die(), "and is closed afterwards all the same")
}

func TestAFailureUntilATime(t *testing.T) {
	b, c := start(t, Config{})
	b.Fail(Failure{Mode: Broken, Until: time.Now().Add(-time.Second)})
	_, err := c.Emails.SendWithContext(t.Context(), mailTo("a@voltworks.example"))
	require.NoError(t, err)
}

func TestAFailureOrderedOverHTTP(t *testing.T) {
	b, c := start(t, Config{})
	put := func(body string) int {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, b.URL()+"/api/failure", strings.NewReader(body))
		require.NoError(t, err)
		answer, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		return answer.StatusCode
	}
	require.Equal(t, http.StatusUnprocessableEntity, put(`{"mode":"asleep"}`))
	require.Equal(t, http.StatusUnprocessableEntity, put(`{"mood":"broken"}`))
	require.Equal(t, http.StatusOK, put(`{"mode":"broken"}`))
	_, err := c.Emails.SendWithContext(t.Context(), mailTo("a@voltworks.example"))
	require.Error(t, err)
	require.Equal(t, http.StatusOK, put(`{}`))
	_, err = c.Emails.SendWithContext(t.Context(), mailTo("a@voltworks.example"))
	require.NoError(t, err)
}

func TestThePageShowsAMailWithoutTrustingIt(t *testing.T) {
	b := New(Config{APIKey: "re_test"})
	evil := mailTo("owner@voltworks.example")
	evil.Subject = `<script>alert(1)</script>`
	evil.Html = `<p class="x">Your data is back</p><script>parent.document.title="taken"</script>`
	raw, err := json.Marshal(evil)
	require.NoError(t, err)
	r := httptest.NewRequest(http.MethodPost, "/emails", bytes.NewReader(raw))
	r.Header.Set("Authorization", "Bearer re_test")
	w := httptest.NewRecorder()
	b.ServeHTTP(w, r)
	require.Equal(t, http.StatusOK, w.Code, w.Body)

	w = httptest.NewRecorder()
	b.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/?q=owner", nil))
	page := w.Body.String()
	require.Equal(t, 1, strings.Count(page, "<script>"), "the page's own only")
	require.Contains(t, page, "<iframe sandbox ")
	require.Contains(t, page, "Your data is back")
	require.Contains(t, w.Header().Get("Content-Security-Policy"), "default-src 'none'")

	w = httptest.NewRecorder()
	b.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/?q=nobody", nil))
	require.Contains(t, w.Body.String(), "No mail yet.")

	w = httptest.NewRecorder()
	b.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/mails", nil))
	var all struct {
		Total int
		Mails []Mail
	}
	require.NoError(t, json.NewDecoder(io.Reader(w.Body)).Decode(&all))
	require.Equal(t, 1, all.Total)
	require.Equal(t, evil.Html, all.Mails[0].HTML)
}
