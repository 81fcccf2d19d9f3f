package workflows

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/battwheels/runbook/activities"
)

// narrow lets a person narrow what was found, again and again, until a plan is approved. It returns true when another backup is
// to be compared with.
func (u *undeletion) narrow(ctx workflow.Context) (again bool, ended Outcome, err error) {
	note := ""
	for {
		var said Answer
		drawn := u.in.says() || u.in.Newer
		if drawn || u.dry {
			choice, err := u.settle(ctx, stepNarrow, u.drawPlan, Retry, GiveUp)
			if err != nil || choice == GiveUp {
				return false, GaveUp, err
			}
			note = "Nothing that fits can be put back: narrow it otherwise."
			if u.plan.Undelete.Insert > 0 {
				note = ""
			}
		}
		if u.dry {
			return false, Planned, nil
		}
		if note != "" || !drawn {
			said, err = u.askToNarrow(ctx, note)
		} else {
			said, err = u.approval(ctx)
		}
		if err != nil {
			return false, "", err
		}
		switch said.Door {
		case DoorReject:
			u.end(ctx, stepApprove, Failed, "rejected by "+said.By)
			return false, Rejected, nil
		case DoorChooseBackup:
			u.in.Backup = said.Backup
			return true, "", nil
		case DoorNarrow:
			u.in.Narrowing = said.Narrowing
			u.status.Plan = nil
		default:
			u.result.Plan, u.result.ApprovedBy = &u.plan, said.By
			u.end(ctx, stepApprove, Done, fmt.Sprintf("plan %s approved by %s", u.plan.Code, said.By))
			return false, "", nil
		}
	}
}

// drawPlan selects what fits, and looks at what putting that back would change.
func (u *undeletion) drawPlan(ctx workflow.Context) (string, error) {
	filter, err := u.in.filter()
	if err != nil {
		return "", badInput(err)
	}
	var p activities.Plan
	err = workflow.ExecuteActivity(long(ctx, u.snap.HostQueue, "Preview what would be put back", time.Hour),
		lost.PlanUndelete, activities.PlanUndeleteInput{SearchInput: u.search(), Filter: filter}).Get(ctx, &p)
	if err != nil {
		return "", err
	}
	u.plan, u.status.Plan, u.result.Plan = p, &u.plan, &u.plan
	all := "all that is missing"
	if u.in.Newer {
		all = "all that is newer"
	}
	return fmt.Sprintf("%s documents fit: %s", count(p.Undelete.Documents), cmp.Or(p.Undelete.Filter, all)), nil
}

// askToNarrow shows the table of what is missing, and waits until somebody says which of it is meant.
func (u *undeletion) askToNarrow(ctx workflow.Context, note string) (Answer, error) {
	question := strings.TrimSpace(note + " Which of the documents listed here were deleted by mistake?")
	if u.in.Newer {
		question = strings.TrimSpace(note + " Which of the documents listed here are to come back?")
	}
	u.status.Plan = nil
	return u.verdictOn(ctx, stepNarrow, "", question, fmt.Sprintf(
		"%s Send the Update `narrow` with `{\"collections\":[\"…\"],\"organization\":\"…\",\"from\":\"…\",\"to\":\"…\",\"ids\":[\"…\"],\"by\":\"your name\",\"reason\":\"…\"}` (one of them is enough), or run\n`runbook narrow %s --collection C --organization ORG --by YOU --reason WHY`\n\n`reject` ends it. All groups: `%s/groups.json`",
		question, u.snap.Target, u.result.Folder))
}

// approval asks for the plan to be approved. No policy approves this by itself: which deletion was a mistake, and which
// newer document is work and not damage, only people know.
func (u *undeletion) approval(ctx workflow.Context) (Answer, error) {
	return u.verdictOn(ctx, stepApprove, u.plan.Code, "approve plan "+u.plan.Code, fmt.Sprintf(
		"Read plan `%s`. To go ahead, send the Update `approve` with `{\"plan\":\"%s\",\"by\":\"your name\",\"reason\":\"…\"}`, or run\n`runbook approve %s --plan %s --by YOU --reason WHY`\n\nThe application goes on, and nothing has been written so far. `narrow` gives another plan, `reject` ends it.",
		u.plan.Code, u.plan.Code, u.snap.Target, u.plan.Code))
}

func (u *undeletion) verdictOn(ctx workflow.Context, step, plan, question, asked string) (Answer, error) {
	u.doors.plan, u.narrows, u.verdict = plan, true, nil
	u.status.Asked = asked
	u.begin(ctx, step)
	err := u.await(ctx, question, func() bool { return u.verdict != nil })
	u.doors.plan, u.narrows, u.status.Asked = "", false, ""
	if err != nil {
		return Answer{}, err
	}
	a := *u.verdict
	u.verdict = nil
	return a, nil
}

// stopped is no choice that is offered: the playbook was stopped instead.
const stopped Choice = "stopped"

// askFor asks, and goes on with "" when nobody has answered in time.
func (u *undeletion) askFor(ctx workflow.Context, question string, within time.Duration, stop func() bool, choices ...Choice) (Choice, error) {
	u.choices, u.choice = choices, nil
	u.status.Choices = choices
	u.status.Asked = fmt.Sprintf("%s\n\nSend the Update `decide`, or run\n`runbook decide %s --choice %s --by YOU --reason WHY`", question, u.snap.Target, choices[0])
	u.publish(ctx)
	u.asked++
	u.mail(ctx, activities.MailAsk, question, u.asked, 0)
	_, err := workflow.AwaitWithTimeout(ctx, within, func() bool { return u.choice != nil || stop() })
	u.choices, u.status.Choices, u.status.Asked = nil, nil, ""
	said := u.choice
	u.choice = nil
	u.publish(ctx)
	switch {
	case err != nil:
		return "", err
	case said != nil:
		return said.Choice, nil
	case stop():
		return stopped, nil
	default:
		return "", nil
	}
}
