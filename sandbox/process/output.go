package process

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// kept is how many of the last lines are remembered for messages.
const kept = 12

// longestLine bounds what is held of a line without an end.
const longestLine = 64 << 10

// output takes what a process prints: into its log, and line by line into memory.
type output struct {
	ready chan struct{}

	mu    sync.Mutex
	file  *os.File // nil where there is no log
	sign  string
	lines []string
	rest  []byte // of a line that has not ended
	said  bool   // that it is ready
}

func newOutput(log, sign string) (*output, error) {
	o := &output{ready: make(chan struct{}), sign: sign}
	if sign == "" {
		o.said = true
		close(o.ready)
	}
	if log == "" {
		return o, nil
	}
	if err := os.MkdirAll(filepath.Dir(log), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	o.file = f
	return o, nil
}

// Write takes output. It never fails: a full disk must not end the process that prints.
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.file != nil {
		_, _ = o.file.Write(b)
	}
	o.rest = append(o.rest, b...)
	for {
		line, rest, found := bytes.Cut(o.rest, []byte("\n"))
		if !found && len(o.rest) < longestLine {
			return len(b), nil
		}
		o.take(string(line))
		o.rest = slices.Clone(rest)
	}
}

// take remembers a line. The lock is held.
func (o *output) take(line string) {
	o.lines = append(o.lines, line)
	if len(o.lines) > kept {
		o.lines = o.lines[len(o.lines)-kept:]
	}
	if !o.said && strings.Contains(line, o.sign) {
		o.said = true
		close(o.ready)
	}
}

func (o *output) note(line string) { _, _ = o.Write([]byte(line + "\n")) }

func (o *output) last() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	lines := slices.Clone(o.lines)
	if len(o.rest) > 0 {
		lines = append(lines, string(o.rest))
	}
	return lines
}

func (o *output) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.file != nil {
		_ = o.file.Close()
		o.file = nil
	}
}
