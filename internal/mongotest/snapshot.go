package mongotest

import "go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

// keptSnapshots is how many moments the server remembers; the real one forgets them by their age.
const keptSnapshots = 4

// snapshot is everything at one moment. A nil snapshot stands for now.
type snapshot struct {
	at          timestamp
	collections map[namespace]*collection
}

// readTime is the moment that a command wants to read at. The server is locked for reading.
func (s *Server) readTime(r *request) (*snapshot, error) {
	concern := subdocument(r.body, "readConcern")
	if text(concern, "level") != "snapshot" {
		return nil, nil
	}
	s.snapshotsMu.Lock()
	defer s.snapshotsMu.Unlock()
	if v, ok := lookup(concern, "atClusterTime"); ok {
		t, i, ok := v.TimestampOK()
		if !ok {
			return nil, errorf(TypeMismatch, "BSON field 'readConcern.atClusterTime' is the wrong type '%s', expected type "+
				"'timestamp'", typeName(v.Type))
		}
		for _, snap := range s.snapshots {
			if snap.at == (timestamp{t, i}) {
				return snap, nil
			}
		}
		return nil, errorf(SnapshotTooOld, "Read timestamp Timestamp(%d, %d) is older than the oldest available timestamp.", t, i)
	}
	snap := &snapshot{at: s.tick(), collections: map[namespace]*collection{}}
	for _, db := range s.databases {
		for _, c := range db.colls {
			snap.collections[c.ns] = c.copy()
		}
	}
	s.snapshots = append(s.snapshots, snap)
	if len(s.snapshots) > keptSnapshots {
		s.snapshots = s.snapshots[1:]
	}
	return snap, nil
}

// ForgetSnapshots makes every snapshot read that is under way fail with SnapshotTooOld, as it does on a real server
// after minSnapshotHistoryWindowInSeconds.
func (s *Server) ForgetSnapshots() {
	s.snapshotsMu.Lock()
	defer s.snapshotsMu.Unlock()
	s.snapshots = nil
}

// copy is the collection as it is now. Its records are its own, its documents are shared.
func (c *collection) copy() *collection {
	all := make([]record, 0, c.live)
	for _, r := range c.records {
		if r.doc != nil {
			all = append(all, *r)
		}
	}
	twin := &collection{ns: c.ns, kind: c.kind, uuid: c.uuid, options: c.options, indexes: c.indexes, clustered: c.clustered, live: c.live,
		bytes: c.bytes}
	twin.records = make([]*record, len(all))
	for i := range all {
		twin.records[i] = &all[i]
	}
	return twin
}

func (at *snapshot) collection(s *Server, ns namespace) *collection {
	if at == nil {
		return s.collection(ns)
	}
	return at.collections[ns]
}

// append tells the client which moment it reads.
func (at *snapshot) append(dst []byte) []byte {
	if at == nil {
		return dst
	}
	return bsoncore.AppendTimestampElement(dst, "atClusterTime", at.at.T, at.at.I)
}
