package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.temporal.io/sdk/client"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/mongotest"
	"github.com/battwheels/runbook/sandbox/traffic"
	"github.com/battwheels/runbook/workflows"
)

const incident, restoring = "incident/battwheels", "restore/battwheels"

// TestCorruptionBringsEveryDocumentBack is the whole playbook on a database that is really damaged. Afterwards the documents are
// byte for byte those of the backup, and the audit entry that came after it is there too.
func TestCorruptionBringsEveryDocumentBack(t *testing.T) {
	w := newWorld(t)
	before := w.content()
	b := w.backup()
	require.EqualValues(t, len(before), b.Backup.Documents)
	require.Equal(t, "verified", b.Backup.State)

	w.insert("audit_logs", 1, func(int) bson.D { return bson.D{{Key: "_id", Value: "late"}, {Key: "timestamp", Value: time.Now()}} })
	require.NoError(t, w.db.Collection("tickets").Drop(t.Context()))
	_, err := w.db.Collection("invoices").UpdateMany(t.Context(), bson.D{{Key: "number", Value: bson.D{{Key: "$lt", Value: 400}}}},
		bson.D{{Key: "$set", Value: bson.D{{Key: "text", Value: "garbage"}}}})
	require.NoError(t, err)

	run := w.run(incident, "DatabaseCorruption", workflows.CorruptionInput{})
	s := w.asked(incident)
	require.NotNil(t, s.Plan)
	require.EqualValues(t, 900, s.Plan.Radius.Missing)
	require.EqualValues(t, 400, s.Plan.Radius.Changed)
	require.EqualValues(t, 1, s.Plan.Radius.Added)
	require.ErrorContains(t, w.says(incident, workflows.DoorApprove, workflows.Answer{Plan: "OLD-999"}), "plan OLD-999 is not the one")
	require.NoError(t, w.says(incident, workflows.DoorApprove, workflows.Answer{Plan: s.Plan.Code}))

	var r workflows.IncidentResult
	require.NoError(t, run.Get(t.Context(), &r))
	require.Equal(t, workflows.Recovered, r.Outcome)
	after := w.content()
	require.Contains(t, after, `audit_logs "late"`)
	delete(after, `audit_logs "late"`)
	require.Equal(t, before, after)
	require.Equal(t, 10, r.MailsSent)
	require.Equal(t, 10, r.OrganizationsActive)
	require.Len(t, r.Restore.Answers, 2)
	require.NotEmpty(t, r.Restore.Answers[0].Denied)
	require.Empty(t, r.Warnings)
	require.Empty(t, r.Restore.Warnings)
	require.Empty(t, w.reserved("runbook.stage."))
	require.NotEmpty(t, w.reserved("runbook.old."))

	w.await("report/"+r.Incident, "no draft", func(s workflows.Status) bool { return s.Asked != "" })
	everyStatementIsInAHistory(t, filepath.Join(w.storage, "incidents", "battwheels", r.Incident))

	// Posting closes the report.
	h, err := w.temporal.UpdateWorkflow(t.Context(), client.UpdateWorkflowOptions{
		WorkflowID: r.Report, UpdateName: workflows.DoorPostReport, WaitForStage: client.WorkflowUpdateStageCompleted,
		Args: []any{workflows.Posting{URL: "https://status.battwheels.test/7", By: "Asha"}},
	})
	require.NoError(t, err)
	require.NoError(t, h.Get(t.Context(), nil))
	var posted workflows.ReportResult
	require.NoError(t, w.temporal.GetWorkflow(t.Context(), r.Report, "").Get(t.Context(), &posted))
	require.Equal(t, "Asha", posted.Posting.By)
	for name, id := range map[string]string{"backup": "backup/battwheels", "corruption": incident, "corruption-restore": restoring, "report": r.Report} {
		w.record(name, id, "")
	}
}

// TestFlippedByteStopsBeforeAnythingChanges flips one byte in each kind of file of a backup. The person is asked, the file is
// named, and nothing live or staged is there that was not there before.
func TestFlippedByteStopsBeforeAnythingChanges(t *testing.T) {
	w := newWorld(t)
	b := w.backup()
	before := w.content()
	root := filepath.Join(w.storage, "backups", "battwheels", b.Backup.ID)
	for _, file := range []string{"invoices.bson.gz", "tickets.metadata.json.gz", "manifest.json"} {
		t.Run(file, func(t *testing.T) {
			path := filepath.Join(root, file)
			if file != "manifest.json" {
				path = filepath.Join(root, w.db.Name(), file)
			}
			flip(t, path)
			defer flip(t, path)
			run := w.run(restoring, "Restore", workflows.RestoreInput{Backup: b.Backup.ID})
			s := w.asked(restoring)
			require.Contains(t, s.Asked, file)
			require.Contains(t, s.Choices, workflows.OtherBackup)
			require.Empty(t, w.reserved("runbook.stage."))
			require.NoError(t, w.says(restoring, workflows.DoorDecide, workflows.Answer{Choice: workflows.GiveUp}))
			var r workflows.RestoreResult
			require.NoError(t, run.Get(t.Context(), &r))
			require.Equal(t, workflows.GaveUp, r.Outcome)
			require.Equal(t, before, w.content())
		})
	}
	w.record("restore-given-up", restoring, "")
}

func flip(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	b[len(b)/2] ^= 0x10
	require.NoError(t, os.WriteFile(path, b, 0o600))
}

// TestWriterThatNobodyStoppedIsNamed lets a second client go on writing: the restore names it and asks, and goes on once it has
// stopped. All that it wrote is in the safety dump.
func TestWriterThatNobodyStoppedIsNamed(t *testing.T) {
	w := newWorld(t)
	w.backup()
	rogue, err := traffic.StartRogue(t.Context(), os.Getenv("MONGO_URL"), w.db.Name(), "nightly-import", 20*time.Millisecond, nil)
	require.NoError(t, err)
	run := w.run(restoring, "Restore", workflows.RestoreInput{})
	s := w.await(restoring, "no plan", func(s workflows.Status) bool { return s.Plan != nil && s.Asked != "" })
	require.NoError(t, w.says(restoring, workflows.DoorApprove, workflows.Answer{Plan: s.Plan.Code}))
	s = w.await(restoring, "the writer is not named", func(s workflows.Status) bool { return len(s.Choices) > 0 })
	require.Contains(t, s.Asked, "nightly-import")
	written, err := rogue.Stop(t.Context())
	require.NoError(t, err)
	require.NoError(t, w.says(restoring, workflows.DoorDecide, workflows.Answer{Choice: workflows.Retry}))
	var r workflows.RestoreResult
	require.NoError(t, run.Get(t.Context(), &r))
	require.Equal(t, workflows.Recovered, r.Outcome)
	m, err := backup.ReadManifest(filepath.Join(w.storage, "backups", "battwheels", r.SafetyDump))
	require.NoError(t, err)
	require.EqualValues(t, written, m.Collection(traffic.RogueCollection).Digest.Documents)
	w.record("restore-writer-found", restoring, "")
}

// TestTerminatedRestoreNeverReachesTheLiveDatabase terminates a restore while it stages, starts another one, and recovers. Nothing
// that the first one staged is left, and nothing of it was ever live.
func TestTerminatedRestoreNeverReachesTheLiveDatabase(t *testing.T) {
	w := newWorld(t)
	if w.server == nil {
		t.Skip("needs a server that can be told to be slow")
	}
	before := w.content()
	w.backup()
	slow := w.server.Fail(mongotest.Fault{Command: "insert", Delay: 300 * time.Millisecond})
	first := w.run(restoring, "Restore", workflows.RestoreInput{})
	require.Eventually(t, func() bool { return len(w.reserved("runbook.stage.")) > 0 }, time.Minute, 50*time.Millisecond)
	staged := w.reserved("runbook.stage.")
	require.NoError(t, w.temporal.TerminateWorkflow(t.Context(), restoring, first.GetRunID(), "test"))
	second := w.run(restoring, "Restore", workflows.RestoreInput{})
	s := w.asked(restoring)
	slow.Lift()
	require.NoError(t, w.says(restoring, workflows.DoorApprove, workflows.Answer{Plan: s.Plan.Code}))
	var r workflows.RestoreResult
	require.NoError(t, second.Get(t.Context(), &r))
	require.Equal(t, workflows.Recovered, r.Outcome)
	require.Equal(t, before, w.content())
	for _, name := range staged {
		require.NotContains(t, w.reserved("runbook.stage."), name)
	}
}

// TestInputsAsTypedIntoTheWebUI sends what the Temporal UI sends: raw JSON that a person typed, or nothing at all.
func TestInputsAsTypedIntoTheWebUI(t *testing.T) {
	w := newWorld(t)
	for name, input := range map[string][]any{
		"nothing":     nil,
		"null":        {json.RawMessage(`null`)},
		"{}":          {json.RawMessage(`{}`)},
		"with target": {json.RawMessage(`{"target":"battwheels"}`)},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := w.temporal.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{TaskQueue: workflows.TaskQueue}, "Backup", input...)
			require.NoError(t, err)
			var b workflows.BackupResult
			require.NoError(t, r.Get(t.Context(), &b))
			require.EqualValues(t, 2812, b.Backup.Documents)
		})
	}
	for playbook, fields := range map[string]string{
		"Backup":             "target, scheduled",
		"Restore":            "target, backup, since, collections, dryRun, incident, emergency, host, warnings",
		"DatabaseCorruption": "target, backup, since, dryRun, alert, by, reason",
		"BackupMonitor":      "target",
		"RestoreDrill":       "target, backup, scratch",
	} {
		t.Run(playbook+" refuses a misspelt field", func(t *testing.T) {
			r, err := w.temporal.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{TaskQueue: workflows.TaskQueue}, playbook, json.RawMessage(`{"traget":"battwheels"}`))
			require.NoError(t, err)
			err = r.Get(t.Context(), nil)
			require.ErrorContains(t, err, `input has no field "traget"; the fields are: `+fields)
		})
	}
	t.Run("DatabaseCorruption under an id of the UI's runs as the one incident", func(t *testing.T) {
		r, err := w.temporal.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "0f8b3c1e", TaskQueue: workflows.TaskQueue}, "DatabaseCorruption", json.RawMessage(`{}`))
		require.NoError(t, err)
		w.await(incident, "no incident", func(s workflows.Status) bool { return s.Asked != "" })
		s := w.asked("0f8b3c1e")
		require.NoError(t, w.says("0f8b3c1e", workflows.DoorReject, workflows.Answer{Plan: s.Plan.Code}))
		var res workflows.IncidentResult
		require.NoError(t, r.Get(t.Context(), &res))
		require.Equal(t, workflows.Rejected, res.Outcome)
		w.record("corruption-typed-id", "0f8b3c1e", "")
		w.record("corruption-rejected", incident, "")
		w.record("restore-rejected", restoring, "")
	})
	t.Run("BackupMonitor", func(t *testing.T) {
		r, err := w.temporal.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "monitor", TaskQueue: workflows.TaskQueue}, "BackupMonitor")
		require.NoError(t, err)
		var m workflows.MonitorResult
		require.NoError(t, r.Get(t.Context(), &m))
		require.True(t, m.Healthy, "%v", m.Findings.Problems)
		w.record("monitor", "monitor", "")
	})
}

var citation = regexp.MustCompile(`\b([a-z][a-z0-9-]*)#([0-9]+)\b`)

// everyStatementIsInAHistory proves that each event that a report cites is in the history that is kept beside it.
func everyStatementIsInAHistory(t *testing.T, folder string) {
	t.Helper()
	md, err := os.ReadFile(filepath.Join(folder, "report.md"))
	require.NoError(t, err)
	events := map[string]bool{}
	files, err := filepath.Glob(filepath.Join(folder, "history-*.json"))
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), 2)
	for _, file := range files {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "history-"), ".json")
		f, err := os.Open(file)
		require.NoError(t, err)
		h, err := client.HistoryFromJSON(f, client.HistoryJSONOptions{})
		require.NoError(t, errors.Join(err, f.Close()))
		for _, e := range h.GetEvents() {
			events[fmt.Sprintf("%s#%d", name, e.GetEventId())] = true
		}
	}
	cited := citation.FindAllString(string(md), -1)
	require.Greater(t, len(cited), 30)
	for _, c := range cited {
		require.True(t, events[c], "the report cites %s, which no history has", c)
	}
	decisions := false
	for line := range strings.Lines(string(md)) {
		if strings.HasPrefix(line, "| ") && strings.Contains(line, "| approve") {
			decisions = true
			require.Regexp(t, citation, line, "a decision without its event")
		}
	}
	require.True(t, decisions, "the report does not say who approved")
}
