package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.temporal.io/sdk/client"

	"github.com/battwheels/runbook/sandbox/mailbox"
	"github.com/battwheels/runbook/workflows"
)

// TestCorrectionReachesThoseWhoWereTold sends two follow-ups through the report's doors, as the Temporal UI does, and one from the
// command line when the report is posted: to those who got the first mail, whoever the database names by now and however the mail service stumbles; in its thread, with the person's words
// as they wrote them. The report says so, and names the event.
func TestCorrectionReachesThoseWhoWereTold(t *testing.T) {
	w := newWorld(t)
	_, err := w.db.Collection("organizations").UpdateOne(t.Context(), bson.D{{Key: "organization_id", Value: "org_03"}},
		bson.D{{Key: "$set", Value: bson.D{{Key: "email", Value: "test@example.com"}}}})
	require.NoError(t, err)
	w.backup()
	require.NoError(t, w.db.Collection("tickets").Drop(t.Context()))
	run := w.run(incident, "DatabaseCorruption", workflows.CorruptionInput{})
	s := w.asked(incident)
	require.NoError(t, w.says(incident, workflows.DoorApprove, workflows.Answer{Plan: s.Plan.Code}))
	var r workflows.IncidentResult
	require.NoError(t, run.Get(t.Context(), &r))
	require.Equal(t, 9, r.MailsSent)
	w.asked(r.Report)
	w.insert("organizations", 1, func(int) bson.D {
		return bson.D{{Key: "organization_id", Value: "late"}, {Key: "email", Value: "late@battwheels.test"}, {Key: "is_active", Value: true}}
	})

	first := map[string]mailbox.Mail{}
	for _, m := range w.mail.Mails() {
		if strings.HasPrefix(m.To[0], "garage") {
			first[m.To[0]] = m
		}
	}
	require.Len(t, first, 9)
	for _, word := range []workflows.Notify{
		{Kind: "correction", Headline: "The time was <b>wrong</b>", Text: "Please look at entries from\n01:50 UTC on.\n\nThat is:\n- invoices\n- payments < 100"},
		{Kind: "all-clear", Text: "All is back."},
	} {
		w.mail.Fail(mailbox.Failure{Mode: mailbox.Dropped, Count: 1})
		reply, err := w.notifies(r.Report, word)
		require.NoError(t, err)
		require.Contains(t, reply, "9 mails to 9 organizations are written and none is sent.")
		asked := w.asked(r.Report).Asked
		code := asked[strings.Index(asked, "--approve ")+len("--approve "):][:7]
		require.ErrorContains(t, w.says(r.Report, workflows.DoorApprove, workflows.Answer{Plan: "OLD-999"}), "is not the code")
		require.Zero(t, w.countMails(word.Kind, "garage")[0], "nothing is sent before it is approved")
		require.NoError(t, w.says(r.Report, workflows.DoorApprove, workflows.Answer{Plan: code}))
		w.await(r.Report, "it does not go out", func(s workflows.Status) bool {
			return strings.Contains(s.Steps[len(s.Steps)-1].Note, "9 mails sent, 1 undeliverable")
		})
		require.Equal(t, []int{9, 9}, w.countMails(word.Kind, "garage"), "one each")
	}
	for _, m := range w.mail.Mails() {
		if !strings.Contains(m.IdempotencyKey, "/correction-1-") {
			continue
		}
		require.Equal(t, "Battwheels OS: The time was <b>wrong</b>", m.Subject)
		require.Equal(t, first[m.To[0]].Headers["References"], m.Headers["In-Reply-To"], "one thread")
		require.Contains(t, m.HTML, "The time was &lt;b&gt;wrong&lt;/b&gt;")
		require.Contains(t, m.HTML, "Please look at entries from 01:50 UTC on.</p>")
		require.Contains(t, m.HTML, "That is:<br>- invoices<br>- payments &lt; 100</p>")
		require.Contains(t, m.Text, "That is:\n- invoices\n- payments < 100\n")
	}
	require.Zero(t, w.countMails("", "late")[0])

	dir := filepath.Join(w.storage, "incidents", "battwheels", r.Incident)
	w.await(r.Report, "the report is not drawn again", func(s workflows.Status) bool {
		report, err := os.ReadFile(filepath.Join(dir, "report.md"))
		return err == nil && strings.Contains(string(report), "The all-clear \"All is well again\", written by Asha (the window was wrong) and approved by Asha")
	})
	everyStatementIsInAHistory(t, dir)
	w.posts(r.Report)
	var posted workflows.ReportResult
	require.NoError(t, w.temporal.GetWorkflow(t.Context(), r.Report, "").Get(t.Context(), &posted))
	require.Len(t, posted.FollowUps, 2)
	w.record("report-corrected", r.Report, "")

	text := filepath.Join(t.TempDir(), "text.txt")
	require.NoError(t, os.WriteFile(text, []byte("The copy that we kept\nis deleted."), 0o600))
	line := w.commandLine()
	said := line("notify", r.Incident, "--kind", "update", "--text", text, "--by", "Asha", "--reason", "as promised")
	require.Contains(t, said, "follow-up/"+r.Incident+": 9 mails to 9 organizations are written and none is sent.")
	code := said[strings.Index(said, "approve ")+len("approve "):][:7]
	require.Contains(t, line("notify", r.Incident, "--approve", "OLD-999", "--by", "Asha", "--reason", "read"), "is not the code of the follow-up that waits")
	require.Contains(t, line("notify", r.Incident, "--approve", code, "--by", "Asha", "--reason", "read"), "9 mails are going out")
	var result workflows.FollowUpResult
	require.NoError(t, w.temporal.GetWorkflow(t.Context(), "follow-up/"+r.Incident, "").Get(t.Context(), &result))
	require.Equal(t, "9 mails sent, 1 undeliverable.", result.Summary)
	require.Equal(t, []int{9, 9}, w.countMails("/update-1-", "garage"))
	require.Contains(t, line("notify", r.Incident, "--kind", "update", "--text", text, "--by", "Asha", "--reason", "again"), "these very words went out already")
	w.record("follow-up", "follow-up/"+r.Incident, "")
}

// commandLine builds cmd/runbook as it is deployed, and returns what runs it and answers with all that it printed.
func (w *world) commandLine() func(args ...string) string {
	w.t.Helper()
	path := filepath.Join(w.t.TempDir(), "runbook")
	build := exec.CommandContext(w.t.Context(), "go", "build", "-buildvcs=false", "-o", path, "./cmd/runbook")
	build.Dir, build.Env = "../..", append(os.Environ(), "GOWORK=off")
	out, err := build.CombinedOutput()
	require.NoError(w.t, err, "%s", out)
	return func(args ...string) string {
		w.t.Helper()
		out, err := exec.CommandContext(w.t.Context(), path, append(args, "--config", w.path)...).CombinedOutput()
		if _, exited := errors.AsType[*exec.ExitError](err); !exited {
			require.NoError(w.t, err)
		}
		return string(out)
	}
}

// countMails counts the mails under a key that contains kind to addresses that begin so, and the addresses.
func (w *world) countMails(kind, to string) []int {
	addresses := map[string]bool{}
	n := 0
	for _, m := range w.mail.Mails() {
		if strings.HasPrefix(m.To[0], to) && strings.Contains(m.IdempotencyKey, kind) {
			n++
			addresses[m.To[0]] = true
		}
	}
	return []int{n, len(addresses)}
}

func (w *world) notifies(id string, n workflows.Notify) (string, error) {
	w.t.Helper()
	n.By, n.Reason = "Asha", "the window was wrong"
	h, err := w.temporal.UpdateWorkflow(w.t.Context(), client.UpdateWorkflowOptions{
		WorkflowID: id, UpdateName: workflows.DoorNotify, Args: []any{n}, WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	if err != nil {
		return "", err
	}
	var reply string
	return reply, h.Get(w.t.Context(), &reply)
}

// posts posts a report.
func (w *world) posts(id string) {
	w.t.Helper()
	h, err := w.temporal.UpdateWorkflow(w.t.Context(), client.UpdateWorkflowOptions{
		WorkflowID: id, UpdateName: workflows.DoorPostReport, WaitForStage: client.WorkflowUpdateStageCompleted,
		Args: []any{workflows.Posting{URL: "https://status.battwheels.test/7", By: "Asha"}},
	})
	require.NoError(w.t, err)
	require.NoError(w.t, h.Get(w.t.Context(), nil))
}
