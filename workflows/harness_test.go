package workflows

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/battwheels/runbook/activities"
	"github.com/battwheels/runbook/internal/backup"
)

// world is a target whose steps all succeed, in an environment where time is skipped. A test makes a step fail by its name,
// or acts when a step runs.
type world struct {
	*testsuite.TestWorkflowEnvironment
	t    *testing.T
	snap activities.Snapshot
	plan activities.Plan
	// halfSwap is the incident whose swap was cut off, before this restore.
	halfSwap string
	// observed is the state of the database that each look at it finds, by its number from 1. Nil finds it whole.
	observed func(call int) string
	// merged is what putting audit entries back comes to.
	merged activities.Merged
	// candidates and passedOver are what the choice of a backup says; unsound are the sentences that queries say of one.
	candidates []activities.Weighed
	passedOver []string
	unsound    map[string][]string
	unasked    []string
	// application is what the steps have made of it: running, stopped, or failed where its start did not succeed.
	application string

	mu       sync.Mutex
	calls    []string               // names of the steps, in order
	told     []activities.TellInput // mails to the people inside
	restored []activities.RestoredInput
	drafted  activities.DraftInput           // the latest report's
	fail     map[string]func(call int) error // by the step's name; call counts from 1
	when     map[string]func()               // runs before the step
	count    map[string]int
}

var damageBegan = time.Date(2026, 2, 24, 3, 12, 0, 0, time.UTC)

func newWorld(t *testing.T) *world {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	w := &world{
		TestWorkflowEnvironment: suite.NewTestWorkflowEnvironment(), t: t,
		fail: map[string]func(int) error{}, when: map[string]func(){}, count: map[string]int{},
		snap: activities.Snapshot{
			Target: "battwheels", Database: "test_database", HostQueue: "runbook@here", Writers: []string{"backend"}, Health: true,
			KeyCounts: []string{"collections", "invoices"}, AuditLogs: []string{"audit_logs"}, Tenants: true, OnCall: true, Escalation: true,
			MoreLoss: 100, RPO: 24 * time.Hour, RTO: 2 * time.Hour, EscalateAfter: 15 * time.Minute, ReportWithin: 48 * time.Hour, BackupTimeout: 4 * time.Hour,
			PodLoss: activities.PodLossPolicy{Observations: 3, Every: 30 * time.Second, Support: true, Users: []string{"battwheels (readWrite)"}},
		},
		plan: activities.Plan{
			Code: "AAA-111", Target: "battwheels", RadiusKnown: true,
			Radius: backup.Counts{Same: 900, Added: 10, Changed: 5, Missing: 100},
		},
	}
	w.merged.Inserted, w.application = 7, "running"
	w.SetStartTime(damageBegan)
	w.SetTestTimeout(20 * time.Second)
	// On a busy machine the first test's first task may take longer than the second that is the default.
	w.SetWorkerOptions(worker.Options{DeadlockDetectionTimeout: 10 * time.Second})
	w.SetDetachedChildWait(false) // the report outlives its incident
	w.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: RestoreID("battwheels"), TaskQueue: TaskQueue})
	w.RegisterWorkflowWithOptions(Restore, workflow.RegisterOptions{Name: "Restore"})
	w.RegisterWorkflowWithOptions(Backup, workflow.RegisterOptions{Name: "Backup"})
	w.RegisterWorkflowWithOptions(IncidentReport, workflow.RegisterOptions{Name: "IncidentReport"})
	w.RegisterWorkflowWithOptions(FollowUp, workflow.RegisterOptions{Name: "FollowUp"})
	w.RegisterWorkflowWithOptions(PodLoss, workflow.RegisterOptions{Name: "PodLoss"})
	w.RegisterWorkflowWithOptions(DatabaseCorruption, workflow.RegisterOptions{Name: "DatabaseCorruption"})
	w.RegisterWorkflowWithOptions(AccidentalDeletion, workflow.RegisterOptions{Name: "AccidentalDeletion"})
	w.RegisterWorkflowWithOptions(Undelete, workflow.RegisterOptions{Name: "Undelete"})
	w.RegisterWorkflowWithOptions(MergeBack, workflow.RegisterOptions{Name: "MergeBack"})
	w.RegisterActivity(&activities.Undelete{})
	for _, a := range []any{
		&activities.Data{}, &activities.Catalog{}, &activities.Application{}, &activities.Mail{}, &activities.Incident{}, &activities.Target{},
	} {
		w.RegisterActivity(a)
	}
	w.mockSteps()
	return w
}

// hit records a step, and fails it where the test wants that.
func (w *world) hit(name string) error {
	w.mu.Lock()
	w.calls = append(w.calls, name)
	w.count[name]++
	n, fail, when := w.count[name], w.fail[name], w.when[name]
	w.mu.Unlock()
	if when != nil {
		when()
	}
	if fail != nil {
		return fail(n)
	}
	return nil
}

func (w *world) mockSteps() {
	anything := mock.Anything
	ref := func(id string) activities.BackupRef {
		return activities.BackupRef{ID: id, Time: damageBegan.Add(-73 * time.Minute), Kind: "scheduled", State: "verified", Collections: 220, Documents: 1000}
	}
	w.OnActivity(targets.LoadTarget, anything, anything).Return(func(_ context.Context, name string) (activities.Snapshot, error) {
		if name != "" && name != w.snap.Target {
			return activities.Snapshot{}, temporal.NewNonRetryableApplicationError("no target "+name, activities.BadInput, nil)
		}
		return w.snap, w.hit("LoadTarget")
	})
	w.OnActivity(data.DumpDatabase, anything, anything).Return(func(_ context.Context, in activities.DumpInput) (activities.BackupRef, error) {
		r := ref(in.Name)
		r.Kind = in.Kind
		return r, w.hit("Dump " + in.Kind)
	})
	w.OnActivity(catalog.ChooseBackup, anything, anything).Return(func(_ context.Context, in activities.ChooseInput) (activities.Chosen, error) {
		if err := w.hit("ChooseBackup"); err != nil {
			return activities.Chosen{}, err
		}
		chosen := activities.Chosen{Candidates: w.candidates, PassedOver: w.passedOver}
		if in.Want != "" {
			chosen.BackupRef = ref(in.Want)
			return chosen, nil
		}
		for _, id := range []string{"newest", "older"} {
			if !slices.Contains(in.Excluded, id) {
				chosen.BackupRef = ref(id)
				return chosen, nil
			}
		}
		return activities.Chosen{}, final(activities.NoBackup, "no proven backup")
	})
	w.OnActivity(data.QueryStaging, anything, anything).Return(func(_ context.Context, at activities.Attempt) (activities.Queried, error) {
		return activities.Queried{Wrong: w.unsound[at.Backup], Unasked: w.unasked}, w.hit("QueryStaging")
	})
	w.OnActivity(catalog.CheckBackup, anything, anything).Return(func(_ context.Context, in activities.CheckInput) (activities.BackupRef, error) {
		return ref(in.ID), w.hit("CheckBackup")
	})
	w.OnActivity(catalog.SyncOffsite, anything, anything).Return(func(context.Context, string) (activities.Synced, error) {
		return activities.Synced{Copied: []string{"newest"}}, w.hit("SyncOffsite")
	})
	w.OnActivity(catalog.ApplyRetention, anything, anything).Return(func(context.Context, string) (activities.Retention, error) {
		return activities.Retention{Kept: 3}, w.hit("ApplyRetention")
	})
	w.OnActivity(data.AcquireLease, anything, anything).Return(func(context.Context, activities.LeaseInput) (int64, error) {
		err := w.hit("AcquireLease")
		return int64(w.times("AcquireLease")), err
	})
	w.OnActivity(data.UndoHalfSwaps, anything, anything).Return(func(_ context.Context, in activities.UndoInput) ([]string, error) {
		if w.halfSwap != "" && !in.Stopped {
			_ = w.hit("FindHalfSwap")
			return nil, final(activities.HalfSwapped, "the swap of incident "+w.halfSwap+" was cut off half-way")
		}
		if err := w.hit("UndoHalfSwaps"); err != nil || w.halfSwap == "" {
			return nil, err
		}
		return []string{w.halfSwap}, nil
	})
	w.OnActivity(data.StageBackup, anything, anything).Return(func(context.Context, activities.Attempt) (activities.Staged, error) {
		return activities.Staged{Collections: 220, Documents: 1000}, w.hit("StageBackup")
	})
	w.OnActivity(data.ProveStaging, anything, anything).Return(func(context.Context, activities.Attempt) (activities.Proof, error) {
		return activities.Proof{Documents: 1000, Indexes: 300}, w.hit("ProveStaging")
	})
	w.OnActivity(data.DrawPlan, anything, anything).Return(func(_ context.Context, in activities.PlanInput) (activities.Plan, error) {
		p := w.plan
		p.Backup, p.Candidates, p.Warnings = ref(in.Backup), in.Candidates, in.Warnings
		if in.Against == "" {
			p.RadiusKnown = false
		}
		return p, w.hit("DrawPlan")
	})
	w.OnActivity(data.SwapCollections, anything, anything).Return(func(context.Context, activities.Attempt) (activities.Swapped, error) {
		return activities.Swapped{Placed: 220, Aside: 218}, w.hit("SwapCollections")
	})
	w.OnActivity(data.RollBackSwap, anything, anything).Return(func(context.Context, activities.Attempt) (activities.Swapped, error) {
		return activities.Swapped{Aside: 218}, w.hit("RollBackSwap")
	})
	w.OnActivity(data.VerifyRestored, anything, anything).Return(func(context.Context, activities.Attempt) (activities.Verified, error) {
		return activities.Verified{Documents: 1000, Indexes: 300}, w.hit("VerifyRestored")
	})
	w.OnActivity(data.MergeAuditLogs, anything, anything).Return(func(context.Context, activities.MergeInput) (activities.Merged, error) {
		return w.merged, w.hit("MergeAuditLogs")
	})
	w.OnActivity(data.ObserveDatabase, anything, anything).Return(func(context.Context, activities.ObserveInput) (activities.Observation, error) {
		err := w.hit("ObserveDatabase")
		o := activities.Observation{At: w.Now(), State: activities.DatabaseWhole}
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.observed != nil {
			o.State = w.observed(w.count["ObserveDatabase"])
		}
		o.What = "it is " + o.State
		return o, err
	})
	w.OnActivity(data.CompareWithBackup, anything, anything).Return(func(context.Context, activities.CompareInput) (activities.Compared, error) {
		return activities.Compared{Radius: backup.Counts{Same: 900, Added: 60, Missing: 3}}, w.hit("CompareWithBackup")
	})
	w.OnActivity(app.ProveQuiet, anything, anything).Return(func(context.Context, string) (activities.Quiet, error) {
		return activities.Quiet{Method: "$currentOp"}, w.hit("ProveQuiet")
	})
	w.OnActivity(app.StartApplication, anything, anything).Return(func(context.Context, string) (activities.Health, error) {
		if err := w.hit("StartApplication"); err != nil {
			w.becomes("failed")
			return activities.Health{}, err
		}
		w.becomes("running")
		return activities.Health{Detail: "healthy"}, nil
	})
	w.OnActivity(mails.FreezeMails, anything, anything).Return(func(context.Context, activities.FreezeInput) (activities.Outbox, error) {
		return activities.Outbox{Organizations: 150, Mails: 148, WithoutAddress: 2, Batches: 2, BatchSize: 100}, w.hit("FreezeMails")
	})
	w.OnActivity(mails.SendBatch, anything, anything).Return(func(_ context.Context, in activities.SendInput) (activities.Sent, error) {
		return activities.Sent{Sent: []int{100, 48}[in.Batch]}, w.hit(strings.TrimSpace(fmt.Sprintf("SendBatch %d %s", in.Batch, in.Outbox)))
	})
	w.OnActivity(mails.FreezeFollowUp, anything, anything).Return(func(_ context.Context, in activities.FollowUpInput) (activities.FollowUp, error) {
		return activities.FollowUp{
			Outbox: activities.Outbox{Organizations: 150, Mails: 146, WithoutAddress: 4, Batches: 2, BatchSize: 100},
			Name:   in.Name, Headline: in.Headline, Code: strings.ToUpper("C-" + in.Name), Preview: "preview-" + in.Name + ".html",
		}, w.hit("FreezeFollowUp " + in.Text)
	})
	w.OnActivity(mails.TellPeople, anything, anything).Return(func(_ context.Context, in activities.TellInput) error {
		w.mu.Lock()
		w.told = append(w.told, in)
		w.mu.Unlock()
		return w.hit("TellPeople " + string(in.Kind))
	})
	w.OnActivity(records.DraftReport, anything, anything).Return(func(_ context.Context, in activities.DraftInput) (activities.Draft, error) {
		w.mu.Lock()
		w.drafted = in
		w.mu.Unlock()
		return activities.Draft{Markdown: "report.md", HTML: "report.html", Events: 200}, w.hit("DraftReport")
	})
	w.OnActivity(data.ReleaseLease, anything, anything).Return(done[activities.Attempt](w, "ReleaseLease"))
	w.OnActivity(data.RemoveStaging, anything, anything).Return(done[activities.Attempt](w, "RemoveStaging"))
	w.OnActivity(catalog.MarkRestored, anything, anything).Return(func(_ context.Context, in activities.RestoredInput) error {
		w.mu.Lock()
		w.restored = append(w.restored, in)
		w.mu.Unlock()
		return w.hit("MarkRestored")
	})
	w.OnActivity(app.StopApplication, anything, anything).Return(func(context.Context, string) error {
		err := w.hit("StopApplication")
		if err == nil {
			w.becomes("stopped")
		}
		return err
	})
	w.OnActivity(records.OpenIncident, anything, anything).Return(done[activities.OpenInput](w, "OpenIncident"))
	w.OnActivity(records.CloseIncident, anything, anything).Return(done[activities.CloseInput](w, "CloseIncident"))
}

// becomes notes what a step has made of the application.
func (w *world) becomes(state string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.application = state
}

// done is a step that has nothing to tell.
func done[In any](w *world, name string) func(context.Context, In) error {
	return func(context.Context, In) error { return w.hit(name) }
}

// restore runs Restore as the root workflow.
func (w *world) restore(in RestoreInput) RestoreResult {
	w.t.Helper()
	w.ExecuteWorkflow(Restore, in)
	require.True(w.t, w.IsWorkflowCompleted())
	require.NoError(w.t, w.GetWorkflowError())
	var r RestoreResult
	require.NoError(w.t, w.GetWorkflowResult(&r))
	return r
}

// at runs do after a delay of the workflow's time.
func (w *world) at(after time.Duration, do func()) { w.RegisterDelayedCallback(do, after) }

// says sends an Update and checks whether it is taken ("" expects that) or refused with a text that contains denied.
func (w *world) says(door string, a Answer, denied string) {
	if a.By == "" {
		a.By, a.Reason = "Asha", "checked with support"
	}
	heard := false
	check := func(err error) {
		heard = true
		if denied == "" {
			require.NoError(w.t, err)
			return
		}
		require.ErrorContains(w.t, err, denied)
	}
	w.UpdateWorkflow(door, fmt.Sprintf("%s-%d", door, time.Now().UnixNano()), &testsuite.TestUpdateCallback{
		OnAccept:   func() {},
		OnReject:   check,
		OnComplete: func(_ any, err error) { check(err) },
	}, a)
	w.at(time.Millisecond, func() { require.True(w.t, heard, "the Update %s got no answer", door) })
}

// approves approves the plan that waits, as soon as it waits.
func (w *world) approves() {
	w.at(time.Minute, func() { w.says(DoorApprove, Answer{Plan: w.plan.Code}, "") })
}

func (w *world) ran(name string) bool { return w.times(name) > 0 }

// times is how often a step was tried. The report outlives its incident: its steps may still run when a test looks.
func (w *world) times(name string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count[name]
}

// before asserts that one step ran before another.
func (w *world) before(first, then string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	i, j := slices.Index(w.calls, first), slices.Index(w.calls, then)
	require.GreaterOrEqual(w.t, i, 0, "%s did not run: %v", first, w.calls)
	require.Greater(w.t, j, i, "%s before %s: %v", first, then, w.calls)
}

func final(kind, text string) error { return temporal.NewNonRetryableApplicationError(text, kind, nil) }

func always(err error) func(int) error { return func(int) error { return err } }

func once(err error) func(int) error {
	return func(call int) error {
		if call == 1 {
			return err
		}
		return nil
	}
}

// relaySignals delivers what a child tells the root workflow: the test environment knows children only.
func (w *world) relaySignals() {
	w.OnSignalExternalWorkflow(mock.Anything, mock.Anything, mock.Anything, mock.Anything, mock.Anything).Return(
		func(_, _, _, signal string, arg any) error {
			w.SignalWorkflow(signal, arg)
			return nil
		})
}

// noWorker is what a step ends with whose host has no worker.
func noWorker() error { return temporal.NewTimeoutError(enums.TIMEOUT_TYPE_SCHEDULE_TO_START, nil) }
