package workflows

import (
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/battwheels/runbook/activities"
)

// FollowUpID is the workflow id of a later word on an incident whose report is posted.
func FollowUpID(incident string) string { return "follow-up/" + incident }

// FollowUpInput starts FollowUp.
type FollowUpInput struct {
	Target   string `json:"target,omitempty"`
	Incident string `json:"incident"`
	Host     string `json:"host,omitempty"` // queue of the host that has the incident's folder; default the worker's own
}

// UnmarshalJSON refuses unknown fields.
func (in *FollowUpInput) UnmarshalJSON(b []byte) error {
	type plain FollowUpInput
	return decodeStrict(b, (*plain)(in))
}

// FollowUpResult is what came of it.
type FollowUpResult struct {
	Summary   string                    `json:"summary"`
	FollowUps []activities.FollowUpSaid `json:"followUps,omitempty"`
	Answers   []Answer                  `json:"answers,omitempty"`
	Warnings  []string                  `json:"warnings,omitempty"`
}

// followUpWaits is how long words wait for their approval: what is true today may not be in a week.
const followUpWaits = 7 * 24 * time.Hour

// FollowUp writes to the organizations that were told of an incident once more, after its report was posted: the all-clear of
// the week after. It has the doors of an open report, and ends when one follow-up is sent or dropped.
func FollowUp(ctx workflow.Context, in FollowUpInput) (FollowUpResult, error) {
	var res FollowUpResult
	if in.Incident == "" {
		return res, badInput(errors.New(`FollowUp needs "incident": the id of the incident whose organizations are written to`))
	}
	status := Status{Incident: in.Incident, Phase: "writing"}
	f := &followUps{incident: in.Incident, status: &status}
	shown := func() Status {
		s := status
		s.Asked = f.asks()
		return s
	}
	f.changed = func() { publish(ctx, shown(), f.snap.SearchAttributes) }
	f.progress = func() { showOnly(ctx, shown()) }
	f.redraft = func(workflow.Context) error { return nil } // the report is posted
	over := func() bool { return len(f.sent) > 0 || f.dropped }
	f.closed = func() string {
		if over() {
			return "this follow-up has ended: start another"
		}
		return ""
	}
	err := workflow.SetQueryHandlerWithOptions(ctx, QueryStatus, func() (Status, error) { return shown(), nil }, workflow.QueryHandlerOptions{})
	if err != nil {
		return res, fmt.Errorf("register query: %w", err)
	}
	// The doors come first: whoever starts this may send the words with the start.
	if err := f.open(ctx); err != nil {
		return res, err
	}
	if f.snap, err = loadTarget(ctx, in.Target); err != nil {
		return res, err
	}
	if in.Host != "" {
		f.snap.HostQueue = in.Host
	}
	status.Target, f.ready = f.snap.Target, true
	f.changed()
	if _, err := workflow.AwaitWithTimeout(ctx, followUpWaits, over); err != nil {
		return res, err
	}
	if err := workflow.Await(ctx, f.idle); err != nil {
		return res, err
	}
	f.waits = nil
	res.FollowUps, res.Answers, res.Warnings = f.sent, f.said, f.warnings
	res.Summary = "Nothing was sent."
	for _, s := range f.sent {
		res.Summary = fmt.Sprintf("%d mails sent, %d undeliverable.", s.Sent, s.Undeliverable)
	}
	status.Result, status.Phase = res.Summary, "ended"
	f.changed()
	return res, lastWords(ctx)
}
