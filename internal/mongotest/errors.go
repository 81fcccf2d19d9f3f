package mongotest

import "fmt"

// The error codes that the server answers with, by the names of the real one.
const (
	BadValue                        int32 = 2
	HostUnreachable                 int32 = 6
	FailedToParse                   int32 = 9
	Unauthorized                    int32 = 13
	TypeMismatch                    int32 = 14
	IllegalOperation                int32 = 20
	NamespaceNotFound               int32 = 26
	IndexNotFound                   int32 = 27
	PathNotViable                   int32 = 28
	CursorNotFound                  int32 = 43
	NamespaceExists                 int32 = 48
	MaxTimeMSExpired                int32 = 50
	InvalidIDField                  int32 = 53
	CommandNotFound                 int32 = 59
	WriteConcernTimeout             int32 = 64
	ImmutableField                  int32 = 66
	CannotCreateIndex               int32 = 67
	InvalidOptions                  int32 = 72
	InvalidNamespace                int32 = 73
	IndexOptionsConflict            int32 = 85
	IndexKeySpecsConflict           int32 = 86
	ShutdownInProgress              int32 = 91
	CannotSatisfyWriteConcern       int32 = 100
	WriteConflict                   int32 = 112
	DocumentValidationFailure       int32 = 121
	NotAReplicaSet                  int32 = 123
	CommandNotSupportedOnView       int32 = 166
	CannotIndexParallelArrays       int32 = 171
	QueryPlanKilled                 int32 = 175
	InvalidIndexSpecificationOption int32 = 197
	SnapshotTooOld                  int32 = 239
	SnapshotUnavailable             int32 = 246
	NotWritablePrimary              int32 = 10107
	BSONObjectTooLarge              int32 = 10334
	DuplicateKey                    int32 = 11000
	InterruptedAtShutdown           int32 = 11600
	DatabaseDifferCase              int32 = 13297
	OutOfDiskSpace                  int32 = 14031
	invalidPipelineProjection       int32 = 31254
	notClustered                    int32 = 6243700
	UnknownPipelineStage            int32 = 40324
	missingField                    int32 = 40414
	UnknownField                    int32 = 40415
	MissingMinMaxHint               int32 = 51173
	UnsupportedByMongotest          int32 = 999999
)

var codeNames = map[int32]string{
	BadValue: "BadValue", HostUnreachable: "HostUnreachable", FailedToParse: "FailedToParse",
	Unauthorized: "Unauthorized", TypeMismatch: "TypeMismatch", IllegalOperation: "IllegalOperation",
	NamespaceNotFound: "NamespaceNotFound", IndexNotFound: "IndexNotFound", PathNotViable: "PathNotViable",
	CursorNotFound: "CursorNotFound", NamespaceExists: "NamespaceExists", MaxTimeMSExpired: "MaxTimeMSExpired",
	InvalidIDField: "InvalidIdField", CommandNotFound: "CommandNotFound", WriteConcernTimeout: "WriteConcernTimeout",
	ImmutableField: "ImmutableField", CannotCreateIndex: "CannotCreateIndex", InvalidOptions: "InvalidOptions",
	InvalidNamespace: "InvalidNamespace", IndexOptionsConflict: "IndexOptionsConflict",
	IndexKeySpecsConflict: "IndexKeySpecsConflict", ShutdownInProgress: "ShutdownInProgress",
	CannotSatisfyWriteConcern: "UnsatisfiableWriteConcern",
	CommandNotSupportedOnView: "CommandNotSupportedOnView", CannotIndexParallelArrays: "CannotIndexParallelArrays",
	DocumentValidationFailure: "DocumentValidationFailure", NotAReplicaSet: "NotAReplicaSet",
	QueryPlanKilled: "QueryPlanKilled", InvalidIndexSpecificationOption: "InvalidIndexSpecificationOption",
	SnapshotTooOld: "SnapshotTooOld", SnapshotUnavailable: "SnapshotUnavailable", NotWritablePrimary: "NotWritablePrimary",
	BSONObjectTooLarge: "BSONObjectTooLarge", DuplicateKey: "DuplicateKey",
	InterruptedAtShutdown: "InterruptedAtShutdown", DatabaseDifferCase: "DatabaseDifferCase",
	OutOfDiskSpace: "OutOfDiskSpace", WriteConflict: "WriteConflict", UnknownField: "IDLUnknownField", missingField: "IDLFailedToParse",
}

// Error is an error as it goes over the wire: the answer to a whole command, one of a write's writeErrors, or a write
// concern's error.
type Error struct {
	Code    int32
	Message string
	Labels  []string // errorLabels, such as RetryableWriteError

	details []byte // further elements, such as keyPattern
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("(%s) %s", e.name(), e.Message) }

func (e *Error) name() string {
	if name, ok := codeNames[e.Code]; ok {
		return name
	}
	return fmt.Sprintf("Location%d", e.Code)
}

func errorf(code int32, format string, args ...any) error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// unsupported is for what the real server knows and this one does not, so that a test that needs it says so at once.
func unsupported(format string, args ...any) error {
	return errorf(UnsupportedByMongotest, "the in-memory server does not support "+format, args...)
}
