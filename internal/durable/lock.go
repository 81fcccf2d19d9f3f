package durable

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrLocked says that a living process, perhaps this one, holds the lock.
var ErrLocked = errors.New("locked by another writer")

// Lock is a lock on a file. The system frees it when the process ends, however it ends.
type Lock struct{ f *os.File }

// TryLock locks the file at path, which it creates where missing, or fails with ErrLocked at once.
func TryLock(path string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if err := flock(f); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	held, err := f.Stat()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	// The holder before us may have removed the file after we opened it: then our lock guards nothing.
	if there, err := os.Stat(path); err != nil || !os.SameFile(held, there) {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, ErrLocked), f.Close())
	}
	return &Lock{f}, nil
}

// Locked says whether a living process holds the lock at path. A missing file is not locked.
func Locked(path string) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("lock %s: %w", path, err)
	}
	err = flock(f)
	if closeErr := f.Close(); closeErr != nil {
		return false, closeErr
	}
	if errors.Is(err, ErrLocked) {
		return true, nil
	}
	return false, err
}

func flock(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EWOULDBLOCK):
			return ErrLocked
		default:
			return err
		}
	}
}

// Release frees the lock; the file stays.
func (l *Lock) Release() error { return l.f.Close() }
