package backup

import (
	"crypto/sha1" //nolint:gosec // mongodump's format prescribes it; nothing is protected by it
	"encoding/base64"
	"fmt"
	"net/url"
	"path"
	"strings"
)

// The endings of mongodump's files.
const (
	dataExt     = ".bson"
	metadataExt = ".metadata.json"
	gzipExt     = ".gz"
)

// BucketsPrefix starts the name of the collection in which the server keeps a time series' data. mongodump writes the
// data under that name and the metadata under the time series' own.
const BucketsPrefix = "system.buckets."

// A base name longer than maxBase would not fit into 255 bytes together with .metadata.json.gz. mongodump then keeps
// the first keptBase bytes and appends an escaped dollar sign and the base64 SHA-1 of the collection's name.
const (
	maxBase  = 238
	keptBase = 208
	hashMark = "%24"
)

// FileBase returns the name that mongodump gives a collection's files, without the ending: the name query-escaped, and
// shortened with a hash where it would not fit into a file name.
func FileBase(collection string) string {
	escaped := url.QueryEscape(collection)
	if len(escaped) <= maxBase {
		return escaped
	}
	sum := sha1.Sum([]byte(collection)) //nolint:gosec // see the import
	return escaped[:keptBase] + hashMark + base64.RawURLEncoding.EncodeToString(sum[:])
}

// CollectionName returns the name of the collection whose files have this base name. The metadata's collectionName
// decides where the base is shortened, and must agree with it everywhere; it is empty in dumps of old tools.
func CollectionName(base string, metadataName string) (string, error) {
	if metadataName != "" {
		if FileBase(metadataName) != base {
			return "", fmt.Errorf("the metadata says collection %q, whose files would be named %s, not %s", metadataName, FileBase(metadataName), base)
		}
		return metadataName, nil
	}
	if len(base) == maxBase && strings.Contains(base, hashMark) {
		return "", fmt.Errorf("the file name is shortened, and the metadata does not say the collection's name")
	}
	name, err := url.QueryUnescape(base)
	if err != nil {
		return "", fmt.Errorf("not a name that mongodump gives: %w", err)
	}
	if name == "" {
		return "", fmt.Errorf("no collection name")
	}
	return name, nil
}

// DataPath returns where a collection's documents lie, relative to the backup's directory. A view has none: "".
func DataPath(database, collection string, t Type, compressed bool) string {
	switch t {
	case TypeView:
		return ""
	case TypeTimeseries:
		collection = BucketsPrefix + collection
	}
	return path.Join(database, FileBase(collection)+dataExt+ending(compressed))
}

// MetadataPath returns where a collection's metadata lies, relative to the backup's directory.
func MetadataPath(database, collection string, compressed bool) string {
	return path.Join(database, FileBase(collection)+metadataExt+ending(compressed))
}

func ending(compressed bool) string {
	if compressed {
		return gzipExt
	}
	return ""
}
