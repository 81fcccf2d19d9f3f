package restore

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/backup"
)

// Connected is who is connected to the server, as Quiet would see it.
type Connected struct {
	Listed  bool     // the server lists its clients; where not, quiet is proven by two equal readings
	Others  []string // application names, or addresses, of clients that must be gone before a swap
	Ignored []string // application names that may stay
}

// ListClients looks at what Quiet looks at, and waits for nothing.
func ListClients(ctx context.Context, db *mongo.Database, o QuietOptions) (Connected, error) {
	seen, err := clients(ctx, db, o)
	c := Connected{Listed: seen.listed, Ignored: seen.ignored}
	if w, ok := errors.AsType[*WriterError](err); ok {
		for _, writer := range w.Writers {
			if name := cmp.Or(writer.AppName, writer.Address); !slices.Contains(c.Others, name) {
				c.Others = append(c.Others, name)
			}
		}
		return c, nil
	}
	return c, err
}

// Room is what a staged copy needs on the database server, estimated, and what is free there, in bytes.
type Room struct {
	Need, Free int64
	Known      bool  // the server tells its free space
	Stored     int64 // what the database's documents take there now
	Documents  int64 // the same uncompressed
}

// RoomFor asks the server what so many bytes of documents will take there, as Stage does before it loads anything.
func RoomFor(ctx context.Context, db *mongo.Database, need int64) (Room, error) {
	var d disk
	if err := db.RunCommand(ctx, bson.D{{Key: "dbStats", Value: 1}}).Decode(&d); err != nil {
		return Room{}, err
	}
	r := Room{Known: d.FsTotalSize > 0, Stored: int64(d.StorageSize), Documents: int64(d.DataSize)}
	r.Need, r.Free = d.estimate(need)
	return r, nil
}

// HeldBy says who holds the lease on a database now, and since when; ok is false where nobody does.
func HeldBy(ctx context.Context, db *mongo.Database) (h Holder, since time.Time, ok bool, err error) {
	now, err := readLease(ctx, db)
	if err != nil || now == nil || now.Owner == "" {
		return Holder{}, time.Time{}, false, err
	}
	return Holder{Owner: now.Owner, Run: now.Run, Purpose: now.Purpose}, now.Since, true, nil
}

// Rights is what the user under which we are connected may do.
type Rights struct {
	Known   bool     // the server tells
	Open    bool     // it asks for no login
	Missing []string // actions that are needed on the database, and the user has not
	// Series are time series whose buckets the user may not read, and so not back up: up to MongoDB 8.2 they lie in system collections,
	// which rights on one database leave out. The built-in roles backup and readAnyDatabase include them.
	Series []string
	InProg bool // may list the clients of others
}

// DumpActions are what a dump needs on a database.
func DumpActions() []string { return []string{"listCollections", "listIndexes", "find"} }

// Actions are what staging, swapping and merging need on a database. The built-in role
// readWrite includes them all. Where documents do not satisfy a validator, bypassDocumentValidation is needed, too, which dbAdmin includes.
func Actions() []string {
	return append(DumpActions(), "insert", "update", "remove", "createCollection", "createIndex", "dropCollection", "renameCollectionSameDB")
}

// CheckRights asks the server whether we may do all of these actions, and tries nothing.
func CheckRights(ctx context.Context, db *mongo.Database, actions []string) (Rights, error) {
	var status connectionStatus
	err := db.Client().Database("admin").RunCommand(ctx, bson.D{{Key: "connectionStatus", Value: 1}, {Key: "showPrivileges", Value: true}}).Decode(&status)
	var refused mongo.CommandError
	if errors.As(err, &refused) && !transient(err) {
		return Rights{}, nil // it does not know the question
	}
	if err != nil {
		return Rights{}, err
	}
	r := status.rights(db.Name(), actions)
	if !r.Known || r.Open || len(r.Missing) > 0 || status.reads(db.Name()) {
		return r, nil
	}
	there, err := collections(ctx, db)
	r.Series = status.closed(db.Name(), there)
	return r, err
}

// connectionStatus is the answer to the command of that name.
type connectionStatus struct {
	AuthInfo struct {
		Users      bson.Raw `bson:"authenticatedUsers"`
		Privileges []struct {
			Resource struct {
				DB          *string `bson:"db"`
				Collection  *string `bson:"collection"`
				Buckets     *string `bson:"system_buckets"`
				Cluster     bool    `bson:"cluster"`
				AnyResource bool    `bson:"anyResource"`
			} `bson:"resource"`
			Actions []string `bson:"actions"`
		} `bson:"authenticatedUserPrivileges"`
	} `bson:"authInfo"`
}

// closed are the time series whose buckets may not be read.
func (s connectionStatus) closed(database string, there map[string]info) []string {
	var list []string
	for _, name := range sortedKeys(there) {
		at := there[name].site(name).collection
		if there[name].kind == backup.TypeTimeseries && isBuckets(at) && !s.readsOne(database, name, at) {
			list = append(list, name)
		}
	}
	return list
}

// reads says whether the buckets of all time series of a database may be read.
func (s connectionStatus) reads(database string) bool { return s.readsOne(database, "", "") }

// readsOne says whether the buckets of one may be, which lie in the collection at.
func (s connectionStatus) readsOne(database, series, at string) bool {
	for _, p := range s.AuthInfo.Privileges {
		of := p.Resource
		named := func(name *string, all bool, want string) bool {
			return name != nil && (all && *name == "" || want != "" && *name == want)
		}
		where := of.DB == nil || *of.DB == "" || *of.DB == database
		if !of.AnyResource && (!where || !named(of.Buckets, true, series) && !named(of.Collection, false, at)) {
			continue
		}
		if slices.Contains(p.Actions, "find") || of.AnyResource && slices.Contains(p.Actions, "anyAction") {
			return true
		}
	}
	return false
}

// rights adds up the privileges that hold for all collections of a database.
func (s connectionStatus) rights(database string, actions []string) Rights {
	users, _ := s.AuthInfo.Users.Elements()
	if len(users) == 0 {
		return Rights{Known: true, Open: true, InProg: true}
	}
	if len(s.AuthInfo.Privileges) == 0 {
		return Rights{}
	}
	r := Rights{Known: true}
	may := map[string]bool{}
	for _, p := range s.AuthInfo.Privileges {
		of := p.Resource
		whole := of.DB != nil && (*of.DB == "" || *of.DB == database) && of.Collection != nil && *of.Collection == ""
		for _, action := range p.Actions {
			any := of.AnyResource && action == "anyAction"
			r.InProg = r.InProg || action == "inprog" && (of.Cluster || of.AnyResource) || any
			if whole || of.AnyResource {
				may[action] = true
			}
		}
	}
	if may["anyAction"] {
		return r
	}
	for _, action := range actions {
		if !may[action] {
			r.Missing = append(r.Missing, action)
		}
	}
	return r
}
