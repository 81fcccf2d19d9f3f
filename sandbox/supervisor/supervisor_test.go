package supervisor_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kolo/xmlrpc"
	"github.com/stretchr/testify/require"

	"github.com/battwheels/runbook/internal/appcontrol"
	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/sandbox/process"
	"github.com/battwheels/runbook/sandbox/supervisor"
)

const roleEnv = "SUPERVISOR_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) {
	case "":
		os.Exit(m.Run())
	case "backend":
		ctx, stop := process.Context(context.Background())
		defer stop()
		fmt.Println("serving")
		<-ctx.Done()
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("serving")
		select {}
	case "broken":
		fmt.Println("cannot open the shop")
		os.Exit(7)
	}
}

// program is one that plays a role; it starts faster than supervisor's default, so that the tests do.
func program(t *testing.T, name, role string) supervisor.Program {
	t.Helper()
	command, err := process.Self()
	require.NoError(t, err)
	return supervisor.Program{
		Spec:         process.Spec{Name: name, Command: command, Env: []string{roleEnv + "=" + role}},
		AutoStart:    true,
		AutoRestart:  true,
		StartSeconds: 50 * time.Millisecond,
		StartRetries: 1,
		StopWait:     5 * time.Second,
	}
}

func start(t *testing.T, programs ...supervisor.Program) *supervisor.Supervisor {
	t.Helper()
	s, err := supervisor.Start(supervisor.Config{Socket: filepath.Join(t.TempDir(), "s.sock"), Programs: programs,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close(within(t, context.Background()))) })
	return s
}

func within(t *testing.T, parent context.Context) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(parent, 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// controller is the product's own client.
func controller(t *testing.T, s *supervisor.Supervisor, programs ...string) appcontrol.Controller {
	t.Helper()
	c, err := appcontrol.New(config.Application{Supervisor: &config.Supervisor{
		URL: s.URL(), Programs: programs, Timeout: config.Duration(20 * time.Second)}})
	require.NoError(t, err)
	return c
}

func TestTheProductStopsAndStartsARealProcess(t *testing.T) {
	s := start(t, program(t, "backend", "backend"), program(t, "frontend", "backend"))
	ctx := within(t, t.Context())
	require.NoError(t, s.AwaitReady(ctx, "backend"))
	require.NoError(t, s.AwaitReady(ctx, "frontend"))
	c := controller(t, s, "backend")
	backend, frontend := s.Process("backend"), s.Process("frontend")
	state, err := c.State(ctx)
	require.NoError(t, err)
	require.Equal(t, appcontrol.State{Running: true, Programs: []appcontrol.Program{{Name: "backend:backend", State: "RUNNING", Running: true}}}, state)

	require.NoError(t, c.Stop(ctx))
	exit, err := backend.Wait(ctx)
	require.NoError(t, err)
	require.Equal(t, 0, exit.Code, "it was asked, and ended well")
	require.Nil(t, s.Process("backend"))
	require.Equal(t, frontend, s.Process("frontend"), "nobody asked for that one")
	require.NoError(t, c.Stop(ctx), "what is stopped is stopped")

	require.NoError(t, c.Start(ctx))
	require.NotEqual(t, backend.PID(), s.Process("backend").PID())
	require.NoError(t, c.Start(ctx), "what runs runs")
}

func TestWhoIgnoresTermIsKilledAfterStopwaitsecs(t *testing.T) {
	p := program(t, "backend", "stubborn")
	p.StopWait, p.Spec.Ready = 100*time.Millisecond, "serving"
	s := start(t, p)
	ctx := within(t, t.Context())
	require.NoError(t, s.AwaitReady(ctx, "backend"))
	child := s.Process("backend")
	require.NoError(t, child.AwaitReady(ctx))
	require.NoError(t, controller(t, s, "backend").Stop(ctx))
	exit, err := child.Wait(ctx)
	require.NoError(t, err)
	require.Equal(t, syscall.SIGKILL, exit.Signal)
}

func TestAKilledProgramIsStartedAgain(t *testing.T) {
	s := start(t, program(t, "backend", "backend"))
	ctx := within(t, t.Context())
	require.NoError(t, s.AwaitReady(ctx, "backend"))
	child := s.Process("backend")
	require.NoError(t, child.Kill())
	require.Eventually(t, func() bool {
		again := s.Process("backend")
		return again != nil && again.PID() != child.PID()
	}, 20*time.Second, 10*time.Millisecond)
}

func TestAProgramThatNeverStartsIsFatalAndTheProductSaysWhere(t *testing.T) {
	p := program(t, "backend", "broken")
	p.AutoStart, p.Spec.Log = false, filepath.Join(t.TempDir(), "backend.log")
	s := start(t, p)
	ctx := within(t, t.Context())
	err := controller(t, s, "backend").Start(ctx)
	broken, ok := errors.AsType[*appcontrol.ControlError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, "it was started and is FATAL (Exited too quickly (process log may have details))", broken.Reason)
	require.Contains(t, broken.Do, p.Spec.Log)
	require.EqualError(t, s.AwaitReady(ctx, "backend"), "supervisor: backend does not start: cannot open the shop")
}

func TestAProgramThatIsNotThereIsNamedBeforeAnythingIsStopped(t *testing.T) {
	s := start(t, program(t, "backend", "backend"))
	ctx := within(t, t.Context())
	require.NoError(t, s.AwaitReady(ctx, "backend"))
	err := controller(t, s, "backend", "backand").Stop(ctx)
	require.ErrorContains(t, err, "supervisord has no such program")
	require.NotNil(t, s.Process("backend"))
}

// TestItAnswersInSupervisorsWords goes past the product's client: the faults are those that supervisor's documentation numbers.
func TestItAnswersInSupervisorsWords(t *testing.T) {
	p := program(t, "backend", "backend")
	p.AutoStart = false
	nowhere := program(t, "nowhere", "backend")
	nowhere.AutoStart, nowhere.Spec.Command = false, []string{"/nonexistent/backend"}
	s := start(t, p, nowhere)
	say := rawClient(t, s)

	for _, tc := range []struct {
		name   string
		method string
		args   []any
		code   int
		text   string
	}{
		{"a method that is not there", "supervisor.makeCoffee", nil, 1, "UNKNOWN_METHOD"},
		{"no name", "supervisor.getProcessInfo", nil, 2, "INCORRECT_PARAMETERS"},
		{"a number for a name", "supervisor.getProcessInfo", []any{7}, 2, "INCORRECT_PARAMETERS"},
		{"an unknown name", "supervisor.getProcessInfo", []any{"backand"}, 10, "BAD_NAME: backand"},
		{"stopping what is stopped", "supervisor.stopProcess", []any{"backend"}, 70, "NOT_RUNNING: backend"},
		{"starting what cannot be executed", "supervisor.startProcess", []any{"nowhere"}, 50, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out any
			fault, ok := errors.AsType[xmlrpc.FaultError](say(&out, tc.method, tc.args...))
			require.True(t, ok)
			require.Equal(t, tc.code, fault.Code)
			require.Contains(t, fault.String, tc.text)
		})
	}

	var yes bool
	require.NoError(t, say(&yes, "supervisor.startProcess", "backend:backend", true))
	require.True(t, yes)
	fault, ok := errors.AsType[xmlrpc.FaultError](say(&yes, "supervisor.startProcess", "backend"))
	require.True(t, ok)
	require.Equal(t, 60, fault.Code)

	var info struct {
		Name  string `xmlrpc:"name"`
		Group string `xmlrpc:"group"`
		State string `xmlrpc:"statename"`
		PID   int    `xmlrpc:"pid"`
	}
	require.NoError(t, say(&info, "supervisor.getProcessInfo", "backend"))
	require.Equal(t, "backend", info.Name)
	require.Equal(t, "backend", info.Group)
	require.Equal(t, "RUNNING", info.State)
	require.Equal(t, s.Process("backend").PID(), info.PID)

	require.NoError(t, say(&yes, "supervisor.stopProcess", "backend", false))
	require.Eventually(t, func() bool {
		return say(&info, "supervisor.getProcessInfo", "backend") == nil && info.State == "STOPPED"
	}, 10*time.Second, 10*time.Millisecond)

	var state struct {
		Name string `xmlrpc:"statename"`
	}
	require.NoError(t, say(&state, "supervisor.getState"))
	require.Equal(t, "RUNNING", state.Name)
}

// rawClient speaks XML-RPC over the socket without the product's client.
func rawClient(t *testing.T, s *supervisor.Supervisor) func(out any, method string, args ...any) error {
	t.Helper()
	path, found := strings.CutPrefix(s.URL(), "unix://")
	require.True(t, found)
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
	}}
	return func(out any, method string, args ...any) error {
		r, err := xmlrpc.NewRequest("http://supervisor/RPC2", method, args)
		require.NoError(t, err)
		answer, err := c.Do(r)
		require.NoError(t, err)
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		if err := xmlrpc.Response(body).Err(); err != nil {
			return err
		}
		return xmlrpc.Response(body).Unmarshal(out)
	}
}
