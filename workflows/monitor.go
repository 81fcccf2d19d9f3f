package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/battwheels/runbook/activities"
)

// MonitorInput starts BackupMonitor. Every field may be left out.
type MonitorInput struct {
	Target string `json:"target,omitempty"`
}

// UnmarshalJSON refuses unknown fields.
func (in *MonitorInput) UnmarshalJSON(b []byte) error {
	type plain MonitorInput
	return decodeStrict(b, (*plain)(in))
}

// MonitorResult is what BackupMonitor found.
type MonitorResult struct {
	Healthy  bool                `json:"healthy"`
	Summary  string              `json:"summary"`
	Findings activities.Findings `json:"findings"`
}

// BackupMonitor looks at a target's backups as a suspicious person would: their age, their size, runs that ended half-way or
// without a word. It tells the people on call what it found.
func BackupMonitor(ctx workflow.Context, in MonitorInput) (MonitorResult, error) {
	var res MonitorResult
	snap, err := loadTarget(ctx, in.Target)
	if err != nil {
		return res, err
	}
	err = workflow.ExecuteActivity(long(ctx, snap.HostQueue, "Look at the age, size and end of every backup", 30*time.Minute),
		catalog.CheckBackups, snap.Target).Get(ctx, &res.Findings)
	if err != nil {
		return res, err
	}
	res.Healthy = res.Findings.Healthy
	res.Summary = "The backups are as they should be: the newest proven one is " + res.Findings.Newest + "."
	status := Status{Target: snap.Target, Phase: "checked"}
	status.end("Look at the backups", Done, res.Summary)
	if !res.Healthy {
		res.Summary = fmt.Sprintf("%d things are wrong with the backups of %s.", len(res.Findings.Problems), snap.Target)
		status.end("Look at the backups", Failed, res.Summary)
		for _, p := range res.Findings.Problems {
			status.Steps = append(status.Steps, Step{Name: p.Code, State: Failed, Note: p.Text})
		}
	}
	publish(ctx, status, snap.SearchAttributes)
	if res.Healthy || !snap.OnCall {
		return res, nil
	}
	err = workflow.ExecuteActivity(patient(ctx, snap.HostQueue, "Mail the people on call: what is wrong with the backups"),
		mails.TellPeople, activities.TellInput{
			Target: snap.Target, Kind: activities.MailMonitor, Key: "monitor-" + workflow.GetInfo(ctx).OriginalRunID,
			Findings: &res.Findings, WorkflowID: workflow.GetInfo(ctx).WorkflowExecution.ID,
		}).Get(ctx, nil)
	return res, err
}
