package restore

import (
	"context"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/backup"
)

// clockSlack is how much the clock that stamped an entry may be behind the one that stamped the backup. An entry that the
// backup has already is never inserted, whatever its time says.
const clockSlack = 5 * time.Minute

// Merged counts the entries of a dump that are newer than a backup.
type Merged struct {
	Inserted  int64 `json:"inserted"`
	Existing  int64 `json:"existing"`  // there already, byte for byte
	Conflicts int64 `json:"conflicts"` // another document stands in their place; it stays
	// Undated have no time that can be read. They are left in the dump.
	Undated int64 `json:"undated"`
}

// MergeNewer puts back the documents of a collection of the safety dump whose time is not before since, where no document
// with their _id or unique key is there. It is for collections that only ever grow, such as audit logs: they must not
// lose what happened between the backup and the restore. Run again, it inserts nothing twice.
//
// The time is a date, or an ISO 8601 string; one without a zone is UTC.
func MergeNewer(ctx context.Context, db *mongo.Database, safety backup.Source, collection, timeField string, since time.Time) (Merged, error) {
	c := safety.Manifest.Collection(collection)
	if c == nil || c.Type != backup.TypeCollection {
		return Merged{}, nil
	}
	var m Merged
	b := newBatch()
	put := func() error {
		b.close()
		defer func() { b = newBatch() }()
		return m.merge(ctx, db, collection, b)
	}
	from := since.Add(-clockSlack)
	for doc, err := range safety.Documents(ctx, c) {
		if err != nil {
			return m, err
		}
		at, ok := timeOf(doc, timeField)
		if !ok {
			m.Undated++
			continue
		}
		if at.Before(from) {
			continue
		}
		if n := len(b.documents); n > 0 && (n >= mostDocuments || b.size()+len(doc) > batchBytes) {
			if err := put(); err != nil {
				return m, err
			}
		}
		b.add(doc)
	}
	if len(b.documents) == 0 {
		return m, nil
	}
	return m, put()
}

func (m *Merged) merge(ctx context.Context, db *mongo.Database, collection string, b *batch) error {
	there, err := insert(ctx, db, collection, collection, b, false)
	if err != nil {
		return err
	}
	m.Inserted += int64(len(b.documents) - len(there))
	if len(there) == 0 {
		return nil
	}
	same, err := alike(ctx, db, collection, b, there)
	if err != nil {
		return err
	}
	m.Existing += int64(len(same))
	m.Conflicts += int64(len(there) - len(same))
	return nil
}

// isoTimes are the forms in which applications write times as strings, the usual ones first.
var isoTimes = []string{
	time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04:05.999999999Z0700",
	"2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999", "2006-01-02T15:04Z07:00", "2006-01-02T15:04", "2006-01-02",
}

func timeOf(doc bson.Raw, path string) (time.Time, bool) {
	v, err := doc.LookupErr(strings.Split(path, ".")...)
	if err != nil {
		return time.Time{}, false
	}
	if ms, ok := v.DateTimeOK(); ok {
		return time.UnixMilli(ms), true
	}
	s, ok := v.StringValueOK()
	if !ok {
		return time.Time{}, false
	}
	for _, layout := range isoTimes {
		if t, err := time.ParseInLocation(layout, s, time.UTC); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}
