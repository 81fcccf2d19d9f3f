package backup

import (
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestFileBaseIsMongodumps(t *testing.T) {
	for _, row := range []struct{ collection, want string }{
		{"invoices", "invoices"},
		{"system.js", "system.js"},
		{"a b/c%d", "a+b%2Fc%25d"},
		{"größe", "gr%C3%B6%C3%9Fe"},
		{"../../etc", "..%2F..%2Fetc"},
		{strings.Repeat("x", 238), strings.Repeat("x", 238)},
	} {
		got := FileBase(row.collection)
		require.Equal(t, row.want, got)
		name, err := CollectionName(got, "")
		require.NoError(t, err)
		require.Equal(t, row.collection, name)
	}
	_, err := CollectionName("invoices", "contacts")
	require.ErrorContains(t, err, `collection "contacts"`)
	_, err = CollectionName("%zz", "")
	require.Error(t, err)
}

func TestLongNamesAreHashedAsMongodumpHashesThem(t *testing.T) {
	// A name and the file that mongodump really gives it.
	very := "a" + strings.Repeat("Very", 45)
	name := very + "/Long/Collection/Name/Consisting/Of/Many/Characters"
	base := very + "%2FLong%2FCollection%2FName%24FUVlwTrb2eHN1RUE1swI1fFzWmA"
	require.Equal(t, base, FileBase(name))
	_, err := CollectionName(base, "")
	require.ErrorContains(t, err, "shortened")
	got, err := CollectionName(base, name)
	require.NoError(t, err)
	require.Equal(t, name, got)
}

func TestEveryCollectionNameSurvivesItsFile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringN(1, -1, 255).Filter(func(s string) bool { return s != "" }).Draw(t, "name")
		base := FileBase(name)
		require.LessOrEqual(t, len(base+".metadata.json.gz"), 255)
		require.NotContains(t, base, "/")
		metadata := ""
		if len(url.QueryEscape(name)) > 238 {
			metadata = name
		}
		got, err := CollectionName(base, metadata)
		require.NoError(t, err)
		require.Equal(t, name, got)
	})
}

// JSON would hold another name, and the backup could not be read back.
func TestANameThatIsNotUTF8IsRefusedBeforeItIsChangedSilently(t *testing.T) {
	m := &Manifest{Name: "x", Database: "shop", Collections: []Collection{{
		Name: "a\x84", Type: TypeView, Metadata: File{Path: MetadataPath("shop", "a\x84", true)},
	}}}
	require.ErrorContains(t, WriteManifest(t.TempDir(), m), "not UTF-8")
}
