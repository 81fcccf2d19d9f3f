package activities

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"
)

func TestTheMonitorMissesADrill(t *testing.T) {
	b, _, _ := shop(t)
	now := time.Now()
	const within = 100 * 24 * time.Hour
	keep := func(id string, ago time.Duration, passed bool) {
		require.NoError(t, (&Drill{Base: b}).KeepDrill(t.Context(), DrillRecord{ID: id, Target: "shop", At: now.Add(-ago), Passed: passed}))
	}
	p, err := b.drillOverdue("shop", 0, now)
	require.NoError(t, err)
	require.Nil(t, p, "not watched unless configured")
	p, err = b.drillOverdue("shop", within, now)
	require.NoError(t, err)
	require.Contains(t, p.Text, "No drill has ever proven")
	keep("old", 2*within, true)
	keep("failed", time.Hour, false)
	p, err = b.drillOverdue("shop", within, now)
	require.NoError(t, err)
	require.Contains(t, p.Text, "The last drill that passed is 200 days old")
	keep("new", time.Hour, true)
	p, err = b.drillOverdue("shop", within, now)
	require.NoError(t, err)
	require.Nil(t, p)
}

func TestABackupThatADrillReadsIsNotDeleted(t *testing.T) {
	b, _, _ := shop(t)
	dir := filepath.Join(b.drillsDir("shop"), "d1")
	require.NoError(t, os.MkdirAll(dir, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, usingFile), []byte("b1"), 0o600))
	ids, err := b.drilling("shop")
	require.NoError(t, err)
	require.Equal(t, []string{"b1"}, ids)
}

func TestALiveDatabaseIsNeverAScratch(t *testing.T) {
	b, _, _ := shop(t)
	for _, name := range []string{"shop", "admin", "a b"} {
		var suite testsuite.WorkflowTestSuite
		env := suite.NewTestActivityEnvironment()
		drill := &Drill{Base: b}
		env.RegisterActivity(drill.ClaimScratch)
		_, err := env.ExecuteActivity(drill.ClaimScratch, DrillAttempt{Target: "shop", ID: "d1", Scratch: name})
		require.ErrorContains(t, err, "cannot be a drill's scratch", name)
	}
}
