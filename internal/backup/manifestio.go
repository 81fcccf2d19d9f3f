package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/battwheels/runbook/internal/durable"
)

// Format is the manifest's format that this version writes and reads.
const Format = 1

// The manifest's last lines, which hold its checksum. The checksum is checked on the bytes, before anything in them is
// believed.
const (
	checksumHead = "  \"checksum\": \""
	checksumTail = "\"\n}\n"
	maxManifest  = 1 << 30
)

// WriteManifest completes m with its format and checksum and writes it to dir durably. It is the last thing that is
// written of a backup. Times become UTC and embedded JSON compact, so that m equals what ReadManifest returns later.
func WriteManifest(dir string, m *Manifest) error {
	if err := normalize(m); err != nil {
		return fmt.Errorf("manifest of %s: %w", m.Name, err)
	}
	if err := m.check(); err != nil {
		return fmt.Errorf("manifest of %s: %w", m.Name, err)
	}
	m.Format = Format
	m.Checksum = ""
	b, err := encode(m)
	if err != nil {
		return fmt.Errorf("manifest of %s: %w", m.Name, err)
	}
	sum := sha256.Sum256(b)
	m.Checksum = hex.EncodeToString(sum[:])
	if b, err = encode(m); err != nil {
		return fmt.Errorf("manifest of %s: %w", m.Name, err)
	}
	return durable.WriteFile(filepath.Join(dir, ManifestName), b, 0o640)
}

// ReadManifest reads a manifest, given its path or that of the directory that holds it. Whatever differs from what
// WriteManifest wrote, be it one byte, is a *CorruptError. A missing manifest is fs.ErrNotExist.
func ReadManifest(path string) (*Manifest, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, ManifestName)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxManifest))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	corrupt := func(reason string, args ...any) (*Manifest, error) {
		return nil, &CorruptError{File: path, Reason: fmt.Sprintf(reason, args...)}
	}
	if !intact(b) {
		return corrupt("its checksum does not match its content")
	}
	var head struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return corrupt("it is not JSON: %v", err)
	}
	if head.Format > Format {
		return nil, &FormatError{File: path, Format: head.Format}
	}
	m := new(Manifest)
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(m); err != nil {
		return corrupt("%v", err)
	}
	if again, err := encode(m); err != nil || !bytes.Equal(again, b) {
		return corrupt("it does not have the form that runbook writes")
	}
	if err := m.check(); err != nil {
		return corrupt("%v", err)
	}
	if err := normalize(m); err != nil {
		return corrupt("%v", err)
	}
	return m, nil
}

// intact checks the checksum on the bytes of a manifest.
func intact(b []byte) bool {
	end := len(b) - len(checksumTail)
	start := end - 2*sha256.Size
	head := start - len(checksumHead)
	if head < 0 || string(b[head:start]) != checksumHead || string(b[end:]) != checksumTail {
		return false
	}
	h := sha256.New()
	h.Write(b[:start])
	h.Write(b[end:])
	return hex.EncodeToString(h.Sum(nil)) == string(b[start:end])
}

func encode(m *Manifest) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(m); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// normalize gives m the one form in which it is compared: UTC, compact JSON, collections by name.
func normalize(m *Manifest) error {
	m.StartedAt = m.StartedAt.UTC().Round(0)
	m.FinishedAt = m.FinishedAt.UTC().Round(0)
	slices.SortFunc(m.Collections, func(a, b Collection) int { return strings.Compare(a.Name, b.Name) })
	for i := range m.Collections {
		c := &m.Collections[i]
		c.ReadFrom, c.ReadTo = c.ReadFrom.UTC().Round(0), c.ReadTo.UTC().Round(0)
		if err := compact(&c.Options); err != nil {
			return fmt.Errorf("options of %s: %w", c.Name, err)
		}
		for j := range c.Ranges {
			if err := errors.Join(compact(&c.Ranges[j].From), compact(&c.Ranges[j].To)); err != nil {
				return fmt.Errorf("range %d of %s: %w", j, c.Name, err)
			}
		}
		for j := range c.Indexes {
			if err := compact(&c.Indexes[j].Spec); err != nil {
				return fmt.Errorf("index %s of %s: %w", c.Indexes[j].Name, c.Name, err)
			}
		}
	}
	return nil
}

func compact(j *json.RawMessage) error {
	if len(*j) == 0 {
		*j = nil
		return nil
	}
	var b bytes.Buffer
	if err := json.Compact(&b, *j); err != nil {
		return err
	}
	*j = b.Bytes()
	return nil
}

// check refuses a manifest that would lead a reader out of the backup's directory or to one file for two collections.
func (m *Manifest) check() error {
	if m.Name == "" || m.Database == "" {
		return errors.New("name and database are required")
	}
	if !filepath.IsLocal(m.Database) || strings.ContainsAny(m.Database, `/\`) {
		return fmt.Errorf("database %q is no name of a folder", m.Database)
	}
	names, files := map[string]bool{}, map[string]string{}
	for _, c := range m.Collections {
		if c.Name == "" {
			return errors.New("a collection has no name")
		}
		if !utf8.ValidString(c.Name) {
			return fmt.Errorf("collection %q: its name is not UTF-8, so that no manifest and no metadata can hold it; rename it", c.Name)
		}
		if names[c.Name] {
			return fmt.Errorf("collection %s stands there twice", c.Name)
		}
		names[c.Name] = true
		if c.Metadata.Path == "" || (c.Data.Path == "") != (c.Type == TypeView) {
			return fmt.Errorf("collection %s: a %s lacks a file or has one too many", c.Name, c.Type)
		}
		if err := c.checkRanges(); err != nil {
			return fmt.Errorf("collection %s: %w", c.Name, err)
		}
		for _, f := range c.Files() {
			if !filepath.IsLocal(f.Path) {
				return fmt.Errorf("collection %s: path %q leads out of the backup", c.Name, f.Path)
			}
			if other, taken := files[f.Path]; taken {
				return fmt.Errorf("collections %s and %s share the file %s", other, c.Name, f.Path)
			}
			files[f.Path] = c.Name
		}
	}
	return nil
}
