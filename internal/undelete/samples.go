package undelete

import (
	"cmp"
	"encoding/json"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Sample is some documents of a collection that would be inserted, each as people know it: by its declared key, else by an
// _id that says nothing of a person. Those that have neither are named in the list of Preview alone.
type Sample struct {
	Collection string   `json:"collection"`
	Documents  []string `json:"documents"`
}

// InOrganization counts the documents of one organization that would be inserted; "" is of those that name none.
type InOrganization struct {
	Organization string `json:"organization,omitempty"`
	Documents    int64  `json:"documents"`
}

// Look is what a person should see of a preview, beside its counts by collection, who does not know what is in it.
type Look struct {
	Samples       []Sample
	Organizations []InOrganization // those with most documents first
}

// samplesOf is how many documents of a collection make a sample: the first that Preview met, the last, and some in between.
const samplesOf = 3

// Look names some documents of each collection that Preview has counted, in its order, and counts all by organization.
func (j Job) Look(of []Previewed) (Look, error) {
	at, seen, organizations := map[string]map[int64]bool{}, map[string]int64{}, map[string]int64{}
	for _, c := range of {
		at[c.Collection] = map[int64]bool{}
		for i := range int64(samplesOf) {
			at[c.Collection][i*(c.Insert-1)/(samplesOf-1)] = true
		}
	}
	named := map[string][]string{}
	for p, err := range lines[previewed](j.Dir, previewFile) {
		if err != nil {
			return Look{}, err
		}
		if p.Outcome != Insert {
			continue
		}
		n := seen[p.Collection]
		seen[p.Collection]++
		organizations[p.Organization]++
		if name := p.name(); at[p.Collection][n] && name != "" {
			named[p.Collection] = append(named[p.Collection], name)
		}
	}
	var out Look
	for _, c := range of {
		if list := named[c.Collection]; len(list) > 0 {
			out.Samples = append(out.Samples, Sample{c.Collection, list})
		}
	}
	for name, n := range organizations {
		out.Organizations = append(out.Organizations, InOrganization{brief(name), n})
	}
	slices.SortFunc(out.Organizations, func(x, y InOrganization) int {
		return cmp.Or(cmp.Compare(y.Documents, x.Documents), cmp.Compare(x.Organization, y.Organization))
	})
	return out, nil
}

// mostNamed bounds a name, in runes: what damage has written may be long.
const mostNamed = 40

// name is how a document may be called where histories keep it: an _id of text may be a person's address.
func (p *previewed) name() string {
	name := p.Key
	if name == "" {
		name = impersonal(p.ID)
	}
	return brief(name)
}

func brief(name string) string {
	if runes := []rune(name); len(runes) > mostNamed {
		return string(runes[:mostNamed]) + "…"
	}
	return name
}

func impersonal(id json.RawMessage) string {
	v, err := decodeID(id)
	if err != nil {
		return ""
	}
	switch v.Type {
	case bson.TypeObjectID, bson.TypeInt32, bson.TypeInt64, bson.TypeDouble, bson.TypeBinary, bson.TypeDateTime, bson.TypeTimestamp, bson.TypeDecimal128:
		name, _ := text(v)
		return name
	default:
		return ""
	}
}
