package restore

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/mongotest"
)

func TestRestoreBringsTheBackupBackByteForByte(t *testing.T) {
	onServers(t, func(t *testing.T, db *mongo.Database, _ *mongotest.Server) {
		ctx := t.Context()
		full := !small(t, db)
		list := backupFor(t, full)
		want := expected(t, db, list)
		ruin(t, db, full)
		before := stateOf(t, db)
		if full {
			want["measurements"] = before["measurements"] // time series are left alone
		}
		o, so := attempt(t, db, makeBackup(t, list...), "r1")

		var progress []backup.Progress
		o.Progress = func(p backup.Progress) { progress = append(progress, p) }
		s, err := Stage(ctx, o)
		require.NoError(t, err)
		require.Equal(t, o.Source.Manifest.Documents(), s.Documents)
		require.Equal(t, before, stateOf(t, db), "staging touches nothing that is live")
		require.NotEmpty(t, progress)
		require.Equal(t, s.Documents, progress[len(progress)-1].Documents)
		require.Equal(t, len(list), progress[len(progress)-1].Collections)

		_, err = Swap(ctx, so)
		var blocked *BlockedError
		require.ErrorAs(t, err, &blocked, "what is not proven is not put in place")

		proof, err := Prove(ctx, o)
		require.NoError(t, err)
		require.Equal(t, len(list), proof.Collections)
		require.Equal(t, s.Documents, proof.Documents)
		require.Equal(t, before, stateOf(t, db))

		swapped, err := Swap(ctx, so)
		require.NoError(t, err)
		require.Equal(t, want, stateOf(t, db))
		again, err := Swap(ctx, so)
		require.NoError(t, err)
		require.Equal(t, swapped, again)
		if full {
			require.Equal(t, Swapped{Placed: 9, Aside: 5, Views: 1, Left: []string{"measurements (servers do not rename time series)"}}, swapped)
		} else {
			require.Equal(t, Swapped{Placed: 4, Aside: 4}, swapped)
		}

		v, err := VerifyInPlace(ctx, o)
		require.NoError(t, err)
		require.Empty(t, v.Differences)
		require.Equal(t, len(list), v.Collections)
		require.Equal(t, s.Documents, v.Documents)
		require.EqualValues(t, 2500, v.Counts["customers"])

		olds, err := Olds(ctx, db)
		require.NoError(t, err)
		require.Len(t, olds, 1)
		require.Equal(t, "inc1", olds[0].Incident)
		require.Equal(t, swapped.Aside, olds[0].Collections)

		back, err := RollBack(ctx, so)
		require.NoError(t, err)
		require.Equal(t, before, stateOf(t, db), "rolled back, the database is as it was")
		require.Equal(t, swapped.Aside, back.Aside)
		_, err = RollBack(ctx, so)
		require.NoError(t, err)
		require.Equal(t, before, stateOf(t, db))

		n, err := DropOld(ctx, db, "inc1")
		require.NoError(t, err)
		require.Equal(t, swapped.Placed, n, "what an application may have written to was kept when the swap was rolled back")
		_, err = Unstage(ctx, db, o.Lease.Token)
		require.NoError(t, err)
		require.Equal(t, []string{LeaseCollection}, reservedNames(t, db))
		require.Equal(t, before, stateOf(t, db))
	})
}

func TestRestoreOfSomeCollectionsLeavesTheOthers(t *testing.T) {
	onServers(t, func(t *testing.T, db *mongo.Database, _ *mongotest.Server) {
		full := !small(t, db)
		list := backupFor(t, full)
		want := expected(t, db, list)
		ruin(t, db, full)
		before := stateOf(t, db)
		o, so := attempt(t, db, makeBackup(t, list...), "r1")
		o.Collections = []string{"invoices", "customers"}
		stageAndProve(t, o)
		_, err := Swap(t.Context(), so)
		require.NoError(t, err)
		after := maps.Clone(before)
		after["invoices"], after["customers"] = want["invoices"], want["customers"]
		require.Equal(t, after, stateOf(t, db))
		v, err := VerifyInPlace(t.Context(), o)
		require.NoError(t, err)
		require.Empty(t, v.Differences)

		o.Collections = []string{"no_such"}
		_, err = Stage(t.Context(), o)
		require.ErrorContains(t, err, "no_such")
	})
}

// Nobody counts on the order of documents but readers of capped collections.
func TestStageKeepsTheOrderOfCappedCollections(t *testing.T) {
	srv := mongotest.Start(t)
	db := srv.Client(t).Database("d")
	list := rich(t)
	o, _ := attempt(t, db, makeBackup(t, list...), "r1")
	srv.Fail(mongotest.Fault{Command: "insert", Namespace: "d." + StageName("d", o.Lease.Token, "log"), Times: 1, Drop: mongotest.DropAfter})
	stageAndProve(t, o)
	cursor, err := db.Collection(StageName("d", o.Lease.Token, "log")).Find(t.Context(), bson.D{})
	require.NoError(t, err)
	var got []bson.Raw
	require.NoError(t, cursor.All(t.Context(), &got))
	require.Equal(t, list[1].documents, got)
}

// A connection that breaks ends the wait of every command that waits for one; with one connection for all, most of them wait.
func TestStageOutlastsABrokenConnectionThatOthersWaitedFor(t *testing.T) {
	srv := mongotest.Start(t)
	client, err := mongo.Connect(options.Client().ApplyURI(srv.URI()).SetMaxPoolSize(1))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Disconnect(context.WithoutCancel(t.Context()))) })
	db := client.Database("d")
	list := rich(t)
	want := expected(t, db, list)
	o, so := attempt(t, db, makeBackup(t, list...), "r1")
	srv.Fail(mongotest.Fault{Command: "insert", Skip: 1, Times: 3, Delay: 20 * time.Millisecond, Drop: mongotest.DropBefore})
	stageAndProve(t, o)
	_, err = Swap(t.Context(), so)
	require.NoError(t, err)
	require.Equal(t, want, stateOf(t, db))
}

func TestStageStopsAtADamagedFile(t *testing.T) {
	damage := map[string]func(t *testing.T, path string){
		"one flipped byte": func(t *testing.T, path string) {
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			b[len(b)/2] ^= 1
			require.NoError(t, os.WriteFile(path, b, 0o640))
		},
		"cut off": func(t *testing.T, path string) {
			info, err := os.Stat(path)
			require.NoError(t, err)
			require.NoError(t, os.Truncate(path, info.Size()/2))
		},
	}
	for name, harm := range damage {
		for _, file := range []string{"customers.bson.gz", "customers.metadata.json.gz"} {
			t.Run(name+" in "+file, func(t *testing.T) {
				db := mongotest.Start(t).Client(t).Database("d")
				ruin(t, db, true)
				before := stateOf(t, db)
				s := makeBackup(t, ledger(t)...)
				harm(t, filepath.Join(s.Dir, "origin", file))
				o, so := attempt(t, db, s, "r1")
				_, err := Stage(t.Context(), o)
				var corrupt *backup.CorruptError
				require.ErrorAs(t, err, &corrupt)
				require.Contains(t, err.Error(), file)
				require.Equal(t, before, stateOf(t, db))
				_, err = Prove(t.Context(), o)
				require.ErrorContains(t, err, "not staged whole")
				_, err = Swap(t.Context(), so)
				require.Error(t, err)
				require.Equal(t, before, stateOf(t, db))
			})
		}
	}
}

func TestProveNamesWhatDiffers(t *testing.T) {
	const coll = "customers"
	cases := map[string]struct {
		harm func(ctx context.Context, c *mongo.Collection) error
		want string
	}{
		"a changed document": {func(ctx context.Context, c *mongo.Collection) error {
			_, err := c.UpdateByID(ctx, "cus_00001", bson.D{{Key: "$set", Value: bson.D{{Key: "name", Value: "tampered"}}}})
			return err
		}, "0 documents missing, 1 changed, 0 too many"},
		"a missing document": {func(ctx context.Context, c *mongo.Collection) error {
			_, err := c.DeleteOne(ctx, bson.D{{Key: "_id", Value: "cus_00001"}})
			return err
		}, "1 documents missing, 0 changed, 0 too many"},
		"a document too many": {func(ctx context.Context, c *mongo.Collection) error {
			_, err := c.InsertOne(ctx, bson.D{{Key: "_id", Value: "x"}, {Key: "n", Value: -1}})
			return err
		}, "0 documents missing, 0 changed, 1 too many"},
		"a missing index": {func(ctx context.Context, c *mongo.Collection) error {
			return c.Indexes().DropOne(ctx, "org_n")
		}, `index "org_n" is missing`},
		"an index too many": {func(ctx context.Context, c *mongo.Collection) error {
			_, err := c.Indexes().CreateOne(ctx, mongo.IndexModel{Keys: bson.D{{Key: "zz", Value: 1}}})
			return err
		}, `index "zz_1" should not be there`},
		"a copy that is gone": {func(ctx context.Context, c *mongo.Collection) error {
			return c.Drop(ctx)
		}, "its staged copy is gone"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			onServers(t, func(t *testing.T, db *mongo.Database, _ *mongotest.Server) {
				o, so := attempt(t, db, makeBackup(t, ledger(t)...), "r1")
				s, err := Stage(t.Context(), o)
				require.NoError(t, err)
				require.Equal(t, coll, s.Collections[0].Name)
				require.NoError(t, c.harm(t.Context(), db.Collection(s.Collections[0].Stage)))
				_, err = Prove(t.Context(), o)
				var wrong *ProofError
				require.ErrorAs(t, err, &wrong)
				require.Equal(t, coll, wrong.Differences[0].Collection)
				require.Contains(t, err.Error(), c.want)
				_, err = Swap(t.Context(), so)
				require.Error(t, err, "what is not proven is not put in place")
			})
		})
	}
}

func TestStageNamesWhatTheServerRefuses(t *testing.T) {
	// "n_1" is unique, and the backup of this test holds a value twice.
	twice := given{name: "customers", documents: append(people(t, 3, "x"), doc(t, "_id", "again", "n", int32(1))),
		indexes: []bson.Raw{index(t, "n_1", "n", "unique", true), index(t, "name_1", "name")}}
	onServers(t, func(t *testing.T, db *mongo.Database, srv *mongotest.Server) {
		o, _ := attempt(t, db, makeBackup(t, twice), "r1")
		_, err := Stage(t.Context(), o)
		var refused *IndexError
		require.ErrorAs(t, err, &refused)
		require.Equal(t, "n_1", refused.Index)
		require.Equal(t, "customers", refused.Collection)
		if srv == nil {
			return
		}

		o, _ = attempt(t, db, makeBackup(t, ledger(t)...), "r2")
		fault := srv.Fail(mongotest.Fault{Command: "insert", Times: 1, Error: &mongotest.Error{Code: codeBadValue, Message: "it is not to be had"},
			Document: func(d bson.Raw) bool {
				id, ok := d.Lookup("_id").StringValueOK()
				return ok && id == "cus_00777"
			}})
		_, err = Stage(t.Context(), o)
		var document *RefusedError
		require.ErrorAs(t, err, &document)
		require.Contains(t, err.Error(), "cus_00777")
		require.Contains(t, err.Error(), "customers")
		fault.Lift()

		o, _ = attempt(t, db, makeBackup(t, ledger(t)...), "r3")
		srv.Fail(mongotest.Fault{Command: "insert", Namespace: db.Name() + "." + StageName(db.Name(), o.Lease.Token, "invoices"), Times: 1,
			Error: &mongotest.Error{Code: codeOutOfDiskSpace, Message: "full"}})
		_, err = Stage(t.Context(), o)
		var space *SpaceError
		require.ErrorAs(t, err, &space)
		require.ErrorContains(t, err, "free space")
	})
}

// A user with the built-in role readWrite may do all that a restore needs, except for passing over validators: that is asked for
// only where one has refused a document, and a server that refuses it is told apart.
func TestOnlyAValidatorTakesMoreThanReadWrite(t *testing.T) {
	srv := mongotest.Start(t)
	db := srv.Client(t).Database("d")
	bypasses := func(body bson.Raw) bool { return body.Lookup("bypassDocumentValidation").Type != 0 }
	fault := srv.Fail(mongotest.Fault{Command: "insert", Match: bypasses, Error: &mongotest.Error{Code: codeUnauthorized, Message: "not authorized on d to execute command"}})

	o, so := attempt(t, db, makeBackup(t, given{name: "customers", documents: people(t, 20, "x")}), "r1")
	stageAndProve(t, o)
	_, err := Swap(t.Context(), so)
	require.NoError(t, err)
	taken, err := InsertRaw(t.Context(), db, "customers", []bson.Raw{doc(t, "_id", "new")})
	require.NoError(t, err)
	require.Empty(t, taken)

	strict := given{name: "strict", options: doc(t, "validator", bson.D{{Key: "n", Value: bson.D{{Key: "$gt", Value: 2}}}}), documents: people(t, 5, "x")}
	kept := given{name: "kept", options: doc(t, "validator", bson.D{{Key: "n", Value: bson.D{{Key: "$gte", Value: 0}}}}), documents: people(t, 5, "x")}
	o, _ = attempt(t, db, makeBackup(t, kept), "r0")
	stageAndProve(t, o)

	o, _ = attempt(t, db, makeBackup(t, strict), "r2")
	_, err = Stage(t.Context(), o)
	var refused *RefusedError
	require.ErrorAs(t, err, &refused)
	require.ErrorContains(t, err, "dbAdmin")
	fault.Lift()
	o, so = attempt(t, db, makeBackup(t, strict), "r3")
	so.Incident = "inc2"
	stageAndProve(t, o)
	_, err = Swap(t.Context(), so)
	require.NoError(t, err)

	// Beside living documents the validator is met by chance: what was refused goes in the second time, and the rest is there.
	taken, err = InsertRaw(t.Context(), db, "strict", []bson.Raw{doc(t, "_id", "fits", "n", int32(9)), doc(t, "_id", "does not", "n", int32(0))})
	require.NoError(t, err)
	require.Equal(t, []int{0}, taken, "it is the document itself, from the first try")
	n, err := db.Collection("strict").CountDocuments(t.Context(), bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: bson.A{"fits", "does not"}}}}})
	require.NoError(t, err)
	require.EqualValues(t, 2, n)
}

func TestStageNamesAnEmptyTimestampThatAnOldServerWouldReplace(t *testing.T) {
	s := makeBackup(t, given{name: "c", documents: []bson.Raw{doc(t, "_id", "x", "ts", bson.Timestamp{})}})
	db := mongotest.Start(t, mongotest.WithVersion("4.4.0")).Client(t).Database("d")
	o, _ := attempt(t, db, s, "r1")
	_, err := Stage(t.Context(), o)
	require.ErrorContains(t, err, "empty Timestamp")
	require.ErrorContains(t, err, `"x"`)
}

func TestStageNeedsSpace(t *testing.T) {
	const gib = 1 << 30
	var space *SpaceError
	for _, c := range []struct {
		name  string
		disk  disk
		need  int64
		wants int64 // zero: it fits
	}{
		{"a server that does not tell", disk{}, 1000 * gib, 0},
		{"an empty database is taken to need what the data has", disk{FsTotalSize: 10 * gib, FsUsedSize: 8 * gib}, 3 * gib, 3 * gib},
		{"there is room", disk{FsTotalSize: 10 * gib, FsUsedSize: 6 * gib}, 3 * gib, 0},
		{"data that is stored in half its size", disk{DataSize: 4 * gib, StorageSize: gib, IndexSize: gib, FsTotalSize: 10 * gib, FsUsedSize: 8 * gib}, 3 * gib, 0},
		{"and does not fit even so", disk{DataSize: 4 * gib, StorageSize: gib, IndexSize: gib, FsTotalSize: 10 * gib, FsUsedSize: 8 * gib}, 6 * gib, 3 * gib},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.disk.holds(c.need)
			if c.wants == 0 {
				require.NoError(t, err)
				return
			}
			require.ErrorAs(t, err, &space)
			require.Equal(t, c.wants, space.Need)
			require.EqualValues(t, 2*gib, space.Have)
		})
	}
}

func TestExpiredDocumentsAreNoLoss(t *testing.T) {
	srv := mongotest.Start(t)
	db := srv.Client(t).Database("d")
	ctx := t.Context()
	o, so := attempt(t, db, makeBackup(t, rich(t)...), "r1")
	stageAndProve(t, o)
	staged := db.Collection(StageName("d", o.Lease.Token, "password_reset_tokens"))
	_, err := staged.DeleteOne(ctx, bson.D{{Key: "_id", Value: "gone"}})
	require.NoError(t, err)
	_, err = Prove(ctx, o)
	require.NoError(t, err, "what was proven once may expire")
	_, err = Swap(ctx, so)
	require.NoError(t, err)
	v, err := VerifyInPlace(ctx, o)
	require.NoError(t, err)
	require.Empty(t, v.Differences)
	require.EqualValues(t, 1, v.TTLExpired)

	for _, id := range []string{"soon", "never"} {
		_, err = db.Collection("password_reset_tokens").DeleteOne(ctx, bson.D{{Key: "_id", Value: id}})
		require.NoError(t, err)
	}
	v, err = VerifyInPlace(ctx, o)
	require.NoError(t, err)
	require.Len(t, v.Differences, 1)
	require.EqualValues(t, 2, v.Differences[0].Missing, "what had time left is missed")
}

func TestTTLIndexesAreBuiltAfterTheProof(t *testing.T) {
	srv := mongotest.Start(t)
	db := srv.Client(t).Database("d")
	o, _ := attempt(t, db, makeBackup(t, rich(t)...), "r1")
	stage := StageName("d", o.Lease.Token, "password_reset_tokens")
	_, err := Stage(t.Context(), o)
	require.NoError(t, err)
	specs, err := listIndexes(t.Context(), db, stage)
	require.NoError(t, err)
	require.Len(t, specs, 1)
	_, err = Prove(t.Context(), o)
	require.NoError(t, err)
	specs, err = listIndexes(t.Context(), db, stage)
	require.NoError(t, err)
	require.Len(t, specs, 2)
}

func TestVerifyDatabase(t *testing.T) {
	onServers(t, func(t *testing.T, db *mongo.Database, _ *mongotest.Server) {
		list := backupFor(t, !small(t, db))
		s := makeBackup(t, list...)
		o, so := attempt(t, db, s, "r1")
		stageAndProve(t, o)
		_, err := Swap(t.Context(), so)
		require.NoError(t, err)
		v, err := VerifyDatabase(t.Context(), db, s, nil)
		require.NoError(t, err)
		require.Empty(t, v.Differences)

		_, err = db.Collection("customers").UpdateByID(t.Context(), "cus_00007", bson.D{{Key: "$set", Value: bson.D{{Key: "n", Value: -5}}}})
		require.NoError(t, err)
		require.NoError(t, db.Collection("empty").Drop(t.Context()))
		fill(t, db, given{name: "surplus"})
		v, err = VerifyDatabase(t.Context(), db, s, nil)
		require.NoError(t, err)
		require.Len(t, v.Differences, 3)
		require.Equal(t, "customers: 0 documents missing, 1 changed, 0 too many", v.Differences[0].String())
		require.Equal(t, []string{`"cus_00007"`}, v.Differences[0].ChangedIDs)
		require.Equal(t, "empty: it is missing", v.Differences[1].String())
		require.Equal(t, "surplus: it is not in the backup", v.Differences[2].String())
	})
}

// TestTheStagedCopyIsCounted counts what a query finds in the staged copy, not in the live database, and tells a query that the server does
// not take from one that finds nothing.
func TestTheStagedCopyIsCounted(t *testing.T) {
	onServers(t, func(t *testing.T, db *mongo.Database, _ *mongotest.Server) {
		fill(t, db, given{name: "customers", documents: people(t, 3, "live")})
		o, _ := attempt(t, db, makeBackup(t, given{name: "customers", documents: people(t, 12, "x")}), "r1")
		stageAndProve(t, o)
		count := func(collection string, filter bson.D) int64 {
			n, err := CountStaged(t.Context(), o, collection, filter)
			require.NoError(t, err)
			return n
		}
		require.EqualValues(t, 12, count("customers", bson.D{}))
		require.EqualValues(t, 5, count("customers", bson.D{{Key: "n", Value: bson.D{{Key: "$lt", Value: int32(5)}}}}))
		require.Zero(t, count("nowhere", bson.D{}))
		_, err := CountStaged(t.Context(), o, "customers", bson.D{{Key: "n", Value: bson.D{{Key: "$nope", Value: 1}}}})
		var refused *RefusedError
		require.ErrorAs(t, err, &refused)
	})
}
