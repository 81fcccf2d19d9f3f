package appcontrol

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/battwheels/runbook/internal/config"
)

// States of a process, as supervisor's documentation numbers them.
const (
	stopped  = 0
	starting = 10
	running  = 20
	backoff  = 30
	stopping = 40
	exited   = 100
	fatal    = 200
)

const (
	// lookEvery is how often a program that changes its state is looked at.
	lookEvery = 100 * time.Millisecond
	// settle is how long a state must last that supervisord may leave by itself. It restarts what has exited when its main
	// loop comes round, which every look at it makes it do.
	settle = 500 * time.Millisecond
)

// supervisor drives programs through supervisord. It does not use supervisorctl, which answers 0 even when stopping failed.
type supervisor struct {
	rpc      *rpc
	programs []string // as configured, to be resolved against what supervisord has
	timeout  time.Duration
	settle   time.Duration
}

func newSupervisor(s config.Supervisor) (*supervisor, error) {
	if len(s.Programs) == 0 {
		return nil, &ControlError{Action: "control the application", Reason: "application.supervisor.programs is empty",
			Do: "name every program that writes to the database"}
	}
	c, err := newRPC(s)
	if err != nil {
		return nil, err
	}
	return &supervisor{rpc: c, programs: s.Programs, timeout: cmp.Or(time.Duration(s.Timeout), defaultTimeout), settle: settle}, nil
}

// Stop stops the programs in the configured order, and looks at all of them once more at the end.
func (s *supervisor) Stop(ctx context.Context) error {
	programs, err := s.resolve(ctx, "stop")
	if err != nil {
		return err
	}
	for _, p := range programs {
		if err := itself(p); err != nil {
			return err
		}
	}
	for _, p := range programs {
		if err := s.within(ctx, "stop", p.full(), func(ctx context.Context) error { return s.stop(ctx, p.full()) }); err != nil {
			return err
		}
	}
	state, err := s.State(ctx)
	if err != nil {
		return err
	}
	for _, p := range state.Programs {
		if p.Running {
			return &ControlError{Action: "stop", Program: p.Name, Reason: "it was seen stopped and is " + p.State + " again",
				Do: "find out who starts it (another operator, a deployment, a health check) and keep that from doing so"}
		}
	}
	return nil
}

// Start starts the programs in the reverse order.
func (s *supervisor) Start(ctx context.Context) error {
	programs, err := s.resolve(ctx, "start")
	if err != nil {
		return err
	}
	for _, p := range slices.Backward(programs) {
		if err := s.within(ctx, "start", p.full(), func(ctx context.Context) error { return s.start(ctx, p.full()) }); err != nil {
			return err
		}
	}
	return nil
}

// State asks supervisord for the state of every configured program.
func (s *supervisor) State(ctx context.Context) (State, error) {
	programs, err := s.resolve(ctx, "look at")
	if err != nil {
		return State{}, err
	}
	var st State
	for _, p := range programs {
		runs := p.State != stopped && p.State != exited && p.State != fatal
		st.Running = st.Running || runs
		st.Programs = append(st.Programs, Program{Name: p.full(), State: p.StateName, Running: runs})
	}
	return st, nil
}

// stop returns nil when the program was seen in a state that supervisord does not leave by itself.
func (s *supervisor) stop(ctx context.Context, program string) error {
	var still stillness
	return poll(ctx, lookEvery, func(ctx context.Context) (bool, error) {
		i, err := s.rpc.info(ctx, "stop", program)
		if err != nil {
			return false, err
		}
		switch i.State {
		case stopped, exited, fatal:
			return still.lasts(i, s.settle), nil
		case starting, running, backoff:
			// It returns when the program has stopped.
			err := s.rpc.call(ctx, "stop", "stopProcess", nil, program, true)
			if isFault(err, faultNotRunning) {
				err = nil
			}
			return false, s.rpc.judge("stop", program, err)
		case stopping:
			return false, nil
		default:
			return false, unknownState("stop", i)
		}
	})
}

// start returns nil when the program was seen running.
func (s *supervisor) start(ctx context.Context, program string) error {
	var still stillness
	asked := false
	return poll(ctx, lookEvery, func(ctx context.Context) (bool, error) {
		i, err := s.rpc.info(ctx, "start", program)
		if err != nil {
			return false, err
		}
		switch i.State {
		case running:
			return true, nil
		case starting, stopping, backoff: // in backoff supervisord tries again by itself, until it gives up
			return false, nil
		case stopped, exited, fatal:
			if !asked {
				asked = true
				err := s.rpc.call(ctx, "start", "startProcess", nil, program, true)
				// Its next state tells what becomes of a program that ended too soon.
				if isFault(err, faultAlreadyStarted, faultAbnormalTermination, faultSpawnError) {
					err = nil
				}
				return false, s.rpc.judge("start", program, err)
			}
			if still.lasts(i, s.settle) {
				return false, failedStart(i)
			}
			return false, nil
		default:
			return false, unknownState("start", i)
		}
	})
}

// stillness tells a program that has come to rest from one that supervisord is about to restart.
type stillness struct {
	seen  info
	since time.Time
}

func (s *stillness) lasts(i info, settle time.Duration) bool {
	// Only these two are left without anybody asking: EXITED where autorestart says so, and a program that was never started,
	// where autostart does.
	if i.State == fatal || i.State == stopped && i.Start != 0 {
		return true
	}
	if i.State != s.seen.State || i.Start != s.seen.Start || s.since.IsZero() {
		s.seen, s.since = i, time.Now()
	}
	return time.Since(s.since) >= settle
}

// within bounds one program's stop or start. Past the bound it says in which state the program stayed.
func (s *supervisor) within(ctx context.Context, action, program string, do func(context.Context) error) error {
	bounded, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	err := do(bounded)
	if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	i, err := s.rpc.info(ctx, action, program)
	if err != nil {
		return err
	}
	e := &ControlError{Action: action, Program: program, Reason: fmt.Sprintf("after %s it is %s", s.timeout, i.StateName)}
	if action == "stop" {
		e.Do = "set application.supervisor.timeout above the program's stopwaitsecs, or stop it by hand, then retry"
	} else {
		e.Do = "set application.supervisor.timeout above what it needs to start, or see " + logOf(i) + ", then retry"
	}
	return e
}

// resolve looks every configured name up, so that a misspelt one is found before anything is stopped. A group's name with
// ":*" stands for all of its processes.
func (s *supervisor) resolve(ctx context.Context, action string) ([]info, error) {
	all, err := s.rpc.all(ctx, action)
	if err != nil {
		return nil, err
	}
	var found []info
	for _, name := range s.programs {
		group, process, grouped := strings.Cut(name, ":")
		if !grouped {
			process = group
		}
		n := len(found)
		for _, i := range all {
			if i.Group == group && (i.Name == process || grouped && (process == "*" || process == "")) {
				found = append(found, i)
			}
		}
		if len(found) == n {
			return nil, noSuchProgram(action, name, all)
		}
	}
	return found, nil
}

func noSuchProgram(action, name string, all []info) error {
	var known []string
	for _, i := range all {
		switch {
		case i.Group == i.Name:
			known = append(known, i.Name)
		default:
			known = append(known, i.full())
		}
	}
	e := &ControlError{Action: action, Program: name, Reason: "supervisord has no such program",
		Do: "name one of these in application.supervisor.programs: " + strings.Join(known, ", ")}
	if len(known) == 0 {
		e.Do = "supervisord has no programs at all: is application.supervisor.url that of the right one?"
	}
	if slices.ContainsFunc(all, func(i info) bool { return i.Group == name }) {
		e.Do += fmt.Sprintf(`; "%s:*" stands for all of that group`, name)
	}
	return e
}

// itself refuses to stop the very process that has to bring everything back.
func itself(p info) error {
	ours := p.Group == os.Getenv("SUPERVISOR_GROUP_NAME") && p.Name == os.Getenv("SUPERVISOR_PROCESS_NAME")
	if ours && (p.PID == os.Getpid() || p.PID == os.Getppid()) {
		return &ControlError{Action: "stop", Program: p.full(), Reason: "that is this worker itself",
			Do: "take it out of application.supervisor.programs: only what writes to the database belongs there"}
	}
	return nil
}

func failedStart(i info) error {
	reason := "it was started and is " + i.StateName
	if i.SpawnErr != "" {
		reason += " (" + i.SpawnErr + ")"
	}
	return &ControlError{Action: "start", Program: i.full(), Reason: reason, Do: "see " + logOf(i) + ", mend the cause, then retry"}
}

func unknownState(action string, i info) error {
	return &ControlError{Action: action, Program: i.full(),
		Reason: fmt.Sprintf("supervisord does not know its state (%s), so it may still write", i.StateName),
		Do:     fmt.Sprintf("see whether process %d lives, end it by hand, restart supervisord, then retry", i.PID)}
}

func logOf(i info) string {
	return cmp.Or(i.ErrorLog, i.Log, "its log")
}
