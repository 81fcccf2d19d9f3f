package restore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/backup"
)

// LeaseCollection holds one document: who may change the database's collections now.
const LeaseCollection = backup.ReservedPrefix + "lease"

const leaseID = "lease"

// Holder is who asks for the lease.
type Holder struct {
	Owner   string // "restore/battwheels", or "offline HOST:PID"
	Run     string // one attempt of the owner's
	Purpose string // for people who find the lease taken
}

// The kinds of owners that a target has one of each.
const (
	RestoreOwner   = "restore/"
	RetentionOwner = "retention/"
)

// follows says whether a lease may be taken over without being given back. Retention has to give way to a restore, or the lease of one
// that was killed would stop every recovery: it drops what incidents that are over have set aside, which no restore touches, and looks
// at the lease before each.
func (h Holder) follows(owner string) bool {
	return owner == h.Owner || strings.HasPrefix(owner, RetentionOwner) && strings.HasPrefix(h.Owner, RestoreOwner)
}

// Lease is the right to restore into a database. Its token is higher than that of every lease before it, and stands in
// the names of all that the attempt stages.
type Lease struct {
	Holder
	Token int64
	Since time.Time
	db    *mongo.Database
}

// leaseDocument is what stands in LeaseCollection. One that was given back has no owner, and keeps its token.
type leaseDocument struct {
	ID      string    `bson:"_id"`
	Owner   string    `bson:"owner"`
	Run     string    `bson:"run"`
	Token   int64     `bson:"token"`
	Since   time.Time `bson:"since"`
	Purpose string    `bson:"purpose"`
}

// Acquire takes the lease on a database. The same owner and run get the lease that they have. The same owner with
// another run takes over from its former run, whose token is worth nothing from then on; so does a restore from retention. Somebody else's lease is a
// *LeaseHeldError, unless takeOver says that its owner is known to be dead.
func Acquire(ctx context.Context, db *mongo.Database, h Holder, takeOver bool) (Lease, error) {
	if h.Owner == "" || h.Run == "" {
		return Lease{}, errors.New("acquire the lease: owner and run are required")
	}
	// Each round that loses a race has seen somebody win one, so a few rounds are enough for any number of rivals that
	// do not take over from each other for ever.
	for range tries {
		now, err := readLease(ctx, db)
		if err != nil {
			return Lease{}, fmt.Errorf("acquire the lease: %w", err)
		}
		if now != nil {
			switch {
			case now.Owner == h.Owner && now.Run == h.Run:
				return Lease{Holder: h, Token: now.Token, Since: now.Since, db: db}, nil
			case now.Owner != "" && !takeOver && !h.follows(now.Owner):
				return Lease{}, &LeaseHeldError{Owner: now.Owner, Purpose: now.Purpose, Since: now.Since}
			}
		}
		// What came of this is seen by reading again: the answer may get lost, and a small server may do in two steps what
		// should be one.
		if err := takeLease(ctx, db, now, h); err != nil && !transient(err) {
			return Lease{}, fmt.Errorf("acquire the lease: %w", err)
		}
	}
	return Lease{}, fmt.Errorf("acquire the lease: %d others took it in turn: try again", tries)
}

func takeLease(ctx context.Context, db *mongo.Database, now *leaseDocument, h Holder) error {
	next := leaseDocument{
		ID: leaseID, Owner: h.Owner, Run: h.Run, Purpose: h.Purpose,
		Token: time.Now().UnixMilli(), Since: time.Now().UTC().Truncate(time.Millisecond),
	}
	if now == nil {
		err := write(ctx, db, bson.D{{Key: "insert", Value: LeaseCollection}, {Key: "documents", Value: bson.A{next}}})
		if mongo.IsDuplicateKeyError(err) {
			return nil
		}
		return err
	}
	next.Token = max(next.Token, now.Token+1)
	return replaceLease(ctx, db, *now, next)
}

// replaceLease replaces the lease if it still is what was read. Whether it was is for the caller to see.
func replaceLease(ctx context.Context, db *mongo.Database, now, next leaseDocument) error {
	return write(ctx, db, bson.D{
		{Key: "findAndModify", Value: LeaseCollection},
		{Key: "query", Value: bson.D{
			{Key: "_id", Value: leaseID}, {Key: "owner", Value: now.Owner}, {Key: "run", Value: now.Run}, {Key: "token", Value: now.Token},
		}},
		{Key: "update", Value: bson.D{{Key: "$set", Value: bson.D{
			{Key: "owner", Value: next.Owner}, {Key: "run", Value: next.Run}, {Key: "token", Value: next.Token},
			{Key: "since", Value: next.Since}, {Key: "purpose", Value: next.Purpose},
		}}}},
	})
}

// Holding returns the token of the lease that somebody holds on a database now, or zero.
func Holding(ctx context.Context, db *mongo.Database) (int64, error) {
	now, err := readLease(ctx, db)
	if err != nil {
		return 0, fmt.Errorf("look at the lease: %w", err)
	}
	if now == nil || now.Owner == "" {
		return 0, nil
	}
	return now.Token, nil
}

// Held returns a lease that was acquired before, perhaps by a process that is gone. It asks no server: Check does.
func Held(db *mongo.Database, h Holder, token int64) Lease {
	return Lease{Holder: h, Token: token, db: db}
}

// Check fails with *LeaseLostError when the lease is no longer this one. It reads the primary's own latest state, since
// that is where the rename goes that follows it: were it a deposed primary, the rename would be undone with it.
func (l Lease) Check(ctx context.Context) error {
	_, err := l.check(ctx)
	return err
}

func (l Lease) check(ctx context.Context) (*leaseDocument, error) {
	now, err := readLease(ctx, l.db)
	if err != nil {
		return nil, fmt.Errorf("check the lease: %w", err)
	}
	if now == nil {
		return nil, &LeaseLostError{Token: l.Token}
	}
	if now.Token != l.Token || now.Owner != l.Owner || now.Run != l.Run {
		return now, &LeaseLostError{Token: l.Token, Now: now.Token, Owner: now.Owner}
	}
	return now, nil
}

// Release gives the lease back. The document stays, without an owner, so that tokens go on growing. Giving back twice
// is fine; a lease that somebody else holds by now is a *LeaseLostError.
func (l Lease) Release(ctx context.Context) error {
	for range tries {
		now, err := l.check(ctx)
		if _, lost := errors.AsType[*LeaseLostError](err); lost && now != nil && now.Owner == "" && now.Token == l.Token {
			return nil
		}
		if err != nil {
			return err
		}
		given := *now
		given.Owner, given.Run, given.Purpose = "", "", ""
		if err := replaceLease(ctx, l.db, *now, given); err != nil && !transient(err) {
			return fmt.Errorf("release the lease: %w", err)
		}
	}
	return errors.New("release the lease: the server does not keep the change: try again")
}

func readLease(ctx context.Context, db *mongo.Database) (*leaseDocument, error) {
	var doc leaseDocument
	err := persist(ctx, func() error {
		return primary(db).Collection(LeaseCollection).FindOne(ctx, bson.D{{Key: "_id", Value: leaseID}}).Decode(&doc)
	})
	if errors.Is(err, mongo.ErrNoDocuments) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &doc, nil
}
