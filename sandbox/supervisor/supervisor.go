// Package supervisor stands in for supervisord: it keeps real child processes running, and is told to stop and start them
// through supervisor's own XML-RPC on a unix socket, with supervisor's states and fault codes. It has what the product uses
// of it and what shows in its answers, and reads no configuration files. The sandbox's world runs the application under it; the
// product's own client in internal/appcontrol talks to it.
package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/battwheels/runbook/sandbox/process"
)

// Program is what one program's section of supervisord.conf says.
type Program struct {
	Spec         process.Spec
	AutoStart    bool
	AutoRestart  bool          // whenever it ends without having been told to
	StartSeconds time.Duration // how long it must live to count as started; 0 means supervisor's default of a second
	StartRetries int           // after the first try; 0 means supervisor's default of 3
	StopWait     time.Duration // between TERM and KILL; 0 means supervisor's default of 10 s
}

// Config says what to supervise.
type Config struct {
	Socket   string // path of the unix socket
	Programs []Program
	Log      *slog.Logger // default slog.Default()
}

// Supervisor is a running supervisor.
type Supervisor struct {
	socket   string
	programs []*program // by name
	server   *http.Server
	served   chan error
	closing  chan struct{}
}

// Start listens, and starts the programs that start by themselves.
func Start(c Config) (*Supervisor, error) {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	// A socket that a killed supervisor left is in the way, and of no use to anybody.
	if err := os.Remove(c.Socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("supervisor: %w", err)
	}
	listener, err := net.Listen("unix", c.Socket)
	if err != nil {
		return nil, fmt.Errorf("supervisor: listen: %w", err)
	}
	if err := os.Chmod(c.Socket, 0o700); err != nil {
		return nil, errors.Join(fmt.Errorf("supervisor: %w", err), listener.Close())
	}
	s := &Supervisor{socket: c.Socket, served: make(chan error, 1), closing: make(chan struct{})}
	for _, p := range c.Programs {
		s.programs = append(s.programs, newProgram(p, c.Log))
	}
	slices.SortFunc(s.programs, func(a, b *program) int {
		if a.name() < b.name() {
			return -1
		}
		return 1
	})
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: 5 * time.Second}
	go func() { s.served <- s.server.Serve(listener) }()
	for _, p := range s.programs {
		go p.run()
		if p.conf.AutoStart {
			_ = p.start() // it is stopped: this cannot be refused
		}
	}
	return s, nil
}

// URL is the socket as the product's configuration takes it.
func (s *Supervisor) URL() string { return "unix://" + s.socket }

// AwaitReady waits until a program runs and has said that it is ready.
func (s *Supervisor) AwaitReady(ctx context.Context, name string) error {
	p := s.find(name)
	if p == nil {
		return fmt.Errorf("supervisor: no program %s", name)
	}
	var state State
	var child *process.Process
	err := p.await(ctx, func() bool {
		state, child = p.state, p.process
		return state == Running || state == Fatal
	})
	if err != nil {
		return fmt.Errorf("supervisor: %s is %s: %w", name, state, err)
	}
	if state == Fatal {
		return fmt.Errorf("supervisor: %s does not start: %s", name, p.lastWords())
	}
	return child.AwaitReady(ctx)
}

// Stop stops a program and waits until it has. One that is stopped is no error.
func (s *Supervisor) Stop(ctx context.Context, name string) error {
	p := s.find(name)
	if p == nil {
		return fmt.Errorf("supervisor: no program %s", name)
	}
	_ = p.stop() // refused where it does not run
	return p.await(ctx, func() bool { return p.state == Stopped || p.state == Exited || p.state == Fatal })
}

// Start starts a program, and does not wait. One that runs is no error.
func (s *Supervisor) Start(name string) error {
	p := s.find(name)
	if p == nil {
		return fmt.Errorf("supervisor: no program %s", name)
	}
	err := p.start()
	if f, ok := errors.AsType[fault](err); ok && f.code == alreadyStarted {
		return nil
	}
	return err
}

// Process returns the running process of a program, or nil.
func (s *Supervisor) Process(name string) *process.Process {
	p := s.find(name)
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.process
}

// Close stops every program like supervisord does when it ends, and then itself.
func (s *Supervisor) Close(ctx context.Context) error {
	close(s.closing)
	var errs []error
	for _, p := range slices.Backward(s.programs) {
		errs = append(errs, p.close(ctx))
	}
	if err := s.server.Shutdown(ctx); err != nil {
		errs = append(errs, err, s.server.Close())
	}
	if err := <-s.served; !errors.Is(err, http.ErrServerClosed) {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("supervisor: close: %w", err)
	}
	return nil
}

// find returns the program of a name, which may be given with its group: every program is a group of its own.
func (s *Supervisor) find(name string) *program {
	i := slices.IndexFunc(s.programs, func(p *program) bool {
		return name == p.name() || name == p.name()+":"+p.name()
	})
	if i < 0 {
		return nil
	}
	return s.programs[i]
}
