package e2e

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/internal/mongotest"
	"github.com/battwheels/runbook/worker"
	"github.com/battwheels/runbook/workflows"
)

// asWorker makes the test's own program run as a worker, so that it can be killed.
const asWorker = "RUNBOOK_E2E_WORKER"

func TestMain(m *testing.M) {
	path := os.Getenv(asWorker)
	if path == "" {
		os.Exit(m.Run())
	}
	cfg, err := config.Load(path)
	if err == nil {
		err = worker.Run(context.Background(), cfg, slog.New(slog.NewTextHandler(logs(), nil)))
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// spawn starts a worker in a process of its own.
func (w *world) spawn() *exec.Cmd {
	w.t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), asWorker+"="+w.path)
	require.NoError(w.t, c.Start())
	return c
}

func (w *world) kill(c *exec.Cmd) {
	w.t.Helper()
	require.NoError(w.t, c.Process.Kill())
	_ = c.Wait() // killed: that is its error
}

// TestKilledWorkerCarriesOnWhereItWas kills the worker with SIGKILL when more than 30 % of the documents are staged, and starts
// it again. The result is the same, what was finished is not loaded again, the history shows the attempt, and no mail goes out
// twice.
func TestKilledWorkerCarriesOnWhereItWas(t *testing.T) {
	w := newWorld(t)
	if w.server == nil {
		t.Skip("needs a server that can be told to be slow")
	}
	for i := range 20 {
		w.insert(fmt.Sprintf("parts_%02d", i), 100, func(n int) bson.D { return bson.D{{Key: "n", Value: int32(n)}} })
	}
	before := w.content()
	w.backup()
	require.NoError(t, w.db.Collection("invoices").Drop(t.Context()))
	w.end()

	var mu sync.Mutex
	loaded := map[string]int{} // inserts by staged collection
	remove := w.server.OnCommand(func(_, cmd string, doc bson.Raw) {
		if name, ok := doc.Lookup("insert").StringValueOK(); ok && cmd == "insert" && strings.HasPrefix(name, "runbook.stage.") {
			mu.Lock()
			loaded[name]++
			mu.Unlock()
		}
	})
	defer remove()
	slow := w.server.Fail(mongotest.Fault{Command: "insert", Delay: 250 * time.Millisecond})
	first := w.spawn()
	run := w.run(incident, "DatabaseCorruption", workflows.CorruptionInput{})
	journal := func() []string {
		files, err := filepath.Glob(filepath.Join(w.storage, "incidents", "battwheels", "*", "staging-*", "staged.journal"))
		require.NoError(t, err)
		if len(files) != 1 {
			return nil
		}
		b, err := os.ReadFile(files[0])
		require.NoError(t, err)
		lines := strings.Split(strings.TrimSpace(string(b)), "\n")
		return lines
	}
	require.Eventually(t, func() bool { return len(journal()) >= 10 }, 2*time.Minute, 10*time.Millisecond, "staging makes no progress")
	w.kill(first)
	finished := journal()
	slow.Lift()
	mu.Lock()
	clear(loaded)
	mu.Unlock()

	second := w.spawn()
	defer w.kill(second)
	s := w.asked(incident)
	require.NoError(t, w.says(incident, workflows.DoorApprove, workflows.Answer{Plan: s.Plan.Code}))
	var r workflows.IncidentResult
	require.NoError(t, run.Get(t.Context(), &r))
	require.Equal(t, workflows.Recovered, r.Outcome)
	require.Equal(t, before, w.content())

	w.record("corruption-killed", incident, "")
	w.record("restore-killed", restoring, "")
	mu.Lock()
	defer mu.Unlock()
	require.NotEmpty(t, loaded)
	for name := range loaded {
		collection := name[strings.LastIndex(name, ".")+1:]
		for _, line := range finished {
			require.NotContains(t, line, `"collection":"`+collection+`"`, "%s was loaded again", collection)
		}
	}
	seen := map[string]int{}
	for _, m := range w.mail.Mails() {
		seen[m.To[0]+" "+m.Subject]++
	}
	for mail, n := range seen {
		require.Equal(t, 1, n, mail)
	}
	w.asked("report/" + r.Incident)
	html, err := os.ReadFile(filepath.Join(w.storage, "incidents", "battwheels", r.Incident, "report.html"))
	require.NoError(t, err)
	require.True(t, bytes.Contains(html, []byte("attempt 2")), "the report does not show the second attempt")
}
