package mail

import (
	"context"
	"iter"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/words"
)

// Audience is who is told, in numbers: fit for a workflow's history.
type Audience struct {
	Organizations  int `json:"organizations"` // active ones; those without an address too
	Mails          int `json:"mails"`         // fewer, where some share an address
	ThroughOwner   int `json:"throughOwner,omitempty"`
	WithoutAddress int `json:"withoutAddress,omitempty"`
	// FromBackup says that the database could not be read.
	FromBackup bool `json:"fromBackup,omitempty"`
}

// Count counts what Recipients found.
func Count(active, without []Contact) Audience {
	a := Audience{Organizations: len(without), Mails: len(active), WithoutAddress: len(without)}
	for _, c := range active {
		for _, o := range c.Organizations() {
			a.Organizations++
			if o.Via == ViaOwner {
				a.ThroughOwner++
			}
		}
	}
	return a
}

// String says it in a sentence or two, for plans and mails.
func (a Audience) String() string {
	var b strings.Builder
	b.WriteString(words.Plural(int64(a.Organizations-a.WithoutAddress), "organization", "organizations") +
		" will be told, in " + words.Plural(int64(a.Mails), "mail", "mails"))
	if a.ThroughOwner > 0 {
		b.WriteString("; " + words.Number(int64(a.ThroughOwner)) + " of them through their owner's address")
	}
	if a.WithoutAddress > 0 {
		b.WriteString("; " + words.Plural(int64(a.WithoutAddress), "more has", "more have") + " no address")
	}
	b.WriteString(".")
	if a.FromBackup {
		b.WriteString(" The addresses are the backup's: the database could not be read.")
	}
	return b.String()
}

// Also reads from first, and what only second has, by _id: from the backup or the restored database first, so that what the damage
// made of an organization counts for nothing, and then those who signed up after the backup.
func Also(first, second Reader) Reader {
	return func(ctx context.Context, collection string) iter.Seq2[bson.Raw, error] {
		return func(yield func(bson.Raw, error) bool) {
			seen := map[string]bool{}
			for doc, err := range first(ctx, collection) {
				if err == nil {
					seen[idOf(doc)] = true
				}
				if !yield(doc, err) {
					return
				}
			}
			for doc, err := range second(ctx, collection) {
				if err == nil && seen[idOf(doc)] {
					continue
				}
				if !yield(doc, err) {
					return
				}
			}
		}
	}
}

func idOf(doc bson.Raw) string {
	id, err := doc.LookupErr("_id")
	if err != nil {
		return "" // not one that MongoDB stores
	}
	return string(rune(id.Type)) + string(id.Value)
}
