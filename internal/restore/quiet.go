package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// QuietOptions say how quiet is proven.
type QuietOptions struct {
	For  time.Duration // how long nothing may happen; 0: two seconds
	Self []string      // the application names of runbook's own connections
	// Ignore are application names of clients that may stay connected, such as a monitoring agent's. They are taken at their word
	// only as far as it goes: while one of them is connected, two readings of all documents must be equal too.
	Ignore []string
}

// Quietness says how it was seen that nobody writes.
type Quietness struct {
	Method    string // one sentence for people
	Documents int64  // that were compared, where clients could not be listed
}

const quietFor = 2 * time.Second

// Quiet proves that nobody but runbook uses the database. Where the server lists its clients ($currentOp, with the right
// to see those of other users) there must be none but runbook's own, now and after the time is over: an idle connection
// of somebody else's can write at any moment. Where it does not, or where clients are connected that are to be ignored, two
// readings of all documents must be equal. Otherwise a *WriterError names the clients, or the collections that have changed.
func Quiet(ctx context.Context, db *mongo.Database, o QuietOptions) (Quietness, error) {
	if o.For <= 0 {
		o.For = quietFor
	}
	for first := true; ; first = false {
		seen, err := clients(ctx, db, o)
		switch {
		case err != nil:
			return Quietness{}, err
		case !seen.listed:
			return unchanged(ctx, db, o.For)
		case len(seen.ignored) > 0:
			q, err := unchanged(ctx, db, o.For)
			q.Method += "; connected all the while, and ignored as configured: " + some(seen.ignored)
			return q, err
		case !first:
			return Quietness{Method: fmt.Sprintf("no other client was connected to the server, now and %s before", o.For)}, nil
		}
		if !rest(ctx, o.For) {
			return Quietness{}, ctx.Err()
		}
	}
}

// operation is what $currentOp says of one connection.
type operation struct {
	Client   string `bson:"client"`
	AppName  string `bson:"appName"`
	NS       string `bson:"ns"`
	Op       string `bson:"op"`
	Metadata struct {
		Application struct {
			Name string `bson:"name"`
		} `bson:"application"`
		Driver struct {
			Name string `bson:"name"`
		} `bson:"driver"`
	} `bson:"clientMetadata"`
	EffectiveUsers []effectiveUser `bson:"effectiveUsers"`
}

type effectiveUser struct {
	User string `bson:"user"`
	DB   string `bson:"db"`
}

func (o operation) app() string {
	if o.AppName != "" {
		return o.AppName
	}
	return o.Metadata.Application.Name
}

// internal says whether a connection is the servers' own, between each other.
func (o operation) internal() bool {
	driver := o.Metadata.Driver.Name
	// What follows in the first driver's name is what the connection is for: NetworkInterfaceTL-ReplNetwork. The old shell names the same
	// driver as the servers do, but says that it is a shell.
	return o.Client == "" || strings.HasPrefix(driver, "NetworkInterfaceTL") || driver == "MongoDB Internal Client" && o.app() != "MongoDB Shell" ||
		slices.Contains(o.EffectiveUsers, effectiveUser{"__system", "local"})
}

// connected is what the server says of its clients.
type connected struct {
	listed  bool     // false where it does not list them, or not all: some answer with an empty list, so ours must be in it
	ignored []string // application names
}

// clients fails with *WriterError when the server lists a client that is neither ours nor to be ignored.
func clients(ctx context.Context, db *mongo.Database, o QuietOptions) (connected, error) {
	var seen connected
	h, err := ask(ctx, db)
	if err != nil {
		return seen, err
	}
	if h.Msg == "isdbgrid" {
		return seen, nil // a mongos knows its own clients only
	}
	stage := bson.D{{Key: "$currentOp", Value: bson.D{{Key: "allUsers", Value: true}, {Key: "idleConnections", Value: true}}}}
	var operations []operation
	err = persist(ctx, func() error {
		operations = nil
		// Each member knows its own clients only. And no server answers this with another read concern than local.
		cursor, err := primary(db.Client().Database("admin")).Aggregate(ctx, mongo.Pipeline{stage})
		if err != nil {
			return err
		}
		return cursor.All(ctx, &operations)
	})
	if err != nil {
		var refused mongo.CommandError
		if errors.As(err, &refused) && !transient(err) {
			return seen, nil
		}
		return seen, fmt.Errorf("list the server's clients: %w", err)
	}
	var writers []Writer
	for _, op := range operations {
		switch app := op.app(); {
		case app != "" && slices.Contains(o.Self, app):
			seen.listed = true
		case op.internal():
		case app != "" && slices.Contains(o.Ignore, app):
			if !slices.Contains(seen.ignored, app) {
				seen.ignored = append(seen.ignored, app)
			}
		default:
			w := Writer{Address: op.Client, AppName: app, Namespace: op.NS}
			if op.NS != "" {
				w.Operation = op.Op
			}
			writers = append(writers, w)
		}
	}
	if len(writers) > 0 {
		return seen, &WriterError{Writers: distinct(writers)}
	}
	slices.Sort(seen.ignored)
	return seen, nil
}

// distinct orders clients, the working ones first, and keeps one connection of each idle application.
func distinct(writers []Writer) []Writer {
	idle := func(w Writer) int {
		if w.Namespace == "" {
			return 1
		}
		return 0
	}
	slices.SortFunc(writers, func(a, b Writer) int {
		return cmp.Or(cmp.Compare(idle(a), idle(b)), cmp.Compare(a.AppName, b.AppName), cmp.Compare(a.Address, b.Address))
	})
	return slices.CompactFunc(writers, func(a, b Writer) bool {
		return idle(a)+idle(b) == 2 && a.AppName != "" && a.AppName == b.AppName
	})
}
