package activities

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/internal/undelete"
)

// lostWork is a target of which a backup was proven, in which people then worked, and which incident inc1 put back to the backup after a
// final safety dump.
type lostWork struct {
	deleted
	safety string
	plan   Plan // the last one of inc1
}

func newLostWork(t *testing.T, only ...string) *lostWork {
	b, db, _ := shop(t)
	w := &lostWork{deleted: deleted{Base: b, t: t, db: db, backup: "20260224T020000Z-scheduled-aaaaaa"}, safety: "20260224T031500Z-safety-bbbbbb"}
	target := b.Config.Targets["shop"]
	target.Tenants.Field = "organization_id"
	target.AuditLogs = []config.AuditLog{{Collection: "audit_logs", Time: "timestamp"}}
	target.Deletions = config.Deletions{Keys: map[string]string{"invoices": "invoice_id"}, Volatile: []string{"sessions"}}
	b.Config.Targets["shop"] = target
	for i := range 4 {
		w.insert("invoices", bson.D{{Key: "_id", Value: i}, {Key: "invoice_id", Value: fmt.Sprintf("inv_%d", i)}, {Key: "organization_id", Value: "o1"}})
		w.insert("notes", bson.D{{Key: "_id", Value: i}, {Key: "organization_id", Value: "o2"}})
	}
	var ref BackupRef
	w.do((&Data{Base: b}).DumpDatabase, DumpInput{Target: "shop", Name: w.backup, Kind: "scheduled"}, &ref)
	w.do((&Catalog{Base: b}).CheckBackup, CheckInput{Attempt: Attempt{Target: "shop"}, ID: w.backup}, &ref)
	began := time.Now().UTC()
	for i := 10; i < 15; i++ {
		w.insert("invoices", bson.D{{Key: "_id", Value: i}, {Key: "invoice_id", Value: fmt.Sprintf("inv_%d", i)}, {Key: "organization_id", Value: "o1"}})
		w.insert("notes", bson.D{{Key: "_id", Value: fmt.Sprintf("person%d@example.test", i)}, {Key: "organization_id", Value: "o2"}})
		w.insert("sessions", bson.D{{Key: "_id", Value: i}})
		w.insert("audit_logs", bson.D{{Key: "_id", Value: i}, {Key: "timestamp", Value: began}, {Key: "organization_id", Value: "o1"}})
		w.insert("rubbish", bson.D{{Key: "_id", Value: i}})
	}
	_, err := db.Collection("notes").UpdateOne(t.Context(), bson.D{{Key: "_id", Value: 0}}, bson.D{{Key: "$set", Value: bson.D{{Key: "text", Value: "changed"}}}})
	require.NoError(t, err)
	w.do((&Data{Base: b}).DumpDatabase, DumpInput{Target: "shop", Name: w.safety, Kind: "safety", Incident: "inc1"}, &ref)
	w.do((&Data{Base: b}).DrawPlan, PlanInput{Attempt: Attempt{Target: "shop", Incident: "inc1", Backup: w.backup, Collections: only}, Against: w.safety}, &w.plan)
	for _, c := range []string{"invoices", "notes"} {
		_, err := db.Collection(c).DeleteMany(t.Context(), bson.D{{Key: "$or", Value: bson.A{
			bson.D{{Key: "_id", Value: bson.D{{Key: "$gte", Value: 10}}}}, bson.D{{Key: "_id", Value: bson.D{{Key: "$gte", Value: ""}}}}}}})
		require.NoError(t, err)
	}
	require.NoError(t, db.Collection("rubbish").Drop(t.Context()))
	w.swap("swapped")
	return w
}

// swap leaves the journal of the restore's swap in that state.
func (w *lostWork) swap(state string) {
	w.t.Helper()
	dir := filepath.Join(w.Config.Storage.Dir, "incidents", "shop", "inc1", "staging-7")
	require.NoError(w.t, os.MkdirAll(dir, 0o700))
	require.NoError(w.t, os.WriteFile(filepath.Join(dir, "swap.json"), []byte(`{"state":"`+state+`","incident":"inc1","database":"shop"}`), 0o600))
}

func (w *lostWork) attempt() Attempt { return Attempt{Target: "shop", Incident: "inc2", Run: "run1"} }

// TestTheStepsOfAMergeFromTheSafetyDumpToTheInsert goes through the steps as the playbook does.
func TestTheStepsOfAMergeFromTheSafetyDumpToTheInsert(t *testing.T) {
	w := newLostWork(t)
	a := &Undelete{Base: w.Base}
	var from NewerSource
	w.do(a.CheckSafetyDump, NewerInput{Attempt: w.attempt()}, &from)
	require.Equal(t, "inc1", from.Of)
	require.Equal(t, w.safety, from.Safety.ID)
	require.Equal(t, "verified", from.Safety.State)
	require.Equal(t, w.backup, from.Backup.ID)

	_, err := w.db.Collection("invoices").DeleteOne(t.Context(), bson.D{{Key: "_id", Value: 2}}) // by a user, since
	require.NoError(t, err)
	in := SearchInput{Attempt: w.attempt(), Backups: []string{from.Safety.ID}, Without: from.Backup.ID}
	var m Missing
	w.do(a.FindMissing, in, &m)
	require.EqualValues(t, 10, m.Documents)
	require.Equal(t, w.backup, m.Without)
	require.Equal(t, []string{"rubbish"}, m.Gone)
	require.Equal(t, "its documents come and go by themselves", m.Skipped["sessions"])

	var p Plan
	w.do(a.PlanUndelete, PlanUndeleteInput{SearchInput: in}, &p)
	require.EqualValues(t, 10, p.Undelete.Insert)
	require.Equal(t, w.backup, p.Undelete.Without)
	require.Equal(t, []undelete.Sample{{Collection: "invoices", Documents: []string{"inv_10", "inv_12", "inv_14"}}}, p.Undelete.Samples,
		"an _id that may be a person's address goes into no history")
	require.Equal(t, []undelete.InOrganization{{Organization: "o1", Documents: 5}, {Organization: "o2", Documents: 5}}, p.Undelete.Organizations)
	require.Contains(t, p.question(), "newer than backup "+w.backup)
	w.do(a.PlanUndelete, PlanUndeleteInput{SearchInput: in, Filter: undelete.Filter{Collections: []string{"invoices"}}}, &p)

	selected := w.leased(p.Undelete.Selection)
	selected.Incident, selected.Backups, selected.Without = in.Incident, in.Backups, in.Without
	var done undelete.Undeleted
	w.do(a.UndeleteDocuments, selected, &done)
	require.EqualValues(t, 5, done.Total.Insert)
	require.EqualValues(t, 8, w.count("invoices"), "what the user deleted stays away")
	require.EqualValues(t, 4, w.count("notes"))
	var v undelete.Verified
	w.do(a.VerifyUndelete, selected, &v)
	require.True(t, v.Whole)
}

// TestThePlanCountsWhatIsNewer proves what is told after a recovery: by collection and organization, without what the restore keeps
// itself and what comes and goes.
func TestThePlanCountsWhatIsNewer(t *testing.T) {
	w := newLostWork(t)
	require.Equal(t, &Newer{
		Documents: 10, Changed: 1,
		Collections:   []NewerOf{{"notes", 5, 1}, {"invoices", 5, 0}},
		Organizations: []NewerOf{{"o2", 5, 1}, {"o1", 5, 0}},
		Aside:         []NewerOf{{"rubbish", 5, 0}},
	}, w.plan.Newer)
	require.Equal(t, "10 documents are newer than the backup and in safety dump S alone. By collection: notes 5, invoices 5. "+
		"By organization: o2 5, o1 5. Collections that the backup does not have were set aside: rubbish 5. "+
		"1 document went back to the backup's version, whether work or the damage had changed them.", w.plan.Newer.inWords("S"))
	var radius backup.Diff
	folder, err := w.folder("shop", "inc1")
	require.NoError(t, err)
	require.NoError(t, folder.GetJSON(radiusFile(w.safety), &radius))
	require.Equal(t, map[string]backup.Counts{"o2": {Added: 5, Changed: 1}}, radius.TenantsIn["notes"], "the folder has all of it")
}

func TestALongListOfWhatIsNewerIsCut(t *testing.T) {
	d, live := backup.Diff{Collections: map[string]backup.Counts{}}, &backup.Manifest{}
	for i := range 25 {
		live.Collections = append(live.Collections, backup.Collection{Name: fmt.Sprintf("c%02d", i), Type: backup.TypeCollection})
		d.Collections[fmt.Sprintf("c%02d", i)] = backup.Counts{Added: int64(i)}
	}
	live.Collections = append(live.Collections, backup.Collection{Name: "measurements", Type: backup.TypeTimeseries}, backup.Collection{Name: "rubbish", Type: backup.TypeCollection})
	d.Collections["measurements"] = backup.Counts{Added: 1000}
	n := newerIn(config.Target{}, live, d)
	require.Len(t, n.Collections, shown)
	require.Equal(t, 14, n.MoreCollections)
	require.EqualValues(t, 300, n.Documents)
	require.Contains(t, n.inWords("S"), "c24 24, c23 23")
	require.Contains(t, n.inWords("S"), ", 14 more.")
	d.Collections["rubbish"] = backup.Counts{Added: 99}
	d.TenantsIn = map[string]map[string]backup.Counts{"rubbish": {strings.Repeat("\u00e4", 1<<20): {Added: 99}}}
	require.Len(t, []rune(newerIn(config.Target{}, live, d).Organizations[0].Name), mostNamed+1, "what damage wrote does not fill the history")
	require.Nil(t, newerIn(config.Target{}, live, backup.Diff{Collections: map[string]backup.Counts{"c01": {Same: 9, Missing: 3}}}))
}

// TestOnlyWhatWasRestoredIsMerged is for a restore of some collections: what was deleted in the others is no work that was lost.
func TestOnlyWhatWasRestoredIsMerged(t *testing.T) {
	w := newLostWork(t, "invoices")
	a := &Undelete{Base: w.Base}
	var from NewerSource
	w.do(a.CheckSafetyDump, NewerInput{Attempt: w.attempt(), Of: "inc1"}, &from)
	require.Equal(t, []string{"invoices"}, from.Only)
	in := SearchInput{Attempt: w.attempt(), Backups: []string{from.Safety.ID}, Without: from.Backup.ID}
	in.Collections = from.Only
	var m Missing
	w.do(a.FindMissing, in, &m)
	require.EqualValues(t, 5, m.Documents)
	require.Empty(t, m.Gone)
}

func TestAMergeNamesWhatItCannotReadFrom(t *testing.T) {
	for _, row := range []struct {
		name string
		of   string
		hurt func(*testing.T, *lostWork)
		want string
	}{
		{"an incident without a safety dump", "inc9", func(*testing.T, *lostWork) {}, BadInput},
		{"no safety dump at all", "", func(t *testing.T, w *lostWork) {
			require.NoError(t, os.RemoveAll(filepath.Join(w.Config.Storage.Dir, "backups", "shop", w.safety)))
		}, BadInput},
		{"a restore that was rolled back lost nothing", "inc1", func(_ *testing.T, w *lostWork) { w.swap("rolled back") }, BadInput},
		{"one that was cut off is not over", "", func(_ *testing.T, w *lostWork) { w.swap("swapping") }, BadInput},
		{"no word of what was restored", "inc1", func(t *testing.T, w *lostWork) {
			require.NoError(t, os.Remove(filepath.Join(w.Config.Storage.Dir, "incidents", "shop", "inc1", "plan-"+w.plan.Code+".json")))
		}, BadInput},
		{"a damaged safety dump", "inc1", func(t *testing.T, w *lostWork) {
			path := filepath.Join(w.Config.Storage.Dir, "backups", "shop", w.safety, "shop", "notes.bson.gz")
			raw, err := os.ReadFile(path)
			require.NoError(t, err)
			raw[len(raw)/2] ^= 0xff
			require.NoError(t, os.WriteFile(path, raw, 0o600))
		}, CorruptBackup},
		{"the restored backup is gone", "inc1", func(t *testing.T, w *lostWork) {
			require.NoError(t, os.RemoveAll(filepath.Join(w.Config.Storage.Dir, "backups", "shop", w.backup)))
		}, NoBackup},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newLostWork(t)
			row.hurt(t, w)
			require.Equal(t, row.want, w.fails((&Undelete{Base: w.Base}).CheckSafetyDump, NewerInput{Attempt: w.attempt(), Of: row.of}))
		})
	}
}

// TestAReportFindsWhatWasMergedBackAfterItsIncident proves that it is found by the incident in which it was lost, in the order of time.
func TestAReportFindsWhatWasMergedBackAfterItsIncident(t *testing.T) {
	b, _, _ := shop(t)
	at := time.Date(2026, 2, 24, 5, 0, 0, 0, time.UTC)
	for i, of := range []string{"inc1", "other", "inc1"} {
		folder, err := b.folder("shop", fmt.Sprintf("m%d", i))
		require.NoError(t, err)
		require.NoError(t, folder.PutJSON(mergedFile, MergedBack{Incident: folder.Dir, Of: of, Safety: "S", Plan: "AAA-111", ApprovedBy: "Asha",
			PutBack: undelete.Outcomes{Insert: int64(i)}, At: at.Add(-time.Duration(i) * time.Hour)}))
	}
	all, err := b.mergedBack("shop", "inc1")
	require.NoError(t, err)
	require.Len(t, all, 2)
	require.EqualValues(t, 2, all[0].PutBack.Insert)
	require.Contains(t, all[1].inWords(), "plan AAA-111, approved by Asha): 0 documents.")
	none, err := b.mergedBack("shop", "inc2")
	require.NoError(t, err)
	require.Empty(t, none)
}
