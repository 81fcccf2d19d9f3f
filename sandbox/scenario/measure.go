package scenario

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/battwheels/runbook/sandbox/ledger"
	"github.com/battwheels/runbook/sandbox/world"
	"github.com/battwheels/runbook/workflows"
)

// agreement is by how much the product's clock may differ from what was seen from outside: a look at the application's health
// and a step's way through Temporal lie between.
const agreement = 3 * time.Second

// claim notes what the product says.
func (c *story) claim() {
	o := c.outcome
	c.result.Incident = o.Incident
	c.result.Claimed = Claimed{
		Outcome: string(o.Outcome), RTOSeconds: o.RTOSeconds, DowntimeSeconds: o.Restore.DowntimeSeconds, RPOSeconds: o.Restore.RPOSeconds,
		DocumentsRestored: o.Restore.DocumentsRestored, DocumentsLost: o.Restore.DocumentsLost,
		MailsSent: o.MailsSent, MailsUndeliverable: o.MailsUndeliverable, OrganizationsActive: o.OrganizationsActive,
	}
	c.result.DocumentsRestored = o.Restore.DocumentsRestored
	c.check("the playbook says that it has recovered the database", o.Outcome == workflows.Recovered, o.Summary)
}

// measure works out from outside what the product claims.
func (c *story) measure() error {
	outages := c.traffic.Outages()
	if len(outages) != 1 || outages[0].To.IsZero() {
		return fmt.Errorf("the application was to go away once and come back, and its users saw %v", outages)
	}
	away, r := outages[0], &c.result
	r.RTOSeconds = away.To.Sub(c.alerted).Seconds()
	r.DowntimeSeconds = away.To.Sub(away.From).Seconds()
	r.RPOSeconds = c.traffic.Stats().LastBeforeAt.Sub(c.backup.Backup.Time).Seconds()
	for _, x := range []struct {
		name          string
		seen, claimed float64
	}{
		{"RTO", r.RTOSeconds, r.Claimed.RTOSeconds},
		{"downtime", r.DowntimeSeconds, r.Claimed.DowntimeSeconds},
		{"RPO", r.RPOSeconds, r.Claimed.RPOSeconds},
	} {
		c.check("the "+x.name+" that the playbook tells is the one seen from outside", math.Abs(x.seen-x.claimed) <= agreement.Seconds(),
			fmt.Sprintf("%.1f s told, %.1f s seen", x.claimed, x.seen))
	}
	c.check("only what the backup holds was restored", r.Claimed.DocumentsRestored == c.backup.Backup.Documents,
		fmt.Sprintf("%d documents", r.Claimed.DocumentsRestored))
	return nil
}

// cut reads from the backup's manifest when it says that it read what. That is the product's promise; that it was kept is the
// judge's matter.
func (c *story) cut() (ledger.Cut, error) {
	var m struct {
		StartedAt   time.Time `json:"startedAt"`
		FinishedAt  time.Time `json:"finishedAt"`
		Collections []struct {
			Name     string    `json:"name"`
			ReadFrom time.Time `json:"readFrom"`
			ReadTo   time.Time `json:"readTo"`
		} `json:"collections"`
	}
	used := c.outcome.Restore.Backup
	if used == nil || used.ID != c.backup.Backup.ID {
		return ledger.Cut{}, errors.New("the database was not restored from the backup that was made")
	}
	b, err := os.ReadFile(filepath.Join(c.world.StorageDir(), "backups", world.Target, used.ID, "manifest.json"))
	if err != nil {
		return ledger.Cut{}, err
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return ledger.Cut{}, fmt.Errorf("manifest of %s: %w", used.ID, err)
	}
	cut := ledger.Cut{
		Window: ledger.Window{From: m.StartedAt, To: m.FinishedAt}, Collections: map[string]ledger.Window{},
		Merged: c.merged,
	}
	for _, x := range m.Collections {
		if !x.ReadFrom.IsZero() {
			cut.Collections[x.Name] = ledger.Window{From: x.ReadFrom, To: x.ReadTo}
		}
	}
	return cut, nil
}
