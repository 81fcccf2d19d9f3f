package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/battwheels/runbook/internal/words"
	"github.com/battwheels/runbook/workflows"
)

// openReport is what status tells of an incident's report that is not posted yet.
type openReport struct {
	Incident string     `json:"incident"`
	Target   string     `json:"target,omitempty"`
	Phase    string     `json:"phase,omitempty"`
	Due      *time.Time `json:"due,omitempty"`   // when it must be posted; unknown before there is a draft
	Draft    string     `json:"draft,omitempty"` // where it lies, as HTML
	Unknown  string     `json:"unknown,omitempty"`
}

// openReports lists the incidents whose reports are not posted yet.
func openReports(ctx context.Context, c client.Client) ([]string, error) {
	r, err := c.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{
		Query: `WorkflowType = "IncidentReport" AND ExecutionStatus = "Running"`,
	})
	if err != nil {
		return nil, fmt.Errorf("list open reports: %w", err)
	}
	var ids []string
	for _, e := range r.GetExecutions() {
		ids = append(ids, strings.TrimPrefix(e.GetExecution().GetWorkflowId(), "report/"))
	}
	return ids, nil
}

// reportTime is how long status waits for one report's answer.
const reportTime = 5 * time.Second

// reportsOf asks each open report how it stands. One that does not answer is listed with the reason.
func reportsOf(ctx context.Context, c client.Client, incidents []string) []openReport {
	var all []openReport
	for _, incident := range incidents {
		r := openReport{Incident: incident}
		var s workflows.Status
		asking, cancel := context.WithTimeout(ctx, reportTime)
		v, err := c.QueryWorkflow(asking, workflows.ReportID(incident), "", workflows.QueryStatus)
		cancel()
		if err == nil {
			err = v.Get(&s)
		}
		if err != nil {
			r.Unknown = fmt.Sprintf("when it is due is not known: it does not answer (is a worker running?): %v", err)
		}
		r.Target, r.Phase, r.Due, r.Draft = s.Target, s.Phase, s.Due, s.Draft
		all = append(all, r)
	}
	return all
}

func (r openReport) write(w io.Writer, now time.Time) {
	fmt.Fprintf(w, "open report: %s\n", r.Incident)
	if r.Due != nil {
		left := "in " + words.Duration(r.Due.Sub(now))
		if now.After(*r.Due) {
			left = "OVERDUE for " + words.Duration(now.Sub(*r.Due))
		}
		wrapped(w, "  due: ", fmt.Sprintf("%s, %s", words.When(*r.Due), left), 4)
	} else if r.Phase != "" {
		wrapped(w, "  now: ", r.Phase, 4)
	}
	if r.Draft != "" {
		fmt.Fprintln(w, "  draft:", r.Draft) // whole, to be copied
	}
	if r.Unknown != "" {
		wrapped(w, "  ! ", r.Unknown, 4)
	}
	fmt.Fprintf(w, "  once it is posted:\n    runbook post-report %s --url URL --by YOU\n", r.Incident)
}
