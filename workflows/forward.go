package workflows

import (
	"errors"
	"fmt"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/battwheels/runbook/activities"
)

// A restore runs as the child restore/TARGET, whatever playbook asked for it. People may knock at either: the parent
// passes what it hears on, by Signal because a workflow cannot send an Update, and waits for the child's reply; the
// child passes its status up, so that the parent's page tells the whole story.
const (
	signalDoor   = "door"
	signalReply  = "door-reply"
	signalStatus = "restore-status"
)

type knock struct {
	ID     string `json:"id"`
	Door   string `json:"door"`
	Answer Answer `json:"answer"`
}

type reply struct {
	ID    string `json:"id"`
	Text  string `json:"text,omitempty"`
	Error string `json:"error,omitempty"`
}

// forward is the parent's end.
type forward struct {
	child   workflow.ChildWorkflowFuture // nil until started
	runID   string                       // of the child
	started bool
	ended   bool
	replies map[string]reply
	status  Status // the child's latest
	knocks  int
}

// listen takes the child's signals. What a Go map holds is only ever looked up, never ranged over.
func (f *forward) listen(ctx workflow.Context, changed func()) {
	f.replies = map[string]reply{}
	workflow.GoNamed(ctx, "child's status", func(ctx workflow.Context) {
		for {
			var s Status
			if !workflow.GetSignalChannel(ctx, signalStatus).Receive(ctx, &s) {
				return
			}
			f.status = s
			changed()
		}
	})
	workflow.GoNamed(ctx, "child's replies", func(ctx workflow.Context) {
		for {
			var r reply
			if !workflow.GetSignalChannel(ctx, signalReply).Receive(ctx, &r) {
				return
			}
			f.replies[r.ID] = r
		}
	})
}

// runChild runs the body and waits for it. The body outlives this workflow: whoever terminates the playbook does not leave a
// half-made swap behind.
func (f *forward) runChild(ctx workflow.Context, id string, body, in, result any) error {
	f.child = workflow.ExecuteChildWorkflow(workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowID:          id,
		ParentClosePolicy:   enums.PARENT_CLOSE_POLICY_ABANDON,
		WaitForCancellation: true,
		StaticSummary:       "Run by " + workflow.GetInfo(ctx).WorkflowExecution.ID,
	}), body, in)
	var run workflow.Execution
	if err := f.child.GetChildWorkflowExecution().Get(ctx, &run); err != nil {
		if temporal.IsWorkflowExecutionAlreadyStartedError(err) {
			return temporal.NewNonRetryableApplicationError(
				id+" runs already: look there; this one changed nothing", AlreadyRunning, err)
		}
		return err
	}
	f.started, f.runID = true, run.RunID
	err := f.child.Get(ctx, result)
	f.ended = true
	return err
}

// lastOf says how a child ended that failed: in its own last words, because the error alone does not tell in which state the
// application is.
func (f *forward) lastOf(err error) string {
	if f.status.Result != "" {
		return f.status.Result
	}
	return explain(err)
}

// AlreadyRunning is the type of the error that says that a target's incident or restore runs already.
const AlreadyRunning = "AlreadyRunning"

// asChild runs a playbook under the one id that it may have for a target, when a person started it under another: the
// Temporal UI proposes a random one.
func asChild(ctx workflow.Context, snap activities.Snapshot, id string, playbook, in, result any, own ...door) error {
	f := &forward{}
	show := func() Status {
		s := f.status
		s.Target = snap.Target
		s.Steps = append([]Step{{Name: "Runs as " + id, State: Running}}, s.Steps...)
		return s
	}
	f.listen(ctx, func() { publish(ctx, show(), snap.SearchAttributes) })
	err := workflow.SetQueryHandlerWithOptions(ctx, QueryStatus, func() (Status, error) { return show(), nil }, workflow.QueryHandlerOptions{})
	if err != nil {
		return fmt.Errorf("register query: %w", err)
	}
	if err := openDoors(ctx, f.hear, own...); err != nil {
		return err
	}
	publish(ctx, show(), snap.SearchAttributes)
	if err := f.runChild(ctx, id, playbook, in, result); err != nil {
		return err
	}
	return lastWords(ctx)
}

// announcer is the child's end of the status: it tells the parent, if there is one, as often as there is news and the last
// one has arrived.
type announcer struct{ news bool }

func (a *announcer) announce(ctx workflow.Context, status func() Status) {
	parent := workflow.GetInfo(ctx).ParentWorkflowExecution
	if parent == nil {
		return
	}
	// A body that is cancelled has more to tell: what it undoes, and in which state it leaves the application.
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	workflow.GoNamed(ctx, "status to the parent", func(ctx workflow.Context) {
		for workflow.Await(ctx, func() bool { return a.news }) == nil {
			a.news = false
			tell(ctx, parent, signalStatus, status())
		}
	})
}

// NoRestore is the type of an incident's error where it has no restore that could hear an answer. One that somebody started beside it
// may.
const NoRestore = "NoRestore"

// hear passes an answer on to the child and waits for its reply.
func (f *forward) hear(ctx workflow.Context, door string, a Answer) (string, error) {
	if !f.started || f.ended {
		return "", temporal.NewNonRetryableApplicationError("no restore runs at the moment", NoRestore, nil)
	}
	f.knocks++
	k := knock{ID: fmt.Sprintf("knock-%d", f.knocks), Door: door, Answer: a}
	if err := f.child.SignalChildWorkflow(ctx, signalDoor, k).Get(ctx, nil); err != nil {
		return "", fmt.Errorf("pass %s on to the restore: %w", door, err)
	}
	if err := workflow.Await(ctx, func() bool { return f.replies[k.ID].ID != "" || f.ended }); err != nil {
		return "", err
	}
	r, ok := f.replies[k.ID]
	switch {
	case !ok:
		return "", errors.New("the restore ended before it answered")
	case r.Error != "":
		return "", temporal.NewNonRetryableApplicationError(r.Error, "Denied", nil)
	}
	return r.Text, nil
}

// serveParent is the child's end: it hears what the parent passes on.
func serveParent(ctx workflow.Context, hear func(workflow.Context, string, Answer) (string, error)) {
	parent := workflow.GetInfo(ctx).ParentWorkflowExecution
	if parent == nil {
		return
	}
	workflow.GoNamed(ctx, "parent's doors", func(ctx workflow.Context) {
		for {
			var k knock
			if !workflow.GetSignalChannel(ctx, signalDoor).Receive(ctx, &k) {
				return
			}
			r := reply{ID: k.ID}
			text, err := hear(ctx, k.Door, k.Answer)
			if err != nil {
				r.Error = message(err)
			}
			r.Text = text
			tell(ctx, parent, signalReply, r)
		}
	})
}

// tell signals another workflow. One that has ended no longer cares, so a failure is logged only.
func tell(ctx workflow.Context, to *workflow.Execution, signal string, arg any) {
	err := workflow.SignalExternalWorkflow(ctx, to.ID, to.RunID, signal, arg).Get(ctx, nil)
	if err != nil {
		workflow.GetLogger(ctx).Info("signal not delivered", "signal", signal, "to", to.ID, "error", err)
	}
}

// message is an error as a person should read it: the innermost application error's own words.
func message(err error) string {
	if app, ok := errors.AsType[*temporal.ApplicationError](err); ok {
		return app.Message()
	}
	return err.Error()
}
