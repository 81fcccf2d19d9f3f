package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/battwheels/runbook/activities"
	"github.com/battwheels/runbook/internal/undelete"
	"github.com/battwheels/runbook/workflows"
)

// TestADryRunShowsWhatItFoundAndWouldDo proves that who runs one reads the table, the plan and where the documents are listed.
func TestADryRunShowsWhatItFoundAndWouldDo(t *testing.T) {
	r := workflows.IncidentResult{Outcome: workflows.Planned, Undelete: &workflows.UndeleteResult{
		Outcome: workflows.Planned, Missing: 1311, Folder: "/storage/undelete", Warnings: []string{"The audit logs could not be read"},
		Groups: []undelete.Group{{Collection: "invoices", Organization: "org_1", From: time.Unix(0, 0), To: time.Unix(60, 0), Documents: 300, Audited: 100}},
		Plan: &activities.Plan{Code: "UND-001", Undelete: &activities.UndeletePlan{
			Documents: 1203, Outcomes: undelete.Outcomes{Insert: 1200, Recreated: 3}, File: "/storage/undelete/preview.jsonl",
			Collections: []undelete.Previewed{{Collection: "invoice_line_items", Outcomes: undelete.Outcomes{Insert: 600}}},
		}},
	}}
	shown := func(r workflows.IncidentResult) string {
		b, err := json.Marshal(r)
		require.NoError(t, err)
		var result map[string]any
		require.NoError(t, json.Unmarshal(b, &result))
		var out strings.Builder
		writePlanned(&out, result)
		return out.String()
	}
	text := shown(r)
	for _, want := range []string{
		"1,311 documents stood in a backup", "invoices", "org_1", "1970-01-01T00:01:00Z", "Plan UND-001: put 1,200 documents back",
		"3 made anew", "invoice_line_items", "each by its _id: /storage/undelete/preview.jsonl", "! The audit logs could not be read",
	} {
		require.Contains(t, text, want)
	}
	r.Undelete.From = &activities.NewerSource{Backup: activities.BackupRef{ID: "restored"}}
	r.Undelete.Plan.Undelete.Without = "restored"
	r.Undelete.Plan.Undelete.Samples = []undelete.Sample{{Collection: "invoices", Documents: []string{"inv_1"}}}
	text = shown(r)
	for _, want := range []string{
		"1,311 documents are newer than backup restored", "made after", "Plan UND-001: bring 1,200 documents back that are newer",
		"The damage may have made some of them", "some of invoices: inv_1",
	} {
		require.Contains(t, text, want)
	}
	r.Outcome = workflows.Recovered
	require.Empty(t, shown(r), "an incident's end is told in one sentence")
}
