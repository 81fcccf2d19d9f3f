package activities

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/battwheels/runbook/internal/catalog"
	"github.com/battwheels/runbook/internal/incident"
	"github.com/battwheels/runbook/internal/restore"
)

// Catalog chooses, checks and keeps backups.
type Catalog struct{ Base }

// ChooseInput asks for the backup to restore.
type ChooseInput struct {
	Attempt
	Before   time.Time `json:"before,omitzero"`    // only backups from before the damage
	Want     string    `json:"want,omitempty"`     // the one that a person named
	Excluded []string  `json:"excluded,omitempty"` // failed, or passed over
}

// CheckInput names the backup to check.
type CheckInput struct {
	Attempt
	ID string `json:"id"`
}

// Synced is what became of the offsite copies: names of backups.
type Synced struct {
	Copied  []string `json:"copied,omitempty"`
	Deleted []string `json:"deleted,omitempty"`
}

// Retention is what retention did.
type Retention struct {
	Deleted    []string `json:"deleted,omitempty"`
	Kept       int      `json:"kept"`
	Frozen     bool     `json:"frozen,omitempty"`     // an incident is open
	OldDropped []string `json:"oldDropped,omitempty"` // incidents whose collections set aside were dropped
}

// Findings is what BackupMonitor found.
type Findings struct {
	Healthy     bool          `json:"healthy"`
	Newest      string        `json:"newest,omitempty"` // newest proven backup
	AgeOfNewest time.Duration `json:"ageOfNewest,omitempty"`
	Problems    []Problem     `json:"problems,omitempty"`
	By          string        `json:"by,omitempty"` // the playbook that found it; default BackupMonitor
}

// Problem is one thing that is wrong.
type Problem struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

func (b *Base) catalog(target string) *catalog.Catalog { return catalog.New(target, b.Config) }

// candidatesFile is the file in the incident's folder that says of every backup why it was taken or not.
const candidatesFile = "candidates.json"

// evidenceFile is the file beside it that compares each that could be taken with the one before.
const evidenceFile = "evidence.json"

// Chosen is the backup that was taken, and what is known of those that could be.
type Chosen struct {
	BackupRef
	Candidates []Weighed `json:"candidates,omitempty"` // newest first, at most weighedShown; none where there is no choice
	PassedOver []string  `json:"passedOver,omitempty"` // newer ones, because they may hold the damage, too: a sentence of each
	Doubtful   string    `json:"doubtful,omitempty"`   // why the one that was taken may hold the damage; empty where nothing says so
}

// Weighed is a backup that could be taken, and what its contents say of it beside the one before.
type Weighed struct {
	ID        string    `json:"id"`
	Time      time.Time `json:"time"`
	State     string    `json:"state"`
	Documents int64     `json:"documents"`
	Doubtful  bool      `json:"doubtful,omitempty"`
	Why       string    `json:"why"`
}

// weighedShown bounds what of the candidates goes to the history; candidates.json and evidence.json have them whole.
const weighedShown = 4

// ChooseBackup takes the newest proven backup from before the damage whose contents are not doubtful, or the one that a person named.
func (a *Catalog) ChooseBackup(ctx context.Context, in ChooseInput) (Chosen, error) {
	_, stop := beat(ctx)
	defer stop()
	c := a.catalog(in.Target)
	entries, err := c.List(ctx)
	if err != nil {
		return Chosen{}, err
	}
	var left []catalog.Entry
	for _, e := range entries {
		if e.ID == in.Want || !slices.Contains(in.Excluded, e.ID) {
			left = append(left, e)
		}
	}
	choice, err := c.Choose(left, in.Before, in.Want)
	var out Chosen
	if err == nil {
		if out, err = a.weigh(ctx, in, entries, &choice); err != nil {
			return Chosen{}, err
		}
	}
	if folder, ferr := a.folder(in.Target, in.Incident); ferr == nil && in.Incident != "" {
		if perr := folder.PutJSON(candidatesFile, withExcluded(entries, choice.Candidates)); perr != nil {
			return Chosen{}, perr
		}
	}
	return out, typed(ctx, err)
}

// withExcluded puts the backups that were left out of a choice where they belong among the candidates, which are in the entries' order.
func withExcluded(entries []catalog.Entry, candidates []catalog.Candidate) []catalog.Candidate {
	var all []catalog.Candidate
	for _, e := range entries {
		i := slices.IndexFunc(candidates, func(c catalog.Candidate) bool { return c.Entry.ID == e.ID })
		if i >= 0 {
			all = append(all, candidates[i])
		} else {
			all = append(all, catalog.Candidate{Entry: e, Why: "It was tried in this incident, and passed over: the history says why."})
		}
	}
	return all
}

// weigh passes over backups that may hold the damage, too, unless a person named one.
func (a *Catalog) weigh(ctx context.Context, in ChooseInput, entries []catalog.Entry, choice *catalog.Choice) (Chosen, error) {
	t, err := a.target(in.Target)
	if err != nil {
		return Chosen{}, err
	}
	// Those that were passed over are compared with, too: without them, a damaged one would look like the first there is.
	c := a.catalog(in.Target)
	whole, err := c.Choose(entries, in.Before, in.Want)
	if err != nil {
		return Chosen{}, typed(ctx, err)
	}
	evidence, err := c.Evidence(ctx, whole.Candidates, catalog.EvidenceOptions{
		Key: t.Verify.KeyCounts, Volatile: t.Deletions.Volatile, Only: in.Collections,
	})
	if err != nil {
		return Chosen{}, typed(ctx, err)
	}
	if folder, ferr := a.folder(in.Target, in.Incident); ferr == nil && in.Incident != "" {
		if err := folder.PutJSON(evidenceFile, evidence); err != nil {
			return Chosen{}, err
		}
	}
	var out Chosen
	if in.Want == "" {
		for _, v := range choice.Weigh(evidence) {
			out.PassedOver = append(out.PassedOver, v.ID+" may hold the damage, too: "+v.Why)
		}
	}
	out.BackupRef = refOfEntry(choice.Entry)
	if i := slices.IndexFunc(evidence, func(v catalog.Evidence) bool { return v.ID == out.ID && v.Doubtful }); i >= 0 {
		out.Doubtful = evidence[i].Why
	}
	if len(evidence) < 2 {
		return out, nil
	}
	for _, v := range evidence[:min(len(evidence), weighedShown)] {
		i := slices.IndexFunc(whole.Candidates, func(x catalog.Candidate) bool { return x.Entry.ID == v.ID })
		e := whole.Candidates[i].Entry
		out.Candidates = append(out.Candidates, Weighed{
			ID: e.ID, Time: e.Time, State: string(e.State), Documents: e.Documents, Doubtful: v.Doubtful, Why: v.Why,
		})
	}
	return out, nil
}

// CheckBackup checks every byte of a backup and marks it as verified.
func (a *Catalog) CheckBackup(ctx context.Context, in CheckInput) (BackupRef, error) {
	report, stop := beat(ctx)
	defer stop()
	e, source, err := a.catalog(in.Target).Verify(ctx, in.ID, report)
	if err != nil {
		return BackupRef{}, typed(ctx, err)
	}
	ref := refOf(source.Manifest)
	ref.ID, ref.State, ref.Suspect = e.ID, string(e.State), e.Suspect
	return ref, nil
}

// MarkRestored notes that a backup has been restored and proven by digest, the best that can be said of one, and keeps how long
// that took.
func (a *Catalog) MarkRestored(ctx context.Context, in RestoredInput) error {
	now := time.Now().UTC()
	err := a.catalog(in.Target).Mark(ctx, in.Backup, func(r *catalog.Record) {
		r.State, r.RestoredAt = catalog.Restored, &now
	})
	if err != nil {
		return err
	}
	return a.keepDurations(ctx, in)
}

// ApplyRetention deletes the backups that newer proven ones replace, and the collections set aside by incidents that are
// closed and whose keep time has passed. It deletes nothing while an incident is open.
func (a *Catalog) ApplyRetention(ctx context.Context, target string) (Retention, error) {
	_, stop := beat(ctx)
	defer stop()
	t, err := a.target(target)
	if err != nil {
		return Retention{}, err
	}
	open, err := a.openIncidents(target)
	if err != nil {
		return Retention{}, err
	}
	using, err := a.using(ctx, target)
	if err != nil {
		return Retention{}, err
	}
	drilled, err := a.drilling(target)
	if err != nil {
		return Retention{}, err
	}
	using = append(using, drilled...)
	now := time.Now().UTC()
	r, err := a.catalog(target).Retain(ctx, catalog.RetainPolicy{
		Keep: time.Duration(t.Backup.Retention), Now: now, Frozen: len(open) > 0, Using: using,
	})
	if err != nil {
		return Retention{}, typed(ctx, err)
	}
	out := Retention{Kept: len(r.Kept), Frozen: len(open) > 0}
	for _, d := range r.Deleted {
		out.Deleted = append(out.Deleted, d.ID)
	}
	if out.Frozen {
		return out, nil
	}
	out.OldDropped, err = a.dropOld(ctx, target, now, time.Duration(t.Policy.KeepOld))
	return out, err
}

// dropOld drops what closed incidents set aside, once the keep time has passed since they closed. What belongs to no
// incident that we know of is left alone.
func (a *Catalog) dropOld(ctx context.Context, target string, now time.Time, keep time.Duration) (dropped []string, err error) {
	db, err := a.Databases(target)
	if err != nil {
		return nil, err
	}
	olds, err := restore.Olds(ctx, db)
	if err != nil {
		return nil, err
	}
	incidents := filepath.Join(a.Config.Storage.Dir, "incidents", target)
	if len(olds) == 0 {
		return nil, nil
	}
	// Somebody may roll back meanwhile, without Temporal: whoever renames holds the lease.
	lease, err := restore.Acquire(ctx, db, restore.Holder{Owner: restore.RetentionOwner + target, Run: now.Format(time.RFC3339Nano), Purpose: "drop what incidents set aside"}, false)
	if _, held := errors.AsType[*restore.LeaseHeldError](err); held {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() {
		err = errors.Join(err, lease.Release(context.WithoutCancel(ctx)))
		if _, taken := errors.AsType[*restore.LeaseLostError](err); taken {
			err = nil // by a restore: what is left is dropped another day
		}
	}()
	halves, err := restore.HalfSwaps(incidents)
	if err != nil {
		return nil, err
	}
	for _, o := range olds {
		if err := lease.Check(ctx); err != nil {
			return dropped, err
		}
		// The playbook may be over while its restore was terminated in the middle: what it set aside is then all that there is.
		if slices.ContainsFunc(halves, func(h restore.Half) bool { return h.Incident == o.Incident }) {
			continue
		}
		dir := filepath.Join(incidents, o.Incident)
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var c closed
		err := incident.Folder{Dir: dir}.GetJSON(closedFile, &c)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return dropped, err
		}
		// A roll-back of later days sets aside what people had worked with until then.
		swapped, err := restore.LastSwap(dir)
		if err != nil {
			return dropped, err
		}
		if now.Sub(c.ClosedAt) < keep || now.Sub(swapped) < keep {
			continue
		}
		if _, err := restore.DropOld(ctx, db, o.Incident); err != nil {
			return dropped, fmt.Errorf("drop what incident %s set aside: %w", o.Incident, err)
		}
		dropped = append(dropped, o.Incident)
	}
	return dropped, nil
}

// SyncOffsite copies the proven backups that have no offsite copy yet, and deletes copies that are old enough.
func (a *Catalog) SyncOffsite(ctx context.Context, target string) (Synced, error) {
	report, stop := beat(ctx)
	defer stop()
	open, err := a.openIncidents(target)
	if err != nil {
		return Synced{}, err
	}
	s, err := a.catalog(target).Sync(ctx, time.Duration(a.Config.Storage.Offsite.Keep), len(open) > 0, report)
	if err != nil {
		return Synced{}, typed(ctx, err)
	}
	return Synced{Copied: s.Copied, Deleted: s.Deleted}, nil
}

// CheckBackups looks at the backups as a suspicious person would.
func (a *Catalog) CheckBackups(ctx context.Context, target string) (Findings, error) {
	_, stop := beat(ctx)
	defer stop()
	t, err := a.target(target)
	if err != nil {
		return Findings{}, err
	}
	f, err := a.catalog(target).Check(ctx, time.Now().UTC(), t.Monitor)
	if err != nil {
		return Findings{}, typed(ctx, err)
	}
	overdue, err := a.drillOverdue(target, time.Duration(t.Monitor.DrillWithin), time.Now())
	if err != nil {
		return Findings{}, err
	}
	out := Findings{Healthy: f.Healthy && overdue == nil, Newest: f.Newest.ID, AgeOfNewest: f.Age.Round(time.Minute)}
	for _, p := range f.Problems {
		out.Problems = append(out.Problems, Problem{Code: p.Code, Text: p.Text})
	}
	if overdue != nil {
		out.Problems = append(out.Problems, *overdue)
	}
	return out, nil
}

func refOfEntry(e catalog.Entry) BackupRef {
	return BackupRef{
		ID: e.ID, Time: e.Time, Kind: string(e.Kind), State: string(e.State), Collections: e.Collections,
		Documents: e.Documents, Bytes: e.Bytes, Suspect: e.Suspect,
	}
}
