package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/workflows"
)

// spoil overwrites every invoice, which nobody notices yet.
func (w *world) spoil() {
	w.t.Helper()
	_, err := w.db.Collection("invoices").UpdateMany(w.t.Context(), bson.D{}, bson.D{{Key: "$set", Value: bson.D{{Key: "text", Value: "garbage"}}}})
	require.NoError(w.t, err)
}

// TestTheNewestBackupHoldsTheDamageToo backs up a database that is damaged already, and then loses a collection so that an alert comes.
// Nobody says since when. What the backups hold beside each other tells, and an older one is restored.
func TestTheNewestBackupHoldsTheDamageToo(t *testing.T) {
	w := newWorld(t)
	before := w.content()
	w.backup()
	sound := w.backup().Backup.ID
	w.spoil()
	damaged := w.backup().Backup
	require.Empty(t, damaged.Suspect, "by its counts it is as good as any")
	require.NoError(t, w.db.Collection("tickets").Drop(t.Context()))

	run := w.run(incident, "DatabaseCorruption", workflows.CorruptionInput{})
	s := w.asked(incident)
	require.Equal(t, sound, s.Plan.Backup.ID)
	require.Len(t, s.Plan.Candidates, 3)
	require.Equal(t, damaged.ID, s.Plan.Candidates[0].ID)
	require.True(t, s.Plan.Candidates[0].Doubtful)
	require.Contains(t, s.Plan.Candidates[0].Why, "documents changed")
	require.Contains(t, s.Plan.Warnings[0], damaged.ID+" may hold the damage, too")
	require.NoError(t, w.says(incident, workflows.DoorApprove, workflows.Answer{Plan: s.Plan.Code}))
	var r workflows.IncidentResult
	require.NoError(t, run.Get(t.Context(), &r))
	require.Equal(t, workflows.Recovered, r.Outcome)
	require.Equal(t, before, w.content())
	w.record("corruption-older-backup", incident, "")
}

// TestAQueryFindsTheDamageInTheBackup has two backups, too few to know what is usual. A query on the staged copy finds the damage in
// the newer one, and the older one is restored; nothing of what was staged first is left.
func TestAQueryFindsTheDamageInTheBackup(t *testing.T) {
	none := int64(0)
	w := newWorld(t, func(c *config.Config) {
		target := c.Targets["battwheels"]
		target.Verify.Queries = []config.Query{{Name: "invoices of garbage", Collection: "invoices", Max: &none, Parsed: bson.D{{Key: "text", Value: "garbage"}}}}
		c.Targets["battwheels"] = target
	})
	before := w.content()
	sound := w.backup().Backup.ID
	w.spoil()
	damaged := w.backup().Backup.ID
	run := w.run(restoring, "Restore", workflows.RestoreInput{})
	s := w.asked(restoring)
	require.Equal(t, sound, s.Plan.Backup.ID)
	require.Contains(t, s.Plan.Warnings[0], damaged+" does not look sound: invoices of garbage")
	require.NoError(t, w.says(restoring, workflows.DoorApprove, workflows.Answer{Plan: s.Plan.Code}))
	var r workflows.RestoreResult
	require.NoError(t, run.Get(t.Context(), &r))
	require.Equal(t, workflows.Recovered, r.Outcome)
	require.Equal(t, before, w.content())
	require.Empty(t, w.reserved("runbook.stage."))
	w.record("restore-query", restoring, "")
}
