package activities

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/catalog"
	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/internal/restore"
	"github.com/battwheels/runbook/internal/undelete"
)

// Undelete finds what somebody deleted by mistake and puts it back, beside the application that goes on. Only
// UndeleteDocuments and UndoUndelete write to the database: the one inserts, the other takes back what was inserted and is
// unchanged. Neither needs a dump first, because nothing that stands there is replaced; the undo file in the incident's
// folder is on disk before the server hears of an insert.
type Undelete struct{ Base }

// ComparableInput asks for the backups that are compared with the database.
type ComparableInput struct {
	Attempt
	Since time.Time `json:"since,omitzero"` // when the deleting began, at the earliest
	Want  string    `json:"want,omitempty"` // the one that a person named
}

// Comparable is the backups to compare with, newest first.
type Comparable struct {
	Backups []BackupRef `json:"backups"`
}

// SearchInput names the backups to compare with, newest first.
type SearchInput struct {
	Attempt
	Backups []string  `json:"backups"`
	Since   time.Time `json:"since,omitzero"` // of ReadDeletions: older entries are passed over
	// Without is the backup that was restored, where Backups is the safety dump that was taken before: only what is newer than
	// it is searched for. Attempt.Collections are then those that were restored.
	Without string `json:"without,omitempty"`
}

// DeletionsRead is what the audit logs tell of deletions. The entries themselves lie in the incident's folder.
type DeletionsRead struct {
	Since     time.Time            `json:"since"`
	Entries   int64                `json:"entries"`
	Deletions int64                `json:"deletions"`
	Undated   int64                `json:"undated,omitempty"`
	By        []undelete.DeletedBy `json:"by,omitempty"` // who deleted most, by the users' ids
	// Unreadable names the logs that could not be read, with the reason.
	Unreadable map[string]string `json:"unreadable,omitempty"`
}

// Missing is what stood in a backup and is absent now, as a table for people. The documents lie in the incident's folder.
type Missing struct {
	Documents int64             `json:"documents"`
	Bytes     int64             `json:"bytes"`
	Audited   int64             `json:"audited"` // an audit entry tells of their deletion
	Recreated int64             `json:"recreated,omitempty"`
	Expired   int64             `json:"expired,omitempty"`
	Lost      int64             `json:"lost,omitempty"` // made and deleted since the newest backup, and kept nowhere
	Groups    []undelete.Group  `json:"groups,omitempty"`
	More      int               `json:"more,omitempty"` // groups beyond the table
	Gone      []string          `json:"gone,omitempty"`
	TooMany   []string          `json:"tooMany,omitempty"`
	Skipped   map[string]string `json:"skipped,omitempty"`
	Unmapped  map[string]int64  `json:"unmapped,omitempty"` // deletions by resource types that belong to no known collection
	Folder    string            `json:"folder"`             // where the lists lie
	Without   string            `json:"without,omitempty"`  // of SearchInput: what is listed is newer than this backup
}

// PlanUndeleteInput says which of the missing documents are to come back.
type PlanUndeleteInput struct {
	SearchInput
	Filter undelete.Filter `json:"filter"`
}

// UndeletePlan is the part of a plan that puts single documents back.
type UndeletePlan struct {
	Selection  string   `json:"selection"` // digest of the documents that were selected
	Documents  int64    `json:"documents"` // that were selected; Insert and the others below add up to it
	Dependants int64    `json:"dependants,omitempty"`
	Earlier    int64    `json:"earlier,omitempty"` // dependants left out because they vanished earlier
	Snapshots  int64    `json:"snapshots,omitempty"`
	Tenants    int      `json:"tenants,omitempty"`
	Backups    []string `json:"backups"`           // that were compared
	Without    string   `json:"without,omitempty"` // of SearchInput: what comes back is newer than this backup
	Filter     string   `json:"filter"`            // how it was narrowed, in words
	undelete.Outcomes
	Collections []undelete.Previewed `json:"collections,omitempty"`
	// Of what is newer, some of each of Collections, and those organizations that have most of it.
	Samples           []undelete.Sample         `json:"samples,omitempty"`
	Organizations     []undelete.InOrganization `json:"organizations,omitempty"`
	MoreOrganizations int                       `json:"moreOrganizations,omitempty"`
	Gone              []string                  `json:"gone,omitempty"`
	Related           undelete.Related          `json:"related"`
	Behind            int                       `json:"behind,omitempty"` // counters that stand below a number in use
	Lost              int64                     `json:"lost,omitempty"`
	File              string                    `json:"file"` // the documents by their _id, each with what would become of it
}

// SelectedInput names the selection that was approved, by its digest.
type SelectedInput struct {
	SearchInput
	Selection string `json:"selection"`
}

// BackupsToCompare lists proven backups: those that are newer than the deletion, and the newest one from before it, from
// which the documents will come. That one is checked, or fetched from offsite, where it was not yet.
func (a *Undelete) BackupsToCompare(ctx context.Context, in ComparableInput) (Comparable, error) {
	report, stop := beat(ctx)
	defer stop()
	c := a.catalog(in.Target)
	entries, err := c.List(ctx)
	if err != nil {
		return Comparable{}, err
	}
	choice, err := c.Choose(entries, in.Since, in.Want)
	if err != nil {
		return Comparable{}, typed(ctx, err)
	}
	from := choice.Entry
	if in.Want != "" || !from.Proven() || from.Origin == catalog.Offsite {
		if from, _, err = c.Verify(ctx, from.ID, report); err != nil {
			return Comparable{}, typed(ctx, err)
		}
		if in.Want != "" {
			return Comparable{Backups: []BackupRef{refOfEntry(from)}}, nil
		}
		if entries, err = c.List(ctx); err != nil {
			return Comparable{}, err
		}
	}
	oldest := from.Time
	if in.Since.IsZero() {
		oldest = time.Time{}
	}
	var out Comparable
	for _, e := range entries {
		if !e.Proven() || e.Origin == catalog.Offsite || e.Time.Before(oldest) {
			continue
		}
		out.Backups = append(out.Backups, refOfEntry(e))
		if in.Since.IsZero() && len(out.Backups) == mostCompared {
			break
		}
	}
	if over := len(out.Backups) - mostCompared; over > 0 {
		// The oldest is the one from before; between it and the newest ones the window of a group grows wider.
		out.Backups = append(out.Backups[:mostCompared-1], out.Backups[len(out.Backups)-1])
	}
	return out, nil
}

// mostCompared bounds how many backups are read.
const mostCompared = 12

// ReadDeletions reads the audit logs before anything else is done.
func (a *Undelete) ReadDeletions(ctx context.Context, in SearchInput) (DeletionsRead, error) {
	j, t, stop, err := a.job(ctx, in)
	if err != nil {
		return DeletionsRead{}, err
	}
	defer stop()
	r, err := j.ReadAudit(ctx, t.AuditLogs, in.Since)
	if err != nil {
		return DeletionsRead{}, typed(ctx, err)
	}
	return DeletionsRead{
		Since: r.Since, Entries: r.Entries, Deletions: r.Deletions, Undated: r.Undated, By: r.By[:min(len(r.By), shown)], Unreadable: r.Unreadable,
	}, nil
}

// FindMissing compares the backups with the database, and joins what is absent with what the audit logs told.
func (a *Undelete) FindMissing(ctx context.Context, in SearchInput) (Missing, error) {
	j, _, stop, err := a.job(ctx, in)
	if err != nil {
		return Missing{}, err
	}
	defer stop()
	o, err := a.findOptions(ctx, in)
	if err != nil {
		return Missing{}, err
	}
	f, err := j.Find(ctx, o)
	if err != nil {
		return Missing{}, typed(ctx, err)
	}
	x, err := j.Explain(ctx)
	if err != nil {
		return Missing{}, typed(ctx, err)
	}
	groups := x.Groups.Largest[:min(len(x.Groups.Largest), mostGroups)]
	for i := range groups {
		groups[i].Organization = shortName(groups[i].Organization)
	}
	return Missing{
		Documents: x.Documents, Bytes: x.Bytes, Audited: x.Audited, Recreated: f.Recreated, Expired: f.Expired, Lost: x.Lost,
		Groups: groups, More: x.Groups.More + len(x.Groups.Largest) - len(groups),
		Gone: f.Gone, TooMany: f.TooMany, Skipped: f.Skipped, Unmapped: x.Unmapped, Folder: j.Dir, Without: in.Without,
	}, nil
}

// mostGroups is as many lines as go to the history; groups.json has them all.
const mostGroups = 20

// PlanUndelete narrows what is missing, and looks at what putting that back would change. Nothing is written to the database.
func (a *Undelete) PlanUndelete(ctx context.Context, in PlanUndeleteInput) (Plan, error) {
	j, t, stop, err := a.job(ctx, in.SearchInput)
	if err != nil {
		return Plan{}, err
	}
	defer stop()
	s, err := j.Select(ctx, undelete.ExplainedFile, in.Filter)
	if err != nil {
		return Plan{}, typed(ctx, err)
	}
	v, err := j.Preview(ctx, s.Digest)
	if err != nil {
		return Plan{}, typed(ctx, err)
	}
	u := &UndeletePlan{
		Selection: s.Digest, Documents: s.Documents, Dependants: s.Dependants, Earlier: s.Earlier, Snapshots: s.Snapshots, Tenants: s.Organizations,
		Backups: in.Backups, Without: in.Without, Filter: inWords(in.Filter), Outcomes: v.Total, Gone: v.Gone, Related: v.Related, Lost: v.Lost,
		File: filepath.Join(j.Dir, v.File),
	}
	u.Collections = slices.SortedFunc(slices.Values(v.Collections), func(x, y undelete.Previewed) int {
		return cmp.Or(cmp.Compare(y.Insert, x.Insert), cmp.Compare(x.Collection, y.Collection))
	})
	u.Collections = u.Collections[:min(len(u.Collections), shown)]
	if in.Without != "" {
		look, err := j.Look(u.Collections)
		if err != nil {
			return Plan{}, typed(ctx, err)
		}
		u.Samples, u.Organizations = look.Samples, look.Organizations[:min(len(look.Organizations), shown)]
		u.MoreOrganizations = len(look.Organizations) - len(u.Organizations)
	}
	for _, c := range v.Counters {
		u.Behind += count(c.Behind)
	}
	p := Plan{Target: in.Target, Incident: in.Incident, Undelete: u, RadiusKnown: true, TenantsHit: s.Organizations, DrawnAt: time.Now().UTC()}
	p.Radius.Missing = v.Total.Insert
	p.Warnings = u.warnings(v.NewIDs)
	p.Code = codeOf(in.Target, s.Digest, fmt.Sprint(v.Total), t.Database.Name)
	folder, err := a.folder(in.Target, in.Incident)
	if err != nil {
		return Plan{}, err
	}
	return p, folder.PutJSON("plan-"+p.Code+".json", p)
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

// warnings are what a person should know before they approve.
func (u *UndeletePlan) warnings(newIDs int64) []string {
	var all []string
	say := func(really bool, format string, args ...any) {
		if really {
			all = append(all, fmt.Sprintf(format, args...))
		}
	}
	say(len(u.Gone) > 0, "Not in the database any more: %s. Narrow them away, or restore these collections whole first.", strings.Join(u.Gone, ", "))
	say(u.Related.Changed > 0, "%d documents to which these refer have changed since (balances, for instance): the application does not work them out anew by itself.", u.Related.Changed)
	say(u.Related.Gone > 0, "%d documents to which these refer are absent, and not selected.", u.Related.Gone)
	say(u.Behind > 0, "%d counters stand below a number in use: raise them in the application.", u.Behind)
	say(u.Earlier > 0, `%d dependants vanished earlier than what they depend on, and stay out; narrow with "earlier": true to take them along.`, u.Earlier)
	say(newIDs > 0, "%d documents come from an audit entry that does not hold their _id, and get a new one.", newIDs)
	say(u.Lost > 0, "%d deleted documents stand in no backup and in no audit entry: they are lost.", u.Lost)
	return all
}

// inWords says how a selection was narrowed. Long lists are counted.
func inWords(f undelete.Filter) string {
	var parts []string
	list := func(name string, values []string) {
		switch n := len(values); {
		case n > 5:
			parts = append(parts, fmt.Sprintf("%s: %d of them", name, n))
		case n > 0:
			parts = append(parts, name+": "+strings.Join(values, ", "))
		}
	}
	list("collections", f.Collections)
	list("organizations", f.Organizations)
	if !f.From.IsZero() {
		parts = append(parts, "deleted from "+f.From.UTC().Format(time.RFC3339))
	}
	if !f.To.IsZero() {
		parts = append(parts, "deleted until "+f.To.UTC().Format(time.RFC3339))
	}
	list("ids", f.IDs)
	list("deleted by", f.By)
	if f.Alone {
		parts = append(parts, "without dependants")
	}
	if f.Earlier {
		parts = append(parts, "with dependants that vanished earlier")
	}
	return strings.Join(parts, "; ")
}

// UndeleteDocuments inserts the selected documents that are still absent. It never changes one that is there.
func (a *Undelete) UndeleteDocuments(ctx context.Context, in SelectedInput) (undelete.Undeleted, error) {
	return selected(ctx, a, in, undelete.Job.Undelete)
}

// VerifyUndelete reads every selected document back, and compares what was inserted with what was approved.
func (a *Undelete) VerifyUndelete(ctx context.Context, in SelectedInput) (undelete.Verified, error) {
	return selected(ctx, a, in, undelete.Job.Verify)
}

// UndoUndelete takes back exactly what was inserted, where it still is what was inserted.
func (a *Undelete) UndoUndelete(ctx context.Context, in SelectedInput) (undelete.Undone, error) {
	return selected(ctx, a, in, func(j undelete.Job, ctx context.Context, _ string) (undelete.Undone, error) { return j.Undo(ctx) })
}

func selected[T any](ctx context.Context, a *Undelete, in SelectedInput, do func(undelete.Job, context.Context, string) (T, error)) (T, error) {
	j, _, stop, err := a.job(ctx, in.SearchInput)
	if err != nil {
		var none T
		return none, err
	}
	defer stop()
	out, err := do(j, ctx, in.Selection)
	return out, typed(ctx, err)
}

// job makes the engine's job anew for each step: what the steps tell each other lies in the incident's folder. Writes are
// fenced by the lease.
func (a *Undelete) job(ctx context.Context, in SearchInput) (undelete.Job, config.Target, func(), error) {
	t, err := a.target(in.Target)
	if err != nil {
		return undelete.Job{}, t, nil, err
	}
	db, err := a.Databases(in.Target)
	if err != nil {
		return undelete.Job{}, t, nil, err
	}
	folder, err := a.folder(in.Target, in.Incident)
	if err != nil {
		return undelete.Job{}, t, nil, err
	}
	var sources []backup.Source
	c := a.catalog(in.Target)
	for _, id := range in.Backups {
		s, err := c.Source(ctx, id)
		if err != nil {
			return undelete.Job{}, t, nil, typed(ctx, err)
		}
		sources = append(sources, s)
	}
	lease := restore.Held(db, restore.Holder{Owner: restore.RestoreOwner + in.Target, Run: in.Run}, in.Token)
	report, stop := beat(ctx)
	return undelete.Job{
		DB: db, Sources: sources, Rules: t.Deletions, Tenant: t.Tenants.Field, Dir: filepath.Join(folder.Dir, undeleteDir),
		Fence: lease.Check, Parallel: t.Backup.Parallel, Progress: report,
	}, t, stop, nil
}

// undeleteDir is the undelete's own folder in the incident's.
const undeleteDir = "undelete"
