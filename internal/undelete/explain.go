package undelete

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/backup"
)

// Explained is the missing documents together with what the audit logs tell of them.
type Explained struct {
	File      string `json:"file"` // the list, in the Job's folder
	Documents int64  `json:"documents"`
	Bytes     int64  `json:"bytes"`
	Audited   int64  `json:"audited"`   // an entry tells of their deletion
	Unaudited int64  `json:"unaudited"` // the backups alone tell of it
	// Recoverable were made and deleted since the backups, and stand whole in an audit entry; they are in the list.
	Recoverable int64 `json:"recoverable"`
	// Lost were made and deleted since the backups, and stand nowhere.
	Lost     int64  `json:"lost"`
	LostFile string `json:"lostFile,omitempty"`
	// Unmapped counts deletions by resource types that belong to no known collection.
	Unmapped map[string]int64 `json:"unmapped,omitempty"`
	Groups   Groups           `json:"groups"`
}

// lost is a line of the list of lost documents.
type lost struct {
	deletion
	Collection string `json:"collection"`
	Why        string `json:"why"`
}

// place is what an audit entry may be about.
type place struct{ collection, id string }

// Explain joins the missing documents with the deletions that ReadAudit listed. Without such a list it explains nothing,
// and what it gives is what Find found.
func (j Job) Explain(ctx context.Context) (Explained, error) {
	x := &explainer{Job: j, told: map[place][]*told{}, groups: grouping{}, out: Explained{File: explainedFile, Unmapped: map[string]int64{}}}
	if err := x.load(ctx); err != nil {
		return Explained{}, err
	}
	var err error
	if x.list, err = newList(j.Dir, explainedFile); err != nil {
		return Explained{}, err
	}
	defer func() { _ = x.list.drop() }()
	for e, err := range lines[entry](j.Dir, missingFile) {
		if err == nil {
			err = x.missing(&e)
		}
		if err != nil {
			return Explained{}, err
		}
	}
	if err := x.unused(ctx); err != nil {
		return Explained{}, err
	}
	if err := x.list.commit(); err != nil {
		return Explained{}, err
	}
	x.out.Groups, err = x.groups.save(j.Dir)
	return x.out, err
}

type explainer struct {
	Job
	told   map[place][]*told
	all    []*told
	list   *list
	groups grouping
	out    Explained
}

// told is a deletion of the list. Its snapshot is fetched when it is needed.
type told struct {
	deletion
	collections []string
	used        bool
}

// load reads the deletions, and maps their resource types to collections.
func (x *explainer) load(ctx context.Context) error {
	known, err := x.alive(ctx)
	if err != nil {
		return err
	}
	for _, s := range x.Sources {
		for _, c := range s.Manifest.Collections {
			known[c.Name] = true
		}
	}
	for d, err := range lines[deletion](x.Dir, deletionsFile) {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		t := &told{deletion: d, collections: x.collectionsOf(d.Type, known)}
		if len(t.collections) == 0 {
			x.out.Unmapped[strings.ToLower(d.Type)]++
			continue
		}
		x.all = append(x.all, t)
		for _, c := range t.collections {
			p := place{c, d.ID}
			x.told[p] = append(x.told[p], t)
		}
	}
	return nil
}

// collectionsOf maps a resource type as configured, else to the collection of that name or of its plural.
func (j Job) collectionsOf(kind string, known map[string]bool) []string {
	for _, name := range slices.Sorted(maps.Keys(j.Rules.Resources)) {
		if strings.EqualFold(name, kind) {
			return j.Rules.Resources[name]
		}
	}
	kind = strings.ToLower(kind)
	for _, name := range []string{kind, kind + "s"} {
		if known[name] {
			return []string{name}
		}
	}
	return nil
}

// missing writes an entry of Find's list with the latest audit entry that fits it.
func (x *explainer) missing(e *entry) error {
	candidates := x.told[place{e.Collection, e.Key}]
	if id, err := decodeID(e.ID); err == nil {
		if t, ok := text(id); ok && t != e.Key {
			candidates = slices.Concat(candidates, x.told[place{e.Collection, t}])
		}
	}
	var best *told
	for _, t := range candidates {
		if t.Organization != "" && e.Organization != "" && t.Organization != e.Organization {
			continue
		}
		// Any entry about a missing document is used up by it: it is not lost.
		t.used = true
		if t.At.Before(e.From.Add(-clockSlack)) || t.At.After(e.To.Add(clockSlack)) {
			continue
		}
		if best == nil || t.At.After(best.At) {
			best = t
		}
	}
	if best != nil {
		e.Why = best.why()
		x.out.Audited++
	} else {
		x.out.Unaudited++
	}
	return x.write(e)
}

func (t *told) why() *Why { return &Why{At: t.At, By: t.User, Action: t.Action, Log: t.Log} }

func (x *explainer) write(e *entry) error {
	x.out.Documents++
	x.out.Bytes += e.Bytes
	x.groups.count(e)
	return x.list.add(e)
}

// unused looks at the deletions of documents that no backup holds: they live on or were made anew, or stand in their entry's
// snapshot, or are lost.
func (x *explainer) unused(ctx context.Context) error {
	out, err := newList(x.Dir, lostFile)
	if err != nil {
		return err
	}
	defer func() { _ = out.drop() }()
	alive, err := x.stillThere(ctx)
	if err != nil {
		return err
	}
	// The latest entry with a snapshot speaks for a document.
	type document struct{ collection, organization, id string }
	latest := map[document]*told{}
	for _, t := range x.all {
		if t.used || alive[t] {
			continue
		}
		d := document{t.collections[0], t.Organization, t.ID}
		if b := latest[d]; b == nil || t.Snapshot != nil && b.Snapshot == nil || (t.Snapshot == nil) == (b.Snapshot == nil) && t.At.After(b.At) {
			latest[d] = t
		}
	}
	for _, t := range x.all {
		if latest[document{t.collections[0], t.Organization, t.ID}] != t {
			continue
		}
		e, why := x.fromSnapshot(t)
		if why == "" {
			x.out.Recoverable++
			x.out.Audited++
			err = x.write(e)
		} else {
			x.out.Lost++
			d := t.deletion
			d.Snapshot = nil
			err = out.add(lost{d, t.collections[0], why})
		}
		if err != nil {
			return err
		}
	}
	if x.out.Lost > 0 {
		x.out.LostFile = lostFile
	}
	return out.commit()
}

// stillThere asks which of the unused entries name living documents.
func (x *explainer) stillThere(ctx context.Context) (map[*told]bool, error) {
	asked := map[string][]*told{}
	for _, t := range x.all {
		if t.used {
			continue
		}
		for _, c := range t.collections {
			asked[c] = append(asked[c], t)
		}
	}
	there := map[*told]bool{}
	for _, c := range slices.Sorted(maps.Keys(asked)) {
		for batch := range slices.Chunk(asked[c], batchDocuments) {
			values := bson.A{}
			for _, t := range batch {
				values = append(values, valuesOf(t.ID)...)
			}
			field := x.Rules.Keys[c]
			if field == "" {
				field = "_id"
			}
			held, err := x.keysThere(ctx, c, field, values)
			if err != nil {
				return nil, err
			}
			for n := range held {
				for _, t := range batch {
					if t.ID == n.key && (t.Organization == "" || n.tenant == "" || t.Organization == n.tenant) {
						there[t] = true
					}
				}
			}
		}
	}
	return there, nil
}

// fromSnapshot makes an entry of the document that stands in an audit entry, or says why there is none.
func (x *explainer) fromSnapshot(t *told) (e *entry, why string) {
	doc := bson.Raw(t.Snapshot)
	collection := t.collections[0]
	key := x.Rules.Keys[collection]
	switch {
	case len(doc) == 0:
		return nil, "it was made after the newest backup, and its audit entry has no snapshot"
	case doc.Validate() != nil:
		return nil, "its snapshot is damaged"
	}
	if key != "" {
		if named, _ := textAt(doc, key); named != t.ID {
			return nil, "its snapshot is not of the document that the entry names"
		}
	}
	if tenant := x.tenantOf(doc); tenant != "" && t.Organization != "" && tenant != t.Organization {
		return nil, "its snapshot belongs to another organization than the entry"
	}
	e = &entry{Collection: collection, Key: t.ID, Organization: t.Organization, From: t.At, To: t.At, Why: t.why()}
	id, ok := lookup(doc, "_id")
	if !ok {
		e.NewID = true
		own := inventID(collection, t)
		doc = prepend(doc, own)
		id = doc.Lookup("_id")
	}
	var err error
	if e.ID, err = encodeID(id); err != nil {
		return nil, "its _id cannot be written down"
	}
	e.Document, e.Content, e.Bytes = doc, contentOf(doc), int64(len(doc))
	e.Values = valuesIn(doc, x.relating(collection))
	return e, ""
}

// inventID makes an _id for a snapshot without one. The same entry always gets the same.
func inventID(collection string, t *told) (id bson.ObjectID) {
	seed, err := json.Marshal([]string{collection, t.Organization, t.ID, t.At.Format(time.RFC3339Nano)})
	if err != nil {
		seed = []byte(t.ID)
	}
	h := backup.HashOf(seed)
	binary.BigEndian.PutUint32(id[:4], uint32(t.At.Unix()))
	binary.BigEndian.PutUint64(id[4:], h.Lo)
	return id
}

// prepend puts an _id before a document's fields, and leaves their bytes as they are.
func prepend(doc bson.Raw, id bson.ObjectID) bson.Raw {
	out := make([]byte, 4, len(doc)+17)
	out = append(out, byte(bson.TypeObjectID))
	out = append(out, "_id\x00"...)
	out = append(out, id[:]...)
	out = append(out, doc[4:]...)
	binary.LittleEndian.PutUint32(out, uint32(len(out)))
	return out
}
