package restore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/battwheels/runbook/internal/durable"
)

// The files that an attempt keeps in its directory.
const (
	stagedJournal = "staged.journal" // a line for each collection that was loaded whole
	provenJournal = "proven.journal" // a line for each one that was read back and equals the backup
	stagingFile   = "staging.json"
	swapFile      = "swap.json"
)

// journal is a file of JSON lines. A process may die while it writes one: such a
// line is worth nothing, and the next one begins on a line of its own.
type journal[E any] struct {
	mu   sync.Mutex
	file *os.File
}

// openJournal reads a journal's entries, and opens it for more.
func openJournal[E any](dir, name string) (*journal[E], []E, error) {
	path := filepath.Join(dir, name)
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("read journal: %w", err)
	}
	var entries []E
	for line := range bytes.Lines(b) {
		var e E
		if bytes.HasSuffix(line, []byte("\n")) && json.Unmarshal(line, &e) == nil {
			entries = append(entries, e)
		}
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("open journal: %w", err)
	}
	if len(b) > 0 && b[len(b)-1] != '\n' {
		_, err = f.WriteString("\n")
	}
	if err = errors.Join(err, durable.SyncDir(dir)); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open journal: %w", err), f.Close())
	}
	return &journal[E]{file: f}, entries, nil
}

// add appends entries. They are on disk when add returns.
func (j *journal[E]) add(entries ...E) error {
	if err := j.note(entries...); err != nil {
		return err
	}
	if err := j.file.Sync(); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

// note appends entries that a power cut may take away again: what they say is then only found out once more.
func (j *journal[E]) note(entries ...E) error {
	var lines []byte
	for _, e := range entries {
		line, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("write journal: %w", err)
		}
		lines = append(append(lines, line...), '\n')
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, err := j.file.Write(lines); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

func (j *journal[E]) close() error { return j.file.Close() }

// save writes a value as JSON to the directory, durably.
func save(dir, name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("save %s: %w", name, err)
	}
	return durable.WriteFile(filepath.Join(dir, name), append(b, '\n'), 0o600)
}

// load reads what save wrote. Where there is nothing it is fs.ErrNotExist.
func load(dir, name string, v any) error {
	path := filepath.Join(dir, name)
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}
