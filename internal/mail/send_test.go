package mail

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/internal/incident"
)

const testID = "battwheels/20260224T031200Z-3f9a2c"

func folder(t testing.TB) incident.Folder {
	t.Helper()
	f, err := incident.Open(t.TempDir(), "battwheels", "20260224T031200Z-3f9a2c")
	require.NoError(t, err)
	return f
}

// draft has n mails; those whose number is in bad have an address that the service refuses.
func draft(n int, bad ...int) Draft {
	d := Draft{ID: testID, From: "Battwheels OS <noreply@battwheels.example>"}
	for i := range n {
		email := fmt.Sprintf("owner%04d@garage.example", i)
		for _, b := range bad {
			if i == b {
				email = fmt.Sprintf("owner%04d@nowhere", i)
			}
		}
		d.Messages = append(d.Messages, Message{
			Contact: Contact{OrganizationID: fmt.Sprintf("org_%04d", i), Email: email},
			Subject: "Battwheels OS is back", HTML: "<p>Hello</p>", Text: "Hello",
		})
	}
	return d
}

func freeze(t testing.TB, f incident.Folder, d Draft) Outbox {
	t.Helper()
	o, err := Freeze(f, d)
	require.NoError(t, err)
	return o
}

func TestABatchIsSentOnceHoweverOftenItIsAsked(t *testing.T) {
	s, f := newService(t), folder(t)
	o := freeze(t, f, draft(250))
	require.Len(t, o.Batches, 3)
	for range 3 {
		for n := range o.Batches {
			_, err := s.sender(t).SendBatch(t.Context(), f, o, n)
			require.NoError(t, err)
		}
	}
	requests, accepted := s.seen()
	require.Equal(t, 3, requests)
	require.Len(t, accepted, 250)
	out, err := o.Outcome(f)
	require.NoError(t, err)
	require.Equal(t, Tally{Messages: 250, Sent: 250}, out.Tally)
	require.Empty(t, out.PendingBatches)

	_, err = s.sender(t).SendBatch(t.Context(), f, o, 3)
	require.ErrorContains(t, err, "has 3 batches")
}

func TestReceiptsCarryTheServicesIDs(t *testing.T) {
	s, f := newService(t), folder(t)
	r, err := s.sender(t).SendBatch(t.Context(), f, freeze(t, f, draft(4, 1)), 0)
	require.NoError(t, err)
	require.Equal(t, []Receipt{
		{"org_0000", "id-owner0000@garage.example"},
		{"org_0002", "id-owner0002@garage.example"},
		{"org_0003", "id-owner0003@garage.example"},
	}, r.Sent)
	require.Len(t, r.Failed, 1)
	require.Equal(t, "org_0001", r.Failed[0].OrganizationID)
	require.Contains(t, r.Failed[0].Reason, "Invalid `to` field")
}

func TestNobodyListensIsNotAnUnknownOutcome(t *testing.T) {
	s, f := newService(t), folder(t)
	o := freeze(t, f, draft(3))
	clock := &clock{now: time.Now()}
	s.now = clock.Now
	down, err := New(config.Mail{From: "a@b.example", APIKey: config.NewSecret(testKey), BaseURL: "http://127.0.0.1:1"}, nil)
	require.NoError(t, err)
	down.now = s.now
	_, err = down.SendBatch(t.Context(), f, o, 0)
	var unavailable *UnavailableError
	require.ErrorAs(t, err, &unavailable)
	require.False(t, unavailable.Left)

	// The service comes back two days later: nothing ever left, so it is safe to send.
	clock.Advance(48 * time.Hour)
	r, err := s.sender(t).SendBatch(t.Context(), f, o, 0)
	require.NoError(t, err)
	require.Len(t, r.Sent, 3)
}

func TestAnUnknownOutcomeBeyondTheKeysMemoryIsForAPerson(t *testing.T) {
	s, f := newService(t), folder(t)
	o := freeze(t, f, draft(3))
	clock := &clock{now: time.Date(2026, 2, 24, 3, 20, 0, 0, time.UTC)}
	s.now = clock.Now
	s.after = func(n int) bool { return n == 1 }
	_, err := s.sender(t).SendBatch(t.Context(), f, o, 0)
	require.Error(t, err)

	clock.Advance(25 * time.Hour)
	r, err := s.sender(t).SendBatch(t.Context(), f, o, 0)
	require.NoError(t, err)
	require.Len(t, r.Unknown, 3)
	require.Contains(t, r.Unknown[0].Reason, "24 February 2026, 03:20 UTC")
	requests, accepted := s.seen()
	require.Equal(t, 1, requests, "nothing is sent blindly")
	require.Equal(t, 1, accepted["owner0000@garage.example"])

	again, err := s.sender(t).SendBatch(t.Context(), f, o, 0)
	require.NoError(t, err)
	require.True(t, again.Already)
	require.Equal(t, r.Unknown, again.Unknown)
	out, err := o.Outcome(f)
	require.NoError(t, err)
	require.Equal(t, Tally{Messages: 3, Unknown: 3}, out.Tally)
}

func TestAFinishedBatchStaysFinishedBeyondTheKeysMemory(t *testing.T) {
	s, f := newService(t), folder(t)
	o := freeze(t, f, draft(3))
	clock := &clock{now: time.Now()}
	s.now = clock.Now
	_, err := s.sender(t).SendBatch(t.Context(), f, o, 0)
	require.NoError(t, err)
	clock.Advance(100 * time.Hour)
	r, err := s.sender(t).SendBatch(t.Context(), f, o, 0)
	require.NoError(t, err)
	require.True(t, r.Already)
	_, accepted := s.seen()
	require.Equal(t, 1, accepted["owner0000@garage.example"])
}

func TestABatchRefusedAsAWholeGoesOutOneByOne(t *testing.T) {
	s, f := newService(t), folder(t)
	s.wholly = true
	o := freeze(t, f, draft(12, 2, 9))
	// The connection dies at the fifth single mail, after it was accepted.
	s.after = func(n int) bool { return n == 6 }
	_, err := s.sender(t).SendBatch(t.Context(), f, o, 0)
	var down *UnavailableError
	require.ErrorAs(t, err, &down)

	r, err := s.sender(t).SendBatch(t.Context(), f, o, 0)
	require.NoError(t, err)
	require.Len(t, r.Sent, 10)
	require.Len(t, r.Failed, 2)
	requests, accepted := s.seen()
	require.Len(t, accepted, 10)
	for address, n := range accepted {
		require.Equal(t, 1, n, address)
	}
	require.Equal(t, 1+12+1, requests, "the batch, each mail, and the one whose answer was lost")
}

func TestASenderThatIsRefusedListsNobody(t *testing.T) {
	for _, wholly := range []bool{false, true} {
		t.Run(fmt.Sprintf("wholly=%v", wholly), func(t *testing.T) {
			s, f := newService(t), folder(t)
			s.wholly = wholly
			d := draft(5)
			d.From = "refused@battwheels.example"
			o := freeze(t, f, d)
			_, err := s.sender(t).SendBatch(t.Context(), f, o, 0)
			var refused *RefusedError
			require.ErrorAs(t, err, &refused)
			require.ErrorContains(t, err, "check mail.from")
			out, err := o.Outcome(f)
			require.NoError(t, err)
			require.Equal(t, 5, out.Pending, "not one is written off for a mistake of ours")
		})
	}
}

func TestAKeyThatWasUsedForOtherWordsIsForAPerson(t *testing.T) {
	s := newService(t)
	first, second := folder(t), folder(t)
	_, err := s.sender(t).SendBatch(t.Context(), first, freeze(t, first, draft(2)), 0)
	require.NoError(t, err)
	d := draft(2)
	d.Messages[0].Text = "Other words"
	r, err := s.sender(t).SendBatch(t.Context(), second, freeze(t, second, d), 0)
	require.NoError(t, err)
	require.Len(t, r.Unknown, 2)
	_, accepted := s.seen()
	require.Equal(t, 1, accepted["owner0000@garage.example"])
}

func TestAnAnswerThatDoesNotAddUpIsForAPerson(t *testing.T) {
	s, f := newService(t), folder(t)
	s.before = func(_ int, w http.ResponseWriter, _ *http.Request) bool {
		reply(w, 200, map[string]any{"data": []any{map[string]any{"id": "only-one"}}})
		return true
	}
	r, err := s.sender(t).SendBatch(t.Context(), f, freeze(t, f, draft(3)), 0)
	require.NoError(t, err)
	require.Len(t, r.Unknown, 3)
	require.Contains(t, r.Unknown[0].Reason, "1 of the batch's 3 mails")
}

func TestCancelledWhileWaitingForTheAnswer(t *testing.T) {
	s, f := newService(t), folder(t)
	o := freeze(t, f, draft(3))
	ctx, cancel := context.WithCancel(t.Context())
	released := make(chan struct{})
	s.before = func(n int, _ http.ResponseWriter, r *http.Request) bool {
		if n > 1 {
			return false
		}
		cancel()
		<-released
		return true
	}
	_, err := s.sender(t).SendBatch(ctx, f, o, 0)
	close(released)
	require.ErrorIs(t, err, context.Canceled)
	r, err := s.sender(t).SendBatch(t.Context(), f, o, 0)
	require.NoError(t, err)
	require.Len(t, r.Sent, 3)
}

func TestTwoAttemptsAtOnceSendOnce(t *testing.T) {
	s, f := newService(t), folder(t)
	o := freeze(t, f, draft(100))
	s.before = func(n int, _ http.ResponseWriter, _ *http.Request) bool {
		if n == 1 {
			_, err := s.sender(t).SendBatch(t.Context(), f, o, 0)
			var busy *incident.BusyError
			require.True(t, errors.As(err, &busy), "got %v", err)
		}
		return false
	}
	_, err := s.sender(t).SendBatch(t.Context(), f, o, 0)
	require.NoError(t, err)
	requests, _ := s.seen()
	require.Equal(t, 1, requests)
}

func TestSendOneIsOneMailForOneKey(t *testing.T) {
	s := newService(t)
	m := Message{Contact: Inside([]string{"oncall@battwheels.example"})[0], Subject: "Approval", HTML: "<p>?</p>", Text: "?"}
	long := strings.Repeat("battwheels/approval/", 30)
	for range 3 {
		r, err := s.sender(t).SendOne(t.Context(), long, m)
		require.NoError(t, err)
		require.Equal(t, "id-oncall@battwheels.example", r.MailID)
	}
	_, accepted := s.seen()
	require.Equal(t, 1, accepted["oncall@battwheels.example"])

	_, err := s.sender(t).SendOne(t.Context(), "", m)
	require.ErrorContains(t, err, "no key")

	m.Contact.Email = "oncall@nowhere"
	_, err = s.sender(t).SendOne(t.Context(), "other", m)
	var refused *RefusedError
	require.ErrorAs(t, err, &refused)
	require.NotContains(t, err.Error(), "oncall@nowhere")
}

func TestSendEachTellsAllWhoCanBeTold(t *testing.T) {
	s := newService(t)
	render := func(c Contact) (Message, error) {
		return Message{Contact: c, Subject: "Approval", HTML: "<p>?</p>", Text: "?"}, nil
	}
	to := Inside([]string{"a@b.example", "wrong@nowhere", "c@d.example"})
	for range 2 {
		sent, failed, err := s.sender(t).SendEach(t.Context(), "battwheels/approval/1", to, render)
		require.NoError(t, err)
		require.Len(t, sent, 2)
		require.Len(t, failed, 1)
		require.Equal(t, "wrong@nowhere", failed[0].Email)
	}
	_, accepted := s.seen()
	require.Equal(t, map[string]int{"a@b.example": 1, "c@d.example": 1}, accepted)

	_, _, err := s.sender(t).SendEach(t.Context(), "battwheels/approval/2", to[1:2], render)
	var refused *RefusedError
	require.ErrorAs(t, err, &refused, "nobody was told")

	s.before = func(n int, w http.ResponseWriter, _ *http.Request) bool {
		fail(w, 503, "service_unavailable", "Down for maintenance.")
		return true
	}
	_, _, err = s.sender(t).SendEach(t.Context(), "battwheels/approval/3", to, render)
	var down *UnavailableError
	require.ErrorAs(t, err, &down)
}

func TestSendOneInOtherWordsWasSentAlready(t *testing.T) {
	s := newService(t)
	m := Message{Contact: Inside([]string{"a@b.example"})[0], Subject: "Approval", HTML: "<p>?</p>", Text: "?"}
	_, err := s.sender(t).SendOne(t.Context(), "k", m)
	require.NoError(t, err)
	m.Text = "??"
	_, err = s.sender(t).SendOne(t.Context(), "k", m)
	require.NoError(t, err)
	_, accepted := s.seen()
	require.Equal(t, 1, accepted["a@b.example"])
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	good := config.Mail{From: "Battwheels OS <noreply@battwheels.example>", APIKey: config.NewSecret(testKey)}
	for name, tc := range map[string]struct {
		change func(*config.Mail)
		field  string
	}{
		"no sender":        {func(m *config.Mail) { m.From = "Battwheels OS" }, "mail.from"},
		"no key":           {func(m *config.Mail) { m.APIKey = config.NewSecret(" ") }, "mail.apiKey"},
		"URL without host": {func(m *config.Mail) { m.BaseURL = "api.resend.com" }, "mail.baseURL"},
		"other protocol":   {func(m *config.Mail) { m.BaseURL = "smtp://mail.example" }, "mail.baseURL"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			tc.change(&cfg)
			_, err := New(cfg, nil)
			require.ErrorContains(t, err, tc.field)
			require.NotContains(t, err.Error(), testKey)
		})
	}
	s, err := New(good, nil)
	require.NoError(t, err)
	require.Equal(t, "api.resend.com", s.client.BaseURL.Host)
}
