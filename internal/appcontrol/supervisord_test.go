package appcontrol

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/battwheels/runbook/internal/config"
)

// realSupervisord runs the real program on a unix socket of its own, and returns the socket's URL.
func realSupervisord(t *testing.T, programs string) string {
	t.Helper()
	bin, err := exec.LookPath("supervisord")
	if err != nil {
		t.Skip("supervisord is not installed (Debian: apt-get install supervisor)")
	}
	dir := t.TempDir()
	socket := filepath.Join(dir, "s.sock")
	conf := filepath.Join(dir, "supervisord.conf")
	require.NoError(t, os.WriteFile(conf, fmt.Appendf(nil, `
[supervisord]
nodaemon=true
logfile=%[1]s/supervisord.log
pidfile=%[1]s/supervisord.pid
childlogdir=%[1]s
[unix_http_server]
file=%[2]s
chmod=0700
username=ops
password=pa55
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
%[3]s
`, dir, socket, programs), 0o600))
	cmd := exec.Command(bin, "-c", conf)
	out, err := os.Create(filepath.Join(dir, "out"))
	require.NoError(t, err)
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		_ = cmd.Wait()
	})
	require.Eventually(t, func() bool {
		_, err := os.Stat(socket)
		return !errors.Is(err, fs.ErrNotExist)
	}, 20*time.Second, 20*time.Millisecond, "supervisord did not open its socket; see %s", dir)
	return "unix://" + socket
}

func realController(t *testing.T, url string, programs ...string) *supervisor {
	t.Helper()
	c, err := newSupervisor(config.Supervisor{
		URL: url, Username: "ops", Password: config.NewSecret("pa55"), Programs: programs, Timeout: config.Duration(30 * time.Second),
	})
	require.NoError(t, err)
	return c
}

func TestRealSupervisordStopsAndStarts(t *testing.T) {
	url := realSupervisord(t, `
[program:backend]
command=/bin/sleep 600
autorestart=true
startsecs=0
[program:frontend]
command=/bin/sleep 600
startsecs=1
[program:jobs]
command=/bin/sleep 600
process_name=%(program_name)s_%(process_num)02d
numprocs=2
startsecs=0
`)
	c := realController(t, url, "frontend", "backend", "jobs:*")
	require.NoError(t, c.Start(t.Context()))
	st, err := c.State(t.Context())
	require.NoError(t, err)
	require.Len(t, st.Programs, 4)
	for _, p := range st.Programs {
		require.Equal(t, "RUNNING", p.State, p.Name)
	}
	for range 2 {
		require.NoError(t, c.Stop(t.Context()))
		st, err = c.State(t.Context())
		require.NoError(t, err)
		require.False(t, st.Running)
	}
	for range 2 {
		require.NoError(t, c.Start(t.Context()))
	}
	st, err = c.State(t.Context())
	require.NoError(t, err)
	require.True(t, st.Running)
}

// supervisord answers NOT_RUNNING for a program that has just exited, and starts it again a moment later.
func TestRealSupervisordCrashingProgramStaysStopped(t *testing.T) {
	url := realSupervisord(t, `
[program:backend]
command=/bin/sh -c "sleep 0.3; exit 1"
autorestart=true
startsecs=0
`)
	c := realController(t, url, "backend")
	look := func() int {
		i, err := c.rpc.info(t.Context(), "look at", "backend:backend")
		require.NoError(t, err)
		return i.State
	}
	// Just after an exit is the moment that deceives; a few tries meet it.
	for range 3 {
		require.Eventually(t, func() bool { return look() == exited }, 10*time.Second, time.Millisecond)
		require.NoError(t, c.Stop(t.Context()))
		require.Never(t, func() bool { return look() != stopped }, 1500*time.Millisecond, 50*time.Millisecond)
		require.NoError(t, c.Start(t.Context()))
	}
}

func TestRealSupervisordTellsOfWhatDoesNotStart(t *testing.T) {
	url := realSupervisord(t, `
[program:missing]
command=/nowhere/program
autostart=false
[program:dying]
command=/bin/false
autostart=false
startretries=0
startsecs=1
`)
	for program, want := range map[string]string{
		"missing": "start missing:missing: supervisord says NO_FILE",
		"dying":   "it was started and is FATAL",
		"typo":    "name one of these in application.supervisor.programs: dying, missing",
	} {
		t.Run(program, func(t *testing.T) {
			var ce *ControlError
			err := realController(t, url, program).Start(t.Context())
			require.ErrorAs(t, err, &ce)
			require.ErrorContains(t, err, want)
		})
	}
	t.Run("wrong password", func(t *testing.T) {
		c := realController(t, url, "dying")
		c.rpc.password = config.NewSecret("wrong")
		require.ErrorContains(t, c.Stop(t.Context()), "refuses the user name or password")
	})
}

func TestRealSupervisordProgramThatIgnoresItsSignal(t *testing.T) {
	url := realSupervisord(t, `
[program:backend]
command=/bin/sh -c "trap '' TERM; echo ready; while :; do sleep 0.1; done"
stopwaitsecs=2
startsecs=1
`)
	c := realController(t, url, "backend")
	require.NoError(t, c.Start(t.Context()))
	c.timeout = 500 * time.Millisecond
	require.ErrorContains(t, c.Stop(t.Context()), "it is STOPPING")
	c.timeout = 30 * time.Second
	require.NoError(t, c.Stop(t.Context()), "supervisord kills it in the end, and a second try sees that")
}
