package mongotest

import (
	"errors"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// command is what the server can be asked. Its run appends the elements of the answer to dst.
type command struct {
	run       func(r *request, dst []byte) ([]byte, error)
	fields    string // the arguments that it knows beside those of every command
	adminOnly bool
	write     bool
}

// Every command takes these.
var genericFields = strings.Fields(`lsid $db txnNumber autocommit startTransaction stmtId stmtIds $clusterTime readConcern
	writeConcern $readPreference maxTimeMS maxTimeMSOpOnly comment apiVersion apiStrict apiDeprecationErrors $comment
	rawData help`)

var commands = map[string]command{
	"hello":             {run: hello, fields: "*"},
	"isMaster":          {run: hello, fields: "*"},
	"ismaster":          {run: hello, fields: "*"},
	"ping":              {run: ping},
	"buildInfo":         {run: buildInfo},
	"buildinfo":         {run: buildInfo},
	"serverStatus":      {run: serverStatus, fields: "*"},
	"getParameter":      {run: getParameter, fields: "*", adminOnly: true},
	"setParameter":      {run: setParameter, fields: "*", adminOnly: true},
	"connectionStatus":  {run: connectionStatus, fields: "showPrivileges"},
	"whatsmyuri":        {run: whatsMyURI},
	"currentOp":         {run: currentOp, fields: "*", adminOnly: true},
	"endSessions":       {run: ping},
	"listDatabases":     {run: listDatabases, fields: "filter nameOnly authorizedDatabases", adminOnly: true},
	"dropDatabase":      {run: dropDatabase, write: true},
	"dbStats":           {run: dbStats, fields: "scale freeStorage"},
	"dbstats":           {run: dbStats, fields: "scale freeStorage"},
	"listCollections":   {run: listCollections, fields: "filter nameOnly authorizedCollections cursor"},
	"create":            {run: create, fields: "*", write: true},
	"drop":              {run: drop, write: true},
	"renameCollection":  {run: renameCollection, fields: "to dropTarget stayTemp", adminOnly: true, write: true},
	"collMod":           {run: collMod, fields: "*", write: true},
	"collStats":         {run: collStats, fields: "scale"},
	"collstats":         {run: collStats, fields: "scale"},
	"listIndexes":       {run: listIndexes, fields: "cursor"},
	"createIndexes":     {run: createIndexes, fields: "indexes commitQuorum ignoreUnknownIndexOptions", write: true},
	"dropIndexes":       {run: dropIndexes, fields: "index", write: true},
	"deleteIndexes":     {run: dropIndexes, fields: "index", write: true},
	"insert":            {run: insert, fields: "documents ordered bypassDocumentValidation", write: true},
	"update":            {run: update, fields: "updates ordered bypassDocumentValidation let", write: true},
	"delete":            {run: remove, fields: "deletes ordered let", write: true},
	"findAndModify":     {run: findAndModify, fields: findAndModifyFields, write: true},
	"findandmodify":     {run: findAndModify, fields: findAndModifyFields, write: true},
	"find":              {run: find, fields: findFields},
	"getMore":           {run: getMore, fields: "collection batchSize"},
	"killCursors":       {run: killCursors, fields: "cursors"},
	"count":             {run: count, fields: "query limit skip hint collation fields"},
	"distinct":          {run: distinct, fields: "key query collation hint"},
	"aggregate":         {run: aggregate, fields: aggregateFields},
	"abortTransaction":  {run: noTransaction, fields: "*", adminOnly: true},
	"commitTransaction": {run: noTransaction, fields: "*", adminOnly: true},
}

// errDropped ends the connection without an answer.
var errDropped = errors.New("connection dropped by a fault")

// run carries out a request and appends the whole answering document. An error of its own ends the connection.
func (s *Server) run(req *request, out []byte) ([]byte, error) {
	start, out := bsoncore.AppendDocumentStart(out)
	body := len(out)
	out, err := s.execute(req, out)
	if errors.Is(err, errDropped) {
		return nil, err
	}
	if err != nil {
		out = req.appendError(out[:body], err)
	} else {
		out = bsoncore.AppendDoubleElement(req.appendWriteConcern(out), "ok", 1)
	}
	if s.replicaSet != "" {
		out = s.appendTimes(out)
	}
	if req.faults.drop == DropAfter {
		return nil, errDropped
	}
	return end(out, start), nil
}

func (s *Server) execute(req *request, out []byte) ([]byte, error) {
	if n := len(req.body); n > maxBodySize {
		return out, errorf(BSONObjectTooLarge, "BSONObj size: %d (0x%X) is invalid. Size must be between 0 and %d(16MB)", n, n, maxBodySize)
	}
	s.hooks.call(req)
	if err := s.strike(req); err != nil {
		return out, err
	}
	cmd, ok := commands[req.name]
	if !ok {
		return out, errorf(CommandNotFound, "no such command: '%s'", req.name)
	}
	if cmd.adminOnly && req.db != "admin" {
		return out, errorf(Unauthorized, "%s may only be run against the admin database.", req.name)
	}
	if err := req.checkFields(cmd); err != nil {
		return out, err
	}
	if err := req.checkConcerns(); err != nil {
		return out, err
	}
	if cmd.write {
		return s.sessions.once(req, out, cmd.run)
	}
	return cmd.run(req, out)
}

func (r *request) checkFields(cmd command) error {
	if cmd.fields == "*" {
		return nil
	}
	known := strings.Fields(cmd.fields)
	if (r.name == "insert" || r.name == "update") && r.server.version.knowsEmptyTimestamps() {
		known = append(known, "bypassEmptyTsReplacement")
	}
	for e := range elements(r.body) {
		key := e.Key()
		if key != r.name && !slices.Contains(known, key) && !slices.Contains(genericFields, key) {
			return errorf(UnknownField, "BSON field '%s.%s' is an unknown field.", r.name, key)
		}
	}
	return nil
}

// checkConcerns refuses what one server alone cannot promise, before anything is done.
func (r *request) checkConcerns() error {
	if r.server.replicaSet != "" {
		return nil
	}
	if _, ok := r.lookup("txnNumber"); ok {
		return errorf(IllegalOperation, "Transaction numbers are only allowed on a replica set member or mongos")
	}
	concern := subdocument(r.body, "readConcern")
	if _, ok := lookup(concern, "afterClusterTime"); ok || text(concern, "level") == "snapshot" {
		return errorf(NotAReplicaSet, "node needs to be a replica set member to use read concern")
	}
	if w, ok := lookup(subdocument(r.body, "writeConcern"), "w"); ok {
		if n, ok := asInt(w); ok && n > 1 {
			return errorf(BadValue, "cannot use 'w' > 1 when a host is not replicated")
		}
	}
	return nil
}

// appendWriteConcern tells what became of the promise that a write should survive.
func (r *request) appendWriteConcern(out []byte) []byte {
	failed := r.faults.writeConcern
	if !commands[r.name].write {
		return out
	}
	if w, ok := lookup(subdocument(r.body, "writeConcern"), "w"); ok && failed == nil {
		if n, ok := asInt(w); ok && n > 1 {
			failed = &Error{Code: CannotSatisfyWriteConcern, Message: "Not enough data-bearing nodes"}
		}
	}
	if failed == nil {
		return out
	}
	start, out := bsoncore.AppendDocumentElementStart(out, "writeConcernError")
	out = bsoncore.AppendInt32Element(out, "code", failed.Code)
	out = bsoncore.AppendStringElement(out, "codeName", failed.name())
	out = bsoncore.AppendStringElement(out, "errmsg", failed.Message)
	return end(out, start)
}

// With these a driver may send the same write again.
var retryableCodes = []int32{HostUnreachable, ShutdownInProgress, NotWritablePrimary, InterruptedAtShutdown, 7, 89, 189,
	262, 9001, 11602, 13435, 13436}

func (r *request) appendError(out []byte, err error) []byte {
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Code: 8, Message: err.Error()} // UnknownError
	}
	labels := e.Labels
	if _, retried := r.lookup("txnNumber"); retried && labels == nil && slices.Contains(retryableCodes, e.Code) {
		labels = []string{"RetryableWriteError"}
	}
	if labels != nil {
		out = appendStrings(out, "errorLabels", labels)
	}
	out = bsoncore.AppendDoubleElement(out, "ok", 0)
	out = bsoncore.AppendStringElement(out, "errmsg", e.Message)
	out = bsoncore.AppendInt32Element(out, "code", e.Code)
	out = bsoncore.AppendStringElement(out, "codeName", e.name())
	return append(out, e.details...)
}

func noTransaction(_ *request, dst []byte) ([]byte, error) {
	return dst, unsupported("transactions")
}
