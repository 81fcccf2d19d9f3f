package process

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"
)

// lifelineEnv names the file descriptor of a pipe that ends with the parent. The death signal of Linux would do the same
// only for as long as the thread lives that started the child.
const lifelineEnv = "RUNBOOK_SANDBOX_LIFELINE"

// ErrOrphaned is the cause of a context that ended because the parent did.
var ErrOrphaned = errors.New("the process that started this one is gone")

// Context is the context of a process that Start started: it ends with SIGTERM or SIGINT, and when the parent is gone. In
// a process that nobody here started, it ends with the signals only.
func Context(parent context.Context) (context.Context, context.CancelFunc) {
	signaled, stop := signal.NotifyContext(parent, os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithCancelCause(signaled)
	if fd, err := strconv.Atoi(os.Getenv(lifelineEnv)); err == nil {
		// What this process starts has a lifeline of its own, or none.
		_ = os.Unsetenv(lifelineEnv)
		syscall.CloseOnExec(fd)
		// What it prints goes to the parent. Words to a dead one must not be the end of what still wants to end well.
		signal.Ignore(syscall.SIGPIPE)
		line := os.NewFile(uintptr(fd), "lifeline")
		go func() {
			_, _ = io.Copy(io.Discard, line)
			cancel(ErrOrphaned)
		}()
	}
	return ctx, func() {
		cancel(nil)
		stop()
	}
}
