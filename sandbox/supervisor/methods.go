package supervisor

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"time"
)

// apiVersion is that of the interface which is spoken, version that of the supervisor which spoke it first.
const (
	apiVersion = "3.0"
	version    = "4.2.5"
)

// method is one method. The context ends when the caller is gone.
type method func(ctx context.Context, s *Supervisor, params []value) (any, error)

var methods = map[string]method{
	"supervisor.getAPIVersion":        say(apiVersion),
	"supervisor.getVersion":           say(apiVersion),
	"supervisor.getSupervisorVersion": say(version),
	"supervisor.getIdentification":    say("supervisor"),
	"supervisor.getState":             getState,
	"supervisor.getPID":               getPID,
	"supervisor.getProcessInfo":       getProcessInfo,
	"supervisor.getAllProcessInfo":    getAllProcessInfo,
	"supervisor.startProcess":         startProcess,
	"supervisor.stopProcess":          stopProcess,
}

func (s *Supervisor) answer(r *http.Request, c call) (any, error) {
	if c.Method == "system.listMethods" {
		return slices.Sorted(maps.Keys(methods)), nil
	}
	m, ok := methods[c.Method]
	if !ok {
		return nil, fault{unknownMethod, "UNKNOWN_METHOD"}
	}
	// What looks is answered until the end; what would change something is not.
	if c.Method == "supervisor.startProcess" || c.Method == "supervisor.stopProcess" {
		select {
		case <-s.closing:
			return nil, fault{shutdownState, "SHUTDOWN_STATE"}
		default:
		}
	}
	return m(r.Context(), s, c.Params)
}

func say(text string) method {
	return func(_ context.Context, _ *Supervisor, params []value) (any, error) {
		if len(params) != 0 {
			return nil, fault{incorrectParameters, "INCORRECT_PARAMETERS"}
		}
		return text, nil
	}
}

func getState(_ context.Context, s *Supervisor, _ []value) (any, error) {
	select {
	case <-s.closing:
		return []member{{"statecode", -1}, {"statename", "SHUTDOWN"}}, nil
	default:
		return []member{{"statecode", 1}, {"statename", "RUNNING"}}, nil
	}
}

func getPID(context.Context, *Supervisor, []value) (any, error) { return os.Getpid(), nil }

func getProcessInfo(_ context.Context, s *Supervisor, params []value) (any, error) {
	p, _, err := s.named(params)
	if err != nil {
		return nil, err
	}
	return p.info(), nil
}

func getAllProcessInfo(_ context.Context, s *Supervisor, params []value) (any, error) {
	if len(params) != 0 {
		return nil, fault{incorrectParameters, "INCORRECT_PARAMETERS"}
	}
	all := [][]member{}
	for _, p := range s.programs {
		all = append(all, p.info())
	}
	return all, nil
}

func startProcess(ctx context.Context, s *Supervisor, params []value) (any, error) {
	p, wait, err := s.named(params)
	if err != nil {
		return nil, err
	}
	if err := p.start(); err != nil {
		return nil, err
	}
	if !wait {
		return true, nil
	}
	var state State
	var spawnErr string
	err = p.await(ctx, func() bool {
		state, spawnErr = p.state, p.spawnErr
		return state != Starting
	})
	switch {
	case err != nil:
		return nil, err
	case state == Running:
		return true, nil
	case p.never():
		return nil, fault{spawnError, "SPAWN_ERROR: " + p.name() + " (" + spawnErr + ")"}
	default:
		return nil, fault{abnormalTermination, "ABNORMAL_TERMINATION: " + p.name()}
	}
}

func stopProcess(ctx context.Context, s *Supervisor, params []value) (any, error) {
	p, wait, err := s.named(params)
	if err != nil {
		return nil, err
	}
	if err := p.stop(); err != nil {
		return nil, err
	}
	if !wait {
		return true, nil
	}
	if err := p.await(ctx, func() bool { return p.state != Stopping }); err != nil {
		return nil, err
	}
	return true, nil
}

// named resolves the parameters that most methods take: a program's name, and whether to wait, which is the default.
func (s *Supervisor) named(params []value) (p *program, wait bool, err error) {
	wrong := fault{incorrectParameters, "INCORRECT_PARAMETERS"}
	if len(params) == 0 || len(params) > 2 {
		return nil, false, wrong
	}
	name, ok := params[0].text()
	if !ok {
		return nil, false, wrong
	}
	wait = true
	if len(params) == 2 {
		if wait, ok = params[1].truth(); !ok {
			return nil, false, wrong
		}
	}
	if p = s.find(name); p == nil {
		return nil, false, fault{badName, "BAD_NAME: " + name}
	}
	return p, wait, nil
}

// never says that no process could be made at all.
func (p *program) never() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last == nil
}

// info is what supervisor tells of a process, in its order.
func (p *program) info() []member {
	p.mu.Lock()
	defer p.mu.Unlock()
	pid := 0
	if p.process != nil {
		pid = p.process.PID()
	}
	now := time.Now()
	return []member{
		{"name", p.name()}, {"group", p.name()},
		{"start", seconds(p.started)}, {"stop", seconds(p.stopped)}, {"now", seconds(now)},
		{"state", int(p.state)}, {"statename", p.state.String()},
		{"spawnerr", p.spawnErr}, {"exitstatus", p.exitCode},
		{"logfile", p.conf.Spec.Log}, {"stdout_logfile", p.conf.Spec.Log}, {"stderr_logfile", p.conf.Spec.Log},
		{"pid", pid}, {"description", p.describe(now, pid)},
	}
}

// describe is the sentence that supervisorctl shows. The lock is held.
func (p *program) describe(now time.Time, pid int) string {
	switch p.state {
	case Running:
		up := now.Sub(p.started).Round(time.Second)
		return fmt.Sprintf("pid %d, uptime %d:%02d:%02d", pid, int(up.Hours()), int(up.Minutes())%60, int(up.Seconds())%60)
	case Backoff, Fatal:
		return p.spawnErr
	case Stopped, Exited:
		if p.started.IsZero() {
			return "Not started"
		}
		return p.stopped.UTC().Format("Jan 02 03:04 PM")
	default:
		return ""
	}
}

func seconds(t time.Time) int {
	if t.IsZero() {
		return 0
	}
	return int(t.Unix())
}
