package restore

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
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
	InProg  bool     // may list the clients of others
}

// DumpActions are what a dump needs on a database.
func DumpActions() []string { return []string{"listCollections", "listIndexes", "find"} }

// Actions are what staging, swapping and merging need on a database. The built-in role
// readWrite includes them all. Where collections have validators, bypassDocumentValidation is needed, too, which dbAdmin includes.
func Actions() []string {
	return append(DumpActions(), "insert", "update", "createCollection", "createIndex", "dropCollection", "renameCollectionSameDB")
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
	return status.rights(db.Name(), actions), nil
}

// connectionStatus is the answer to the command of that name.
type connectionStatus struct {
	AuthInfo struct {
		Users      bson.Raw `bson:"authenticatedUsers"`
		Privileges []struct {
			Resource struct {
				DB          *string `bson:"db"`
				Collection  *string `bson:"collection"`
				Cluster     bool    `bson:"cluster"`
				AnyResource bool    `bson:"anyResource"`
			} `bson:"resource"`
			Actions []string `bson:"actions"`
		} `bson:"authenticatedUserPrivileges"`
	} `bson:"authInfo"`
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
