// Package backup is a backup at rest: mongodump's directory format, the manifest beside it, the digest that
// proves it, and the reading, checking and comparing of its files. It never talks to a server: package dump writes
// backups, package restore loads them, package catalog keeps them.
package backup

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// ManifestName is the file one level above the database's folder that makes a directory a backup of ours. It is
// written last.
const ManifestName = "manifest.json"

// IncompleteSuffix marks a directory that is still being written, or whose writer died.
const IncompleteSuffix = ".incomplete"

// ReservedPrefix starts the name of every collection that belongs to runbook itself (staging, old, lease). Backups,
// counts and digests leave them out.
const ReservedPrefix = "runbook."

// reservedInstead is what those names begin with on a server that does not rename collections with a dot in their names
// (FerretDB v1).
const reservedInstead = "runbook~"

// Reserved says whether a collection belongs to runbook itself.
func Reserved(name string) bool {
	return strings.HasPrefix(name, ReservedPrefix) || strings.HasPrefix(name, reservedInstead)
}

// Kind says why a backup was made.
type Kind string

// The kinds of backup.
const (
	Scheduled Kind = "scheduled"
	Manual    Kind = "manual"
	Emergency Kind = "emergency" // all that could be read when an incident began
	Safety    Kind = "safety"    // what stood there right before a swap
	Foreign   Kind = "foreign"   // made by another tool, adopted by us
	Undo      Kind = "undo"      // only the documents that a partial restore overwrote or removed
)

// Type is the type of a collection as listCollections names it.
type Type string

// The types of collection.
const (
	TypeCollection Type = "collection"
	TypeView       Type = "view"
	TypeTimeseries Type = "timeseries"
)

// Manifest describes one backup whole. It never changes once written; what happens to the backup later (verified,
// restored, suspect) is the catalog's State, kept beside it.
type Manifest struct {
	Format     int       `json:"format"` // 1
	Name       string    `json:"name"`   // the directory's name
	Target     string    `json:"target"`
	Database   string    `json:"database"`
	Kind       Kind      `json:"kind"`
	StartedAt  time.Time `json:"startedAt"` // UTC; every document acknowledged before it is in the backup
	FinishedAt time.Time `json:"finishedAt"`
	// Moment says whether all collections were read at one cluster time. Where false, each collection has its window.
	Moment      bool         `json:"moment"`
	ClusterTime string       `json:"clusterTime,omitempty"`
	Server      Server       `json:"server"`
	Tool        string       `json:"tool"`        // name and version of what wrote it
	Compression string       `json:"compression"` // of the documents: "gzip", "zstd" or "none"
	Collections []Collection `json:"collections"` // ordered by name
	Unreadable  []Unreadable `json:"unreadable,omitempty"`
	// Dropped names collections that were there when the dump began and were dropped or renamed before they could be
	// read whole.
	Dropped []string `json:"dropped,omitempty"`
	// Notes are sentences for people: why the dump is not of one moment, what was retried.
	Notes []string `json:"notes,omitempty"`
	// Checksum is the hex SHA-256 of the manifest's own bytes with this field empty.
	Checksum string `json:"checksum"`
}

// Server is what the source said of itself.
type Server struct {
	Version  string `json:"version"`
	Topology string `json:"topology"` // "standalone", "replica set NAME", "sharded", "unknown"
	// ReadPreference says which members were read, where that was not the primary.
	ReadPreference string `json:"readPreference,omitempty"`
}

// Collection is one collection, view or time series in a backup.
type Collection struct {
	Name     string          `json:"name"`
	Type     Type            `json:"type"`
	Options  json.RawMessage `json:"options,omitempty"` // canonical extended JSON, key order kept
	Indexes  []Index         `json:"indexes,omitempty"`
	Data     File            `json:"data"` // zero for views
	Metadata File            `json:"metadata"`
	Digest   Digest          `json:"digest"`
	// DocumentIndex lists the documents by _id and hash (see IndexReader). Zero where the collection has none.
	DocumentIndex File `json:"documentIndex,omitzero"`
	// Order says how the documents lie in the file; empty where that is not known.
	Order string `json:"order,omitempty"`
	// Ranges are the parts in which a large collection was read, each with a digest of its own, so that a verification can
	// name the one that differs.
	Ranges []Range `json:"ranges,omitempty"`
	// ReadFrom and ReadTo bound the time in which the documents were read. Zero where unknown (foreign backups).
	ReadFrom time.Time `json:"readFrom,omitzero"`
	ReadTo   time.Time `json:"readTo,omitzero"`
}

// Files lists the files of the collection.
func (c *Collection) Files() []File {
	return slices.DeleteFunc([]File{c.Data, c.Metadata, c.DocumentIndex}, func(f File) bool { return f.Path == "" })
}

// Index is one index specification exactly as listIndexes gave it.
type Index struct {
	Name string          `json:"name"`
	Spec json.RawMessage `json:"spec"` // canonical extended JSON, key order kept
}

// File is one file of a backup, by its path relative to the directory that holds the manifest (for foreign
// backups: to the backup's own directory).
type File struct {
	Path   string `json:"path,omitempty"`
	Size   int64  `json:"size,omitempty"` // bytes on disk
	SHA256 string `json:"sha256,omitempty"`
}

// Unreadable names what a salvaging dump had to leave out.
type Unreadable struct {
	Collection string `json:"collection"`
	Range      string `json:"range,omitempty"` // of _id, as extended JSON; empty: from there to the end, or all
	Error      string `json:"error"`
}

// Documents returns the number of documents in all collections.
func (m *Manifest) Documents() int64 {
	var n int64
	for _, c := range m.Collections {
		n += c.Digest.Documents
	}
	return n
}

// Bytes returns the BSON bytes of all collections, uncompressed.
func (m *Manifest) Bytes() int64 {
	var n int64
	for _, c := range m.Collections {
		n += c.Digest.Bytes
	}
	return n
}

// Collection returns the collection of that name, or nil.
func (m *Manifest) Collection(name string) *Collection {
	for i := range m.Collections {
		if m.Collections[i].Name == name {
			return &m.Collections[i]
		}
	}
	return nil
}

// Progress is what a long step tells while it works: shown as heartbeat details in the Temporal UI, so its fields
// are named for people.
type Progress struct {
	Step             string  `json:"step"`
	Collection       string  `json:"collection,omitempty"` // one being worked on
	Collections      int     `json:"collections"`          // finished
	CollectionsTotal int     `json:"collectionsTotal"`
	Documents        int64   `json:"documents"`
	DocumentsTotal   int64   `json:"documentsTotal,omitempty"`
	Bytes            int64   `json:"bytes"`
	BytesTotal       int64   `json:"bytesTotal,omitempty"`
	ETASeconds       float64 `json:"etaSeconds,omitempty"`
}

// Files lists the backup's files, the manifest itself left out.
func (m *Manifest) Files() []File {
	var files []File
	for i := range m.Collections {
		files = append(files, m.Collections[i].Files()...)
	}
	return files
}

// Source is where a backup can be read from: the directory against which its files' paths are resolved, and its
// manifest. For our own backups Dir holds the manifest too; for foreign ones it is the other tool's directory.
type Source struct {
	Dir      string
	Manifest *Manifest
}
