package offsite

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
	"golang.org/x/sync/errgroup"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/dump"
	"github.com/battwheels/runbook/internal/durable"
)

// Manifest reads the manifest of a whole copy. A copy that is not there, or not whole, is fs.ErrNotExist.
func (b Bucket) Manifest(ctx context.Context, target, name string) (*backup.Manifest, error) {
	path := b.cached(target, name)
	if m, err := backup.ReadManifest(path); err == nil {
		return m, nil
	}
	blobs, err := b.open(ctx)
	if err != nil {
		return nil, err
	}
	defer shut(blobs)
	content, err := blobs.ReadAll(ctx, marker(target, name))
	if gcerrors.Code(err) == gcerrors.NotFound {
		return nil, fmt.Errorf("offsite copy of %s: %w", name, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("offsite copy of %s: %w", name, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("offsite copy of %s: %w", name, err)
	}
	if err := durable.WriteFile(path, content, 0o640); err != nil {
		return nil, fmt.Errorf("offsite copy of %s: %w", name, err)
	}
	m, err := backup.ReadManifest(path)
	if err != nil {
		return nil, fmt.Errorf("offsite copy of %s: %w", name, err)
	}
	return m, nil
}

func (b Bucket) cached(target, name string) string {
	return filepath.Join(b.Cache, target, name+".json")
}

func (b Bucket) forget(target, name string) error {
	if err := os.Remove(b.cached(target, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("offsite copy of %s: %w", name, err)
	}
	return nil
}

// Get fetches a copy into the directory root, where it becomes an ordinary backup: written under a name that says incomplete, each
// file compared with the manifest while it is written, the manifest last, then renamed. An interrupted attempt carries on: files that
// are there are checked and kept. A backup that is there already stays as it is. A file that is not what the manifest says is
// *backup.CorruptError; too little space is *SpaceError. progress may be nil; its bytes are those of files.
func (b Bucket) Get(ctx context.Context, target, name, root string, progress func(backup.Progress)) (backup.Source, error) {
	dir := filepath.Join(root, name)
	if m, err := backup.ReadManifest(dir); err == nil {
		return backup.Source{Dir: dir, Manifest: m}, nil
	}
	m, err := b.Manifest(ctx, target, name)
	if err != nil {
		return backup.Source{}, err
	}
	blobs, err := b.open(ctx)
	if err != nil {
		return backup.Source{}, err
	}
	defer shut(blobs)
	part := dir + backup.IncompleteSuffix
	if err := os.MkdirAll(filepath.Join(part, m.Database), 0o750); err != nil {
		return backup.Source{}, wrap("fetch", name, err)
	}
	lock, err := durable.TryLock(filepath.Join(part, dump.LockName))
	if err != nil {
		return backup.Source{}, wrap("fetch", name, err)
	}
	defer func() { _ = lock.Release() }()
	files := m.Files()
	if err := room(part, files); err != nil {
		return backup.Source{}, wrap("fetch", name, err)
	}
	t := backup.NewTracker(total("fetching from offsite", files), progress)
	g, limited := errgroup.WithContext(ctx)
	g.SetLimit(transfers)
	for _, f := range files {
		g.Go(func() error {
			if err := limited.Err(); err != nil {
				return err
			}
			if err := receive(limited, blobs, object(target, name, f.Path), part, f); err != nil {
				return err
			}
			t.Add(f.Path, 0, f.Size)
			t.Done()
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return backup.Source{}, wrap("fetch", name, err)
	}
	if err := finish(b.cached(target, name), part, dir, files); err != nil {
		return backup.Source{}, wrap("fetch", name, err)
	}
	t.Finish()
	return backup.Source{Dir: dir, Manifest: m}, nil
}

// finish makes a fetched directory a backup, the same bytes as on the host that made it.
func finish(manifest, part, dir string, files []backup.File) error {
	content, err := os.ReadFile(manifest)
	if err != nil {
		return err
	}
	folders := map[string]bool{part: true}
	for _, f := range files {
		folders[filepath.Join(part, filepath.Dir(filepath.FromSlash(f.Path)))] = true
	}
	for folder := range folders {
		if err := durable.SyncDir(folder); err != nil {
			return err
		}
	}
	if err := durable.WriteFile(filepath.Join(part, backup.ManifestName), content, 0o640); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(part, dump.LockName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return durable.Rename(part, dir)
}

// receive writes one file, unless it is there already and what it should be.
func receive(ctx context.Context, blobs *blob.Bucket, key, dir string, f backup.File) (err error) {
	path := filepath.Join(dir, filepath.FromSlash(f.Path))
	if same, err := holds(path, f); err != nil || same {
		return err
	}
	r, err := blobs.NewReader(ctx, key, nil)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return &backup.CorruptError{File: key, Reason: "it is missing"}
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(file, sum), r)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if n != f.Size || hex.EncodeToString(sum.Sum(nil)) != f.SHA256 {
		return &backup.CorruptError{File: key, Reason: "it is not what the manifest says"}
	}
	return nil
}

func holds(path string, f backup.File) (bool, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() != f.Size {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	file, err := os.Open(path)
	if err != nil {
		return false, err
	}
	sum := sha256.New()
	_, err = io.Copy(sum, file)
	if err = errors.Join(err, file.Close()); err != nil {
		return false, err
	}
	return hex.EncodeToString(sum.Sum(nil)) == f.SHA256, nil
}

// SpaceError says that the disk has too little room for a copy.
type SpaceError struct {
	Dir        string
	Need, Have int64 // bytes
}

// Error says what to do.
func (e *SpaceError) Error() string {
	return fmt.Sprintf("%s has %d MB free and %d MB are needed: make room, or give this host another storage.dir", e.Dir, e.Have>>20, e.Need>>20)
}

func room(dir string, files []backup.File) error {
	var need int64
	for _, f := range files {
		info, err := os.Stat(filepath.Join(dir, filepath.FromSlash(f.Path)))
		if err != nil || info.Size() != f.Size {
			need += f.Size
		}
	}
	have, err := durable.FreeBytes(dir)
	if err != nil {
		return err
	}
	if have < need {
		return &SpaceError{Dir: dir, Need: need, Have: have}
	}
	return nil
}
