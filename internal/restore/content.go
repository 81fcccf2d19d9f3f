package restore

import (
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/backup"
)

// mostCompared bounds the documents of a collection that are compared one by one, which takes memory for each. Larger
// collections are compared by digest alone, which finds that they differ but not where. Where documents expire, each is
// looked at in any case: only so can it be told whether one is missing rightly.
const mostCompared = 1 << 20

// read calls each with every document of a collection, as a majority has it. It starts over when the connection breaks,
// and then calls begin again.
func read(ctx context.Context, db *mongo.Database, collection string, begin func(), each func(bson.Raw)) error {
	err := persist(ctx, func() error {
		begin()
		cursor, err := proven(db).Collection(collection).Find(ctx, bson.D{})
		if err != nil {
			return err
		}
		for cursor.Next(ctx) {
			each(cursor.Current)
		}
		return errors.Join(cursor.Err(), cursor.Close(context.WithoutCancel(ctx)))
	})
	if err != nil {
		return fmt.Errorf("read collection %s: %w", collection, err)
	}
	return nil
}

// digest reads a collection and adds up its documents.
func digest(ctx context.Context, db *mongo.Database, collection string, t *backup.Tracker) (backup.Digest, error) {
	var d, told backup.Digest
	err := read(ctx, db, collection, func() { d = backup.Digest{} }, func(doc bson.Raw) {
		d.Add(doc)
		if d.Bytes-told.Bytes >= backup.MemberSize {
			t.Add(collection, d.Documents-told.Documents, d.Bytes-told.Bytes)
			told = d
		}
	})
	t.Add(collection, d.Documents-told.Documents, d.Bytes-told.Bytes)
	return d, err
}

// content is what a comparison of documents found.
type content struct {
	documents int64 // that are there
	expired   int64 // that are not there, rightly
	wrong     *Difference
}

// compareContent compares the documents of a collection, which stands in the database under the name at, with a
// backup's. Where TTL rules hold, a document may be missing when its time has come; those of indexes do not hold as long as
// the indexes are not built.
func compareContent(ctx context.Context, db *mongo.Database, at string, s backup.Source, c *backup.Collection, how comparison) (content, error) {
	d, err := digest(ctx, db, at, how.tracker)
	if err != nil {
		return content{}, err
	}
	found := content{documents: d.Documents}
	if d == c.Digest {
		return found, nil
	}
	found.wrong = &Difference{Collection: c.Name, What: fmt.Sprintf("%d documents (%d bytes, digest %s) instead of %d (%d bytes, digest %s)",
		d.Documents, d.Bytes, d, c.Digest.Documents, c.Digest.Bytes, c.Digest)}
	rules, err := expiriesIn(c, how.withoutTTL)
	if err != nil {
		return content{}, err
	}
	if len(rules) == 0 && max(d.Documents, c.Digest.Documents) > mostCompared {
		return found, nil
	}
	return compareEach(ctx, db, at, s, c, rules)
}

// remembered is a document of the backup, by the hash of its _id.
type remembered struct {
	hash    backup.Hash
	expires int64 // in milliseconds since 1970; never where zero
	seen    int   // in which reading it was seen last
}

// compareEach finds which documents differ.
func compareEach(ctx context.Context, db *mongo.Database, at string, s backup.Source, c *backup.Collection, rules []expiry) (content, error) {
	want := make(map[backup.Hash]remembered, c.Digest.Documents)
	for doc, err := range s.Documents(ctx, c) {
		if err != nil {
			return content{}, err
		}
		r := remembered{hash: backup.HashOf(doc)}
		if end, ok := expires(doc, rules); ok {
			r.expires = end.UnixMilli()
		}
		want[identity(doc)] = r
	}
	diff := Difference{Collection: c.Name}
	note := func(doc bson.Raw) {
		if len(diff.Examples) < 5 {
			diff.Examples = append(diff.Examples, nameOf(doc))
		}
	}
	var found content
	reading := 0
	begin := func() {
		reading++
		found = content{}
		diff.Changed, diff.Extra, diff.Examples = 0, 0, nil
	}
	err := read(ctx, db, at, begin, func(doc bson.Raw) {
		found.documents++
		id := identity(doc)
		r, known := want[id]
		switch {
		case !known || r.seen == reading:
			diff.Extra++
			note(doc)
			return
		case r.hash != backup.HashOf(doc):
			diff.Changed++
			note(doc)
		}
		r.seen = reading
		want[id] = r
	})
	if err != nil {
		return content{}, err
	}
	now, err := ask(ctx, db)
	if err != nil {
		return content{}, err
	}
	for _, r := range want {
		switch {
		case r.seen == reading:
		case r.expires != 0 && r.expires <= now.LocalTime.UnixMilli():
			found.expired++
		default:
			diff.Missing++
		}
	}
	if diff.Missing+diff.Changed+diff.Extra > 0 {
		diff.What = fmt.Sprintf("%d documents missing, %d changed, %d too many", diff.Missing, diff.Changed, diff.Extra)
		found.wrong = &diff
	}
	return found, nil
}

// identity hashes a document's _id with its type. A document without one is identified by its whole content.
func identity(doc bson.Raw) backup.Hash {
	id, err := doc.LookupErr("_id")
	if err != nil {
		return backup.HashOf(doc)
	}
	return backup.HashOf(append([]byte{byte(id.Type)}, id.Value...))
}

// nameOf names a document for people, by its _id as extended JSON.
func nameOf(doc bson.Raw) string {
	id, err := doc.LookupErr("_id")
	if err != nil {
		return "(no _id)"
	}
	return id.String()
}
