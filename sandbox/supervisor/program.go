package supervisor

import (
	"cmp"
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/battwheels/runbook/sandbox/process"
)

// State is a program's state, as supervisor's documentation numbers it.
type State int

// The states of a program.
const (
	Stopped  State = 0
	Starting State = 10
	Running  State = 20
	Backoff  State = 30
	Stopping State = 40
	Exited   State = 100
	Fatal    State = 200
)

// String is the state's name in supervisor's words.
func (s State) String() string {
	switch s {
	case Stopped:
		return "STOPPED"
	case Starting:
		return "STARTING"
	case Running:
		return "RUNNING"
	case Backoff:
		return "BACKOFF"
	case Stopping:
		return "STOPPING"
	case Exited:
		return "EXITED"
	case Fatal:
		return "FATAL"
	default:
		return "UNKNOWN"
	}
}

// alive says whether supervisor counts the state among those that run.
func (s State) alive() bool { return s == Starting || s == Running || s == Backoff }

// program is one program and what became of it. Its goroutine run is the only one that starts and ends processes.
type program struct {
	conf Program
	log  *slog.Logger

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced at every change of the below
	state    State
	process  *process.Process // while one lives
	last     *process.Process // the newest, dead or alive
	spawnErr string
	started  time.Time
	stopped  time.Time
	exitCode int
	closing  bool
	done     bool // run has returned
}

func newProgram(c Program, log *slog.Logger) *program {
	c.StartSeconds = cmp.Or(c.StartSeconds, time.Second)
	c.StartRetries = cmp.Or(c.StartRetries, 3)
	c.StopWait = cmp.Or(c.StopWait, 10*time.Second)
	return &program{conf: c, log: log.With("program", c.Spec.Name), changed: make(chan struct{})}
}

func (p *program) name() string { return p.conf.Spec.Name }

// update changes the program under its lock and tells who waits.
func (p *program) update(f func()) {
	p.mu.Lock()
	before := p.state
	f()
	after := p.state
	close(p.changed)
	p.changed = make(chan struct{})
	p.mu.Unlock()
	if after != before {
		p.log.Info("state", "from", before.String(), "to", after.String())
	}
}

// await waits until ok, which is called under the lock.
func (p *program) await(ctx context.Context, ok func() bool) error {
	for {
		p.mu.Lock()
		met, changed := ok(), p.changed
		p.mu.Unlock()
		if met {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// start asks for a process. The state says so at once.
func (p *program) start() error {
	var refused error
	p.update(func() {
		switch {
		case p.state.alive():
			refused = fault{alreadyStarted, "ALREADY_STARTED: " + p.name()}
		case p.state == Stopping:
			refused = fault{abnormalTermination, "ABNORMAL_TERMINATION: " + p.name()}
		case p.closing:
			refused = fault{shutdownState, "SHUTDOWN_STATE"}
		default:
			p.state, p.spawnErr = Starting, ""
		}
	})
	return refused
}

// stop asks for the end of the process. The state says so at once.
func (p *program) stop() error {
	var refused error
	p.update(func() {
		if !p.state.alive() {
			refused = fault{notRunning, "NOT_RUNNING: " + p.name()}
			return
		}
		p.state = Stopping
	})
	return refused
}

// close stops the program for good.
func (p *program) close(ctx context.Context) error {
	p.update(func() {
		p.closing = true
		if p.state.alive() {
			p.state = Stopping
		}
	})
	return p.await(ctx, func() bool { return p.done })
}

// run does what the state asks for, until the program is closed.
func (p *program) run() {
	defer p.update(func() { p.done = true })
	tries := 0
	for {
		var state State
		var closing bool
		// The context never ends: closing does.
		_ = p.await(context.Background(), func() bool {
			state, closing = p.state, p.closing
			return state == Starting || state == Stopping || closing
		})
		switch {
		case state == Starting:
			if p.live() {
				tries = 0
				continue
			}
			tries++
			p.retry(tries)
			if p.now() != Starting {
				tries = 0
			}
		case state == Stopping:
			p.update(func() { p.state, p.stopped = Stopped, time.Now() })
		case closing:
			return
		}
	}
}

func (p *program) now() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// live runs one process to its end, whoever brings that about. It returns false where the process did not live long enough to
// count as started.
func (p *program) live() bool {
	child, err := process.Start(p.conf.Spec)
	if err != nil {
		p.update(func() { p.spawnErr = err.Error() })
		return false
	}
	p.update(func() { p.process, p.last, p.started = child, child, time.Now() })
	young := time.NewTimer(p.conf.StartSeconds)
	defer young.Stop()
	grown := false
	for {
		p.mu.Lock()
		changed, stopping := p.changed, p.state == Stopping
		p.mu.Unlock()
		if stopping {
			p.end(child)
			return true
		}
		select {
		case <-changed:
		case <-young.C:
			grown = true
			p.update(func() {
				if p.state == Starting {
					p.state = Running
				}
			})
		case <-child.Exited():
			return p.ended(child, grown)
		}
	}
}

// end stops the process: TERM, and KILL when that does not help in time.
func (p *program) end(child *process.Process) {
	exit, err := child.Stop(p.conf.StopWait)
	if err != nil {
		p.log.Error("stop", "error", err)
	}
	p.update(func() { p.process, p.state, p.stopped, p.exitCode = nil, Stopped, exit.At, exit.Code })
}

// ended is for a process that nobody stopped, or that was faster than who wanted to.
func (p *program) ended(child *process.Process, grown bool) bool {
	exit, _ := child.Wait(context.Background()) // it has ended
	p.log.Warn("ended by itself", "exit", exit.String())
	p.update(func() {
		p.process, p.stopped, p.exitCode = nil, exit.At, exit.Code
		switch {
		case p.state == Stopping:
			p.state = Stopped
		case !grown:
			p.spawnErr = "Exited too quickly (process log may have details)"
		case p.conf.AutoRestart && !p.closing:
			p.state = Starting
		default:
			p.state = Exited
		}
	})
	return grown || p.now() == Stopped
}

// retry waits a second longer after each try that failed, like supervisor, and gives up in the end.
func (p *program) retry(tries int) {
	gaveUp := tries > p.conf.StartRetries
	p.update(func() {
		switch {
		case p.state == Stopping:
		case gaveUp:
			p.state = Fatal
		default:
			p.state = Backoff
		}
	})
	if gaveUp || p.now() != Backoff {
		return
	}
	pause, cancel := context.WithTimeout(context.Background(), time.Duration(tries)*time.Second)
	defer cancel()
	if p.await(pause, func() bool { return p.state != Backoff }) == nil {
		return
	}
	p.update(func() {
		if p.state == Backoff {
			p.state = Starting
		}
	})
}

func (p *program) lastWords() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == nil {
		return p.spawnErr
	}
	return cmp.Or(strings.Join(p.last.LastLines(), "\n"), p.spawnErr)
}
