package activities

import (
	"context"
	"slices"
	"time"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/sdk/activity"

	"github.com/battwheels/runbook/internal/config"
)

// The search attributes that runbook sets where the namespace has them.
const (
	AttributeTarget = "RunbookTarget"
	AttributePhase  = "RunbookPhase"
)

// Target answers what the configuration says of a target.
type Target struct{ Base }

// Snapshot is all that a playbook may vary with, read once as its first step: the workflow decides from nothing else.
type Snapshot struct {
	Target     string   `json:"target"`
	Database   string   `json:"database"`
	HostQueue  string   `json:"hostQueue"` // of the host that has the backups
	Writers    []string `json:"writers"`   // what will be stopped; empty when nothing can be
	Health     bool     `json:"health"`    // whether there is a check of health
	KeyCounts  []string `json:"keyCounts"`
	AuditLogs  []string `json:"auditLogs"`
	Tenants    bool     `json:"tenants"` // whether organizations are told
	OnCall     bool     `json:"onCall"`
	Escalation bool     `json:"escalation"`

	AutoApprove *config.AutoApprove `json:"autoApprove,omitempty"`
	MoreLoss    int64               `json:"moreLoss"`

	RPO           time.Duration `json:"rpo"`
	RTO           time.Duration `json:"rto"`
	EscalateAfter time.Duration `json:"escalateAfter"`
	ReportWithin  time.Duration `json:"reportWithin"`
	BackupTimeout time.Duration `json:"backupTimeout"`

	// DrillTimeout bounds one attempt of a drill's step.
	DrillTimeout time.Duration `json:"drillTimeout,omitempty"`

	Queries bool `json:"queries,omitempty"` // whether there are queries that hold on a sound database

	Offsite bool `json:"offsite,omitempty"` // whether proven backups are copied to a bucket

	PodLoss PodLossPolicy `json:"podLoss,omitzero"`

	SearchAttributes []string `json:"searchAttributes,omitempty"` // that this namespace has
}

// PodLossPolicy is how the playbook of a lost volume goes on.
type PodLossPolicy struct {
	Observations int           `json:"observations"` // that must fail in a row
	Every        time.Duration `json:"every"`
	Deadline     time.Duration `json:"deadline,omitempty"` // after which nobody's answer means lost; 0: never
	Support      bool          `json:"support,omitempty"`  // whether the platform's support is asked
	Users        []string      `json:"users,omitempty"`    // database users and roles that the application needs
}

// LoadTarget returns the snapshot of a target; "" means the only one. A name that is not configured is bad input.
func (a *Target) LoadTarget(ctx context.Context, name string) (Snapshot, error) {
	name, t, err := a.Config.Target(name)
	if err != nil {
		return Snapshot{}, badInput(err)
	}
	s := Snapshot{
		Target:        name,
		Database:      t.Database.Name,
		HostQueue:     a.HostQueue,
		Health:        t.Application.Health != nil,
		KeyCounts:     t.Verify.KeyCounts,
		Tenants:       t.Tenants.Collection != "",
		OnCall:        len(t.Contacts.OnCall) > 0,
		Escalation:    len(t.Contacts.Escalation) > 0,
		AutoApprove:   t.Policy.AutoApprove,
		RPO:           time.Duration(t.Monitor.RPO),
		RTO:           time.Duration(t.Monitor.RTO),
		EscalateAfter: time.Duration(t.Policy.EscalateAfter),
		ReportWithin:  time.Duration(t.Policy.ReportWithin),
		BackupTimeout: time.Duration(t.Backup.Timeout),
		DrillTimeout:  time.Duration(t.Drill.Timeout),
		Queries:       len(t.Verify.Queries) > 0,
		Offsite:       a.Config.Storage.Offsite.URL != "",
	}
	p := t.PodLoss
	s.PodLoss = PodLossPolicy{
		Observations: p.Observations, Every: time.Duration(p.Every), Deadline: time.Duration(p.Deadline), Support: len(p.Support) > 0, Users: p.Users,
	}
	if t.Policy.MoreLoss != nil {
		s.MoreLoss = *t.Policy.MoreLoss
	}
	switch {
	case t.Application.Supervisor != nil:
		s.Writers = t.Application.Supervisor.Programs
	case t.Application.Kubernetes != nil:
		s.Writers = t.Application.Kubernetes.Workloads
	case t.Application.Command != nil:
		s.Writers = []string{t.Application.Command.Stop[0]}
	}
	for _, l := range t.AuditLogs {
		s.AuditLogs = append(s.AuditLogs, l.Collection)
	}
	s.SearchAttributes = a.searchAttributes(ctx)
	return s, nil
}

// Attributes names the search attributes of playbooks, all of type Keyword.
func Attributes() []string { return []string{AttributeTarget, AttributePhase} }

// searchAttributes says which of our attributes the namespace has; setting one that it lacks would fail the workflow
// task for ever. Where the question is not allowed, the playbooks do without.
func (a *Target) searchAttributes(ctx context.Context) []string {
	r, err := a.Temporal.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{
		Namespace: activity.GetInfo(ctx).Namespace,
	})
	if err != nil {
		a.Log.Info("search attributes are not set: the namespace's list cannot be read", "error", err)
		return nil
	}
	var have []string
	for _, name := range Attributes() {
		if r.GetCustomAttributes()[name] == enums.INDEXED_VALUE_TYPE_KEYWORD {
			have = append(have, name)
		}
	}
	slices.Sort(have)
	return have
}
