package activities

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/catalog"
	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/internal/restore"
	"github.com/battwheels/runbook/internal/undelete"
)

// Newer counts what a restore leaves in the safety dump alone. Audit logs, whose newer entries the restore itself keeps, and
// collections whose documents come and go by themselves are not in it.
type Newer struct {
	Documents int64 `json:"documents"` // that the safety dump has and the backup lacks
	Changed   int64 `json:"changed"`   // that both have, and that differ: by work or by the damage. They are not merged back
	// Collections and Organizations are the ones with most; the incident's folder has them all, in the file radius-DUMP.json.
	Collections       []NewerOf `json:"collections,omitempty"`
	MoreCollections   int       `json:"moreCollections,omitempty"`
	Organizations     []NewerOf `json:"organizations,omitempty"`
	MoreOrganizations int       `json:"moreOrganizations,omitempty"`
	// Aside are collections that the backup does not have at all, and so were set aside whole; Documents does not count them.
	Aside     []NewerOf `json:"aside,omitempty"`
	MoreAside int       `json:"moreAside,omitempty"`
}

// NewerOf is what is newer in one collection or organization.
type NewerOf struct {
	Name      string `json:"name"`
	Documents int64  `json:"documents"`
	Changed   int64  `json:"changed,omitempty"`
}

// newerIn counts what is newer in a dump of the database than in the backup with which it was compared.
func newerIn(t config.Target, live *backup.Manifest, d backup.Diff) *Newer {
	var n Newer
	organizations := map[string]NewerOf{}
	for name, c := range d.Collections {
		of := NewerOf{name, c.Added, c.Changed}
		switch {
		case live.Collection(name) == nil || live.Collection(name).Type != backup.TypeCollection: // a restore leaves time series alone
			continue
		case of.Documents+of.Changed == 0 || slices.Contains(t.Deletions.Volatile, name) || slices.ContainsFunc(t.AuditLogs, func(l config.AuditLog) bool { return l.Collection == name }):
			continue
		case slices.Contains(d.NewCollections, name):
			n.Aside = append(n.Aside, of)
			continue
		}
		n.Documents, n.Changed = n.Documents+of.Documents, n.Changed+of.Changed
		n.Collections = append(n.Collections, of)
		for organization, c := range d.TenantsIn[name] {
			o := organizations[organization]
			organizations[organization] = NewerOf{organization, o.Documents + c.Added, o.Changed + c.Changed}
		}
	}
	for _, o := range organizations {
		if o.Documents+o.Changed > 0 {
			n.Organizations = append(n.Organizations, o)
		}
	}
	if len(n.Collections)+len(n.Aside) == 0 {
		return nil
	}
	n.Collections, n.MoreCollections = largest(n.Collections)
	n.Organizations, n.MoreOrganizations = largest(n.Organizations)
	n.Aside, n.MoreAside = largest(n.Aside)
	return &n
}

// largest keeps the first few, those with most documents, and counts the others.
func largest(all []NewerOf) (few []NewerOf, more int) {
	slices.SortFunc(all, func(x, y NewerOf) int {
		return cmp.Or(cmp.Compare(y.Documents, x.Documents), cmp.Compare(y.Changed, x.Changed), cmp.Compare(x.Name, y.Name))
	})
	few = all[:min(len(all), shown)]
	for i := range few {
		few[i].Name = shortName(few[i].Name)
	}
	return few, len(all) - len(few)
}

// mostNamed bounds a name that goes to the history, in runes: what damage has written may be long.
const mostNamed = 120

func shortName(name string) string {
	if runes := []rune(name); len(runes) > mostNamed {
		return string(runes[:mostNamed]) + "…"
	}
	return name
}

// NewerInput names the incident whose safety dump is read; empty means the newest one that has any.
type NewerInput struct {
	Attempt
	Of string `json:"of,omitempty"`
}

// NewerSource is where what is newer is searched for.
type NewerSource struct {
	Of     string    `json:"of"`     // the incident
	Safety BackupRef `json:"safety"` // checked byte for byte
	Backup BackupRef `json:"backup"` // that was restored in it
	Only   []string  `json:"only,omitempty"`
}

// CheckSafetyDump finds the final safety dump of an incident and the backup that was restored in it, and reads the dump to
// its end: what it gives must be what was written then. A copy of it that is left offsite only is fetched.
func (a *Undelete) CheckSafetyDump(ctx context.Context, in NewerInput) (NewerSource, error) {
	report, stop := beat(ctx)
	defer stop()
	c := a.catalog(in.Target)
	entries, err := c.List(ctx)
	if err != nil {
		return NewerSource{}, err
	}
	// A restore that was rejected, or rolled back, has lost nothing: what is absent then, somebody deleted.
	swaps, err := restore.StandingSwaps(filepath.Join(a.Config.Storage.Dir, "incidents", in.Target))
	if err != nil {
		return NewerSource{}, err
	}
	stands := func(incident string) bool {
		return slices.ContainsFunc(swaps, func(s restore.Standing) bool { return s.Incident == incident && !s.Half })
	}
	i := slices.IndexFunc(entries, func(e catalog.Entry) bool {
		return e.Kind == backup.Safety && (in.Of == "" || e.DuringIncident == in.Of) && e.State != catalog.Incomplete && stands(e.DuringIncident)
	})
	if i < 0 && in.Of == "" {
		return NewerSource{}, badInput(fmt.Errorf("no incident of %s has a safety dump of a restore that stands on this host: there is nothing from which newer documents could come", in.Target))
	}
	if i < 0 {
		return NewerSource{}, badInput(fmt.Errorf(
			`incident %s of %s has no safety dump of a restore that stands on this host: "runbook backups list %s" shows the dumps that there are`, in.Of, in.Target, in.Target))
	}
	out := NewerSource{Of: entries[i].DuringIncident}
	restored, err := a.restoredIn(in.Target, out.Of, entries[i].Name)
	if err != nil {
		return NewerSource{}, err
	}
	e, source, err := c.Verify(ctx, entries[i].ID, report)
	if err != nil {
		return NewerSource{}, typed(ctx, err)
	}
	from, err := c.Source(ctx, restored.Backup.ID)
	if err != nil {
		return NewerSource{}, typed(ctx, err)
	}
	out.Safety, out.Backup, out.Only = refOf(source.Manifest), refOf(from.Manifest), restored.Only
	out.Safety.ID, out.Safety.State, out.Backup.ID = e.ID, string(e.State), restored.Backup.ID
	return out, nil
}

// restoredIn returns the plan that was counted against a safety dump: it names what was restored then.
func (b *Base) restoredIn(target, incident, safety string) (Plan, error) {
	paths, err := filepath.Glob(filepath.Join(b.Config.Storage.Dir, "incidents", target, incident, "plan-*.json"))
	if err != nil {
		return Plan{}, err
	}
	folder, err := b.folder(target, incident)
	if err != nil {
		return Plan{}, badInput(err)
	}
	for _, path := range paths {
		var p Plan
		if err := folder.GetJSON(filepath.Base(path), &p); err != nil {
			return Plan{}, err
		}
		if p.Emergency == safety && p.Backup.ID != "" {
			return p, nil
		}
	}
	return Plan{}, badInput(fmt.Errorf("the folder of incident %s does not say which backup was restored after safety dump %s", incident, safety))
}

// findOptions are those of the search for what is missing, or for what is newer.
func (a *Undelete) findOptions(ctx context.Context, in SearchInput) (undelete.FindOptions, error) {
	if in.Without == "" {
		return undelete.FindOptions{}, nil
	}
	without, err := a.catalog(in.Target).Source(ctx, in.Without)
	if err != nil {
		return undelete.FindOptions{}, typed(ctx, err)
	}
	return undelete.FindOptions{Without: &without, Collections: in.Collections}, nil
}

// MergedBack is what came of merging newer documents back, for the report of the incident in which they were lost.
type MergedBack struct {
	Target     string            `json:"target"`
	Incident   string            `json:"incident"` // its own
	Of         string            `json:"of"`       // the one in which they were lost
	Report     string            `json:"report"`   // workflow id of that one's report
	Outcome    string            `json:"outcome"`
	Summary    string            `json:"summary"`
	Safety     string            `json:"safety"`
	Plan       string            `json:"plan"`
	ApprovedBy string            `json:"approvedBy"`
	Narrowed   string            `json:"narrowed,omitempty"`
	PutBack    undelete.Outcomes `json:"putBack"`
	Undone     *undelete.Undone  `json:"undone,omitempty"`
	Histories  []Execution       `json:"histories"` // the playbook's, and its child's
	At         time.Time         `json:"at"`
}

// mergedFile lies in the folder of the incident that merged documents back. The other one's may be sealed already.
const mergedFile = "merged-back.json"

// NoteMergedBack keeps what came of it, where the report of the incident in which the documents were lost looks for it, and says
// whether that one is open, and so will be drawn again.
func (a *Incident) NoteMergedBack(ctx context.Context, in MergedBack) (open bool, err error) {
	folder, err := a.folder(in.Target, in.Incident)
	if err != nil {
		return false, err
	}
	if err := folder.PutJSON(mergedFile, in); err != nil {
		return false, err
	}
	d, err := a.Temporal.DescribeWorkflowExecution(ctx, in.Report, "")
	if as[*serviceerror.NotFound](err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("see whether %s is open: %w", in.Report, err)
	}
	return d.GetWorkflowExecutionInfo().GetStatus() == enums.WORKFLOW_EXECUTION_STATUS_RUNNING, nil
}

// mergedBack lists what was merged back after an incident, in the order of time.
func (b *Base) mergedBack(target, incident string) ([]MergedBack, error) {
	paths, err := filepath.Glob(filepath.Join(b.Config.Storage.Dir, "incidents", target, "*", mergedFile))
	if err != nil {
		return nil, err
	}
	var all []MergedBack
	for _, path := range paths {
		folder, err := b.folder(target, filepath.Base(filepath.Dir(path)))
		if err != nil {
			return nil, err
		}
		var m MergedBack
		if err := folder.GetJSON(mergedFile, &m); errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, err
		}
		if m.Of == incident {
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(x, y MergedBack) int { return x.At.Compare(y.At) })
	return all, nil
}
