package report

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// samplesEnv names a directory into which the samples are written, to be looked at in a browser.
const samplesEnv = "RUNBOOK_TEST_REPORT_SAMPLES"

func at(hour, minute, second int) time.Time {
	return time.Date(2026, 2, 24, hour, minute, second, 0, time.UTC)
}

func recovered() Facts {
	base := "http://127.0.0.1:8233/namespaces/default/workflows/"
	return Facts{
		Target: "battwheels", Database: "test_database", Incident: "20260224T031200Z-3f9a2c", Playbook: "DatabaseCorruption",
		Outcome: "recovered",
		Summary: "48,210 documents of the backup of 02:00 UTC are back, each proven by digest. The application was down for 45 seconds.",
		Since:   Moment{at(2, 47, 0), "1"}, Detected: Moment{at(3, 12, 0), "1"},
		Stopped: Moment{at(3, 16, 20), "restore#58"}, Healthy: Moment{at(3, 17, 5), "restore#94"},
		RTO: 5*time.Minute + 5*time.Second, RTOTarget: 2 * time.Hour,
		RPO: 76*time.Minute + 20*time.Second, RPOTarget: 24 * time.Hour, Downtime: 45 * time.Second,
		Timeline: []Event{
			{at(3, 12, 0), "1", "Alert DatabaseCorruption arrived from Alertmanager."},
			{at(3, 12, 3), "11", "Emergency dump made of all that could be read: 47,321 documents in 215 collections; 2 places could not be read."},
			{at(3, 12, 9), "restore#7", "Backup 20260224T020000Z-scheduled-3f9a2c chosen: the newest that is proven and from before the damage."},
			{at(3, 12, 48), "restore#23", "Staged 48,210 documents beside the live data."},
			{at(3, 13, 2), "restore#29", "Every staged document and index proven against the backup."},
			{at(3, 13, 3), "restore#33", "Plan K7Q-X2M drawn and sent to the people on call."},
			{at(3, 15, 40), "restore#41", "Approval of plan 9AA-BBC by Ravi denied: the plan is K7Q-X2M."},
			{at(3, 16, 18), "restore#47", "Asha approved plan K7Q-X2M."},
			{at(3, 16, 20), "restore#58", "Application stopped; seen stopped."},
			{at(3, 16, 24), "restore#64", "No other client writes: two equal digests 2 seconds apart."},
			{at(3, 16, 41), "restore#70", "Final safety dump made: 47,633 documents."},
			{at(3, 16, 44), "restore#76", "221 collections swapped into place."},
			{at(3, 16, 58), "restore#82", "All digests in place equal the backup's."},
			{at(3, 17, 5), "restore#94", "Application started; seen healthy."},
			{at(3, 17, 9), "118", "38 mails sent to organizations."},
		},
		Phases: []Phase{
			{"Emergency dump", at(3, 12, 0), at(3, 12, 3), "11"}, {"Stage", at(3, 12, 10), at(3, 12, 48), "restore#23"},
			{"Prove", at(3, 12, 48), at(3, 13, 2), "restore#29"}, {"Wait for approval", at(3, 13, 3), at(3, 16, 18), "restore#47"},
			{"Stop and see quiet", at(3, 16, 18), at(3, 16, 24), "restore#64"}, {"Safety dump", at(3, 16, 24), at(3, 16, 41), "restore#70"},
			{"Swap", at(3, 16, 41), at(3, 16, 44), "restore#76"}, {"Verify", at(3, 16, 44), at(3, 16, 58), "restore#82"},
			{"Start, see healthy", at(3, 16, 58), at(3, 17, 5), "restore#94"}, {"Tell the organizations", at(3, 17, 5), at(3, 17, 9), "118"},
		},
		Plan: &Plan{
			Code: "K7Q-X2M", Backup: "20260224T020000Z-scheduled-3f9a2c", BackupAt: at(2, 0, 0), State: "verified",
			Collections: 221, Documents: 48210, Bytes: 118_400_000, Event: "restore#33",
			PassedOver: []Candidate{{"foreign/test_database_20260224_020000", "half-written: 61 of 218 collections, and journal_entries.bson.gz ends in the middle"}},
		},
		Found: []Statement{{"Of the database: it does not answer.", "9"}},
		Loss:  &Counts{Added: 312, Changed: 4790, Missing: 1204, Event: "restore#33"}, Restored: 48210,
		Kept: []Statement{
			{"Emergency dump 20260224T031200Z-emergency-77aa01, kept until the incident is closed.", "11"},
			{"Safety dump 20260224T031624Z-safety-91c2e0: everything written until the application stopped.", "restore#70"},
			{"41 audit entries newer than the backup were carried over.", "restore#84"},
		},
		KeyCounts: []KeyCount{{"collections", 218, 221, 221}, {"organizations", 41, 41, 41}, {"users", 180, 187, 187}, {"invoices", -1, 9031, 9031}},
		Approvals: []Approval{
			{at(3, 15, 40), "approve", "Ravi", "looks | fine", "the plan is K7Q-X2M", "restore#41"},
			{at(3, 16, 18), "approve", "Asha", "checked with <support>", "", "restore#47"},
		},
		Verified: []Statement{
			{"In place, 221 collections were read back at majority: each digest equals the backup's.", "restore#82"},
			{"All 309 indexes are those of the backup.", "restore#82"},
		},
		Mails:     &Mails{Organizations: 39, Sent: 36, Failed: 2, Without: 1, Event: "118"},
		Warnings:  []string{"2 places of the database could not be read before the restore."},
		FollowUps: []Statement{{"The replaced collections are dropped after 27 February 2026, 03:17 UTC.", "restore#96"}},
		Histories: []History{
			{"incident", "incident/battwheels", "0198c0de-7a11-7000-8000-3f9a2c000001", base + "incident%2Fbattwheels/0198c0de-7a11-7000-8000-3f9a2c000001"},
			{"restore", "restore/battwheels", "0198c0de-7b22-7000-8000-3f9a2c000002", base + "restore%2Fbattwheels/0198c0de-7b22-7000-8000-3f9a2c000002"},
		},
		DraftedAt: at(3, 17, 12), Due: at(3, 12, 0).AddDate(0, 0, 2),
	}
}

func missed() Facts {
	f := recovered()
	f.RTO, f.RPO = 3*time.Hour, 30*time.Hour
	f.Healthy.At = at(6, 12, 0).AddDate(0, 0, 1)
	f.Timeline[len(f.Timeline)-2].At, f.Timeline[len(f.Timeline)-1].At = f.Healthy.At, f.Healthy.At.Add(time.Minute)
	f.Downtime = f.Healthy.At.Sub(f.Stopped.At)
	f.Posted = &Posted{URL: "https://status.example.com/incidents/7", By: "Asha", At: at(12, 0, 0)}
	return f
}

func rejected() Facts {
	return Facts{
		Target: "battwheels", Incident: "i2", Outcome: "rejected", Summary: "False alarm: nothing was changed.",
		Detected: Moment{at(3, 12, 0), "1"}, Timeline: []Event{{at(3, 12, 0), "1", "Alert arrived."}, {at(3, 20, 0), "9", "Ravi rejected the plan."}},
	}
}

func TestEveryReportIsWhole(t *testing.T) {
	for name, f := range map[string]Facts{"recovered": recovered(), "missed": missed(), "rejected": rejected(), "empty": {}} {
		t.Run(name, func(t *testing.T) {
			markdown, err := Markdown(f)
			require.NoError(t, err)
			html, err := HTML(f)
			require.NoError(t, err)
			for _, bad := range []string{"<no value>", "%!", "ZgotmplZ", "<support>", "<nil>", "January 0001"} {
				require.NotContains(t, markdown, bad)
				require.NotContains(t, html, bad)
			}
			require.NotContains(t, markdown, "\n\n\n")
			require.True(t, strings.HasSuffix(html, "</html>\n"))
			tables(t, markdown)
			again, err := HTML(f)
			require.NoError(t, err)
			require.Equal(t, html, again)
			if dir := os.Getenv(samplesEnv); dir != "" {
				require.NoError(t, os.WriteFile(filepath.Join(dir, "report-"+name+".html"), []byte(html), 0o600))
				require.NoError(t, os.WriteFile(filepath.Join(dir, "report-"+name+".md"), []byte(markdown), 0o600))
			}
		})
	}
}

var cell = regexp.MustCompile(`[^\\]\|`)

// tables checks that every table's rows have as many cells as its head: a value that breaks out would add one.
func tables(t *testing.T, markdown string) {
	t.Helper()
	cells := 0
	for line := range strings.Lines(markdown) {
		if !strings.HasPrefix(line, "|") {
			cells = 0
			continue
		}
		n := len(cell.FindAllString(line, -1))
		if cells == 0 {
			cells = n
		}
		require.Equal(t, cells, n, line)
	}
}

func TestEachLineOfTheTimelinePointsAtItsEvent(t *testing.T) {
	f := recovered()
	markdown, err := Markdown(f)
	require.NoError(t, err)
	html, err := HTML(f)
	require.NoError(t, err)
	for _, want := range []struct{ id, shown, url string }{
		{"1", "incident#1", f.Histories[0].URL + "/history/events/1"},
		{"restore#47", "restore#47", f.Histories[1].URL + "/history/events/47"},
	} {
		require.Contains(t, html, `<a href="`+want.url+`">`+want.shown+`</a>`)
		require.Contains(t, markdown, "| ["+want.shown+"] |")
		require.Contains(t, markdown, "\n["+want.shown+"]: "+want.url+"\n")
	}

	f.Histories = nil
	html, err = HTML(f)
	require.NoError(t, err)
	require.Contains(t, html, `<span class="ref">restore#47</span>`, "without a UI the ID still stands there")
}

func TestNothingIsSaidWithoutAnEvent(t *testing.T) {
	for name, change := range map[string]func(*Facts){
		"timeline without one":    func(f *Facts) { f.Timeline[2].ID = "" },
		"timeline, other history": func(f *Facts) { f.Timeline[2].ID = "backup#3" },
		"approval":                func(f *Facts) { f.Approvals[0].Event = "backup#3" },
		"proof":                   func(f *Facts) { f.Verified[0].Event = "backup#3" },
		"plan":                    func(f *Facts) { f.Plan.Event = "backup#3" },
		"mails":                   func(f *Facts) { f.Mails.Event = "backup#3" },
		"moment":                  func(f *Facts) { f.Healthy.Event = "backup#3" },
	} {
		t.Run(name, func(t *testing.T) {
			f := recovered()
			change(&f)
			for _, render := range []func(Facts) (string, error){Markdown, HTML} {
				_, err := render(f)
				var missing *EventError
				require.ErrorAs(t, err, &missing)
				require.NotEmpty(t, missing.What)
			}
		})
	}
}

func TestObjectivesAreJudged(t *testing.T) {
	good, err := Markdown(recovered())
	require.NoError(t, err)
	require.Contains(t, good, "5 minutes 5 seconds; objective 2 hours: met")
	bad, err := Markdown(missed())
	require.NoError(t, err)
	require.Contains(t, bad, "3 hours; objective 2 hours: **missed**")
	require.Contains(t, bad, "1 day 6 hours; objective 1 day: **missed**")
	require.Contains(t, bad, "Posted at <https://status.example.com/incidents/7> by Asha")
	require.NotContains(t, bad, "**Draft**")
	require.Contains(t, bad, "**25 February 2026**", "a new day is said")
}

func TestTheDrawingIsWellFormedAndInItsFrame(t *testing.T) {
	for name, f := range map[string]Facts{"minutes": recovered(), "a day": missed()} {
		t.Run(name, func(t *testing.T) {
			html, err := HTML(f)
			require.NoError(t, err)
			svg := html[strings.Index(html, "<svg") : strings.Index(html, "</svg>")+len("</svg>")]
			decoder := xml.NewDecoder(strings.NewReader(svg))
			for {
				_, err := decoder.Token()
				if errors.Is(err, io.EOF) {
					break
				}
				require.NoError(t, err)
			}
			d := f.draw()
			require.Len(t, d.Bars, len(f.Phases)+2)
			for _, b := range d.Bars {
				require.GreaterOrEqual(t, b.X, d.Left, b.Name)
				require.LessOrEqual(t, b.X+b.W, d.Right+3, b.Name)
				require.Positive(t, b.W, b.Name)
			}
			require.LessOrEqual(t, len(d.Ticks), 7)
			require.GreaterOrEqual(t, len(d.Ticks), 2)
			for _, tick := range d.Ticks {
				require.GreaterOrEqual(t, tick.X, d.Left)
				require.LessOrEqual(t, tick.X, d.Right)
			}
		})
	}
	batches := recovered()
	for range 50 {
		batches.Phases = append(batches.Phases, batches.Phases[len(batches.Phases)-1])
	}
	require.Len(t, batches.draw().Bars, len(recovered().Phases)+2, "batches of mails are one bar")
	require.Nil(t, rejected().draw(), "nothing took time")
	instant := Facts{Phases: []Phase{{Name: "Stop", From: at(3, 0, 0), To: at(3, 0, 0)}}}
	require.Len(t, instant.draw().Bars, 1)
}

func TestCountsFromBeforeAreLeftOutWhereNobodyKnowsThem(t *testing.T) {
	f := recovered()
	for i := range f.KeyCounts {
		f.KeyCounts[i].Before = -1
	}
	markdown, err := Markdown(f)
	require.NoError(t, err)
	tables(t, markdown)
	require.Contains(t, markdown, "| users | 187 | 187 |")
	html, err := HTML(f)
	require.NoError(t, err)
	require.NotContains(t, html, "unknown")
}

func TestValuesDoNotBecomeMarkup(t *testing.T) {
	f := rejected()
	f.Summary = "a|b <script>alert(1)</script> *x* [y](http://evil.example)\nnext"
	markdown, err := Markdown(f)
	require.NoError(t, err)
	require.Contains(t, markdown, `a\|b &lt;script&gt;alert(1)&lt;/script&gt; \*x\* \[y\](http://evil.example) next`)
	html, err := HTML(f)
	require.NoError(t, err)
	require.NotContains(t, html, "<script>")
}
