package mail

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"
)

// samplesEnv names a directory into which the samples are written, to be looked at in a browser.
const samplesEnv = "RUNBOOK_TEST_MAIL_SAMPLES"

const (
	testIncident = "20260224T031200Z-3f9a2c"
	testLink     = "http://127.0.0.1:8233/namespaces/default/workflows/incident%2Fbattwheels"
)

func at(hour, minute, second int) time.Time {
	return time.Date(2026, 2, 24, hour, minute, second, 0, time.UTC)
}

func notice() Notice {
	return Notice{
		Brand: "Battwheels OS", Incident: testIncident, Support: "help@battwheels.example",
		Since: at(2, 47, 0), Detected: at(3, 12, 0), Stopped: at(3, 13, 20), Back: at(3, 14, 5), BackupAt: at(2, 0, 0),
	}
}

var (
	volt  = Contact{OrganizationID: "o1", OrganizationName: "Volt & Sons <EV> Garage", Email: "hello@volt.example", Via: ViaOrganization}
	owned = Contact{OrganizationID: "o2", OrganizationName: "Amp Works", Name: "Asha Rao", Email: "asha@amp.example", Via: ViaOwner}
	chain = Contact{OrganizationID: "o3", OrganizationName: "Ohm North", Email: "office@ohm.example", Via: ViaOrganization,
		Others: []Organization{{ID: "o4", Name: "Ohm South"}, {ID: "o5", Name: "Ohm Depot"}}}
	onCall = Inside([]string{"oncall@battwheels.example"})[0]
)

func approval() Approval {
	return Approval{
		Target: "battwheels", Incident: testIncident, Plan: "K7Q-X2M", Link: testLink,
		Why:    "Alert DatabaseCorruption of 24 February 2026, 03:12 UTC: documents of 6 collections cannot be decoded.",
		Backup: "20260224T020000Z-scheduled-3f9a2c", BackupAt: at(2, 0, 0), BackupState: "verified",
		Collections: 221, Documents: 48210, Counted: true, Added: 312, Changed: 4790, Missing: 1204, Organizations: 37,
		KeyCounts: []KeyCount{{"collections", 218, 221}, {"organizations", 41, 41}, {"users", 180, 187}, {"invoices", 0, 9031}, {"tickets", -1, 5120}},
		Warnings:  []string{"2 places of the database could not be read; what stands there is not counted."},
		Tells:     &Audience{Organizations: 41, Mails: 37, ThroughOwner: 2, WithoutAddress: 1},
		Preview:   "/var/lib/runbook/incidents/battwheels/" + testIncident + "/preview-mail.html",
		Asked:     at(3, 13, 0), Deadline: at(5, 12, 0),
	}
}

// samples are all mails, in the shapes that differ.
func samples(t *testing.T) map[string]Message {
	t.Helper()
	templates, err := NewTemplates(nil)
	require.NoError(t, err)
	all := map[string]Message{}
	add := func(name string) func(Message, error) {
		return func(m Message, err error) {
			t.Helper()
			require.NoError(t, err)
			all[name] = m
		}
	}
	n := notice()
	add("notice")(templates.Notice(n, volt))
	counted := n
	counted.Loss = map[string]Loss{"o2": {New: 1312, Changed: 4}, "o3": {New: 2}, "o5": {Changed: 1}}
	add("notice-counted")(templates.Notice(counted, owned))
	add("notice-nothing-lost")(templates.Notice(counted, volt))
	add("notice-chain")(templates.Notice(counted, chain))
	bare := n
	bare.Since, bare.Stopped, bare.Support = time.Time{}, time.Time{}, ""
	bare.NotKept = true
	bare.BackupAt = at(2, 0, 0).AddDate(0, 0, -2)
	add("notice-bare")(templates.Notice(bare, Contact{Email: "a@b.example"}))
	add("followup-good")(templates.FollowUp(n, FollowUp{
		Kind: AllClear, Headline: "Everything is settled",
		Paragraphs: []string{"All records that you asked us to look for are back in Battwheels OS.", "The copy that we kept is deleted on 27 February 2026."},
	}, owned))
	add("followup-correction")(templates.FollowUp(n, FollowUp{
		Kind: Correction, Headline: "The time we gave was too short",
		Paragraphs: []string{"Please check entries from 01:55 UTC on, not from 02:00 UTC."},
	}, volt))
	a := approval()
	add("approval")(templates.Approval(a, onCall))
	a.Escalated = true
	add("escalation")(templates.Approval(a, onCall))
	a.Counted, a.KeyCounts, a.Warnings, a.Link = false, nil, nil, ""
	add("approval-unreadable")(templates.Approval(a, onCall))
	add("decision")(templates.Decision(Decision{
		Target: "battwheels", Incident: testIncident, Link: testLink, Asked: at(3, 14, 0), Deadline: at(5, 12, 0),
		Question: "**Stop the application** failed: backend is still running 60 seconds after it was told to stop.",
		Choices:  []Choice{{Name: "retry"}, {Name: "give-up"}, {Name: "own-choice"}},
	}, onCall))
	add("volume")(templates.Decision(Decision{
		Target: "battwheels", Incident: testIncident, Asked: at(3, 14, 0), Question: "What became of the volume?", Update: "volume-recovered or volume-lost",
		Choices: []Choice{{Name: "volume-recovered", Command: "runbook volume recovered battwheels"}, {Name: "volume-lost", Command: "runbook volume lost battwheels"}},
	}, onCall))
	add("support")(templates.SupportRequest(SupportRequest{
		Target: "battwheels", Database: "test_database", Incident: testIncident, Volume: "volume pvc-7 of namespace shop", Path: "/var/lib/mongodb: not there",
		Since: at(3, 12, 0), Asked: at(3, 13, 0), Seen: []string{"3 observations in a row found the database gone.", "It does not answer: connection refused."},
		Answer: []string{onCall.Email},
	}, Contact{Email: "support@platform.example"}))
	gone := n
	gone.Gone, gone.NotKept = true, true
	add("notice-gone")(templates.Notice(gone, volt))
	add("done")(templates.Done(Done{
		Target: "battwheels", Incident: testIncident, Recovered: true, Outcome: "recovered", Link: testLink,
		Summary: "Recovered: 48,210 documents of backup 20260224T020000Z-scheduled-3f9a2c are back, proven by digest. The application was down for 45s.",
		Backup:  "20260224T020000Z-scheduled-3f9a2c", BackupAt: at(2, 0, 0), Restored: 48210, Left: 312,
		Downtime: 45 * time.Second, RTO: 2*time.Minute + 5*time.Second, RTOTarget: 2 * time.Hour, RPO: 73 * time.Minute, RPOTarget: 24 * time.Hour,
		KeyCounts:  []KeyCount{{"collections", 221, 221}, {"organizations", 41, 41}, {"invoices", 9031, 9031}},
		Mails:      &Tally{Sent: 36, Failed: 2, Without: 1},
		SafetyDump: "20260224T031321Z-safety-91c2e0", Report: "/var/lib/runbook/incidents/battwheels/" + testIncident + "/report.html",
		ReportDue: at(3, 12, 0).AddDate(0, 0, 2),
	}, onCall))
	add("volume-back")(templates.Done(Done{
		Target: "battwheels", Incident: testIncident, Whole: true, Outcome: "volume recovered", Summary: "Volume recovered: nothing was restored.",
		Warnings: []string{"3 documents of the backup are absent."},
	}, onCall))
	add("rejected")(templates.Done(Done{
		Target: "battwheels", Incident: testIncident, Outcome: "Rejected", Summary: "Rejected by Asha: nothing was changed.",
	}, onCall))
	add("monitor")(templates.Monitor(Findings{
		Target: "battwheels", Checked: at(6, 0, 0), Newest: "foreign/test_database_20260222_020000", NewestAt: at(2, 0, 0).AddDate(0, 0, -2),
		Age: 52 * time.Hour, RPO: 24 * time.Hour, Link: testLink,
		Problems: []Problem{
			{"half-written", "test_database_20260224_020000 is half-written: 61 of 218 collections, and journal_entries.bson.gz ends in the middle."},
			{"silent-run", "The run of 24 February 2026, 02:00 UTC began in the log and never finished; it wrote no error."},
		},
	}, onCall))
	add("monitor-healthy")(templates.Monitor(Findings{Target: "battwheels", Healthy: true, Newest: "20260224T020000Z-scheduled-3f9a2c"}, onCall))
	due := ReportDue{Target: "battwheels", Incident: testIncident, Due: at(3, 12, 0).AddDate(0, 0, 2), Left: 4 * time.Hour, Link: testLink,
		Draft: "/var/lib/runbook/incidents/battwheels/" + testIncident + "/report.html"}
	add("report-due")(templates.ReportDue(due, onCall))
	due.Left = 0
	add("report-overdue")(templates.ReportDue(due, onCall))
	return all
}

func TestEveryMailIsWhole(t *testing.T) {
	for name, m := range samples(t) {
		t.Run(name, func(t *testing.T) {
			require.NotEmpty(t, m.Subject)
			require.NotContains(t, m.Subject, "\n")
			require.Less(t, len(m.HTML), 100<<10, "mail programs cut longer ones")
			require.True(t, strings.HasPrefix(m.HTML, "<!doctype html>"))
			require.True(t, strings.HasSuffix(m.HTML, "</html>\n"))
			require.NotContains(t, m.HTML, "<EV>", "values are escaped")
			require.Equal(t, "auto-generated", m.Headers["Auto-Submitted"])
			for what, body := range map[string]string{"html": m.HTML, "text": m.Text, "subject": m.Subject} {
				for _, bad := range []string{"<no value>", "%!", "ZgotmplZ", "0001", "1 documents", "UTC UTC", " ,", "()"} {
					require.NotContains(t, strings.ReplaceAll(body, `/* () */`, ""), bad, what)
				}
			}
			for line := range strings.Lines(m.Text) {
				if !strings.HasPrefix(line, " ") {
					require.LessOrEqual(t, len([]rune(line)), 120, "only one long word makes a line long")
				}
			}
			require.NotContains(t, m.Text, "\n\n\n")
			if dir := os.Getenv(samplesEnv); dir != "" {
				require.NoError(t, os.WriteFile(filepath.Join(dir, name+".html"), []byte(m.HTML), 0o600))
				require.NoError(t, os.WriteFile(filepath.Join(dir, name+".txt"), []byte("Subject: "+m.Subject+"\n\n"+m.Text), 0o600))
			}
		})
	}
}

func TestTheSameFactsAreTheSameMail(t *testing.T) {
	require.Equal(t, samples(t), samples(t), "a retried mail must be equal to the byte, or its key would not match")
}

func TestWhatAnOrganizationReads(t *testing.T) {
	all := samples(t)
	for name, tc := range map[string]struct {
		says   []string
		silent []string
	}{
		"notice": {
			says: []string{
				"To Volt & Sons <EV> Garage,", "Damaged since: 24 February 2026, 02:47 UTC", "Noticed: 24 February 2026, 03:12 UTC",
				"Out of reach: 24 February 2026, 03:13 to 03:14 UTC (45 seconds)", "Your data is as of: 24 February 2026, 02:00 UTC",
				"To enter again: 24 February 2026, 02:00 to 03:13 UTC (1 hour 13 minutes)", "write to help@battwheels.example",
			},
			silent: []string{"Records of"},
		},
		"notice-counted":      {says: []string{"Dear Asha Rao,", "Records of yours in it: 1,312 new, up to 4 changed"}},
		"notice-nothing-lost": {says: []string{"nothing of yours is missing", "You most likely have nothing to enter again."}, silent: []string{"has to be entered again", "Enter again", "enter it", "TOO MUCH"}},
		"notice-chain": {says: []string{
			"To Ohm North, Ohm South and Ohm Depot,", "Records of Ohm North: 2 new",
			"Records of Ohm South: none", "Records of Ohm Depot: up to 1 changed",
		}},
		"notice-bare": {
			says:   []string{"Hello,", "To enter again: 22 February 2026, 02:00 to 24 February 2026, 03:14 UTC (2 days 1 hour)", "Answer this mail."},
			silent: []string{"Damaged since", "Out of reach", "write to", "copy"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Join(strings.Fields(all[name].Text), " ")
			for _, s := range tc.says {
				require.Contains(t, text, s)
			}
			for _, s := range tc.silent {
				require.NotContains(t, text, s)
			}
		})
	}
	require.Equal(t, "help@battwheels.example", all["notice"].ReplyTo)
	require.Equal(t, all["notice"].Headers["References"], all["followup-good"].Headers["References"], "one thread")
}

func TestWhatThePeopleInsideRead(t *testing.T) {
	all := samples(t)
	for name, says := range map[string][]string{
		"approval": {`runbook approve battwheels --plan K7Q-X2M --by "YOUR NAME" --reason "WHY"`, testLink, "No longer there: 312 documents", "tickets",
			"40 organizations will be told, in 37 mails; 2 of them through their owner's address; 1 more has no address.", "/preview-mail.html"},
		"escalation":          {"still waits for an approval", "Waits since: 24 February 2026, 03:13 UTC"},
		"approval-unreadable": {"unknown, the database could not be read"},
		"support":             {"volume pvc-7 of namespace shop", "/var/lib/mongodb: not there", "3 observations in a row", "oncall@battwheels.example", testIncident},
		"volume":              {`runbook volume lost battwheels --by "YOUR NAME" --reason "WHY"`},
		"decision":            {`runbook decide battwheels --choice give-up --by "YOUR NAME" --reason "WHY"`, "Stop the application failed: backend is still running"},
		"done":                {"36 of 38 mails; 2 refused, 1 without an address", "objective 2 hours", "runbook post-report " + testIncident},
		"volume-back":         {"by its own data", "3 documents of the backup are absent."},
		"rejected":            {"was not restored", "nothing was changed"},
		"monitor":             {"half-written", "runbook backups list battwheels", "2 days 4 hours"},
		"report-due":          {"runbook post-report " + testIncident + ` --url URL`},
		"report-overdue":      {"overdue"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Join(strings.Fields(all[name].Text), " ")
			for _, s := range says {
				require.Contains(t, text, s)
			}
		})
	}
	require.Equal(t, "[battwheels] Approval needed: plan K7Q-X2M, restore the backup of 24 February 2026, 02:00 UTC", all["approval"].Subject)
	require.Contains(t, all["done"].HTML, ">Recovered<")
	require.Contains(t, all["approval"].HTML, `--by &#34;YOUR NAME&#34;`)
}

func TestOwnTemplatesReplaceOurs(t *testing.T) {
	own := fstest.MapFS{"notice.txt": {Data: []byte("{{define \"subject\"}}{{.Brand}} läuft wieder{{end}}Guten Tag {{.Mail.To.Name}}\n")}}
	templates, err := NewTemplates(own)
	require.NoError(t, err)
	m, err := templates.Notice(notice(), owned)
	require.NoError(t, err)
	require.Equal(t, "Battwheels OS läuft wieder", m.Subject)
	require.Equal(t, "Guten Tag Asha Rao\n", m.Text)
	require.Contains(t, m.HTML, "is working again")

	_, err = NewTemplates(fstest.MapFS{"notice.html": {Data: []byte("{{.Brand")}})
	require.ErrorContains(t, err, "notice.html")
}
