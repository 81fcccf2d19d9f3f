package restore

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/mongotest"
)

func filter(t testing.TB, text string) Filter {
	t.Helper()
	f, err := ParseFilter(text)
	require.NoError(t, err)
	return f
}

// garage is a backup, and what became of the database: of seven organizations, the first has lost some customers by
// mistake, changed some, and made new ones.
func garage(t testing.TB, n int) (list, live []given) {
	then := people(t, n, "as it was")
	now := slices.Clone(then)
	for i := range now {
		switch {
		case i%7 != 1:
		case i%4 == 0:
			now[i] = nil
		case i%4 == 1:
			now[i] = doc(t, "_id", fmt.Sprintf("cus_%05d", i), "organization_id", "org_1", "n", int32(i), "name", "changed")
		}
	}
	now = slices.DeleteFunc(now, func(d bson.Raw) bool { return d == nil })
	for i := range n / 5 {
		now = append(now, doc(t, "_id", fmt.Sprintf("new_%05d", i), "organization_id", fmt.Sprintf("org_%d", i%7), "name", "new"))
	}
	indexes := []bson.Raw{index(t, "name_1", "name")}
	list = []given{
		{name: "customers", documents: then, indexes: indexes},
		{name: "invoices", documents: people(t, 40, "invoice"), indexes: indexes},
		{name: "open", kind: backup.TypeView, options: doc(t, "viewOn", "invoices", "pipeline", bson.A{})},
	}
	return list, []given{{name: "customers", documents: now, indexes: indexes}, {name: "elsewhere", documents: people(t, 3, "x")}}
}

func partialAttempt(t testing.TB, db *mongo.Database, s backup.Source, run string, f Filter, m Mode) PartialOptions {
	t.Helper()
	return PartialOptions{DB: db, Source: s, Lease: acquire(t, db, run), Dir: filepath.Join(t.TempDir(), "partial"), Filter: f, Mode: m}
}

// documentsOf indexes what stands in a collection by _id.
func documentsOf(t testing.TB, db *mongo.Database, collection string) map[string]string {
	t.Helper()
	all := map[string]string{}
	cursor, err := db.Collection(collection).Find(t.Context(), bson.D{})
	require.NoError(t, err)
	for cursor.Next(t.Context()) {
		all[nameOf(cursor.Current)] = string(cursor.Current)
	}
	require.NoError(t, cursor.Err())
	return all
}

// Each mode leaves a database that is, document by document, what one would make by hand; a dry run tells the same numbers
// and writes nothing; and the undo folder brings back what was there.
func TestAPartialRestorePutsBackWhatWasChosen(t *testing.T) {
	onServers(t, func(t *testing.T, db *mongo.Database, srv *mongotest.Server) {
		const n = 2800
		list, live := garage(t, n)
		if small(t, db) {
			list = list[:2]
		}
		source := makeBackup(t, list...)
		org := filter(t, `{"organization_id": "org_1"}`)
		for _, mode := range []Mode{InsertMissing, Overwrite, Replace} {
			t.Run(string(mode), func(t *testing.T) {
				require.NoError(t, db.Drop(t.Context()))
				fill(t, db, live...)
				before := documentsOf(t, db, "customers")
				want := maps.Clone(before)
				counts := PartialCollection{Name: "customers"}
				for _, d := range list[0].documents {
					if !org.Matches(d) {
						continue
					}
					counts.Matched++
					was, there := before[nameOf(d)]
					switch {
					case !there:
						counts.Insert++
						want[nameOf(d)] = string(d)
					case was == string(d):
						counts.Identical++
					case mode == InsertMissing:
						counts.Different++
					default:
						counts.Overwrite++
						want[nameOf(d)] = string(d)
					}
				}
				if mode == Replace {
					for id, d := range before {
						if strings.Contains(id, "new_") && org.Matches(bson.Raw(d)) {
							counts.Remove++
							delete(want, id)
						}
					}
					require.NotZero(t, counts.Remove)
				}
				require.NotZero(t, counts.Insert)
				require.NotZero(t, counts.Identical)

				o := partialAttempt(t, db, source, string(mode), org, mode)
				o.DryRun = true
				if srv != nil {
					defer srv.OnCommand(func(_, command string, _ bson.Raw) {
						if o.DryRun && slices.Contains([]string{"insert", "create", "createIndexes", "update", "delete", "findAndModify", "drop"}, command) {
							t.Errorf("a dry run sends %s", command)
						}
					})()
				}
				dry, err := Partial(t.Context(), o)
				require.NoError(t, err)
				require.True(t, dry.DryRun)
				require.Equal(t, counts, dry.Collections[0])
				require.True(t, dry.Collections[1].Created)
				require.NoDirExists(t, o.Dir)
				require.Equal(t, before, documentsOf(t, db, "customers"))

				o.DryRun = false
				done, err := Partial(t.Context(), o)
				require.NoError(t, err)
				require.Equal(t, dry.Collections, done.Collections)
				require.Equal(t, dry.Left, done.Left)
				require.Equal(t, want, documentsOf(t, db, "customers"))
				require.Len(t, documentsOf(t, db, "invoices"), int(done.Collections[1].Insert))
				specs, err := listIndexes(t.Context(), db, "invoices")
				require.NoError(t, err)
				require.Len(t, specs, 2)
				again, err := Partial(t.Context(), o)
				require.NoError(t, err, "run again it has nothing to do")
				require.Equal(t, done, again)

				if mode == InsertMissing {
					require.Empty(t, done.Undo)
					return
				}
				m, err := backup.ReadManifest(done.Undo)
				require.NoError(t, err)
				undo := backup.Source{Dir: done.Undo, Manifest: m}
				require.NoError(t, backup.Verify(t.Context(), undo, nil))
				require.Equal(t, counts.Overwrite+counts.Remove, m.Documents())
				whole, _ := attempt(t, db, undo, "whole")
				_, err = Stage(t.Context(), whole)
				require.ErrorContains(t, err, "restore it in part", "it is no backup of the collection")
				back, err := Partial(t.Context(), partialAttempt(t, db, undo, "back", Filter{}, Overwrite))
				require.NoError(t, err)
				require.Equal(t, PartialCollection{Name: "customers", Matched: m.Documents(), Insert: counts.Remove, Overwrite: counts.Overwrite}, back.Collections[0])
				for id, d := range before {
					require.Equal(t, d, documentsOf(t, db, "customers")[id])
					break
				}
			})
		}
	})
}

// Killed at any command and run again, the outcome is that of one run, and nothing that was overwritten or removed is
// missing in the undo folder.
func TestAKilledPartialRestoreCarriesOn(t *testing.T) {
	t.Parallel()
	list, live := garage(t, 60)
	source := makeBackup(t, list...)
	org := filter(t, `{"organization_id": "org_1"}`)
	everyCrash(t, func(t *testing.T, connect func() *mongo.Database, k *killer) bool {
		db := connect()
		fill(t, db, live...)
		before := documentsOf(t, db, "customers")
		o := partialAttempt(t, db, source, "r1", org, Replace)
		o.Parallel = 1
		ctx, end := k.arm(t, t.Context())
		_, err := Partial(ctx, o)
		killed := end()
		if !killed {
			require.NoError(t, err)
		}
		o.DB = connect()
		o.Lease = acquire(t, o.DB, "r1")
		done, err := Partial(t.Context(), o)
		require.NoError(t, err)
		after := documentsOf(t, o.DB, "customers")
		for _, d := range list[0].documents {
			if org.Matches(d) {
				require.Equal(t, string(d), after[nameOf(d)])
			}
		}
		specs, err := listIndexes(t.Context(), o.DB, "invoices")
		require.NoError(t, err)
		require.Len(t, specs, 2)
		m, err := backup.ReadManifest(done.Undo)
		require.NoError(t, err)
		kept := map[string]string{}
		for d, err := range (backup.Source{Dir: done.Undo, Manifest: m}).Documents(t.Context(), m.Collection("customers")) {
			require.NoError(t, err)
			kept[nameOf(d)] = string(d)
		}
		for id, d := range before {
			if now, there := after[id]; !there || now != d {
				require.Equal(t, d, kept[id], "what is not there any more is kept")
			}
		}
		return killed
	})
}

// Somebody changes a document after it was kept, right before it is overwritten: their change stays, and it is named.
func TestAChangeInBetweenIsPutBack(t *testing.T) {
	t.Parallel()
	srv := mongotest.Start(t)
	db := srv.Client(t).Database("d")
	fill(t, db, given{name: "c", documents: []bson.Raw{doc(t, "_id", "a", "v", "damaged")}})
	o := partialAttempt(t, db, makeBackup(t, given{name: "c", documents: []bson.Raw{doc(t, "_id", "a", "v", "good")}}), "r1", Filter{}, Overwrite)
	other := srv.Client(t).Database("d")
	first := true
	srv.OnCommand(func(_, command string, body bson.Raw) {
		if command == "findAndModify" && body.Lookup(command).StringValue() == "c" && first {
			first = false
			_, err := other.Collection("c").ReplaceOne(t.Context(), bson.D{{Key: "_id", Value: "a"}}, bson.D{{Key: "v", Value: "somebody's"}})
			require.NoError(t, err)
		}
	})
	_, err := Partial(t.Context(), o)
	var changed *ChangedError
	require.ErrorAs(t, err, &changed)
	require.Equal(t, map[string]string{`"a"`: string(doc(t, "_id", "a", "v", "somebody's"))}, documentsOf(t, db, "c"))
}

// A document whose unique key belongs to another one by now is not forced in, and is named.
func TestAConflictOfKeysIsNamed(t *testing.T) {
	t.Parallel()
	db := mongotest.Start(t).Client(t).Database("d")
	unique := []bson.Raw{index(t, "n_1", "n", "unique", true)}
	fill(t, db, given{name: "c", indexes: unique, documents: []bson.Raw{doc(t, "_id", "new", "n", 1)}})
	source := makeBackup(t, given{name: "c", indexes: unique, documents: []bson.Raw{doc(t, "_id", "lost", "n", 1), doc(t, "_id", "also lost", "n", 2)}})
	done, err := Partial(t.Context(), partialAttempt(t, db, source, "r1", Filter{}, InsertMissing))
	require.NoError(t, err)
	require.Equal(t, PartialCollection{Name: "c", Matched: 2, Insert: 2, Conflicts: 1, Examples: []string{`"lost"`}}, done.Collections[0])
	require.Len(t, documentsOf(t, db, "c"), 2)
}

// A server inserts a field whose name begins with a dollar, and refuses it in a document that replaces another unless it is a literal.
func TestADocumentWithDollarsReplacesAnother(t *testing.T) {
	onServers(t, func(t *testing.T, db *mongo.Database, _ *mongotest.Server) {
		if small(t, db) {
			t.Skip("this server has no updates by pipelines")
		}
		good := doc(t, "_id", "a", "$price", bson.D{{Key: "$add", Value: bson.A{1, 2}}}, "x", "$y")
		fill(t, db, given{name: "c", documents: []bson.Raw{doc(t, "_id", "a", "v", "damaged"), doc(t, "_id", "b", "v", "stays")}})
		source := makeBackup(t, given{name: "c", documents: []bson.Raw{good}})
		done, err := Partial(t.Context(), partialAttempt(t, db, source, "r1", Filter{}, Overwrite))
		require.NoError(t, err)
		require.EqualValues(t, 1, done.Collections[0].Overwrite)
		require.Equal(t, string(good), documentsOf(t, db, "c")[`"a"`])
	})
}

// The same number in another type is the same _id to the server.
func TestAnIDOfAnotherTypeOfNumberIsTheSame(t *testing.T) {
	t.Parallel()
	db := mongotest.Start(t).Client(t).Database("d")
	fill(t, db, given{name: "c", documents: []bson.Raw{doc(t, "_id", 7.0, "v", "damaged")}})
	source := makeBackup(t, given{name: "c", documents: []bson.Raw{doc(t, "_id", int64(7), "v", "good")}})
	o := partialAttempt(t, db, source, "r1", Filter{}, InsertMissing)
	o.DryRun = true
	done, err := Partial(t.Context(), o)
	require.NoError(t, err)
	require.Equal(t, PartialCollection{Name: "c", Matched: 1, Different: 1}, done.Collections[0])
}

// Chosen collections go into another database under other names.
func TestAPartialRestoreUnderAnotherName(t *testing.T) {
	t.Parallel()
	srv := mongotest.Start(t)
	list, _ := garage(t, 70)
	source, err := makeBackup(t, list...).Renamed(map[string]string{"customers": "customers_of_then"})
	require.NoError(t, err)
	db := srv.Client(t).Database("elsewhere")
	o := partialAttempt(t, db, source, "r1", filter(t, `{"organization_id": {"$in": ["org_1", "org_2"]}}`), InsertMissing)
	o.Collections = []string{"customers_of_then"}
	done, err := Partial(t.Context(), o)
	require.NoError(t, err)
	require.Equal(t, []PartialCollection{{Name: "customers_of_then", Created: true, Matched: 20, Insert: 20}}, done.Collections)
	require.Equal(t, []string{"customers_of_then"}, sortedKeys(stateOf(t, db)))
}

func TestWhatAPartialRestoreRefuses(t *testing.T) {
	t.Parallel()
	db := mongotest.Start(t).Client(t).Database("d")
	fill(t, db, given{name: "log", options: doc(t, "capped", true, "size", int32(4096))})
	list, _ := garage(t, 7)
	source := makeBackup(t, append(list, given{name: "log", options: doc(t, "capped", true, "size", int32(4096)), documents: people(t, 1, "x")})...)
	for name, c := range map[string]struct {
		change func(*PartialOptions)
		want   string
	}{
		"replace without a filter":       {func(o *PartialOptions) { o.Mode = Replace }, "replace needs a filter"},
		"no mode":                        {func(o *PartialOptions) { o.Mode = "" }, "want insert-missing, overwrite or replace"},
		"a view":                         {func(o *PartialOptions) { o.Collections = []string{"open"} }, "a view has no documents of its own"},
		"a capped collection":            {func(o *PartialOptions) { o.Collections = []string{"log"} }, "would push out what is there"},
		"a collection that is not there": {func(o *PartialOptions) { o.Collections = []string{"x"} }, `has no collection "x"`},
		"a lease that is lost":           {func(o *PartialOptions) { o.Lease.Token-- }, "lease on this database"},
	} {
		t.Run(name, func(t *testing.T) {
			o := partialAttempt(t, db, source, "r1", Filter{}, InsertMissing)
			c.change(&o)
			_, err := Partial(t.Context(), o)
			require.ErrorContains(t, err, c.want)
			require.Equal(t, []string{"log"}, sortedKeys(stateOf(t, db)))
		})
	}
	o := partialAttempt(t, db, source, "r1", Filter{}, InsertMissing)
	done, err := Partial(t.Context(), o)
	require.NoError(t, err)
	require.Equal(t, []string{"log (it is capped: what is inserted would push out what is there)", "open (a view has no documents of its own)"}, slices.Sorted(slices.Values(done.Left)))

	_, err = source.Renamed(map[string]string{"x": "y"})
	require.ErrorContains(t, err, `has no collection "x"`)
	_, err = source.Renamed(map[string]string{"log": "customers"})
	require.ErrorContains(t, err, `would both be named "customers"`)
	_, err = source.Renamed(map[string]string{"log": "runbook.lease"})
	require.ErrorContains(t, err, `cannot be named "runbook.lease"`)
}
