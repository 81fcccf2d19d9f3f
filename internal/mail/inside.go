package mail

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/battwheels/runbook/internal/words"
)

// insideBrand is the brand of the mails to the people inside.
const insideBrand = "runbook"

// Action is something that the reader may do: what for, and the command that does it.
type Action struct{ Label, Command string }

// KeyCount is a count that people know, in the database as it is (-1 where unknown) and in the backup.
type KeyCount struct {
	Name        string
	Now, Backup int64
}

// Approval asks the people on call to approve a plan.
type Approval struct {
	Target, Incident string
	Plan             string // its code
	Why              string // what set the playbook off
	Link             string // of the workflow in the Web UI

	Backup      string // its ID
	BackupAt    time.Time
	BackupState string
	Collections int
	Documents   int64

	// Counted says whether the blast radius could be counted. Added are documents that the backup does not have and
	// that would leave, Changed go back to the backup's version, Missing come back.
	Counted                 bool
	Added, Changed, Missing int64
	Organizations           int // that lose or change something
	KeyCounts               []KeyCount
	Candidates              []Candidate // the backups that could be taken, newest first, where some may hold the damage, too
	// Tells is who will be told afterwards, nil where nobody is; Preview is the path of the mail to one of them.
	Tells    *Audience
	Preview  string
	Warnings []string

	Asked     time.Time // since when the plan waits; zero where unknown
	Deadline  time.Time // of the recovery time objective; zero where there is none
	Escalated bool
	Actions   []Action // those of the command line where empty
}

// Candidate is a backup that could be taken.
type Candidate struct {
	Backup    string
	At        time.Time
	Documents int64
	Doubtful  bool // it may hold the damage, too
	Why       string
}

// Approval renders the request to approve a plan, or its escalation.
func (t *Templates) Approval(a Approval, c Contact) (Message, error) {
	if len(a.Actions) == 0 {
		a.Actions = []Action{
			{"Go ahead", fmt.Sprintf("runbook approve %s --plan %s --by \"YOUR NAME\" --reason \"WHY\"", a.Target, a.Plan)},
			{"Take another backup", fmt.Sprintf("runbook choose-backup %s --backup BACKUP --by \"YOUR NAME\" --reason \"WHY\"", a.Target)},
			{"Change nothing", fmt.Sprintf("runbook reject %s --by \"YOUR NAME\" --reason \"WHY\"", a.Target)},
		}
	}
	return t.inside(mailApproval, askTone(a.Escalated), a.Incident, a, c)
}

// Decision asks the people on call what to do after a step failed for good.
type Decision struct {
	Target, Incident string
	Question         string
	Choices          []Choice
	Actions          []Action // where it is answered by other verbs than decide
	Link             string
	Asked            time.Time
	Deadline         time.Time
	Escalated        bool
	// Update is the door that hears the answer; the choice's own name where there is one for each. Default "decide".
	Update string
}

// Choice is one possible answer: its name, what it does, and the command that gives it.
type Choice struct{ Name, Means, Command string }

// choiceMeans says what each choice does, for those who give only its name.
var choiceMeans = map[string]string{
	"retry":               "Try the step again.",
	"other-backup":        "Start over with another backup; add --backup BACKUP to name it.",
	"roll-back":           "Put the database back as it was before the swap.",
	"without-safety-dump": "Go on without a safety dump of what is there now.",
	"carry-on":            "Leave things as they are now, and go on.",
	"give-up":             "End the playbook here and leave things as they are.",
	"volume-recovered":    "The database's own volume is back. It is compared with the last backup; nothing is restored.",
	"volume-lost":         "The volume will not come back. The backup is restored, after a plan was approved.",
}

// Decision renders the question, or its escalation.
func (t *Templates) Decision(d Decision, c Contact) (Message, error) {
	choices := make([]Choice, len(d.Choices))
	for i, choice := range d.Choices {
		command := fmt.Sprintf("runbook decide %s --choice %s", d.Target, choice.Name)
		choices[i] = Choice{choice.Name, cmp.Or(choice.Means, choiceMeans[choice.Name]), cmp.Or(choice.Command, command)}
	}
	d.Choices, d.Update = choices, cmp.Or(d.Update, "decide")
	// Questions are Markdown for the Temporal UI; a mail would show the marks.
	d.Question = strings.NewReplacer("**", "", "`", "").Replace(d.Question)
	return t.inside(mailDecision, askTone(d.Escalated), d.Incident, d, c)
}

// Done tells the people on call how a playbook ended.
type Done struct {
	Target, Incident string
	Recovered        bool
	Whole            bool   // nothing had to be restored: a false alarm, or the volume came back
	Outcome          string // recovered, rejected, rolled-back, gave-up, aborted, volume recovered, false alarm
	Summary          string
	Link             string

	Backup         string
	BackupAt       time.Time
	Beside         bool  // single documents were put back, while the application went on
	Restored, Left int64 // documents put back; documents that the backup did not have
	Downtime       time.Duration
	RTO, RTOTarget time.Duration // zero where unknown or none
	RPO, RPOTarget time.Duration
	KeyCounts      []KeyCount // Now: after the restore
	Mails          *Tally     // to the organizations; nil where none were sent
	SafetyDump     string
	Newer          string // what is in SafetyDump alone, by collection and organization
	MergeBack      bool   // some of it can be brought back
	Warnings       []string
	Report         string // path of the draft
	ReportDue      time.Time
}

// Done renders how a playbook ended.
func (t *Templates) Done(d Done, c Contact) (Message, error) {
	tone := toneGood
	if !d.Recovered && !d.Whole {
		tone = toneWarn
	}
	d.Outcome = words.Title(d.Outcome)
	if m := d.Mails; m != nil {
		whole := *m
		whole.Messages = max(m.Messages, m.Sent+m.Failed+m.Unknown+m.Pending)
		d.Mails = &whole
	}
	return t.inside(mailDone, tone, d.Incident, d, c)
}

// Findings is what BackupMonitor found.
type Findings struct {
	Target   string
	Healthy  bool
	Checked  time.Time
	Newest   string // the newest proven backup; empty where there is none
	NewestAt time.Time
	Age      time.Duration // of the newest proven backup; zero where unknown
	RPO      time.Duration
	Problems []Problem
	Link     string
	By       string // the playbook that found it; empty: BackupMonitor
}

// Problem is one thing that is wrong.
type Problem struct{ Code, Text string }

// Monitor renders the findings.
func (t *Templates) Monitor(f Findings, c Contact) (Message, error) {
	tone := toneUrgent
	if f.Healthy {
		tone = toneGood
	}
	return t.inside(mailMonitor, tone, "", f, c)
}

// ReportDue reminds of a report that is not posted, or says that its time has passed.
type ReportDue struct {
	Target, Incident string
	Due              time.Time
	Left             time.Duration // zero or less: overdue
	Draft            string        // path of the draft
	Link             string
}

// Overdue says whether the report's time has passed.
func (r ReportDue) Overdue() bool { return r.Left <= 0 }

// ReportDue renders the reminder.
func (t *Templates) ReportDue(r ReportDue, c Contact) (Message, error) {
	tone := toneWarn
	if r.Overdue() {
		tone = toneUrgent
	}
	return t.inside(mailReport, tone, r.Incident, r, c)
}

func askTone(escalated bool) tone {
	if escalated {
		return toneUrgent
	}
	return toneAsk
}

func (t *Templates) inside(name string, tone tone, incident string, mail any, c Contact) (Message, error) {
	return t.render(name, view{Tone: tone, Brand: insideBrand, Incident: incident, Mail: mail}, c)
}
