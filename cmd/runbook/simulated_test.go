package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/battwheels/runbook/activities"
	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/estimate"
	"github.com/battwheels/runbook/workflows"
)

// rehearsal is a dry run as a worker returns it.
func rehearsal() workflows.IncidentResult {
	at := time.Date(2026, 11, 20, 2, 0, 0, 0, time.UTC)
	counts := backup.Counts{Missing: 48_210, Changed: 312, Added: 7}
	var past []estimate.Past
	for _, p := range []estimate.Phase{estimate.Stage, estimate.Prove} {
		past = append(past, estimate.Past{Phase: p, Kind: estimate.Drill, At: at, Documents: 28_850, Bytes: 1 << 20, Seconds: 12})
	}
	past = append(past, estimate.Past{Phase: estimate.Dump, Kind: estimate.Backup, At: at, Documents: 28_850, Bytes: 1 << 20, Seconds: 4000})
	phases := estimate.Of(estimate.Phases(), past, estimate.Size{Documents: 57_700, Bytes: 2 << 20})
	return workflows.IncidentResult{Outcome: workflows.Planned, Simulation: &workflows.Simulation{
		Playbook: "DatabaseCorruption", Phases: phases, Expected: estimate.Add(phases), File: "/var/lib/runbook/dry-runs/battwheels/20261123T084000Z-3f9a2c.json",
		Checks: []activities.Check{
			{Name: "rights", State: activities.CheckProblem, Text: "runbook's user may not: bypassDocumentValidation", Do: "give it readWrite and dbAdmin on test_database"},
			{Name: "quiet", State: activities.CheckOK, Text: "provable by the list of clients; connected now, and to be gone after the stop: battwheels-backend, celery-worker, 10.0.0.7:44122"},
			{Name: "space on the database server", State: activities.CheckUnknown, Text: "about 1.2 GB are needed beside the live data; the server does not tell what is free", Do: "look at its disk"},
		},
		Plan: &activities.Plan{
			Code: activities.SimulatedCode, Backup: activities.BackupRef{ID: "20261120T020000Z-scheduled-3f9a2c", Time: at, Documents: 57_700, Collections: 220},
			Radius: counts, RadiusKnown: true, TenantsHit: 148, KeyCounts: []activities.KeyCount{{Name: "collections", Now: 218, Backup: 220}, {Name: "invoices", Now: -1, Backup: 9000}},
			Collections: []activities.RadiusOf{{Name: strings.Repeat("a_very_long_collection_name_", 3), Counts: counts}}, Tenants: []activities.RadiusOf{{Name: "org_1", Counts: counts}},
			Warnings: []string{strings.Repeat("A warning of many words. ", 8)},
		},
	}}
}

// TestADryRunReadsWellOnATerminal proves that no line is wider than 80 columns, and that what hinders a recovery, the plan, and each
// estimate with its source are there.
func TestADryRunReadsWellOnATerminal(t *testing.T) {
	b, err := json.Marshal(rehearsal())
	require.NoError(t, err)
	var result map[string]any
	require.NoError(t, json.Unmarshal(b, &result))
	var out strings.Builder
	writePlanned(&out, result)
	text := out.String()
	for _, line := range strings.Split(text, "\n") {
		require.LessOrEqual(t, utf8.RuneCountInString(line), lineWidth, line)
	}
	flat := strings.Join(strings.Fields(text), " ")
	for _, want := range []string{
		"✗ rights: runbook's user may not: bypassDocumentValidation → give it readWrite and dbAdmin on test_database",
		"48,210 come back, 312 go back to the backup's version, 7 newer ones leave; 148 organizations affected",
		"load it beside the live data 24 s the drill of 2026-11-20: 28,850 documents in 12 s, scaled ×2.0",
		"invoices ? 9,000", "never measured", "▪ the application is down meanwhile", "/var/lib/runbook/dry-runs/battwheels/",
	} {
		require.Contains(t, flat, want)
	}
	t.Log("\n" + text)
}
