package scenario

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.temporal.io/sdk/client"

	"github.com/battwheels/runbook/sandbox/ledger"
	"github.com/battwheels/runbook/sandbox/mailbox"
	"github.com/battwheels/runbook/sandbox/world"
	"github.com/battwheels/runbook/workflows"
)

// PodLoss plays scenario B: the pod goes, with the application, the database and every backup on it, and a worker elsewhere brings
// the database back from the bucket.
func PodLoss(ctx context.Context, o Options) (Result, error) {
	o.World.Offsite = true
	return play(ctx, "pod-loss", o, func(c *story) []act {
		c.merged = nil // audit entries that are newer than the backup went with the database
		return []act{
			c.live,
			c.makeBackup,
			c.seeItOffsite,
			c.goOnWorking,
			c.losePod,
			c.raiseGoneAlert,
			c.workElsewhere,
			c.seeWhatIsAsked,
			c.newPod,
			c.sayLost,
			c.approve,
			c.awaitRecovery,
			c.sabotage,
			c.judge,
			c.letPeopleBackIn,
			c.lookAtMails,
			c.lookAtReport,
			c.lookAtFacts,
		}
	})
}

func (c *story) seeItOffsite(context.Context) error {
	copied := c.backup.Offsite.Copied
	c.check("the backup was copied to the bucket", slices.Equal(copied, []string{c.backup.Backup.ID}), strings.Join(copied, ", "))
	return nil
}

// losePod kills everything in the pod while people work, and deletes its files.
func (c *story) losePod(ctx context.Context) error {
	c.result.Damage.Began = time.Now()
	c.tell("sandbox", "DISASTER: the pod is killed, with the application, the worker and the database; their files are deleted")
	if err := c.world.LosePod(ctx); err != nil {
		return err
	}
	c.result.Damage.Ended = time.Now()
	bounded, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	return c.traffic.AwaitAway(bounded)
}

// raiseGoneAlert posts the alert while no worker runs anywhere: Temporal keeps it.
func (c *story) raiseGoneAlert(ctx context.Context) error {
	c.alerted = time.Now()
	id, err := c.postAlert(ctx, world.GoneAlert, "test_database does not answer, and its pod is gone", c.result.Damage.Began)
	if err != nil {
		return err
	}
	c.tell("Alertmanager", fmt.Sprintf("%s posted to the webhook: %s", world.GoneAlert, id))
	if id != c.result.WorkflowID {
		return fmt.Errorf("the alert started %q, expected %s", id, c.result.WorkflowID)
	}
	return nil
}

func (c *story) workElsewhere(ctx context.Context) error {
	c.tell("sandbox", "a worker starts on another host, with its configuration, the bucket, and an empty directory")
	return c.world.WorkElsewhere(ctx)
}

// seeWhatIsAsked waits for the question and for the mails that go with it, and until the backup is ready.
func (c *story) seeWhatIsAsked(ctx context.Context) error {
	s, err := c.watch(ctx, func(s workflows.Status) bool {
		return strings.Contains(s.Asked, "runbook volume lost") && strings.Contains(s.Asked, "is here and proven")
	})
	if err != nil {
		return err
	}
	c.check("nothing is planned before somebody has said what became of the volume", s.Plan == nil, s.Phase)
	bounded, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	asked, err := c.world.Mail.Await(bounded, func(m mailbox.Mail) bool { return slices.Contains(m.To, world.Support) })
	if err != nil {
		return fmt.Errorf("nobody asks the platform's support for the volume: %w", err)
	}
	says := strings.Contains(asked.Text, world.Target) && strings.Contains(asked.Text, s.Incident) && strings.Contains(asked.Text, "ferretdb")
	c.check("the platform's support is asked, with target, incident and volume", says, asked.Subject)
	c.tell("support", fmt.Sprintf("gets the mail %q", asked.Subject))
	mail, err := c.world.Mail.Await(bounded, func(m mailbox.Mail) bool {
		return slices.Contains(m.To, world.OnCall) && strings.Contains(m.Text, "runbook volume lost")
	})
	if err != nil {
		return fmt.Errorf("no mail asks the engineer on call what became of the volume: %w", err)
	}
	c.tell(engineer, fmt.Sprintf("reads the mail %q", mail.Subject))
	return nil
}

// newPod is the platform's new pod: an empty database, into which somebody signs up before anything is restored.
func (c *story) newPod(ctx context.Context) error {
	if err := c.world.NewPod(ctx); err != nil {
		return err
	}
	c.newcomer = "newcomer@garage.example"
	for collection, doc := range map[string]bson.D{
		"organizations": {{Key: "_id", Value: bson.NewObjectID()}, {Key: "organization_id", Value: "org_newcomer"}, {Key: "name", Value: "Newcomer Garage"},
			{Key: "email", Value: c.newcomer}, {Key: "is_active", Value: true}},
		"users": {{Key: "_id", Value: bson.NewObjectID()}, {Key: "user_id", Value: "user_newcomer"}, {Key: "organization_id", Value: "org_newcomer"},
			{Key: "role", Value: "owner"}, {Key: "email", Value: "owner@garage.example"}, {Key: "is_active", Value: true}},
	} {
		raw, err := bson.Marshal(doc)
		if err != nil {
			return err
		}
		begin := time.Now()
		if _, err := c.world.DB.Collection(collection).InsertOne(ctx, bson.Raw(raw)); err != nil {
			return fmt.Errorf("sign up in the new database: %w", err)
		}
		c.ledger.Record(ledger.Write{Collection: collection, ID: bson.Raw(raw).Lookup("_id"), Raw: raw, Begin: begin, End: time.Now(), By: "newcomer"})
	}
	c.tell("sandbox", "the platform starts a new pod with an empty database, and a new organization signs up in it")
	return nil
}

// sayLost is the engineer's word on the volume.
func (c *story) sayLost(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	h, err := c.world.Client.UpdateWorkflow(bounded, client.UpdateWorkflowOptions{
		WorkflowID: c.result.WorkflowID, UpdateName: workflows.DoorVolumeLost, WaitForStage: client.WorkflowUpdateStageCompleted,
		Args: []any{workflows.Answer{By: engineer, Reason: "The platform's support cannot recover it"}},
	})
	if err == nil {
		err = h.Get(bounded, nil)
	}
	if err != nil {
		return fmt.Errorf("say that the volume is lost: %w", err)
	}
	c.tell(engineer, "says that the volume is lost")
	return nil
}

// lookAtFacts sees that the report tells what was observed and who said what, and that it names the users that a new server needs.
func (c *story) lookAtFacts(context.Context) error {
	err := holds(filepath.Join(c.incidentDir(), "report.md"), "PodLoss", "does not answer", "volume-lost", "battwheels (readWrite on test\\_database)")
	c.check("the report tells of the observations, of the word on the volume, and of the users that are needed", err == nil, detailOf(err, ""))
	// Nobody can count what was entered since the backup, and no copy has it: the mails must not say otherwise.
	told, wrong := 0, ""
	for _, m := range c.world.Mail.Mails() {
		text := strings.Join(strings.Fields(m.Text), " ")
		if !strings.Contains(text, "the database with it") {
			continue
		}
		told++
		if strings.Contains(text, "We keep a copy") || strings.Contains(text, "nothing of yours is missing") {
			wrong = m.Subject
		}
	}
	c.check("the organizations are told that the database was lost, and no copy is promised", told == c.result.MailsSent && wrong == "",
		fmt.Sprintf("%d mails say so; %s", told, wrong))
	return nil
}
