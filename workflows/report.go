package workflows

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/battwheels/runbook/activities"
)

// ReportInput starts IncidentReport; the playbook fills it in.
type ReportInput struct {
	Target     string          `json:"target"`
	Incident   string          `json:"incident"`
	Playbook   string          `json:"playbook,omitempty"`
	DetectedAt time.Time       `json:"detectedAt"`
	Since      time.Time       `json:"since,omitzero"` // when the damage began, where that is known
	Result     *IncidentResult `json:"result,omitempty"`
	Parent     string          `json:"parent"` // the playbook's workflow id
	ParentRun  string          `json:"parentRun"`
	ChildRun   string          `json:"childRun,omitempty"` // of restore/TARGET
	Host       string          `json:"host,omitempty"`     // queue of the host that has the incident's folder
}

// UnmarshalJSON refuses unknown fields.
func (in *ReportInput) UnmarshalJSON(b []byte) error {
	type plain ReportInput
	return decodeStrict(b, (*plain)(in))
}

// Posting closes a report: where it was posted, and by whom.
type Posting struct {
	URL string    `json:"url"`
	By  string    `json:"by"`
	At  time.Time `json:"at,omitzero"` // filled in by the playbook
}

// UnmarshalJSON refuses unknown fields.
func (p *Posting) UnmarshalJSON(b []byte) error {
	type plain Posting
	return decodeStrict(b, (*plain)(p))
}

func (p Posting) validate() error {
	u, err := url.Parse(p.URL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return fmt.Errorf(`post-report needs "url": the address where the report can be read, like https://status.example.com/incidents/7`)
	}
	if strings.TrimSpace(p.By) == "" {
		return fmt.Errorf(`post-report needs "by": your name; it stands in the report`)
	}
	return nil
}

// ReportResult is how a report ended.
type ReportResult struct {
	Summary  string           `json:"summary"`
	Posting  Posting          `json:"posting"`
	Late     bool             `json:"late"` // posted after its time had passed
	Markdown string           `json:"markdown"`
	HTML     string           `json:"html"`
	Files    activities.Draft `json:"files"`
	// FollowUps are the corrections and the like that went out from here.
	FollowUps []activities.FollowUpSaid `json:"followUps,omitempty"`
	Warnings  []string                  `json:"warnings,omitempty"`
}

// reminders are how long before the end of a report's time the people on call are reminded.
var reminders = []time.Duration{24 * time.Hour, 12 * time.Hour, 4 * time.Hour, time.Hour, 0}

// IncidentReport drafts the report of an incident and stays open until it is posted. It reminds while time runs out, and
// escalates when it has.
func IncidentReport(ctx workflow.Context, in ReportInput) (ReportResult, error) {
	var res ReportResult
	snap, err := loadTarget(ctx, in.Target)
	if err != nil {
		return res, err
	}
	if in.Host != "" {
		snap.HostQueue = in.Host
	}
	deadline := in.DetectedAt.Add(snap.ReportWithin)
	status := Status{Target: snap.Target, Incident: in.Incident}
	var posted *Posting
	later := &followUps{ready: true, snap: snap, incident: in.Incident, status: &status}
	asked := "" // to post it
	shown := func() Status {
		s := status
		if s.Asked = later.asks() + asked; s.Asked != "" {
			s.Asked = strings.TrimSpace(s.Asked)
		}
		return s
	}
	show := func() { publish(ctx, shown(), snap.SearchAttributes) }
	err = workflow.SetUpdateHandlerWithOptions(ctx, DoorPostReport, func(ctx workflow.Context, p Posting) (string, error) {
		p.At = workflow.Now(ctx).UTC()
		if posted == nil {
			posted = &p
		}
		return "posted at " + posted.URL, nil
	}, workflow.UpdateHandlerOptions{
		Description: `The report has been posted: {"url":"https://…","by":"your name"}`,
		Validator:   func(p Posting) error { return p.validate() },
	})
	if err != nil {
		return res, fmt.Errorf("register update %s: %w", DoorPostReport, err)
	}
	err = workflow.SetQueryHandlerWithOptions(ctx, QueryStatus, func() (Status, error) { return shown(), nil }, workflow.QueryHandlerOptions{})
	if err != nil {
		return res, fmt.Errorf("register query: %w", err)
	}

	drafting := false
	draft := func(ctx workflow.Context) error {
		if err := workflow.Await(ctx, func() bool { return !drafting }); err != nil {
			return err
		}
		drafting = true
		defer func() { drafting = false }()
		status.begin("Draft the report")
		show()
		err := workflow.ExecuteActivity(long(ctx, snap.HostQueue, "Draft the report from the history", 10*time.Minute),
			records.DraftReport, in.draft(ctx, snap, posted, later)).Get(ctx, &res.Files)
		if err != nil {
			status.end("Draft the report", Failed, explain(err))
			return err
		}
		status.end("Draft the report", Done, res.Files.Markdown)
		return nil
	}
	later.changed, later.progress = show, func() { showOnly(ctx, shown()) }
	later.redraft = func(ctx workflow.Context) error {
		phase := status.Phase
		err := draft(ctx)
		status.Phase = phase
		show()
		return err
	}
	later.closed = func() string {
		if posted != nil {
			return "the report is posted, and this incident closed"
		}
		return ""
	}
	if err := later.open(ctx); err != nil {
		return res, err
	}
	if err := draft(ctx); err != nil {
		return res, err
	}
	status.begin("Post it")
	status.Due, status.Draft = &deadline, res.Files.HTML
	asked = fmt.Sprintf("Post the report before %s, then send the Update `post-report` with `{\"url\":\"https://…\",\"by\":\"your name\"}`, or run\n`runbook post-report %s --url URL --by YOU`\n\nThe draft: `%s`",
		stamp(deadline), in.Incident, res.Files.HTML)
	show()
	for _, left := range reminders {
		wait := deadline.Add(-left).Sub(workflow.Now(ctx))
		if wait <= 0 && left > 0 {
			continue
		}
		ok, err := workflow.AwaitWithTimeout(ctx, max(wait, 0), func() bool { return posted != nil })
		if err != nil {
			return res, err
		}
		if ok {
			break
		}
		kind := activities.MailRemind
		if left == 0 {
			kind, res.Late = activities.MailOverdue, true
		}
		err = workflow.ExecuteActivity(patient(ctx, snap.HostQueue, "Remind the people on call: the report is due"), mails.TellPeople,
			activities.TellInput{
				Target: snap.Target, Incident: in.Incident, Kind: kind, Key: fmt.Sprintf("%s-report-%d", in.Incident, int(left.Hours())),
				Deadline: deadline, Left: left, Draft: res.Files.HTML, WorkflowID: workflow.GetInfo(ctx).WorkflowExecution.ID,
			}).Get(ctx, nil)
		if err != nil {
			workflow.GetLogger(ctx).Warn("reminder not sent", "error", err)
		}
	}
	if err := workflow.Await(ctx, func() bool { return posted != nil }); err != nil {
		return res, err
	}
	res.Posting = *posted
	asked, status.Due, status.Draft = "", nil, ""
	// What was approved goes out; what waits for approval is dropped.
	if err := workflow.Await(ctx, later.idle); err != nil {
		return res, err
	}
	later.waits = nil
	res.FollowUps, res.Warnings = later.sent, later.warnings
	status.end("Post it", Done, posted.URL)
	if err := draft(ctx); err != nil {
		return res, err
	}
	res.Markdown, res.HTML = res.Files.Markdown, res.Files.HTML
	res.Summary = fmt.Sprintf("Posted by %s at %s.", posted.By, posted.URL)
	status.Result, status.Phase = res.Summary, "posted"
	show()
	if err := lastWords(ctx); err != nil {
		return res, err
	}
	return res, nil
}

// draft is what the drafting step is told: it reads the rest from the histories.
func (in ReportInput) draft(ctx workflow.Context, snap activities.Snapshot, posted *Posting, later *followUps) activities.DraftInput {
	d := activities.DraftInput{
		Target: in.Target, Incident: in.Incident, Playbook: in.Playbook, DetectedAt: in.DetectedAt, RPO: snap.RPO, RTO: snap.RTO,
		Database: snap.Database, Since: in.Since, Due: in.DetectedAt.Add(snap.ReportWithin),
		Histories: []activities.Execution{{WorkflowID: in.Parent, RunID: in.ParentRun}},
	}
	if in.ChildRun != "" {
		d.Histories = append(d.Histories, activities.Execution{WorkflowID: RestoreID(in.Target), RunID: in.ChildRun})
	}
	if len(later.said) > 0 {
		own := workflow.GetInfo(ctx).WorkflowExecution
		d.Histories = append(d.Histories, activities.Execution{WorkflowID: own.ID, RunID: own.RunID})
		d.FollowUps = later.sent
		for _, a := range later.said {
			d.Answers = append(d.Answers, a.reported())
		}
	}
	if posted != nil {
		d.PostedURL, d.PostedBy, d.PostedAt = posted.URL, posted.By, posted.At
	}
	r := in.Result
	if r == nil {
		return d
	}
	d.Outcome, d.Summary = string(r.Outcome), r.Summary
	if u := r.Undelete; u != nil {
		u.report(&d)
	}
	if r.Undelete == nil {
		d.Plan, d.ApprovedBy = r.Restore.Plan, r.Restore.ApprovedBy
	}
	d.Backup, d.SafetyDump, d.EmergencyDump = r.Restore.Backup, r.Restore.SafetyDump, r.EmergencyDump
	d.StoppedAt, d.HealthyAt = r.Restore.StoppedAt, r.Restore.HealthyAt
	d.Restored, d.Lost, d.AuditMerged = r.Restore.DocumentsRestored, r.Restore.DocumentsLost, r.Restore.AuditMerged
	d.Newer = r.Restore.Newer
	d.KeyCounts, d.GoneAt = r.Restore.KeyCounts, r.GoneAt
	d.Organizations, d.MailsSent, d.MailsUndeliverable, d.MailsUnknown = r.OrganizationsActive, r.MailsSent, r.MailsUndeliverable, r.MailsUnknown
	d.Warnings = append(append(d.Warnings, r.Restore.Warnings...), r.Warnings...)
	for _, a := range slices.Concat(r.Answers, r.Restore.Answers) {
		d.Answers = append(d.Answers, a.reported())
	}
	return d
}

func (a Answer) reported() activities.Answer {
	return activities.Answer{At: a.At, Door: a.Door, By: a.By, Reason: a.Reason, Denied: a.Denied}
}
