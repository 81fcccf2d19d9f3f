package mail

import (
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/internal/incident"
)

const crashEnv = "RUNBOOK_TEST_MAIL_CRASH"

// TestKilledWhileSending sends from a process of its own, which the service kills three times: before it accepts a
// batch, and twice after it accepted one and before it answers. Each organization has one mail in the end.
func TestKilledWhileSending(t *testing.T) {
	if at := os.Getenv(crashEnv); at != "" {
		sendEverything(t, at)
		return
	}
	s, f := newService(t), folder(t)
	o := freeze(t, f, draft(5000, 17, 1234, 4999))
	require.Len(t, o.Batches, 50)
	var child *os.Process
	kill := func() bool {
		require.NoError(t, child.Kill())
		return true
	}
	s.before = func(n int, w http.ResponseWriter, _ *http.Request) bool {
		if n == 20 {
			w.Header().Set("Retry-After", "0.1")
			fail(w, 429, "rate_limit_exceeded", "Too many requests.")
			return true
		}
		return n == 5 && kill()
	}
	s.after = func(n int) bool { return (n == 12 || n == 33) && kill() }

	deaths := 0
	for {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledWhileSending$")
		cmd.Env = append(os.Environ(), crashEnv+"="+s.URL+" "+f.Dir)
		s.mu.Lock()
		err := cmd.Start()
		child = cmd.Process
		s.mu.Unlock()
		require.NoError(t, err)
		if err := cmd.Wait(); err == nil {
			break
		}
		deaths++
		require.LessOrEqual(t, deaths, 4, "three kills and one rate limit")
	}
	require.Equal(t, 4, deaths)

	_, accepted := s.seen()
	require.Len(t, accepted, 4997)
	for address, n := range accepted {
		require.Equal(t, 1, n, address)
	}
	out, err := o.Outcome(f)
	require.NoError(t, err)
	require.Equal(t, Tally{Messages: 5000, Sent: 4997, Failed: 3}, out.Tally)
}

func sendEverything(t *testing.T, at string) {
	url, dir, _ := strings.Cut(at, " ")
	f := incident.Folder{Dir: dir}
	sender, err := New(config.Mail{From: "a@b.example", APIKey: config.NewSecret(testKey), BaseURL: url}, nil)
	require.NoError(t, err)
	o, err := Load(f, "")
	require.NoError(t, err)
	for n := range o.Batches {
		_, err := sender.SendBatch(t.Context(), f, o, n)
		require.NoError(t, err)
	}
}
