// Package appcontrol stops, starts and checks the programs that write to a target's database. What it says of them is what it
// has seen: Stop returns when every program was seen stopped, Start when every one was seen running, and health is the
// application's own words and not its HTTP status.
//
// It does not prove that nobody else writes to the database (package restore does, by looking at the database), and it decides
// nothing: when to stop and what to do when that fails is the playbooks' matter. The activities call it, and the sandbox
// exercises it against real programs.
//
// Everything here may be called twice: a program that is stopped already is stopped, and one that runs already is started.
package appcontrol

import (
	"context"
	"time"

	"github.com/battwheels/runbook/internal/config"
)

// defaultTimeout bounds the stop and the start of one program where the configuration does not.
const defaultTimeout = time.Minute

// Controller stops and starts everything that a target's configuration names as a writer.
//
// Errors are of two kinds. A *ControlError will come again until a person changes something. An *UnavailableError may pass:
// calling again is safe and the thing to do. When ctx ends, its error is returned, and what was under way goes on without being
// watched.
type Controller interface {
	// Stop stops every program, in the configured order, and returns nil only when all were seen stopped at the end.
	Stop(ctx context.Context) error
	// Start starts every program, in the reverse order, and returns nil only when each was seen running.
	Start(ctx context.Context) error
	// State looks, and changes nothing.
	State(ctx context.Context) (State, error)
}

// State is what was seen of an application.
type State struct {
	// Running says that at least one program may still write: all that is not for certain stopped counts.
	Running  bool
	Programs []Program
}

// Program is what was seen of one program.
type Program struct {
	Name    string
	State   string // in the words of what supervises it
	Running bool   // it may still write
}

// New makes the controller that a target's configuration asks for.
func New(a config.Application) (Controller, error) {
	named := 0
	for _, is := range []bool{a.Supervisor != nil, a.Kubernetes != nil, a.Command != nil, a.None} {
		if is {
			named++
		}
	}
	if named != 1 {
		return nil, &ControlError{
			Action: "control the application",
			Reason: "application must name exactly one of supervisor, kubernetes, command and none",
			Do:     `write "none: true" only where nothing has to be stopped`,
		}
	}
	switch {
	case a.Supervisor != nil:
		return newSupervisor(*a.Supervisor)
	case a.Kubernetes != nil:
		return newKubernetes(*a.Kubernetes)
	case a.Command != nil:
		return newCommand(*a.Command)
	default:
		return none{}, nil
	}
}

// none is for targets whose configuration says out loud that there is nothing to stop.
type none struct{}

func (none) Stop(ctx context.Context) error           { return ctx.Err() }
func (none) Start(ctx context.Context) error          { return ctx.Err() }
func (none) State(ctx context.Context) (State, error) { return State{}, ctx.Err() }

// poll calls look at once and then every interval, until it says that it is done, fails, or ctx ends.
func poll(ctx context.Context, every time.Duration, look func(context.Context) (done bool, err error)) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		done, err := look(ctx)
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
