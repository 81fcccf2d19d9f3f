package activities

import "time"

// MailKind is what a mail to the people inside is about.
type MailKind string

// The mails to the people inside.
const (
	MailAsk      MailKind = "ask"      // a plan waits for approval, or a question for a decision
	MailEscalate MailKind = "escalate" // nobody has answered
	MailDone     MailKind = "done"
	MailSupport  MailKind = "support" // asks the platform to recover a volume
	MailMonitor  MailKind = "monitor"
	MailRemind   MailKind = "report-reminder"
	MailOverdue  MailKind = "report-overdue"
)

// TellInput is a mail to the people inside. Key makes it one mail however often the step runs.
type TellInput struct {
	Target     string        `json:"target"`
	Incident   string        `json:"incident,omitempty"`
	Kind       MailKind      `json:"kind"`
	Key        string        `json:"key"`
	Question   string        `json:"question,omitempty"`
	Choices    []string      `json:"choices,omitempty"`
	Narrow     bool          `json:"narrow,omitempty"` // what is to be put back can be narrowed
	Plan       *Plan         `json:"plan,omitempty"`
	Summary    string        `json:"summary,omitempty"`
	Outcome    string        `json:"outcome,omitempty"`
	Whole      bool          `json:"whole,omitempty"` // nothing had to be restored
	Warnings   []string      `json:"warnings,omitempty"`
	Findings   *Findings     `json:"findings,omitempty"`
	Ended      *Ended        `json:"ended,omitempty"` // of a recovery
	Asked      time.Time     `json:"asked,omitzero"`
	Deadline   time.Time     `json:"deadline,omitzero"` // of the report
	Left       time.Duration `json:"left,omitempty"`
	Draft      string        `json:"draft,omitempty"` // path of the report's draft
	WorkflowID string        `json:"workflowId,omitempty"`
	Since      time.Time     `json:"since,omitzero"` // when the database was first seen gone
	Seen       []string      `json:"seen,omitempty"` // what was observed of it
}

// The answers to what became of a lost volume; each is a door of its own.
const (
	VolumeRecovered = "volume-recovered"
	VolumeLost      = "volume-lost"
)

// Ended is how a recovery went, for the mail to the people inside.
type Ended struct {
	Backup             string        `json:"backup"`
	BackupAt           time.Time     `json:"backupAt"`
	Restored           int64         `json:"restored"`
	Lost               int64         `json:"lost"`
	SafetyDump         string        `json:"safetyDump,omitempty"`
	Downtime           time.Duration `json:"downtime"`
	RTO                time.Duration `json:"rto"`
	RTOTarget          time.Duration `json:"rtoTarget"`
	RPO                time.Duration `json:"rpo"`
	RPOTarget          time.Duration `json:"rpoTarget"`
	Newer              *Newer        `json:"newer,omitempty"` // than the backup, and in SafetyDump alone
	KeyCounts          []KeyCount    `json:"keyCounts,omitempty"`
	MailsSent          int           `json:"mailsSent"`
	MailsUndeliverable int           `json:"mailsUndeliverable"`
	MailsUnknown       int           `json:"mailsUnknown"`
	Warnings           []string      `json:"warnings,omitempty"`
	ReportDue          time.Time     `json:"reportDue"`
	Beside             bool          `json:"beside,omitempty"` // single documents were put back while the application went on
}

// FreezeInput says what the mail to every active organization tells.
type FreezeInput struct {
	Target     string    `json:"target"`
	Incident   string    `json:"incident"`
	DetectedAt time.Time `json:"detectedAt"`
	BackupAt   time.Time `json:"backupAt"`
	StoppedAt  time.Time `json:"stoppedAt"`
	HealthyAt  time.Time `json:"healthyAt"`
	Since      time.Time `json:"since,omitzero"` // when the damage began, where that is known
	Backup     string    `json:"backup"`
	SafetyDump string    `json:"safetyDump,omitempty"`
	// GoneAt is when the database itself was lost: nobody can count then what had been entered since the backup. Zero where it
	// was not lost.
	GoneAt time.Time `json:"goneAt,omitzero"`
	// Until is when the last entry may have been made that the restored database does not have, where that was after GoneAt.
	Until time.Time `json:"until,omitzero"`
}

// Outbox counts the mails that are frozen; addresses and words lie in the incident's folder only.
type Outbox struct {
	Organizations  int `json:"organizations"` // active ones
	Mails          int `json:"mails"`
	WithoutAddress int `json:"withoutAddress"`
	Batches        int `json:"batches"`
	BatchSize      int `json:"batchSize"`
}

// SendInput names one batch.
type SendInput struct {
	Target   string `json:"target"`
	Incident string `json:"incident"`
	Outbox   string `json:"outbox,omitempty"` // a follow-up's name; empty: the first mail
	Batch    int    `json:"batch"`            // from 0
}

// Sent counts what became of a batch.
type Sent struct {
	Sent    int `json:"sent"`
	Refused int `json:"refused"`           // bad addresses, listed in the ledger
	Unknown int `json:"unknown,omitempty"` // outcome never learned; listed for a person
}

// Draft says where a report lies, and proves what it was.
type Draft struct {
	Markdown string `json:"markdown"`
	HTML     string `json:"html"`
	Events   int    `json:"events"` // of the histories that it was drawn from
}

// Execution names one run of a workflow.
type Execution struct {
	WorkflowID string `json:"workflowId"`
	RunID      string `json:"runId"`
}

// Answer is what a person said to a playbook.
type Answer struct {
	At     time.Time `json:"at"`
	Door   string    `json:"door"`
	By     string    `json:"by"`
	Reason string    `json:"reason"`
	Denied string    `json:"denied,omitempty"`
}

// DraftInput says what a report tells; its timeline is read from the histories.
type DraftInput struct {
	Target             string        `json:"target"`
	Incident           string        `json:"incident"`
	Playbook           string        `json:"playbook,omitempty"` // default DatabaseCorruption
	Histories          []Execution   `json:"histories"`
	Outcome            string        `json:"outcome"`
	Summary            string        `json:"summary"`
	DetectedAt         time.Time     `json:"detectedAt"`
	StoppedAt          time.Time     `json:"stoppedAt,omitzero"`
	HealthyAt          time.Time     `json:"healthyAt,omitzero"`
	Backup             *BackupRef    `json:"backup,omitempty"`
	Plan               string        `json:"plan,omitempty"`
	ApprovedBy         string        `json:"approvedBy,omitempty"`
	EmergencyDump      string        `json:"emergencyDump,omitempty"`
	SafetyDump         string        `json:"safetyDump,omitempty"`
	Restored           int64         `json:"restored"`
	Lost               int64         `json:"lost"`
	AuditMerged        int64         `json:"auditMerged"`
	Newer              *Newer        `json:"newer,omitempty"`
	KeyCounts          []KeyCount    `json:"keyCounts,omitempty"`
	RPO                time.Duration `json:"rpo"`
	RTO                time.Duration `json:"rto"`
	Organizations      int           `json:"organizations"`
	MailsSent          int           `json:"mailsSent"`
	MailsUndeliverable int           `json:"mailsUndeliverable"`
	MailsUnknown       int           `json:"mailsUnknown"`
	Answers            []Answer      `json:"answers,omitempty"`
	Warnings           []string      `json:"warnings,omitempty"`
	GoneAt             time.Time     `json:"goneAt,omitzero"` // when the database itself was lost, where it was
	Database           string        `json:"database"`
	Since              time.Time     `json:"since,omitzero"`
	Due                time.Time     `json:"due"`
	PostedAt           time.Time     `json:"postedAt,omitzero"`
	PostedURL          string        `json:"postedUrl,omitempty"`
	PostedBy           string        `json:"postedBy,omitempty"`
	Undelete           *PutBack      `json:"undelete,omitempty"` // of AccidentalDeletion
	// FollowUps went out from the report's own workflow, whose history is then among Histories.
	FollowUps []FollowUpSaid `json:"followUps,omitempty"`
}
