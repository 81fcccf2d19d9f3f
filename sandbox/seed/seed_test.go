package seed

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
)

func fingerprint(d *Dataset) string {
	h := sha256.New()
	for _, c := range d.Collections {
		fmt.Fprintf(h, "%s %d\n", c.Name, len(c.Documents))
		for _, raw := range c.Documents {
			h.Write(raw)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

func TestTheSameNumberGivesTheSameBytes(t *testing.T) {
	a, b := Generate(Options{Seed: 7}), Generate(Options{Seed: 7})
	require.Equal(t, fingerprint(a), fingerprint(b))
	require.NotEqual(t, fingerprint(a), fingerprint(Generate(Options{Seed: 8})))
}

func TestShape(t *testing.T) {
	d := Generate(Options{Seed: 1})
	f := d.Facts()
	require.GreaterOrEqual(t, f.Collections, 220)
	require.Greater(t, f.Documents, 25_000)
	require.Less(t, f.Documents, 40_000)
	require.Equal(t, organizationCount, f.Organizations)
	require.Equal(t, f.Active, f.Direct+f.ViaOwner+f.BadAddress+f.NoAddress)
	require.Equal(t, Facts{Collections: f.Collections, Documents: f.Documents, Organizations: 60, Active: 53, Direct: 47,
		ViaOwner: 4, BadAddress: 1, NoAddress: 1}, f)

	empty, large := 0, 0
	for _, c := range d.Collections {
		switch n := len(c.Documents); {
		case n == 0:
			empty++
		case n > 5000:
			t.Errorf("%s has %d documents: too many for FerretDB", c.Name, n)
		case n > 1000:
			large++
		}
	}
	require.Greater(t, empty, 60)
	require.GreaterOrEqual(t, large, 8)
}

func TestMailReachesAnOrganizationAsItsDocumentsSay(t *testing.T) {
	d := Generate(Options{Seed: 3})
	emails := map[string]string{}
	for _, raw := range d.Collection("organizations").Documents {
		email, _ := raw.Lookup("email").StringValueOK()
		emails[raw.Lookup("organization_id").StringValue()] = email
	}
	owners := map[string]string{}
	for _, raw := range d.Collection("users").Documents {
		if raw.Lookup("role").StringValue() == "owner" && raw.Lookup("is_active").Boolean() {
			owners[raw.Lookup("organization_id").StringValue()] = raw.Lookup("email").StringValue()
		}
	}
	for _, o := range d.Organizations {
		require.Equal(t, o.Email, emails[o.ID])
		switch o.Reach {
		case Direct:
			require.Contains(t, o.Address(), "@")
		case ViaOwner:
			require.Empty(t, o.Email)
			require.Equal(t, owners[o.ID], o.Address())
		case BadAddress:
			require.NotContains(t, o.Address(), "@")
		case NoAddress:
			require.Empty(t, o.Address())
			require.Empty(t, owners[o.ID])
		}
	}
}

// FerretDB v1 breaks the connection at some types, and refuses nested arrays and some names.
func TestOnlyWhatFerretDBCanHold(t *testing.T) {
	for _, c := range Generate(Options{Seed: 5}).Collections {
		ids := map[string]bool{}
		for _, raw := range c.Documents {
			require.NoError(t, raw.Validate())
			id := raw.Index(0)
			require.Equal(t, "_id", id.Key())
			key := string(id.Value().Type) + string(id.Value().Value)
			require.False(t, ids[key], "%s has two documents with _id %s", c.Name, id.Value())
			ids[key] = true
			checkValues(t, c.Name, raw, false)
		}
	}
}

func checkValues(t *testing.T, where string, raw bson.Raw, inArray bool) {
	t.Helper()
	elements, err := raw.Elements()
	require.NoError(t, err)
	for _, e := range elements {
		require.False(t, strings.ContainsAny(e.Key(), ".$"), "%s: field %q", where, e.Key())
		switch v := e.Value(); v.Type {
		case bson.TypeEmbeddedDocument:
			checkValues(t, where, v.Document(), false)
		case bson.TypeArray:
			require.False(t, inArray, "%s: an array in an array", where)
			checkValues(t, where, bson.Raw(v.Array()), true)
		case bson.TypeDouble:
			require.Equal(t, v.Double(), v.Double(), "%s: NaN", where)
		case bson.TypeString, bson.TypeBinary, bson.TypeObjectID, bson.TypeBoolean, bson.TypeDateTime, bson.TypeNull,
			bson.TypeRegex, bson.TypeInt32, bson.TypeTimestamp, bson.TypeInt64:
		default:
			t.Fatalf("%s: field %s has type %s", where, e.Key(), v.Type)
		}
	}
}

func TestUniqueIndexesHold(t *testing.T) {
	for _, c := range Generate(Options{Seed: 11}).Collections {
		for _, x := range c.Indexes {
			if !x.Unique {
				continue
			}
			seen := map[string]bool{}
			for _, raw := range c.Documents {
				var key strings.Builder
				for _, k := range x.Keys {
					key.WriteString(raw.Lookup(k.Key).String() + "\x00")
				}
				require.False(t, seen[key.String()], "%s: two documents with %v = %s", c.Name, x.Keys, key.String())
				seen[key.String()] = true
			}
		}
	}
}
