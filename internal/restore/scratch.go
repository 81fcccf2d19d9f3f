package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/backup"
)

// scratchCollection marks a database as one that a drill made: its one document names the owner. It is the first thing that is
// written and the last that is dropped, so whatever else stands there is the owner's too.
const scratchCollection = backup.ReservedPrefix + "scratch"

const scratchID = "scratch"

// ScratchTakenError says that a scratch database holds what is not the drill's own.
type ScratchTakenError struct {
	Database    string
	Collections []string
	Owner       string // of another drill's scratch; empty where nobody marked it
}

// Error names what stands there and says what to do.
func (e *ScratchTakenError) Error() string {
	whose := "which no drill made: it has " + some(e.Collections)
	if e.Owner != "" {
		whose = "which belongs to " + e.Owner
	}
	return fmt.Sprintf("there is a database %q already, %s; it was left as it is: give drill.database another name", e.Database, whose)
}

// ScratchRefusedError says that a database can never be a drill's scratch.
type ScratchRefusedError struct{ Database, Why string }

// Error says why, and what to do.
func (e *ScratchRefusedError) Error() string {
	return fmt.Sprintf("database %q cannot be a drill's scratch: %s; give drill.database another name", e.Database, e.Why)
}

// ClaimScratch makes a database the holder's scratch, and takes the lease on it. What an earlier run of the same owner left there is
// dropped first; run again by the same run, it changes nothing. Anything else that stands there is a *ScratchTakenError.
func ClaimScratch(ctx context.Context, db *mongo.Database, h Holder) (Lease, error) {
	owner, run, err := scratchOf(ctx, db)
	if err != nil {
		return Lease{}, err
	}
	if owner == h.Owner && run != h.Run {
		if err := dropScratch(ctx, db); err != nil {
			return Lease{}, err
		}
		owner = ""
	}
	if owner == "" {
		names, err := db.ListCollectionNames(ctx, bson.D{})
		if err != nil {
			return Lease{}, fmt.Errorf("look at the scratch database %s: %w", db.Name(), err)
		}
		slices.Sort(names)
		if len(names) > 0 {
			return Lease{}, &ScratchTakenError{Database: db.Name(), Collections: names}
		}
		mark := bson.D{{Key: "_id", Value: scratchID}, {Key: "owner", Value: h.Owner}, {Key: "run", Value: h.Run}}
		if _, err := db.Collection(scratchCollection).InsertOne(ctx, mark); err != nil && !mongo.IsDuplicateKeyError(err) {
			return Lease{}, fmt.Errorf("mark the scratch database %s: %w", db.Name(), err)
		}
		// Two may have found it empty: one of them has marked it.
		if owner, run, err = scratchOf(ctx, db); err != nil {
			return Lease{}, err
		}
	}
	if owner != h.Owner || run != h.Run {
		return Lease{}, &ScratchTakenError{Database: db.Name(), Owner: owner}
	}
	return Acquire(ctx, db, h, false)
}

// DropScratch drops the owner's scratch database, of whichever run, and nothing that is not marked as his. It says whether there
// was one.
func DropScratch(ctx context.Context, db *mongo.Database, owner string) (bool, error) {
	of, _, err := scratchOf(ctx, db)
	if err != nil || of != owner {
		return false, err
	}
	return true, dropScratch(ctx, db)
}

// scratchOf reads the mark; an unmarked database has no owner.
func scratchOf(ctx context.Context, db *mongo.Database) (owner, run string, err error) {
	var mark struct{ Owner, Run string }
	err = persist(ctx, func() error {
		return primary(db).Collection(scratchCollection).FindOne(ctx, bson.D{{Key: "_id", Value: scratchID}}).Decode(&mark)
	})
	if errors.Is(err, mongo.ErrNoDocuments) {
		return "", "", nil
	}
	if err != nil {
		return "", "", fmt.Errorf("read the mark of the scratch database %s: %w", db.Name(), err)
	}
	return mark.Owner, mark.Run, nil
}

// dropScratch drops the mark last: a drop that is cut off leaves a database that can still be told from a foreign one.
func dropScratch(ctx context.Context, db *mongo.Database) error {
	if _, err := dropAll(ctx, db, func(name string) bool { return name != scratchCollection && !system(name) }); err != nil {
		return fmt.Errorf("drop the scratch database %s: %w", db.Name(), err)
	}
	if err := db.Drop(ctx); err != nil {
		return fmt.Errorf("drop the scratch database %s: %w", db.Name(), err)
	}
	names, err := db.ListCollectionNames(ctx, bson.D{})
	if err != nil {
		return fmt.Errorf("look at the scratch database %s: %w", db.Name(), err)
	}
	if len(names) > 0 {
		return fmt.Errorf("the scratch database %s was dropped, and %s is there again: something writes to it", db.Name(), some(names))
	}
	return nil
}
