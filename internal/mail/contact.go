package mail

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	netmail "net/mail"
	"slices"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/config"
)

// The values of Contact.Via.
const (
	ViaOrganization = "organization" // the organization's own address
	ViaOwner        = "owner"        // that of its owner, for want of one
	ViaContact      = "contact"      // a person inside, from the configuration
)

// Organization is one tenant by its own id and name.
type Organization struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// Via is ViaOwner where it is reached through its owner.
	Via string `json:"via,omitempty"`
}

// Contact is one recipient: an address, and the organization it is written to for.
type Contact struct {
	OrganizationID   string `json:"organizationId,omitempty"`
	OrganizationName string `json:"organizationName,omitempty"`
	Name             string `json:"name,omitempty"` // the owner's, where Via is "owner"
	Email            string `json:"email,omitempty"`
	Via              string `json:"via,omitempty"`
	// Others are organizations that share the address: they get one mail together.
	Others []Organization `json:"others,omitempty"`
	// Why says what is missing, for those without an address.
	Why string `json:"why,omitempty"`
}

// Organizations returns all organizations that the contact stands for.
func (c Contact) Organizations() []Organization {
	if c.OrganizationID == "" && c.OrganizationName == "" {
		return c.Others
	}
	return append([]Organization{c.organization()}, c.Others...)
}

func (c Contact) organization() Organization {
	o := Organization{ID: c.OrganizationID, Name: c.OrganizationName}
	if c.Via == ViaOwner {
		o.Via = ViaOwner
	}
	return o
}

// Inside returns the contacts of configured addresses: the people on call, the escalation.
func Inside(addresses []string) []Contact {
	contacts := make([]Contact, 0, len(addresses))
	for _, address := range addresses {
		contacts = append(contacts, Contact{Email: address, Via: ViaContact})
	}
	return contacts
}

// Reader reads the documents of a collection, from the live database or from a backup. A document is valid until the
// next one only.
type Reader func(ctx context.Context, collection string) iter.Seq2[bson.Raw, error]

// ErrNoOrganizations says that the collection of organizations holds no document at all: in a database under repair
// that means that it is damaged, and that a backup should be asked instead.
var ErrNoOrganizations = errors.New("the collection of organizations is empty")

// Recipients returns whom to tell: each active organization at its own address, else at that of its active owner;
// one contact for each address, whatever its case. Those that cannot be reached are in without, each saying why. Both
// are ordered by organization. Where no tenants are configured, both are empty.
func Recipients(ctx context.Context, docs Reader, t config.Tenants) (active, without []Contact, err error) {
	if t.Collection == "" {
		return nil, nil, nil
	}
	organizations, err := activeOrganizations(ctx, docs, t)
	if err != nil {
		return nil, nil, err
	}
	owners := map[string]owner{}
	if slices.ContainsFunc(organizations, func(c Contact) bool { return c.Why != "" }) {
		if owners, err = readOwners(ctx, docs, t); err != nil {
			return nil, nil, err
		}
	}

	byAddress := map[string]int{}
	for _, c := range organizations {
		if c.Why != "" {
			o, ok := owners[c.OrganizationID]
			if !ok {
				c.Why += ", and no active owner has an address"
				without = append(without, c)
				continue
			}
			c.Email, c.Name, c.Via, c.Why = o.email, o.name, ViaOwner, ""
		}
		key := strings.ToLower(c.Email)
		if i, ok := byAddress[key]; ok {
			active[i].Others = append(active[i].Others, c.organization())
			continue
		}
		byAddress[key] = len(active)
		active = append(active, c)
	}
	return active, without, nil
}

// activeOrganizations returns each active organization once, in order; Why is set where it has no usable address.
func activeOrganizations(ctx context.Context, docs Reader, t config.Tenants) ([]Contact, error) {
	var all []Contact
	any := false
	for doc, err := range docs(ctx, t.Collection) {
		if err != nil {
			return nil, fmt.Errorf("read the organizations from %s: %w", t.Collection, err)
		}
		any = true
		if t.Active != "" && !isTrue(doc, t.Active) {
			continue
		}
		c := Contact{
			OrganizationID:   cmp.Or(text(doc, t.Field), text(doc, "_id")),
			OrganizationName: text(doc, t.Name),
			Via:              ViaOrganization,
		}
		c.Email, c.Why = usable(text(doc, t.Email))
		all = append(all, c)
	}
	if !any {
		return nil, fmt.Errorf("read the organizations from %s: %w", t.Collection, ErrNoOrganizations)
	}
	// Of two documents of one organization the one with an address comes first, and stays.
	slices.SortStableFunc(all, func(a, b Contact) int {
		return cmp.Or(cmp.Compare(a.OrganizationID, b.OrganizationID), cmp.Compare(len(a.Why), len(b.Why)))
	})
	return slices.CompactFunc(all, func(a, b Contact) bool {
		return a.OrganizationID != "" && a.OrganizationID == b.OrganizationID
	}), nil
}

type owner struct{ email, name string }

// readOwners returns the first usable owner of each organization, by address, so that two runs choose alike.
func readOwners(ctx context.Context, docs Reader, t config.Tenants) (map[string]owner, error) {
	owners := map[string]owner{}
	if t.Owners.Collection == "" {
		return owners, nil
	}
	for doc, err := range docs(ctx, t.Owners.Collection) {
		if err != nil {
			return nil, fmt.Errorf("read the owners from %s: %w", t.Owners.Collection, err)
		}
		if t.Owners.Active != "" && !isTrue(doc, t.Owners.Active) || !matches(doc, t.Owners.Match) {
			continue
		}
		email, why := usable(text(doc, t.Owners.Email))
		if why != "" {
			continue
		}
		organization := text(doc, t.Field)
		if known, ok := owners[organization]; !ok || email < known.email {
			owners[organization] = owner{email: email, name: text(doc, "name")}
		}
	}
	return owners, nil
}

func matches(doc bson.Raw, want map[string]string) bool {
	for field, value := range want {
		if text(doc, field) != value {
			return false
		}
	}
	return true
}

// usable returns the bare address in s, or why there is none.
func usable(s string) (address, why string) {
	s = strings.TrimSpace(s)
	if s == "" {
		return "", "it has no address"
	}
	a, err := netmail.ParseAddress(s)
	if err != nil || strings.ContainsAny(a.Address, " \t\r\n") {
		return "", "what stands there as its address is none"
	}
	return a.Address, ""
}

func lookup(doc bson.Raw, path string) (bson.RawValue, bool) {
	if path == "" {
		return bson.RawValue{}, false
	}
	v, err := doc.LookupErr(strings.Split(path, ".")...)
	return v, err == nil
}

func isTrue(doc bson.Raw, path string) bool {
	v, ok := lookup(doc, path)
	if !ok {
		return false
	}
	b, isBool := v.BooleanOK()
	return isBool && b
}

// text returns a field as people write it; ids may be of any simple type.
func text(doc bson.Raw, path string) string {
	v, ok := lookup(doc, path)
	if !ok {
		return ""
	}
	if s, ok := v.StringValueOK(); ok {
		return s
	}
	if id, ok := v.ObjectIDOK(); ok {
		return id.Hex()
	}
	if n, ok := v.AsInt64OK(); ok {
		return strconv.FormatInt(n, 10)
	}
	return ""
}
