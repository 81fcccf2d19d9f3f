package backup

import (
	"fmt"
	"strings"
)

// CorruptError says that a file of a backup is not what it was when it was written, or that it never was whole. Such a
// backup must not be restored.
type CorruptError struct {
	File   string // path of the damaged file
	Reason string
}

// Error names the file, what is wrong with it, and what to do.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("backup file %s is damaged: %s; do not restore from this backup: choose another one, or fetch an intact copy of it", e.File, e.Reason)
}

// OplogError says that a dump holds an oplog. Its collections are of many moments and only make sense once the oplog
// is replayed, which runbook does not do.
type OplogError struct{ File string }

// Error names the file and says what to do.
func (e *OplogError) Error() string {
	return fmt.Sprintf("%s: this dump was made with --oplog, which runbook does not replay; restore it with mongorestore --oplogReplay, or choose another backup", e.File)
}

// ArchiveError says that a file is a dump in one piece, as mongodump --archive writes it. runbook reads directories.
type ArchiveError struct{ File string }

// Error names the file and says what to do.
func (e *ArchiveError) Error() string {
	gzip := ""
	if strings.HasSuffix(e.File, gzipExt) || strings.HasSuffix(e.File, ".agz") {
		gzip = " --gzip"
	}
	return fmt.Sprintf("%s is an archive of mongodump --archive, and runbook reads directories: dump with --out DIRECTORY from now on; to use "+
		"this one, restore it into a scratch server (mongorestore%s --archive=%s) and dump that with --out", e.File, gzip, e.File)
}

// FormatError says that a newer runbook wrote the manifest.
type FormatError struct {
	File   string
	Format int
}

// Error names the format and says what to do.
func (e *FormatError) Error() string {
	return fmt.Sprintf("%s has format %d; this runbook reads format %d: use the version that wrote it, or a newer one", e.File, e.Format, Format)
}
