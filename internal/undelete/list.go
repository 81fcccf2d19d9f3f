package undelete

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"time"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/durable"
)

// entry is a line of the lists of documents.
type entry struct {
	Collection   string          `json:"collection"`
	ID           json.RawMessage `json:"id"`                     // {"_id": …}
	Key          string          `json:"key,omitempty"`          // by which the application knows it
	Organization string          `json:"organization,omitempty"` //
	// Backup holds the document; "" where it comes from an audit log's snapshot. Rank is how many newer backups there are.
	Backup string `json:"backup,omitempty"`
	Rank   int    `json:"rank"`
	// It vanished between these.
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Content is the hash of the document's bytes: a backup that was damaged since cannot bring back another one.
	Content string    `json:"content"`
	Bytes   int64     `json:"bytes"`
	Expires time.Time `json:"expires,omitzero"`
	// Values are the texts of the fields by which it belongs to others, or others to it.
	Values map[string]string `json:"values,omitempty"`
	Why    *Why              `json:"why,omitempty"`
	// Document is its raw BSON, where it comes from a snapshot.
	Document []byte `json:"document,omitempty"`
	// NewID says that the snapshot had no _id, so that it gets one of ours.
	NewID     bool `json:"newID,omitempty"`
	Dependant bool `json:"dependant,omitempty"` // came along with another one
}

// Why is the audit entry that tells of a document's deletion.
type Why struct {
	At     time.Time `json:"at"`
	By     string    `json:"by,omitempty"` // the user's id
	Action string    `json:"action"`
	Log    string    `json:"log"` // the collection, or "api"
}

// hash identifies the document that an entry is about within its collection.
func (e *entry) hash() (backup.Hash, error) {
	id, err := decodeID(e.ID)
	if err != nil {
		return backup.Hash{}, fmt.Errorf("the _id %s in a list of %s: %w", e.ID, e.Collection, err)
	}
	return hashOf(id), nil
}

// list writes a file of JSON lines, which is there whole or not at all.
type list struct {
	dir, name string
	file      *os.File
	w         *bufio.Writer
	lines     int64
	digest    backup.Digest // of the lines, whatever their order
	done      bool
}

func newList(dir, name string) (*list, error) {
	f, err := os.CreateTemp(dir, "."+name+".*.tmp")
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", name, err)
	}
	return &list{dir: dir, name: name, file: f, w: bufio.NewWriterSize(f, 64<<10)}, nil
}

func (l *list) add(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s: %w", l.name, err)
	}
	l.lines++
	l.digest.Add(line)
	if _, err := l.w.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write %s: %w", l.name, err)
	}
	return nil
}

// commit makes the file durable under its name.
func (l *list) commit() error {
	err := errors.Join(l.w.Flush(), l.file.Sync(), l.file.Close())
	if err == nil {
		err = durable.Rename(l.file.Name(), filepath.Join(l.dir, l.name))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", l.name, err)
	}
	l.done = true
	return nil
}

// drop removes what was written, unless it was committed.
func (l *list) drop() error {
	if l.done {
		return nil
	}
	err := l.file.Close()
	if errors.Is(err, os.ErrClosed) {
		err = nil
	}
	return errors.Join(err, os.Remove(l.file.Name()))
}

// lines reads a file of JSON lines. It was written whole, so that a line that cannot be read is an error.
func lines[T any](dir, name string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			yield(zero, fmt.Errorf("read %s: %w", name, err))
			return
		}
		defer func() { _ = f.Close() }()
		r := bufio.NewReaderSize(f, 64<<10)
		for n := 1; ; n++ {
			line, err := r.ReadBytes('\n')
			if errors.Is(err, io.EOF) && len(line) == 0 {
				return
			}
			var v T
			if err == nil {
				err = json.Unmarshal(line, &v)
			}
			if err != nil {
				yield(zero, fmt.Errorf("line %d of %s is damaged: run the step that writes it again: %w", n, f.Name(), err))
				return
			}
			if !yield(v, nil) {
				return
			}
		}
	}
}

// digestOf returns the digest of a list's lines, whatever their order.
func digestOf(dir, name string) (backup.Digest, error) {
	var d backup.Digest
	for line, err := range lines[json.RawMessage](dir, name) {
		if err != nil {
			return backup.Digest{}, err
		}
		d.Add(bytes.TrimSpace(line))
	}
	return d, nil
}

func saveJSON(dir, name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return durable.WriteFile(filepath.Join(dir, name), append(b, '\n'), 0o600)
}
