// Package process runs parts of the sandbox as processes of their own, so that each can be killed like on a real host:
// this very program, executed again with other arguments. A process ends when its parent does, however that ended. The
// sandbox's supervisor and its world start processes with it; it supervises nothing itself.
package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Spec says what to run.
type Spec struct {
	Name    string   // for messages
	Command []string // the program and its arguments
	Env     []string // NAME=value, added to this process's own environment
	Hide    string   // variables of this process's own environment that begin so are left out
	Log     string   // file to which its output is appended; "" drops it
	// Ready is a part of the line by which the process says that it is ready; "" means ready at once.
	Ready string
}

// Self is the command that executes this very program again.
func Self(args ...string) ([]string, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return append([]string{path}, args...), nil
}

// Exit is how a process ended.
type Exit struct {
	At     time.Time
	Code   int            // -1 where a signal ended it
	Signal syscall.Signal // 0 where none did
}

// String says it in words.
func (e Exit) String() string {
	if e.Signal != 0 {
		return "ended by signal " + e.Signal.String()
	}
	return fmt.Sprintf("ended with exit code %d", e.Code)
}

// Process is a process that was started.
type Process struct {
	Name    string
	Started time.Time
	command *exec.Cmd
	output  *output
	exited  chan struct{} // closed when exit is known
	exit    Exit
}

// closeOutput is how long the output of a dead process is still read: something that it started may hold it open.
const closeOutput = 2 * time.Second

// Start starts a process and returns at once.
func Start(s Spec) (*Process, error) {
	out, err := newOutput(s.Log, s.Ready)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	end, line, err := os.Pipe()
	if err != nil {
		out.close()
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	defer end.Close()
	// Its life is not bound to a context: who starts it decides how it ends.
	c := exec.Command(s.Command[0], s.Command[1:]...) //nolint:noctx // see above
	c.Env = append(append(inherited(s.Hide), s.Env...), lifelineEnv+"=3")
	c.Stdout, c.Stderr, c.ExtraFiles = out, out, []*os.File{end}
	c.WaitDelay = closeOutput
	// A group of its own: Ctrl-C in a terminal is for the sandbox, which then ends its processes in the right order.
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p := &Process{Name: s.Name, Started: time.Now(), command: c, output: out, exited: make(chan struct{})}
	if err := c.Start(); err != nil {
		line.Close()
		out.close()
		return nil, fmt.Errorf("start %s: %w", s.Name, err)
	}
	go p.watch(line)
	return p, nil
}

// inherited is this process's environment without what begins with a prefix.
func inherited(hide string) []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return hide != "" && strings.HasPrefix(v, hide) })
}

// watch waits for the end. It holds the other end of the lifeline for as long.
func (p *Process) watch(line *os.File) {
	err := p.command.Wait()
	p.exit = Exit{At: time.Now(), Code: p.command.ProcessState.ExitCode()}
	if status, ok := p.command.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		p.exit.Signal = status.Signal()
	}
	if err != nil && p.command.ProcessState.Success() {
		p.output.note(fmt.Sprintf("%s: %v", p.Name, err))
	}
	line.Close()
	p.output.close()
	close(p.exited)
}

// PID is the process's number.
func (p *Process) PID() int { return p.command.Process.Pid }

// Exited is closed when the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Wait waits for the end.
func (p *Process) Wait(ctx context.Context) (Exit, error) {
	select {
	case <-p.exited:
		return p.exit, nil
	case <-ctx.Done():
		return Exit{}, fmt.Errorf("wait for %s: %w", p.Name, ctx.Err())
	}
}

// AwaitReady waits until the process has said that it is ready. A process that ends instead fails it, with its last words.
func (p *Process) AwaitReady(ctx context.Context) error {
	select {
	case <-p.output.ready:
		return nil
	case <-p.exited:
		return fmt.Errorf("%s %s before it was ready%s", p.Name, p.exit, p.lastWords())
	case <-ctx.Done():
		return fmt.Errorf("%s is not ready: %w%s", p.Name, ctx.Err(), p.lastWords())
	}
}

// LastLines are the last lines of its output.
func (p *Process) LastLines() []string { return p.output.last() }

func (p *Process) lastWords() string {
	lines := p.LastLines()
	if len(lines) == 0 {
		return ""
	}
	return "; its last words:\n  " + strings.Join(lines, "\n  ")
}

// Signal sends a signal. A process that has ended is no error.
func (p *Process) Signal(s syscall.Signal) error {
	if err := p.command.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s: %w", p.Name, err)
	}
	return nil
}

// Kill ends it as kill -9 does, and waits until it is gone.
func (p *Process) Kill() error {
	if err := p.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.exited
	return nil
}

// Stop asks it to end, and kills it when it has not within the grace. It returns how it ended.
func (p *Process) Stop(grace time.Duration) (Exit, error) {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return Exit{}, err
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.exited:
	case <-timer.C:
		if err := p.Kill(); err != nil {
			return Exit{}, err
		}
	}
	return p.exit, nil
}
