// Package workflows holds the playbooks, a file each, and what they are made of. They orchestrate: what they decide follows from
// their input, from what their steps return, and from what people say; the hard parts live in the engines below internal/.
// They are deterministic, and recorded histories are replayed against them in worker/.
package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/battwheels/runbook/activities"
)

// BackupInput starts Backup. Every field may be left out.
type BackupInput struct {
	Target    string `json:"target,omitempty"`
	Scheduled bool   `json:"scheduled,omitempty"` // set by the schedule; else the backup is marked as manual
	DryRun    bool   `json:"dryRun,omitempty"`    // look only: nothing is dumped
}

// UnmarshalJSON refuses unknown fields.
func (in *BackupInput) UnmarshalJSON(b []byte) error {
	type plain BackupInput
	return decodeStrict(b, (*plain)(in))
}

// BackupResult is what came of a backup.
type BackupResult struct {
	Summary   string               `json:"summary"`
	Backup    activities.BackupRef `json:"backup"`
	Retention activities.Retention `json:"retention"`
	Offsite   *activities.Synced   `json:"offsite,omitempty"`
	Warnings  []string             `json:"warnings,omitempty"`
	Seconds   float64              `json:"seconds"`
	// Simulation is what a dry run has found, which does nothing else.
	Simulation *Simulation `json:"simulation,omitempty"`
}

// Backup dumps a target's database, checks every byte of the dump, and then lets retention delete what it replaces.
func Backup(ctx workflow.Context, in BackupInput) (BackupResult, error) {
	var res BackupResult
	snap, err := loadTarget(ctx, in.Target)
	if err != nil {
		return res, err
	}
	if in.DryRun {
		return simulateBackup(ctx, snap)
	}
	kind := "manual"
	if in.Scheduled {
		kind = "scheduled"
	}
	started := workflow.Now(ctx)
	status := Status{Target: snap.Target}
	do := func(step string, work func() (string, error)) error {
		status.begin(step)
		publish(ctx, status, snap.SearchAttributes)
		note, err := work()
		state := Done
		if err != nil {
			state, note = Failed, explain(err)
		}
		status.end(step, state, note)
		publish(ctx, status, snap.SearchAttributes)
		return err
	}

	name := backupName(ctx, kind, workflow.GetInfo(ctx).OriginalRunID)
	err = do("Dump the database", func() (string, error) {
		err := workflow.ExecuteActivity(long(ctx, snap.HostQueue, "Dump the database", snap.BackupTimeout), data.DumpDatabase,
			activities.DumpInput{Target: snap.Target, Name: name, Kind: kind}).Get(ctx, &res.Backup)
		return dumpNote(res.Backup), err
	})
	if err != nil {
		return res, err
	}
	err = do("Check every byte", func() (string, error) {
		err := workflow.ExecuteActivity(long(ctx, snap.HostQueue, "Check every byte of the backup", snap.BackupTimeout), catalog.CheckBackup,
			activities.CheckInput{Attempt: activities.Attempt{Target: snap.Target}, ID: name}).Get(ctx, &res.Backup)
		if len(res.Backup.Suspect) > 0 {
			return "suspect: " + res.Backup.Suspect[0], err
		}
		return "verified", err
	})
	if err != nil {
		return res, err
	}
	if snap.Offsite {
		err = do("Copy offsite", func() (string, error) {
			err := workflow.ExecuteActivity(long(ctx, snap.HostQueue, "Copy proven backups offsite", snap.BackupTimeout),
				catalog.SyncOffsite, snap.Target).Get(ctx, &res.Offsite)
			if err != nil {
				return "", err
			}
			return fmt.Sprintf("%d copied, %d old copies deleted", len(res.Offsite.Copied), len(res.Offsite.Deleted)), nil
		})
		if temporal.IsCanceledError(err) {
			return res, err
		}
		if err != nil {
			// The backup is good all the same; the next one copies what this one could not, and the monitor tells if none does.
			res.Warnings = append(res.Warnings, "It is not offsite yet: "+explain(err))
		}
	}
	err = do("Retention", func() (string, error) {
		err := workflow.ExecuteActivity(long(ctx, snap.HostQueue, "Delete what newer proven backups replace", time.Hour),
			catalog.ApplyRetention, snap.Target).Get(ctx, &res.Retention)
		note := fmt.Sprintf("%d deleted, %d kept", len(res.Retention.Deleted), res.Retention.Kept)
		if res.Retention.Frozen {
			note += ": frozen while an incident is open"
		}
		return note, err
	})
	if err != nil {
		return res, err
	}
	res.Seconds = workflow.Now(ctx).Sub(started).Seconds()
	res.Summary = fmt.Sprintf("Backup %s: %s documents in %d collections, every file checked.",
		res.Backup.ID, count(res.Backup.Documents), res.Backup.Collections)
	status.Result, status.Phase = res.Summary, "done"
	publish(ctx, status, snap.SearchAttributes)
	return res, nil
}
