package scenario

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/battwheels/runbook/sandbox/damage"
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

// corruption is one run of the scenario.
type corruption struct {
	options  Options
	world    *world.World
	ledger   *ledger.Ledger
	traffic  *traffic.Traffic
	backup   workflows.BackupResult
	alerted  time.Time
	outcome  workflows.CorruptionResult
	expected *ledger.Expectation
	released bool // people could work again
	seen     map[string]workflows.StepState

	mu     sync.Mutex // of the timeline: events come from several goroutines
	result Result
	silent time.Time // since when nothing was told, reminders included
}

// Corruption plays scenario A: a database is damaged while people work with it, and the product brings it back. An error means
// that the scenario itself could not be played; whatever the product did wrong is a check that did not hold.
func Corruption(ctx context.Context, o Options) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c := &corruption{options: o, ledger: ledger.New(), seen: map[string]workflows.StepState{}}
	c.result = Result{Scenario: "corruption", WorkflowID: workflows.IncidentID(world.Target), Seed: o.World.Seed}
	o.World.Progress = func(text string) { c.tell("sandbox", text) }
	w, err := world.Start(ctx, o.World)
	if err != nil {
		return c.result, err
	}
	c.world = w
	err = c.play(ctx)
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

// play is the story, from top to bottom.
func (c *corruption) play(ctx context.Context) error {
	for _, act := range []func(context.Context) error{
		c.live,
		c.makeBackup,
		c.goOnWorking,
		c.breakIt,
		c.raiseAlert,
		c.approve,
		c.awaitRecovery,
		c.sabotage,
		c.judge,
		c.letPeopleBackIn,
		c.lookAtMails,
		c.lookAtReport,
	} {
		if err := act(ctx); err != nil {
			return err
		}
	}
	return nil
}

// live lets the application's users begin their day.
func (c *corruption) live(ctx context.Context) error {
	if err := c.ledger.Baseline(ctx, c.world.DB); err != nil {
		return err
	}
	var active []string
	for _, o := range c.world.Data.Organizations {
		if o.Active {
			active = append(active, o.ID)
		}
	}
	t, err := traffic.Start(context.WithoutCancel(ctx), traffic.Config{
		URL: c.world.Application(), Secret: c.world.ApplicationSecret(), Organizations: active, Rate: rate,
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
func (c *corruption) makeBackup(ctx context.Context) error {
	c.tell("runbook", "Backup begins, while people work")
	if err := c.execute(ctx, "backup/"+world.Target, "Backup", workflows.BackupInput{Target: world.Target}, &c.backup); err != nil {
		return err
	}
	c.tell("runbook", c.backup.Summary)
	return nil
}

func (c *corruption) goOnWorking(ctx context.Context) error {
	before := c.traffic.Stats().Documents
	if err := c.traffic.AwaitRequests(ctx, daily); err != nil {
		return err
	}
	c.tell("sandbox", fmt.Sprintf("%d documents have been written since", c.traffic.Stats().Documents-before))
	return nil
}

// breakIt damages the database through the driver, like broken software would.
func (c *corruption) breakIt(ctx context.Context) error {
	r, err := damage.Do(ctx, c.world.DB, damage.Options{Seed: c.options.World.Seed}, c.ledger)
	c.result.Damage = r
	if err != nil {
		return err
	}
	c.tell("sandbox", "DISASTER: "+r.String())
	return nil
}

func (c *corruption) raiseAlert(ctx context.Context) error {
	c.alerted = time.Now()
	id, err := c.postAlert(ctx, c.result.Damage.Began)
	if err != nil {
		return err
	}
	c.tell("Alertmanager", fmt.Sprintf("%s posted to the webhook: %s", world.Alert, id))
	if id != c.result.WorkflowID {
		return fmt.Errorf("the alert started %q, expected %s", id, c.result.WorkflowID)
	}
	return nil
}

// sabotage is what a check of the judge needs: something that is wrong, and that the product cannot know.
func (c *corruption) sabotage(ctx context.Context) error {
	if !c.options.Sabotage {
		return nil
	}
	a, err := damage.Sabotage(ctx, c.world.DB, "organizations")
	if err != nil {
		return err
	}
	c.result.Sabotaged = &a
	c.tell("sandbox", fmt.Sprintf("SABOTAGE: one character of %s in one of %s altered", a.Field, a.Collection))
	return nil
}

// judge reads the whole database before anybody writes to it again.
func (c *corruption) judge(ctx context.Context) error {
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
	detail := fmt.Sprintf("%d documents and %d indexes in %d collections read", v.Documents, v.Indexes, v.Collections)
	if !v.Recovered {
		detail = fmt.Sprintf("%d differences, the first: %s", v.Differing, v.Differences[0])
	}
	c.check("every document and index is as it was at the backup's moment", v.Recovered, detail)
	c.tell("judge", detail)
	return c.checkSafetyDump()
}

// letPeopleBackIn ends the hold on the writers: the application must take their work again.
func (c *corruption) letPeopleBackIn(ctx context.Context) error {
	c.traffic.Resume()
	bounded, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := c.traffic.AwaitRequests(bounded, after)
	c.released = err == nil
	c.check("people can work again", err == nil, words(err, fmt.Sprintf("%d requests succeeded", after)))
	c.tell("sandbox", "people work with the application again")
	return ctx.Err()
}

// conclude sums up.
func (c *corruption) conclude(err error) {
	if err != nil {
		c.check("the scenario was played to its end", false, err.Error())
	}
	r := &c.result
	r.Held = len(r.Failed()) == 0
	r.Recovered = err == nil && r.Verdict.Recovered && c.outcome.Outcome == workflows.Recovered && c.released
}

func (c *corruption) tell(who, text string) {
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
func (c *corruption) still(step string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := c.result.Timeline[len(c.result.Timeline)-1].At
	if c.options.Still == nil || step == "" || time.Since(c.silent) < stillAfter {
		return
	}
	c.silent = time.Now()
	c.options.Still(step, time.Since(last).Round(time.Second))
}

func (c *corruption) check(name string, held bool, detail string) {
	c.result.Checks = append(c.result.Checks, Check{name, held, detail})
}

// words are what went wrong, or else what went well.
func words(err error, good string) string {
	if err != nil {
		return err.Error()
	}
	return good
}

// keep moves the incident's folder out of a directory that goes with the world.
func (c *corruption) keep() {
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
func (c *corruption) incidentDir() string {
	return filepath.Join(c.world.StorageDir(), "incidents", world.Target, c.outcome.Incident)
}
