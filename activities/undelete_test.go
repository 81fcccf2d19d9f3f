package activities

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/internal/mail"
	"github.com/battwheels/runbook/internal/restore"
	"github.com/battwheels/runbook/internal/undelete"
)

// deleted is a target of which a backup was proven, and then o1 lost its three invoices and their lines: an audit entry tells of one.
type deleted struct {
	Base
	t      *testing.T
	db     *mongo.Database
	backup string
	began  time.Time
}

func newDeleted(t *testing.T) *deleted {
	b, db, _ := shop(t)
	d := &deleted{Base: b, t: t, db: db, backup: "20260224T020000Z-scheduled-aaaaaa"}
	target := b.Config.Targets["shop"]
	target.Tenants.Field = "organization_id"
	target.AuditLogs = []config.AuditLog{{Collection: "audit_logs", Time: "timestamp"}}
	target.Deletions = config.Deletions{
		Keys: map[string]string{"invoices": "invoice_id"}, Actions: []string{"*.deleted"},
		Dependants: []config.Dependant{{Collection: "lines", Field: "invoice_id", Of: "invoices"}},
	}
	b.Config.Targets["shop"] = target
	for i := range 6 {
		id, org := fmt.Sprintf("inv_%d", i), fmt.Sprintf("o%d", 1+i/3)
		d.insert("invoices", bson.D{{Key: "_id", Value: i}, {Key: "invoice_id", Value: id}, {Key: "organization_id", Value: org}})
		d.insert("lines", bson.D{{Key: "_id", Value: i}, {Key: "invoice_id", Value: id}, {Key: "organization_id", Value: org}})
	}
	var ref BackupRef
	d.do((&Data{Base: b}).DumpDatabase, DumpInput{Target: "shop", Name: d.backup, Kind: "scheduled"}, &ref)
	d.do((&Catalog{Base: b}).CheckBackup, CheckInput{Attempt: Attempt{Target: "shop"}, ID: d.backup}, &ref)
	d.began = time.Now().UTC()
	d.insert("audit_logs", bson.D{{Key: "_id", Value: "a1"}, {Key: "timestamp", Value: d.began}, {Key: "action", Value: "invoice.deleted"},
		{Key: "resource_type", Value: "invoice"}, {Key: "resource_id", Value: "inv_0"}, {Key: "user_id", Value: "user_1"}, {Key: "organization_id", Value: "o1"}})
	for _, c := range []string{"invoices", "lines"} {
		_, err := db.Collection(c).DeleteMany(t.Context(), bson.D{{Key: "organization_id", Value: "o1"}})
		require.NoError(t, err)
	}
	return d
}

func (d *deleted) insert(collection string, doc bson.D) {
	d.t.Helper()
	_, err := d.db.Collection(collection).InsertOne(d.t.Context(), doc)
	require.NoError(d.t, err)
}

func (d *deleted) count(collection string) int64 {
	d.t.Helper()
	n, err := d.db.Collection(collection).CountDocuments(d.t.Context(), bson.D{})
	require.NoError(d.t, err)
	return n
}

func (d *deleted) do(activity, in, out any) { d.t.Helper(); perform(d.t, activity, in, out) }

// fails performs a step and returns the type of its error, which must not be tried again.
func (d *deleted) fails(activity, in any) string {
	d.t.Helper()
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivity(activity)
	_, err := env.ExecuteActivity(activity, in)
	app, ok := errors.AsType[*temporal.ApplicationError](err)
	require.True(d.t, ok, "%v", err)
	require.True(d.t, app.NonRetryable(), "%v", err)
	return app.Type()
}

func (d *deleted) search() SearchInput {
	return SearchInput{Attempt: Attempt{Target: "shop", Incident: "inc1", Run: "run1"}, Backups: []string{d.backup}}
}

// TestUndeleteStepsFromTheAuditLogToTheUndo goes through the steps as the playbook does, each with an engine of its own: what they
// need of each other lies in the incident's folder.
func TestUndeleteStepsFromTheAuditLogToTheUndo(t *testing.T) {
	d := newDeleted(t)
	a := &Undelete{Base: d.Base}
	in := d.search()
	var comparable Comparable
	d.do(a.BackupsToCompare, ComparableInput{Attempt: in.Attempt, Since: d.began}, &comparable)
	require.Len(t, comparable.Backups, 1)
	require.Equal(t, d.backup, comparable.Backups[0].ID)

	var read DeletionsRead
	d.do(a.ReadDeletions, in, &read)
	require.EqualValues(t, 1, read.Deletions)
	require.Equal(t, "user_1", read.By[0].User)

	var m Missing
	d.do(a.FindMissing, in, &m)
	require.EqualValues(t, 6, m.Documents)
	require.EqualValues(t, 1, m.Audited)
	require.Len(t, m.Groups, 2)
	require.Equal(t, "o1", m.Groups[0].Organization)

	var p Plan
	plan := PlanUndeleteInput{SearchInput: in, Filter: undelete.Filter{Collections: []string{"invoices"}, Organizations: []string{"o1"}}}
	d.do(a.PlanUndelete, plan, &p)
	require.EqualValues(t, 6, p.Undelete.Insert)
	require.EqualValues(t, 3, p.Undelete.Dependants)
	require.FileExists(t, p.Undelete.File)
	require.FileExists(t, filepath.Join(d.Config.Storage.Dir, "incidents", "shop", "inc1", "plan-"+p.Code+".json"))
	var again, narrower Plan
	d.do(a.PlanUndelete, plan, &again)
	require.Equal(t, p.Code, again.Code, "the same documents in the same state are the same plan")
	plan.Filter.IDs = []string{"inv_0"}
	d.do(a.PlanUndelete, plan, &narrower)
	require.EqualValues(t, 2, narrower.Undelete.Insert)
	require.NotEqual(t, p.Code, narrower.Code)
	require.Equal(t, SelectionGone, d.fails(a.UndeleteDocuments, d.leased(p.Undelete.Selection)), "only the latest selection can be put back")

	d.do(a.PlanUndelete, PlanUndeleteInput{SearchInput: in, Filter: undelete.Filter{Organizations: []string{"o1"}}}, &p)
	selected := d.leased(p.Undelete.Selection)
	var done undelete.Undeleted
	d.do(a.UndeleteDocuments, selected, &done)
	require.EqualValues(t, 6, done.Total.Insert)
	require.EqualValues(t, 6, d.count("invoices"))
	d.do(a.UndeleteDocuments, selected, &done)
	require.EqualValues(t, 6, done.Total.Insert, "run again it does nothing, and says the same")
	var v undelete.Verified
	d.do(a.VerifyUndelete, selected, &v)
	require.True(t, v.Whole)
	require.EqualValues(t, 6, v.Same)

	var out undelete.Undone
	d.do(a.UndoUndelete, selected, &out)
	require.EqualValues(t, 6, out.Removed)
	require.EqualValues(t, 3, d.count("invoices"))
	require.EqualValues(t, 3, d.count("lines"))
	require.Equal(t, SelectionGone, d.fails(a.UndeleteDocuments, selected), "what was taken out again stays out")
}

// leased is a selection with the lease that the write steps need.
func (d *deleted) leased(selection string) SelectedInput {
	d.t.Helper()
	in := d.search()
	l, err := restore.Acquire(d.t.Context(), d.db, restore.Holder{Owner: "restore/shop", Run: in.Run, Purpose: "test"}, false)
	require.NoError(d.t, err)
	in.Token = l.Token
	return SelectedInput{SearchInput: in, Selection: selection}
}

// TestNothingIsPutBackWithoutTheLease proves that a run whose lease was taken over writes nothing.
func TestNothingIsPutBackWithoutTheLease(t *testing.T) {
	d := newDeleted(t)
	a := &Undelete{Base: d.Base}
	var m Missing
	d.do(a.FindMissing, d.search(), &m)
	var p Plan
	d.do(a.PlanUndelete, PlanUndeleteInput{SearchInput: d.search()}, &p)
	selected := d.leased(p.Undelete.Selection)
	_, err := restore.Acquire(t.Context(), d.db, restore.Holder{Owner: "offline", Run: "x", Purpose: "test"}, true)
	require.NoError(t, err)
	require.Equal(t, LeaseLost, d.fails(a.UndeleteDocuments, selected))
	require.EqualValues(t, 3, d.count("invoices"))
}

func TestUndeleteNamesWhatTryingAgainCannotMend(t *testing.T) {
	d := newDeleted(t)
	a := &Undelete{Base: d.Base}
	in := d.search()
	var m Missing
	d.do(a.FindMissing, in, &m)
	t.Run("no backup from before", func(t *testing.T) {
		require.Equal(t, NoBackup, d.fails(a.BackupsToCompare, ComparableInput{Attempt: in.Attempt, Since: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)}))
	})
	t.Run("no such backup", func(t *testing.T) {
		gone := in
		gone.Backups = []string{"20200101T000000Z-manual-bbbbbb"}
		require.Equal(t, NoBackup, d.fails(a.FindMissing, gone))
	})
	t.Run("no such target", func(t *testing.T) {
		wrong := in
		wrong.Target = "shpo"
		require.Equal(t, BadInput, d.fails(a.FindMissing, wrong))
	})
	t.Run("collection gone", func(t *testing.T) {
		require.NoError(t, d.db.Collection("lines").Drop(t.Context()))
		var p Plan
		d.do(a.PlanUndelete, PlanUndeleteInput{SearchInput: in}, &p)
		require.Equal(t, []string{"lines"}, p.Undelete.Gone)
		require.Contains(t, p.Warnings[0], "Not in the database any more: lines")
		require.Equal(t, Refused, d.fails(a.UndeleteDocuments, d.leased(p.Undelete.Selection)))
		require.EqualValues(t, 3, d.count("invoices"), "half a selection is not put back")
	})
	t.Run("backup damaged", func(t *testing.T) {
		path := filepath.Join(d.Config.Storage.Dir, "backups", "shop", d.backup, "shop", "invoices.bson.gz")
		raw, err := os.ReadFile(path)
		require.NoError(t, err)
		raw[len(raw)/2] ^= 0xff
		require.NoError(t, os.WriteFile(path, raw, 0o600))
		require.Equal(t, CorruptBackup, d.fails(a.FindMissing, in))
	})
}

// TestTheBackupsToCompareReachBackBeforeTheDeletion proves which are taken: those since, and the newest one from before.
func TestTheBackupsToCompareReachBackBeforeTheDeletion(t *testing.T) {
	d := newDeleted(t)
	a := &Undelete{Base: d.Base}
	// A backup that holds far fewer documents than the one before it is suspect.
	for i := range 3 {
		for _, c := range []string{"invoices", "lines"} {
			d.insert(c, bson.D{{Key: "_id", Value: i}, {Key: "invoice_id", Value: fmt.Sprintf("inv_%d", i)}, {Key: "organization_id", Value: "o1"}})
		}
	}
	names := []string{d.backup}
	var moments []time.Time
	for i := range 4 {
		moments = append(moments, time.Now().UTC())
		name := fmt.Sprintf("20260224T0%d0000Z-scheduled-bbbbbb", 3+i)
		var ref BackupRef
		d.do((&Data{Base: d.Base}).DumpDatabase, DumpInput{Target: "shop", Name: name, Kind: "scheduled"}, &ref)
		d.do((&Catalog{Base: d.Base}).CheckBackup, CheckInput{Attempt: Attempt{Target: "shop"}, ID: name}, &ref)
		names = append(names, name)
	}
	ids := func(in ComparableInput) (got []string) {
		in.Attempt = d.search().Attempt
		var c Comparable
		d.do(a.BackupsToCompare, in, &c)
		for _, b := range c.Backups {
			got = append(got, b.ID)
		}
		return got
	}
	require.Equal(t, []string{names[4], names[3], names[2]}, ids(ComparableInput{Since: moments[2]}))
	require.Equal(t, []string{names[4], names[3], names[2], names[1], names[0]}, ids(ComparableInput{}))
	require.Equal(t, []string{names[2]}, ids(ComparableInput{Want: names[2]}))
}

// TestThePlanInTheIncidentsFolderNamesEachDocument proves that who reads a dry run sees the documents by their ids.
func TestThePlanInTheIncidentsFolderNamesEachDocument(t *testing.T) {
	d := newDeleted(t)
	a := &Undelete{Base: d.Base}
	var m Missing
	d.do(a.FindMissing, d.search(), &m)
	var p Plan
	d.do(a.PlanUndelete, PlanUndeleteInput{SearchInput: d.search(), Filter: undelete.Filter{Collections: []string{"invoices"}, Alone: true}}, &p)
	f, err := os.Open(p.Undelete.File)
	require.NoError(t, err)
	defer f.Close()
	lines := 0
	for s := bufio.NewScanner(f); s.Scan(); lines++ {
		require.Contains(t, s.Text(), `"key":"inv_`)
		require.Contains(t, s.Text(), `"outcome":"insert"`)
	}
	require.Equal(t, 3, lines)
	require.Equal(t, "collections: invoices; without dependants", p.Undelete.Filter)
}

// TestTheMailThatAsksNamesThePlanOrTheTable renders what the people on call get.
func TestTheMailThatAsksNamesThePlanOrTheTable(t *testing.T) {
	templates, err := mail.NewTemplates(nil)
	require.NoError(t, err)
	a := &Mail{Base: Base{Config: &config.Config{}}}
	for _, x := range []struct {
		name string
		plan *Plan
		want []string
	}{
		{"plan", &Plan{Code: "UND-001", Warnings: []string{"3 are lost."}, Undelete: &UndeletePlan{Documents: 10, Filter: "collections: invoices", Outcomes: undelete.Outcomes{Insert: 7, Newer: 2, Expired: 1}}},
			[]string{"Plan UND-001 puts 7 deleted documents back", "Left out: 2 with a newer document in", "3 are lost.", "runbook approve shop --plan UND-001", "runbook narrow shop"}},
		{"table", nil, []string{"Which of the documents", "runbook status shop", "runbook narrow shop", "runbook reject shop"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			in := TellInput{Target: "shop", Incident: "inc1", Kind: MailAsk, Question: "Which of the documents?", Narrow: true, Plan: x.plan}
			m, err := a.inside(templates, in, mail.Inside([]string{"oncall@shop.test"})[0])
			require.NoError(t, err)
			for _, w := range x.want {
				require.Contains(t, m.Text, w)
			}
			require.NotContains(t, m.Text, "runbook decide")
		})
	}
}
