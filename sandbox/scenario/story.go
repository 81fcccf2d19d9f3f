package scenario

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/battwheels/runbook/internal/words"
	"github.com/battwheels/runbook/sandbox/judge"
	"github.com/battwheels/runbook/sandbox/ledger"
	"github.com/battwheels/runbook/sandbox/traffic"
	"github.com/battwheels/runbook/sandbox/world"
	"github.com/battwheels/runbook/workflows"
)

const (
	// patience bounds the whole scenario.
	patience = 20 * time.Minute
	// rate is how many requests a second the application's users make. More would keep a core busy: FerretDB reads whole
	// collections for most of them.
	rate = 8
	// daily is how many requests succeed between two acts, so that there is something to lose.
	daily = 40
	// after is how many requests must succeed on the recovered application.
	after = 20
)

// story is one run of a scenario: what its acts share.
type story struct {
	options  Options
	world    *world.World
	ledger   *ledger.Ledger
	traffic  *traffic.Traffic
	backup   workflows.BackupResult
	alerted  time.Time
	aside    string  // organization for which no writer works
	rate     float64 // requests a second
	outcome  workflows.IncidentResult
	expected *ledger.Expectation
	released bool // people could work again
	seen     map[string]workflows.StepState
	merged   []string // collections whose entries newer than the backup survive
	newcomer string   // address of an organization that signed up after the backup

	mu     sync.Mutex // of the timeline: events come from several goroutines
	result Result
	silent time.Time // since when nothing was told, reminders included
}

// act is one part of a story; its error ends the play.
type act func(context.Context) error

// play makes the world, plays the acts from first to last, and sums up. An error means that the scenario itself could not be
// played; whatever the product did wrong is a check that did not hold.
func play(ctx context.Context, name string, o Options, acts func(*story) []act) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c := &story{options: o, rate: rate, ledger: ledger.New(), seen: map[string]workflows.StepState{}, merged: []string{"audit_logs", "audit_log"}}
	c.result = Result{Scenario: name, WorkflowID: workflows.IncidentID(world.Target), Seed: o.World.Seed}
	o.World.Progress = func(text string) { c.tell("sandbox", text) }
	w, err := world.Start(ctx, o.World)
	if err != nil {
		return c.result, err
	}
	c.world = w
	for _, act := range acts(c) {
		if err = act(ctx); err != nil {
			break
		}
	}
	if c.traffic != nil {
		c.result.Traffic = c.traffic.Stop()
	}
	c.conclude(err)
	c.keep()
	if ctx.Err() == nil {
		err = nil
	}
	return c.result, errors.Join(err, w.Close(context.WithoutCancel(ctx)))
}

// live lets the application's users begin their day.
func (c *story) live(ctx context.Context) error {
	if err := c.ledger.Baseline(ctx, c.world.DB); err != nil {
		return err
	}
	var active []string
	for _, o := range c.world.Data.Organizations {
		if o.Active && o.ID != c.aside {
			active = append(active, o.ID)
		}
	}
	t, err := traffic.Start(context.WithoutCancel(ctx), traffic.Config{
		URL: c.world.Application(), Secret: c.world.ApplicationSecret(), Organizations: active, Rate: c.rate,
		Seed: c.options.World.Seed, Ledger: c.ledger,
	})
	if err != nil {
		return err
	}
	c.traffic = t
	c.tell("sandbox", fmt.Sprintf("people of %d organizations work with the application", len(active)))
	return t.AwaitRequests(ctx, daily)
}

// makeBackup runs the product's own playbook, while people go on working.
func (c *story) makeBackup(ctx context.Context) error {
	c.tell("runbook", "Backup begins, while people work")
	if err := c.execute(ctx, "backup/"+world.Target, "Backup", workflows.BackupInput{Target: world.Target}, &c.backup); err != nil {
		return err
	}
	c.tell("runbook", c.backup.Summary)
	return nil
}

func (c *story) goOnWorking(ctx context.Context) error {
	before := c.traffic.Stats().Documents
	if err := c.traffic.AwaitRequests(ctx, daily); err != nil {
		return err
	}
	c.tell("sandbox", fmt.Sprintf("%d documents have been written since", c.traffic.Stats().Documents-before))
	return nil
}

// judge reads the whole database before anybody writes to it again.
func (c *story) judge(ctx context.Context) error {
	cut, err := c.cut()
	if err != nil {
		return err
	}
	c.expected = c.ledger.Expect(cut)
	v, err := judge.Judge(ctx, c.world.DB, c.expected)
	if err != nil {
		return err
	}
	c.result.Verdict = v
	c.result.DocumentsLost = int64(v.Lost.Total())
	detail := fmt.Sprintf("%s documents and %d indexes in %d collections read", words.Number(int64(v.Documents)), v.Indexes, v.Collections)
	if !v.Recovered {
		detail = fmt.Sprintf("%d differences, the first: %s", v.Differing, v.Differences[0])
	}
	c.check("every document and index is as it was at the backup's moment", v.Recovered, detail)
	c.tell("judge", detail)
	return c.checkSafetyDump()
}

// letPeopleBackIn ends the hold on the writers: the application must take their work again.
func (c *story) letPeopleBackIn(ctx context.Context) error {
	c.traffic.Resume()
	bounded, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := c.traffic.AwaitRequests(bounded, after)
	c.released = err == nil
	c.check("people can work again", err == nil, detailOf(err, fmt.Sprintf("%d requests succeeded", after)))
	c.tell("sandbox", "people work with the application again")
	return ctx.Err()
}

// conclude sums up.
func (c *story) conclude(err error) {
	if err != nil {
		c.check("the scenario was played to its end", false, err.Error())
	}
	r := &c.result
	r.Held = len(r.Failed()) == 0
	r.Recovered = err == nil && r.Verdict.Recovered && c.outcome.Outcome == workflows.Recovered && c.released
}

func (c *story) tell(who, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := Event{At: time.Now(), Who: who, Text: text}
	c.result.Timeline = append(c.result.Timeline, e)
	c.silent = e.At
	if c.options.Tell != nil {
		c.options.Tell(e)
	}
}

// stillAfter is how long nothing may be told while something is being done.
const stillAfter = 5 * time.Second

// still says what a long step is at.
func (c *story) still(step string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := c.result.Timeline[len(c.result.Timeline)-1].At
	if c.options.Still == nil || step == "" || time.Since(c.silent) < stillAfter {
		return
	}
	c.silent = time.Now()
	c.options.Still(step, time.Since(last).Round(time.Second))
}

func (c *story) check(name string, held bool, detail string) {
	c.result.Checks = append(c.result.Checks, Check{name, held, detail})
}

// detailOf is what went wrong, or else what went well.
func detailOf(err error, good string) string {
	if err != nil {
		return err.Error()
	}
	return good
}

// keep moves the incident's folder out of a directory that goes with the world.
func (c *story) keep() {
	if c.world.Kept() || c.options.Keep == "" || c.result.Report == "" {
		return
	}
	to := filepath.Join(c.options.Keep, "runbook-incident-"+c.outcome.Incident)
	if err := os.Rename(c.incidentDir(), to); err != nil {
		c.check("the report is kept", false, err.Error())
		return
	}
	c.result.Report = filepath.Join(to, filepath.Base(c.result.Report))
}

// incidentDir is the incident's folder in the product's storage.
func (c *story) incidentDir() string {
	return filepath.Join(c.world.StorageDir(), "incidents", world.Target, c.outcome.Incident)
}
