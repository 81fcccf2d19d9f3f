package dump

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"github.com/battwheels/runbook/internal/backup"
)

// listing is one entry of listCollections.
type listing struct {
	name    string
	kind    backup.Type
	options bson.Raw // nil where there are none
	uuid    string   // hex; empty where the server has none
}

// dataName is the collection that holds the documents.
func (l listing) dataName() string {
	if l.kind == backup.TypeTimeseries && !l.raw() {
		return backup.BucketsPrefix + l.name
	}
	return l.name
}

// raw says that a time series is a collection itself, and shows its buckets to who asks with rawData: from MongoDB 8.3 on (DRIVERS-3064). Before,
// it is a view of a collection beside it, and has no UUID.
func (l listing) raw() bool { return l.kind == backup.TypeTimeseries && l.uuid != "" }

// listings is what listCollections says, divided.
type listings struct {
	collections []listing
	reserved    []string // runbook's own, which no backup holds
}

// peculiarities are what a compatible server does otherwise.
type peculiarities struct{ ferret bool }

// lacks says that the server cannot store values of a type, and that asking for one breaks the connection: so does
// FerretDB v1, also with NaN, the one double that salvaging asks for by itself.
func (p peculiarities) lacks(t bson.Type) bool {
	switch t {
	case bson.TypeMinKey, bson.TypeMaxKey, bson.TypeJavaScript, bson.TypeDouble:
		return p.ferret
	default:
		return false
	}
}

// documentsFrom says which members are asked for documents.
func (r *run) documentsFrom() *readpref.ReadPref {
	pref, err := readpref.New(r.o.mode)
	if err != nil {
		return readpref.Primary()
	}
	return pref
}

// catalogFrom says which members are asked for all else: the primary, which knows best, unless there is none and others
// may be asked.
func (r *run) catalogFrom() *readpref.ReadPref {
	if r.o.mode == readpref.PrimaryMode || r.o.mode == 0 {
		return readpref.Primary()
	}
	return readpref.PrimaryPreferred()
}

// command runs a command and returns its answer.
func (r *run) command(ctx context.Context, cmd bson.D) (bson.Raw, error) {
	return r.db.RunCommand(ctx, cmd, options.RunCmd().SetReadPreference(r.catalogFrom())).Raw()
}

// describeServer notes version and topology. It asks nothing that a backup depends on: a compatible server may not know
// one of the commands, and a forbidden one is no reason to have no backup.
func (r *run) describeServer(ctx context.Context) (topology string) {
	topology = "unknown"
	if info, err := r.command(ctx, bson.D{{Key: "buildInfo", Value: 1}}); err == nil {
		r.manifest.Server.Version, _ = info.Lookup("version").StringValueOK()
		if v, ok := info.Lookup("ferretdbVersion").StringValueOK(); ok {
			r.manifest.Server.Version += " (FerretDB " + v + ")"
			r.server.ferret = true
		}
	}
	if hello, err := r.command(ctx, bson.D{{Key: "hello", Value: 1}}); err == nil {
		set, isSet := hello.Lookup("setName").StringValueOK()
		message, _ := hello.Lookup("msg").StringValueOK()
		switch {
		case isSet:
			topology = "replica set " + set
			r.remember(hello)
		case message == "isdbgrid":
			topology = "sharded"
		default:
			topology = "standalone"
		}
	}
	r.manifest.Server.Topology = topology
	return topology
}

// remember notes the primary's time, which the other members must have reached before they are asked for documents.
func (r *run) remember(hello bson.Raw) {
	if r.o.mode == readpref.PrimaryMode {
		return
	}
	r.manifest.Server.ReadPreference = r.o.ReadPreference
	primary, _ := hello.Lookup("isWritablePrimary").BooleanOK()
	t, i, ok := hello.Lookup("operationTime").TimestampOK()
	if !primary || !ok {
		r.manifest.Notes = append(r.manifest.Notes, "read with preference "+r.o.ReadPreference+" while there was no primary: what was written last may be missing")
		return
	}
	r.acknowledged = bson.D{{Key: "afterClusterTime", Value: bson.Timestamp{T: t, I: i}}}
}

// list reads what the database has. A server that is away for a moment is waited for.
func (r *run) list(ctx context.Context) (listings, error) {
	var l listings
	err := r.patiently(ctx, func() error {
		l = listings{}
		return r.each(ctx, bson.D{{Key: "listCollections", Value: 1}, {Key: "cursor", Value: bson.D{}}}, func(doc bson.Raw) error {
			one, err := newListing(doc)
			switch {
			case err != nil:
				return err
			case backup.Reserved(one.name):
				l.reserved = append(l.reserved, one.name)
			case strings.HasPrefix(one.name, "system.") && one.name != "system.js":
			default:
				l.collections = append(l.collections, one)
			}
			return nil
		})
	})
	slices.SortFunc(l.collections, func(a, b listing) int { return strings.Compare(a.name, b.name) })
	return l, err
}

func newListing(doc bson.Raw) (listing, error) {
	name, ok := doc.Lookup("name").StringValueOK()
	if !ok {
		return listing{}, fmt.Errorf("the server lists a collection without a name: %s", doc)
	}
	l := listing{name: name, kind: backup.TypeCollection}
	if o, ok := doc.Lookup("options").DocumentOK(); ok && len(o) > 5 {
		l.options = slices.Clone(o)
	}
	if t, ok := doc.Lookup("type").StringValueOK(); ok {
		l.kind = backup.Type(t)
	} else if l.options.Lookup("viewOn").Type != 0 {
		l.kind = backup.TypeView
	}
	if _, id, ok := doc.Lookup("info", "uuid").BinaryOK(); ok {
		l.uuid = fmt.Sprintf("%x", id)
	}
	switch l.kind {
	case backup.TypeCollection, backup.TypeView, backup.TypeTimeseries:
		return l, nil
	default:
		return listing{}, fmt.Errorf("collection %s is of type %q, which this version cannot back up", name, l.kind)
	}
}

// each runs a command that opens a cursor and calls f with each document. The document is valid during the call.
func (r *run) each(ctx context.Context, cmd bson.D, f func(bson.Raw) error) error {
	cursor, err := r.db.RunCommandCursor(ctx, cmd, options.RunCmd().SetReadPreference(r.catalogFrom()))
	if err != nil {
		return err
	}
	defer closeCursor(ctx, cursor)
	for cursor.Next(ctx) {
		if err := f(cursor.Current); err != nil {
			return err
		}
	}
	return cursor.Err()
}

// closeCursor frees a cursor on the server. Where that fails the server frees it by itself after its idle time.
func closeCursor(ctx context.Context, cursor interface{ Close(context.Context) error }) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = cursor.Close(ctx)
}

// totals is what is to be read. Zero where the server does not say.
type totals struct {
	documents, bytes, stored int64
}

// totals asks for the database's size and takes off what belongs to runbook, which may well be most of it.
func (r *run) totals(ctx context.Context, l listings) totals {
	// FerretDB looks at every page of the database for each of these answers, which takes longer than the dump.
	if r.server.ferret {
		return totals{}
	}
	stats, err := r.command(ctx, bson.D{{Key: "dbStats", Value: 1}})
	if err != nil {
		return totals{}
	}
	t := totals{number(stats, "objects"), number(stats, "dataSize"), number(stats, "storageSize")}
	for _, name := range l.reserved {
		stats, err := r.command(ctx, bson.D{{Key: "collStats", Value: name}})
		if err != nil {
			continue
		}
		t.documents -= number(stats, "count")
		t.bytes -= number(stats, "size")
		t.stored -= number(stats, "storageSize")
	}
	return totals{max(t.documents, 0), max(t.bytes, 0), max(t.stored, 0)}
}

func number(doc bson.Raw, key string) int64 {
	n, _ := doc.Lookup(key).AsInt64OK()
	return n
}

// spare is left free on the disk, for manifests and for what else lives there.
const spare = 32 << 20

// checkSpace expects our files to be no larger than what the server stores compressed, or than the documents. What a
// dead attempt has already written counts as there.
func (r *run) checkSpace(t totals) error {
	need := t.bytes
	if t.stored > 0 {
		need = min(need, t.stored)
	}
	need = max(need-size(r.work), 0) + spare
	have, err := r.freeBytes(r.work)
	if err != nil {
		return onDisk(r.work, err)
	}
	if have < need {
		return &SpaceError{Dir: r.work, Need: need, Have: have}
	}
	return nil
}

// leaveOutDropped takes empty collections out of the manifest that the server no longer has: one that is dropped before
// its first document is read looks empty.
func (r *run) leaveOutDropped(ctx context.Context) error {
	if !slices.ContainsFunc(r.manifest.Collections, maybeDropped) {
		return nil
	}
	now, err := r.list(ctx)
	if err != nil {
		if r.o.Salvage && ctx.Err() == nil {
			return nil
		}
		return fmt.Errorf("list collections again: %w", err)
	}
	there := map[string]bool{}
	for _, l := range now.collections {
		there[l.name] = true
	}
	r.manifest.Collections = slices.DeleteFunc(r.manifest.Collections, func(c backup.Collection) bool {
		gone := maybeDropped(c) && !there[c.Name]
		if gone {
			r.manifest.Dropped = append(r.manifest.Dropped, c.Name)
		}
		return gone
	})
	return nil
}

func maybeDropped(c backup.Collection) bool {
	return c.Type != backup.TypeView && c.Digest.Documents == 0
}
