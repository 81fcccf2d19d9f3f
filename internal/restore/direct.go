package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/backup"
)

// emptyFile notes that the database was empty when this attempt began, so that the attempt may go on when it is not.
const emptyFile = "empty.json"

// Direct restores a whole backup into an empty database, time series included, and compares the outcome with the backup.
// A database that holds anything is refused with *NotEmptyError. It goes the same way as a restore under an application,
// so it can be killed anywhere and run again with the same lease and directory.
func Direct(ctx context.Context, o StageOptions) (Verification, error) {
	if o.Collections != nil {
		return Verification{}, errors.New("restore into an empty database: only whole backups")
	}
	if err := o.Lease.Check(ctx); err != nil {
		return Verification{}, err
	}
	if err := os.MkdirAll(o.Dir, 0o750); err != nil {
		return Verification{}, fmt.Errorf("restore: %w", err)
	}
	if err := onlyEmpty(ctx, o); err != nil {
		return Verification{}, err
	}
	s, err := Stage(ctx, o)
	if err != nil {
		return Verification{}, err
	}
	if _, err := Prove(ctx, o); err != nil {
		return Verification{}, err
	}
	if _, err := Swap(ctx, SwapOptions{DB: o.DB, Lease: o.Lease, Incident: "direct", Dir: o.Dir}); err != nil {
		return Verification{}, err
	}
	skipped := map[string]string{}
	for _, sc := range s.Collections {
		switch {
		case sc.Skipped == "":
		case sc.Type == backup.TypeTimeseries || sc.Name == "system.js":
			if err := loadInPlace(ctx, o, sc); err != nil {
				return Verification{}, err
			}
		default:
			skipped[sc.Name] = sc.Skipped
		}
	}
	if _, err := Unstage(ctx, o.DB, o.Lease.Token); err != nil {
		return Verification{}, err
	}
	return verify(ctx, o, LevelDocuments, skipped)
}

// onlyEmpty refuses a database that holds something, unless this very attempt has put it there.
func onlyEmpty(ctx context.Context, o StageOptions) error {
	var token int64
	err := load(o.Dir, emptyFile, &token)
	if err == nil && token == o.Lease.Token {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	there, err := collections(ctx, o.DB)
	if err != nil {
		return err
	}
	names := slices.DeleteFunc(sortedKeys(there), func(name string) bool { return reserved(name) || system(name) })
	if len(names) > 0 {
		return &NotEmptyError{Database: o.DB.Name(), Collections: names}
	}
	return save(o.Dir, emptyFile, o.Lease.Token)
}

// loadInPlace loads what cannot be renamed under its own name. It may stand there half, from a run that was killed.
func loadInPlace(ctx context.Context, o StageOptions, sc StagedCollection) error {
	c, err := o.collectionOf(sc)
	if err != nil {
		return err
	}
	there, err := collections(ctx, o.DB)
	if err != nil {
		return err
	}
	if at, ok := there[sc.Name]; ok {
		found, err := compareCollection(ctx, o.DB, sc.Name, at, o.Source, c, comparison{})
		if err == nil && len(found.wrong) == 0 {
			return nil
		}
		if err := drop(ctx, o.DB, sc.Name); err != nil {
			return err
		}
	}
	if err := o.Lease.Check(ctx); err != nil {
		return err
	}
	l, err := newLoader(ctx, o, Staging{Token: o.Lease.Token}, nil, nil)
	if err != nil {
		return err
	}
	at := sc
	at.Stage = sc.Name
	if sc.Type == backup.TypeTimeseries {
		if err := create(ctx, o.DB, sc.Name, c); err != nil {
			return err
		}
		made, err := listed(ctx, o.DB, bson.D{{Key: "name", Value: sc.Name}})
		if err != nil {
			return err
		}
		at.Stage = made[sc.Name].site(sc.Name).collection
	}
	if err := l.documents(ctx, at, c); err != nil {
		return err
	}
	return buildIndexes(ctx, o.DB, sc.Name, c, l.replicaSet, func(indexSpec) bool { return true })
}

func isBuckets(name string) bool { return strings.HasPrefix(name, backup.BucketsPrefix) }
