package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"
)

// syncsAtOnce is how many files are flushed at a time where each needs a call of its own: file systems write the journals of
// calls that wait together once.
const syncsAtOnce = 16

// SyncTree flushes everything below a directory: its files, its folders and their entries. It is for many files that are of no
// use before the last one is whole; a flush of each would take milliseconds.
func SyncTree(dir string) error {
	if done, err := syncFileSystem(dir); done || err != nil {
		return err
	}
	return syncEach(dir)
}

func syncEach(dir string) error {
	var g errgroup.Group
	g.SetLimit(syncsAtOnce)
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir():
			g.Go(func() error { return SyncDir(path) })
		case e.Type().IsRegular():
			g.Go(func() error { return syncFile(path) })
		}
		return nil
	})
	return errors.Join(err, g.Wait())
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("flush %s: %w", path, err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("flush %s: %w", path, err)
	}
	return nil
}
