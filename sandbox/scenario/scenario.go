// Package scenario plays whole disasters in the sandbox without a hand on them: it makes the world, lives in it, breaks it, does
// what people would do, and judges what came of it independently of the product. The sandbox's command line runs it. It looks
// at the product from outside only: through its webhook, its doors, its mails, the files that it leaves, and the database.
package scenario

import (
	"time"

	"github.com/battwheels/runbook/activities"
	"github.com/battwheels/runbook/sandbox/damage"
	"github.com/battwheels/runbook/sandbox/judge"
	"github.com/battwheels/runbook/sandbox/traffic"
	"github.com/battwheels/runbook/sandbox/world"
)

// Options say how a scenario is played.
type Options struct {
	World    world.Options
	Sabotage bool // alters one document behind the product's back, after its verification
	// Keep is where the incident's folder goes, with its report, when the world's directory does not stay.
	Keep string
	// Tell is told each event as it happens, from one goroutine at a time.
	Tell func(Event)
	// Still is told now and then what a long step is at, and for how long. May be nil.
	Still func(step string, since time.Duration)
	// Ask is told the plan when the on-call engineer reads it. May be nil.
	Ask func(activities.Plan)
}

// Event is one line of a scenario's timeline.
type Event struct {
	At   time.Time `json:"at"`
	Who  string    `json:"who"` // the sandbox, runbook, or a person
	Text string    `json:"text"`
}

// Check is one thing that must hold, and whether it did.
type Check struct {
	Name   string `json:"name"`
	Held   bool   `json:"held"`
	Detail string `json:"detail,omitempty"`
}

// Result is what came of a scenario. The numbers are measured from outside, where they can be.
type Result struct {
	Scenario string `json:"scenario"`
	// Recovered says that the database holds what it must, byte for byte, and the application works.
	Recovered bool `json:"recovered"`
	Held      bool `json:"held"` // every check did
	// RTOSeconds runs from the alert until the application was healthy again, DowntimeSeconds from its last answer until then,
	// RPOSeconds from the backup's moment until the last write that was acknowledged before the application stopped.
	RTOSeconds      float64 `json:"rtoSeconds"`
	DowntimeSeconds float64 `json:"downtimeSeconds"`
	RPOSeconds      float64 `json:"rpoSeconds"`
	// DocumentsRestored stand in the restored database, DocumentsLost lost an acknowledged write that was newer than the
	// backup; those are in the safety dump.
	DocumentsRestored   int64  `json:"documentsRestored"`
	DocumentsLost       int64  `json:"documentsLost"`
	MailsSent           int    `json:"mailsSent"` // to organizations, as the mail service received them
	MailsUndeliverable  int    `json:"mailsUndeliverable"`
	OrganizationsActive int    `json:"organizationsActive"`
	WorkflowID          string `json:"workflowId"`
	Incident            string `json:"incident"`
	Report              string `json:"report"` // path of the drafted report
	Seed                uint64 `json:"seed"`

	Checks   []Check          `json:"checks"`
	Timeline []Event          `json:"timeline"`
	Plan     *activities.Plan `json:"plan,omitempty"`
	Damage   damage.Report    `json:"damage"`
	Traffic  traffic.Stats    `json:"traffic"`
	Verdict  judge.Verdict    `json:"verdict"`
	// Sabotaged names the document that was altered, where one was.
	Sabotaged *damage.Altered `json:"sabotaged,omitempty"`
	Claimed   Claimed         `json:"claimed"`
}

// Claimed is what the product says of the same.
type Claimed struct {
	Outcome             string  `json:"outcome"`
	RTOSeconds          float64 `json:"rtoSeconds"`
	DowntimeSeconds     float64 `json:"downtimeSeconds"`
	RPOSeconds          float64 `json:"rpoSeconds"`
	DocumentsRestored   int64   `json:"documentsRestored"`
	DocumentsLost       int64   `json:"documentsLost"`
	MailsSent           int     `json:"mailsSent"`
	MailsUndeliverable  int     `json:"mailsUndeliverable"`
	OrganizationsActive int     `json:"organizationsActive"`
}

// Failed returns the checks that did not hold.
func (r Result) Failed() []Check {
	var failed []Check
	for _, c := range r.Checks {
		if !c.Held {
			failed = append(failed, c)
		}
	}
	return failed
}
