package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/internal/mongotest"
	"github.com/battwheels/runbook/workflows"
)

// related says how the documents of this world hang together.
func related(c *config.Config) {
	t := c.Targets["battwheels"]
	t.Deletions.Keys = map[string]string{"invoices": "number"}
	t.Deletions.Dependants = []config.Dependant{{Collection: "items", Field: "number", Of: "invoices"}}
	c.Targets["battwheels"] = t
}

// deleteByMistake takes a backup, lets one organization lose its invoices, and others go on. It returns what the database was
// before the mistake and what it is after the others' work, both by document.
func (w *world) deleteByMistake() (before, now map[string]string, began time.Time) {
	w.t.Helper()
	before = w.content()
	w.backup()
	began = time.Now()
	ctx := w.t.Context()
	mine := bson.D{{Key: "organization_id", Value: "org_03"}}
	for _, c := range []string{"invoices", "items"} {
		_, err := w.db.Collection(c).DeleteMany(ctx, mine)
		require.NoError(w.t, err)
	}
	// Another organization changes one, deletes one on purpose, and makes one.
	_, err := w.db.Collection("invoices").UpdateOne(ctx, bson.D{{Key: "number", Value: 4}}, bson.D{{Key: "$set", Value: bson.D{{Key: "text", Value: "changed"}}}})
	require.NoError(w.t, err)
	_, err = w.db.Collection("invoices").DeleteOne(ctx, bson.D{{Key: "number", Value: 5}})
	require.NoError(w.t, err)
	w.insert("invoices", 1, func(int) bson.D {
		return bson.D{{Key: "_id", Value: "new"}, {Key: "organization_id", Value: "org_04"}, {Key: "number", Value: int32(9001)}}
	})
	return before, w.content(), began
}

// wanted is the database with that organization's documents back, and everything else as it is.
func wanted(before, now map[string]string) (want map[string]string, back int) {
	want = map[string]string{}
	for k, v := range now {
		want[k] = v
	}
	for k, v := range before {
		if _, there := now[k]; !there && strings.Contains(v, "org_03") {
			want[k] = v
			back++
		}
	}
	return want, back
}

// TestAccidentalDeletionPutsExactlyThoseDocumentsBack is the whole playbook through a real worker, which is killed and started again
// while a person reads: afterwards that organization's documents are back byte for byte, and nobody else's are touched.
func TestAccidentalDeletionPutsExactlyThoseDocumentsBack(t *testing.T) {
	w := newWorld(t, related)
	before, now, began := w.deleteByMistake()
	want, back := wanted(before, now)
	run := w.run(incident, "AccidentalDeletion", workflows.DeletionInput{Since: workflows.Since(began.UTC().Format(time.RFC3339Nano)), By: "Asha"})
	s := w.asked(incident)
	require.NotNil(t, s.Missing)
	require.EqualValues(t, back+1, s.Missing.Documents, "the one deleted on purpose is missing, too")
	require.Nil(t, s.Plan)

	require.NoError(t, w.says(incident, workflows.DoorNarrow, workflows.Answer{Narrowing: workflows.Narrowing{Collections: []string{"invoices"}}}))
	s = w.await(incident, "no plan", func(s workflows.Status) bool { return s.Plan != nil && s.Asked != "" })
	wide := s.Plan.Code
	require.EqualValues(t, back+1, s.Plan.Undelete.Insert)
	w.end()
	w.start()
	require.NoError(t, w.says(incident, workflows.DoorNarrow, workflows.Answer{Narrowing: workflows.Narrowing{Collections: []string{"invoices"}, Organization: "org_03"}}))
	s = w.await(incident, "no narrower plan", func(s workflows.Status) bool { return s.Plan != nil && s.Plan.Code != wide && s.Asked != "" })
	require.EqualValues(t, back, s.Plan.Undelete.Insert)
	require.EqualValues(t, 25, s.Plan.Undelete.Dependants)
	require.ErrorContains(t, w.says(incident, workflows.DoorApprove, workflows.Answer{Plan: wide}), "is not the one that waits")
	require.Equal(t, now, w.content(), "nothing is written before the approval")
	require.NoError(t, w.says(incident, workflows.DoorApprove, workflows.Answer{Plan: s.Plan.Code}))
	w.await(incident, "nobody is asked to look", func(s workflows.Status) bool { return len(s.Choices) > 0 })
	require.Equal(t, want, w.content())
	require.NoError(t, w.says(incident, workflows.DoorDecide, workflows.Answer{Choice: workflows.CarryOn}))

	var r workflows.IncidentResult
	require.NoError(t, run.Get(t.Context(), &r))
	require.Equal(t, workflows.Recovered, r.Outcome, r.Summary)
	require.EqualValues(t, back, r.Undelete.PutBack.Insert)
	require.Empty(t, r.Warnings)
	require.Equal(t, want, w.content())
	for _, m := range w.mail.Mails() {
		require.Equal(t, []string{"oncall@battwheels.test"}, m.To)
	}
	w.await("report/"+r.Incident, "no draft", func(s workflows.Status) bool { return s.Asked != "" })
	dir := filepath.Join(w.storage, "incidents", "battwheels", r.Incident)
	everyStatementIsInAHistory(t, dir)
	page, err := os.ReadFile(filepath.Join(dir, "report.md"))
	require.NoError(t, err)
	require.Contains(t, string(page), "| Playbook | AccidentalDeletion |")
	require.Contains(t, string(page), s.Plan.Code)
	w.record("deletion", incident, "")
	w.record("deletion-undelete", restoring, "")
}

// TestAnUndeleteIsTakenOutAgain rolls back by one answer: the database is what it was before the approval, and what a user changed
// meanwhile stays.
func TestAnUndeleteIsTakenOutAgain(t *testing.T) {
	w := newWorld(t, related)
	_, now, began := w.deleteByMistake()
	run := w.run(incident, "AccidentalDeletion", workflows.DeletionInput{
		Since: workflows.Since(began.UTC().Format(time.RFC3339Nano)), Collections: []string{"invoices"}, Organization: "org_03",
	})
	s := w.asked(incident)
	require.NotNil(t, s.Plan)
	require.NoError(t, w.says(incident, workflows.DoorApprove, workflows.Answer{Plan: s.Plan.Code}))
	w.await(incident, "nobody is asked to look", func(s workflows.Status) bool { return len(s.Choices) > 0 })
	_, err := w.db.Collection("invoices").UpdateOne(t.Context(), bson.D{{Key: "number", Value: 3}}, bson.D{{Key: "$set", Value: bson.D{{Key: "text", Value: "paid"}}}})
	require.NoError(t, err)
	require.NoError(t, w.says(incident, workflows.DoorDecide, workflows.Answer{Choice: workflows.RollBack}))
	var r workflows.IncidentResult
	require.NoError(t, run.Get(t.Context(), &r))
	require.Equal(t, workflows.RolledBack, r.Outcome)
	require.EqualValues(t, 1, r.Undelete.Undone.Changed)
	after := w.content()
	for k, v := range after {
		if _, there := now[k]; !there {
			require.Contains(t, v, "paid", k)
			delete(after, k)
		}
	}
	require.Equal(t, now, after)
	w.record("deletion-rolled-back", restoring, "")
}

// TestADryRunOfADeletionChangesNothing searches and plans against the real database: nothing is written there, nobody gets a mail,
// and retention is not frozen.
func TestADryRunOfADeletionChangesNothing(t *testing.T) {
	w := newWorld(t, related)
	before, now, began := w.deleteByMistake()
	_, back := wanted(before, now)
	var r workflows.IncidentResult
	require.NoError(t, w.run(workflows.DryRunID("battwheels"), "AccidentalDeletion", workflows.DeletionInput{
		DryRun: true, Since: workflows.Since(began.UTC().Format(time.RFC3339Nano)), Organization: "org_03",
	}).Get(t.Context(), &r))
	require.Equal(t, workflows.Planned, r.Outcome)
	require.EqualValues(t, back, r.Undelete.Plan.Undelete.Insert)
	require.FileExists(t, r.Undelete.Plan.Undelete.File)
	require.Equal(t, now, w.content())
	require.Empty(t, w.reserved("runbook."))
	require.Empty(t, w.mail.Mails())
	require.NoFileExists(t, filepath.Join(w.storage, "incidents", "battwheels", r.Incident, "incident.json"))
	w.record("deletion-dry-run", workflows.DryRunID("battwheels"), "")
}

// TestARestoreOfWholeCollectionsLeavesTheOthersAlone is for when a whole collection is gone: it alone is staged, proven and swapped,
// and what was written elsewhere since the backup stays.
func TestARestoreOfWholeCollectionsLeavesTheOthersAlone(t *testing.T) {
	w := newWorld(t)
	before, now, _ := w.deleteByMistake()
	require.NoError(t, w.db.Collection("tickets").Drop(t.Context()))
	run := w.run(restoring, "Restore", workflows.RestoreInput{Collections: []string{"tickets", "items"}})
	s := w.asked(restoring)
	require.NotNil(t, s.Plan)
	require.Equal(t, []string{"tickets", "items"}, s.Plan.Only)
	require.EqualValues(t, 925, s.Plan.Radius.Missing)
	require.Zero(t, s.Plan.Loss(), "the others are not counted")
	require.Contains(t, s.Markdown(), "Only these collections")
	require.NoError(t, w.says(restoring, workflows.DoorApprove, workflows.Answer{Plan: s.Plan.Code}))
	var r workflows.RestoreResult
	require.NoError(t, run.Get(t.Context(), &r))
	require.Equal(t, workflows.Recovered, r.Outcome, r.Summary)
	require.EqualValues(t, 1200, r.DocumentsRestored)
	require.Empty(t, r.KeyCounts)
	want := now
	for k, v := range before {
		if strings.HasPrefix(k, "tickets ") || strings.HasPrefix(k, "items ") {
			want[k] = v
		}
	}
	require.Equal(t, want, w.content())
	w.record("restore-collections", restoring, "")
}

func TestARestoreOfACollectionThatTheBackupLacksChangesNothing(t *testing.T) {
	w := newWorld(t)
	w.backup()
	before := w.content()
	err := w.run(restoring, "Restore", workflows.RestoreInput{Collections: []string{"tikets"}}).Get(t.Context(), nil)
	require.ErrorContains(t, err, "has no collection tikets")
	require.Equal(t, before, w.content())
	require.Empty(t, w.reserved("runbook.stage."))
}

// TestAWorkerKilledWhileItPutsDocumentsBackCarriesOn kills the worker with SIGKILL when it has written down what it is about to insert
// and the server is at it. Another one finishes: each document is there once, byte for byte, and nobody else's is touched.
func TestAWorkerKilledWhileItPutsDocumentsBackCarriesOn(t *testing.T) {
	w := newWorld(t)
	if w.server == nil {
		t.Skip("needs a server that can be told to be slow")
	}
	before, now, began := w.deleteByMistake()
	want, back := wanted(before, now)
	w.end()
	first := w.spawn()
	run := w.run(incident, "AccidentalDeletion", workflows.DeletionInput{
		Since: workflows.Since(began.UTC().Format(time.RFC3339Nano)), Organization: "org_03",
	})
	s := w.asked(incident)
	require.NotNil(t, s.Plan)
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
	require.NoError(t, run.Get(t.Context(), &r))
	require.Equal(t, workflows.Recovered, r.Outcome, r.Summary)
	require.EqualValues(t, back, r.Undelete.PutBack.Insert)
	require.EqualValues(t, back, r.Undelete.Verified.Same)
	seen := map[string]int{}
	for _, m := range w.mail.Mails() {
		seen[m.Subject+m.Text]++
	}
	for mail, n := range seen {
		require.Equal(t, 1, n, mail)
	}
	w.record("deletion-killed", restoring, "")
}
