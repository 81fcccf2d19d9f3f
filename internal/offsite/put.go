package offsite

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
	"golang.org/x/sync/errgroup"

	"github.com/battwheels/runbook/internal/backup"
)

// transfers is how many files travel at a time: most of a backup's files are small, and each is a round trip.
const transfers = 8

// sumKey is the metadata of an object that holds its content's SHA-256.
const sumKey = "sha256"

// Put copies a backup into the bucket: its files side by side, then its manifest, then the mark that it is whole. Each file is
// compared with the manifest while it is read, so that a damaged backup is never copied as a good one (*backup.CorruptError). What
// an interrupted attempt has copied already is not sent again. A copy that is whole stays as it is. progress may be nil; its
// bytes are those of files.
func (b Bucket) Put(ctx context.Context, target string, s backup.Source, progress func(backup.Progress)) error {
	name := s.Manifest.Name
	blobs, err := b.open(ctx)
	if err != nil {
		return err
	}
	defer shut(blobs)
	if whole, err := blobs.Exists(ctx, marker(target, name)); err != nil || whole {
		return wrap("copy", name, err)
	}
	files := s.Manifest.Files()
	t := backup.NewTracker(total("copying offsite", files), progress)
	g, limited := errgroup.WithContext(ctx)
	g.SetLimit(transfers)
	for _, f := range files {
		g.Go(func() error {
			if err := limited.Err(); err != nil {
				return err
			}
			if err := send(limited, blobs, object(target, name, f.Path), s.Dir, f); err != nil {
				return err
			}
			t.Add(f.Path, 0, f.Size)
			t.Done()
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return wrap("copy", name, err)
	}
	if err := complete(ctx, blobs, target, name, files); err != nil {
		return wrap("copy", name, err)
	}
	manifest, err := os.ReadFile(filepath.Join(s.Dir, backup.ManifestName))
	if err != nil {
		return wrap("copy", name, err)
	}
	for _, key := range []string{object(target, name, backup.ManifestName), marker(target, name)} {
		if err := blobs.WriteAll(ctx, key, manifest, &blob.WriterOptions{ContentType: "application/json"}); err != nil {
			return wrap("copy", name, err)
		}
	}
	t.Finish()
	_, err = b.Manifest(ctx, target, name)
	return wrap("copy", name, err)
}

// send writes one file, unless it is there already. Nothing stands under its name before all of it has arrived.
func send(ctx context.Context, blobs *blob.Bucket, key, dir string, f backup.File) (err error) {
	there, err := blobs.Attributes(ctx, key)
	switch {
	case err == nil && there.Size == f.Size && there.Metadata[sumKey] == f.SHA256:
		return nil
	case err != nil && gcerrors.Code(err) != gcerrors.NotFound:
		return err
	}
	path := filepath.Join(dir, filepath.FromSlash(f.Path))
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	// Ending the context before Close drops what was written.
	ctx, drop := context.WithCancel(ctx)
	defer drop()
	w, err := blobs.NewWriter(ctx, key, &blob.WriterOptions{
		ContentType: "application/octet-stream", Metadata: map[string]string{sumKey: f.SHA256},
	})
	if err != nil {
		return err
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, sum), file)
	if err == nil && (n != f.Size || hex.EncodeToString(sum.Sum(nil)) != f.SHA256) {
		err = &backup.CorruptError{File: path, Reason: "it is not what the manifest says"}
	}
	if err != nil {
		drop()
		_ = w.Close() // says only that it was dropped
		return err
	}
	return w.Close()
}

// complete looks whether every file arrived in its full length.
func complete(ctx context.Context, blobs *blob.Bucket, target, name string, files []backup.File) error {
	sizes := map[string]int64{}
	it := blobs.List(&blob.ListOptions{Prefix: target + "/" + name + "/"})
	for {
		o, err := it.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		sizes[o.Key] = o.Size
	}
	for _, f := range files {
		if size, there := sizes[object(target, name, f.Path)]; !there || size != f.Size {
			return fmt.Errorf("%s was sent, and the offsite storage has %d of its %d bytes", f.Path, size, f.Size)
		}
	}
	return nil
}

func total(step string, files []backup.File) backup.Progress {
	p := backup.Progress{Step: step, CollectionsTotal: len(files)}
	for _, f := range files {
		p.BytesTotal += f.Size
	}
	return p
}

func wrap(what, name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s backup %s offsite: %w", what, name, err)
}
