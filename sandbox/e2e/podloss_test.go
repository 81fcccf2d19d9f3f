package e2e

import (
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/alert"
	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/internal/mongotest"
	"github.com/battwheels/runbook/sandbox/bucket"
	"github.com/battwheels/runbook/worker"
	"github.com/battwheels/runbook/workflows"
)

const support = "support@platform.test"

// forPodLoss adjusts the world of a test: a bucket, and what PodLoss wants to know.
func forPodLoss(t *testing.T) *world {
	t.Helper()
	s3, err := bucket.Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s3.Stop()) })
	for _, e := range s3.Environment() {
		name, value, _ := strings.Cut(e, "=")
		t.Setenv(name, value)
	}
	return newWorld(t, func(c *config.Config) {
		c.Storage.Offsite.URL = s3.URL()
		target := c.Targets["battwheels"]
		target.PodLoss.Observations, target.PodLoss.Every = 2, config.Duration(200*time.Millisecond)
		target.PodLoss.Support, target.PodLoss.Users = []string{support}, []string{"battwheels (readWrite)"}
		c.Targets["battwheels"] = target
	})
}

// moveElsewhere loses the host with everything on it; the next worker has nothing but its configuration and the bucket.
func (w *world) moveElsewhere() {
	w.t.Helper()
	w.end()
	require.NoError(w.t, os.RemoveAll(w.storage))
	w.storage = filepath.Join(w.t.TempDir(), "elsewhere")
	w.cfg.Storage.Dir, w.cfg.Temporal.Host = w.storage, "elsewhere"
}

// TestALostPodIsRestoredElsewhere loses the host in the middle of the incident: the first worker sees the loss, and dies. One
// elsewhere takes over, asks for the volume once, makes the backup ready, and restores it into a database in which somebody
// has signed up. Nothing of that is lost, and nothing else is in the database.
func TestALostPodIsRestoredElsewhere(t *testing.T) {
	w := forPodLoss(t)
	before := w.content()
	b := w.backup()
	require.NoError(t, w.db.Drop(t.Context()))
	run := w.run(incident, "PodLoss", workflows.PodLossInput{})
	w.await(incident, "nobody is asked", func(s workflows.Status) bool { return strings.Contains(s.Asked, "is here and proven") })

	w.moveElsewhere()
	w.start()
	w.insert("organizations", 1, func(int) bson.D {
		return bson.D{{Key: "organization_id", Value: "org_new"}, {Key: "name", Value: "New"}, {Key: "email", Value: "new@battwheels.test"}, {Key: "is_active", Value: true}}
	})
	require.NoError(t, w.says(incident, workflows.DoorVolumeLost, workflows.Answer{}))
	s := w.await(incident, "no plan", func(s workflows.Status) bool { return s.Plan != nil && s.Asked != "" })
	require.Equal(t, b.Backup.ID, s.Plan.Backup.ID)
	require.Equal(t, int64(1), s.Plan.Radius.Added, "the plan names what would leave")
	require.NoError(t, w.says(incident, workflows.DoorApprove, workflows.Answer{Plan: s.Plan.Code}))
	var r workflows.IncidentResult
	require.NoError(t, run.Get(t.Context(), &r))
	require.Equal(t, workflows.Recovered, r.Outcome, r.Summary)
	require.Equal(t, before, w.content())
	require.Equal(t, int64(1), r.Restore.DocumentsLost)
	require.FileExists(t, filepath.Join(w.storage, "backups", "battwheels", r.Restore.SafetyDump, "manifest.json"))
	asked := 0
	for _, m := range w.mail.Mails() {
		if slices.Contains(m.To, support) {
			asked++
		}
	}
	require.Equal(t, 1, asked, "however many workers have done it")
	w.record("podloss", incident, "")
	w.record("podloss-restore", restoring, "")
}

// TestAVolumeThatComesBackIsCompared takes the server away, and brings it back at the same address with the same data but for a
// few documents: nothing is restored, and what differs is said.
func TestAVolumeThatComesBackIsCompared(t *testing.T) {
	w := forPodLoss(t)
	if w.server == nil {
		t.Skip("a real server cannot be taken away")
	}
	w.backup()
	u, err := url.Parse(w.server.URI())
	require.NoError(t, err)
	require.NoError(t, w.server.Close())
	run := w.run(incident, "PodLoss", workflows.PodLossInput{})
	w.await(incident, "nobody is asked", func(s workflows.Status) bool { return strings.Contains(s.Asked, "runbook volume recovered") })

	w.server, err = mongotest.New(mongotest.WithAddress(u.Host))
	require.NoError(t, err)
	t.Cleanup(func() { _ = w.server.Close() })
	w.seed()
	require.NoError(t, w.says(incident, workflows.DoorVolumeRecovered, workflows.Answer{}))
	before := w.content()
	var r workflows.IncidentResult
	require.NoError(t, run.Get(t.Context(), &r))
	require.Equal(t, workflows.VolumeRecovered, r.Outcome, r.Summary)
	require.Equal(t, before, w.content(), "nothing was restored")
	require.Equal(t, int64(2812), r.Compared.Radius.Missing, "seeded anew, every _id is another one")
	w.record("podloss-recovered", incident, "")

	s := w.await(r.Report, "no draft", func(s workflows.Status) bool { return s.Asked != "" })
	require.NotEmpty(t, s.Asked)
	report, err := os.ReadFile(filepath.Join(w.storage, "incidents", "battwheels", r.Incident, "report.md"))
	require.NoError(t, err)
	for _, says := range []string{"PodLoss", "Of the database: it does not answer", "Compared with the last backup, 0 documents were the same", "volume-recovered | Asha"} {
		require.Contains(t, string(report), says)
	}
}

// TestTheAlertsNameSaysWhichPlaybookBegins posts alerts while no worker runs: what they start is durable all the same, and the second
// one joins the first one's incident, whatever it means.
func TestTheAlertsNameSaysWhichPlaybookBegins(t *testing.T) {
	w := newWorld(t, func(c *config.Config) {
		target := c.Targets["battwheels"]
		target.Alerts, target.PodLoss.Alerts = []string{"Corrupt"}, []string{"Gone"}
		c.Targets["battwheels"] = target
	})
	w.end()
	starter := worker.Starter{Client: w.temporal, Config: w.cfg}
	for _, name := range []string{"Gone", "Corrupt", "Gone"} {
		id, err := starter.StartIncident(t.Context(), alert.Alert{Target: "battwheels", Name: name, StartsAt: time.Now()})
		require.NoError(t, err)
		require.Equal(t, incident, id)
	}
	d, err := w.temporal.DescribeWorkflowExecution(t.Context(), incident, "")
	require.NoError(t, err)
	require.Equal(t, "PodLoss", d.GetWorkflowExecutionInfo().GetType().GetName())
	_, err = starter.Start(t.Context(), "PodLoss", "battwheels", workflows.PodLossInput{})
	var runs *worker.AlreadyRunningError
	require.ErrorAs(t, err, &runs)
}
