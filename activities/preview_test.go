package activities

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/internal/incident"
	"github.com/battwheels/runbook/internal/mail"
	"github.com/battwheels/runbook/internal/mongotest"
)

const provenBackup, emergencyBackup = "20260224T020000Z-scheduled-aaaaaa", "20260224T031200Z-emergency-bbbbbb"

// damaged is a shop with a proven backup of three organizations: one with an address, one that only its owner has one for, one
// without. Since then the first was lost, the second and third are garbage, and a fourth signed up.
func damaged(t *testing.T, playbook string) (Base, *mongo.Database, *mongotest.Server, Attempt) {
	b, db, server := shop(t)
	target := b.Config.Targets["shop"]
	target.Tenants = config.Tenants{Field: "organization_id", Collection: "organizations", Name: "name", Email: "email", Active: "is_active",
		Owners: config.Owners{Collection: "users", Email: "email", Match: map[string]string{"role": "owner"}}}
	b.Config.Targets["shop"] = target
	b.Config.Mail = config.Mail{Brand: "Shop", From: "shop@shop.test"}
	insert := func(collection string, doc bson.D) {
		_, err := db.Collection(collection).InsertOne(t.Context(), doc)
		require.NoError(t, err)
	}
	organization := func(id, email string) bson.D {
		return bson.D{{Key: "_id", Value: "_" + id}, {Key: "organization_id", Value: id}, {Key: "name", Value: "Garage " + id}, {Key: "email", Value: email}, {Key: "is_active", Value: true}}
	}
	insert("organizations", organization("o1", "o1@garage.test"))
	insert("organizations", organization("o2", ""))
	insert("organizations", organization("o3", "none"))
	insert("users", bson.D{{Key: "organization_id", Value: "o2"}, {Key: "role", Value: "owner"}, {Key: "email", Value: "owner2@garage.test"}})
	dump := func(name, kind string) {
		var ref BackupRef
		perform(t, (&Data{Base: b}).DumpDatabase, DumpInput{Target: "shop", Name: name, Kind: kind, Incident: "inc1"}, &ref)
		perform(t, (&Catalog{Base: b}).CheckBackup, CheckInput{Attempt: Attempt{Target: "shop"}, ID: name}, &ref)
	}
	dump(provenBackup, "scheduled")
	insert("organizations", organization("o4", "o4@garage.test"))
	insert("invoices", bson.D{{Key: "organization_id", Value: "o4"}})
	organizations := db.Collection("organizations")
	_, err := organizations.DeleteOne(t.Context(), bson.D{{Key: "_id", Value: "_o1"}})
	require.NoError(t, err)
	_, err = organizations.UpdateOne(t.Context(), bson.D{{Key: "_id", Value: "_o3"}}, bson.D{{Key: "$set", Value: bson.D{{Key: "organization_id", Value: "\x07\x07"}}}})
	require.NoError(t, err)
	_, err = organizations.UpdateOne(t.Context(), bson.D{{Key: "_id", Value: "_o2"}}, bson.D{{Key: "$set", Value: bson.D{{Key: "is_active", Value: "garbage"}}}})
	require.NoError(t, err)
	dump(emergencyBackup, "emergency")
	if playbook != "" {
		records := &Incident{Base: b}
		require.NoError(t, records.OpenIncident(t.Context(), OpenInput{Target: "shop", Incident: "inc1", Playbook: playbook, DetectedAt: time.Now().UTC()}))
	}
	return b, db, server, Attempt{Target: "shop", Incident: "inc1", Run: "run1", Backup: provenBackup}
}

// TestAPlanSaysWhoWillBeTold and shows the mail, before anybody approves it.
func TestAPlanSaysWhoWillBeTold(t *testing.T) {
	unreadable := func(server *mongotest.Server) {
		server.Fail(mongotest.Fault{Command: "find", Namespace: "shop.organizations", Error: &mongotest.Error{Code: 8, Message: "broken"}})
	}
	for _, tc := range []struct {
		name     string
		playbook string
		against  string
		breaks   func(*mongotest.Server)
		want     *mail.Audience
		says     []string
	}{
		{"those of the database and of the backup", "DatabaseCorruption", emergencyBackup, nil,
			&mail.Audience{Organizations: 4, Mails: 3, ThroughOwner: 1, WithoutAddress: 1},
			[]string{"To Garage o4,", "Records of yours in it: 2 new"}},
		{"the backup's, where the database was not read", "DatabaseCorruption", "", nil,
			&mail.Audience{Organizations: 3, Mails: 2, ThroughOwner: 1, WithoutAddress: 1, FromBackup: true}, []string{"To Garage o1,"}},
		{"the backup's, where the organizations cannot be read", "DatabaseCorruption", emergencyBackup, unreadable,
			&mail.Audience{Organizations: 3, Mails: 2, ThroughOwner: 1, WithoutAddress: 1, FromBackup: true}, []string{"To Garage o2,"}},
		{"a lost pod's mail speaks of a lost database", "PodLoss", emergencyBackup, nil,
			&mail.Audience{Organizations: 4, Mails: 3, ThroughOwner: 1, WithoutAddress: 1}, []string{"and the database with it"}},
		{"nobody, where no playbook tells anybody", "", emergencyBackup, nil, nil, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, _, server, attempt := damaged(t, tc.playbook)
			if tc.breaks != nil {
				tc.breaks(server)
			}
			var p Plan
			perform(t, (&Data{Base: b}).DrawPlan, PlanInput{Attempt: attempt, Against: tc.against}, &p)
			for _, w := range p.Warnings {
				require.NotContains(t, w, "not known")
			}
			if tc.want == nil {
				require.Nil(t, p.Told)
				return
			}
			require.Equal(t, *tc.want, p.Told.Audience)
			html, err := os.ReadFile(p.Told.Preview)
			require.NoError(t, err)
			require.Contains(t, string(html), "</html>")
			text, err := os.ReadFile(filepath.Join(filepath.Dir(p.Told.Preview), "preview-mail.txt"))
			require.NoError(t, err)
			for _, says := range append(tc.says, "Subject: Shop is working again") {
				require.Contains(t, string(text), says)
			}
			list, err := os.ReadFile(filepath.Join(filepath.Dir(p.Told.Preview), "preview-recipients.json"))
			require.NoError(t, err)
			require.Contains(t, string(list), "none, and no active owner has an address")
			require.NotContains(t, string(list), "@")
		})
	}
}

// TestAPlanThatChangesNothingSaysSo proves that who would stop an application for nothing is warned, whatever the plan's size, and
// that one document, or one collection, is not nothing.
func TestAPlanThatChangesNothingSaysSo(t *testing.T) {
	const nothing = "This plan would change nothing: every document is as the backup has it. Approving it stops the application for nothing."
	for name, row := range map[string]struct {
		damage func(*testing.T, *mongo.Database)
		warns  bool
	}{
		"as the backup": {func(*testing.T, *mongo.Database) {}, true},
		"one document lost": {func(t *testing.T, db *mongo.Database) {
			_, err := db.Collection("invoices").DeleteOne(t.Context(), bson.D{})
			require.NoError(t, err)
		}, false},
		"one document more": {func(t *testing.T, db *mongo.Database) {
			_, err := db.Collection("invoices").InsertOne(t.Context(), bson.D{})
			require.NoError(t, err)
		}, false},
		"an empty collection more": {func(t *testing.T, db *mongo.Database) {
			require.NoError(t, db.CreateCollection(t.Context(), "drafts"))
		}, false},
		"a collection gone": {func(t *testing.T, db *mongo.Database) {
			require.NoError(t, db.Collection("invoices").Drop(t.Context()))
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			b, db, _ := shop(t)
			_, err := db.Collection("invoices").InsertOne(t.Context(), bson.D{{Key: "n", Value: 1}})
			require.NoError(t, err)
			dump := func(id, kind string) {
				var ref BackupRef
				perform(t, (&Data{Base: b}).DumpDatabase, DumpInput{Target: "shop", Name: id, Kind: kind, Incident: "inc1"}, &ref)
				perform(t, (&Catalog{Base: b}).CheckBackup, CheckInput{Attempt: Attempt{Target: "shop"}, ID: id}, &ref)
			}
			dump(provenBackup, "scheduled")
			row.damage(t, db)
			dump(emergencyBackup, "emergency")
			var p Plan
			perform(t, (&Data{Base: b}).DrawPlan, PlanInput{Attempt: Attempt{Target: "shop", Incident: "inc1", Run: "run1", Backup: provenBackup}, Against: emergencyBackup}, &p)
			require.Equal(t, row.warns, slices.Contains(p.Warnings, nothing), p.Warnings)
		})
	}
}

// TestAnotherAudienceIsAnotherPlan: who approves, approves who is told.
func TestAnotherAudienceIsAnotherPlan(t *testing.T) {
	b, db, _, attempt := damaged(t, "DatabaseCorruption")
	draw := func() (p Plan) {
		perform(t, (&Data{Base: b}).DrawPlan, PlanInput{Attempt: attempt, Against: emergencyBackup}, &p)
		return p
	}
	before := draw()
	require.Equal(t, before.Code, draw().Code)
	_, err := db.Collection("organizations").InsertOne(t.Context(), bson.D{{Key: "organization_id", Value: "o5"}, {Key: "email", Value: "o5@garage.test"}, {Key: "is_active", Value: true}})
	require.NoError(t, err)
	require.NotEqual(t, before.Code, draw().Code)
}

// TestWhoIsToldAfterTheRestore: those of the database; those too who signed up after the backup, and are only in the copy made
// right before the restore; and the backup's, where the database cannot be read. What the damage made of an organization that is
// whole again is not taken for another one.
func TestWhoIsToldAfterTheRestore(t *testing.T) {
	for _, tc := range []struct {
		name   string
		safety string
		broken bool
		want   []string
	}{
		{"with a safety dump", emergencyBackup, false, []string{"o1", "o2", "o4"}},
		{"without one", "", false, []string{"o1", "o2"}},
		{"and the database cannot be read", emergencyBackup, true, []string{"o1", "o2"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, db, server, _ := damaged(t, "DatabaseCorruption")
			// The restore: what the backup had is there again.
			organizations := db.Collection("organizations")
			require.NoError(t, organizations.Drop(t.Context()))
			for _, id := range []string{"o1", "o2", "o3"} {
				_, err := organizations.InsertOne(t.Context(), bson.D{{Key: "_id", Value: "_" + id}, {Key: "organization_id", Value: id},
					{Key: "email", Value: map[string]string{"o1": "o1@garage.test"}[id]}, {Key: "is_active", Value: true}})
				require.NoError(t, err)
			}
			if tc.safety != "" {
				folder, err := b.folder("shop", "inc1")
				require.NoError(t, err)
				require.NoError(t, folder.PutJSON(radiusFile(tc.safety), map[string]any{}))
			}
			if tc.broken {
				server.Fail(mongotest.Fault{Command: "find", Namespace: "shop.organizations", Error: &mongotest.Error{Code: 8, Message: "broken"}})
			}
			var out Outbox
			perform(t, (&Mail{Base: b}).FreezeMails, FreezeInput{Target: "shop", Incident: "inc1", Backup: provenBackup, SafetyDump: tc.safety}, &out)
			require.Equal(t, len(tc.want), out.Mails)
			require.Equal(t, 1, out.WithoutAddress)
			folder := incident.Folder{Dir: filepath.Join(b.Config.Storage.Dir, "incidents", "shop", "inc1")}
			box, err := mail.Load(folder, "")
			require.NoError(t, err)
			messages, err := box.Read(folder, 0)
			require.NoError(t, err)
			var got []string
			for _, m := range messages {
				got = append(got, m.Contact.OrganizationID)
			}
			require.Equal(t, tc.want, got)
		})
	}
}

// TestAFollowUpHasACodeOfItsWords: run again it is the same, other words are another; and where nobody was told, nobody is
// corrected.
func TestAFollowUpHasACodeOfItsWords(t *testing.T) {
	b, _, _, _ := damaged(t, "DatabaseCorruption")
	a := &Mail{Base: b}
	in := FollowUpInput{Target: "shop", Incident: "inc1", Name: "correction-1-aaaaaa", Kind: "correction", Text: "Look again."}
	d := &deleted{Base: b, t: t}
	require.Equal(t, BadInput, d.fails(a.FreezeFollowUp, in))
	var box Outbox
	perform(t, a.FreezeMails, FreezeInput{Target: "shop", Incident: "inc1", Backup: provenBackup}, &box)

	var first, again, other FollowUp
	perform(t, a.FreezeFollowUp, in, &first)
	require.Equal(t, box, first.Outbox, "to the same organizations")
	require.Equal(t, "A correction to our earlier mail", first.Headline)
	perform(t, a.FreezeFollowUp, in, &again)
	require.Equal(t, first, again)
	in.Name, in.Text = "correction-2-bbbbbb", "Look once more."
	perform(t, a.FreezeFollowUp, in, &other)
	require.NotEqual(t, first.Code, other.Code)
	preview, err := os.ReadFile(other.Preview)
	require.NoError(t, err)
	require.Contains(t, string(preview), "Look once more.")
	in.Kind = "apology"
	require.Equal(t, BadInput, d.fails(a.FreezeFollowUp, in))
}

// TestOwnTemplatesAreUsed for what goes out, too.
func TestOwnTemplatesAreUsed(t *testing.T) {
	b, _, _, _ := damaged(t, "DatabaseCorruption")
	b.Config.Mail.Templates = t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(b.Config.Mail.Templates, "notice.txt"), []byte("{{define \"subject\"}}Wir sind wieder da{{end}}Hallo."), 0o600))
	var box Outbox
	perform(t, (&Mail{Base: b}).FreezeMails, FreezeInput{Target: "shop", Incident: "inc1", Backup: provenBackup}, &box)
	folder, err := b.folder("shop", "inc1")
	require.NoError(t, err)
	frozen, err := mail.Load(folder, "")
	require.NoError(t, err)
	messages, err := frozen.Read(folder, 0)
	require.NoError(t, err)
	require.Equal(t, "Wir sind wieder da", messages[0].Subject)
	require.Contains(t, messages[0].HTML, "Shop is working again")
}
