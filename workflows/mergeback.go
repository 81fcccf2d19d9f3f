package workflows

import (
	"fmt"
	"strings"

	"go.temporal.io/sdk/workflow"

	"github.com/battwheels/runbook/activities"
)

// MergeBackInput starts MergeBack. Every field may be left out: {} shows all that is newer in the newest safety dump.
type MergeBackInput struct {
	Target       string   `json:"target,omitempty"`
	Incident     string   `json:"incident,omitempty"` // whose safety dump is read; default the newest that has one
	Collections  []string `json:"collections,omitempty"`
	Organization string   `json:"organization,omitempty"` // its id
	DryRun       bool     `json:"dryRun,omitempty"`       // search and plan only: nothing is written, nobody is told
	By           string   `json:"by,omitempty"`           // who started it
	Reason       string   `json:"reason,omitempty"`
}

// UnmarshalJSON refuses unknown fields.
func (in *MergeBackInput) UnmarshalJSON(b []byte) error {
	type plain MergeBackInput
	return decodeStrict(b, (*plain)(in))
}

// The steps of a merge, where they are not an undelete's.
const (
	stepCheckSafety = "Check the safety dump"
	stepFindNewer   = "Find what is newer than the backup"
	stepNoteMerge   = "Note it for the incident's report"
)

// MergeBack brings back what users made between the backup that a restore put back and the application's stop: it stands in that
// incident's safety dump alone. Only documents come back of which neither the backup nor the database has the _id. What was
// changed since the backup does not, because damage is a change, too.
//
// It is an incident of its own, while the application runs, and always asks: the damage may have inserted documents as well,
// and only people can tell these from work. The body is Undelete's.
func MergeBack(ctx workflow.Context, in MergeBackInput) (IncidentResult, error) {
	snap, err := loadTarget(ctx, in.Target)
	if err != nil {
		return IncidentResult{}, err
	}
	in.Target = snap.Target
	body := in.body()
	id := workflow.GetInfo(ctx).WorkflowExecution.ID
	if in.DryRun {
		if id == IncidentID(snap.Target) {
			return IncidentResult{}, badInput(fmt.Errorf("a dry run cannot be %s: an alert would join it, and start nothing; give it another workflow id", id))
		}
		return dryRun(ctx, snap, body)
	}
	if id != IncidentID(snap.Target) {
		var result IncidentResult
		err := asChild(ctx, snap, IncidentID(snap.Target), MergeBack, in, &result)
		return result, err
	}
	d := &deletion{incident: incident{playbook: "MergeBack", snap: snap, cause: in.Reason}}
	d.note = d.noteMerge
	ctx, d.stop = workflow.WithCancel(ctx)
	if err := d.setup(ctx, stepUndelete, stepUndelete, stepNoteMerge, stepTell, stepReport); err != nil {
		return IncidentResult{}, err
	}
	return d.run(ctx, body)
}

func (in MergeBackInput) body() UndeleteInput {
	return UndeleteInput{
		Target: in.Target, Newer: true, Of: in.Incident, Narrowing: Narrowing{Collections: in.Collections, Organization: in.Organization},
	}
}

// searching is one step of the search.
type searching struct {
	name    string
	do      func(workflow.Context) (string, error)
	choices []Choice
}

// first finds out where to search.
func (u *undeletion) first() searching {
	if u.in.Newer {
		return searching{stepCheckSafety, u.checkSafety, []Choice{Retry, GiveUp}}
	}
	return searching{stepAudit, u.readAudit, []Choice{Retry, OtherBackup, GiveUp}}
}

// second searches.
func (u *undeletion) second() searching {
	s := searching{stepFind, u.find, u.first().choices}
	if u.in.Newer {
		s.name = stepFindNewer
	}
	return s
}

// checkSafety finds the safety dump and the backup, and reads the dump to its end.
func (u *undeletion) checkSafety(ctx workflow.Context) (string, error) {
	var from activities.NewerSource
	err := workflow.ExecuteActivity(long(ctx, u.snap.HostQueue, "Find the incident's safety dump, and check every byte of it", longest),
		lost.CheckSafetyDump, activities.NewerInput{Attempt: u.attempt, Of: u.in.Of}).Get(ctx, &from)
	if err != nil {
		return "", err
	}
	u.result.From = &from
	u.backups = []string{from.Safety.ID}
	u.result.Backups = u.backups
	if from.Safety.Unreadable > 0 {
		u.warn(fmt.Sprintf("%d places of the database could not be read when %s was made: what stood there cannot come back.", from.Safety.Unreadable, from.Safety.ID))
	}
	return fmt.Sprintf("%s of %s, %s documents; backup %s was restored", from.Safety.ID, stamp(from.Safety.Time), count(from.Safety.Documents), from.Backup.ID), nil
}

// notSearched names the collections of which nothing can come back in this way; empty where there are none.
func notSearched(m activities.Missing) string {
	names := sortedKeys(m.Skipped)
	if len(names) == 0 {
		return ""
	}
	const few = 5
	var parts []string
	for _, name := range names[:min(len(names), few)] {
		parts = append(parts, name+" ("+m.Skipped[name]+")")
	}
	if more := len(names) - few; more > 0 {
		parts = append(parts, fmt.Sprintf("%d more", more))
	}
	return "Not searched: " + strings.Join(parts, ", ") + "."
}

// noteMerge lets the report of the incident in which the documents were lost tell that they came back, where it is still open.
// Else this one gets a report of its own.
func (d *deletion) noteMerge(ctx workflow.Context) {
	u, info := d.result.Undelete, workflow.GetInfo(ctx).WorkflowExecution
	if !u.Wrote {
		d.end(ctx, stepNoteMerge, Skipped, "nothing was changed")
		return
	}
	d.begin(ctx, stepNoteMerge)
	in := activities.MergedBack{
		Target: d.snap.Target, Incident: d.id, Of: u.From.Of, Report: ReportID(u.From.Of), Outcome: string(u.Outcome), Summary: u.Summary,
		Safety: u.From.Safety.ID, Plan: u.Plan.Code, ApprovedBy: u.ApprovedBy, Narrowed: u.Plan.Undelete.Filter, PutBack: u.PutBack, Undone: u.Undone,
		Histories: []activities.Execution{{WorkflowID: info.ID, RunID: info.RunID}, {WorkflowID: RestoreID(d.snap.Target), RunID: d.runID}},
		At:        workflow.Now(ctx).UTC(),
	}
	var open bool
	err := workflow.ExecuteActivity(onHost(ctx, d.snap.HostQueue, "Note it for the report of incident "+in.Of), records.NoteMergedBack, in).Get(ctx, &open)
	switch {
	case err != nil:
		d.warn("The report of incident " + in.Of + " will not tell of this: " + explain(err))
		d.end(ctx, stepNoteMerge, Failed, explain(err))
	case open:
		d.reportedIn = in.Of
		d.end(ctx, stepNoteMerge, Done, "it will be in the report of incident "+in.Of)
	default:
		d.end(ctx, stepNoteMerge, Done, "the report of incident "+in.Of+" is not open any more")
	}
}

// newer says what users made after the backup, and how it can come back; empty where that is nothing.
func (r *RestoreResult) newer() string {
	if r.Newer == nil || r.Newer.Documents == 0 {
		return ""
	}
	return fmt.Sprintf(" %s documents are newer than the backup and stand in safety dump %s alone; to look at them and bring them back: runbook merge-back %s --incident %s",
		count(r.Newer.Documents), r.SafetyDump, r.Target, r.Incident)
}
