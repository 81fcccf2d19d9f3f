package durable

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// oneFlush are the file systems whose syncfs is known to write and to wait for everything. Others, those over a network among
// them, may only hand it to somebody else.
var oneFlush = []int64{unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC}

// syncFileSystem flushes the whole file system that holds a directory, where one call can do that and says when it failed. See
// syncfs(2): it reports what could not be written from Linux 5.8 on.
func syncFileSystem(dir string) (done bool, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil || !slices.Contains(oneFlush, int64(s.Type)) { //nolint:unconvert // Type is an int32 on some systems
		return false, nil //nolint:nilerr // then each file is flushed by itself
	}
	d, err := os.Open(dir)
	if err != nil {
		return false, fmt.Errorf("flush %s: %w", dir, err)
	}
	if err := errors.Join(unix.Syncfs(int(d.Fd())), d.Close()); err != nil {
		return false, fmt.Errorf("flush the file system of %s: %w", dir, err)
	}
	return true, nil
}
