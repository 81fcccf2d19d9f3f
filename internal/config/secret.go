package config

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// hidden is what a secret prints as, wherever it is printed.
const hidden = "<secret>"

// maxSecret bounds a secret's file: a certificate fits, a wrong path to something large does not.
const maxSecret = 64 << 10

var reference = regexp.MustCompile(`^\$\{([A-Za-z_][A-Za-z0-9_]*)\}$`)

// How a secret is written, told wherever one is written otherwise.
const secretHint = "write ${NAME} to take it from the environment, or {file: /path} to take it from a file"

// Value returns the secret itself; empty where it was not given, or could not be read (see Err).
func (s Secret) Value() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// Err says why a secret that the file refers to has no value. It can be non-nil only after LoadLenient.
func (s Secret) Err() error { return s.err }

// String hides the value.
func (Secret) String() string { return hidden }

// Format hides the value from every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// MarshalText hides the value from JSON and YAML.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// LogValue hides the value from logs.
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// fromEnvironment reads ${NAME}. ok is false where s is no such reference, which means that somebody wrote the secret itself.
func fromEnvironment(s string) (secret Secret, ok bool) {
	m := reference.FindStringSubmatch(s)
	if m == nil {
		return Secret{}, false
	}
	v := strings.TrimSpace(os.Getenv(m[1]))
	if v == "" {
		return Secret{err: fmt.Errorf("the environment variable %s is not set or is empty", m[1])}, true
	}
	return NewSecret(v), true
}

// fromFile reads a file that holds the secret and nothing else. A relative path starts at the directory of runbook.yaml.
func fromFile(dir, path string) Secret {
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return Secret{err: fmt.Errorf("its file cannot be read: %w", err)}
	case !info.Mode().IsRegular():
		return Secret{err: fmt.Errorf("%s is not a file", path)}
	case info.Size() > maxSecret:
		return Secret{err: fmt.Errorf("%s is larger than %d kB: a secret's file holds the secret and nothing else", path, maxSecret>>10)}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return Secret{err: fmt.Errorf("its file cannot be read: %w", err)}
	}
	v := strings.TrimSpace(string(b))
	if v == "" {
		return Secret{err: errors.New(path + " is empty")}
	}
	return NewSecret(v)
}
