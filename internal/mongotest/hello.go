package mongotest

import (
	"os"
	"time"

	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

func hello(r *request, dst []byte) ([]byte, error) {
	s := r.server
	if client := subdocument(r.body, "client"); client != nil {
		r.conn.introduce(client)
	}
	primary := "isWritablePrimary"
	if r.name != "hello" {
		primary = "ismaster"
	}
	dst = bsoncore.AppendBooleanElement(dst, "helloOk", true)
	dst = bsoncore.AppendBooleanElement(dst, primary, true)
	if s.replicaSet != "" {
		dst = bsoncore.AppendStringElement(dst, "setName", s.replicaSet)
		dst = bsoncore.AppendInt32Element(dst, "setVersion", 1)
		dst = bsoncore.AppendBooleanElement(dst, "secondary", false)
		dst = appendStrings(dst, "hosts", []string{s.Address()})
		dst = bsoncore.AppendStringElement(dst, "primary", s.Address())
		dst = bsoncore.AppendStringElement(dst, "me", s.Address())
		dst = bsoncore.AppendObjectIDElement(dst, "electionId", [12]byte{0x7f, 0xff, 0xff, 0xff, 11: 1})
	}
	dst = bsoncore.AppendInt32Element(dst, "maxBsonObjectSize", maxDocumentSize)
	dst = bsoncore.AppendInt32Element(dst, "maxMessageSizeBytes", maxMessageSize)
	dst = bsoncore.AppendInt32Element(dst, "maxWriteBatchSize", maxBatchCount)
	dst = bsoncore.AppendTimeElement(dst, "localTime", time.Now())
	dst = bsoncore.AppendInt32Element(dst, "logicalSessionTimeoutMinutes", 30)
	dst = bsoncore.AppendInt32Element(dst, "connectionId", int32(r.conn.id))
	dst = bsoncore.AppendInt32Element(dst, "minWireVersion", 0)
	dst = bsoncore.AppendInt32Element(dst, "maxWireVersion", s.version.wire())
	return bsoncore.AppendBooleanElement(dst, "readOnly", false), nil
}

func (c *conn) introduce(client document) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.client = client
	c.app = text(subdocument(client, "application"), "name")
}

func ping(_ *request, dst []byte) ([]byte, error) { return dst, nil }

func buildInfo(r *request, dst []byte) ([]byte, error) {
	v := r.server.version
	dst = bsoncore.AppendStringElement(dst, "version", v.String())
	dst = bsoncore.AppendStringElement(dst, "gitVersion", "mongotest")
	dst = bsoncore.AppendArrayElement(dst, "modules", emptyDocument)
	dst = bsoncore.BuildArrayElement(dst, "versionArray", int32Value(int32(v.major)), int32Value(int32(v.minor)),
		int32Value(int32(v.patch)), int32Value(0))
	dst = bsoncore.AppendInt32Element(dst, "bits", 64)
	dst = bsoncore.AppendBooleanElement(dst, "debug", false)
	return bsoncore.AppendInt32Element(dst, "maxBsonObjectSize", maxDocumentSize), nil
}

func serverStatus(r *request, dst []byte) ([]byte, error) {
	s := r.server
	host, _ := os.Hostname() // a server without a name is one without a name
	dst = bsoncore.AppendStringElement(dst, "host", host)
	dst = bsoncore.AppendStringElement(dst, "version", s.version.String())
	dst = bsoncore.AppendStringElement(dst, "process", "mongod")
	dst = bsoncore.AppendInt64Element(dst, "pid", int64(os.Getpid()))
	dst = bsoncore.AppendDoubleElement(dst, "uptime", time.Since(s.started).Seconds())
	dst = bsoncore.AppendTimeElement(dst, "localTime", time.Now())
	s.connsMu.Lock()
	current := len(s.conns)
	s.connsMu.Unlock()
	start, dst := bsoncore.AppendDocumentElementStart(dst, "connections")
	dst = bsoncore.AppendInt32Element(dst, "current", int32(current))
	dst = bsoncore.AppendInt64Element(dst, "totalCreated", s.nextConn.Load())
	dst = end(dst, start)
	start, dst = bsoncore.AppendDocumentElementStart(dst, "storageEngine")
	return end(bsoncore.AppendStringElement(dst, "name", "wiredTiger"), start), nil
}

func connectionStatus(_ *request, dst []byte) ([]byte, error) {
	start, dst := bsoncore.AppendDocumentElementStart(dst, "authInfo")
	dst = bsoncore.AppendArrayElement(dst, "authenticatedUsers", emptyDocument)
	return end(bsoncore.AppendArrayElement(dst, "authenticatedUserRoles", emptyDocument), start), nil
}

func whatsMyURI(r *request, dst []byte) ([]byte, error) {
	return bsoncore.AppendStringElement(dst, "you", r.conn.net.RemoteAddr().String()), nil
}

// defaultParameters are the ones that a client may want to know.
func defaultParameters() map[string]value {
	return map[string]value{
		"minSnapshotHistoryWindowInSeconds": int32Value(300),
		"transactionLifetimeLimitSeconds":   int32Value(60),
		"ttlMonitorEnabled":                 boolValue(true),
	}
}

func getParameter(r *request, dst []byte) ([]byte, error) {
	s := r.server
	s.mu.RLock()
	defer s.mu.RUnlock()
	first, _ := r.lookup(r.name)
	everything, _ := first.StringValueOK()
	found := false
	for name, v := range s.parameters {
		if _, asked := r.lookup(name); asked || everything == "*" {
			dst = bsoncore.AppendValueElement(dst, name, v)
			found = true
		}
	}
	if !found {
		return dst, errorf(InvalidOptions, "no option found to get")
	}
	return dst, nil
}

func setParameter(r *request, dst []byte) ([]byte, error) {
	s := r.server
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := range elements(r.body) {
		if old, ok := s.parameters[e.Key()]; ok {
			s.parameters[e.Key()] = e.Value()
			return bsoncore.AppendValueElement(dst, "was", old), nil
		}
	}
	return dst, errorf(InvalidOptions, "no option found to set")
}
