package dump

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"golang.org/x/sys/unix"

	"github.com/battwheels/runbook/internal/backup"
)

// SpaceError says that the dump does not fit on the disk.
type SpaceError struct {
	Dir  string
	Need int64 // expected; 0 where the disk ran full in spite of the expectation
	Have int64
}

// Error says what is missing and what to do.
func (e *SpaceError) Error() string {
	if e.Need == 0 {
		return fmt.Sprintf("the disk of %s ran full: free space there and run the dump again, which keeps what is finished", e.Dir)
	}
	return fmt.Sprintf("the dump needs about %d MB in %s, where %d MB are free: free space, or point storage.dir at a larger disk",
		e.Need>>20+1, e.Dir, e.Have>>20)
}

// BusyError says that another attempt at the same dump still writes.
type BusyError struct{ Dir string }

// Error names the directory and says what to do.
func (e *BusyError) Error() string {
	return fmt.Sprintf("another attempt still writes %s: wait until it ends, or end it", e.Dir)
}

// UnreadableError says that a collection, or a document of it, cannot be read, and that the dump was not told to go on
// without it.
type UnreadableError struct {
	Collection string
	ID         string // extended JSON; empty where it is not known
	Buckets    bool   // its documents are the buckets of a time series, in a collection beside it
	Err        error
}

// Error names the collection and says what to do.
func (e *UnreadableError) Error() string {
	if e.Buckets && hasCode(e.Err, codeUnauthorized) {
		return fmt.Sprintf("time series %s cannot be read: %v; its documents lie in %s, which read and readWrite on one database leave out: "+
			"give runbook's user the role backup, or readAnyDatabase", e.Collection, e.Err, backup.BucketsPrefix+e.Collection)
	}
	at := ""
	if e.ID != "" {
		at = ", document with _id " + e.ID
	}
	return fmt.Sprintf("collection %s cannot be read%s: %v; check the server's log, and salvage what can be read with an emergency dump", e.Collection, at, e.Err)
}

// Unwrap returns what the server or the driver said.
func (e *UnreadableError) Unwrap() error { return e.Err }

// NothingReadableError says that a salvaging dump could not read one collection.
type NothingReadableError struct{ Err error }

// Error says what to do.
func (e *NothingReadableError) Error() string {
	return fmt.Sprintf("nothing of the database can be read: %v; check that the server runs and that the user may read", e.Err)
}

// Unwrap returns the first failure.
func (e *NothingReadableError) Unwrap() error { return e.Err }

// Codes of the server's errors that the dump has an answer to.
const (
	codeUnauthorized        = 13
	codeNamespaceNotFound   = 26
	codeCursorNotFound      = 43
	codeCappedPositionLost  = 136
	codeQueryPlanKilled     = 175
	codeCursorKilled        = 237
	codeSnapshotTooOld      = 239
	codeSnapshotUnavailable = 246
	codeStaleChunkHistory   = 250 // these two come from a sharded cluster, where a chunk has moved since that moment
	codeMigrationConflict   = 272
	codeInvalidOptions      = 72
	codeCommandNotSupported = 115
	codeNotAReplicaSet      = 123
)

// passing are the codes of the driver specification's retryable reads, those of a cursor that the server has lost, or whose place in a
// capped collection was overwritten, and that of a cache that is full (365).
var passing = []int{
	6, 7, 89, 91, 134, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436,
	codeCursorNotFound, codeQueryPlanKilled, codeCursorKilled, codeCappedPositionLost, 365,
}

func hasCode(err error, codes ...int) bool {
	var server mongo.ServerError
	return errors.As(err, &server) && slices.ContainsFunc(codes, server.HasErrorCode)
}

// passes says whether the same read may well succeed later.
func passes(err error) bool {
	return mongo.IsNetworkError(err) || mongo.IsTimeout(err) || hasCode(err, passing...) || unsent(err)
}

// unsent says whether a command never left: it waited for a connection when another one broke, which ends the wait of all.
// The driver gives such an error bare, without the labels that others have.
func unsent(err error) bool {
	var pool interface {
		error
		Retryable() bool
	}
	return errors.As(err, &pool) && pool.Retryable()
}

// ofSnapshot says whether reading at one moment is what the server refuses.
func ofSnapshot(err error) bool {
	return hasCode(err, codeSnapshotTooOld, codeSnapshotUnavailable, codeStaleChunkHistory, codeMigrationConflict,
		codeInvalidOptions, codeCommandNotSupported, codeNotAReplicaSet)
}

// ours says whether an error is no fault of the server: cancelled, or the disk.
func ours(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.As(err, new(*diskError))
}

// diskError is a failure to write the backup.
type diskError struct{ err error }

func (e *diskError) Error() string { return e.err.Error() }
func (e *diskError) Unwrap() error { return e.err }

// onDisk marks a failed write, and tells a full disk from others.
func onDisk(dir string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return &diskError{fmt.Errorf("%w (%w)", &SpaceError{Dir: dir}, err)}
	default:
		return &diskError{fmt.Errorf("write backup: %w", err)}
	}
}
