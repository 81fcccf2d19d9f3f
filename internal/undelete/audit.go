package undelete

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/internal/restore"
)

// clockSlack is how far the clock that stamps audit entries may be from the one that stamps backups.
const clockSlack = 5 * time.Minute

// Audit is what the audit logs tell of deletions.
type Audit struct {
	File      string    `json:"file"` // the list, in the Job's folder
	Since     time.Time `json:"since"`
	Entries   int64     `json:"entries"`   // newer than Since, of any kind
	Deletions int64     `json:"deletions"` // among them
	Undated   int64     `json:"undated,omitempty"`
	// By is who deleted what, the most first; what is beyond a table's length is only in the file.
	By []DeletedBy `json:"by,omitempty"`
	// Unreadable names the logs that could not be read, with the reason.
	Unreadable map[string]string `json:"unreadable,omitempty"`
}

// DeletedBy counts one user's deletions of one kind of resource.
type DeletedBy struct {
	User         string    `json:"user,omitempty"` // the user's id
	Organization string    `json:"organization,omitempty"`
	Type         string    `json:"type"`
	Entries      int64     `json:"entries"`
	First        time.Time `json:"first"`
	Last         time.Time `json:"last"`
}

// deletion is a line of the list of deletions.
type deletion struct {
	At           time.Time `json:"at"`
	Organization string    `json:"organization,omitempty"`
	User         string    `json:"user,omitempty"`
	Action       string    `json:"action"`
	Type         string    `json:"type"`
	ID           string    `json:"id"`
	Log          string    `json:"log"`
	Snapshot     []byte    `json:"snapshot,omitempty"` // raw BSON of the document as it was before
}

// ReadAudit reads the deletions since a moment, zero being the oldest backup's, from the database's audit logs and, where
// one is configured, from the application's. A log that cannot be read is named; where none can, it is an error.
func (j Job) ReadAudit(ctx context.Context, logs []config.AuditLog, since time.Time) (Audit, error) {
	if err := j.makeDir(); err != nil {
		return Audit{}, err
	}
	if since.IsZero() && len(j.Sources) > 0 {
		since = j.Sources[len(j.Sources)-1].Manifest.StartedAt.Add(-clockSlack)
	}
	l, err := newList(j.Dir, deletionsFile)
	if err != nil {
		return Audit{}, err
	}
	defer func() { _ = l.drop() }()
	r := &auditReader{actions: j.Rules.Actions, list: l, by: map[DeletedBy]*DeletedBy{},
		audit: Audit{File: deletionsFile, Since: since.UTC(), Unreadable: map[string]string{}}}
	var last error
	for _, log := range logs {
		if err := r.collection(ctx, j, log); err != nil {
			if ctx.Err() != nil {
				return Audit{}, ctx.Err()
			}
			r.audit.Unreadable[log.Collection], last = err.Error(), err
		}
	}
	if api := j.Rules.API; api != nil {
		if err := r.api(ctx, *api); err != nil {
			if ctx.Err() != nil {
				return Audit{}, ctx.Err()
			}
			r.audit.Unreadable["api"], last = err.Error(), err
		}
	}
	if last != nil && len(r.audit.Unreadable) == len(logs)+boolean(j.Rules.API != nil) {
		return Audit{}, fmt.Errorf("none of the audit logs can be read: %w", last)
	}
	if err := l.commit(); err != nil {
		return Audit{}, err
	}
	return r.result(), nil
}

func boolean(b bool) int {
	if b {
		return 1
	}
	return 0
}

type auditReader struct {
	actions []string
	list    *list
	by      map[DeletedBy]*DeletedBy
	audit   Audit
}

// collection reads one of the database's logs. Its times are dates or strings, mixed: the server leaves out what is
// surely too old, the rest is looked at here.
func (r *auditReader) collection(ctx context.Context, j Job, log config.AuditLog) error {
	// A string's zone may put it on the day before.
	day := r.audit.Since.AddDate(0, 0, -1).Format("2006-01-02")
	filter := bson.D{{Key: "$or", Value: bson.A{
		bson.D{{Key: log.Time, Value: bson.D{{Key: "$gte", Value: bson.NewDateTimeFromTime(r.audit.Since)}}}},
		bson.D{{Key: log.Time, Value: bson.D{{Key: "$gte", Value: day}}}},
	}}}
	// A broken connection begins the reading again: what was read is kept apart until it is whole.
	var deletions []deletion
	var entries, undated int64
	err := j.find(ctx, log.Collection, filter, nil, func() { deletions, entries, undated = nil, 0, 0 }, func(doc bson.Raw) {
		d, at, ok := entryOf(doc, log)
		switch {
		case !ok:
			undated++
		case at.Before(r.audit.Since):
		default:
			entries++
			if deletes(d.Action, r.actions) {
				deletions = append(deletions, d)
			}
		}
	})
	if err != nil {
		return err
	}
	r.audit.Entries += entries
	r.audit.Undated += undated
	for i := range deletions {
		if err := r.add(&deletions[i]); err != nil {
			return err
		}
	}
	return nil
}

// entryOf reads an audit entry in either of the known shapes, or by the configured names.
func entryOf(doc bson.Raw, log config.AuditLog) (d deletion, at time.Time, ok bool) {
	at, ok = restore.TimeOf(doc, log.Time)
	if !ok {
		return deletion{}, at, false
	}
	first := func(configured string, known ...string) string {
		if configured != "" {
			known = []string{configured}
		}
		for _, name := range known {
			if t, ok := textAt(doc, name); ok {
				return t
			}
		}
		return ""
	}
	f := log.Fields
	d = deletion{
		At: at.UTC(), Organization: first(f.Organization, "organization_id", "org_id"), User: first(f.User, "user_id"),
		Action: first(f.Action, "action"), Type: first(f.Type, "resource_type", "entity_type"),
		ID: first(f.ID, "resource_id", "entity_id"), Log: log.Collection,
	}
	if v, ok := lookup(doc, cmp.Or(f.Snapshot, "before_snapshot")); ok {
		if before, ok := v.DocumentOK(); ok && len(before) > 5 {
			d.Snapshot = slices.Clone([]byte(before))
		}
	}
	return d, at, true
}

// deletes says whether an action means a deletion.
func deletes(action string, patterns []string) bool {
	action = strings.ToLower(action)
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(strings.ToLower(p), action)
		return err == nil && ok
	})
}

func (r *auditReader) add(d *deletion) error {
	if d.ID == "" || d.Type == "" {
		return nil
	}
	r.audit.Deletions++
	k := DeletedBy{User: d.User, Organization: d.Organization, Type: strings.ToLower(d.Type)}
	one := r.by[k]
	if one == nil {
		one = &DeletedBy{k.User, k.Organization, k.Type, 0, d.At, d.At}
		r.by[k] = one
	}
	one.Entries++
	if d.At.Before(one.First) {
		one.First = d.At
	}
	if d.At.After(one.Last) {
		one.Last = d.At
	}
	return r.list.add(d)
}

func (r *auditReader) result() Audit {
	for _, one := range r.by {
		r.audit.By = append(r.audit.By, *one)
	}
	slices.SortFunc(r.audit.By, func(a, b DeletedBy) int {
		return cmp.Or(cmp.Compare(b.Entries, a.Entries), cmp.Compare(a.User, b.User), cmp.Compare(a.Organization, b.Organization),
			cmp.Compare(a.Type, b.Type))
	})
	r.audit.By = r.audit.By[:min(len(r.audit.By), mostGroups)]
	return r.audit
}
