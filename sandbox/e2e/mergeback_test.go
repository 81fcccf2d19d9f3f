package e2e

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.temporal.io/sdk/client"

	"github.com/battwheels/runbook/internal/mongotest"
	"github.com/battwheels/runbook/workflows"
)

// TestNewerDocumentsAreMergedBack lets people work after the backup, damages the database, recovers it, and brings their work back by
// approval: byte for byte, without what the damage had inserted, and without touching what was done since.
func TestNewerDocumentsAreMergedBack(t *testing.T) {
	w := newWorld(t, related)
	ctx := t.Context()
	backedUp := w.content()
	w.backup()

	// What people were told is kept: invoices with their items, and an audit entry.
	w.insert("invoices", 30, func(i int) bson.D {
		return bson.D{{Key: "_id", Value: fmt.Sprintf("work-%02d", i)}, {Key: "organization_id", Value: fmt.Sprintf("org_%02d", i%3)},
			{Key: "number", Value: int32(5000 + i)}, {Key: "text", Value: strings.Repeat("w", i)}}
	})
	w.insert("items", 10, func(i int) bson.D {
		return bson.D{{Key: "organization_id", Value: "org_01"}, {Key: "number", Value: int32(5001 + 3*i)}}
	})
	w.insert("audit_logs", 1, func(int) bson.D { return bson.D{{Key: "_id", Value: "late"}, {Key: "timestamp", Value: time.Now()}} })
	worked := w.content()
	// The damage changes documents, and inserts some: in a collection that there is, and in one of its own.
	_, err := w.db.Collection("invoices").UpdateMany(ctx, bson.D{{Key: "number", Value: bson.D{{Key: "$lt", Value: 400}}}},
		bson.D{{Key: "$set", Value: bson.D{{Key: "text", Value: "garbage"}}}})
	require.NoError(t, err)
	w.insert("tickets", 50, func(int) bson.D {
		return bson.D{{Key: "organization_id", Value: "org_01"}, {Key: "text", Value: "garbage"}}
	})
	w.insert("rubbish", 5, func(int) bson.D { return bson.D{{Key: "text", Value: "garbage"}} })

	run := w.run(incident, "DatabaseCorruption", workflows.CorruptionInput{})
	s := w.asked(incident)
	require.NoError(t, w.says(incident, workflows.DoorApprove, workflows.Answer{Plan: s.Plan.Code}))
	var first workflows.IncidentResult
	require.NoError(t, run.Get(ctx, &first))
	require.Equal(t, workflows.Recovered, first.Outcome)
	n := first.Restore.Newer
	require.NotNil(t, n)
	require.EqualValues(t, 90, n.Documents, "the audit entry is back already, and what lies aside is counted apart")
	require.EqualValues(t, 400, n.Changed)
	require.Equal(t, "tickets", n.Collections[0].Name)
	require.EqualValues(t, 50, n.Collections[0].Documents)
	require.Equal(t, "org_01", n.Organizations[0].Name)
	require.EqualValues(t, 70, n.Organizations[0].Documents)
	require.Equal(t, "rubbish", n.Aside[0].Name)
	command := "runbook merge-back battwheels --incident " + first.Incident
	require.Contains(t, first.Summary, command)
	w.toldOnCall(command, "tickets 50, invoices 30, items 10")

	// People go on: one is entered again under its number, one that was restored is deleted on purpose, one is new.
	w.insert("invoices", 1, func(int) bson.D {
		return bson.D{{Key: "_id", Value: "again"}, {Key: "organization_id", Value: "org_00"}, {Key: "number", Value: int32(5003)}}
	})
	_, err = w.db.Collection("invoices").DeleteOne(ctx, bson.D{{Key: "number", Value: 7}})
	require.NoError(t, err)
	now := w.content()
	require.NotContains(t, now, `invoices "work-00"`)

	var dry workflows.IncidentResult
	require.NoError(t, w.run(workflows.DryRunID("battwheels"), "MergeBack", workflows.MergeBackInput{Incident: first.Incident, DryRun: true}).Get(ctx, &dry))
	require.Equal(t, workflows.Planned, dry.Outcome)
	require.EqualValues(t, 89, dry.Undelete.Plan.Undelete.Insert)

	run = w.run(incident, "MergeBack", workflows.MergeBackInput{Incident: first.Incident, By: "Asha"})
	s = w.await(incident, "no plan", func(s workflows.Status) bool { return s.Plan != nil && s.Asked != "" })
	wide := s.Plan.Code
	require.EqualValues(t, 89, s.Plan.Undelete.Insert, "the damage's tickets are among them, for a person to see")
	require.Equal(t, "tickets", s.Plan.Undelete.Collections[0].Collection)
	require.Contains(t, s.Markdown(), "The damage may have made some of them")
	require.ErrorContains(t, w.says(incident, workflows.DoorChooseBackup, workflows.Answer{Backup: "older"}), "this safety dump alone")
	w.end()
	w.start()
	require.NoError(t, w.says(incident, workflows.DoorNarrow, workflows.Answer{Narrowing: workflows.Narrowing{Collections: []string{"invoices", "items"}}}))
	s = w.await(incident, "no narrower plan", func(s workflows.Status) bool { return s.Plan != nil && s.Plan.Code != wide && s.Asked != "" })
	require.EqualValues(t, 39, s.Plan.Undelete.Insert)
	require.Equal(t, now, w.content(), "nothing is written before the approval")
	require.NoError(t, w.says(incident, workflows.DoorApprove, workflows.Answer{Plan: s.Plan.Code}))
	w.await(incident, "nobody is asked to look", func(s workflows.Status) bool { return len(s.Choices) > 0 })

	want := maps.Clone(now)
	for k, v := range worked {
		if _, old := backedUp[k]; !old && k != `invoices "work-03"` {
			want[k] = v
		}
	}
	require.Equal(t, want, w.content())
	require.NoError(t, w.says(incident, workflows.DoorDecide, workflows.Answer{Choice: workflows.CarryOn}))
	var r workflows.IncidentResult
	require.NoError(t, run.Get(ctx, &r))
	require.Equal(t, workflows.Recovered, r.Outcome, r.Summary)
	require.EqualValues(t, 39, r.Undelete.PutBack.Insert)
	require.True(t, r.Undelete.Verified.Whole)
	require.Empty(t, r.Report, "the first incident's report tells it")
	require.Equal(t, want, w.content())

	// That report is drawn again when it is posted.
	h, err := w.temporal.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: first.Report, UpdateName: workflows.DoorPostReport, WaitForStage: client.WorkflowUpdateStageCompleted,
		Args: []any{workflows.Posting{URL: "https://status.battwheels.test/7", By: "Asha"}},
	})
	require.NoError(t, err)
	require.NoError(t, h.Get(ctx, nil))
	require.NoError(t, w.temporal.GetWorkflow(ctx, first.Report, "").Get(ctx, nil))
	dir := filepath.Join(w.storage, "incidents", "battwheels", first.Incident)
	everyStatementIsInAHistory(t, dir)
	page, err := os.ReadFile(filepath.Join(dir, "report.md"))
	require.NoError(t, err)
	require.Contains(t, string(page), "90 documents are newer than the backup")
	require.Regexp(t, `Merged back from .* by incident `+r.Incident+` \(plan `+s.Plan.Code+`, approved by Asha\): 39 documents, narrowed to collections: invoices, items\. .*merge-back-1-insert#[0-9]+`, string(page))
	w.record("merge-back", incident, "")
	w.record("merge-back-undelete", restoring, "")
	w.record("merge-back-dry-run", workflows.DryRunID("battwheels"), "")
}

// toldOnCall makes sure that the people on call were sent each of these texts.
func (w *world) toldOnCall(texts ...string) {
	w.t.Helper()
	var all strings.Builder
	for _, m := range w.mail.Mails() {
		if m.To[0] == "oncall@battwheels.test" {
			all.WriteString(m.Text)
		}
	}
	for _, text := range texts {
		require.Contains(w.t, strings.Join(strings.Fields(all.String()), " "), text)
	}
}

// TestAMergeAfterARestoreOfOneCollectionIsTakenOutAgain is for a restore that no playbook of an incident ran: only what was newer in the
// collection that was restored comes back, one answer takes it out again, and the merge has a report of its own.
func TestAMergeAfterARestoreOfOneCollectionIsTakenOutAgain(t *testing.T) {
	w := newWorld(t, related)
	ctx := t.Context()
	w.backup()
	w.insert("tickets", 4, func(i int) bson.D { return bson.D{{Key: "_id", Value: i}, {Key: "organization_id", Value: "org_02"}} })
	w.insert("invoices", 6, func(i int) bson.D {
		return bson.D{{Key: "organization_id", Value: "org_02"}, {Key: "number", Value: int32(7000 + i)}}
	})
	run := w.run(restoring, "Restore", workflows.RestoreInput{Collections: []string{"invoices"}})
	s := w.asked(restoring)
	require.NoError(t, w.says(restoring, workflows.DoorApprove, workflows.Answer{Plan: s.Plan.Code}))
	var restored workflows.RestoreResult
	require.NoError(t, run.Get(ctx, &restored))
	require.Equal(t, workflows.Recovered, restored.Outcome)
	require.EqualValues(t, 6, restored.Newer.Documents)
	_, err := w.db.Collection("tickets").DeleteOne(ctx, bson.D{{Key: "_id", Value: 2}}) // on purpose
	require.NoError(t, err)
	now := w.content()

	run = w.run(incident, "MergeBack", workflows.MergeBackInput{})
	s = w.await(incident, "no plan", func(s workflows.Status) bool { return s.Plan != nil && s.Asked != "" })
	require.EqualValues(t, 6, s.Plan.Undelete.Insert, "the ticket was deleted, and its collection was never restored")
	require.Equal(t, "org_02", s.Plan.Undelete.Organizations[0].Organization)
	require.Equal(t, "7000", s.Plan.Undelete.Samples[0].Documents[0])
	require.NoError(t, w.says(incident, workflows.DoorApprove, workflows.Answer{Plan: s.Plan.Code}))
	w.await(incident, "nobody is asked to look", func(s workflows.Status) bool { return len(s.Choices) > 0 })
	require.Len(t, w.content(), len(now)+6)
	require.NoError(t, w.says(incident, workflows.DoorDecide, workflows.Answer{Choice: workflows.RollBack}))
	var r workflows.IncidentResult
	require.NoError(t, run.Get(ctx, &r))
	require.Equal(t, workflows.RolledBack, r.Outcome, r.Summary)
	require.EqualValues(t, 6, r.Undelete.Undone.Removed)
	require.Equal(t, now, w.content())
	require.Equal(t, restored.Incident, r.Undelete.From.Of)

	w.await(r.Report, "no draft", func(s workflows.Status) bool { return s.Asked != "" })
	dir := filepath.Join(w.storage, "incidents", "battwheels", r.Incident)
	everyStatementIsInAHistory(t, dir)
	page, err := os.ReadFile(filepath.Join(dir, "report.md"))
	require.NoError(t, err)
	require.Contains(t, string(page), "| Playbook | MergeBack |")
	require.Contains(t, string(page), "6 documents that are newer than backup")
	require.Contains(t, string(page), "Safety dump "+restored.SafetyDump+" was compared with backup")
	w.record("merge-back-rolled-back", restoring, "")
}

// TestAWorkerKilledWhileItMergesBackCarriesOn kills the worker with SIGKILL when it has written down what it is about to insert and the
// server is at it. Another one finishes: each document is there once, byte for byte.
func TestAWorkerKilledWhileItMergesBackCarriesOn(t *testing.T) {
	w := newWorld(t)
	if w.server == nil {
		t.Skip("needs a server that can be told to be slow")
	}
	ctx := t.Context()
	w.backup()
	w.insert("tickets", 40, func(i int) bson.D {
		return bson.D{{Key: "organization_id", Value: "org_02"}, {Key: "number", Value: i}}
	})
	want := w.content()
	run := w.run(restoring, "Restore", workflows.RestoreInput{})
	s := w.asked(restoring)
	require.NoError(t, w.says(restoring, workflows.DoorApprove, workflows.Answer{Plan: s.Plan.Code}))
	require.NoError(t, run.Get(ctx, nil))
	require.Len(t, w.content(), len(want)-40)
	w.end()
	first := w.spawn()
	run = w.run(incident, "MergeBack", workflows.MergeBackInput{})
	s = w.await(incident, "no plan", func(s workflows.Status) bool { return s.Plan != nil && s.Asked != "" })
	slow := w.server.Fail(mongotest.Fault{Command: "insert", Delay: time.Second})
	require.NoError(t, w.says(incident, workflows.DoorApprove, workflows.Answer{Plan: s.Plan.Code}))
	require.Eventually(t, func() bool {
		files, err := filepath.Glob(filepath.Join(w.storage, "incidents", "battwheels", "*", "undelete", "undo.jsonl"))
		if err != nil || len(files) != 1 {
			return false
		}
		b, err := os.ReadFile(files[0])
		return err == nil && strings.Contains(string(b), `"intent"`)
	}, time.Minute, 5*time.Millisecond, "nothing is about to be inserted")
	w.kill(first)
	slow.Lift()
	second := w.spawn()
	defer w.kill(second)
	w.await(incident, "nobody is asked to look", func(s workflows.Status) bool { return len(s.Choices) > 0 })
	require.Equal(t, want, w.content())
	require.NoError(t, w.says(incident, workflows.DoorDecide, workflows.Answer{Choice: workflows.CarryOn}))
	var r workflows.IncidentResult
	require.NoError(t, run.Get(ctx, &r))
	require.Equal(t, workflows.Recovered, r.Outcome, r.Summary)
	require.EqualValues(t, 40, r.Undelete.PutBack.Insert)
	require.True(t, r.Undelete.Verified.Whole)
	require.Equal(t, want, w.content())
}
