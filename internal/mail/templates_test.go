package mail

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

// samplesEnv names a directory into which the samples are written, to be looked at in a browser.
const samplesEnv = "RUNBOOK_TEST_MAIL_SAMPLES"

// samples are all mails, in the shapes that differ.
func samples(t *testing.T) map[string]Message {
	t.Helper()
	templates, err := NewTemplates(nil)
	require.NoError(t, err)
	list, err := templates.Samples("Battwheels OS", "help@battwheels.example")
	require.NoError(t, err)
	all := map[string]Message{}
	for _, s := range list {
		all[s.Name] = s.Message
	}
	return all
}

func notice() Notice { return sampleNotice("Battwheels OS", "help@battwheels.example") }

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
		"approval": {`runbook approve battwheels --plan K7Q-X2M --by "YOUR NAME" --reason "WHY"`, sampleLink, "No longer there: 312 documents", "tickets",
			"40 organizations will be told, in 37 mails; 2 of them through their owner's address; 1 more has no address.", "/preview-mail.html"},
		"escalation":          {"still waits for an approval", "Waits since: 24 February 2026, 03:13 UTC"},
		"approval-unreadable": {"unknown, the database could not be read"},
		"support":             {"volume pvc-7 of namespace shop", "/var/lib/mongodb: not there", "3 observations in a row", "oncall@battwheels.example", sampleIncident},
		"volume":              {`runbook volume lost battwheels --by "YOUR NAME" --reason "WHY"`},
		"decision":            {`runbook decide battwheels --choice give-up --by "YOUR NAME" --reason "WHY"`, "Stop the application failed: backend is still running"},
		"done":                {"36 of 38 mails; 2 refused, 1 without an address", "objective 2 hours", "runbook post-report " + sampleIncident},
		"volume-back":         {"by its own data", "3 documents of the backup are absent."},
		"rejected":            {"was not restored", "nothing was changed"},
		"monitor":             {"half-written", "runbook backups list battwheels", "2 days 4 hours"},
		"report-due":          {"runbook post-report " + sampleIncident + ` --url URL`},
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
	m, err := templates.Notice(notice(), sampleOwned)
	require.NoError(t, err)
	require.Equal(t, "Battwheels OS läuft wieder", m.Subject)
	require.Equal(t, "Guten Tag Asha Rao\n", m.Text)
	require.Contains(t, m.HTML, "is working again")

	_, err = NewTemplates(fstest.MapFS{"notice.html": {Data: []byte("{{.Brand")}})
	require.ErrorContains(t, err, "notice.html")
}

// TestOwnTemplatesAreCheckedBeforeTheyAreNeeded: what is wrong with a directory of templates is told with file and line.
func TestOwnTemplatesAreCheckedBeforeTheyAreNeeded(t *testing.T) {
	for _, tc := range []struct {
		name, file, text, want string
	}{
		{"one that replaces ours", "notice.txt", "{{define \"subject\"}}Hallo{{end}}{{.Brand}} läuft wieder.", ""},
		{"one whose name is misspelt", "notcie.html", "x", "no mail has a template notcie.html; there are layout.html, notice.html"},
		{"one that is no template", "done.txt", "a\n{{if}}", "done.txt:2: missing value for if"},
		{"a field that there is not", "done.html", "{{define \"badge\"}}{{end}}{{define \"headline\"}}{{end}}{{define \"preheader\"}}{{end}}{{define \"footer\"}}{{end}}{{define \"content\"}}\n\n{{.Mail.Sumary}}{{end}}",
			`done.html:3:7: executing "content" at <.Mail.Sumary>: can't evaluate field Sumary`},
		{"a function that there is not", "report.txt", "{{wenn .Mail.Due}}", `report.txt:1: function "wenn" not defined`},
		{"a block that is missing", "monitor.html", "{{define \"content\"}}x{{end}}", `render mail monitor: html/template:layout.html:63:219: no such template`},
		{"no subject", "followup.txt", "{{.Brand}}", "sample followup-good: render mail followup: "},
		{"an empty subject", "followup.txt", "{{define \"subject\"}} {{end}}{{.Brand}}", "the mail followup-good has no subject"},
		{"no text", "followup.txt", "{{define \"subject\"}}x{{end}} ", "the mail followup-good has no text"},
		{"an approval without its code", "approval.txt", "{{define \"subject\"}}Approve!{{end}}Quick.", "leaves out {{.Mail.Plan}}"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, tc.file), []byte(tc.text), 0o600))
			err := CheckTemplates(dir)
			if tc.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tc.want)
			require.ErrorContains(t, err, "mail.templates, "+dir)
		})
	}
	require.NoError(t, CheckTemplates(""))
	require.Error(t, CheckTemplates(filepath.Join(t.TempDir(), "nothing")))
}

// TestOurTemplatesAreSomethingToBeginFrom: written out and read back they make the same mails, and nobody's own are overwritten.
func TestOurTemplatesAreSomethingToBeginFrom(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, WriteTemplates(dir))
	require.NoError(t, CheckTemplates(dir))
	own, err := LoadTemplates(dir)
	require.NoError(t, err)
	again, err := own.Samples("Battwheels OS", "help@battwheels.example")
	require.NoError(t, err)
	for _, s := range again {
		require.Equal(t, samples(t)[s.Name], s.Message)
	}
	require.ErrorIs(t, WriteTemplates(dir), os.ErrExist)
}
