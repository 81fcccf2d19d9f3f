package workflows

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"go.temporal.io/sdk/workflow"
)

// TaskQueue is the queue of the playbooks, unless the configuration names another.
const TaskQueue = "runbook"

// IncidentID is the workflow id of a target's incident: there is one at a time, and a second alert joins it.
func IncidentID(target string) string { return "incident/" + target }

// RestoreID is the workflow id of the body that touches a target's data: two can never run.
func RestoreID(target string) string { return "restore/" + target }

// BackupID is the workflow id of a target's backup that a person starts.
func BackupID(target string) string { return "backup/" + target }

// MonitorID is the workflow id of a target's BackupMonitor; a schedule gives each run an id of its own.
func MonitorID(target string) string { return "monitor/" + target }

// DryRunID is the workflow id of a dry run: no alert joins it.
func DryRunID(target string) string { return "dry-run/" + target }

// ReportID is the workflow id of an incident's report.
func ReportID(incident string) string { return "report/" + incident }

// DrillID is the workflow id of a target's drill: two would share one scratch database.
func DrillID(target string) string { return "drill/" + target }

// incidentID names this run: its folder in storage, and the collections that it sets aside.
func incidentID(ctx workflow.Context) string {
	info := workflow.GetInfo(ctx)
	return info.WorkflowStartTime.UTC().Format("20060102T150405Z") + "-" + short(info.OriginalRunID)
}

// backupName names a backup by its time, its kind and what makes it: the same on every attempt of the step.
func backupName(ctx workflow.Context, kind, owner string) string {
	return fmt.Sprintf("%s-%s-%s", workflow.Now(ctx).UTC().Format("20060102T150405Z"), kind, short(owner+kind))
}

func short(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:3])
}
