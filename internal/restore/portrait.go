package restore

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"golang.org/x/sync/errgroup"

	"github.com/battwheels/runbook/internal/backup"
)

// portrait is what a collection held at one reading.
type portrait struct {
	digest backup.Digest
	uuid   string
	// documents are kept one by one only where the server lets some expire.
	documents map[backup.Hash]remembered
}

// remembered is a document, by the hash of its _id.
type remembered struct {
	hash    backup.Hash
	expires int64 // in milliseconds since 1970; never where zero
}

// identity hashes a document's _id with its type. A document without one is identified by its whole content.
func identity(doc bson.Raw) backup.Hash {
	id, err := doc.LookupErr("_id")
	if err != nil {
		return backup.HashOf(doc)
	}
	return backup.HashOf(append([]byte{byte(id.Type)}, id.Value...))
}

// unchanged proves quiet by reading everything twice. Documents that expire in the meantime are no change.
func unchanged(ctx context.Context, db *mongo.Database, wait time.Duration) (Quietness, error) {
	before, err := portraits(ctx, db)
	if err != nil {
		return Quietness{}, err
	}
	if !rest(ctx, wait) {
		return Quietness{}, ctx.Err()
	}
	after, err := portraits(ctx, db)
	if err != nil {
		return Quietness{}, err
	}
	now, err := ask(ctx, db)
	if err != nil {
		return Quietness{}, err
	}
	q := Quietness{Method: fmt.Sprintf("the server does not list its clients; two readings of every document, %s apart, were equal", wait)}
	var changed []string
	for _, name := range sortedKeys(before) {
		p, there := after[name]
		if !there || !before[name].becomes(p, now.LocalTime) {
			changed = append(changed, name)
		}
		q.Documents += p.digest.Documents
	}
	for _, name := range sortedKeys(after) {
		if _, there := before[name]; !there {
			changed = append(changed, name)
		}
	}
	if len(changed) > 0 {
		slices.Sort(changed)
		return Quietness{}, &WriterError{Collections: changed}
	}
	return q, nil
}

// becomes says whether nothing but time passing leads from one portrait to the other.
func (p portrait) becomes(o portrait, now time.Time) bool {
	if p.uuid != o.uuid {
		return false
	}
	if p.digest == o.digest {
		return true
	}
	if p.documents == nil || o.documents == nil {
		return false
	}
	for id, r := range o.documents {
		if was, there := p.documents[id]; !there || was.hash != r.hash {
			return false
		}
	}
	for id, was := range p.documents {
		if _, there := o.documents[id]; !there && (was.expires == 0 || was.expires > now.UnixMilli()) {
			return false
		}
	}
	return true
}

// portraits reads every collection of the database that holds an application's data.
func portraits(ctx context.Context, db *mongo.Database) (map[string]portrait, error) {
	there, err := collections(ctx, db)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	all := map[string]portrait{}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(defaultParallel)
	for name, i := range there {
		if reserved(name) || i.kind != backup.TypeCollection && !i.site(name).raw || system(name) && !isBuckets(name) && name != "system.js" {
			continue
		}
		g.Go(func() error {
			p, err := paint(ctx, db, name, i.site(name), i)
			if series, ok := strings.CutPrefix(name, backup.BucketsPrefix); ok && code(err) == codeUnauthorized {
				// The roles of one database leave out the buckets, and not what the series makes of them.
				p, err = paint(ctx, db, series, plain(series), i)
			}
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			all[name] = p
			return nil
		})
	}
	return all, g.Wait()
}

func paint(ctx context.Context, db *mongo.Database, name string, at site, i info) (portrait, error) {
	raw, err := listIndexes(ctx, db, name)
	if err != nil {
		return portrait{}, err
	}
	var specs []indexSpec
	for _, r := range raw {
		s, err := newIndexSpec(r)
		if err != nil {
			return portrait{}, fmt.Errorf("collection %s: %w", name, err)
		}
		specs = append(specs, s)
	}
	rules := expiriesOf(i.options, specs)
	var p portrait
	err = read(ctx, db, at, func() {
		p = portrait{uuid: i.uuid}
		if len(rules) > 0 {
			p.documents = map[backup.Hash]remembered{}
		}
	}, func(doc bson.Raw) {
		hash := backup.HashOf(doc)
		p.digest.AddHash(hash, len(doc))
		if p.documents == nil {
			return
		}
		r := remembered{hash: hash}
		if end, ok := expires(doc, rules); ok {
			r.expires = end.UnixMilli()
		}
		p.documents[identity(doc)] = r
	})
	return p, err
}
