package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	enums "go.temporal.io/api/enums/v1"

	folders "github.com/battwheels/runbook/internal/incident"
	"github.com/battwheels/runbook/internal/mail"
	"github.com/battwheels/runbook/sandbox/mailbox"
	"github.com/battwheels/runbook/workflows"
)

// garages is how many active organizations are told.
const garages = 5000

// seedGarages makes 5,000 active organizations and some that are not. A few have addresses of every bad kind.
func (w *world) seedGarages() {
	w.t.Helper()
	require.NoError(w.t, w.db.Collection("organizations").Drop(w.t.Context()))
	odd := map[int]string{
		17: "not an address", // neither has its owner one
		18: "",
		19: "", // these two have an owner
		20: "kaputt",
		21: "Garage22@garages.test", // the same as the next one's
		// What the mail service refuses:
		1234: "test@example.com", 2345: "dev@localhost", 3456: "büro@garages.test", 4999: "info@example.net",
	}
	w.insert("organizations", garages+50, func(i int) bson.D {
		email, ok := odd[i]
		if !ok {
			email = fmt.Sprintf("garage%d@garages.test", i)
		}
		return bson.D{{Key: "organization_id", Value: fmt.Sprintf("org_%04d", i)}, {Key: "name", Value: fmt.Sprintf("Werkstatt %d", i)},
			{Key: "email", Value: email}, {Key: "is_active", Value: i < garages}}
	})
	w.insert("users", 4, func(i int) bson.D {
		return bson.D{{Key: "organization_id", Value: fmt.Sprintf("org_%04d", 17+i)}, {Key: "role", Value: []string{"owner", "staff", "owner", "owner"}[i]},
			{Key: "name", Value: "Asha Rao"}, {Key: "email", Value: []string{"", "staff18@garages.test", "owner19@garages.test", "owner20@garages.test"}[i]}}
	})
	text, err := os.ReadFile(w.path)
	require.NoError(w.t, err)
	with := strings.Replace(string(text), "      active: is_active\n",
		"      active: is_active\n      owners: {collection: users, email: email, match: {role: owner}}\n", 1)
	require.NoError(w.t, os.WriteFile(w.path, []byte(with), 0o600))
}

// trouble is what the mail service does to the first request under a key, by the key's end.
type trouble struct {
	mu   sync.Mutex
	plan map[string]mailbox.Failure
	met  chan string // the keys' ends, as they are met
}

var keyEnd = regexp.MustCompile(`/batch/\d+(/mail/\d+)?$`)

func (tr *trouble) next(r mailbox.Request) mailbox.Failure {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	end := keyEnd.FindString(r.Key)
	f, ok := tr.plan[end]
	if ok {
		delete(tr.plan, end)
		tr.met <- end
	}
	return f
}

// TestFiveThousandOrganizationsHaveOneMailEach restores a small database of 5,000 organizations and tells them, while the mail
// service limits, breaks, accepts without an answer in two ways, refuses a whole batch, and dies; and while the worker is killed
// three times: after a batch was accepted and before the answer, in the middle of a batch that goes out one by one, and while
// the service is gone. Each organization has one mail, whoever has none is listed with the reason, and no address stands in the
// history.
func TestFiveThousandOrganizationsHaveOneMailEach(t *testing.T) {
	w := newWorld(t)
	w.seedGarages()
	w.backup()
	require.NoError(t, w.db.Collection("tickets").Drop(t.Context()))
	w.end()

	tr := &trouble{met: make(chan string, 20), plan: map[string]mailbox.Failure{
		"/batch/4":          {Mode: mailbox.Limited},
		"/batch/8":          {Mode: mailbox.Broken},
		"/batch/12":         {Mode: mailbox.Dropped},
		"/batch/16":         {Mode: mailbox.Timeout}, // killed
		"/batch/24":         {Mode: mailbox.Refused},
		"/batch/24/mail/40": {Mode: mailbox.Stuck}, // killed
		"/batch/32":         {Mode: mailbox.Down},  // and then it is gone; killed
	}}
	w.mail.Script(tr.next)
	until := func(end string) {
		t.Helper()
		for {
			select {
			case met := <-tr.met:
				if met == end {
					return
				}
			case <-time.After(time.Minute):
				require.Fail(t, "no request under "+end)
			}
		}
	}

	began := time.Now()
	worker := w.spawn()
	defer func() { w.kill(worker) }()
	run := w.run(incident, "DatabaseCorruption", workflows.CorruptionInput{})
	s := w.asked(incident)
	require.Equal(t, mail.Audience{Organizations: garages, Mails: garages - 2 - 1, ThroughOwner: 2, WithoutAddress: 2}, s.Plan.Told.Audience)
	require.FileExists(t, s.Plan.Told.Preview)
	require.NoError(t, w.says(incident, workflows.DoorApprove, workflows.Answer{Plan: s.Plan.Code}))

	until("/batch/16")
	s, err := w.status(incident)
	require.NoError(t, err)
	require.Contains(t, fmt.Sprint(s.Steps), "batch 16 of 50; 1499 mails sent, 3 undeliverable so far", "one refused, two without an address")
	w.kill(worker)
	worker = w.spawn()
	until("/batch/24/mail/40")
	w.kill(worker)
	worker = w.spawn()
	until("/batch/32")
	require.NoError(t, w.mail.Die())
	require.Eventually(t, func() bool {
		d, err := w.temporal.DescribeWorkflowExecution(t.Context(), incident, "")
		return err == nil && len(d.GetPendingActivities()) == 1 &&
			strings.Contains(d.GetPendingActivities()[0].GetLastFailure().GetMessage(), "connection refused")
	}, time.Minute, 50*time.Millisecond, "the worker does not notice that the mail service is gone")
	w.kill(worker)
	require.NoError(t, w.mail.Resume())
	worker = w.spawn()

	var r workflows.IncidentResult
	require.NoError(t, run.Get(t.Context(), &r))
	t.Logf("from the alert to the last mail: %s", time.Since(began).Round(100*time.Millisecond))
	require.Equal(t, workflows.Recovered, r.Outcome)
	require.Empty(t, tr.plan, "some trouble was never met")
	require.Empty(t, r.Warnings)
	require.Equal(t, garages, r.OrganizationsActive)
	require.Equal(t, garages-2-1-4, r.MailsSent, "two without an address, two in one mail, four refused")
	require.Equal(t, 2+4, r.MailsUndeliverable)
	require.Zero(t, r.MailsUnknown)

	w.everyGarageWasToldOnce(r.Incident)
	w.historyIsFitForAuditors()
}

// everyGarageWasToldOnce holds what the mail service accepted against what was frozen, and the ledger against both.
func (w *world) everyGarageWasToldOnce(id string) {
	t := w.t
	t.Helper()
	folder, err := folders.Open(w.storage, "battwheels", id)
	require.NoError(t, err)
	box, err := mail.Load(folder, "")
	require.NoError(t, err)
	out, err := box.Outcome(folder)
	require.NoError(t, err)
	require.Empty(t, out.PendingBatches)
	require.Empty(t, out.UnknownMails)
	reasons := map[string]string{} // by organization
	for _, f := range out.FailedMails {
		reasons[f.OrganizationID] = f.Reason
	}
	for _, c := range box.Without {
		reasons[c.OrganizationID] = c.Why
	}
	for org, why := range map[string]string{
		"org_0017": "what stands there as its address is none, and no active owner has an address",
		"org_0018": "it has no address, and no active owner has an address",
		"org_1234": "testing email address", "org_2345": "Invalid `to` field", "org_3456": "Invalid `to` field", "org_4999": "testing email address",
	} {
		require.Contains(t, reasons[org], why, org)
	}
	require.Len(t, reasons, 6)

	accepted, keys := map[string]int{}, map[string]string{}
	for _, m := range w.mail.Mails() {
		if strings.HasSuffix(m.To[0], "@garages.test") {
			accepted[m.To[0]]++
			keys[m.To[0]] = m.IdempotencyKey
		}
	}
	require.Len(t, accepted, garages-2-1-4)
	told := map[string]int{}
	for n, b := range box.Batches {
		messages, err := box.Read(folder, n)
		require.NoError(t, err)
		for i, m := range messages {
			to := m.Contact.Email
			if key, sent := keys[to]; sent && key != b.Key {
				require.Equal(t, fmt.Sprintf("%s/mail/%d", b.Key, i+1), key)
				require.Equal(t, 24, n+1, "one batch went out one by one")
			}
			for _, o := range m.Contact.Organizations() {
				told[o.ID] += accepted[to]
			}
		}
	}
	for i := range garages {
		org, want := fmt.Sprintf("org_%04d", i), 1
		if reasons[org] != "" {
			want = 0
		}
		require.Equal(t, want, told[org], org)
	}
	require.Len(t, told, garages-2, "organizations that are not active are not told")
	counts := w.mail.Counts()
	require.GreaterOrEqual(t, counts.Replayed, 2, "what was accepted without an answer was asked for again, under the same key")
}

// historyIsFitForAuditors: it is small, and nobody's address or name is in it.
func (w *world) historyIsFitForAuditors() {
	t := w.t
	t.Helper()
	n, bytes := 0, 0
	events := w.temporal.GetWorkflowHistory(t.Context(), incident, "", false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		e, err := events.Next()
		require.NoError(t, err)
		text := e.String()
		require.NotContains(t, text, "garages.test")
		require.NotContains(t, text, "Werkstatt")
		require.NotContains(t, text, "Asha Rao")
		n++
		bytes += len(text)
	}
	t.Logf("%d events, %d kB as text", n, bytes/1000)
	require.Less(t, n, 800)
	files, err := filepath.Glob(filepath.Join(w.storage, "incidents", "battwheels", "*", "outbox", "*.json"))
	require.NoError(t, err)
	require.Len(t, files, 50)
}
