package mail

import (
	"fmt"
	"time"
)

// Sample is one mail as it would look.
type Sample struct {
	Name    string
	Message Message
}

const (
	sampleIncident = "20260224T031200Z-3f9a2c"
	sampleLink     = "http://127.0.0.1:8233/namespaces/default/workflows/incident%2Fbattwheels"
)

func sampleTime(hour, minute, second int) time.Time {
	return time.Date(2026, 2, 24, hour, minute, second, 0, time.UTC)
}

func sampleNotice(brand, support string) Notice {
	return Notice{
		Brand: brand, Incident: sampleIncident, Support: support,
		Since: sampleTime(2, 47, 0), Detected: sampleTime(3, 12, 0), Stopped: sampleTime(3, 13, 20), Back: sampleTime(3, 14, 5), BackupAt: sampleTime(2, 0, 0),
	}
}

var (
	sampleGarage = Contact{OrganizationID: "o1", OrganizationName: "Volt & Sons <EV> Garage", Email: "hello@volt.example", Via: ViaOrganization}
	sampleOwned  = Contact{OrganizationID: "o2", OrganizationName: "Amp Works", Name: "Asha Rao", Email: "asha@amp.example", Via: ViaOwner}
	sampleChain  = Contact{OrganizationID: "o3", OrganizationName: "Ohm North", Email: "office@ohm.example", Via: ViaOrganization,
		Others: []Organization{{ID: "o4", Name: "Ohm South"}, {ID: "o5", Name: "Ohm Depot"}}}
	sampleOnCall = Inside([]string{"oncall@battwheels.example"})[0]
)

func sampleApproval() Approval {
	return Approval{
		Target: "battwheels", Incident: sampleIncident, Plan: "K7Q-X2M", Link: sampleLink,
		Why:    "Alert DatabaseCorruption of 24 February 2026, 03:12 UTC: documents of 6 collections cannot be decoded.",
		Backup: "20260224T020000Z-scheduled-3f9a2c", BackupAt: sampleTime(2, 0, 0), BackupState: "verified",
		Collections: 221, Documents: 48210, Counted: true, Added: 312, Changed: 4790, Missing: 1204, Organizations: 37,
		KeyCounts: []KeyCount{{"collections", 218, 221}, {"organizations", 41, 41}, {"users", 180, 187}, {"invoices", 0, 9031}, {"tickets", -1, 5120}},
		Candidates: []Candidate{
			{"20260225T020000Z-scheduled-91bc04", sampleTime(3, 2, 0), 47006, true, "Since 20260224T020000Z-scheduled-3f9a2c, it holds nothing of invoices."},
			{"20260224T020000Z-scheduled-3f9a2c", sampleTime(2, 0, 0), 48210, false, "Its contents are like those of 20260223T020000Z-scheduled-0a77e1."},
		},
		Warnings: []string{"2 places of the database could not be read, and what stands there is not counted: tickets (invalid BSON); audit_logs (connection closed)."},
		Tells:    &Audience{Organizations: 41, Mails: 37, ThroughOwner: 2, WithoutAddress: 1},
		Preview:  "/var/lib/runbook/incidents/battwheels/" + sampleIncident + "/preview-mail.html",
		Asked:    sampleTime(3, 13, 0), Deadline: sampleTime(5, 12, 0),
	}
}

// Samples renders every mail in the shapes that differ, with made-up facts: to look at templates, and to see that they can be
// rendered before a night on which they must. The error is the first template's.
func (t *Templates) Samples(brand, support string) ([]Sample, error) {
	var all []Sample
	var failed error
	add := func(name string) func(Message, error) {
		return func(m Message, err error) {
			if err != nil && failed == nil {
				failed = fmt.Errorf("sample %s: %w", name, err)
			}
			all = append(all, Sample{name, m})
		}
	}
	n := sampleNotice(brand, support)
	add("notice")(t.Notice(n, sampleGarage))
	counted := n
	counted.Loss = map[string]Loss{"o2": {New: 1312, Changed: 4}, "o3": {New: 2}, "o5": {Changed: 1}}
	add("notice-counted")(t.Notice(counted, sampleOwned))
	add("notice-nothing-lost")(t.Notice(counted, sampleGarage))
	add("notice-chain")(t.Notice(counted, sampleChain))
	bare := n
	bare.Since, bare.Stopped, bare.Support = time.Time{}, time.Time{}, ""
	bare.NotKept = true
	bare.BackupAt = sampleTime(2, 0, 0).AddDate(0, 0, -2)
	add("notice-bare")(t.Notice(bare, Contact{Email: "a@b.example"}))
	add("followup-good")(t.FollowUp(n, FollowUp{
		Kind: AllClear, Headline: "Everything is settled",
		Paragraphs: []string{"All records that you asked us to look for are back in " + brand + ".", "The copy that we kept is deleted on 27 February 2026."},
	}, sampleOwned))
	add("followup-correction")(t.FollowUp(n, FollowUp{
		Kind: Correction, Headline: "The time we gave was too short",
		Paragraphs: []string{"Please check entries from 01:55 UTC on, not from 02:00 UTC."},
	}, sampleGarage))
	update := FollowUp{Kind: Update, Headline: headlines[Update], Paragraphs: paragraphs("We are still looking for:\n- job cards\n- payments")}
	add("followup-update")(t.FollowUp(n, update, sampleChain))
	a := sampleApproval()
	add("approval")(t.Approval(a, sampleOnCall))
	a.Escalated = true
	add("escalation")(t.Approval(a, sampleOnCall))
	a.Counted, a.KeyCounts, a.Warnings, a.Link = false, nil, nil, ""
	add("approval-unreadable")(t.Approval(a, sampleOnCall))
	add("decision")(t.Decision(Decision{
		Target: "battwheels", Incident: sampleIncident, Link: sampleLink, Asked: sampleTime(3, 14, 0), Deadline: sampleTime(5, 12, 0),
		Question: "**Stop the application** failed: backend is still running 60 seconds after it was told to stop.",
		Choices:  []Choice{{Name: "retry"}, {Name: "give-up"}, {Name: "own-choice"}},
	}, sampleOnCall))
	add("volume")(t.Decision(Decision{
		Target: "battwheels", Incident: sampleIncident, Asked: sampleTime(3, 14, 0), Question: "What became of the volume?", Update: "volume-recovered or volume-lost",
		Choices: []Choice{{Name: "volume-recovered", Command: "runbook volume recovered battwheels"}, {Name: "volume-lost", Command: "runbook volume lost battwheels"}},
	}, sampleOnCall))
	add("support")(t.SupportRequest(SupportRequest{
		Target: "battwheels", Database: "test_database", Incident: sampleIncident, Volume: "volume pvc-7 of namespace shop", Path: "/var/lib/mongodb: not there",
		Since: sampleTime(3, 12, 0), Asked: sampleTime(3, 13, 0), Seen: []string{"3 observations in a row found the database gone.", "It does not answer: connection refused."},
		Answer: []string{sampleOnCall.Email},
	}, Contact{Email: "support@platform.example"}))
	gone := n
	gone.Gone, gone.NotKept = true, true
	add("notice-gone")(t.Notice(gone, sampleGarage))
	add("done")(t.Done(Done{
		Target: "battwheels", Incident: sampleIncident, Recovered: true, Outcome: "recovered", Link: sampleLink,
		Summary: "Recovered: 48,210 documents of backup 20260224T020000Z-scheduled-3f9a2c are back, proven by digest. The application was down for 45s.",
		Backup:  "20260224T020000Z-scheduled-3f9a2c", BackupAt: sampleTime(2, 0, 0), Restored: 48210, Left: 312,
		Downtime: 45 * time.Second, RTO: 2*time.Minute + 5*time.Second, RTOTarget: 2 * time.Hour, RPO: 73 * time.Minute, RPOTarget: 24 * time.Hour,
		KeyCounts:  []KeyCount{{"collections", 221, 221}, {"organizations", 41, 41}, {"invoices", 9031, 9031}},
		Mails:      &Tally{Sent: 36, Failed: 2, Without: 1},
		SafetyDump: "20260224T031321Z-safety-91c2e0", Report: "/var/lib/runbook/incidents/battwheels/" + sampleIncident + "/report.html",
		ReportDue: sampleTime(3, 12, 0).AddDate(0, 0, 2),
	}, sampleOnCall))
	add("volume-back")(t.Done(Done{
		Target: "battwheels", Incident: sampleIncident, Whole: true, Outcome: "volume recovered", Summary: "Volume recovered: nothing was restored.",
		Warnings: []string{"3 documents of the backup are absent."},
	}, sampleOnCall))
	add("rejected")(t.Done(Done{
		Target: "battwheels", Incident: sampleIncident, Outcome: "Rejected", Summary: "Rejected by Asha: nothing was changed.",
	}, sampleOnCall))
	add("monitor")(t.Monitor(Findings{
		Target: "battwheels", Checked: sampleTime(6, 0, 0), Newest: "foreign/test_database_20260222_020000", NewestAt: sampleTime(2, 0, 0).AddDate(0, 0, -2),
		Age: 52 * time.Hour, RPO: 24 * time.Hour, Link: sampleLink,
		Problems: []Problem{
			{"half-written", "test_database_20260224_020000 is half-written: 61 of 218 collections, and journal_entries.bson.gz ends in the middle."},
			{"silent-run", "The run of 24 February 2026, 02:00 UTC began in the log and never finished; it wrote no error."},
		},
	}, sampleOnCall))
	add("monitor-healthy")(t.Monitor(Findings{Target: "battwheels", Healthy: true, Newest: "20260224T020000Z-scheduled-3f9a2c"}, sampleOnCall))
	due := ReportDue{Target: "battwheels", Incident: sampleIncident, Due: sampleTime(3, 12, 0).AddDate(0, 0, 2), Left: 4 * time.Hour, Link: sampleLink,
		Draft: "/var/lib/runbook/incidents/battwheels/" + sampleIncident + "/report.html"}
	add("report-due")(t.ReportDue(due, sampleOnCall))
	due.Left = 0
	add("report-overdue")(t.ReportDue(due, sampleOnCall))
	return all, failed
}
