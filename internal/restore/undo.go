package restore

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/durable"
)

// undo writes a folder in mongodump's format, with a manifest: the documents that a partial restore is about to overwrite
// or remove.
type undo struct {
	dir      string
	database string

	mu       sync.Mutex
	manifest backup.Manifest
}

func newUndo(dir, database string, of *backup.Manifest) *undo {
	now := time.Now().UTC()
	return &undo{dir: dir, database: database, manifest: backup.Manifest{
		Format: of.Format, Name: now.Format("20060102T150405Z") + "-undo", Target: of.Target, Database: database, Kind: backup.Undo,
		StartedAt: now, Tool: of.Tool, Compression: "gzip",
		Notes: []string{"It holds only the documents that a partial restore of " + of.Name + " overwrote or removed: put them back with the mode overwrite."},
	}}
}

// undoFile is the part of one collection. Its file begins to exist with its first document.
type undoFile struct {
	undo    *undo
	of      *backup.Collection
	file    *os.File
	packer  *backup.Packer
	packed  bytes.Buffer
	waiting []byte
	sum     hash.Hash
	size    int64
	digest  backup.Digest
}

func (u *undo) collection(c *backup.Collection) *undoFile {
	return &undoFile{undo: u, of: c, sum: sha256.New()}
}

// add keeps a copy of a document.
func (f *undoFile) add(doc bson.Raw) error {
	if f == nil {
		return nil
	}
	f.digest.Add(doc)
	f.waiting = append(f.waiting, doc...)
	if len(f.waiting) < backup.MemberSize {
		return nil
	}
	return f.flush()
}

func (f *undoFile) path() string {
	return backup.DataPath(f.undo.database, f.of.Name, backup.TypeCollection, true)
}

func (f *undoFile) flush() error {
	if f.file == nil {
		var err error
		if f.packer, err = backup.NewPacker(3); err != nil {
			return err
		}
		at := filepath.Join(f.undo.dir, filepath.FromSlash(f.path()))
		if f.file, err = os.OpenFile(at, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600); err != nil {
			return fmt.Errorf("keep what was there before: %w", err)
		}
	}
	if err := f.packer.Pack(&f.packed, f.waiting); err != nil {
		return err
	}
	f.waiting = f.waiting[:0]
	f.size += int64(f.packed.Len())
	f.sum.Write(f.packed.Bytes())
	if _, err := f.file.Write(f.packed.Bytes()); err != nil {
		return fmt.Errorf("keep what was there before: %w", err)
	}
	return nil
}

// finish puts the file on disk and into the manifest. A collection of which nothing is kept has none.
func (f *undoFile) finish() error {
	if f == nil || f.digest.Documents == 0 {
		return nil
	}
	if len(f.waiting) > 0 {
		if err := f.flush(); err != nil {
			return err
		}
	}
	if err := errors.Join(f.file.Sync(), f.file.Close()); err != nil {
		return fmt.Errorf("keep what was there before: %w", err)
	}
	content, err := backup.Metadata{Collection: f.of.Name, Type: f.of.Type, Options: f.of.Options, Indexes: f.of.Indexes}.Encode()
	if err != nil {
		return err
	}
	if err := f.packer.Pack(&f.packed, content); err != nil {
		return err
	}
	path := backup.MetadataPath(f.undo.database, f.of.Name, true)
	if err := durable.WriteFile(filepath.Join(f.undo.dir, filepath.FromSlash(path)), f.packed.Bytes(), 0o600); err != nil {
		return fmt.Errorf("keep what was there before: %w", err)
	}
	sum := sha256.Sum256(f.packed.Bytes())
	c := backup.Collection{
		Name: f.of.Name, Type: f.of.Type, Options: f.of.Options, Indexes: f.of.Indexes, Digest: f.digest,
		Data:     backup.File{Path: f.path(), Size: f.size, SHA256: hex.EncodeToString(f.sum.Sum(nil))},
		Metadata: backup.File{Path: path, Size: int64(f.packed.Len()), SHA256: hex.EncodeToString(sum[:])},
	}
	f.undo.mu.Lock()
	defer f.undo.mu.Unlock()
	f.undo.manifest.Collections = append(f.undo.manifest.Collections, c)
	return nil
}

// abandon closes the file after a failure.
func (f *undoFile) abandon() {
	if f != nil && f.file != nil {
		_ = f.file.Close()
	}
}

// finish writes the manifest and returns the folder; "" where nothing had to be kept, and the folder is removed.
func (u *undo) finish() (string, error) {
	m := &u.manifest
	if len(m.Collections) == 0 {
		return "", os.RemoveAll(u.dir)
	}
	slices.SortFunc(m.Collections, func(a, b backup.Collection) int { return strings.Compare(a.Name, b.Name) })
	m.FinishedAt = time.Now().UTC()
	if err := durable.SyncDir(filepath.Join(u.dir, u.database)); err != nil {
		return "", err
	}
	return u.dir, backup.WriteManifest(u.dir, m)
}
