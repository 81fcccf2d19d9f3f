package workflows

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/battwheels/runbook/activities"
)

// Notify is a later word to every organization that was told of an incident: a correction, the all-clear. It is frozen and
// waits for an approval that repeats its code, so that a slip of the hand writes to nobody.
type Notify struct {
	Kind     string `json:"kind"`               // correction, all-clear or update
	Headline string `json:"headline,omitempty"` // the mail's subject; default the kind's own
	Text     string `json:"text"`               // plain; an empty line parts paragraphs
	By       string `json:"by"`
	Reason   string `json:"reason"`
}

// UnmarshalJSON refuses unknown fields.
func (n *Notify) UnmarshalJSON(b []byte) error {
	type plain Notify
	return decodeStrict(b, (*plain)(n))
}

// maxText keeps a text out of the history that no mail can carry.
const maxText = 10_000

const notifyExample = `{"kind":"correction","text":"What they shall read.","by":"your name","reason":"…"}`

func (n Notify) validate() error {
	for _, f := range []struct{ field, value string }{{"kind", n.Kind}, {"text", n.Text}, {"by", n.By}, {"reason", n.Reason}} {
		if strings.TrimSpace(f.value) == "" {
			return fmt.Errorf("%s needs %q: send %s; kind is correction, all-clear or update", DoorNotify, f.field, notifyExample)
		}
	}
	if len(n.Text) > maxText {
		return fmt.Errorf("%s: the text is %d bytes long; at most %d", DoorNotify, len(n.Text), maxText)
	}
	return nil
}

// followUps are the later words of one incident, one at a time: written, approved, sent.
type followUps struct {
	ready    bool // snap is there
	snap     activities.Snapshot
	incident string
	changed  func()                       // shows what is new
	progress func()                       // likewise, without an event
	redraft  func(workflow.Context) error // draws the report again, with what was said
	status   *Status                      // of the workflow that holds the doors
	closed   func() string                // why nothing more can be written; "" where it can
	drafts   int                          // so far: part of each outbox's name
	writing  bool                         // mails are being frozen
	words    Notify                       // of what waits
	waits    *activities.FollowUp         // for approval
	approved *Answer                      // set until its mails are out
	dropped  bool                         // the last one that waited was
	said     []Answer                     // everything, denied answers too
	sent     []activities.FollowUpSaid    // what went out
	warnings []string
}

// open registers the doors, and sends what is approved in a coroutine of its own.
func (f *followUps) open(ctx workflow.Context) error {
	err := workflow.SetUpdateHandlerWithOptions(ctx, DoorNotify, f.write, workflow.UpdateHandlerOptions{
		Description: "Write to every organization that was told, once more: " + notifyExample + ". Nothing is sent before it is approved.",
		Validator:   func(n Notify) error { return n.validate() },
	})
	if err != nil {
		return fmt.Errorf("register update %s: %w", DoorNotify, err)
	}
	for _, d := range []door{
		{DoorApprove, `Send the follow-up that waits: {"plan":"CODE","by":"your name","reason":"…"}`},
		{DoorReject, `Drop the follow-up that waits: {"by":"your name","reason":"…"}`},
	} {
		err := workflow.SetUpdateHandlerWithOptions(ctx, d.name,
			func(ctx workflow.Context, a Answer) (string, error) { return f.hear(ctx, d.name, a) },
			workflow.UpdateHandlerOptions{Description: d.text, Validator: func(a Answer) error { return a.validate(d.name) }})
		if err != nil {
			return fmt.Errorf("register update %s: %w", d.name, err)
		}
	}
	workflow.GoNamed(ctx, "follow-ups", func(ctx workflow.Context) {
		for workflow.Await(ctx, func() bool { return f.approved != nil }) == nil {
			f.send(ctx)
		}
	})
	return nil
}

// write freezes a follow-up's mails; one that waited is replaced.
func (f *followUps) write(ctx workflow.Context, n Notify) (string, error) {
	if err := workflow.Await(ctx, func() bool { return f.ready }); err != nil {
		return "", err
	}
	a := Answer{Door: DoorNotify, By: n.By, Reason: n.Reason, At: workflow.Now(ctx).UTC()}
	out, err := f.freeze(ctx, n)
	if err != nil {
		a.Denied = message(err)
		f.said = append(f.said, a)
		return "", temporal.NewNonRetryableApplicationError(a.Denied, "Denied", nil)
	}
	f.said = append(f.said, a)
	f.words, f.waits, f.dropped = n, &out, false
	f.changed()
	return fmt.Sprintf("%d mails to %d organizations are written and none is sent. Read %s, then approve %s.",
		out.Mails, out.Organizations-out.WithoutAddress, out.Preview, out.Code), nil
}

func (f *followUps) freeze(ctx workflow.Context, n Notify) (activities.FollowUp, error) {
	var out activities.FollowUp
	switch {
	case f.closed() != "":
		return out, errors.New(f.closed())
	case f.approved != nil:
		return out, fmt.Errorf("%s is going out: write when it is done", f.waits.Name)
	case f.writing:
		return out, errors.New("another follow-up is being written at this moment")
	}
	f.writing = true
	defer func() { f.writing = false }()
	f.drafts++
	// The words are part of the name: a run that is reset, and hears others, must not find these frozen.
	name := fmt.Sprintf("%s-%d-%s", n.Kind, f.drafts, short(n.Kind+"\n"+n.Headline+"\n"+n.Text))
	in := activities.FollowUpInput{Target: f.snap.Target, Incident: f.incident, Name: name, Kind: n.Kind, Headline: n.Headline, Text: n.Text}
	err := workflow.ExecuteActivity(
		long(ctx, f.snap.HostQueue, "Freeze recipients and words of a follow-up: "+n.Kind, time.Hour), mails.FreezeFollowUp, in).Get(ctx, &out)
	return out, err
}

// hear takes an approval, which must repeat the code, or a rejection.
func (f *followUps) hear(ctx workflow.Context, door string, a Answer) (string, error) {
	a.Door, a.At = door, workflow.Now(ctx).UTC()
	reply, err := f.take(a)
	if err != nil {
		a.Denied = err.Error()
	}
	f.said = append(f.said, a)
	f.changed()
	if err != nil {
		return "", temporal.NewNonRetryableApplicationError(err.Error(), "Denied", nil)
	}
	return reply, nil
}

func (f *followUps) take(a Answer) (string, error) {
	switch {
	case f.approved != nil:
		return "", fmt.Errorf("%s is going out already", f.waits.Name)
	case f.writing:
		return "", errors.New("another follow-up is being written at this moment, and takes the place of this one")
	case f.waits == nil:
		return "", errors.New("no follow-up waits for approval at the moment")
	case a.Plan != "" && a.Plan != f.waits.Code:
		return "", fmt.Errorf("%s is not the code of the follow-up that waits: read its preview and approve %s", a.Plan, f.waits.Code)
	case a.Door == DoorReject:
		name := f.waits.Name
		f.waits, f.dropped = nil, true
		return name + " is dropped: nobody gets it", nil
	}
	f.approved = &a
	return fmt.Sprintf("%d mails are going out", f.waits.Mails), nil
}

// send sends what was approved, and has the report say so.
func (f *followUps) send(ctx workflow.Context) {
	box := f.waits
	step := "Send " + box.Name
	f.status.begin(step)
	f.changed()
	sum := sendBatches(ctx, f.snap.HostQueue, activities.SendInput{Target: f.snap.Target, Incident: f.incident, Outbox: box.Name}, box.Outbox,
		func(text string) { f.warnings = append(f.warnings, text) },
		func(note string) {
			f.status.end(step, Running, note)
			f.progress()
		})
	f.sent = append(f.sent, activities.FollowUpSaid{
		Name: box.Name, Kind: f.words.Kind, Headline: box.Headline, By: f.words.By, Reason: f.words.Reason, ApprovedBy: f.approved.By,
		At: workflow.Now(ctx).UTC(), Sent: sum.Sent, Undeliverable: sum.Refused + box.WithoutAddress, Unknown: sum.Unknown,
	})
	f.status.end(step, Done, tally(sum, box.WithoutAddress))
	f.waits, f.approved = nil, nil
	f.changed()
	if err := f.redraft(ctx); err != nil {
		workflow.GetLogger(ctx).Warn("the report was not drawn again", "error", err)
	}
}

// idle says that nothing is being written or sent.
func (f *followUps) idle() bool { return !f.writing && f.approved == nil }

// asks is the question of what waits; empty where nothing does.
func (f *followUps) asks() string {
	if f.waits == nil || f.approved != nil {
		return ""
	}
	w := f.waits
	return fmt.Sprintf("**%s** waits: %s mails to %s organizations; %s have no usable address. Nothing is sent yet. Read `%s`, then send the Update `approve` with `{\"plan\":\"%s\",\"by\":\"your name\",\"reason\":\"…\"}`, or run\n`runbook notify %s --approve %s --by YOU --reason WHY`\n\n`reject` drops it.\n\n",
		w.Name, count(w.Mails), count(w.Organizations-w.WithoutAddress), count(w.WithoutAddress), w.Preview, w.Code, f.incident, w.Code)
}

// sendBatches sends a frozen outbox, batch after batch, and tells how far it is.
func sendBatches(ctx workflow.Context, queue string, in activities.SendInput, box activities.Outbox, warn, progress func(string)) activities.Sent {
	var sum activities.Sent
	of := ""
	if in.Outbox != "" {
		of = " of " + in.Outbox
	}
	for n := range box.Batches {
		progress(fmt.Sprintf("batch %d of %d; %s so far", n+1, box.Batches, tally(sum, box.WithoutAddress)))
		in.Batch = n
		var sent activities.Sent
		err := workflow.ExecuteActivity(
			patient(ctx, queue, fmt.Sprintf("Send batch %d of %d%s", n+1, box.Batches, of)), mails.SendBatch, in).Get(ctx, &sent)
		if err != nil {
			warn(fmt.Sprintf("Batch %d of %d%s: what became of it is not known: %s", n+1, box.Batches, of, explain(err)))
			sum.Unknown += min(box.Mails-n*box.BatchSize, box.BatchSize)
			continue
		}
		sum.Sent += sent.Sent
		sum.Refused += sent.Refused
		sum.Unknown += sent.Unknown
	}
	return sum
}

// tally is how many mails are out, in a few words.
func tally(s activities.Sent, without int) string {
	text := fmt.Sprintf("%d mails sent, %d undeliverable", s.Sent, s.Refused+without)
	if s.Unknown > 0 {
		text += fmt.Sprintf(", %d unknown", s.Unknown)
	}
	return text
}
