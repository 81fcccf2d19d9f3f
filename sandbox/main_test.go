package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/battwheels/runbook/sandbox/child"
	"github.com/battwheels/runbook/sandbox/scenario"
)

func TestMain(m *testing.M) {
	child.Main()
	os.Exit(m.Run())
}

// play runs the main job on a tenth of the data, and returns its exit code and what it printed.
func play(t *testing.T, args ...string) (code int, out, progress string) {
	t.Helper()
	return playScenario(t, "corruption", args...)
}

func playScenario(t *testing.T, name string, args ...string) (code int, out, progress string) {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	var o, e bytes.Buffer
	code = execute(ctx, append([]string{"run", name, "--scale", "0.1"}, args...), &o, &e)
	return code, o.String(), e.String()
}

func result(t *testing.T, out, progress string) scenario.Result {
	t.Helper()
	var r scenario.Result
	require.NoError(t, json.Unmarshal([]byte(out), &r), "%s\n%s", out, progress)
	return r
}

func TestTheMainJobBringsADamagedDatabaseBack(t *testing.T) {
	code, out, progress := play(t, "--json")
	r := result(t, out, progress)
	require.Empty(t, r.Failed(), progress)
	require.Zero(t, code, progress)
	require.True(t, r.Recovered)
	require.Equal(t, "corruption", r.Scenario)
	require.Equal(t, "incident/battwheels", r.WorkflowID)
	require.Positive(t, r.RTOSeconds)
	require.Positive(t, r.DowntimeSeconds)
	require.Greater(t, r.RPOSeconds, 0.0)
	require.Positive(t, r.DocumentsRestored)
	require.Positive(t, r.DocumentsLost, "people wrote after the backup")
	require.Equal(t, r.OrganizationsActive, r.MailsSent+r.MailsUndeliverable)
	require.FileExists(t, r.Report)
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "runbook-sandbox-*"))
	require.NoError(t, err)
	require.Empty(t, left, "nothing but the report stays")
}

func TestSabotageIsFound(t *testing.T) {
	code, out, progress := play(t, "--json", "--sabotage", "--seed", "2")
	r := result(t, out, progress)
	require.Equal(t, exitFailed, code)
	require.False(t, r.Recovered)
	require.Len(t, r.Failed(), 1, "it is the only thing that is wrong")
	require.Equal(t, 1, r.Verdict.Differing)
	require.Equal(t, r.Sabotaged.Collection, r.Verdict.Differences[0].Collection)
}

func TestExactlyWhatWasDeletedByMistakeComesBack(t *testing.T) {
	code, out, progress := playScenario(t, "deletion", "--json")
	r := result(t, out, progress)
	require.Empty(t, r.Failed(), progress)
	require.Zero(t, code, progress)
	require.True(t, r.Recovered)
	require.EqualValues(t, 1200, r.DocumentsRestored, "300 invoices, each with two lines and a line of history")
	require.Zero(t, r.DocumentsLost)
	require.FileExists(t, r.Report)
}

func TestSabotageOfAnUndeleteIsFound(t *testing.T) {
	code, out, progress := playScenario(t, "deletion", "--json", "--sabotage")
	r := result(t, out, progress)
	require.Equal(t, exitFailed, code)
	require.False(t, r.Recovered)
	require.Len(t, r.Failed(), 1, "it is the only thing that is wrong")
	require.Equal(t, 1, r.Verdict.Differing)
}

func TestTheSandboxEndsCleanlyAndItsDirectoryStartsAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a directory whose path is longer than a unix socket's may be, which is hardly a hundred bytes on some systems")
	for _, said := range []string{"filling the database", "the database has 251 collections already"} {
		ctx, cancel := context.WithCancel(t.Context())
		out := &watched{want: "Ctrl-C ends it", seen: make(chan struct{})}
		ended := make(chan int, 1)
		go func() { ended <- execute(ctx, []string{"--dir", dir, "--scale", "0.1"}, out, out) }()
		select {
		case <-out.seen:
		case code := <-ended:
			require.Fail(t, "it ended", "exit code %d: %s", code, out)
		case <-time.After(2 * time.Minute):
			require.Fail(t, "it does not start", out.String())
		}
		cancel()
		require.Zero(t, <-ended, out)
		require.Contains(t, out.String(), said)
	}
}

func TestAWrongCommandLineStartsNothing(t *testing.T) {
	for _, args := range [][]string{{"--prot", "1"}, {"run", "corruption", "--seed", "x"}, {"run", "corrupted"}, {"run", "pod-loss", "now"}, {"rnu"}, {"run", "corruption", "now"}, {"--ui-port", "99999"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			var out, errOut bytes.Buffer
			require.Equal(t, exitUsage, execute(t.Context(), args, &out, &errOut), errOut.String())
			require.Empty(t, out.String())
		})
	}
}

func TestWhatIsPrintedFitsIntoATerminal(t *testing.T) {
	var b bytes.Buffer
	p := &page{out: &b, began: time.Now()}
	p.event(scenario.Event{At: p.began.Add(83 * time.Second), Who: "Alertmanager", Text: strings.Repeat("several words of it – ", 20)})
	p.result(scenario.Result{Report: strings.Repeat("x", 90), Checks: []scenario.Check{{Name: strings.Repeat("a long check ", 12), Detail: "why"}}})
	for line := range strings.Lines(b.String()) {
		if !strings.Contains(line, "xxx") {
			require.LessOrEqual(t, utf8.RuneCountInString(strings.TrimSuffix(line, "\n")), columns, line)
		}
	}
	require.True(t, strings.HasPrefix(b.String(), " 1:23  Alertmanager  several words"))
	require.Contains(t, b.String(), "    why\n")
}

// watched is output that is waited on.
type watched struct {
	mu   sync.Mutex
	b    strings.Builder
	want string
	seen chan struct{}
	done bool
}

func (w *watched) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.b.Write(b)
	if !w.done && strings.Contains(w.b.String(), w.want) {
		w.done = true
		close(w.seen)
	}
	return len(b), nil
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}
