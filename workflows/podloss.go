package workflows

import (
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/battwheels/runbook/activities"
)

// PodLossInput starts PodLoss. Every field may be left out.
type PodLossInput struct {
	Target string `json:"target,omitempty"`
	Backup string `json:"backup,omitempty"` // an id that "runbook backups list" shows; default the newest proven one
	Since  Since  `json:"since,omitempty"`  // when the database was lost: only older backups are chosen
	DryRun bool   `json:"dryRun,omitempty"` // read and plan only: nothing is changed, nobody is told
	Alert  *Alert `json:"alert,omitempty"`  // what raised it, where an alert did
	By     string `json:"by,omitempty"`     // who started it, where a person did
	Reason string `json:"reason,omitempty"`
}

// UnmarshalJSON refuses unknown fields.
func (in *PodLossInput) UnmarshalJSON(b []byte) error {
	type plain PodLossInput
	return decodeStrict(b, (*plain)(in))
}

// The steps of PodLoss, in the words of the runbook.
const (
	stepObserve = "See what is left of the database"
	stepSupport = "Ask the platform's support for the volume"
	stepFetch   = "Fetch and prove the newest backup"
	stepVolume  = "Volume recovered, or lost"
	stepCompare = "Compare the recovered database with the last backup"
)

type podLoss struct {
	incident
	in PodLossInput

	// what was seen
	last      activities.Observation
	bad, good int       // observations in a row
	looks     int       // all of them
	goneAt    time.Time // since when the database is seen gone; zero while it is not

	// what people are asked, and say
	questions
	verdict *Answer // the latest word on the volume
	settled bool    // no word on the volume changes anything any more

	// the backup that is made ready meanwhile
	proven  activities.BackupRef
	failure string // why it could not be
	ready   bool   // made ready, or failed
	readyOn string // queue of the host that has it
}

// PodLoss is scenario B of the runbook: the database's pod or volume is gone. See what is left, ask the platform for the volume,
// make the newest backup ready meanwhile, and restore it when the volume is lost.
func PodLoss(ctx workflow.Context, in PodLossInput) (IncidentResult, error) {
	if _, err := in.Since.time(); err != nil {
		return IncidentResult{}, badInput(err)
	}
	snap, err := loadTarget(ctx, in.Target)
	if err != nil {
		return IncidentResult{}, err
	}
	in.Target = snap.Target
	if in.DryRun {
		return simulateIncident(ctx, "PodLoss", snap, RestoreInput{Backup: in.Backup, Since: in.Since})
	}
	if workflow.GetInfo(ctx).WorkflowExecution.ID != IncidentID(snap.Target) {
		var result IncidentResult
		err := asChild(ctx, snap, IncidentID(snap.Target), PodLoss, in, &result, volumeDoors...)
		return result, err
	}
	raised := CorruptionInput{Since: in.Since, Alert: in.Alert, Reason: in.Reason}
	p := &podLoss{in: in, incident: incident{playbook: "PodLoss", snap: snap, cause: raised.cause(), since: raised.since(), own: volumeDoors}}
	p.answer = p.hearAnswer
	ctx, p.stop = workflow.WithCancel(ctx)
	if err := p.setup(ctx, stepRestore, stepObserve, stepSupport, stepFetch, stepVolume, stepEmergency, stepRestore, stepMails, stepReport); err != nil {
		return IncidentResult{}, err
	}
	return p.run(ctx)
}

// run is the runbook's scenario B, read from top to bottom.
func (p *podLoss) run(ctx workflow.Context) (IncidentResult, error) {
	err := p.openWhereAlive(ctx)
	if err != nil {
		return p.result, err
	}
	err = p.recover(ctx)
	if ctx.Err() != nil && p.result.Outcome == "" {
		p.result.Outcome, p.result.Summary = Aborted, "Cancelled while the volume was waited for: nothing was changed."
		if p.abort != nil {
			p.result.Summary, err = "Aborted by "+p.abort.By+" while the volume was waited for: nothing was changed.", nil
			p.said = append(p.said, *p.abort)
		}
	} else if err != nil && p.result.Outcome == "" {
		p.result.Outcome, p.result.Summary = GaveUp, explain(err)
	}
	p.closeQuestion()
	p.settled, p.result.Answers = true, p.said
	// What follows tells people what happened, however it ended.
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	if p.result.Outcome == Recovered {
		p.tellOrganizations(ctx)
	}
	p.tellContacts(ctx)
	switch p.result.Outcome {
	case Recovered, RolledBack, VolumeRecovered:
		p.openReport(ctx)
	}
	p.skipPending()
	if closeErr := p.close(ctx); err == nil {
		err = closeErr
	}
	return p.result, err
}

// recover brings the database back: its own volume, or the backup.
func (p *podLoss) recover(ctx workflow.Context) error {
	gone, err := p.observe(ctx)
	if err != nil {
		return err
	}
	if !gone && p.goneAt.IsZero() {
		p.result.Outcome = FalseAlarm
		p.result.Summary = fmt.Sprintf("False alarm: %d observations in a row found the database whole (%s). Nothing was changed.", p.good, p.last.What)
		return nil
	}
	p.makeReady(ctx)
	if !gone {
		return p.comeBack(ctx, FalseAlarm)
	}
	p.askSupport(ctx)
	for {
		lost, err := p.awaitVerdict(ctx)
		if err != nil {
			return err
		}
		there, err := p.awaitDatabase(ctx, lost)
		switch {
		case err != nil:
			return err
		case p.result.Outcome != "":
			return nil // given up
		case there && lost:
			return p.restore(ctx)
		case there:
			return p.comeBack(ctx, VolumeRecovered)
		}
		// A person has changed their mind.
	}
}

// askSupport writes to those who may still recover the volume: once, and nobody waits for the mail service.
func (p *podLoss) askSupport(ctx workflow.Context) {
	if !p.snap.PodLoss.Support {
		p.end(ctx, stepSupport, Skipped, "no address of the platform's support is configured")
		p.warn("The platform's support was not asked by runbook: podLoss.support is not configured.")
		return
	}
	if p.verdict != nil {
		p.end(ctx, stepSupport, Skipped, p.verdict.By+" knows already")
		return
	}
	p.begin(ctx, stepSupport)
	in := activities.TellInput{
		Target: p.snap.Target, Incident: p.id, Kind: activities.MailSupport, Key: p.id + "-support",
		Since: p.goneAt, Asked: workflow.Now(ctx).UTC(), Seen: p.seen(),
	}
	workflow.GoNamed(ctx, "support", func(ctx workflow.Context) {
		err := workflow.ExecuteActivity(patient(ctx, p.snap.HostQueue, "Ask the platform's support to recover the volume"), mails.TellPeople, in).Get(ctx, nil)
		if err != nil {
			p.end(ctx, stepSupport, Failed, explain(err))
			p.warn("The platform's support was not asked: " + explain(err))
			return
		}
		p.end(ctx, stepSupport, Done, "asked to recover the volume")
	})
}

// makeReady fetches the newest proven backup from before the loss to this host, and checks every byte of it, while the volume is
// waited for: the restore then begins the second it is needed.
func (p *podLoss) makeReady(ctx workflow.Context) {
	p.begin(ctx, stepFetch)
	p.ready, p.readyOn = false, p.snap.HostQueue
	workflow.GoNamed(ctx, "make the backup ready", func(ctx workflow.Context) {
		r := &restore{in: RestoreInput{Backup: p.in.Backup, Since: p.incident.since}, asking: asking{snap: p.snap, incident: p.id}}
		r.attempt = activities.Attempt{Target: p.snap.Target, Incident: p.id}
		note, err := r.chooseBackup(ctx)
		if err != nil {
			p.failure = explain(err)
			p.end(ctx, stepFetch, Failed, p.failure)
		} else {
			p.proven = r.backup
			p.end(ctx, stepFetch, Done, note)
		}
		p.result.Warnings = append(p.result.Warnings, r.warnings...)
		p.ready = true
		p.refresh(ctx)
	})
}

// restore runs the body that touches the data, as the child restore/TARGET, into what answers now: an empty database, or one
// in which the application has begun to write.
func (p *podLoss) restore(ctx workflow.Context) error {
	if err := workflow.Await(ctx, func() bool { return p.ready }); err != nil {
		return err
	}
	if err := p.openWhereAlive(ctx); err != nil {
		return err
	}
	p.settled = true
	p.begin(ctx, stepEmergency)
	dump, err := emergencyDump(ctx, p.snap, p.id)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil: // the restore asks for another
		p.end(ctx, stepEmergency, Failed, explain(err))
	default:
		p.result.EmergencyDump = dump.ID
		p.end(ctx, stepEmergency, Done, dumpNote(dump))
	}
	p.begin(ctx, stepRestore)
	var res RestoreResult
	err = p.runChild(ctx, RestoreID(p.snap.Target), Restore, RestoreInput{
		Target: p.snap.Target, Backup: p.in.Backup, Since: p.incident.since, Incident: p.id, Emergency: p.result.EmergencyDump,
		Host: p.snap.HostQueue, Warnings: p.planWarnings(),
	}, &res)
	p.result.Restore, p.result.GoneAt = res, p.goneAt
	p.follow(ctx, res.Host)
	if err != nil {
		p.result.Outcome, p.result.Summary = GaveUp, p.lastOf(err)
		p.end(ctx, stepRestore, Failed, explain(err))
		return err
	}
	p.result.Outcome, p.result.Summary = res.Outcome, res.Summary
	if res.Outcome != Recovered {
		p.end(ctx, stepRestore, Failed, res.Summary)
		return nil
	}
	p.result.RTOSeconds = res.HealthyAt.Sub(p.result.DetectedAt).Seconds()
	p.count(&p.result.Restore)
	p.end(ctx, stepRestore, Done, p.result.Summary)
	return nil
}

// count puts the loss right: the restore counts from its own stop of the application, which had lost its database long before.
func (p *podLoss) count(r *RestoreResult) {
	if p.goneAt.IsZero() || p.goneAt.After(r.StoppedAt) {
		p.result.GoneAt = time.Time{}
		return
	}
	r.DowntimeSeconds, r.RPOSeconds = r.HealthyAt.Sub(p.goneAt).Seconds(), p.goneAt.Sub(r.Backup.Time).Seconds()
	p.result.Summary = fmt.Sprintf("Recovered: %s documents of backup %s are back, proven by digest. The database was gone for %s; what was entered between %s and %s is lost.",
		count(r.DocumentsRestored), r.Backup.ID, duration(r.DowntimeSeconds), stamp(r.Backup.Time), stamp(p.goneAt))
	r.LossKnown = false
	p.warn(fmt.Sprintf("What was entered between %s and %s went with the database: no dump has it, and it is in no count.", stamp(r.Backup.Time), stamp(p.goneAt)))
	if r.DocumentsLost > 0 {
		p.warn(fmt.Sprintf("%s documents that the new database had taken meanwhile left it; they are in safety dump %s.", count(r.DocumentsLost), r.SafetyDump))
	}
}

// planWarnings are what whoever approves the restore must know beside its numbers.
func (p *podLoss) planWarnings() []string {
	var w []string
	if users := p.snap.PodLoss.Users; len(users) > 0 {
		w = append(w, "Database users and roles are never restored; these must exist: "+strings.Join(users, "; "))
	}
	if p.last.State != activities.DatabaseEmpty {
		w = append(w, "The database is not empty: "+p.last.What)
	}
	return w
}

// comeBack compares the database that has come back with the last backup, says what differs, and sees the application well.
// Nothing is restored.
func (p *podLoss) comeBack(ctx workflow.Context, outcome Outcome) error {
	if err := workflow.Await(ctx, func() bool { return p.ready }); err != nil {
		return err
	}
	p.settled = true
	differs, err := p.compareWithBackup(ctx)
	if err != nil {
		return err
	}
	health, err := p.startApplication(ctx)
	if err != nil {
		return err
	}
	p.end(ctx, stepRestore, Skipped, "the database's own data is back")
	p.result.Outcome, p.result.GoneAt = outcome, p.goneAt
	p.result.Summary = fmt.Sprintf("%s: the database is back by its own volume, nothing was restored. %s %s",
		map[Outcome]string{VolumeRecovered: "Volume recovered", FalseAlarm: "False alarm"}[outcome], differs, health)
	if p.last.VolumeGone {
		p.warn("The database answers, but " + p.last.Volume + ": make a backup now.")
	}
	return nil
}

// compareWithBackup says in one sentence in what the database differs from the last backup.
func (p *podLoss) compareWithBackup(ctx workflow.Context) (string, error) {
	p.begin(ctx, stepCompare)
	if err := p.openWhereAlive(ctx); err != nil {
		return "", err
	}
	if p.readyOn != p.snap.HostQueue {
		p.makeReady(ctx)
		if err := workflow.Await(ctx, func() bool { return p.ready }); err != nil {
			return "", err
		}
		p.begin(ctx, stepCompare)
	}
	if p.proven.ID == "" {
		p.end(ctx, stepCompare, Failed, p.failure)
		p.warn("The database that came back was compared with nothing: " + p.failure)
		return "It was compared with nothing.", nil
	}
	var c activities.Compared
	dump, err := emergencyDump(ctx, p.snap, p.id)
	if err == nil {
		p.result.EmergencyDump = dump.ID
		err = workflow.ExecuteActivity(long(ctx, p.snap.HostQueue, "Compare what came back with backup "+p.proven.ID, longest),
			data.CompareWithBackup, activities.CompareInput{Target: p.snap.Target, Incident: p.id, Backup: p.proven.ID, Against: dump.ID}).Get(ctx, &c)
	}
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err != nil {
		p.end(ctx, stepCompare, Failed, explain(err))
		p.warn("The database that came back could not be compared with the last backup: " + explain(err))
		return "It could not be compared with the last backup.", nil
	}
	p.result.Compared = &c
	text := fmt.Sprintf("Against backup %s of %s, %s documents are the same, %s are new, %s changed and %s are absent.",
		p.proven.ID, stamp(p.proven.Time), count(c.Radius.Same), count(c.Radius.Added), count(c.Radius.Changed), count(c.Radius.Missing))
	if len(c.Gone) > 0 {
		p.warn("Collections of the backup that the recovered database has not: " + strings.Join(c.Gone, ", "))
	}
	if c.Unread > 0 {
		p.warn(fmt.Sprintf("%d places of the recovered database could not be read; see emergency dump %s.", c.Unread, dump.ID))
	}
	if c.Radius.Missing > 0 {
		p.warn(fmt.Sprintf("%s documents of backup %s are absent from the recovered database: deleted since, or lost. The incident's folder has the counts for each collection; Restore brings the backup back, after an approval.",
			count(c.Radius.Missing), p.proven.ID))
	}
	p.end(ctx, stepCompare, Done, text)
	return text, nil
}

// startApplication starts what may have gone down with its database, and waits until it says that it is healthy.
func (p *podLoss) startApplication(ctx workflow.Context) (string, error) {
	for {
		p.begin(ctx, stepStart)
		var h activities.Health
		err := workflow.ExecuteActivity(long(ctx, p.snap.HostQueue, "Start "+orNothing(p.snap.Writers)+" and wait until it is healthy", startWithin),
			app.StartApplication, p.snap.Target).Get(ctx, &h)
		if err == nil {
			p.end(ctx, stepStart, Done, h.Detail)
			return "The application is healthy.", nil
		}
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		p.end(ctx, stepStart, Failed, explain(err))
		choice, err := p.ask(ctx, fmt.Sprintf("**%s** failed: %s", stepStart, explain(err)), Retry, GiveUp)
		if err != nil {
			return "", err
		}
		if choice == GiveUp {
			p.warn("The application was not seen healthy; a person gave that up.")
			return "The application was not seen healthy.", nil
		}
	}
}

func (p *podLoss) skipPending() {
	for i := range p.status.Steps {
		if p.status.Steps[i].State == Pending {
			p.status.Steps[i].State = Skipped
		}
	}
}
