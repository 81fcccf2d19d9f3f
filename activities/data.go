package activities

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.temporal.io/sdk/temporal"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/catalog"
	"github.com/battwheels/runbook/internal/dump"
	"github.com/battwheels/runbook/internal/durable"
	"github.com/battwheels/runbook/internal/restore"
	"github.com/battwheels/runbook/internal/words"
)

// Data moves documents: dump, stage, prove, swap, verify.
type Data struct{ Base }

// DumpInput asks for a dump. The name is the workflow's, so that a second attempt finds or resumes the first one's.
type DumpInput struct {
	Target   string `json:"target"`
	Name     string `json:"name"`
	Kind     string `json:"kind"`
	Incident string `json:"incident,omitempty"`
	Salvage  bool   `json:"salvage,omitempty"` // go around what cannot be read
}

// UndoInput undoes swaps that were cut off.
type UndoInput struct {
	Attempt
	Stopped bool `json:"stopped,omitempty"` // nobody uses the database: live collections may be renamed
}

// LeaseInput takes the lease on a target's data.
type LeaseInput struct {
	Attempt
	Purpose string `json:"purpose"`
}

// Staged is what lies beside the live data.
type Staged struct {
	Collections int      `json:"collections"`
	Documents   int64    `json:"documents"`
	Bytes       int64    `json:"bytes"`
	Skipped     []string `json:"skipped,omitempty"` // names and why they are left alone
}

// Proof is what was read back from the staged copy, all of it equal to the backup.
type Proof struct {
	Documents int64 `json:"documents"`
	Indexes   int   `json:"indexes"`
}

// Swapped counts what a swap, or its undoing, has renamed.
type Swapped struct {
	Placed int `json:"placed"`
	Aside  int `json:"aside"`
}

// Verified is what was compared in place, all of it equal to the backup.
type Verified struct {
	Collections int        `json:"collections"`
	Documents   int64      `json:"documents"`
	Indexes     int        `json:"indexes"`
	Expired     int64      `json:"expired,omitempty"` // by a TTL index, since
	KeyCounts   []KeyCount `json:"keyCounts,omitempty"`
}

// MergeInput names the dump from which newer audit entries are taken.
type MergeInput struct {
	Attempt
	Safety string `json:"safety"`
}

// Merged counts the audit entries that were put back.
type Merged struct {
	Inserted  int64 `json:"inserted"`
	Existing  int64 `json:"existing"`
	Conflicts int64 `json:"conflicts,omitempty"` // another document stands in their place; they are in the safety dump only
	Undated   int64 `json:"undated,omitempty"`   // their time cannot be read; likewise
}

// DumpDatabase makes a backup of a target's database. While an incident is open the backup is marked, so that it is never
// chosen by itself.
func (a *Data) DumpDatabase(ctx context.Context, in DumpInput) (BackupRef, error) {
	t, err := a.target(in.Target)
	if err != nil {
		return BackupRef{}, err
	}
	db, err := a.Databases(in.Target)
	if err != nil {
		return BackupRef{}, err
	}
	c := a.catalog(in.Target)
	before, err := a.during(in)
	if err != nil {
		return BackupRef{}, err
	}
	report, stop := beat(ctx)
	defer stop()
	o := DumpOptions(t.Backup, backup.Kind(in.Kind))
	o.Root, o.Name, o.Target, o.Salvage, o.Progress = c.Root, in.Name, in.Target, in.Salvage, report
	m, err := dump.Run(ctx, db, o)
	if err != nil {
		return BackupRef{}, typed(ctx, err)
	}
	// An incident that was opened meanwhile may have found the very damage that this backup holds.
	during, err := a.during(in)
	if err != nil {
		return BackupRef{}, err
	}
	if during = cmp.Or(before, during); during != "" {
		if err := c.Mark(ctx, m.Name, func(r *catalog.Record) { r.DuringIncident = during }); err != nil {
			return BackupRef{}, err
		}
	}
	return refOf(m), nil
}

// during is the incident during which a dump is made; empty where there is none.
func (a *Data) during(in DumpInput) (string, error) {
	if in.Incident != "" {
		return in.Incident, nil
	}
	open, err := a.openIncidents(in.Target)
	if err != nil || len(open) == 0 {
		return "", err
	}
	return open[0], nil
}

// AcquireLease takes the lease on the target's data and returns its fencing token.
func (a *Data) AcquireLease(ctx context.Context, in LeaseInput) (int64, error) {
	db, err := a.Databases(in.Target)
	if err != nil {
		return 0, err
	}
	l, err := restore.Acquire(ctx, db, restore.Holder{Owner: restore.RestoreOwner + in.Target, Run: in.Run, Purpose: in.Purpose}, false)
	return l.Token, typed(ctx, err)
}

// ReleaseLease cleans up behind older attempts and gives the lease back. One that somebody else holds by now is left alone.
func (a *Data) ReleaseLease(ctx context.Context, at Attempt) error {
	l, err := a.lease(at)
	if err != nil {
		return err
	}
	// A terminated attempt's last write may have come after its staging was dropped.
	if err = l.DropStale(ctx); err == nil {
		err = l.Release(ctx)
	}
	if _, lost := errors.AsType[*restore.LeaseLostError](err); lost {
		return nil
	}
	return err
}

// UndoHalfSwaps rolls back every swap of this target that was cut off and left the database neither what it was nor what it should
// become. It needs the lease, so that nobody carries on with it, and tells which incidents they belonged to. Where there is one and
// the application has not been stopped, it changes nothing and fails with HalfSwapped: live collections would be renamed under it.
func (a *Data) UndoHalfSwaps(ctx context.Context, in UndoInput) ([]string, error) {
	db, err := a.Databases(in.Target)
	if err != nil {
		return nil, err
	}
	l, err := a.lease(in.Attempt)
	if err != nil {
		return nil, err
	}
	_, stop := beat(ctx)
	defer stop()
	incidents := filepath.Join(a.Config.Storage.Dir, "incidents", in.Target)
	halves, err := restore.HalfSwaps(incidents)
	if err != nil {
		return nil, err
	}
	if len(halves) > 0 && !in.Stopped {
		return nil, temporal.NewNonRetryableApplicationError(fmt.Sprintf(
			"the swap of incident %s was cut off half-way: some live collections are the backup's, some are what was there before. "+
				"It must be rolled back before anything else, and the application must not run meanwhile", halves[0].Incident), HalfSwapped, nil)
	}
	undone, err := restore.UndoHalfSwaps(ctx, db, l, incidents)
	return undone, typed(ctx, err)
}

// StageBackup loads the backup into collections of this attempt, beside the live ones.
func (a *Data) StageBackup(ctx context.Context, at Attempt) (Staged, error) {
	o, stop, err := a.staging(ctx, at)
	if err != nil {
		return Staged{}, err
	}
	defer stop()
	// From here until the lease is given back, retention leaves this backup alone: all that follows is compared with it.
	if err := os.MkdirAll(o.Dir, 0o750); err != nil {
		return Staged{}, err
	}
	if err := durable.WriteFile(filepath.Join(o.Dir, usingFile), []byte(at.Backup), 0o600); err != nil {
		return Staged{}, err
	}
	s, err := restore.Stage(ctx, o)
	if err != nil {
		return Staged{}, typed(ctx, err)
	}
	out := Staged{Documents: s.Documents, Bytes: s.Bytes}
	for _, c := range s.Collections {
		if c.Skipped != "" {
			out.Skipped = append(out.Skipped, c.Name+" ("+c.Skipped+")")
			continue
		}
		out.Collections++
	}
	return out, nil
}

// ProveStaging reads the staged copy back and compares it with the backup.
func (a *Data) ProveStaging(ctx context.Context, at Attempt) (Proof, error) {
	o, stop, err := a.staging(ctx, at)
	if err != nil {
		return Proof{}, err
	}
	defer stop()
	p, err := restore.Prove(ctx, o)
	return Proof{Documents: p.Documents, Indexes: p.Indexes}, typed(ctx, err)
}

// Queried is what the queries of verify.queries said of a staged copy, a sentence each.
type Queried struct {
	Wrong   []string `json:"wrong,omitempty"`   // do not hold
	Unasked []string `json:"unasked,omitempty"` // could not be asked
}

// QueryStaging asks the queries of the staged copy that hold on a sound database.
func (a *Data) QueryStaging(ctx context.Context, at Attempt) (Queried, error) {
	var out Queried
	t, err := a.target(at.Target)
	if err != nil {
		return out, err
	}
	o, stop, err := a.staging(ctx, at)
	if err != nil {
		return out, err
	}
	defer stop()
	for _, q := range t.Verify.Queries {
		if !at.restores(q.Collection) {
			continue
		}
		n, err := restore.CountStaged(ctx, o, q.Collection, q.Parsed)
		if refused, ok := errors.AsType[*restore.RefusedError](err); ok {
			out.Unasked = append(out.Unasked, fmt.Sprintf("%s (%s)", q.Name, clipped(refused.Reason)))
			continue
		}
		if err != nil {
			return out, typed(ctx, fmt.Errorf("query %q: %w", q.Name, err))
		}
		found := q.Name + ": " + words.Plural(n, "document", "documents")
		switch {
		case q.Min != nil && n < *q.Min:
			out.Wrong = append(out.Wrong, fmt.Sprintf("%s, where at least %s are expected", found, words.Number(*q.Min)))
		case q.Max != nil && n > *q.Max:
			out.Wrong = append(out.Wrong, fmt.Sprintf("%s, where at most %s are expected", found, words.Number(*q.Max)))
		}
	}
	return out, nil
}

// SwapCollections sets the live collections aside and puts the staged ones in their place.
func (a *Data) SwapCollections(ctx context.Context, at Attempt) (Swapped, error) {
	return a.rename(ctx, at, restore.Swap)
}

// RollBackSwap renames everything back.
func (a *Data) RollBackSwap(ctx context.Context, at Attempt) (Swapped, error) {
	return a.rename(ctx, at, restore.RollBack)
}

func (a *Data) rename(ctx context.Context, at Attempt, do func(context.Context, restore.SwapOptions) (restore.Swapped, error)) (Swapped, error) {
	_, stop := beat(ctx)
	defer stop()
	o, err := a.swapping(at)
	if err != nil {
		return Swapped{}, err
	}
	s, err := do(ctx, o)
	return Swapped{Placed: s.Placed, Aside: s.Aside}, typed(ctx, err)
}

// VerifyRestored compares the live database with the backup, and counts what people know.
func (a *Data) VerifyRestored(ctx context.Context, at Attempt) (Verified, error) {
	o, stop, err := a.staging(ctx, at)
	if err != nil {
		return Verified{}, err
	}
	defer stop()
	t, err := a.target(at.Target)
	if err != nil {
		return Verified{}, err
	}
	v, err := restore.VerifyInPlace(ctx, o)
	if err != nil {
		return Verified{}, typed(ctx, err)
	}
	if len(v.Differences) > 0 {
		return Verified{}, notVerified(v)
	}
	out := Verified{Collections: v.Collections, Documents: v.Documents, Indexes: v.Indexes, Expired: v.TTLExpired}
	before := keyCounts(t, o.Source.Manifest)
	for _, name := range t.Verify.KeyCounts {
		if !at.restores(name) {
			continue
		}
		k := KeyCount{Name: name, Backup: before[name], Now: int64(v.Collections)}
		if name != collectionsCount {
			k.Now = v.Counts[name]
		}
		out.KeyCounts = append(out.KeyCounts, k)
	}
	return out, nil
}

// MergeAuditLogs puts back the audit entries that are newer than the backup.
func (a *Data) MergeAuditLogs(ctx context.Context, in MergeInput) (Merged, error) {
	t, err := a.target(in.Target)
	if err != nil {
		return Merged{}, err
	}
	db, err := a.Databases(in.Target)
	if err != nil {
		return Merged{}, err
	}
	_, stop := beat(ctx)
	defer stop()
	c := a.catalog(in.Target)
	from, err := c.Source(ctx, in.Backup)
	if err != nil {
		return Merged{}, typed(ctx, err)
	}
	safety, err := c.Source(ctx, in.Safety)
	if err != nil {
		return Merged{}, typed(ctx, err)
	}
	var out Merged
	for _, l := range t.AuditLogs {
		if !in.restores(l.Collection) {
			continue
		}
		m, err := restore.MergeNewer(ctx, db, safety, l.Collection, l.Time, from.Manifest.StartedAt)
		if err != nil {
			return out, typed(ctx, fmt.Errorf("audit log %s: %w", l.Collection, err))
		}
		out.Inserted += m.Inserted
		out.Existing += m.Existing
		out.Conflicts += m.Conflicts
		out.Undated += m.Undated
	}
	return out, nil
}

// RemoveStaging drops the staged collections of this attempt, and nothing else.
func (a *Data) RemoveStaging(ctx context.Context, at Attempt) error {
	db, err := a.Databases(at.Target)
	if err != nil {
		return err
	}
	_, stop := beat(ctx)
	defer stop()
	_, err = restore.Unstage(ctx, db, at.Token)
	return typed(ctx, err)
}

func (a *Data) lease(at Attempt) (restore.Lease, error) {
	db, err := a.Databases(at.Target)
	if err != nil {
		return restore.Lease{}, err
	}
	return restore.Held(db, restore.Holder{Owner: restore.RestoreOwner + at.Target, Run: at.Run}, at.Token), nil
}

func (a *Data) staging(ctx context.Context, at Attempt) (restore.StageOptions, func(), error) {
	nothing := func() {}
	db, err := a.Databases(at.Target)
	if err != nil {
		return restore.StageOptions{}, nothing, err
	}
	l, err := a.lease(at)
	if err != nil {
		return restore.StageOptions{}, nothing, err
	}
	source, err := a.catalog(at.Target).Source(ctx, at.Backup)
	if err != nil {
		return restore.StageOptions{}, nothing, typed(ctx, err)
	}
	if _, err := only(source, at.Collections); err != nil {
		return restore.StageOptions{}, nothing, badInput(err)
	}
	dir, err := a.stagingDir(at)
	if err != nil {
		return restore.StageOptions{}, nothing, err
	}
	t, err := a.target(at.Target)
	if err != nil {
		return restore.StageOptions{}, nothing, err
	}
	report, stop := beat(ctx)
	return restore.StageOptions{DB: db, Source: source, Collections: at.Collections, Lease: l, Dir: dir, Parallel: t.Backup.Parallel, Progress: report}, stop, nil
}

func (a *Data) swapping(at Attempt) (restore.SwapOptions, error) {
	db, err := a.Databases(at.Target)
	if err != nil {
		return restore.SwapOptions{}, err
	}
	l, err := a.lease(at)
	if err != nil {
		return restore.SwapOptions{}, err
	}
	dir, err := a.stagingDir(at)
	if err != nil {
		return restore.SwapOptions{}, err
	}
	return restore.SwapOptions{DB: db, Lease: l, Incident: at.Incident, Dir: dir}, nil
}

// usingFile holds, in an attempt's directory, the id of the backup that it restores.
const usingFile = "using"

// using lists the backups with which the restore works that holds the lease now.
func (b *Base) using(ctx context.Context, target string) ([]string, error) {
	db, err := b.Databases(target)
	if err != nil {
		return nil, err
	}
	token, err := restore.Holding(ctx, db)
	if err != nil || token == 0 {
		return nil, err
	}
	paths, err := filepath.Glob(filepath.Join(b.Config.Storage.Dir, "incidents", target, "*", fmt.Sprintf("staging-%d", token), usingFile))
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, path := range paths {
		id, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		ids = append(ids, string(id))
	}
	return ids, nil
}

// stagingDir is this attempt's own folder: an older attempt's journal is never read.
func (b *Base) stagingDir(at Attempt) (string, error) {
	folder, err := b.folder(at.Target, at.Incident)
	if err != nil {
		return "", err
	}
	return filepath.Join(folder.Dir, fmt.Sprintf("staging-%d", at.Token)), nil
}
