package dump

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"

	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"github.com/battwheels/runbook/internal/backup"
)

// The compressions.
const (
	Gzip = "gzip"
	Zstd = "zstd"
)

// Options says where a dump goes and how it is made.
type Options struct {
	Root   string // the directory that gets Name, and until then Name.incomplete
	Name   string // of the backup; the same name again continues or returns the same dump
	Target string
	Kind   backup.Kind // default Manual
	// Salvage goes on past what cannot be read, and lists it in the manifest.
	Salvage bool
	// Compression is Gzip, the default, or Zstd, which is smaller and faster to read, and which the stock tools cannot read.
	Compression string
	Level       int // 1 (fast) to 9 (small); default 3
	Parallel    int // cursors at a time, over all collections and ranges of large ones; default 4
	// ReadPreference is the driver's mode; default primary. Members that lag are waited for, so that what was acknowledged
	// before the dump began is in it.
	ReadPreference string
	// DocumentsPerSecond and BytesPerSecond, of BSON, bound how fast the server is read, over all cursors. 0 is no bound.
	DocumentsPerSecond, BytesPerSecond int64
	// Memory bounds the bytes of documents on their way from the server to the disk; default 48 MiB. The process needs
	// several times as much at its peak where documents are huge: the driver copies them, and the garbage collector lags behind.
	Memory   int64
	Progress func(backup.Progress) // may be nil
	Tool     string                // name and version of the caller, for the manifest

	mode readpref.Mode
}

// leastMemory is enough for the largest document.
const leastMemory = 32 << 20

func (o *Options) complete() error {
	if o.Root == "" {
		return errors.New("dump: Root is required")
	}
	if o.Name == "" || o.Name != filepath.Base(o.Name) || !filepath.IsLocal(o.Name) {
		return fmt.Errorf("dump: Name %q: want the name of a directory", o.Name)
	}
	o.Kind = cmp.Or(o.Kind, backup.Manual)
	o.Compression = cmp.Or(o.Compression, Gzip)
	o.Level = cmp.Or(o.Level, 3)
	o.Parallel = cmp.Or(o.Parallel, 4)
	o.Memory = cmp.Or(o.Memory, 48<<20)
	var err error
	if o.mode, err = readpref.ModeFromString(cmp.Or(o.ReadPreference, "primary")); err != nil {
		return fmt.Errorf("dump: ReadPreference %q: want primary, primaryPreferred, secondary, secondaryPreferred or nearest", o.ReadPreference)
	}
	switch {
	case o.Compression != Gzip && o.Compression != Zstd:
		return fmt.Errorf("dump: Compression %q: want gzip or zstd", o.Compression)
	case o.Level < 1 || o.Level > 9:
		return fmt.Errorf("dump: Level %d: want 1 to 9", o.Level)
	case o.Parallel < 1 || o.Parallel > 64:
		return fmt.Errorf("dump: Parallel %d: want 1 to 64", o.Parallel)
	case o.DocumentsPerSecond < 0 || o.BytesPerSecond < 0:
		return errors.New("dump: DocumentsPerSecond and BytesPerSecond: want 0 or more")
	case o.Memory < leastMemory:
		return fmt.Errorf("dump: Memory %d: want at least %d bytes", o.Memory, leastMemory)
	}
	return nil
}

// dataPath is where a collection's documents go, relative to the backup's directory.
func (o *Options) dataPath(database string, l listing) string {
	if o.Compression == Zstd {
		return backup.ZstdPath(database, l.name, l.kind)
	}
	return backup.DataPath(database, l.name, l.kind, true)
}

func (o *Options) newPacker() (*backup.Packer, error) {
	if o.Compression == Zstd {
		return backup.NewZstdPacker(o.Level)
	}
	return backup.NewPacker(o.Level)
}
