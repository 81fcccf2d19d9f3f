package appcontrol

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/battwheels/runbook/internal/config"
)

// stateStopped is the exit code of a state command that means stopped, as init scripts and systemctl have it.
const stateStopped = 3

// stateEvery is how often the state command is run while a change is awaited.
const stateEvery = 500 * time.Millisecond

// command drives an application by the user's own commands. They are run without a shell, in the worker's environment.
type command struct {
	config.Command
	timeout time.Duration
	every   time.Duration
}

func newCommand(c config.Command) (*command, error) {
	for name, argv := range map[string][]string{"stop": c.Stop, "start": c.Start, "state": c.State} {
		if len(argv) == 0 || argv[0] == "" {
			return nil, &ControlError{Action: "control the application", Reason: "application.command." + name + " is empty",
				Do: "write the program and its arguments as a list; state must exit 0 while the application runs and 3 when it is stopped"}
		}
	}
	return &command{Command: c, timeout: cmp.Or(time.Duration(c.Timeout), defaultTimeout), every: stateEvery}, nil
}

// Stop runs the stop command, unless the application is stopped already, and waits until the state command says so.
func (c *command) Stop(ctx context.Context) error {
	return c.change(ctx, "stop", c.Command.Stop, stateStopped)
}

// Start runs the start command, unless the application runs already, and waits until the state command says so.
func (c *command) Start(ctx context.Context) error { return c.change(ctx, "start", c.Command.Start, 0) }

// State runs the state command.
func (c *command) State(ctx context.Context) (State, error) {
	bounded, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	r, err := run(bounded, "look at", c.Command.State)
	if err != nil {
		if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
			return State{}, &UnavailableError{Action: "look at the application", Where: c.Command.State[0], Err: fmt.Errorf("it did not end within %s", c.timeout)}
		}
		return State{}, err
	}
	p := Program{Name: "application", Running: r.code != stateStopped}
	switch r.code {
	case 0:
		p.State = "running"
	case stateStopped:
		p.State = "stopped"
	default:
		return State{}, &UnavailableError{Action: "look at the application", Where: c.Command.State[0],
			Err: fmt.Errorf("it must exit 0 for running or %d for stopped, and %s", stateStopped, r)}
	}
	return State{Running: p.Running, Programs: []Program{p}}, nil
}

func (c *command) change(ctx context.Context, action string, argv []string, want int) error {
	bounded, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	last, err := run(bounded, action, c.Command.State)
	if err != nil {
		return c.outcome(ctx, action, "its state is not known", err)
	}
	if last.code == want {
		return nil
	}
	did, err := run(bounded, action, argv)
	if err != nil {
		return c.outcome(ctx, action, "the command "+argv[0]+" has not ended", err)
	}
	err = poll(bounded, c.every, func(ctx context.Context) (bool, error) {
		last, err = run(ctx, action, c.Command.State)
		if err != nil || last.code == want {
			return err == nil, err
		}
		if did.code != 0 {
			return false, &ControlError{Action: action, Program: "the application", Reason: argv[0] + " " + did.String(),
				Do: "run the command by hand as the worker's user, mend the cause, then retry"}
		}
		return false, nil
	})
	return c.outcome(ctx, action, c.Command.State[0]+" "+last.String(), err)
}

// outcome names what was waited for, where the time is over.
func (c *command) outcome(ctx context.Context, action, seen string, err error) error {
	if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &ControlError{Action: action, Program: "the application", Reason: fmt.Sprintf("after %s %s", c.timeout, seen),
		Do: "set application.command.timeout above what it needs, or see to it by hand, then retry"}
}

// ran is how a command ended.
type ran struct {
	code int
	said string // the end of what it wrote to standard error
}

func (r ran) String() string {
	s := fmt.Sprintf("exited %d", r.code)
	if r.said != "" {
		s += " (" + r.said + ")"
	}
	return s
}

// run runs a command to its end. A command that exits with any code has run; an error means that it could not be run, or that
// ctx ended first.
func run(ctx context.Context, action string, argv []string) (ran, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	// A file and no pipe: a daemon that the start command leaves behind keeps what it inherits, and must neither hold up the
	// wait nor find its standard error closed.
	said, err := os.CreateTemp("", "runbook-stderr-*")
	if err != nil {
		return ran{}, fmt.Errorf("%s: %w", action, err)
	}
	defer said.Close()
	if err := os.Remove(said.Name()); err != nil {
		return ran{}, fmt.Errorf("%s: %w", action, err)
	}
	cmd.Stderr = said
	// What the command has started ends with it, where it has to be cut short.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	err = cmd.Run()
	if ctx.Err() != nil {
		return ran{}, ctx.Err()
	}
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		return ran{}, &ControlError{Action: action, Program: "the application", Reason: err.Error(),
			Do: "see that application.command names a program that the worker's user may execute"}
	}
	return ran{code: cmd.ProcessState.ExitCode(), said: lastLine(said)}, nil
}

// lastLine is the last line of a file, short enough for a message.
func lastLine(f *os.File) string {
	const most = 200
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return ""
	}
	b := make([]byte, min(end, 4096))
	if _, err := f.ReadAt(b, end-int64(len(b))); err != nil {
		return ""
	}
	s := strings.TrimSpace(strings.ToValidUTF8(string(b), ""))
	s = strings.TrimSpace(s[strings.LastIndexByte(s, '\n')+1:])
	return strings.ToValidUTF8(s[:min(len(s), most)], "")
}
