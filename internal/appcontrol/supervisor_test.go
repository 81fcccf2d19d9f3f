package appcontrol

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/battwheels/runbook/internal/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func proc(name string, state int) *fakeProc {
	return &fakeProc{group: name, name: name, state: state, pid: 4242}
}

func TestStopStopsInOrderAndStartStartsInReverse(t *testing.T) {
	f := newFake(proc("backend", running), proc("frontend", running), proc("other", running))
	c := f.controller(t, "frontend", "backend")
	require.NoError(t, c.Stop(t.Context()))
	require.Equal(t, []string{"stopProcess frontend:frontend", "stopProcess backend:backend"}, f.changes())

	st, err := c.State(t.Context())
	require.NoError(t, err)
	require.Equal(t, State{Programs: []Program{
		{Name: "frontend:frontend", State: "STOPPED"}, {Name: "backend:backend", State: "STOPPED"},
	}}, st)

	require.NoError(t, c.Start(t.Context()))
	require.Equal(t, []string{"startProcess backend:backend", "startProcess frontend:frontend"}, f.changes()[2:])
	st, err = c.State(t.Context())
	require.NoError(t, err)
	require.True(t, st.Running)
}

func TestStopTwiceAndStartTwiceChangeNothingTheSecondTime(t *testing.T) {
	f := newFake(proc("backend", running))
	c := f.controller(t, "backend")
	for range 2 {
		require.NoError(t, c.Stop(t.Context()))
	}
	for range 2 {
		require.NoError(t, c.Start(t.Context()))
	}
	require.Equal(t, []string{"stopProcess backend:backend", "startProcess backend:backend"}, f.changes())
}

func TestStopIsDoneOnlyWhenTheProgramIsSeenAtRest(t *testing.T) {
	for _, tc := range []struct {
		name    string
		state   int
		want    int // the state in which Stop leaves it
		changes int // calls of stopProcess
	}{
		{"stopped already", stopped, stopped, 0},
		{"given up by supervisord", fatal, fatal, 0},
		{"still starting", starting, stopped, 1},
		{"between two tries of supervisord", backoff, stopped, 1},
		{"exited, and supervisord leaves it so", exited, exited, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(proc("backend", tc.state))
			c := f.controller(t, "backend")
			c.settle = 3 * lookEvery
			require.NoError(t, c.Stop(t.Context()))
			require.Equal(t, tc.want, f.procs[0].state)
			require.Len(t, f.changes(), tc.changes)
		})
	}
}

func TestStopWaitsForAProgramThatSomebodyElseIsStopping(t *testing.T) {
	f := newFake(proc("backend", stopping))
	c := f.controller(t, "backend")
	done := make(chan error, 1)
	go func() { done <- c.Stop(t.Context()) }()
	select {
	case err := <-done:
		t.Fatalf("Stop returned while the program was STOPPING: %v", err)
	case <-time.After(3 * lookEvery):
	}
	f.set(f.procs[0], stopped)
	require.NoError(t, <-done)
}

func TestStopIsNotDeceivedByAnExitThatSupervisordIsAboutToRepair(t *testing.T) {
	f := newFake(proc("backend", exited))
	c := f.controller(t, "backend")
	c.settle = time.Hour // only the restart below lets it go on
	done := make(chan error, 1)
	go func() { done <- c.Stop(t.Context()) }()
	time.AfterFunc(2*lookEvery, func() { f.set(f.procs[0], running) })
	require.NoError(t, <-done)
	require.Equal(t, stopped, f.procs[0].state)
	require.Equal(t, []string{"stopProcess backend:backend"}, f.changes())
}

func TestStopFailsWhereAProgramComesBackBeforeAllAreStopped(t *testing.T) {
	f := newFake(proc("backend", running), proc("worker", running))
	c := f.controller(t, "backend", "worker")
	f.onStop = func(p *fakeProc) {
		f.set(p, stopped)
		if p.name == "worker" {
			f.set(f.procs[0], running)
		}
	}
	err := c.Stop(t.Context())
	var ce *ControlError
	require.ErrorAs(t, err, &ce)
	require.Equal(t, "backend:backend", ce.Program)
	require.ErrorContains(t, err, "it was seen stopped and is RUNNING again")
}

func TestStopThatTakesTooLongSaysInWhichStateTheProgramStays(t *testing.T) {
	f := newFake(proc("backend", running))
	release := make(chan struct{})
	defer close(release)
	f.onStop = func(p *fakeProc) { f.set(p, stopping); <-release }
	c := f.controller(t, "backend")
	c.timeout = 300 * time.Millisecond
	err := c.Stop(t.Context())
	var ce *ControlError
	require.ErrorAs(t, err, &ce)
	require.ErrorContains(t, err, "stop backend:backend: after 300ms it is STOPPING; set application.supervisor.timeout above the program's stopwaitsecs")
}

func TestStopEndsWithItsContext(t *testing.T) {
	f := newFake(proc("backend", running))
	release := make(chan struct{})
	defer close(release)
	ctx, cancel := context.WithCancel(t.Context())
	f.onStop = func(*fakeProc) { cancel(); <-release }
	require.ErrorIs(t, f.controller(t, "backend").Stop(ctx), context.Canceled)
}

func TestStopRefusesAProgramWhoseStateNobodyKnows(t *testing.T) {
	f := newFake(proc("backend", 1000))
	c := f.controller(t, "backend")
	require.ErrorContains(t, c.Stop(t.Context()), "supervisord does not know its state (UNKNOWN), so it may still write; see whether process 4242 lives")
	st, err := c.State(t.Context())
	require.NoError(t, err)
	require.True(t, st.Running, "what is not for certain stopped counts as running")
}

func TestStopRefusesTheWorkerItself(t *testing.T) {
	t.Setenv("SUPERVISOR_GROUP_NAME", "runbook")
	t.Setenv("SUPERVISOR_PROCESS_NAME", "runbook")
	own := proc("runbook", running)
	own.pid = os.Getpid()
	f := newFake(proc("backend", running), own)
	require.ErrorContains(t, f.controller(t, "backend", "runbook").Stop(t.Context()), "that is this worker itself")
	require.Empty(t, f.changes(), "nothing may be stopped before that is known")
}

func TestStartSaysWhyAProgramDoesNotStayUp(t *testing.T) {
	for _, tc := range []struct {
		name string
		on   func(f *fakeSupervisord, p *fakeProc)
		want string
	}{
		{
			"supervisord gives up", func(f *fakeSupervisord, p *fakeProc) { f.set(p, fatal) },
			"it was started and is FATAL; see /var/log/backend.err.log",
		},
		{
			"it cannot be spawned", func(f *fakeSupervisord, p *fakeProc) {
				f.mu.Lock()
				defer f.mu.Unlock()
				p.state, p.spawnErr = fatal, "couldn't setuid to 1000"
			},
			"it was started and is FATAL (couldn't setuid to 1000)",
		},
		{
			"it exits at once", func(f *fakeSupervisord, p *fakeProc) { f.set(p, exited) },
			"it was started and is EXITED",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(proc("backend", stopped))
			f.onStart = func(p *fakeProc) { tc.on(f, p) }
			c := f.controller(t, "backend")
			c.settle = 3 * lookEvery
			err := c.Start(t.Context())
			var ce *ControlError
			require.ErrorAs(t, err, &ce)
			require.ErrorContains(t, err, tc.want)
			require.Len(t, f.changes(), 1, "it is started once, and then only watched")
		})
	}
}

func TestStartWaitsWhileSupervisordTriesAgainByItself(t *testing.T) {
	f := newFake(proc("backend", stopped))
	f.onStart = func(p *fakeProc) {
		f.set(p, backoff)
		time.AfterFunc(2*lookEvery, func() { f.set(p, running) })
	}
	require.NoError(t, f.controller(t, "backend").Start(t.Context()))
}

func TestProgramNames(t *testing.T) {
	procs := func() []*fakeProc {
		return []*fakeProc{
			proc("backend", running),
			{group: "jobs", name: "jobs_00", state: running}, {group: "jobs", name: "jobs_01", state: running},
		}
	}
	for _, tc := range []struct {
		name    string
		program string
		want    []string
		err     string
	}{
		{"a program by its name", "backend", []string{"backend:backend"}, ""},
		{"a program by group and name", "jobs:jobs_01", []string{"jobs:jobs_01"}, ""},
		{"a whole group", "jobs:*", []string{"jobs:jobs_00", "jobs:jobs_01"}, ""},
		{"a misspelt one", "backnd", nil, "look at backnd: supervisord has no such program; name one of these in application.supervisor.programs: backend, jobs:jobs_00, jobs:jobs_01"},
		{"a group's bare name", "jobs", nil, `"jobs:*" stands for all of that group`},
		{"an unknown one of a known group", "jobs:jobs_02", nil, "no such program"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newFake(procs()...).controller(t, tc.program)
			st, err := c.State(t.Context())
			if tc.err != "" {
				require.ErrorContains(t, err, tc.err)
				return
			}
			require.NoError(t, err)
			var names []string
			for _, p := range st.Programs {
				names = append(names, p.Name)
			}
			require.Equal(t, tc.want, names)
		})
	}
}

func TestNothingIsStoppedWhereOneNameIsWrong(t *testing.T) {
	f := newFake(proc("backend", running))
	require.ErrorContains(t, f.controller(t, "backend", "fronted").Stop(t.Context()), "no such program")
	require.Empty(t, f.changes())
}

// An error that may pass by itself is told from one that needs a person: only the first is worth trying again.
func TestWhatSupervisordRefusesNeedsAPersonAndWhatItMissesIsTriedAgain(t *testing.T) {
	serve := func(h http.HandlerFunc) func(*testing.T) string {
		return func(t *testing.T) string {
			s := httptest.NewServer(h)
			t.Cleanup(s.Close)
			return s.URL
		}
	}
	for _, tc := range []struct {
		name  string
		url   func(*testing.T) string
		again bool
		want  string
	}{
		{"no socket", func(t *testing.T) string { return "unix://" + filepath.Join(t.TempDir(), "gone.sock") }, true, "no such file"},
		{"nobody listens", func(t *testing.T) string {
			s := httptest.NewServer(nil)
			s.Close()
			return s.URL
		}, true, "connection refused"},
		{"shutting down", func(t *testing.T) string {
			f := newFake(proc("backend", running))
			f.shutdown = true
			return f.onSocket(t)
		}, true, "it is shutting down or restarting"},
		{"a server error", serve(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }), true, "it answered HTTP 500"},
		{"wrong password", serve(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }), false, "set application.supervisor.username and password"},
		{"another server's address", serve(http.NotFound), false, "answers HTTP 404 to a call of XML-RPC"},
		{"a web page", serve(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html><p>hello</p></html>")) }), false, "is not supervisord's"},
		{"a redirect", serve(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/login", 302) }), false, "answers HTTP 302"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := New(config.Application{Supervisor: &config.Supervisor{URL: tc.url(t), Programs: []string{"backend"}}})
			require.NoError(t, err)
			err = c.Stop(t.Context())
			require.ErrorContains(t, err, tc.want)
			if tc.again {
				var ue *UnavailableError
				require.ErrorAs(t, err, &ue)
			} else {
				var ce *ControlError
				require.ErrorAs(t, err, &ce)
			}
		})
	}
}

func TestASocketThatTheWorkerMayNotUseNamesTheRemedy(t *testing.T) {
	if os.Getuid() == 0 {
		err := (&rpc{where: "unix:///var/run/supervisor.sock"}).unreachable(t.Context(), "stop", os.NewSyscallError("connect", os.ErrPermission))
		require.ErrorContains(t, err, "run the worker as the socket's owner (root, where its mode is 0700)")
		return
	}
	f := newFake(proc("backend", running))
	url := f.onSocket(t)
	require.NoError(t, os.Chmod(url[len("unix://"):], 0))
	c, err := newSupervisor(config.Supervisor{URL: url, Programs: []string{"backend"}})
	require.NoError(t, err)
	require.ErrorContains(t, c.Stop(t.Context()), "run the worker as the socket's owner (root, where its mode is 0700)")
}

func TestASupervisordThatHangsIsUnavailable(t *testing.T) {
	f := newFake(proc("backend", running))
	f.hang = make(chan struct{})
	defer close(f.hang)
	c := f.controller(t, "backend")
	c.rpc.patience = 200 * time.Millisecond
	var ue *UnavailableError
	require.ErrorAs(t, c.Stop(t.Context()), &ue)
	require.ErrorContains(t, ue, "nothing within 200ms")
}

func TestUserNameAndPasswordAreSent(t *testing.T) {
	f := newFake(proc("backend", running))
	var refused atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, _ := r.BasicAuth(); u != "ops" || p != "pa55" {
			refused.Add(1)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		f.ServeHTTP(w, r)
	}))
	defer s.Close()
	c, err := New(config.Application{Supervisor: &config.Supervisor{
		URL: s.URL, Username: "ops", Password: config.NewSecret("pa55"), Programs: []string{"backend"},
	}})
	require.NoError(t, err)
	require.NoError(t, c.Stop(t.Context()))
	require.Zero(t, refused.Load())
}

func TestNewRefusesAConfigurationThatCannotWork(t *testing.T) {
	for _, tc := range []struct {
		name string
		app  config.Application
		want string
	}{
		{"nothing said", config.Application{}, `write "none: true" only where nothing has to be stopped`},
		{"two ways", config.Application{None: true, Command: &config.Command{}}, "exactly one of supervisor, kubernetes, command and none"},
		{"no programs", config.Application{Supervisor: &config.Supervisor{URL: "unix:///s.sock"}}, "application.supervisor.programs is empty"},
		{"a socket without its scheme", config.Application{Supervisor: &config.Supervisor{URL: "/var/run/supervisor.sock", Programs: []string{"a"}}}, "write unix:///var/run/supervisor.sock"},
		{"a relative socket", config.Application{Supervisor: &config.Supervisor{URL: "unix://supervisor.sock", Programs: []string{"a"}}}, "write unix:///var/run/supervisor.sock"},
		{"a command without state", config.Application{Command: &config.Command{Stop: []string{"x"}, Start: []string{"x"}}}, "application.command.state is empty"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := New(tc.app)
			var ce *ControlError
			require.ErrorAs(t, err, &ce)
			require.ErrorContains(t, err, tc.want)
		})
	}
}

func TestNoneHasNothingToStop(t *testing.T) {
	c, err := New(config.Application{None: true})
	require.NoError(t, err)
	require.NoError(t, c.Stop(t.Context()))
	require.NoError(t, c.Start(t.Context()))
	st, err := c.State(t.Context())
	require.NoError(t, err)
	require.Equal(t, State{}, st)
}
