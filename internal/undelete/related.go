package undelete

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/config"
)

// Related counts documents to which the selected ones refer by a declared field, and which are not as they were in the
// backup: an invoice comes back, and the balance of its contact was computed without it. They are named, and left alone.
type Related struct {
	Documents int64  `json:"documents"` // that were compared
	Changed   int64  `json:"changed,omitempty"`
	Gone      int64  `json:"gone,omitempty"` // absent, and not selected
	File      string `json:"file,omitempty"`
}

// relatedLine is a line of the list of related documents.
type relatedLine struct {
	Collection   string `json:"collection"`
	Key          string `json:"key"`
	Organization string `json:"organization,omitempty"`
	ReferredBy   string `json:"referredBy"` // invoices.contact_id
	Backup       string `json:"backup"`
	Gone         bool   `json:"gone,omitempty"`
	// Fields are the top-level fields that differ, with what the backup has and what stands there now.
	Fields map[string]difference `json:"fields,omitempty"`
}

type difference struct {
	Backup json.RawMessage `json:"backup,omitempty"`
	Now    json.RawMessage `json:"now,omitempty"`
}

// related compares the documents to which the selection refers.
func (j Job) related(ctx context.Context) (Related, error) {
	l, err := newList(j.Dir, relatedFile)
	if err != nil {
		return Related{}, err
	}
	defer func() { _ = l.drop() }()
	out := Related{File: relatedFile}
	for _, r := range j.Rules.References {
		wanted, err := j.referred(ctx, r)
		if err != nil {
			return Related{}, err
		}
		for name, keys := range wanted {
			source, err := j.source(name)
			if err != nil {
				return Related{}, err
			}
			x := &relating{Job: j, rule: r, field: j.Rules.KeyOf(r.To, r.Key, r.Field), backup: name, keys: keys, list: l, out: &out}
			if err := x.source(ctx, source); err != nil {
				return Related{}, err
			}
		}
	}
	return out, l.commit()
}

// referred collects what the selected documents of a collection refer to, by the backup that holds them.
func (j Job) referred(ctx context.Context, r config.Reference) (map[string]map[named]bool, error) {
	wanted := map[string]map[named]bool{}
	err := j.pick(ctx, r.Collection, func(_ context.Context, batch []picked) error {
		for _, p := range batch {
			key, ok := textAt(p.doc, r.Field)
			if !ok || p.Backup == "" {
				continue
			}
			if wanted[p.Backup] == nil {
				wanted[p.Backup] = map[named]bool{}
			}
			wanted[p.Backup][named{p.Organization, key}] = true
		}
		return nil
	})
	return wanted, err
}

// relating compares the documents that one rule names, as one backup has them.
type relating struct {
	Job
	rule   config.Reference
	field  string
	backup string
	keys   map[named]bool
	list   *list
	out    *Related
}

func (x *relating) source(ctx context.Context, source backup.Source) error {
	c := source.Manifest.Collection(x.rule.To)
	if c == nil {
		return nil
	}
	selected := map[backup.Hash]bool{}
	for e, err := range lines[entry](x.Dir, selectionFile) {
		if err != nil {
			return err
		}
		if e.Collection != x.rule.To {
			continue
		}
		h, err := e.hash()
		if err != nil {
			return err
		}
		selected[h] = true
	}
	var batch []bson.Raw
	size := 0
	look := func() error {
		err := x.compare(ctx, batch, selected)
		batch, size = nil, 0
		return err
	}
	for doc, err := range source.Documents(ctx, c) {
		if err != nil {
			return err
		}
		key, ok := textAt(doc, x.field)
		if !ok || !x.keys[named{x.tenantOf(doc), key}] {
			continue
		}
		batch, size = append(batch, slices.Clone(doc)), size+len(doc)
		if len(batch) >= batchDocuments || size >= batchBytes {
			if err := look(); err != nil {
				return err
			}
		}
	}
	return look()
}

func (x *relating) compare(ctx context.Context, batch []bson.Raw, selected map[backup.Hash]bool) error {
	if len(batch) == 0 {
		return nil
	}
	ids := bson.A{}
	for _, doc := range batch {
		ids = append(ids, doc.Lookup("_id"))
	}
	live := map[backup.Hash]bson.Raw{}
	err := x.find(ctx, x.rule.To, in("_id", ids), nil, func() { clear(live) }, func(doc bson.Raw) {
		live[hashOf(doc.Lookup("_id"))] = slices.Clone(doc)
	})
	if err != nil {
		return err
	}
	for _, doc := range batch {
		x.out.Documents++
		h := hashOf(doc.Lookup("_id"))
		line := relatedLine{Collection: x.rule.To, Organization: x.tenantOf(doc), ReferredBy: x.rule.Collection + "." + x.rule.Field, Backup: x.backup}
		line.Key, _ = textAt(doc, x.field)
		now, there := live[h]
		switch {
		case there && bytes.Equal(doc, now), !there && selected[h]:
			continue
		case there:
			x.out.Changed++
			line.Fields = differences(doc, now)
		default:
			x.out.Gone++
			line.Gone = true
		}
		if err := x.list.add(line); err != nil {
			return err
		}
	}
	return nil
}

// differences lists the top-level fields that differ. Long values are left out.
func differences(then, now bson.Raw) map[string]difference {
	fields := map[string]difference{}
	set := func(doc, other bson.Raw, put func(*difference, json.RawMessage)) {
		elements, err := doc.Elements()
		if err != nil {
			return
		}
		for _, e := range elements {
			v := e.Value()
			if o, err := other.LookupErr(e.Key()); err == nil && o.Equal(v) {
				continue
			}
			d := fields[e.Key()]
			put(&d, shown(v))
			fields[strings.Clone(e.Key())] = d
		}
	}
	set(then, now, func(d *difference, j json.RawMessage) { d.Backup = j })
	set(now, then, func(d *difference, j json.RawMessage) { d.Now = j })
	return fields
}

func shown(v bson.RawValue) json.RawMessage {
	const longest = 200
	j, err := bson.MarshalExtJSON(bson.D{{Key: "v", Value: v}}, false, false)
	if err != nil || len(j) > longest {
		return json.RawMessage(`"…"`)
	}
	var one struct {
		V json.RawMessage `json:"v"`
	}
	if json.Unmarshal(j, &one) != nil {
		return json.RawMessage(`"…"`)
	}
	return one.V
}
