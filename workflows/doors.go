package workflows

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/battwheels/runbook/activities"
)

// The doors through which people reach a running playbook, as Updates; abort is a Signal too, for when no worker is up.
const (
	DoorApprove      = "approve"
	DoorReject       = "reject"
	DoorChooseBackup = "choose-backup"
	DoorNarrow       = "narrow"
	DoorDecide       = "decide"
	DoorAbort        = "abort"
	DoorPostReport   = "post-report"
	DoorNotify       = "notify" // of a report: a correction to those who were told
	// What became of a lost volume: heard by PodLoss alone.
	DoorVolumeRecovered = activities.VolumeRecovered
	DoorVolumeLost      = activities.VolumeLost
	QueryStatus         = "status"
	SignalAlert         = "alert"
)

// Choice is an answer to decide.
type Choice string

// The choices that a playbook offers when a step failed for good.
const (
	Retry             Choice = "retry"
	OtherBackup       Choice = "other-backup"
	RollBack          Choice = "roll-back"
	WithoutSafetyDump Choice = "without-safety-dump"
	CarryOn           Choice = "carry-on"
	GiveUp            Choice = "give-up"
)

// Answer is what a person sends through any door. By and Reason are required and self-asserted: the Temporal UI sends no
// identity with an Update.
type Answer struct {
	Door   string `json:"door,omitempty"` // filled in by the playbook
	Plan   string `json:"plan,omitempty"`
	Backup string `json:"backup,omitempty"`
	Choice Choice `json:"choice,omitempty"`
	Narrowing
	By     string    `json:"by"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at,omitzero"`      // filled in by the playbook
	Denied string    `json:"denied,omitempty"` // why it was denied; filled in by the playbook
}

// UnmarshalJSON refuses unknown fields.
func (a *Answer) UnmarshalJSON(b []byte) error {
	type plain Answer
	return decodeStrict(b, (*plain)(a))
}

// validate refuses what is malformed; that leaves no trace in the history. What is well-formed but wrong is denied by the
// handler, and recorded.
func (a Answer) validate(door string) error {
	missing := func(field, example string) error {
		return fmt.Errorf("%s needs %q: send %s", door, field, example)
	}
	switch {
	case door == DoorApprove && a.Plan == "":
		return missing("plan", `{"plan":"CODE","by":"your name","reason":"…"} with the code of the plan that you read`)
	case door == DoorChooseBackup && a.Backup == "":
		return missing("backup", `{"backup":"ID","by":"your name","reason":"…"} with an id that "runbook backups list" shows`)
	case door == DoorDecide && a.Choice == "":
		return missing("choice", `{"choice":"retry","by":"your name","reason":"…"}`)
	case door == DoorNarrow:
		if err := a.Narrowing.validate(); err != nil {
			return err
		}
	}
	switch {
	case strings.TrimSpace(a.By) == "":
		return missing("by", "your name; it stands in the report")
	case strings.TrimSpace(a.Reason) == "":
		return missing("reason", "a reason; it stands in the report")
	}
	return nil
}

// doors is what people have said to one restore, and what it is ready to hear.
type doors struct {
	plan    string   // code of the plan that waits for approval; "" while none does
	choices []Choice // offered by the question that waits; nil while none does
	swapped bool     // choosing another backup is over
	narrows bool     // what is to be put back can be narrowed, and rejected before there is a plan
	fixed   bool     // there is no other backup to choose

	verdict *Answer // to the plan: approve, reject, choose-backup or narrow
	choice  *Answer // to the question
	abort   *Answer
	said    []Answer // everything, denied answers too, in order
}

// hear takes one answer. A denied one is an error to its sender, and stands in the history and in the report.
func (d *doors) hear(ctx workflow.Context, door string, a Answer) (string, error) {
	a.Door, a.At = door, workflow.Now(ctx).UTC()
	reply, err := d.take(&a)
	if err != nil {
		a.Denied = err.Error()
	}
	d.said = append(d.said, a)
	if err != nil {
		return "", temporal.NewNonRetryableApplicationError(err.Error(), "Denied", nil)
	}
	return reply, nil
}

func (d *doors) take(a *Answer) (string, error) {
	switch a.Door {
	case DoorAbort:
		if d.abort != nil {
			return "abort was already asked for", nil
		}
		d.abort = a
		return "aborting", nil
	case DoorDecide:
		if d.choices == nil || d.choice != nil {
			return "", errors.New("no decision is asked for at the moment")
		}
		if !slices.Contains(d.choices, a.Choice) {
			return "", fmt.Errorf("choice %q is not offered here; the choices are: %s", a.Choice, join(d.choices))
		}
		d.choice = a
		return "decided: " + string(a.Choice), nil
	}
	switch {
	case a.Door == DoorNarrow && !d.narrows:
		return "", errors.New("there is nothing to narrow at the moment")
	case d.plan == "" && (!d.narrows || a.Door == DoorApprove) || d.verdict != nil:
		return "", errors.New("no plan waits for approval at the moment")
	case a.Plan != "" && a.Plan != d.plan:
		return "", fmt.Errorf("plan %s is not the one that waits for approval: read plan %s and approve that", a.Plan, d.plan)
	case a.Door == DoorChooseBackup && d.swapped:
		return "", errors.New("the backup can no longer be changed")
	case a.Door == DoorChooseBackup && d.fixed:
		return "", errors.New("what is newer stands in this safety dump alone: to read another incident's, reject this and start MergeBack with that incident")
	}
	d.verdict = a
	return map[string]string{
		DoorApprove:      "approved",
		DoorReject:       "rejected: nothing will be changed",
		DoorChooseBackup: "choosing " + a.Backup + ": a new plan follows",
		DoorNarrow:       "narrowing: a new plan follows",
	}[a.Door], nil
}

func join(choices []Choice) string {
	s := make([]string, len(choices))
	for i, c := range choices {
		s[i] = string(c)
	}
	return strings.Join(s, ", ")
}

// door is the name of an Update, and what the Temporal UI says of it.
type door struct{ name, text string }

// doorDescriptions are the doors that every playbook has.
var doorDescriptions = []door{
	{DoorApprove, `Approve the plan: {"plan":"CODE","by":"your name","reason":"…"}`},
	{DoorReject, `Reject the plan; nothing is changed: {"by":"your name","reason":"…"}`},
	{DoorChooseBackup, `Restore from another backup: {"backup":"ID","by":"your name","reason":"…"}`},
	{DoorNarrow, `Narrow what is to be put back: {"collections":["invoices"],"organization":"org_…","from":"2026-02-24T03:00:00Z","to":"…","ids":["inv_…"],"by":"your name","reason":"…"}`},
	{DoorDecide, `Answer the question that is asked: {"choice":"retry","by":"your name","reason":"…"}`},
	{DoorAbort, `Stop and undo what can be undone: {"by":"your name","reason":"…"}`},
}

// open registers every door, and the playbook's own ones, with one function that hears it.
func openDoors(ctx workflow.Context, hear func(workflow.Context, string, Answer) (string, error), own ...door) error {
	for _, door := range slices.Concat(doorDescriptions, own) {
		err := workflow.SetUpdateHandlerWithOptions(ctx, door.name,
			func(ctx workflow.Context, a Answer) (string, error) { return hear(ctx, door.name, a) },
			workflow.UpdateHandlerOptions{
				Description: door.text,
				Validator:   func(a Answer) error { return a.validate(door.name) },
			})
		if err != nil {
			return fmt.Errorf("register update %s: %w", door.name, err)
		}
	}
	return nil
}

// lastWords waits until every answer that was heard is answered, and that is committed. A workflow that completed in the same
// task could have that task refused, because something else arrived meanwhile; the person would be told that their answer
// failed, and it would be forgotten.
func lastWords(ctx workflow.Context) error {
	if err := workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) }); err != nil {
		return err
	}
	return workflow.Sleep(ctx, time.Millisecond)
}
