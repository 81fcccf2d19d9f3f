package incident

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"

	"github.com/battwheels/runbook/internal/durable"
)

// Append adds v as one line of JSON to a ledger and returns once the line is on disk. A line that a crash cut short
// was never acknowledged: Append closes it with a line break, so that it cannot swallow the next one, and Lines passes
// over it.
func (f Folder) Append(name string, v any) error {
	path, err := f.checked(name)
	if err != nil {
		return err
	}
	line, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode a line of %s: %w", name, err)
	}
	if err := f.appendLine(path, append(line, '\n')); err != nil {
		return fmt.Errorf("append to %s in the incident's folder: %w", name, err)
	}
	return nil
}

func (f Folder) appendLine(path string, line []byte) (err error) {
	_, statErr := os.Lstat(path)
	created := errors.Is(statErr, fs.ErrNotExist)
	if created {
		if err := makeDir(filepath.Dir(path)); err != nil {
			return err
		}
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, filePerm)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()

	info, err := file.Stat()
	if err != nil {
		return err
	}
	if size := info.Size(); size > 0 {
		last := make([]byte, 1)
		if _, err := file.ReadAt(last, size-1); err != nil {
			return err
		}
		if last[0] != '\n' {
			line = append([]byte{'\n'}, line...)
		}
	}
	// One write, so that two attempts of one step that overlap cannot mix their lines.
	if _, err := file.Write(line); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	if created {
		return durable.SyncDir(filepath.Dir(path))
	}
	return nil
}

// Lines reads a ledger in the order in which it was written, each line decoded into a T. A ledger that was never
// written is empty. Lines that are not JSON (cut short by a crash before they were acknowledged) are passed over.
func Lines[T any](f Folder, name string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		data, err := f.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		if err != nil {
			yield(zero, fmt.Errorf("read %s of the incident's folder: %w", name, err))
			return
		}
		for line := range bytes.Lines(data) {
			if !json.Valid(line) {
				continue
			}
			var v T
			if err := json.Unmarshal(line, &v); err != nil {
				yield(zero, fmt.Errorf("a line of %s is not what this version of runbook writes: %w", f.Path(name), err))
				return
			}
			if !yield(v, nil) {
				return
			}
		}
	}
}
