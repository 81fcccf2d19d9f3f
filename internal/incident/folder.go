// Package incident is the folder of one incident in storage: where the activities of a playbook keep what is too big,
// too private or too lasting for the workflow's history (plan, staging journal, mails frozen before they are sent, the
// ledger of what was sent, verification, report). It knows files only: what they mean belongs to the packages that
// write them. The activities and package mail call it.
//
// Everything in it survives a kill at any moment: whole files are replaced atomically, ledgers grow by fsynced lines.
// Folders are 0700 and files 0600, because mails and plans name people.
package incident

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/battwheels/runbook/internal/durable"
)

const (
	dirPerm  fs.FileMode = 0o700
	filePerm fs.FileMode = 0o600
)

// Folder is the folder of one incident. The zero Folder is not usable: Open makes one.
type Folder struct {
	// Dir is its path.
	Dir string
}

// NameError says that a target, an incident or a file cannot carry that name in storage.
type NameError struct {
	What, Name, Reason string
}

// Error names what is wrong and what is allowed.
func (e *NameError) Error() string {
	return fmt.Sprintf("%s %q cannot be used as a name in storage: %s; use letters, digits, '-', '_' and '.'",
		e.What, e.Name, e.Reason)
}

// Open returns the folder of an incident, STORAGE/incidents/TARGET/ID, and makes it where it is not there yet.
func Open(storageDir, target, id string) (Folder, error) {
	if storageDir == "" {
		return Folder{}, errors.New("storage.dir is empty: the incident has nowhere to keep its files")
	}
	if err := checkName("target", target); err != nil {
		return Folder{}, err
	}
	if err := checkName("incident", id); err != nil {
		return Folder{}, err
	}
	f := Folder{Dir: filepath.Join(storageDir, "incidents", target, id)}
	if err := makeDir(f.Dir); err != nil {
		return Folder{}, fmt.Errorf("make the incident's folder: %w", err)
	}
	return f, nil
}

// checkName allows one path element that looks the same on every file system and in a shell.
func checkName(what, name string) error {
	switch {
	case name == "":
		return &NameError{what, name, "it is empty"}
	case len(name) > 200:
		return &NameError{what, name, "it is longer than 200 bytes"}
	case name[0] == '.' || name[0] == '-':
		return &NameError{what, name, fmt.Sprintf("it begins with %q", name[0])}
	}
	for _, r := range name {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		digit := r >= '0' && r <= '9'
		if !letter && !digit && !strings.ContainsRune("-_.", r) {
			return &NameError{what, name, fmt.Sprintf("it contains %q", r)}
		}
	}
	return nil
}

// makeDir is MkdirAll that outlives a power cut: each directory it makes is synced into its parent.
func makeDir(dir string) error {
	if info, err := os.Stat(dir); err == nil {
		if !info.IsDir() {
			return &fs.PathError{Op: "mkdir", Path: dir, Err: errors.New("a file of that name is in the way")}
		}
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := makeDir(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, dirPerm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return durable.SyncDir(parent)
}

// Path returns the path of a file of the folder. The name may have directories in it ("staging/a.json") and always
// uses slashes; a name that leads out of the folder is refused by every method that takes one.
func (f Folder) Path(name string) string { return filepath.Join(f.Dir, filepath.FromSlash(name)) }

func (f Folder) checked(name string) (string, error) {
	if !fs.ValidPath(name) || name == "." || !filepath.IsLocal(filepath.FromSlash(name)) {
		return "", &NameError{"file", name, "it leads out of the incident's folder"}
	}
	return f.Path(name), nil
}

// WriteFile writes a file whole or not at all: after it returned, a crash finds the new content; before, the old.
func (f Folder) WriteFile(name string, data []byte) error {
	path, err := f.checked(name)
	if err != nil {
		return err
	}
	if err := makeDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := durable.WriteFile(path, data, filePerm); err != nil {
		return fmt.Errorf("write %s in the incident's folder: %w", name, err)
	}
	return nil
}

// ReadFile reads a file. The error is fs.ErrNotExist where it is not there.
func (f Folder) ReadFile(name string) ([]byte, error) {
	path, err := f.checked(name)
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// PutJSON writes v as indented JSON, like WriteFile.
func (f Folder) PutJSON(name string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	return f.WriteFile(name, append(data, '\n'))
}

// GetJSON reads what PutJSON wrote into v. The error is fs.ErrNotExist where it is not there.
func (f Folder) GetJSON(name string, v any) error {
	data, err := f.ReadFile(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s of the incident's folder is damaged; move it away to have it made again: %w", f.Path(name), err)
	}
	return nil
}
