package scenario

import (
	"context"
	"fmt"
	"time"

	"github.com/battwheels/runbook/sandbox/damage"
	"github.com/battwheels/runbook/sandbox/world"
)

// Corruption plays scenario A: a database is damaged while people work with it, and the product brings it back.
func Corruption(ctx context.Context, o Options) (Result, error) {
	return play(ctx, "corruption", o, func(c *story) []act {
		return []act{
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
		}
	})
}

// breakIt damages the database through the driver, like broken software would.
func (c *story) breakIt(ctx context.Context) error {
	r, err := damage.Do(ctx, c.world.DB, damage.Options{Seed: c.options.World.Seed}, c.ledger)
	c.result.Damage = r
	if err != nil {
		return err
	}
	c.tell("sandbox", "DISASTER: "+r.String())
	return nil
}

func (c *story) raiseAlert(ctx context.Context) error {
	c.alerted = time.Now()
	id, err := c.postAlert(ctx, world.Alert, "Documents of test_database fail their checks, and collections are gone", c.result.Damage.Began)
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
func (c *story) sabotage(ctx context.Context) error {
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
