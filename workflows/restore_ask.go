package workflows

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/battwheels/runbook/activities"
	"github.com/battwheels/runbook/internal/estimate"
)

// asking is what a body has that people steer: its page, its questions, and what they said.
type asking struct {
	doors
	announcer
	snap     activities.Snapshot
	incident string
	status   Status
	wanted   string // the backup named with the latest decision
	asked    int    // questions and mails so far: part of each mail's key
	took     []estimate.Took
	warnings []string
	// elsewhere, where set, takes a body to another host when its own is gone: moved says that it did, and again that the step
	// in hand is to be done there.
	elsewhere func(workflow.Context) (moved, again bool)
}

// settle runs a step until it succeeds, and asks a person when it fails for good. It returns "" when the step is done,
// or the choice that was made instead of trying again.
func (r *asking) settle(ctx workflow.Context, step string, do func(workflow.Context) (string, error), choices ...Choice) (Choice, error) {
	for {
		r.begin(ctx, step)
		began := workflow.Now(ctx)
		note, err := do(ctx)
		if err == nil {
			r.took = timed(r.took, step, workflow.Now(ctx).Sub(began))
			if step != stepApprove {
				r.end(ctx, step, Done, note)
			}
			return "", nil
		}
		if ctx.Err() != nil || temporal.IsCanceledError(err) {
			r.end(ctx, step, Failed, "stopped")
			return "", err
		}
		r.end(ctx, step, Failed, explain(err))
		if is(err, activities.BadInput) || is(err, activities.LeaseHeld) {
			return "", err
		}
		if nobodyThere(err) && r.elsewhere != nil {
			switch moved, again := r.elsewhere(ctx); {
			case again:
				continue
			case moved:
				return "", errMoved
			}
		}
		choice, askErr := r.ask(ctx, fmt.Sprintf("**%s** failed: %s", step, explain(err)), choices...)
		if askErr != nil {
			return "", askErr
		}
		if choice != Retry {
			return choice, nil
		}
	}
}

// ask puts a question to the people on call and waits for decide, however long it takes. It escalates while nobody answers.
func (r *asking) ask(ctx workflow.Context, question string, choices ...Choice) (Choice, error) {
	r.choices, r.choice = choices, nil
	r.status.Choices = choices
	r.status.Asked = fmt.Sprintf("%s\n\nSend the Update `decide` with one of: `%s`, or run\n`runbook decide %s --choice %s --by YOU --reason WHY`",
		question, strings.ReplaceAll(join(choices), ", ", "`, `"), r.snap.Target, choices[0])
	r.publish(ctx)
	err := r.await(ctx, question, func() bool { return r.choice != nil })
	r.choices, r.status.Choices, r.status.Asked = nil, nil, ""
	if err != nil {
		return "", err
	}
	choice := r.choice.Choice
	r.wanted, r.choice = r.choice.Backup, nil
	r.publish(ctx)
	return choice, nil
}

// approval asks for the plan to be approved, or approves it where the target's policy allows that.
func (r *restore) approval(ctx workflow.Context) (Answer, error) {
	r.status.Plan = &r.plan
	r.result.Plan = r.plan.Code
	if auto := r.snap.AutoApprove; auto != nil && !r.doubted && r.plan.Whole() &&
		r.plan.Radius.Added <= auto.MaxMissing && r.plan.Radius.Changed <= auto.MaxChanged {
		a := Answer{Door: DoorApprove, Plan: r.plan.Code, By: "policy", Reason: fmt.Sprintf(
			"the blast radius is within the policy: at most %d documents leave and %d change", auto.MaxMissing, auto.MaxChanged), At: workflow.Now(ctx).UTC()}
		r.said = append(r.said, a)
		return a, nil
	}
	r.doors.plan, r.verdict = r.plan.Code, nil
	r.status.Asked = fmt.Sprintf("Read plan `%s`. To go ahead, send the Update `approve` with `{\"plan\":\"%s\",\"by\":\"your name\",\"reason\":\"…\"}`, or run\n`runbook approve %s --plan %s --by YOU --reason WHY`\n\n%s",
		r.plan.Code, r.plan.Code, r.snap.Target, r.plan.Code, map[bool]string{
			false: "Nothing live has been touched so far. `reject` ends it, `choose-backup` takes another backup.",
			true:  "The application is stopped; its data has not been touched. `reject` starts it again as it was.",
		}[r.stopped])
	r.begin(ctx, stepApprove)
	err := r.await(ctx, "approve plan "+r.plan.Code, func() bool { return r.verdict != nil })
	r.doors.plan, r.status.Asked = "", ""
	if err != nil {
		return Answer{}, err
	}
	a := *r.verdict
	r.verdict = nil
	return a, nil
}

// escalations is how often an unanswered question is mailed again at most; the question itself waits for ever.
const escalations = 6

// await mails the question to the people on call, then waits for the answer and escalates while there is none.
func (r *asking) await(ctx workflow.Context, question string, answered func() bool) error {
	r.asked++
	r.mail(ctx, activities.MailAsk, question, r.asked, 0)
	wait := r.snap.EscalateAfter
	for n := 1; n <= escalations; n++ {
		ok, err := workflow.AwaitWithTimeout(ctx, wait, answered)
		if err != nil || ok {
			return err
		}
		r.mail(ctx, activities.MailEscalate, question, r.asked, n)
		wait *= 2
	}
	return workflow.Await(ctx, answered)
}

// mail tells the people inside. The restore does not wait for it, nor fail with it: the mail service may be down.
func (r *asking) mail(ctx workflow.Context, kind activities.MailKind, question string, number, escalation int) {
	in := activities.TellInput{
		Target: r.snap.Target, Incident: r.incident, Kind: kind, Question: question,
		Key:  fmt.Sprintf("%s-%s-%d-%d", r.incident, kind, number, escalation),
		Plan: r.status.Plan, Choices: choiceNames(r.choices), Narrow: r.narrows, Asked: workflow.Now(ctx).UTC(), WorkflowID: workflow.GetInfo(ctx).WorkflowExecution.ID,
	}
	workflow.GoNamed(ctx, "mail", func(ctx workflow.Context) {
		err := workflow.ExecuteActivity(patient(ctx, r.snap.HostQueue, "Mail the people on call: "+string(kind)), mails.TellPeople, in).Get(ctx, nil)
		if err != nil && !temporal.IsCanceledError(err) {
			r.warn("A mail to the people on call was not sent: " + message(err))
		}
	})
}

func choiceNames(choices []Choice) []string {
	var names []string
	for _, c := range choices {
		names = append(names, string(c))
	}
	return names
}

// undo ends a restore before the swap: staging goes, the application runs as it did, the live data was never touched.
func (r *restore) undo(ctx workflow.Context, ended Outcome, cause error) (RestoreResult, error) {
	r.undoing = true
	summary := ""
	switch {
	case cause != nil && r.abort != nil && temporal.IsCanceledError(cause):
		ended, summary, cause = Aborted, "Aborted by "+r.abort.By+": nothing was changed.", nil
	case cause != nil && temporal.IsCanceledError(cause):
		ended, summary = Aborted, "Cancelled: nothing was changed."
	case cause != nil:
		ended, summary = GaveUp, "Failed before the swap, nothing was changed: "+explain(cause)
	}
	if r.staged {
		choice, err := r.settle(ctx, "Undo the staging", func(ctx workflow.Context) (string, error) {
			return "staged collections removed", r.unstage(ctx)
		}, Retry, GiveUp)
		if choice == GiveUp {
			r.warn("The staged copy was not removed: what begins with runbook.stage is not needed by anybody.")
		}
		// The application does not wait for what nobody sees.
		if err != nil {
			r.warn("The staged copy was not removed: " + explain(err))
			if cause == nil {
				cause = err
			}
		}
	}
	switch {
	case r.stopped && r.halfSwapped && !r.cleared:
		r.warn("The application was not started: the swap that was cut off half-way has not been undone. Another restore undoes it.")
	case r.stopped:
		if _, err := r.settle(ctx, stepStart, r.startApplication, Retry, GiveUp); err != nil {
			r.warn("The application was not started: " + explain(err))
			if cause == nil {
				cause = err
			}
		}
	}
	return r.finish(ctx, ended, summary), cause
}

// unstage removes the staged copy; the attempt goes on with the next backup, or ends.
func (r *restore) unstage(ctx workflow.Context) error {
	if !r.staged {
		return nil
	}
	err := workflow.ExecuteActivity(long(ctx, r.snap.HostQueue, "Remove the staged copy", time.Hour), data.RemoveStaging, r.attempt).Get(ctx, nil)
	if err == nil {
		r.staged = false
		// The next staging gets a token of its own.
		err = r.release(ctx)
	}
	return err
}

func (r *restore) release(ctx workflow.Context) error {
	if !r.leased {
		return nil
	}
	r.leased = false
	return workflow.ExecuteActivity(quick(ctx, "Give the lease back"), data.ReleaseLease, r.attempt).Get(ctx, nil)
}

// finish records how it ended.
func (r *restore) finish(ctx workflow.Context, ended Outcome, summary string) RestoreResult {
	res := &r.result
	res.Outcome, res.Answers = ended, r.said
	if r.backup.ID != "" {
		res.Backup = &r.backup
	}
	if err := r.release(ctx); err != nil {
		r.warn("The lease was not given back: " + message(err))
	}
	if ended == Recovered {
		r.markRestored(ctx)
		if !res.HealthyAt.IsZero() {
			res.DowntimeSeconds = res.HealthyAt.Sub(res.StoppedAt).Seconds()
		}
		res.RPOSeconds = res.StoppedAt.Sub(r.backup.Time).Seconds()
		summary = fmt.Sprintf("Recovered: %s documents of backup %s are back, proven by digest. The application was down for %s.",
			count(res.DocumentsRestored), r.backup.ID, duration(res.DowntimeSeconds)) + res.newer()
	} else {
		res.DocumentsRestored, res.DocumentsLost, res.Newer = 0, 0, nil
	}
	if summary == "" {
		summary = map[Outcome]string{
			Rejected:   "Rejected: nothing was changed.",
			RolledBack: "Rolled back: the database is as it was before the restore.",
			GaveUp: map[bool]string{
				false: "Given up before the swap: nothing was changed.",
				true:  "Given up: the database is restored, and its application could not be started."}[r.swapped],
		}[ended]
	}
	var now string
	if res.Application, now = r.application(); ended != Recovered {
		summary = strings.TrimSpace(summary + " " + now)
	}
	res.Summary = summary
	r.status.Result, r.status.Phase, r.status.Asked = summary, string(ended), ""
	for i := range r.status.Steps {
		if r.status.Steps[i].State == Pending {
			r.status.Steps[i].State = Skipped
		}
	}
	r.publish(ctx)
	if err := lastWords(ctx); err != nil {
		r.warn("Some answers were not heard to the end: " + message(err))
	}
	res.Warnings = r.warnings
	return *res
}

// application is what becomes of the application, with a sentence for people.
func (r *restore) application() (ApplicationState, string) {
	switch {
	case len(r.snap.Writers) == 0:
		return NotControlled, ""
	case r.result.StoppedAt.IsZero():
		return NotStopped, "The application was not stopped."
	case !r.stopped:
		return Started, "The application is started again."
	case r.told:
		return NotSeenHealthy, "The application was told to start, and was not seen healthy: see to it."
	default:
		return Stopped, "The application is stopped."
	}
}

// markRestored notes that the backup was proven by restoring it, where that was all of it.
func (r *restore) markRestored(ctx workflow.Context) {
	if len(r.in.Collections) > 0 {
		return
	}
	err := workflow.ExecuteActivity(quick(ctx, "Mark the backup as restored"), catalog.MarkRestored,
		activities.RestoredInput{Attempt: r.attempt, Took: r.took}).Get(ctx, nil)
	if err != nil {
		r.warn("The backup was not marked as restored: " + message(err))
	}
}

func (r *asking) begin(ctx workflow.Context, step string) {
	r.status.begin(step)
	r.publish(ctx)
}

func (r *asking) end(ctx workflow.Context, step string, state StepState, note string) {
	r.status.end(step, state, note)
	r.publish(ctx)
}

func (r *asking) step(name string) Step {
	for _, s := range r.status.Steps {
		if s.Name == name {
			return s
		}
	}
	return Step{}
}

// publish shows the status here, and has it told to the playbook that runs this restore.
func (r *asking) publish(ctx workflow.Context) {
	publish(ctx, r.status, r.snap.SearchAttributes)
	r.news = true
}

func (r *asking) warn(text string) { r.warnings = append(r.warnings, text) }

// explain is an error as a sentence for the person who must decide.
func explain(err error) string {
	if timeout, ok := errors.AsType[*temporal.TimeoutError](err); ok {
		return fmt.Sprintf("no worker finished the step in time (%s). Is the worker on the host that has the backups running?", timeout.TimeoutType())
	}
	return message(err)
}

func is(err error, kind string) bool {
	app, ok := errors.AsType[*temporal.ApplicationError](err)
	return ok && app.Type() == kind
}

func duration(seconds float64) string {
	return time.Duration(seconds * float64(time.Second)).Round(100 * time.Millisecond).String()
}

// typeOf is the name of a typed error; empty where it has none.
func typeOf(err error) string {
	if app, ok := errors.AsType[*temporal.ApplicationError](err); ok {
		return app.Type()
	}
	return ""
}
