package undelete

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/mongotest"
)

func TestWhatStoodInABackupAndIsAbsentNowIsFoundWithItsWindow(t *testing.T) {
	onServers(t, func(t *testing.T, db *mongo.Database, _ *mongotest.Server) {
		garage(t, db, 20)
		oldest := take(t, db, "b1")
		deleteInvoice(t, db, "inv_org_a_0001") // between the first two backups
		middle := take(t, db, "b2")
		put(t, db, "invoices", doc(t, "_id", "late", "invoice_id", "inv_late", "organization_id", "org_b", "invoice_number", "INV-000900"))
		same := take(t, db, "b3")
		newest := take(t, db, "b4")
		deleteInvoice(t, db, "inv_org_a_0002")
		deleteInvoice(t, db, "inv_late")
		put(t, db, "invoices", doc(t, "_id", "new since", "invoice_id", "inv_new", "organization_id", "org_b", "invoice_number", "INV-000901"))

		j := job(t, db, newest, same, middle, oldest)
		f, err := j.Find(t.Context(), FindOptions{})
		require.NoError(t, err)
		serializable(t, f)
		require.EqualValues(t, 9, f.Documents)
		require.Equal(t, []string{"b4", "b3", "b2", "b1"}, f.Backups)
		require.Equal(t, []string{"inv_late", "inv_org_a_0001", "inv_org_a_0002"}, found(t, j, missingFile)["invoices"])
		require.Len(t, found(t, j, missingFile)["invoice_line_items"], 4)

		type row struct {
			collection, organization, backup string
			documents                        int64
		}
		var rows []row
		for _, g := range f.Groups.Largest {
			rows = append(rows, row{g.Collection, g.Organization, g.Backup, g.Documents})
			require.True(t, g.To.After(g.From))
		}
		require.ElementsMatch(t, []row{
			{"invoices", "org_a", "b1", 1}, {"invoice_line_items", "org_a", "b1", 2}, {"invoice_history", "org_a", "b1", 1},
			{"invoices", "org_a", "b4", 1}, {"invoice_line_items", "org_a", "b4", 2}, {"invoice_history", "org_a", "b4", 1},
			{"invoices", "org_b", "b4", 1},
		}, rows)
		for _, g := range f.Groups.Largest {
			if g.Backup == "b1" {
				require.False(t, g.From.Before(oldest.Manifest.StartedAt.UTC()), "it was there when the first was read")
				require.False(t, g.To.After(middle.Manifest.FinishedAt.UTC()), "and not when the second was")
			} else {
				require.Equal(t, f.At, g.To, "it was in the newest")
			}
		}

		again, err := j.Find(t.Context(), FindOptions{Collections: []string{"invoices"}})
		require.NoError(t, err)
		require.EqualValues(t, 3, again.Documents, "run again, it begins anew")
	})
}

func TestADocumentMadeAnewUnderItsKeyIsNotMissing(t *testing.T) {
	onServers(t, func(t *testing.T, db *mongo.Database, _ *mongotest.Server) {
		put(t, db, "contacts",
			doc(t, "_id", int32(1), "contact_id", "ctc_1", "organization_id", "org_a"),
			doc(t, "_id", int32(2), "contact_id", "ctc_2", "organization_id", "org_a"),
			doc(t, "_id", int32(3), "contact_id", "ctc_3", "organization_id", "org_a", "name", "older"),
			doc(t, "_id", int32(4), "organization_id", "org_a"))
		old := take(t, db, "b1")
		remove(t, db, "contacts", where("_id", int32(3)))
		put(t, db, "contacts", doc(t, "_id", int32(33), "contact_id", "ctc_3", "organization_id", "org_a", "name", "newer"))
		b := take(t, db, "b2")
		remove(t, db, "contacts", bson.D{})
		put(t, db, "contacts",
			doc(t, "_id", "x", "contact_id", "ctc_1", "organization_id", "org_a"),
			doc(t, "_id", "y", "contact_id", "ctc_2", "organization_id", "org_b"))

		j := job(t, db, b, old)
		f, err := j.Find(t.Context(), FindOptions{})
		require.NoError(t, err)
		require.Equal(t, map[string][]string{"contacts": {"4", "ctc_2", "ctc_3"}}, found(t, j, missingFile),
			"the same key in another organization is another document; of two with one key the newer counts; without a key the _id does")
		require.EqualValues(t, 2, f.Recreated)
		for _, e := range linesOf[entry](t, j, missingFile) {
			require.Equal(t, "b2", e.Backup)
		}
	})
}

func TestWhatLeavesByItselfIsNotMissing(t *testing.T) {
	srv := mongotest.Start(t)
	db := srv.Client(t).Database("d")
	now := time.Now().UTC().Truncate(time.Second)
	at := func(d time.Duration) bson.DateTime { return bson.NewDateTimeFromTime(now.Add(d)) }
	index(t, db, "password_reset_tokens", "ttl", where("expires_at", 1), "expireAfterSeconds", 0)
	put(t, db, "password_reset_tokens",
		doc(t, "_id", "expired", "expires_at", at(-time.Minute)), doc(t, "_id", "deleted", "expires_at", at(time.Hour)),
		doc(t, "_id", "no date", "expires_at", "never"))
	put(t, db, "login_attempts", doc(t, "_id", "since", "created_at", at(-time.Hour)))
	put(t, db, "sessions", doc(t, "_id", "s"))
	run(t, db, where("create", "log", "capped", true, "size", 4096))
	put(t, db, "log", doc(t, "_id", "line"))
	run(t, db, where("create", "measurements", "timeseries", where("timeField", "at")))
	run(t, db, where("create", "view", "viewOn", "log", "pipeline", bson.A{}))
	put(t, db, "numbers", doc(t, "_id", int32(7)), doc(t, "_id", 1.5))
	put(t, db, "dropped", doc(t, "_id", "a"), doc(t, "_id", "b"))
	put(t, db, "became_view", doc(t, "_id", "a"))
	put(t, db, backup.ReservedPrefix+"lease", doc(t, "_id", "lease"))
	b := take(t, db, "b1")

	remove(t, db, "password_reset_tokens", bson.D{})
	remove(t, db, "login_attempts", bson.D{})
	// This rule is newer than the backup.
	index(t, db, "login_attempts", "ttl", where("created_at", 1), "expireAfterSeconds", 900)
	remove(t, db, "sessions", bson.D{})
	remove(t, db, "numbers", bson.D{})
	put(t, db, "numbers", doc(t, "_id", 7.0))
	for _, c := range []string{"log", "dropped", "became_view", backup.ReservedPrefix + "lease"} {
		require.NoError(t, db.Collection(c).Drop(t.Context()))
	}
	run(t, db, where("create", "became_view", "viewOn", "numbers", "pipeline", bson.A{}))

	j := job(t, db, b)
	f, err := j.Find(t.Context(), FindOptions{})
	require.NoError(t, err)
	got := found(t, j, missingFile)
	require.Equal(t, map[string][]string{
		"password_reset_tokens": {"deleted", "no date"}, "dropped": {"a", "b"}, "numbers": {got["numbers"][0]},
	}, got, "1.5 is missing; 7 stands there as 7.0, which is the same _id")
	require.EqualValues(t, 2, f.Expired)
	require.Equal(t, []string{"dropped"}, f.Gone)
	require.Equal(t, []string{"became_view", "log", "measurements", "sessions"}, keys(f.Skipped))

	f, err = j.Find(t.Context(), FindOptions{Volatile: true, Collections: []string{"sessions"}})
	require.NoError(t, err)
	require.EqualValues(t, 1, f.Documents)
}

func TestACollectionThatMissesTooMuchIsNamedAndTheOthersAreStillFound(t *testing.T) {
	srv := mongotest.Start(t)
	db := srv.Client(t).Database("d")
	garage(t, db, 30)
	b := take(t, db, "b1")
	for _, c := range []string{"invoices", "contacts"} {
		remove(t, db, c, bson.D{})
	}
	j := job(t, db, b)
	f, err := j.Find(t.Context(), FindOptions{Limit: 50})
	require.NoError(t, err)
	require.Equal(t, []string{"invoices"}, f.TooMany)
	require.EqualValues(t, 9, f.Documents)
	require.Equal(t, []string{"contacts"}, keys(found(t, j, missingFile)))
}

func TestOnlyIDsAndKeysAreReadFromTheLivingDatabase(t *testing.T) {
	srv := mongotest.Start(t)
	db := srv.Client(t).Database("d")
	garage(t, db, 10)
	b := take(t, db, "b1")
	deleteInvoice(t, db, "inv_org_a_0001")
	seen := map[string]int{}
	srv.OnCommand(func(_, cmd string, body bson.Raw) {
		if cmd != "find" {
			return
		}
		fields, ok := body.Lookup("projection").DocumentOK()
		if !ok {
			seen["everything"]++
			return
		}
		elements, err := fields.Elements()
		if err != nil {
			return
		}
		for _, e := range elements {
			seen[e.Key()]++
		}
	})
	j := job(t, db, b)
	j.Parallel = 1
	_, err := j.Find(t.Context(), FindOptions{})
	require.NoError(t, err)
	require.Equal(t, []string{"_id", "invoice_id", "line_item_id", "organization_id"}, keys(seen))
	require.Equal(t, 2, seen["organization_id"], "keys are asked for where something is absent")
}

func TestADamagedBackupIsNoEvidence(t *testing.T) {
	srv := mongotest.Start(t)
	db := srv.Client(t).Database("d")
	garage(t, db, 10)
	b := take(t, db, "b1")
	b.Manifest.Collection("invoices").Data.SHA256 = "something else"
	_, err := job(t, db, b).Find(t.Context(), FindOptions{})
	var corrupt *backup.CorruptError
	require.ErrorAs(t, err, &corrupt)
	_, err = job(t, db).Find(t.Context(), FindOptions{})
	require.ErrorContains(t, err, "no backup")
}

func TestManyGroupsAreATableAndTheRestIsCounted(t *testing.T) {
	g := grouping{}
	for i := range 100 {
		for range i + 1 {
			g.count(&entry{Collection: "invoices", Organization: fmt.Sprintf("org_%03d", i), Backup: "b"})
		}
	}
	few, err := g.save(t.TempDir())
	require.NoError(t, err)
	require.Len(t, few.Largest, mostGroups)
	require.Equal(t, "org_099", few.Largest[0].Organization)
	require.Equal(t, 40, few.More)
	require.EqualValues(t, 820, few.MoreDocuments)
}
