package workflows

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/battwheels/runbook/activities"
	"github.com/battwheels/runbook/internal/undelete"
)

// UndeleteInput starts Undelete. Every field may be left out.
type UndeleteInput struct {
	Target string `json:"target,omitempty"`
	Backup string `json:"backup,omitempty"` // compare with this one; default all proven ones since From
	Narrowing
	Incident string `json:"incident,omitempty"` // set by the playbook that runs this as its child
	// Newer puts back what is newer than the backup that an incident restored, from the safety dump of that incident, Of; default
	// the newest one that has a safety dump. MergeBack sets it.
	Newer bool   `json:"newer,omitempty"`
	Of    string `json:"of,omitempty"`
}

// UnmarshalJSON refuses unknown fields.
func (in *UndeleteInput) UnmarshalJSON(b []byte) error {
	type plain UndeleteInput
	return decodeStrict(b, (*plain)(in))
}

// The outcomes of an undelete beside those of a restore.
const (
	NothingMissing Outcome = "nothing missing"
	Planned        Outcome = "planned" // a dry run
)

// UndeleteResult is what came of putting documents back.
type UndeleteResult struct {
	Outcome    Outcome          `json:"outcome"`
	Summary    string           `json:"summary"`
	Incident   string           `json:"incident"`
	Target     string           `json:"target"`
	Plan       *activities.Plan `json:"plan,omitempty"` // the approved one, or that of a dry run
	ApprovedBy string           `json:"approvedBy,omitempty"`
	Backups    []string         `json:"backups,omitempty"` // that were compared, newest first
	// From says where what is newer was searched for: Backups is then its safety dump.
	From     *activities.NewerSource `json:"from,omitempty"`
	Missing  int64                   `json:"missing"` // documents that stood in one of them and are absent
	Audited  int64                   `json:"audited"` // of these an audit entry tells
	PutBack  undelete.Outcomes       `json:"putBack"` // Insert came back; the others were left as they stood
	Verified *undelete.Verified      `json:"verified,omitempty"`
	Undone   *undelete.Undone        `json:"undone,omitempty"`
	Folder   string                  `json:"folder,omitempty"` // of the lists of documents
	BackAt   time.Time               `json:"backAt,omitzero"`  // proven to stand there
	Wrote    bool                    `json:"wrote,omitempty"`  // the inserting had begun
	Answers  []Answer                `json:"answers,omitempty"`
	Warnings []string                `json:"warnings,omitempty"`
	Groups   []undelete.Group        `json:"groups,omitempty"` // of a dry run: the largest ones
}

// The steps of an undelete, in the words of the runbook.
const (
	stepAudit    = "Read the audit log"
	stepFind     = "Find what is missing"
	stepNarrow   = "Narrow it down"
	stepUndelete = "Put the documents back"
	stepReadBack = "Read them back"
	stepReview   = "A person looks at it"
	stepTakeBack = "Take them out again"
)

// reviewFor is how long the documents can be taken back by one answer before the incident closes.
const reviewFor = time.Hour

// undeletion is one attempt at putting documents back.
type undeletion struct {
	asking
	in      UndeleteInput
	dry     bool
	attempt activities.Attempt
	stop    workflow.CancelFunc // cancels the work in hand, until the first insert
	since   time.Time
	backups []string
	plan    activities.Plan
	leased  bool
	heeded  bool // an abort after the first insert was asked about
	result  UndeleteResult
}

// Undelete is the body of AccidentalDeletion and MergeBack: it searches, asks and puts back. It runs as restore/TARGET, like every body that
// writes to a target's data, so that two can never work on one target.
func Undelete(ctx workflow.Context, in UndeleteInput) (UndeleteResult, error) {
	if _, err := in.filter(); err != nil {
		return UndeleteResult{}, badInput(err)
	}
	snap, err := loadTarget(ctx, in.Target)
	if err != nil {
		return UndeleteResult{}, err
	}
	in.Target = snap.Target
	if workflow.GetInfo(ctx).WorkflowExecution.ID != RestoreID(snap.Target) {
		var result UndeleteResult
		err := asChild(ctx, snap, RestoreID(snap.Target), Undelete, in, &result)
		return result, err
	}
	u := newUndeletion(ctx, snap, in)
	if err := u.setup(ctx); err != nil {
		return UndeleteResult{}, err
	}
	return u.run(ctx)
}

func newUndeletion(ctx workflow.Context, snap activities.Snapshot, in UndeleteInput) *undeletion {
	incident := cmp.Or(in.Incident, incidentID(ctx))
	return &undeletion{
		in: in, asking: asking{snap: snap, incident: incident, status: Status{Incident: incident, Target: snap.Target}},
		attempt: activities.Attempt{Target: snap.Target, Incident: incident, Run: workflow.GetInfo(ctx).OriginalRunID},
		result:  UndeleteResult{Target: snap.Target, Incident: incident},
	}
}

func (u *undeletion) setup(ctx workflow.Context) error {
	u.fixed = u.in.Newer
	steps := []string{u.first().name, u.second().name, stepNarrow, stepApprove, stepUndelete, stepReadBack, stepReview}
	if u.dry {
		steps = steps[:3]
	}
	for _, name := range steps {
		u.status.Steps = append(u.status.Steps, Step{Name: name, State: Pending})
	}
	err := workflow.SetQueryHandlerWithOptions(ctx, QueryStatus, func() (Status, error) { return u.status, nil },
		workflow.QueryHandlerOptions{Description: "What is done, what runs, and what is asked of people"})
	if err != nil {
		return fmt.Errorf("register query: %w", err)
	}
	hear := func(ctx workflow.Context, door string, a Answer) (string, error) { return u.hear(ctx, door, a) }
	if err := openDoors(ctx, hear); err != nil {
		return err
	}
	serveParent(ctx, hear)
	u.announce(ctx, func() Status { return u.status })
	workflow.GoNamed(ctx, "abort signal", func(ctx workflow.Context) {
		for {
			var a Answer
			if !workflow.GetSignalChannel(ctx, DoorAbort).Receive(ctx, &a) {
				return
			}
			_, _ = u.hear(ctx, DoorAbort, a) // a second abort changes nothing
		}
	})
	return nil
}

// run is the runbook's scenario C, read from top to bottom. Until the first insert, abort and cancellation just end it; from
// then on they lead to a question.
func (u *undeletion) run(ctx workflow.Context) (UndeleteResult, error) {
	before, stop := workflow.WithCancel(ctx)
	u.stop = stop
	workflow.GoNamed(ctx, "abort", func(gctx workflow.Context) {
		if workflow.Await(gctx, func() bool { return u.abort != nil }) == nil && !u.swapped {
			stop()
		}
	})
	ended, err := u.prepare(before)
	after, _ := workflow.NewDisconnectedContext(ctx)
	if err != nil || ended != "" {
		return u.untouched(after, ended, err)
	}
	ended, err = u.putBack(ctx, after)
	if err != nil {
		return u.finish(after, GaveUp, "The undelete failed while it wrote: "+explain(err)), err
	}
	return u.finish(after, ended, ""), nil
}

// prepare reads, searches and asks. An Outcome other than "" means that the undelete is over.
func (u *undeletion) prepare(ctx workflow.Context) (Outcome, error) {
	for {
		other := false
		for _, s := range []searching{u.first(), u.second()} {
			choice, err := u.settle(ctx, s.name, s.do, s.choices...)
			if err != nil || choice == GiveUp {
				return GaveUp, err
			}
			if other = choice == OtherBackup; other {
				u.in.Backup = u.wanted
				break
			}
		}
		if other {
			continue
		}
		if u.result.Missing == 0 {
			return NothingMissing, nil
		}
		again, ended, err := u.narrow(ctx)
		if err != nil || ended != "" {
			return ended, err
		}
		if !again {
			return "", nil
		}
	}
}

// readAudit chooses the backups to compare with, and reads what the audit logs tell of deletions before anything else is done.
// Logs that cannot be read end nothing: the backups are the better evidence.
func (u *undeletion) readAudit(ctx workflow.Context) (string, error) {
	var err error
	if u.since, err = u.in.From.named("since"); err != nil {
		return "", badInput(err)
	}
	var found activities.Comparable
	err = workflow.ExecuteActivity(long(ctx, u.snap.HostQueue, "Choose the proven backups to compare with", longest),
		lost.BackupsToCompare, activities.ComparableInput{Attempt: u.attempt, Since: u.since, Want: u.in.Backup}).Get(ctx, &found)
	if err != nil {
		return "", err
	}
	u.backups = nil
	for _, b := range found.Backups {
		u.backups = append(u.backups, b.ID)
	}
	u.result.Backups = u.backups
	var read activities.DeletionsRead
	options := workflow.GetActivityOptions(long(ctx, u.snap.HostQueue, "Read the audit logs, before anything else", time.Hour))
	few := retries
	few.MaximumAttempts = 3
	options.RetryPolicy = &few
	err = workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), lost.ReadDeletions, u.search()).Get(ctx, &read)
	if err != nil && (ctx.Err() != nil || temporal.IsCanceledError(err)) {
		return "", err
	}
	if err != nil {
		u.warn("The audit logs could not be read: " + explain(err))
		return "could not be read: the backups alone tell what is missing", nil
	}
	for _, name := range sortedKeys(read.Unreadable) {
		u.warn("Audit log " + name + " could not be read: " + read.Unreadable[name])
	}
	note := fmt.Sprintf("%s deletions in %s entries since %s", count(read.Deletions), count(read.Entries), stamp(read.Since))
	for _, by := range read.By[:min(len(read.By), 3)] {
		note += fmt.Sprintf("; %s %s by %s", count(by.Entries), by.Type, cmp.Or(by.User, "nobody that it names"))
	}
	return note, nil
}

func (u *undeletion) search() activities.SearchInput {
	in := activities.SearchInput{Attempt: u.attempt, Backups: u.backups, Since: u.since}
	if from := u.result.From; from != nil {
		in.Without, in.Collections = from.Backup.ID, from.Only
	}
	return in
}

// find compares the backups with the database.
func (u *undeletion) find(ctx workflow.Context) (string, error) {
	var m activities.Missing
	doing := "Compare the backups with the database"
	if u.in.Newer {
		doing = "Search the safety dump for what neither the backup nor the database has"
	}
	err := workflow.ExecuteActivity(long(ctx, u.snap.HostQueue, doing, longest),
		lost.FindMissing, u.search()).Get(ctx, &m)
	if err != nil {
		return "", err
	}
	u.status.Missing = &m
	u.result.Missing, u.result.Audited, u.result.Folder = m.Documents, m.Audited, m.Folder
	if u.dry {
		u.result.Groups = m.Groups
	}
	if whole := forRestore(m, u.snap.Target, u.backups); whole != "" {
		u.warn(whole)
	}
	if left := notSearched(m); u.in.Newer && left != "" {
		u.warn(left)
	}
	if len(m.Unmapped) > 0 {
		u.warn(fmt.Sprintf("Audit entries tell of deletions of %s, and no collection is known for that: name it in deletions.resources. Until then the backups alone tell what is missing there.",
			strings.Join(sortedKeys(m.Unmapped), ", ")))
	}
	if u.in.Newer {
		return fmt.Sprintf("%s documents in %d groups; %s more were made anew since", count(m.Documents), len(m.Groups)+m.More, count(m.Recreated)), nil
	}
	return fmt.Sprintf("%s documents in %d groups, audit entries tell of %s", count(m.Documents), len(m.Groups)+m.More, count(m.Audited)), nil
}

// untouched ends an undelete before its first insert.
func (u *undeletion) untouched(ctx workflow.Context, ended Outcome, cause error) (UndeleteResult, error) {
	summary := ""
	switch {
	case cause != nil && u.abort != nil && temporal.IsCanceledError(cause):
		ended, summary, cause = Aborted, "Aborted by "+u.abort.By+": nothing was changed.", nil
	case cause != nil && temporal.IsCanceledError(cause):
		ended, summary = Aborted, "Cancelled: nothing was changed."
	case cause != nil:
		ended, summary = GaveUp, "Failed, nothing was changed: "+explain(cause)
	}
	return u.finish(ctx, ended, summary), cause
}

// finish records how it ended.
func (u *undeletion) finish(ctx workflow.Context, ended Outcome, summary string) UndeleteResult {
	res := &u.result
	res.Outcome, res.Answers = ended, u.said
	if u.leased {
		u.leased = false
		if err := workflow.ExecuteActivity(quick(ctx, "Give the lease back"), data.ReleaseLease, u.attempt).Get(ctx, nil); err != nil {
			u.warn("The lease was not given back: " + message(err))
		}
	}
	if summary == "" {
		summary = u.summary(ended)
	}
	res.Summary = summary
	u.status.Result, u.status.Phase, u.status.Asked = summary, string(ended), ""
	for i := range u.status.Steps {
		if u.status.Steps[i].State == Pending {
			u.status.Steps[i].State = Skipped
		}
	}
	u.publish(ctx)
	if err := lastWords(ctx); err != nil {
		u.warn("Some answers were not heard to the end: " + message(err))
	}
	res.Warnings = u.warnings
	return *res
}

func (u *undeletion) summary(ended Outcome) string {
	switch ended {
	case Recovered:
		return fmt.Sprintf("%s, while the application went on. Nothing that stood there was changed.", putBackNote(u.result.PutBack))
	case NothingMissing:
		if u.in.Newer {
			return "Nothing to bring back: what is newer in safety dump " + strings.Join(u.backups, ", ") + " is there, was made anew, has expired, or lies aside whole."
		}
		return "Nothing is missing: all that stood in " + strings.Join(u.backups, ", ") + " is there, was made anew, or has expired."
	case Planned:
		return fmt.Sprintf("A dry run: %s of %s missing documents would be put back. Nothing was written.",
			count(u.plan.Undelete.Insert), count(u.result.Missing))
	case Rejected:
		return "Rejected: nothing was changed."
	case RolledBack:
		return fmt.Sprintf("Rolled back: %s of the documents that were put back are out again.", count(u.result.Undone.Removed))
	default:
		if u.result.Wrote {
			return "Given up. What was put back until then stays; it is listed in " + u.result.Folder + "/undo.jsonl."
		}
		return "Given up: nothing was changed."
	}
}

// report tells the report what was put back.
func (r *UndeleteResult) report(d *activities.DraftInput) {
	d.ApprovedBy = r.ApprovedBy
	if r.Outcome == Recovered {
		d.Restored = r.PutBack.Insert
	}
	d.Undelete = &activities.PutBack{Backups: r.Backups, Missing: r.Missing, Audited: r.Audited, Outcomes: r.PutBack, Undone: r.Undone, BackAt: r.BackAt}
	if r.From != nil {
		d.Undelete.Without = r.From.Backup.ID
	}
	if r.Plan != nil {
		d.Plan, d.Undelete.Narrowed = r.Plan.Code, r.Plan.Undelete.Filter
	}
	d.Warnings = append(d.Warnings, r.Warnings...)
	for _, a := range r.Answers {
		d.Answers = append(d.Answers, a.reported())
	}
}

var lost *activities.Undelete

// sortedKeys lists a map's keys so that the order in which the map gives them shows nowhere.
//
//workflowcheck:ignore
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
