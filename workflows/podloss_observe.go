package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/battwheels/runbook/activities"
)

const (
	// unsettled is how many times the configured number of observations are made at most before people are asked: a database
	// that comes and goes is as bad as one that is gone.
	unsettled = 10
	// seldom is the longest pause between two observations while people are waited for, for days perhaps.
	seldom = 10 * time.Minute
)

// observe looks until as many observations in a row agree as the policy wants, or a person knows better. One flapping probe
// declares nothing.
func (p *podLoss) observe(ctx workflow.Context) (gone bool, err error) {
	policy := p.snap.PodLoss
	enough := max(policy.Observations, 1)
	p.begin(ctx, stepObserve)
	for {
		if err := p.look(ctx); err != nil {
			return false, err
		}
		note := fmt.Sprintf("%d observations, the last: %s", p.looks, p.last.What)
		switch {
		case p.verdict != nil, p.bad >= enough, p.looks >= enough*unsettled:
			if p.goneAt.IsZero() {
				p.goneAt = p.beganAt(ctx)
			}
			p.end(ctx, stepObserve, Done, note)
			return true, nil
		case p.good >= enough:
			p.end(ctx, stepObserve, Done, note)
			return false, nil
		}
		p.end(ctx, stepObserve, Running, note)
		if _, err := workflow.AwaitWithTimeout(ctx, policy.Every, func() bool { return p.verdict != nil }); err != nil {
			return false, err
		}
	}
}

// look observes the database once, from any host.
func (p *podLoss) look(ctx workflow.Context) error {
	before, _ := p.incident.since.time() // an alert's own time, made by this playbook
	var o activities.Observation
	err := workflow.ExecuteActivity(quick(ctx, "Look at what is left of the database"), data.ObserveDatabase,
		activities.ObserveInput{Target: p.snap.Target, Before: before}).Get(ctx, &o)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	p.looks++
	switch {
	case err != nil: // that says nothing of the database
		p.last.What = "it could not be looked at: " + explain(err)
		return nil
	case o.State == activities.DatabaseWhole:
		p.bad, p.good = 0, p.good+1
	default:
		p.bad, p.good = p.bad+1, 0
		if p.goneAt.IsZero() {
			p.goneAt = p.beganAt(ctx)
		}
	}
	p.last = o
	return nil
}

// beganAt is since when the database is gone: since the alert says so, where one does.
func (p *podLoss) beganAt(ctx workflow.Context) time.Time {
	now := workflow.Now(ctx).UTC()
	if since, err := p.incident.since.time(); err == nil && !since.IsZero() && since.Before(now) {
		return since
	}
	return now
}

// seen is what the platform's support is told of the observations.
func (p *podLoss) seen() []string {
	list := []string{fmt.Sprintf("%d observations, %s apart; %d in a row found the database gone.", p.looks, p.snap.PodLoss.Every, p.bad), "The last: " + p.last.What + "."}
	if p.last.Volume != "" {
		list = append(list, p.last.Volume+".")
	}
	return list
}

// awaitDatabase waits until there is a database to restore into, or one that has come back, and asks people for it. It returns
// false when they change their mind about the volume, or give up.
func (p *podLoss) awaitDatabase(ctx workflow.Context, lost bool) (there bool, err error) {
	answers := func() bool {
		return p.last.State != activities.DatabaseSilent && (lost || p.last.State != activities.DatabaseEmpty)
	}
	if err := p.look(ctx); err != nil || answers() {
		return err == nil, err
	}
	said := p.verdict
	question := "The volume is lost, and there is no database to restore into: %s. Make an empty one at the configured address; the restore begins by itself as soon as it answers."
	if !lost {
		question = "The volume is said to be back, but of the database this is seen: %s. It is looked at again and again. Say `volume-lost` where it will not come back."
	}
	p.putQuestion(ctx, fmt.Sprintf(question, p.last.What), Retry, GiveUp)
	defer p.closeQuestion()
	for pause := p.snap.PodLoss.Every; ; pause = min(2*pause, seldom) {
		if _, err := workflow.AwaitWithTimeout(ctx, pause, func() bool { return p.choice != nil || p.verdict != said }); err != nil {
			return false, err
		}
		if p.verdict != said {
			return false, nil
		}
		if p.choice != nil && p.choice.Choice == GiveUp {
			p.result.Outcome = GaveUp
			p.result.Summary = "Given up by " + p.choice.By + ": there was no database to restore into. Nothing was changed."
			return false, nil
		}
		p.choice = nil
		if err := p.look(ctx); err != nil {
			return false, err
		}
		if answers() {
			return true, nil
		}
	}
}

// openWhereAlive makes the incident's folder on the host that the steps run on. Where no worker answers there, the host went with
// the pod, and another one takes over with nothing but its configuration and the bucket.
func (p *podLoss) openWhereAlive(ctx workflow.Context) error {
	p.publish(ctx)
	for {
		in := activities.OpenInput{Target: p.snap.Target, Incident: p.id, Playbook: p.playbook, DetectedAt: p.result.DetectedAt, Cause: p.cause}
		o := workflow.GetActivityOptions(onHost(ctx, p.snap.HostQueue, "Open the incident"))
		o.ScheduleToStartTimeout = hostAnswers
		err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, o), records.OpenIncident, in).Get(ctx, nil)
		if !nobodyThere(err) {
			return err
		}
		snap, err := loadTarget(ctx, p.snap.Target)
		if err != nil {
			return err
		}
		if snap.HostQueue != p.snap.HostQueue {
			p.warn(fmt.Sprintf("No worker answered on %s; %s went on in its place.", p.snap.HostQueue, snap.HostQueue))
		}
		p.snap.HostQueue = snap.HostQueue
	}
}
