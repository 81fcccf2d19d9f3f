package workflows

import (
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/battwheels/runbook/activities"
)

// volumeDoors are the doors of PodLoss beside those that every playbook has.
var volumeDoors = []door{
	{DoorVolumeRecovered, `The lost volume is back; it is compared with the last backup: {"by":"your name","reason":"…"}`},
	{DoorVolumeLost, `The volume will not come back; the backup is restored: {"by":"your name","reason":"…"}`},
}

// questions is what a playbook asks of people before its child begins.
type questions struct {
	doors
	draw   func() string       // the question that waits, as it stands now; nil while none does
	silent workflow.CancelFunc // ends its mails
	put    int                 // questions so far: part of each mail's key
}

// hearAnswer takes a word on the volume at any time until it is acted upon, and answers to this playbook's own questions.
func (p *podLoss) hearAnswer(ctx workflow.Context, name string, a Answer) (reply string, mine bool, err error) {
	switch name {
	case DoorVolumeRecovered, DoorVolumeLost:
		a.Door, a.At = name, workflow.Now(ctx).UTC()
		if p.settled {
			a.Denied = "what became of the volume was acted upon already; see the status for what is asked now"
			p.said = append(p.said, a)
			return "", true, temporal.NewNonRetryableApplicationError(a.Denied, "Denied", nil)
		}
		p.said = append(p.said, a)
		p.verdict = &a
		p.closeQuestion() // also while the database is being looked at
		p.publish(ctx)
		return map[string]string{
			DoorVolumeRecovered: "recovered: it is compared with the last backup",
			DoorVolumeLost:      "lost: the backup is restored, after a plan was approved",
		}[name], true, nil
	case DoorDecide:
		if p.started {
			return "", false, nil
		}
		reply, err := p.doors.hear(ctx, name, a)
		return reply, true, err
	}
	return "", false, nil
}

// awaitVerdict waits for a person's word on the volume, for the policy's deadline, or for the database to come back by itself,
// and says whether the volume is lost.
func (p *podLoss) awaitVerdict(ctx workflow.Context) (lost bool, err error) {
	policy := p.snap.PodLoss
	p.begin(ctx, stepVolume)
	asked := workflow.Now(ctx)
	if p.verdict == nil {
		p.putVolumeQuestion(ctx, asked)
	}
	defer p.closeQuestion()
	pause := policy.Every
	for p.verdict == nil {
		wait := pause
		if policy.Deadline > 0 {
			left := asked.Add(policy.Deadline).Sub(workflow.Now(ctx))
			if left <= 0 {
				p.itself(ctx, DoorVolumeLost, "policy", fmt.Sprintf("nobody said what became of the volume within %s", policy.Deadline))
				break
			}
			wait = min(wait, left)
		}
		if ok, err := workflow.AwaitWithTimeout(ctx, wait, func() bool { return p.verdict != nil }); err != nil || ok {
			if err != nil {
				return false, err
			}
			break
		}
		if err := p.look(ctx); err != nil {
			return false, err
		}
		p.refresh(ctx)
		if p.good >= max(policy.Observations, 1) && p.verdict == nil {
			p.itself(ctx, DoorVolumeRecovered, "the database", "it came back by itself: "+p.last.What)
		}
		if pause = min(2*pause, seldom); p.good > 0 {
			pause = policy.Every
		}
	}
	lost = p.verdict.Door == DoorVolumeLost
	p.end(ctx, stepVolume, Done, fmt.Sprintf("%s, says %s: %s", map[bool]string{false: "recovered", true: "lost"}[lost], p.verdict.By, p.verdict.Reason))
	return lost, nil
}

// itself notes an answer that no person gave.
func (p *podLoss) itself(ctx workflow.Context, name, by, reason string) {
	p.verdict = &Answer{Door: name, By: by, Reason: reason, At: workflow.Now(ctx).UTC()}
	p.said = append(p.said, *p.verdict)
}

func (p *podLoss) putVolumeQuestion(ctx workflow.Context, asked time.Time) {
	p.openQuestion(ctx, activities.TellInput{Question: "The database is gone: " + p.last.What + ". The platform's support is asked for the volume. What became of it?",
		Choices: []string{activities.VolumeRecovered, activities.VolumeLost}}, func() string {
		ready := "The newest backup is being fetched and proven meanwhile."
		switch {
		case p.proven.ID != "":
			ready = fmt.Sprintf("Backup **%s** of %s is here and proven: the restore can begin.", p.proven.ID, stamp(p.proven.Time))
		case p.ready:
			ready = "❗ **No backup is ready:** " + p.failure
		}
		deadline := "It waits for ever."
		if d := p.snap.PodLoss.Deadline; d > 0 {
			deadline = "Without an answer, the volume counts as lost at " + stamp(asked.Add(d)) + "."
		}
		users := ""
		if len(p.snap.PodLoss.Users) > 0 {
			users = "\n\nA new server needs these users, which are never restored: " + strings.Join(p.snap.PodLoss.Users, "; ")
		}
		return fmt.Sprintf("The database is gone: %s. What became of the volume?\n\n`runbook volume recovered %[2]s --by YOU --reason WHY` compares it with the last backup, and restores nothing.\n`runbook volume lost %[2]s --by YOU --reason WHY` restores the backup, after a plan was approved.\nOr send the Update `volume-recovered` or `volume-lost` with `{\"by\":\"your name\",\"reason\":\"…\"}`. %[3]s\n\n%[4]s%[5]s",
			p.last.What, p.snap.Target, deadline, ready, users)
	})
}

// ask puts a question and waits for decide.
func (p *podLoss) ask(ctx workflow.Context, question string, choices ...Choice) (Choice, error) {
	p.putQuestion(ctx, question, choices...)
	defer p.closeQuestion()
	if err := workflow.Await(ctx, func() bool { return p.choice != nil }); err != nil {
		return "", err
	}
	return p.choice.Choice, nil
}

// putQuestion puts a question that decide answers. The caller waits for p.choice, and closes the question.
func (p *podLoss) putQuestion(ctx workflow.Context, question string, choices ...Choice) {
	p.choices, p.choice, p.status.Choices = choices, nil, choices
	p.openQuestion(ctx, activities.TellInput{Question: question, Choices: choiceNames(choices)}, func() string {
		return fmt.Sprintf("%s\n\nSend the Update `decide` with one of: `%s`, or run\n`runbook decide %s --choice %s --by YOU --reason WHY`",
			question, strings.ReplaceAll(join(choices), ", ", "`, `"), p.snap.Target, choices[0])
	})
}

// openQuestion shows a question and mails it to the people on call, again and again while it is open. Nothing waits for the mail service.
func (p *podLoss) openQuestion(ctx workflow.Context, mail activities.TellInput, draw func() string) {
	p.put++
	p.draw = draw
	p.refresh(ctx)
	mail.Target, mail.Incident, mail.Asked = p.snap.Target, p.id, workflow.Now(ctx).UTC()
	mail.WorkflowID = workflow.GetInfo(ctx).WorkflowExecution.ID
	number := p.put
	send := func(ctx workflow.Context, kind activities.MailKind, escalation int) {
		in := mail
		in.Kind, in.Key = kind, fmt.Sprintf("%s-volume-%s-%d-%d", p.id, kind, number, escalation)
		workflow.GoNamed(ctx, "mail", func(ctx workflow.Context) {
			err := workflow.ExecuteActivity(patient(ctx, p.snap.HostQueue, "Mail the people on call: "+string(kind)), mails.TellPeople, in).Get(ctx, nil)
			if err != nil && !temporal.IsCanceledError(err) {
				p.warn("A mail to the people on call was not sent: " + message(err))
			}
		})
	}
	send(ctx, activities.MailAsk, 0)
	waiting, silent := workflow.WithCancel(ctx)
	p.silent = silent
	workflow.GoNamed(waiting, "escalate", func(waiting workflow.Context) {
		wait := p.snap.EscalateAfter
		for n := 1; n <= escalations; n++ {
			if workflow.Sleep(waiting, wait) != nil {
				return
			}
			send(ctx, activities.MailEscalate, n)
			wait *= 2
		}
	})
}

// refresh shows the question as it stands now.
func (p *podLoss) refresh(ctx workflow.Context) {
	if p.draw != nil {
		p.status.Asked = p.draw()
	}
	p.publish(ctx)
}

func (p *podLoss) closeQuestion() {
	if p.silent != nil {
		p.silent()
	}
	p.silent, p.draw, p.choices, p.status.Asked, p.status.Choices = nil, nil, nil, "", nil
}
