// Package seed makes a database shaped like the first user's: all of its collections, most of them small or empty, a
// few with some thousand documents, some sixty organizations with the awkward ones among them. The same numbers give
// the same bytes. It holds only what FerretDB v1 can store. The sandbox's scenarios and tests call it; it is not a
// benchmark's data.
package seed

import (
	_ "embed"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

//go:embed collections.txt
var collectionNames string

// DefaultNow is the moment at which seeded time ends when Options.Now is zero. It is fixed, so that a seed number
// alone names a database.
var DefaultNow = time.Date(2026, time.February, 24, 1, 30, 0, 0, time.UTC)

// Options choose a database. The zero Options are a complete choice.
type Options struct {
	Seed uint64
	// Now is the newest time that any document carries; default DefaultNow.
	Now time.Time
	// Scale multiplies the documents of the large collections; default 1, which makes about 28,000 documents in all.
	Scale float64
}

// Dataset is a whole database, in memory.
type Dataset struct {
	Collections   []Collection // ordered by name
	Organizations []Organization
}

// Collection is one collection with what stands in it.
type Collection struct {
	Name      string
	Indexes   []Index // beside the one on _id
	Documents []bson.Raw
}

// Index is one index that every supported server can hold.
type Index struct {
	Keys   bson.D
	Unique bool
}

// Names returns the names of all collections that the application's code uses, in order.
func Names() []string {
	names := strings.Fields(collectionNames)
	slices.Sort(names)
	return names
}

// Generate makes the database that the options name.
func Generate(o Options) *Dataset {
	if o.Now.IsZero() {
		o.Now = DefaultNow
	}
	if o.Scale <= 0 {
		o.Scale = 1
	}
	w := newWorld(o)
	d := &Dataset{Organizations: w.organizations}
	for _, name := range Names() {
		g := w.generator(name)
		c := Collection{Name: name, Indexes: indexes[name]}
		if fill, ok := fillers[name]; ok {
			fill(g)
		} else {
			g.fillSmall()
		}
		c.Documents = g.documents
		d.Collections = append(d.Collections, c)
	}
	return d
}

// Documents returns the number of documents in all collections.
func (d *Dataset) Documents() int {
	n := 0
	for _, c := range d.Collections {
		n += len(c.Documents)
	}
	return n
}

// Collection returns the collection of that name, or nil.
func (d *Dataset) Collection(name string) *Collection {
	i, found := slices.BinarySearchFunc(d.Collections, name, func(c Collection, name string) int {
		return strings.Compare(c.Name, name)
	})
	if !found {
		return nil
	}
	return &d.Collections[i]
}

// Facts counts what a scenario has to know of a database before it breaks it.
type Facts struct {
	Collections   int `json:"collections"`
	Documents     int `json:"documents"`
	Organizations int `json:"organizations"`
	Active        int `json:"active"`
	// Of the active organizations: those with a good address of their own, those reached through their owner, those
	// whose address no mail service takes, and those without any.
	Direct     int `json:"direct"`
	ViaOwner   int `json:"viaOwner"`
	BadAddress int `json:"badAddress"`
	NoAddress  int `json:"noAddress"`
}

// Facts counts the database.
func (d *Dataset) Facts() Facts {
	f := Facts{Collections: len(d.Collections), Documents: d.Documents(), Organizations: len(d.Organizations)}
	for _, o := range d.Organizations {
		if !o.Active {
			continue
		}
		f.Active++
		switch o.Reach {
		case Direct:
			f.Direct++
		case ViaOwner:
			f.ViaOwner++
		case BadAddress:
			f.BadAddress++
		case NoAddress:
			f.NoAddress++
		}
	}
	return f
}

// source returns the random numbers that belong to one name, so that a change in one collection leaves the others'
// bytes alone.
func (o Options) source(name string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(name))
	return rand.New(rand.NewPCG(o.Seed, h.Sum64()))
}
