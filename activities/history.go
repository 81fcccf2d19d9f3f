package activities

import (
	"context"
	"fmt"
	"strings"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enums "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/temporalproto"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
)

// line is one line of an incident's timeline, with the event that it comes from.
type line struct {
	at    time.Time
	event string // HISTORY#ID, as in the exported history
	text  string
}

// history reads one run's whole history.
func history(ctx context.Context, c client.Client, e Execution) (*historypb.History, error) {
	h := &historypb.History{}
	events := c.GetWorkflowHistory(ctx, e.WorkflowID, e.RunID, false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		event, err := events.Next()
		if err != nil {
			return nil, fmt.Errorf("history of %s: %w", e.WorkflowID, err)
		}
		h.Events = append(h.Events, event)
	}
	return h, nil
}

// exported writes a history in the form that Temporal's tools and replayers read.
func exported(h *historypb.History) ([]byte, error) {
	return temporalproto.CustomJSONMarshalOptions{Indent: "  "}.Marshal(h)
}

// told is what a history tells people: steps by their summaries, what people said, and how it ended.
type told struct {
	lines []line
	spans []span
	said  []said
}

func timeline(name string, h *historypb.History) told {
	t := teller{name: name, steps: map[int64]scheduled{}, updates: map[int64]string{}}
	for _, e := range h.GetEvents() {
		t.take(e)
	}
	return t.told
}

// span is one step of a history that came to its end: between the events that scheduled and completed it.
type span struct {
	activity string // the step's registered name
	from, to time.Time
	event    string // that completed it
	result   *commonpb.Payloads
}

// said is one thing that a person sent to a door.
type said struct {
	door  string
	at    time.Time
	event string // that holds the answer it got
}

type teller struct {
	told
	name    string
	steps   map[int64]scheduled // by the id of the event that scheduled them
	updates map[int64]string    // names of the Updates, by the id of the event that accepted them
}

type scheduled struct {
	activity, summary string
	at                time.Time
}

func (t *teller) ref(e *historypb.HistoryEvent) string {
	return fmt.Sprintf("%s#%d", t.name, e.GetEventId())
}

func (t *teller) say(e *historypb.HistoryEvent, format string, args ...any) {
	t.lines = append(t.lines, line{at: e.GetEventTime().AsTime().UTC(), event: t.ref(e), text: fmt.Sprintf(format, args...)})
}

func (t *teller) take(e *historypb.HistoryEvent) {
	switch e.GetEventType() {
	case enums.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
		t.say(e, "%s started", e.GetWorkflowExecutionStartedEventAttributes().GetWorkflowType().GetName())
	case enums.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
		var summary string
		if p := e.GetUserMetadata().GetSummary(); p != nil {
			// A summary that cannot be read is replaced by the step's name.
			_ = converter.GetDefaultDataConverter().FromPayload(p, &summary)
		}
		name := e.GetActivityTaskScheduledEventAttributes().GetActivityType().GetName()
		if summary == "" {
			summary = name
		}
		t.steps[e.GetEventId()] = scheduled{name, summary, e.GetEventTime().AsTime().UTC()}
	case enums.EVENT_TYPE_ACTIVITY_TASK_STARTED:
		a := e.GetActivityTaskStartedEventAttributes()
		if a.GetAttempt() > 1 {
			t.say(e, "%s: attempt %d, after: %s", t.steps[a.GetScheduledEventId()].summary, a.GetAttempt(), firstLine(a.GetLastFailure().GetMessage()))
		}
	case enums.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
		a := e.GetActivityTaskCompletedEventAttributes()
		step := t.steps[a.GetScheduledEventId()]
		t.say(e, "%s: done", step.summary)
		t.spans = append(t.spans, span{step.activity, step.at, e.GetEventTime().AsTime().UTC(), t.ref(e), a.GetResult()})
	case enums.EVENT_TYPE_ACTIVITY_TASK_FAILED:
		a := e.GetActivityTaskFailedEventAttributes()
		t.say(e, "%s: failed: %s", t.steps[a.GetScheduledEventId()].summary, firstLine(a.GetFailure().GetMessage()))
	case enums.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT:
		t.say(e, "%s: timed out", t.steps[e.GetActivityTaskTimedOutEventAttributes().GetScheduledEventId()].summary)
	case enums.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED:
		t.updates[e.GetEventId()] = e.GetWorkflowExecutionUpdateAcceptedEventAttributes().GetAcceptedRequest().GetInput().GetName()
	case enums.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED:
		a := e.GetWorkflowExecutionUpdateCompletedEventAttributes()
		name := t.updates[a.GetAcceptedEventId()]
		t.said = append(t.said, said{name, e.GetEventTime().AsTime().UTC(), t.ref(e)})
		if f := a.GetOutcome().GetFailure(); f != nil {
			t.say(e, "A person sent %s: denied: %s", name, firstLine(f.GetMessage()))
			return
		}
		t.say(e, "A person sent %s", name)
	case enums.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
		a := e.GetWorkflowExecutionSignaledEventAttributes()
		switch a.GetSignalName() {
		case "alert":
			t.say(e, "An alert arrived")
		case "abort":
			t.say(e, "A person sent abort")
			t.said = append(t.said, said{"abort", e.GetEventTime().AsTime().UTC(), t.ref(e)})
		}
	case enums.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED:
		t.say(e, "Cancellation was asked for")
	case enums.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED:
		t.say(e, "%s started", e.GetChildWorkflowExecutionStartedEventAttributes().GetWorkflowExecution().GetWorkflowId())
	case enums.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
		t.say(e, "Completed")
	case enums.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:
		t.say(e, "Failed: %s", firstLine(e.GetWorkflowExecutionFailedEventAttributes().GetFailure().GetMessage()))
	case enums.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED:
		t.say(e, "Cancelled")
	}
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}
