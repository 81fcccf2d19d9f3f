package backup

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
)

func doc(t testing.TB, id any, org any, text string) bson.Raw {
	d := bson.D{{Key: "_id", Value: id}, {Key: "text", Value: text}}
	if org != nil {
		d = append(d, bson.E{Key: "organization_id", Value: org})
	}
	return raw(t, d)
}

func TestCompareCountsDocumentsByCollectionAndTenant(t *testing.T) {
	from := write(t,
		content{name: "invoices", docs: []bson.Raw{doc(t, 1, "a", "x"), doc(t, 2, "a", "x"), doc(t, 3, "b", "x"), doc(t, 4, "b", "x"), doc(t, 5, nil, "x")}},
		content{name: "gone", docs: []bson.Raw{doc(t, 1, "a", "x")}},
		content{name: "same", docs: []bson.Raw{doc(t, 1, "c", "x"), doc(t, 2, "c", "x")}},
		content{name: "view", typ: TypeView, options: bson.D{{Key: "viewOn", Value: "same"}}},
	)
	to := write(t,
		content{name: "invoices", docs: []bson.Raw{doc(t, 5, nil, "garbage"), doc(t, 2, "a", "x"), doc(t, 6, "d", "new"), doc(t, 3, "a", "x"), doc(t, 4, nil, "garbage"), doc(t, int64(1), "a", "x")}},
		content{name: "same", docs: []bson.Raw{doc(t, 2, "c", "x"), doc(t, 1, "c", "x")}},
		content{name: "new", docs: []bson.Raw{doc(t, "s", bson.ObjectID{1}, "x")}},
	)
	var last Progress
	d, err := Compare(t.Context(), from, to, CompareOptions{TenantField: "organization_id", Progress: func(p Progress) { last = p }})
	require.NoError(t, err)
	require.Equal(t, Diff{
		Total: Counts{Same: 3, Added: 3, Changed: 3, Missing: 2},
		Collections: map[string]Counts{
			"invoices": {Same: 1, Added: 2, Changed: 3, Missing: 1}, // 1 as int32 is another _id than 1 as int64
			"gone":     {Missing: 1},
			"same":     {Same: 2},
			"view":     {},
			"new":      {Added: 1},
		},
		Tenants: map[string]Counts{
			"a":                        {Added: 1, Changed: 1, Missing: 2},
			"b":                        {Changed: 2},
			"d":                        {Added: 1},
			"010000000000000000000000": {Added: 1},
		},
		TenantsIn: map[string]map[string]Counts{
			"invoices": {"a": {Added: 1, Changed: 1, Missing: 1}, "b": {Changed: 2}, "d": {Added: 1}},
			"gone":     {"a": {Missing: 1}},
			"new":      {"010000000000000000000000": {Added: 1}},
		},
		NewCollections:  []string{"new"},
		GoneCollections: []string{"gone", "view"},
	}, d)
	require.Equal(t, last.DocumentsTotal, last.Documents)
	require.Equal(t, last.BytesTotal, last.Bytes)

	without, err := Compare(t.Context(), from, to, CompareOptions{})
	require.NoError(t, err)
	require.Equal(t, d.Total, without.Total)
	require.Nil(t, without.Tenants)
}

func TestCompareNeedsNoOrderAndLittleMemory(t *testing.T) {
	var before, after []bson.Raw
	want := Counts{}
	tenants := map[string]Counts{}
	for i := range 2000 {
		org := fmt.Sprint("org_", i%5)
		var n Counts
		switch i % 10 {
		case 0:
			before, n = append(before, doc(t, i, org, "x")), Counts{Missing: 1}
		case 1:
			after, n = append(after, doc(t, i, org, "x")), Counts{Added: 1}
		case 2:
			before, after, n = append(before, doc(t, i, org, "x")), append(after, doc(t, i, org, "y")), Counts{Changed: 1}
		default:
			before, after, n = append(before, doc(t, i, org, "x")), append(after, doc(t, i, org, "x")), Counts{Same: 1}
		}
		want = want.Plus(n)
		if n.Differ() {
			tenants[org] = tenants[org].Plus(n)
		}
	}
	r := rand.New(rand.NewPCG(7, 8))
	r.Shuffle(len(after), func(i, j int) { after[i], after[j] = after[j], after[i] })
	from, to := write(t, content{name: "x", docs: before}), write(t, content{name: "x", docs: after})
	for _, limit := range []int{100, 1000, maxWaiting} {
		got, byTenant, err := compareCollection(t.Context(), from, to, &from.Manifest.Collections[0], &to.Manifest.Collections[0], "organization_id", limit, nil)
		require.NoError(t, err)
		require.Equal(t, want, got, "at most %d wait", limit)
		require.Equal(t, tenants, byTenant, "at most %d wait", limit)
	}
}

func TestCompareDoesNotBelieveADamagedFile(t *testing.T) {
	from, to := wholeShop(t), wholeShop(t)
	c := to.Manifest.Collection("invoices")
	broken := slices.Concat(invoices(t, 1999)[5:]...)
	put(t, to.Dir, c.Data.Path, members(t, broken))
	_, err := Compare(t.Context(), from, Source{to.Dir, func() *Manifest {
		m := *to.Manifest
		m.Collections = slices.Clone(m.Collections)
		m.Collection("invoices").Digest.Add(broken)
		m.Collection("invoices").DocumentIndex = File{}
		return &m
	}()}, CompareOptions{})
	requireNamed(t, err, to.Dir+"/"+c.Data.Path, "damaged")
}

func TestCompareByIndexesIsCompareByDocuments(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	var before, after []bson.Raw
	for i := range 3000 {
		org := fmt.Sprint("org_", r.IntN(6))
		d := doc(t, i, org, "x")
		switch r.IntN(12) {
		case 0:
			before = append(before, d)
		case 1:
			after = append(after, d)
		case 2:
			before, after = append(before, d), append(after, doc(t, i, org, "y"))
		case 3:
			before, after = append(before, d), append(after, doc(t, i, "elsewhere", "x"))
		case 4:
			before, after = append(before, doc(t, i, nil, "x")), append(after, d)
		default:
			before, after = append(before, d), append(after, d)
		}
	}
	r.Shuffle(len(after), func(i, j int) { after[i], after[j] = after[j], after[i] })
	with := func(index bool) (from, to Source) {
		return write(t, content{name: "x", docs: before, index: index}), write(t, content{name: "x", docs: after, index: index})
	}
	from, to := with(false)
	want, err := Compare(t.Context(), from, to, CompareOptions{TenantField: "organization_id"})
	require.NoError(t, err)
	from, to = with(true)
	got, err := Compare(t.Context(), from, to, CompareOptions{TenantField: "organization_id"})
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Greater(t, got.Total.Changed, int64(100))

	for _, limit := range []int{50, 10_000} { // fewer than differ: the documents are read
		total, tenants, err := compareCollection(t.Context(), from, to, &from.Manifest.Collections[0], &to.Manifest.Collections[0], "organization_id", limit, nil)
		require.NoError(t, err)
		require.Equal(t, want.Total, total, "at most %d are remembered", limit)
		require.Equal(t, want.Tenants, tenants, "at most %d are remembered", limit)
	}

	// Without tenants, no document is read: their files may be gone.
	require.NoError(t, os.Remove(filepath.Join(from.Dir, "shop/x.bson.gz")))
	require.NoError(t, os.Remove(filepath.Join(to.Dir, "shop/x.bson.gz")))
	got, err = Compare(t.Context(), from, to, CompareOptions{})
	require.NoError(t, err)
	require.Equal(t, want.Total, got.Total)
}

func TestCompareDoesNotBelieveADamagedIndex(t *testing.T) {
	from := write(t, content{name: "x", docs: invoices(t, 500), index: true})
	to := write(t, content{name: "x", docs: invoices(t, 600), index: true})
	c := to.Manifest.Collection("x")
	other := putIndex(t, to.Dir, "x", invoices(t, 599)) // whole in itself
	_, err := Compare(t.Context(), from, to, CompareOptions{})
	requireNamed(t, err, to.IndexFile(c), "not the file of the manifest")
	c.DocumentIndex = other
	_, err = Compare(t.Context(), from, to, CompareOptions{})
	requireNamed(t, err, to.IndexFile(c), "not the documents of the manifest")
}
