// Package durable writes files so that a power cut leaves the old content or the new one, never a mixture, and answers
// the two questions that go with it: is there space, and is somebody else writing. Every package that keeps state on
// disk uses it; it knows nothing of what the files mean.
package durable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// WriteFile replaces the file at path by data: written beside it under a temporary name, flushed to disk, renamed, and
// the directory flushed. Whoever reads sees the old content or the new one.
func WriteFile(path string, data []byte, perm os.FileMode) (err error) {
	dir, base := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	f, err := os.CreateTemp(dir, "."+shorten(base)+".*.tmp")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write %s: %w", path, err), ignoreClosed(f.Close()), ignoreMissing(os.Remove(f.Name())))
		}
	}()
	if err = f.Chmod(perm); err != nil {
		return err
	}
	if _, err = f.Write(data); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return SyncDir(dir)
}

// shorten keeps a temporary name below the file system's limit of 255 bytes.
func shorten(base string) string { return base[:min(len(base), 200)] }

func ignoreClosed(err error) error {
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// SyncDir flushes a directory's entries: after it, files that were created, renamed or removed there stay so.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("flush directory %s: %w", dir, err)
	}
	// Some network file systems cannot flush a directory and say so with EINVAL; their renames are the server's to keep.
	if err := d.Sync(); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOTSUP) {
		return errors.Join(fmt.Errorf("flush directory %s: %w", dir, err), d.Close())
	}
	return d.Close()
}

// Rename renames a file or directory and flushes the directories that it left and entered.
func Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	if err := SyncDir(filepath.Dir(to)); err != nil {
		return err
	}
	if filepath.Dir(from) == filepath.Dir(to) {
		return nil
	}
	return SyncDir(filepath.Dir(from))
}

// FreeBytes says how much an ordinary user may still write to the file system that holds path.
func FreeBytes(path string) (int64, error) {
	var s unix.Statfs_t
	for {
		err := unix.Statfs(path, &s)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("free space at %s: %w", path, err)
		}
		return int64(s.Bavail) * int64(s.Bsize), nil //nolint:unconvert // Bsize is an int32 on some systems
	}
}
