package workflows

import (
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/battwheels/runbook/activities"
	"github.com/battwheels/runbook/internal/estimate"
)

// Simulation is what a dry run has found: what would happen, how long it would take, and
// what would hinder it.
type Simulation struct {
	Playbook string `json:"playbook"`
	Ready    bool   `json:"ready"` // nothing that was looked at would hinder a recovery
	// Plan is what an approval would be asked for; nil where no backup can be restored. Its code approves nothing.
	Plan     *activities.Plan        `json:"plan,omitempty"`
	Checks   []activities.Check      `json:"checks"`
	Phases   []estimate.Estimate     `json:"phases,omitempty"`
	Expected estimate.Sum            `json:"expected"`
	RTO      time.Duration           `json:"rto,omitempty"`      // allowed
	Observed *activities.Observation `json:"observed,omitempty"` // of PodLoss and Backup
	File     string                  `json:"file,omitempty"`     // the whole blast radius, in storage
}

// problems counts what would hinder a recovery.
func (s *Simulation) problems() int {
	n := 0
	for _, c := range s.Checks {
		if c.State == activities.CheckProblem {
			n++
		}
	}
	return n
}

// The steps of a dry run.
const (
	stepPickAndCheck = "Choose a backup, check every byte"
	stepCount        = "Compare it with the database"
	stepSurvey       = "Look at all that a recovery needs"
	stepEstimate     = "Estimate how long it would take"
)

// simulation is one dry run. It has no doors: it asks nobody. It runs under an id of its own, takes no lease and opens no incident, so
// that an alert starts a real one meanwhile.
type simulation struct {
	playbook string
	snap     activities.Snapshot
	in       RestoreInput
	id       string
	status   Status
	found    Simulation
	backup   *activities.Examined
	warnings []string
}

// few are the tries of a dry run's step: what does not answer by then is a finding.
var few = temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 2, MaximumAttempts: 3}

// newSimulation begins a dry run of these steps. It refuses the ids under which an alert, a restore or a backup would look for a real
// one.
func newSimulation(ctx workflow.Context, playbook string, snap activities.Snapshot, in RestoreInput, steps ...string) (*simulation, error) {
	id := workflow.GetInfo(ctx).WorkflowExecution.ID
	if id == IncidentID(snap.Target) || id == RestoreID(snap.Target) || id == BackupID(snap.Target) {
		return nil, badInput(fmt.Errorf("a dry run cannot be %s: what really has to be done would find it there and not begin; give it the workflow id %s", id, DryRunID(snap.Target)))
	}
	s := &simulation{playbook: playbook, snap: snap, in: in, id: incidentID(ctx), found: Simulation{Playbook: playbook, RTO: snap.RTO}}
	s.status = Status{Target: snap.Target}
	for _, name := range steps {
		s.status.Steps = append(s.status.Steps, Step{Name: name, State: Pending})
	}
	err := workflow.SetQueryHandlerWithOptions(ctx, QueryStatus, func() (Status, error) { return s.status, nil },
		workflow.QueryHandlerOptions{Description: "What is done, and what runs"})
	if err != nil {
		return nil, fmt.Errorf("register query: %w", err)
	}
	return s, nil
}

// simulate runs all the reading and planning of a playbook that restores.
func simulate(ctx workflow.Context, playbook string, snap activities.Snapshot, in RestoreInput) (*Simulation, error) {
	steps := []string{stepPickAndCheck, stepCount, stepSurvey, stepEstimate}
	if playbook == "PodLoss" {
		steps = []string{stepObserve, stepPickAndCheck, stepSurvey, stepEstimate}
	}
	s, err := newSimulation(ctx, playbook, snap, in, steps...)
	if err != nil {
		return nil, err
	}
	return s.run(ctx)
}

func (s *simulation) podLoss() bool { return s.playbook == "PodLoss" }

// run reads from top to bottom like the playbook that it stands for. What fails is a finding; only bad input and a cancellation end it.
func (s *simulation) run(ctx workflow.Context) (*Simulation, error) {
	if s.podLoss() {
		if err := s.step(ctx, stepObserve, s.observe); err != nil {
			return nil, err
		}
	}
	if err := s.step(ctx, stepPickAndCheck, s.pick); err != nil {
		return nil, err
	}
	if s.podLoss() {
		if err := s.draw(ctx, true); err != nil {
			return nil, err
		}
	} else if err := s.step(ctx, stepCount, s.count); err != nil {
		return nil, err
	}
	if err := s.step(ctx, stepSurvey, s.survey); err != nil {
		return nil, err
	}
	if err := s.step(ctx, stepEstimate, s.estimate); err != nil {
		return nil, err
	}
	return s.finish(ctx), nil
}

func (s *simulation) finish(ctx workflow.Context) *Simulation {
	s.found.Ready = s.found.problems() == 0
	s.status.Phase, s.status.Result, s.status.Simulation = string(Planned), s.found.summary(), &s.found
	s.publish(ctx)
	return &s.found
}

// step runs one part. An error of it becomes a problem of its name.
func (s *simulation) step(ctx workflow.Context, name string, do func(workflow.Context) (string, error)) error {
	s.status.begin(name)
	s.publish(ctx)
	note, err := do(ctx)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case is(err, activities.BadInput):
		return err
	case err != nil:
		s.status.end(name, Failed, explain(err))
		s.problem(name, explain(err), "")
	default:
		s.status.end(name, Done, note)
	}
	s.publish(ctx)
	return nil
}

func (s *simulation) problem(name, text, do string) {
	s.found.Checks = append(s.found.Checks, activities.Check{Name: name, State: activities.CheckProblem, Text: text, Do: do})
}

func (s *simulation) publish(ctx workflow.Context) { publish(ctx, s.status, s.snap.SearchAttributes) }

// reading is for steps of a dry run, on the host that has the backups.
func (s *simulation) reading(ctx workflow.Context, summary string) workflow.Context {
	o := workflow.GetActivityOptions(long(ctx, s.snap.HostQueue, summary, longest))
	o.RetryPolicy = &few
	return workflow.WithActivityOptions(ctx, o)
}

// observe looks at the database once, where the playbook would look several times.
func (s *simulation) observe(ctx workflow.Context) (string, error) {
	before, err := s.in.Since.time()
	if err != nil {
		return "", badInput(err)
	}
	var o activities.Observation
	err = workflow.ExecuteActivity(s.reading(ctx, "Look at what is left of the database"), data.ObserveDatabase,
		activities.ObserveInput{Target: s.snap.Target, Before: before}).Get(ctx, &o)
	if err != nil {
		return "", err
	}
	s.found.Observed = &o
	if o.State != activities.DatabaseWhole {
		s.problem("database", o.What, "if that is true, start the playbook itself")
		return o.What, nil
	}
	return o.What + ": the playbook would end here, as a false alarm", nil
}

// pick chooses a backup as a restore does, and reads it whole. One that is damaged is passed over, and is a problem.
func (s *simulation) pick(ctx workflow.Context) (string, error) {
	since, err := s.in.Since.time()
	if err != nil {
		return "", badInput(err)
	}
	var passed []string
	for {
		var chosen activities.Chosen
		err := workflow.ExecuteActivity(s.reading(ctx, "Choose the newest proven backup from before the damage"), catalog.ChooseBackup, activities.ChooseInput{
			Attempt: activities.Attempt{Target: s.snap.Target, Collections: s.in.Collections}, Before: since, Want: s.in.Backup, Excluded: passed,
		}).Get(ctx, &chosen)
		if err != nil {
			return "", err
		}
		var e activities.Examined
		err = workflow.ExecuteActivity(s.reading(ctx, "Read every byte of backup "+chosen.ID+", and note nothing"), simulations.ExamineBackup,
			activities.ExamineInput{Target: s.snap.Target, Backup: chosen.ID}).Get(ctx, &e)
		if err == nil {
			s.backup, s.warnings = &e, append(s.warnings, chosen.PassedOver...)
			note := fmt.Sprintf("%s of %s: %s documents, every file checked", e.Backup.ID, stamp(e.Backup.Time), count(e.Backup.Documents))
			if e.Away {
				note = fmt.Sprintf("%s of %s: %s documents, offsite only; its manifest was read", e.Backup.ID, stamp(e.Backup.Time), count(e.Backup.Documents))
			}
			return note, nil
		}
		if s.in.Backup != "" || !is(err, activities.CorruptBackup) {
			return "", err
		}
		passed = append(passed, chosen.ID)
		text := fmt.Sprintf("Backup %s was passed over: %s", chosen.ID, message(err))
		s.warnings = append(s.warnings, text)
		s.problem("backup", text, fmt.Sprintf("record it, and see what happened to it: runbook backups verify %s %s", s.snap.Target, chosen.ID))
	}
}

// count draws the plan against the database as it is.
func (s *simulation) count(ctx workflow.Context) (string, error) {
	if s.backup == nil {
		return "there is no backup to compare it with", nil
	}
	if err := s.draw(ctx, false); err != nil {
		return "", err
	}
	p := s.found.Plan
	if !p.RadiusKnown {
		return "what would be lost is not known", nil
	}
	return fmt.Sprintf("%s documents would come back, %s change, %s leave", count(p.Radius.Missing), count(p.Radius.Changed), count(p.Radius.Added)), nil
}

// draw draws the plan; of an empty database nothing is read.
func (s *simulation) draw(ctx workflow.Context, empty bool) error {
	if s.backup == nil {
		return nil
	}
	var drawn activities.Simulated
	err := workflow.ExecuteActivity(s.reading(ctx, "Draw the plan: what would come back, change and leave"), simulations.SimulatePlan, activities.SimulateInput{
		Target: s.snap.Target, ID: s.id, Backup: s.backup.Backup.ID, Collections: s.in.Collections, Empty: empty, Warnings: s.warnings,
	}).Get(ctx, &drawn)
	if err != nil {
		return err
	}
	s.found.Plan, s.found.File = &drawn.Plan, drawn.File
	return nil
}

func (s *simulation) survey(ctx workflow.Context) (string, error) {
	in := activities.SurveyInput{Target: s.snap.Target, Playbook: s.playbook}
	if s.backup != nil {
		in.Backup, in.Files = &s.backup.Backup, s.backup.Bytes
	}
	var seen activities.Survey
	err := workflow.ExecuteActivity(s.reading(ctx, "Look at rights, space, application, health and contacts"), simulations.SurveyTarget, in).Get(ctx, &seen)
	if err != nil {
		return "", err
	}
	s.found.Checks = append(s.found.Checks, seen.Checks...)
	return fmt.Sprintf("%d things looked at, %d problems so far", len(seen.Checks), s.found.problems()), nil
}

// estimate says how long a recovery would take, and holds that against the objective.
func (s *simulation) estimate(ctx workflow.Context) (string, error) {
	if s.backup == nil {
		return "there is no backup to restore", nil
	}
	in := activities.EstimateInput{Target: s.snap.Target, Phases: s.phases(), Documents: s.backup.Backup.Documents, Bytes: s.backup.Backup.Bytes}
	if !s.backup.Away {
		in.Measured = []estimate.Past{{
			Phase: estimate.Check, Kind: estimate.Now, At: workflow.Now(ctx).UTC(), Documents: in.Documents, Bytes: in.Bytes, Seconds: s.backup.Seconds,
		}}
	}
	var e activities.Estimated
	err := workflow.ExecuteActivity(s.reading(ctx, "Estimate from past drills, recoveries and backups"), simulations.EstimateRecovery, in).Get(ctx, &e)
	if err != nil {
		return "", err
	}
	s.found.Phases, s.found.Expected = e.Phases, e.Sum
	s.found.Checks = append(s.found.Checks, s.objective(e.Sum))
	return e.Sum.Line(), nil
}

// phases are those of this recovery: without an application nothing is stopped, without an audit log nothing is merged, and a database
// that was lost is hardly worth a dump. A backup that is offsite only is fetched first.
func (s *simulation) phases() []estimate.Phase {
	phases := slices.DeleteFunc(estimate.Phases(), func(p estimate.Phase) bool {
		return len(s.snap.Writers) == 0 && (p == estimate.Stop || p == estimate.Start) ||
			len(s.snap.AuditLogs) == 0 && p == estimate.Merge ||
			s.podLoss() && (p == estimate.Dump || p == estimate.Safety)
	})
	if s.backup.Away {
		phases = append([]estimate.Phase{estimate.Fetch}, phases...)
	}
	return phases
}

// objective holds the estimate against the target's objective. People's time to read and approve comes on top.
func (s *simulation) objective(sum estimate.Sum) activities.Check {
	c := activities.Check{Name: "recovery time", State: activities.CheckOK}
	allowed := estimate.Duration(s.snap.RTO.Seconds())
	switch {
	case s.snap.RTO <= 0:
		c.State, c.Text = activities.CheckUnknown, sum.Total()+"; no objective is configured (monitor.rto)"
	case sum.TotalSeconds > s.snap.RTO.Seconds():
		c.State, c.Text = activities.CheckProblem, sum.Total()+", and "+allowed+" are allowed (monitor.rto)"
		c.Do = "see below which phase takes longest"
	case len(sum.Unknown) > 0:
		c.State, c.Text = activities.CheckUnknown, sum.Total()+" of the "+allowed+" allowed; some phases were never measured"
		c.Do = "a drill measures the largest ones: runbook start RestoreDrill " + s.snap.Target
	default:
		c.Text = sum.Total() + " of the " + allowed + " allowed, without people's time"
	}
	return c
}

// summary is one sentence for people.
func (s *Simulation) summary() string {
	ready := "Nothing that was looked at would hinder it."
	if n := s.problems(); n == 1 {
		ready = "One thing would hinder it."
	} else if n > 1 {
		ready = fmt.Sprintf("%d things would hinder it.", n)
	}
	what := "there is no plan"
	if s.Playbook == "Backup" && s.Observed != nil {
		what = fmt.Sprintf("%s documents in %d collections would be dumped", count(s.Observed.Documents), s.Observed.Collections)
	}
	if s.Plan != nil {
		what = "backup " + s.Plan.Backup.ID + " would be restored"
	}
	return fmt.Sprintf("A dry run of %s: %s. %s Nothing was changed, nobody was told.", s.Playbook, what, ready)
}

var simulations *activities.Simulation

// simulateIncident is the dry run of a playbook of an incident.
func simulateIncident(ctx workflow.Context, playbook string, snap activities.Snapshot, in RestoreInput) (IncidentResult, error) {
	r := IncidentResult{Incident: incidentID(ctx), DetectedAt: workflow.GetInfo(ctx).WorkflowStartTime.UTC()}
	found, err := simulate(ctx, playbook, snap, in)
	if err != nil {
		return r, err
	}
	r.Outcome, r.Summary, r.Simulation = Planned, found.summary(), found
	return r, nil
}

// simulateRestore is the dry run of Restore.
func simulateRestore(ctx workflow.Context, snap activities.Snapshot, in RestoreInput) (RestoreResult, error) {
	r := RestoreResult{Target: snap.Target, Incident: incidentID(ctx)}
	found, err := simulate(ctx, "Restore", snap, in)
	if err != nil {
		return r, err
	}
	r.Outcome, r.Summary, r.Simulation = Planned, found.summary(), found
	return r, nil
}
