package workflows

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/testsuite"

	"github.com/battwheels/runbook/activities"
)

// report runs a report with its follow-ups, which the test writes at its times, until it is posted.
func (w *world) report(posted time.Duration) ReportResult {
	w.t.Helper()
	w.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: ReportID("i1"), TaskQueue: TaskQueue})
	w.at(posted, func() {
		w.UpdateWorkflow(DoorPostReport, "post", &testsuite.TestUpdateCallback{
			OnAccept: func() {}, OnReject: func(err error) { require.NoError(w.t, err) }, OnComplete: func(_ any, err error) { require.NoError(w.t, err) },
		}, Posting{URL: "https://status.example.com/7", By: "Asha"})
	})
	w.ExecuteWorkflow(IncidentReport, ReportInput{Target: "battwheels", Incident: "i1", DetectedAt: damageBegan, Parent: "incident/battwheels"})
	require.True(w.t, w.IsWorkflowCompleted())
	require.NoError(w.t, w.GetWorkflowError())
	var r ReportResult
	require.NoError(w.t, w.GetWorkflowResult(&r))
	return r
}

// writes sends a follow-up's words through the door, and checks the answer: the part of it, or of its denial.
func (w *world) writes(n Notify, answer, denied string) {
	n.By, n.Reason = "Asha", "the window was wrong"
	w.UpdateWorkflow(DoorNotify, fmt.Sprint("notify-", time.Now().UnixNano()), &testsuite.TestUpdateCallback{
		OnAccept: func() {},
		OnReject: func(err error) { require.ErrorContains(w.t, err, denied) },
		OnComplete: func(v any, err error) {
			if denied != "" {
				require.ErrorContains(w.t, err, denied)
				return
			}
			require.NoError(w.t, err)
			require.Contains(w.t, v, answer)
		},
	}, n)
}

func (w *world) asks() string { return w.statusNow().Asked }

func (w *world) statusNow() Status {
	w.t.Helper()
	v, err := w.QueryWorkflow(QueryStatus)
	require.NoError(w.t, err)
	var s Status
	require.NoError(w.t, v.Get(&s))
	return s
}

// code is that of the n-th follow-up, as the mocked step makes it.
func code(n Notify, number string) string {
	return strings.ToUpper("C-" + n.Kind + "-" + number + "-" + short(n.Kind+"\n"+n.Headline+"\n"+n.Text))
}

// TestCorrectionsGoOutOnceApproved: several in sequence, each under its own code; none without, none under another's; the report
// says what was said, and by whom.
func TestCorrectionsGoOutOnceApproved(t *testing.T) {
	w := newWorld(t)
	wrong := Notify{Kind: "correction", Text: "from 01:55 to 03:13"}
	first := Notify{Kind: "correction", Headline: "The time was too short", Text: "from 01:50 to 03:13"}
	second := Notify{Kind: "all-clear", Text: "all is back"}
	w.at(1*time.Minute, func() { w.says(DoorApprove, Answer{Plan: "ABC-DEF"}, "no follow-up waits") })
	w.at(2*time.Minute, func() { w.writes(wrong, "146 mails to 146 organizations are written and none is sent.", "") })
	w.at(3*time.Minute, func() { require.Contains(t, w.asks(), "runbook notify i1 --approve "+code(wrong, "1")) })
	w.at(4*time.Minute, func() { w.writes(first, code(first, "2"), "") }) // takes its place
	w.at(5*time.Minute, func() { w.says(DoorApprove, Answer{Plan: code(wrong, "1")}, "is not the code") })
	w.at(6*time.Minute, func() { w.says(DoorApprove, Answer{Plan: code(first, "2")}, "") })
	w.at(10*time.Minute, func() {
		require.NotContains(t, w.asks(), "--approve")
		require.Contains(t, w.asks(), "post-report", "posting it is still asked for")
		w.says(DoorApprove, Answer{Plan: code(first, "2")}, "no follow-up waits")
	})
	w.at(11*time.Minute, func() { w.writes(second, "", "") })
	w.at(12*time.Minute, func() { w.says(DoorReject, Answer{}, "") })
	w.at(13*time.Minute, func() { w.writes(second, "", "") })
	w.at(14*time.Minute, func() { w.says(DoorApprove, Answer{Plan: code(second, "4")}, "") })
	r := w.report(time.Hour)

	require.Len(t, r.FollowUps, 2)
	sent := r.FollowUps[0]
	require.Equal(t, activities.FollowUpSaid{Name: strings.ToLower(code(first, "2"))[2:], Kind: "correction", Headline: first.Headline, By: "Asha",
		Reason: "the window was wrong", ApprovedBy: "Asha", At: sent.At, Sent: 148, Undeliverable: 4}, sent)
	require.Equal(t, "all-clear", r.FollowUps[1].Kind)
	for _, name := range []string{sent.Name, r.FollowUps[1].Name} {
		require.Equal(t, 1, w.times("SendBatch 0 "+name))
		require.Equal(t, 1, w.times("SendBatch 1 "+name))
	}
	require.Zero(t, w.times("SendBatch 0 "+strings.ToLower(code(wrong, "1"))[2:]))
	require.Equal(t, 4, w.times("DraftReport"), "at first, after each follow-up, and when it is posted")
	require.Equal(t, r.FollowUps, w.drafted.FollowUps)
	require.Equal(t, "report/i1", w.drafted.Histories[len(w.drafted.Histories)-1].WorkflowID)
	denied := 0
	for _, a := range w.drafted.Answers {
		if a.Denied != "" {
			denied++
		}
	}
	require.Len(t, w.drafted.Answers, 10, "what was denied, too")
	require.Equal(t, 3, denied)
}

// TestAFollowUpIsRefused where it is malformed, where nobody was told, and once the report is posted; and what waits then goes to
// nobody.
func TestAFollowUpIsRefused(t *testing.T) {
	w := newWorld(t)
	w.fail["FreezeFollowUp to nobody"] = always(final(activities.BadInput, "no organization was told"))
	w.at(1*time.Minute, func() { w.writes(Notify{Kind: "correction", Text: " "}, "", `needs "text"`) })
	w.at(2*time.Minute, func() { w.writes(Notify{Text: "x"}, "", `needs "kind"`) })
	w.at(3*time.Minute, func() { w.writes(Notify{Kind: "update", Text: "to nobody"}, "", "no organization was told") })
	w.at(4*time.Minute, func() { w.writes(Notify{Kind: "update", Text: "waits"}, "", "") })
	w.when["DraftReport"] = func() {
		if w.times("DraftReport") == 2 {
			w.at(0, func() { w.writes(Notify{Kind: "update", Text: "late"}, "", "the report is posted") })
		}
	}
	r := w.report(time.Hour)
	require.Empty(t, r.FollowUps)
	require.Zero(t, w.times("FreezeFollowUp late"))
	for _, call := range w.calls {
		require.NotContains(t, call, "SendBatch")
	}
}

// TestWhatIsApprovedGoesOutBeforeTheReportCloses, and a batch of which nothing was learned is told.
func TestWhatIsApprovedGoesOutBeforeTheReportCloses(t *testing.T) {
	w := newWorld(t)
	n := Notify{Kind: "all-clear", Text: "all is back"}
	name := strings.ToLower(code(n, "1"))[2:]
	w.at(time.Minute, func() { w.writes(n, "", "") })
	w.at(59*time.Minute, func() { w.says(DoorApprove, Answer{Plan: code(n, "1")}, "") })
	w.fail["SendBatch 0 "+name] = always(errors.New("the mail service does not answer"))
	w.at(70*time.Minute, func() {
		s := w.statusNow()
		require.Equal(t, Step{Name: "Send " + name, State: Running, Note: "batch 1 of 2; 0 mails sent, 4 undeliverable so far"}, s.Steps[len(s.Steps)-1])
	})
	r := w.report(time.Hour)
	require.Len(t, r.FollowUps, 1)
	require.Equal(t, 48, r.FollowUps[0].Sent)
	require.Equal(t, 100, r.FollowUps[0].Unknown)
	require.Len(t, r.Warnings, 1)
	require.Contains(t, r.Warnings[0], "what became of it is not known")
}

// TestTheAllClearOfTheWeekAfter needs no open report: it ends when it is sent, dropped, or forgotten.
func TestTheAllClearOfTheWeekAfter(t *testing.T) {
	n := Notify{Kind: "all-clear", Text: "all is back"}
	for _, tc := range []struct {
		name string
		says func(*world)
		want string
		sent int
	}{
		{"sent", func(w *world) {
			w.at(2*time.Minute, func() { w.says(DoorApprove, Answer{Plan: "OLD-999"}, "is not the code") })
			w.at(3*time.Minute, func() { w.says(DoorApprove, Answer{Plan: code(n, "1")}, "") })
		}, "148 mails sent, 4 undeliverable.", 1},
		{"dropped", func(w *world) { w.at(2*time.Minute, func() { w.says(DoorReject, Answer{}, "") }) }, "Nothing was sent.", 0},
		{"forgotten", func(w *world) {
			w.at(6*24*time.Hour, func() { require.Contains(t, w.asks(), "--approve "+code(n, "1")) })
		}, "Nothing was sent.", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			w.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: FollowUpID("i1"), TaskQueue: TaskQueue})
			w.at(time.Minute, func() { w.writes(n, code(n, "1"), "") })
			tc.says(w)
			w.ExecuteWorkflow(FollowUp, FollowUpInput{Incident: "i1"})
			require.NoError(t, w.GetWorkflowError())
			var r FollowUpResult
			require.NoError(t, w.GetWorkflowResult(&r))
			require.Equal(t, tc.want, r.Summary)
			require.Len(t, r.FollowUps, tc.sent)
			require.Equal(t, tc.sent, w.times("SendBatch 1 "+strings.ToLower(code(n, "1"))[2:]))
		})
	}
	w := newWorld(t)
	w.ExecuteWorkflow(FollowUp, FollowUpInput{})
	require.ErrorContains(t, w.GetWorkflowError(), `needs "incident"`)
}

// TestAnOpenReportAnswersWhenItIsDue proves that its status says by when it must be posted and where the draft lies, as long as
// that is so.
func TestAnOpenReportAnswersWhenItIsDue(t *testing.T) {
	w := newWorld(t)
	w.at(time.Minute, func() {
		s := w.statusNow()
		require.Equal(t, damageBegan.Add(48*time.Hour), s.Due.UTC())
		require.Equal(t, "report.html", s.Draft)
	})
	w.report(time.Hour)
	s := w.statusNow()
	require.Nil(t, s.Due, "it is posted")
	require.Empty(t, s.Draft)
}
