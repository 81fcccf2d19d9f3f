package mongotest

import (
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// operations of every client, as currentOp and $currentOp list them. Idle connections are listed on request.
func (s *Server) operations(idle bool) []document {
	s.connsMu.Lock()
	var conns []*conn
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.connsMu.Unlock()
	slices.SortFunc(conns, func(a, b *conn) int { return int(a.id - b.id) })
	var docs []document
	for _, c := range conns {
		if d := c.describe(idle); d != nil {
			docs = append(docs, d)
		}
	}
	return docs
}

func (c *conn) describe(idle bool) document {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.op == nil && !idle {
		return nil
	}
	return build(func(dst []byte) []byte {
		dst = bsoncore.AppendStringElement(dst, "type", "op")
		dst = bsoncore.AppendStringElement(dst, "host", c.server.Address())
		dst = bsoncore.AppendStringElement(dst, "desc", "conn")
		dst = bsoncore.AppendInt32Element(dst, "connectionId", int32(c.id))
		dst = bsoncore.AppendStringElement(dst, "client", c.net.RemoteAddr().String())
		if c.app != "" {
			dst = bsoncore.AppendStringElement(dst, "appName", c.app)
		}
		if c.client != nil {
			dst = bsoncore.AppendDocumentElement(dst, "clientMetadata", c.client)
		}
		dst = bsoncore.AppendBooleanElement(dst, "active", c.op != nil)
		dst = bsoncore.AppendStringElement(dst, "currentOpTime", time.Now().Format(time.RFC3339Nano))
		if c.op == nil {
			return dst
		}
		dst = bsoncore.AppendInt64Element(dst, "opid", c.id)
		dst = bsoncore.AppendStringElement(dst, "op", opKind(c.op.name))
		dst = bsoncore.AppendStringElement(dst, "ns", c.op.target().String())
		dst = bsoncore.AppendDocumentElement(dst, "command", c.op.body)
		if session := subdocument(c.op.body, "lsid"); session != nil {
			dst = bsoncore.AppendDocumentElement(dst, "lsid", session)
		}
		return bsoncore.AppendInt64Element(dst, "microsecs_running", time.Since(c.op.received).Microseconds())
	})
}

func opKind(command string) string {
	switch command {
	case "insert", "update":
		return command
	case "delete":
		return "remove"
	case "find":
		return "query"
	case "getMore":
		return "getmore"
	default:
		return "command"
	}
}

func currentOp(r *request, dst []byte) ([]byte, error) {
	filter := without(r.body, append([]string{r.name, "$all", "$ownOps", "$truncateOps"}, genericFields...)...)
	match, err := compileFilter(filter)
	if err != nil {
		return dst, err
	}
	docs := r.server.operations(flag(r.body, "$all"))
	if match != nil {
		docs = slices.DeleteFunc(docs, func(d document) bool { return !match(d) })
	}
	return appendDocuments(dst, "inprog", docs), nil
}

func currentOpStage(r *request, ns namespace, s stage) (stream, error) {
	if ns.db != "admin" || ns.coll != "$cmd.aggregate" {
		return nil, errorf(InvalidNamespace, "$currentOp must be run against the 'admin' database with {aggregate: 1}")
	}
	return listStream(r.server.operations(flag(s.document(), "idleConnections"))), nil
}
