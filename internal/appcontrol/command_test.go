package appcontrol

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/battwheels/runbook/internal/config"
)

// fileApp is an application that runs while a file is there.
type fileApp struct{ dir, file string }

func newFileApp(t *testing.T) fileApp {
	dir := t.TempDir()
	return fileApp{dir, filepath.Join(dir, "running")}
}

func (a fileApp) sh(script string) []string {
	return []string{"/bin/sh", "-c", "cd " + a.dir + "; " + script}
}

func (a fileApp) config() config.Command {
	return config.Command{
		Stop: a.sh("echo stop >>calls; rm -f running"), Start: a.sh("echo start >>calls; touch running"),
		State: a.sh("test -e running || exit 3"),
	}
}

func (a fileApp) calls(t *testing.T) string {
	b, err := os.ReadFile(filepath.Join(a.dir, "calls"))
	if os.IsNotExist(err) {
		return ""
	}
	require.NoError(t, err)
	return string(b)
}

func controllerOf(t *testing.T, c config.Command) *command {
	t.Helper()
	made, err := New(config.Application{Command: &c})
	require.NoError(t, err)
	cmd := made.(*command)
	cmd.every = 20 * time.Millisecond
	return cmd
}

func TestCommandsStopAndStartOnceHoweverOftenTheyAreAsked(t *testing.T) {
	a := newFileApp(t)
	c := controllerOf(t, a.config())
	for range 2 {
		require.NoError(t, c.Start(t.Context()))
	}
	st, err := c.State(t.Context())
	require.NoError(t, err)
	require.Equal(t, State{Running: true, Programs: []Program{{Name: "application", State: "running", Running: true}}}, st)
	for range 2 {
		require.NoError(t, c.Stop(t.Context()))
	}
	st, err = c.State(t.Context())
	require.NoError(t, err)
	require.False(t, st.Running)
	require.Equal(t, "start\nstop\n", a.calls(t))
}

func TestCommandStopIsDoneOnlyWhenTheStateSaysSo(t *testing.T) {
	a := newFileApp(t)
	require.NoError(t, os.WriteFile(a.file, nil, 0o600))
	cfg := a.config()
	cfg.Stop = a.sh("(sleep 0.5; rm -f running) &")
	require.NoError(t, controllerOf(t, cfg).Stop(t.Context()))
	require.NoFileExists(t, a.file)
}

func TestCommandErrorsSayWhatToDo(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(fileApp, *config.Command)
		want   string
	}{
		{"the stop command fails", func(a fileApp, c *config.Command) {
			c.Stop = a.sh("echo some noise >&2; echo no such unit >&2; exit 5")
		},
			"stop the application: /bin/sh exited 5 (no such unit); run the command by hand as the worker's user"},
		{"it is missing", func(_ fileApp, c *config.Command) { c.Stop = []string{"/nowhere/stop"} },
			"no such file or directory; see that application.command names a program"},
		{"it does nothing", func(_ fileApp, c *config.Command) { c.Stop = []string{"true"} },
			"after 300ms /bin/sh exited 0; set application.command.timeout above"},
		{"it hangs", func(_ fileApp, c *config.Command) { c.Stop = []string{"sleep", "600"} },
			"after 300ms the command sleep has not ended"},
		{"the state is not known", func(a fileApp, c *config.Command) { c.State = a.sh("echo cluster unreachable >&2; exit 1") },
			"after 300ms /bin/sh exited 1 (cluster unreachable)"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := newFileApp(t)
			require.NoError(t, os.WriteFile(a.file, nil, 0o600))
			cfg := a.config()
			cfg.Timeout = config.Duration(300 * time.Millisecond)
			tc.change(a, &cfg)
			err := controllerOf(t, cfg).Stop(t.Context())
			var ce *ControlError
			require.ErrorAs(t, err, &ce)
			require.ErrorContains(t, err, tc.want)
		})
	}
}

func TestCommandStopThatFailsOnAStoppedApplicationIsFine(t *testing.T) {
	a := newFileApp(t)
	require.NoError(t, os.WriteFile(a.file, nil, 0o600))
	cfg := a.config()
	cfg.Stop = a.sh("rm -f running; exit 1")
	require.NoError(t, controllerOf(t, cfg).Stop(t.Context()))
}

func TestCommandStateThatIsNeitherRunningNorStoppedIsAskedAgain(t *testing.T) {
	a := newFileApp(t)
	cfg := a.config()
	cfg.State = a.sh("exit 4")
	_, err := controllerOf(t, cfg).State(t.Context())
	var ue *UnavailableError
	require.ErrorAs(t, err, &ue)
	require.ErrorContains(t, err, "it must exit 0 for running or 3 for stopped, and exited 4")
}

func TestAStartCommandMayLeaveADaemonBehind(t *testing.T) {
	a := newFileApp(t)
	cfg := a.config()
	cfg.Start = a.sh("touch running; (sleep 1; echo still heard >&2; touch heard) &")
	begun := time.Now()
	require.NoError(t, controllerOf(t, cfg).Start(t.Context()))
	require.Less(t, time.Since(begun), time.Second, "the daemon's standard error must not be waited for")
	require.Eventually(t, func() bool {
		_, err := os.Stat(filepath.Join(a.dir, "heard"))
		return err == nil
	}, 10*time.Second, 20*time.Millisecond, "its standard error must stay open")
}

func TestACommandThatIsCutShortTakesItsChildrenWithIt(t *testing.T) {
	a := newFileApp(t)
	ctx, cancel := context.WithCancel(t.Context())
	cfg := a.config()
	cfg.Start = a.sh("touch begun; sleep 1; touch survived")
	cfg.Start = append(cfg.Start[:2:2], cfg.Start[2]+" & wait")
	done := make(chan error, 1)
	go func() { done <- controllerOf(t, cfg).Start(ctx) }()
	require.Eventually(t, func() bool {
		_, err := os.Stat(filepath.Join(a.dir, "begun"))
		return err == nil
	}, 10*time.Second, 10*time.Millisecond)
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	require.Never(t, func() bool {
		_, err := os.Stat(filepath.Join(a.dir, "survived"))
		return err == nil
	}, 1500*time.Millisecond, 100*time.Millisecond)
}
