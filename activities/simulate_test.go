package activities

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/internal/estimate"
	"github.com/battwheels/runbook/internal/mongotest"
	"github.com/battwheels/runbook/internal/restore"
)

// files lists what lies in storage.
func (d *deleted) files() []string {
	var all []string
	require.NoError(d.t, filepath.WalkDir(d.Config.Storage.Dir, func(path string, e fs.DirEntry, err error) error {
		all = append(all, path)
		return err
	}))
	return all
}

// TestASimulatedPlanIsTheOneThatIsDrawnFromADump: the same counts, by collection and organization, without the dump.
func TestASimulatedPlanIsTheOneThatIsDrawnFromADump(t *testing.T) {
	d := newDeleted(t)
	target := d.Config.Targets["shop"]
	target.Verify.KeyCounts = []string{"collections", "invoices"}
	d.Config.Targets["shop"] = target
	before := d.files()
	var s Simulated
	d.do((&Simulation{Base: d.Base}).SimulatePlan, SimulateInput{Target: "shop", ID: "i1", Backup: d.backup}, &s)
	require.Equal(t, filepath.Join(d.Config.Storage.Dir, "dry-runs", "shop", "i1.json"), s.File)
	require.ElementsMatch(t, append(before, filepath.Dir(filepath.Dir(s.File)), filepath.Dir(s.File), s.File), d.files(), "one file is new")

	var dump BackupRef
	d.do((&Data{Base: d.Base}).DumpDatabase, DumpInput{Target: "shop", Name: "20260225T020000Z-manual-bbbbbb", Kind: "manual"}, &dump)
	var p Plan
	d.do((&Data{Base: d.Base}).DrawPlan, PlanInput{Attempt: Attempt{Target: "shop", Incident: "i2", Backup: d.backup}, Against: dump.ID}, &p)
	require.EqualValues(t, 6, s.Plan.Radius.Missing)
	require.Equal(t, SimulatedCode, s.Plan.Code)
	s.Plan.Code, s.Plan.Incident, s.Plan.Emergency, s.Plan.DrawnAt, s.Plan.Expected = p.Code, p.Incident, p.Emergency, p.DrawnAt, p.Expected
	p.Warnings = nil // that nothing is stopped is told by the survey
	require.Equal(t, p, s.Plan)
}

// TestADatabaseThatDoesNotAnswerIsSaidInTheSimulatedPlan, and is no error that is tried again.
func TestADatabaseThatDoesNotAnswerIsSaidInTheSimulatedPlan(t *testing.T) {
	b, db, srv := shop(t)
	d := &deleted{Base: b, t: t, db: db, backup: "20260224T020000Z-scheduled-aaaaaa"}
	var ref BackupRef
	d.do((&Data{Base: b}).DumpDatabase, DumpInput{Target: "shop", Name: d.backup, Kind: "scheduled"}, &ref)
	srv.Fail(mongotest.Fault{Command: "ping", Error: &mongotest.Error{Code: unauthorized, Message: "not authorized"}})
	var s Simulated
	d.do((&Simulation{Base: b}).SimulatePlan, SimulateInput{Target: "shop", ID: "i1", Backup: d.backup}, &s)
	require.False(t, s.Plan.RadiusKnown)
	require.Contains(t, s.Plan.Warnings[0], "could not be read: it answers, and refuses us")
	require.Empty(t, s.File)

	var seen Survey
	d.do((&Simulation{Base: b}).SurveyTarget, SurveyInput{Target: "shop", Playbook: "Restore"}, &seen)
	require.Equal(t, "database", seen.Checks[0].Name)
	require.Equal(t, CheckProblem, seen.Checks[0].State)
	require.False(t, slices.ContainsFunc(seen.Checks, func(c Check) bool { return c.Name == "rights" }), "nothing else is asked of it")
}

func TestAnExaminedBackupStaysAsItWas(t *testing.T) {
	d := newDeleted(t)
	state := filepath.Join(d.Config.Storage.Dir, "backups", "shop", d.backup, "state.json")
	before, err := os.ReadFile(state)
	require.NoError(t, err)
	var e Examined
	d.do((&Simulation{Base: d.Base}).ExamineBackup, ExamineInput{Target: "shop", Backup: d.backup}, &e)
	require.Equal(t, d.backup, e.Backup.ID)
	require.Positive(t, e.Bytes)
	after, err := os.ReadFile(state)
	require.NoError(t, err)
	require.Equal(t, string(before), string(after))
	require.Equal(t, NoBackup, d.fails((&Simulation{Base: d.Base}).ExamineBackup, ExamineInput{Target: "shop", Backup: "no-such"}))
}

// TestTheSurveySaysWhatIsWrong, one row for each thing that a person can mend.
func TestTheSurveySaysWhatIsWrong(t *testing.T) {
	sick := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"status":"degraded"}`)) }))
	t.Cleanup(sick.Close)
	sh := func(script string) []string { return []string{"/bin/sh", "-c", script} }
	old := &BackupRef{ID: "b", Time: time.Now().Add(-50 * time.Hour), Bytes: 1000}
	for name, c := range map[string]struct {
		prepare func(*testing.T, *deleted, *config.Target)
		in      SurveyInput
		check   string
		state   string
		says    string
	}{
		"nothing to stop, said out loud":  {func(_ *testing.T, _ *deleted, c *config.Target) { c.Application.None = true }, SurveyInput{}, "application", CheckOK, "nothing would be stopped"},
		"nothing said of the application": {nil, SurveyInput{}, "application", CheckProblem, "exactly one of supervisor, kubernetes, command and none"},
		"an application that cannot be seen": {func(_ *testing.T, _ *deleted, c *config.Target) {
			c.Application.Command = &config.Command{Stop: sh("exit 1"), Start: sh("exit 1"), State: sh("exit 7")}
		}, SurveyInput{}, "application", CheckProblem, "7"},
		"an application that runs": {func(_ *testing.T, _ *deleted, c *config.Target) {
			c.Application.Command = &config.Command{Stop: sh("exit 1"), Start: sh("exit 1"), State: sh("exit 0")}
		}, SurveyInput{}, "application", CheckOK, "running"},
		"one that is ill": {func(_ *testing.T, _ *deleted, c *config.Target) {
			c.Application.Health = &config.Health{URL: sick.URL, Expect: map[string]string{"status": "healthy"}}
		}, SurveyInput{}, "health", CheckProblem, "degraded"},
		"a lease that somebody holds": {func(t *testing.T, d *deleted, _ *config.Target) {
			_, err := restore.Acquire(t.Context(), d.db, restore.Holder{Owner: "offline h:7", Run: "r", Purpose: "by hand"}, false)
			require.NoError(t, err)
		}, SurveyInput{}, "lease", CheckProblem, "offline h:7 works on the database"},
		"a swap that was cut off": {func(t *testing.T, d *deleted, _ *config.Target) {
			dir := filepath.Join(d.Config.Storage.Dir, "incidents", "shop", "inc1", "staging-7")
			require.NoError(t, os.MkdirAll(dir, 0o700))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "swap.json"), []byte(`{"state":"swapping","incident":"inc1"}`), 0o600))
		}, SurveyInput{}, "earlier swaps", CheckProblem, "inc1"},
		"a backup that is too old": {func(_ *testing.T, _ *deleted, c *config.Target) { c.Monitor.RPO = config.Duration(24 * time.Hour) },
			SurveyInput{Backup: old}, "age of the backup", CheckProblem, "1 d are allowed"},
		"a backup that is young enough": {func(_ *testing.T, _ *deleted, c *config.Target) { c.Monitor.RPO = config.Duration(72 * time.Hour) },
			SurveyInput{Backup: old}, "age of the backup", CheckOK, "2 d 2 h"},
		"a disk that is too small for two dumps": {nil, SurveyInput{Backup: old, Files: 1 << 60}, "space in storage", CheckProblem, "free"},
		"a disk that is large enough":            {nil, SurveyInput{Backup: old, Files: 1}, "space in storage", CheckOK, "free"},
		"a server that does not tell its disk":   {nil, SurveyInput{Backup: old}, "space on the database server", CheckUnknown, "does not tell"},
		"organizations without an address": {func(_ *testing.T, d *deleted, c *config.Target) {
			c.Tenants = config.Tenants{Field: "organization_id", Collection: "organizations", Email: "email"}
			d.insert("organizations", bson.D{{Key: "organization_id", Value: "o1"}, {Key: "email", Value: "o1@shop.test"}})
			d.insert("organizations", bson.D{{Key: "organization_id", Value: "o2"}})
		}, SurveyInput{}, "organizations", CheckProblem, "1 would be told, by 1 mails, as the database has them; 1 have no address"},
		"an empty collection of organizations": {func(_ *testing.T, _ *deleted, c *config.Target) {
			c.Tenants = config.Tenants{Field: "organization_id", Collection: "organizations", Email: "email"}
		}, SurveyInput{}, "organizations", CheckProblem, "empty"},
		"nobody on call":               {nil, SurveyInput{}, "people on call", CheckProblem, "nobody would be asked"},
		"nobody to escalate to":        {func(_ *testing.T, _ *deleted, c *config.Target) { c.Contacts.OnCall = []string{"a@shop.test"} }, SurveyInput{}, "people on call", CheckProblem, "when they do not answer"},
		"a mail service without a key": {nil, SurveyInput{}, "mail service", CheckProblem, "mail."},
		"a person always approves":     {nil, SurveyInput{}, "approval", CheckOK, "by a person, always"},
		"no bucket":                    {nil, SurveyInput{Playbook: "PodLoss"}, "offsite storage", CheckProblem, "none is configured"},
		"a bucket that is not there": {func(_ *testing.T, d *deleted, _ *config.Target) {
			d.Config.Storage.Offsite.URL = "file:///no/such/bucket"
		},
			SurveyInput{Playbook: "PodLoss"}, "offsite storage", CheckProblem, "/no/such/bucket"},
		"a bucket without a copy": {func(t *testing.T, d *deleted, _ *config.Target) {
			d.Config.Storage.Offsite.URL = "file://" + t.TempDir()
		},
			SurveyInput{Playbook: "PodLoss"}, "offsite storage", CheckProblem, "holds no whole copy"},
		"nobody to ask for the volume": {nil, SurveyInput{Playbook: "PodLoss"}, "the platform's support", CheckProblem, "nobody"},
		"a volume that is gone": {func(_ *testing.T, _ *deleted, c *config.Target) { c.PodLoss.Volume.Path = "/no/such/volume" },
			SurveyInput{Playbook: "PodLoss"}, "volume", CheckProblem, "/no/such/volume is not there"},
		"a backup's space":      {nil, SurveyInput{Playbook: "Backup"}, "space in storage", CheckOK, "a dump takes at most"},
		"a backup's rights":     {nil, SurveyInput{Playbook: "Backup"}, "rights", CheckOK, "no login"},
		"a volume nobody named": {nil, SurveyInput{Playbook: "PodLoss"}, "volume", CheckUnknown, "no path"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDeleted(t)
			target := d.Config.Targets["shop"]
			if c.prepare != nil {
				c.prepare(t, d, &target)
			}
			d.Config.Targets["shop"] = target
			c.in.Target = "shop"
			var s Survey
			d.do((&Simulation{Base: d.Base}).SurveyTarget, c.in, &s)
			i := slices.IndexFunc(s.Checks, func(k Check) bool { return k.Name == c.check })
			require.GreaterOrEqual(t, i, 0, s.Checks)
			require.Equal(t, c.state, s.Checks[i].State, s.Checks[i])
			require.Contains(t, s.Checks[i].Text, c.says)
			require.True(t, s.Checks[i].State != CheckProblem || s.Checks[i].Do != "" || strings.Contains(s.Checks[i].Text, ";"), "a problem says what to do: %+v", s.Checks[i])
		})
	}
}

// TestThePastIsWhatStorageKeeps: a drill that passed, a restore, and the latest backups; what cannot be read hinders nothing.
func TestThePastIsWhatStorageKeeps(t *testing.T) {
	d := newDeleted(t)
	at := time.Date(2026, 2, 25, 3, 0, 0, 0, time.UTC)
	m, err := backup.ReadManifest(filepath.Join(d.Config.Storage.Dir, "backups", "shop", d.backup))
	require.NoError(t, err)
	drill := DrillRecord{ID: "d1", Target: "shop", At: at, Passed: true, Documents: m.Documents(), Backup: &BackupRef{Bytes: m.Bytes()},
		Phases: []DrillPhase{{Name: "claim", Seconds: 1}, {Name: "check", Seconds: 2}, {Name: "load", Seconds: 30}, {Name: "indexes", Seconds: 9}, {Name: "prove", Seconds: 4}, {Name: "drop", Seconds: 5}}}
	failed := drill
	failed.ID, failed.Passed, failed.At = "d2", false, at.Add(time.Hour)
	for _, r := range []DrillRecord{drill, failed} {
		require.NoError(t, (&Drill{Base: d.Base}).KeepDrill(t.Context(), r))
	}
	require.NoError(t, os.WriteFile(filepath.Join(d.drillsDir("shop"), "broken.json"), []byte("{"), 0o600))
	for _, in := range []RestoredInput{
		{Attempt: Attempt{Target: "shop", Incident: "i1", Backup: d.backup}, Took: []estimate.Took{{Phase: estimate.Swap, Seconds: 7}, {Phase: estimate.Check, Seconds: 8}}},
		{Attempt: Attempt{Target: "shop", Backup: d.backup}}, // a drill's
	} {
		require.NoError(t, (&Catalog{Base: d.Base}).MarkRestored(t.Context(), in))
	}

	past, err := d.past(t.Context(), "shop")
	require.NoError(t, err)
	got := map[string]float64{}
	for _, p := range past {
		require.EqualValues(t, m.Documents(), p.Documents, p)
		require.Equal(t, m.Bytes(), p.Bytes, p)
		got[p.Kind+" "+string(p.Phase)] = p.Seconds
	}
	delete(got, "backup "+string(estimate.Dump)) // really measured
	require.Equal(t, map[string]float64{
		"drill check the backup": 2, "drill load it beside the live data": 30, "drill prove the staged copy": 4,
		"recovery swap": 7, "recovery check the backup": 8,
	}, got)
	require.Len(t, past, 6)

	line := d.afterApproval(t.Context(), "shop", m)
	require.Contains(t, line, "Expected once approved: the application is down for at least 11 s; never measured: stop the application")
}

func TestNothingIsExpectedWhereThereIsNoPast(t *testing.T) {
	b, _, _ := shop(t)
	past, err := b.past(t.Context(), "shop")
	require.NoError(t, err)
	require.Empty(t, past)
	require.Empty(t, b.afterApproval(t.Context(), "shop", &backup.Manifest{}))
}
