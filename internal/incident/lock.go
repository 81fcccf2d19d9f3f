package incident

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// BusyError says that another attempt of the same step still holds the lock. It passes by itself: the attempt ends, or
// its process dies and the kernel lets go. Retry.
type BusyError struct{ Dir string }

// Error says who may hold the lock.
func (e *BusyError) Error() string {
	return fmt.Sprintf("another attempt of this step is still at work in %s; it is tried again", e.Dir)
}

// Lock makes the caller the only one at work in a directory of the folder, across all processes of this host, until
// release is called or the process ends. It does not wait: where another one holds the lock, the error is a *BusyError.
func (f Folder) Lock(name string) (release func() error, err error) {
	path, err := f.checked(name)
	if err != nil {
		return nil, err
	}
	if err := makeDir(path); err != nil {
		return nil, fmt.Errorf("lock %s of the incident's folder: %w", name, err)
	}
	// The directory itself is locked, so that no lock file is left behind in a folder that auditors read.
	dir, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("lock %s of the incident's folder: %w", name, err)
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		closeErr := dir.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &BusyError{Dir: path}
		}
		return nil, fmt.Errorf("lock %s of the incident's folder: %w", name, errors.Join(err, closeErr))
	}
	return dir.Close, nil
}
