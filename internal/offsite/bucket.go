package offsite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"gocloud.dev/blob"
	_ "gocloud.dev/blob/azureblob" // azblob://
	_ "gocloud.dev/blob/fileblob"  // file://
	_ "gocloud.dev/blob/gcsblob"   // gs://
	_ "gocloud.dev/blob/s3blob"    // s3://
	"gocloud.dev/gcerrors"

	"github.com/battwheels/runbook/internal/backup"
)

// markerSuffix ends the name of the object that says that a copy is whole.
const markerSuffix = "." + backup.ManifestName

// Bucket is where copies are kept. Each call connects anew, so nothing is held while nothing is copied. It is safe for concurrent
// use.
type Bucket struct {
	// URL is of gocloud.dev's form, such as s3://BUCKET?region=eu-central-1 or file:///mnt/backups. Credentials come from where each
	// service's own tools take them: environment, files, or the host's role.
	URL string
	// Cache is a directory for manifests that were read once; they never change.
	Cache string
}

func (b Bucket) open(ctx context.Context) (*blob.Bucket, error) {
	blobs, err := blob.OpenBucket(ctx, b.URL)
	if err != nil {
		return nil, fmt.Errorf("open the offsite storage %s: %w", b.URL, err)
	}
	return blobs, nil
}

// shut ends a connection. Every write was answered for by then.
func shut(blobs *blob.Bucket) { _ = blobs.Close() }

// Copy is a backup in the bucket.
type Copy struct {
	Name  string
	Whole bool // its last object was written
}

// List returns the copies of a target's backups, by name.
func (b Bucket) List(ctx context.Context, target string) ([]Copy, error) {
	blobs, err := b.open(ctx)
	if err != nil {
		return nil, err
	}
	defer shut(blobs)
	copies := map[string]bool{}
	it := blobs.List(&blob.ListOptions{Prefix: target + "/", Delimiter: "/"})
	for {
		o, err := it.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("list the offsite copies of %s: %w", target, err)
		}
		name := strings.TrimPrefix(o.Key, target+"/")
		if marked, whole := strings.CutSuffix(name, markerSuffix); whole {
			copies[marked] = true
		} else if dir, ok := strings.CutSuffix(name, "/"); ok && o.IsDir {
			if !copies[dir] {
				copies[dir] = false
			}
		}
	}
	var list []Copy
	for name, whole := range copies {
		list = append(list, Copy{name, whole})
	}
	slices.SortFunc(list, func(x, y Copy) int { return strings.Compare(x.Name, y.Name) })
	return list, nil
}

// Delete removes a copy. One whose deletion was interrupted is no longer whole; deleting it again removes the rest.
func (b Bucket) Delete(ctx context.Context, target, name string) error {
	blobs, err := b.open(ctx)
	if err != nil {
		return err
	}
	defer shut(blobs)
	if err := remove(ctx, blobs, marker(target, name)); err != nil {
		return wrap("delete", name, err)
	}
	it := blobs.List(&blob.ListOptions{Prefix: target + "/" + name + "/"})
	for {
		o, err := it.Next(ctx)
		if errors.Is(err, io.EOF) {
			return wrap("delete", name, b.forget(target, name))
		}
		if err == nil {
			err = remove(ctx, blobs, o.Key)
		}
		if err != nil {
			return wrap("delete", name, err)
		}
	}
}

func remove(ctx context.Context, blobs *blob.Bucket, key string) error {
	if err := blobs.Delete(ctx, key); err != nil && gcerrors.Code(err) != gcerrors.NotFound {
		return err
	}
	return nil
}

func marker(target, name string) string { return target + "/" + name + markerSuffix }

func object(target, name, path string) string { return target + "/" + name + "/" + path }
