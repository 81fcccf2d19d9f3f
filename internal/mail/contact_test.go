package mail

import (
	"context"
	"errors"
	"iter"
	"testing"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/config"
)

var battwheels = config.Tenants{
	Field: "organization_id", Collection: "organizations", Name: "name", Email: "email", Active: "is_active",
	Owners: config.Owners{Collection: "users", Email: "email", Match: map[string]string{"role": "owner"}, Active: "is_active"},
}

type database map[string][]bson.D

func (d database) read(_ context.Context, collection string) iter.Seq2[bson.Raw, error] {
	return func(yield func(bson.Raw, error) bool) {
		for _, doc := range d[collection] {
			raw, err := bson.Marshal(doc)
			if !yield(raw, err) {
				return
			}
		}
	}
}

func organization(id, name string, more ...bson.E) bson.D {
	return append(bson.D{{Key: "organization_id", Value: id}, {Key: "name", Value: name}, {Key: "is_active", Value: true}}, more...)
}

func user(organization, email, name, role string, active bool) bson.D {
	return bson.D{{Key: "organization_id", Value: organization}, {Key: "email", Value: email}, {Key: "name", Value: name},
		{Key: "role", Value: role}, {Key: "is_active", Value: active}, {Key: "password_hash", Value: "x"}}
}

func email(v any) bson.E { return bson.E{Key: "email", Value: v} }

func TestRecipients(t *testing.T) {
	for name, tc := range map[string]struct {
		db      database
		active  []Contact
		without []Contact
	}{
		"an organization's own address": {
			db:     database{"organizations": {organization("o1", "Volt Garage", email("hello@volt.example"))}},
			active: []Contact{{OrganizationID: "o1", OrganizationName: "Volt Garage", Email: "hello@volt.example", Via: ViaOrganization}},
		},
		"its owner's where it has none": {
			db: database{
				"organizations": {organization("o1", "Volt Garage")},
				"users": {
					user("o1", "clerk@volt.example", "Clerk", "admin", true),
					user("o1", "gone@volt.example", "Gone", "owner", false),
					user("o2", "other@volt.example", "Other", "owner", true),
					user("o1", "asha@volt.example", "Asha Rao", "owner", true),
				},
			},
			active: []Contact{{OrganizationID: "o1", OrganizationName: "Volt Garage", Name: "Asha Rao", Email: "asha@volt.example", Via: ViaOwner}},
		},
		"its owner's where what stands there is no address": {
			db: database{
				"organizations": {organization("o1", "Volt", email("n/a")), organization("o2", "Amp", email(nil)), organization("o3", "Ohm", email("  "))},
				"users": {
					user("o1", "a@volt.example", "A", "owner", true), user("o2", "b@volt.example", "B", "owner", true),
					user("o3", "c@volt.example", "C", "owner", true),
				},
			},
			active: []Contact{
				{OrganizationID: "o1", OrganizationName: "Volt", Name: "A", Email: "a@volt.example", Via: ViaOwner},
				{OrganizationID: "o2", OrganizationName: "Amp", Name: "B", Email: "b@volt.example", Via: ViaOwner},
				{OrganizationID: "o3", OrganizationName: "Ohm", Name: "C", Email: "c@volt.example", Via: ViaOwner},
			},
		},
		"two owners: always the same one": {
			db: database{
				"organizations": {organization("o1", "Volt")},
				"users":         {user("o1", "z@volt.example", "Z", "owner", true), user("o1", "a@volt.example", "A", "owner", true)},
			},
			active: []Contact{{OrganizationID: "o1", OrganizationName: "Volt", Name: "A", Email: "a@volt.example", Via: ViaOwner}},
		},
		"inactive ones are not told": {
			db: database{"organizations": {
				organization("o1", "Volt", email("a@volt.example")),
				{{Key: "organization_id", Value: "o2"}, {Key: "is_active", Value: false}, email("b@volt.example")},
				{{Key: "organization_id", Value: "o3"}, email("c@volt.example")},
				{{Key: "organization_id", Value: "o4"}, {Key: "is_active", Value: "garbage"}, email("d@volt.example")},
			}},
			active: []Contact{{OrganizationID: "o1", OrganizationName: "Volt", Email: "a@volt.example", Via: ViaOrganization}},
		},
		"one mail for an address that two share": {
			db: database{"organizations": {
				organization("o2", "Volt South", email("Asha@Volt.example")), organization("o1", "Volt North", email("asha@volt.example")),
			}},
			active: []Contact{{OrganizationID: "o1", OrganizationName: "Volt North", Email: "asha@volt.example", Via: ViaOrganization,
				Others: []Organization{{ID: "o2", Name: "Volt South"}}}},
		},
		"nobody to write to is listed": {
			db: database{
				"organizations": {organization("o1", "Volt"), organization("o2", "Amp", email("n/a"))},
				"users":         {user("o1", "broken", "Asha", "owner", true)},
			},
			without: []Contact{
				{OrganizationID: "o1", OrganizationName: "Volt", Via: ViaOrganization,
					Why: "it has no address, and no active owner has an address"},
				{OrganizationID: "o2", OrganizationName: "Amp", Via: ViaOrganization,
					Why: "what stands there as its address is none, and no active owner has an address"},
			},
		},
		"one organization twice": {
			db:     database{"organizations": {organization("o1", "Volt"), organization("o1", "Volt", email("a@volt.example"))}},
			active: []Contact{{OrganizationID: "o1", OrganizationName: "Volt", Email: "a@volt.example", Via: ViaOrganization}},
		},
		"a name with its address, and ids that are numbers": {
			db: database{"organizations": {
				{{Key: "organization_id", Value: int32(7)}, {Key: "is_active", Value: true}, email("Volt Garage <a@volt.example>")},
			}},
			active: []Contact{{OrganizationID: "7", Email: "a@volt.example", Via: ViaOrganization}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			active, without, err := Recipients(t.Context(), tc.db.read, battwheels)
			require.NoError(t, err)
			require.Equal(t, tc.active, active)
			require.Equal(t, tc.without, without)
		})
	}
}

func TestRecipientsByNestedFields(t *testing.T) {
	tenants := battwheels
	tenants.Email, tenants.Active = "contact.mail", ""
	db := database{"organizations": {
		{{Key: "organization_id", Value: "o1"}, {Key: "contact", Value: bson.D{{Key: "mail", Value: "a@volt.example"}}}},
	}}
	active, _, err := Recipients(t.Context(), db.read, tenants)
	require.NoError(t, err)
	require.Len(t, active, 1)
	require.Equal(t, "a@volt.example", active[0].Email)
}

func TestRecipientsWhereNoneAreConfigured(t *testing.T) {
	active, without, err := Recipients(t.Context(), nil, config.Tenants{})
	require.NoError(t, err)
	require.Empty(t, active)
	require.Empty(t, without)
}

func TestADamagedCollectionIsNotTakenForNobody(t *testing.T) {
	_, _, err := Recipients(t.Context(), database{}.read, battwheels)
	require.ErrorIs(t, err, ErrNoOrganizations)

	broken := errors.New("cursor died")
	for _, collection := range []string{"organizations", "users"} {
		db := database{"organizations": {organization("o1", "Volt")}}
		read := func(ctx context.Context, c string) iter.Seq2[bson.Raw, error] {
			if c != collection {
				return db.read(ctx, c)
			}
			return func(yield func(bson.Raw, error) bool) { yield(nil, broken) }
		}
		_, _, err := Recipients(t.Context(), read, battwheels)
		require.ErrorIs(t, err, broken)
		require.ErrorContains(t, err, collection)
	}
}
