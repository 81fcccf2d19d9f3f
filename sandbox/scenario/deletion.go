package scenario

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.temporal.io/sdk/client"

	"github.com/battwheels/runbook/internal/words"
	"github.com/battwheels/runbook/sandbox/garage"
	"github.com/battwheels/runbook/sandbox/judge"
	"github.com/battwheels/runbook/sandbox/ledger"
	"github.com/battwheels/runbook/sandbox/world"
	"github.com/battwheels/runbook/workflows"
)

const (
	// mistaken is how many invoices are deleted by mistake, audited how many of these leave an audit entry.
	mistaken, audited = 300, 100
	// atOnce is how many invoices one request deletes: FerretDB reads whole collections for it, and the application's patience is
	// bounded.
	atOnce = 10
	// calm is how many requests a second the others make, so that the deleting comes to its turn.
	calm = 4
)

// deletion is what the story of an accidental deletion has besides.
type deletion struct {
	*story
	claims    garage.Claims
	invoices  []string
	documents []ledger.Write // of the invoices, as they were made
	began     time.Time      // the deleting
	written   int64          // documents, when the playbook was started
	approved  time.Time
}

// Deletion plays scenario C: one organization deletes what it did not mean to, while everybody goes on working, and the product
// puts back exactly that.
func Deletion(ctx context.Context, o Options) (Result, error) {
	return play(ctx, "deletion", o, func(c *story) []act {
		owner := c.world.Data.Organizations[0]
		c.aside, c.rate = owner.ID, calm
		d := &deletion{story: c, claims: garage.Claims{
			OrganizationID: owner.ID, UserID: owner.Users[0].ID, Email: owner.Users[0].Email, Name: owner.Users[0].Name, Role: "owner",
		}}
		return []act{
			c.live,
			d.invoice,
			c.makeBackup,
			c.goOnWorking,
			d.deleteByMistake,
			d.goOnElsewhere,
			d.start,
			d.narrow,
			c.approve,
			d.lookAndKeep,
			d.awaitEnd,
			c.sabotage,
			d.judge,
			c.letPeopleBackIn,
			d.lookAtMails,
			c.lookAtReport,
		}
	})
}

// invoice makes the invoices, through the application.
func (d *deletion) invoice(ctx context.Context) error {
	for i := range mistaken {
		a, err := d.traffic.Call(ctx, d.claims, http.MethodPost, "/api/invoices", map[string]any{
			"notes": fmt.Sprintf("Fleet service, vehicle %d", i+1),
			"items": []map[string]any{
				{"name": "Contactor 150 A", "quantity": 1 + i%3, "rate": 1249.5 + float64(i)},
				{"name": "Labour", "quantity": 2, "rate": 650.0},
			},
		})
		if err != nil {
			return err
		}
		d.invoices = append(d.invoices, a.ID)
		for _, w := range a.Written {
			if slices.Contains([]string{"invoices", "invoice_line_items", "invoice_history"}, w.Collection) {
				d.documents = append(d.documents, ledger.Write{Collection: w.Collection, ID: bson.Raw(w.Document).Lookup("_id"), Raw: w.Document})
			}
		}
	}
	d.tell(d.claims.Name, fmt.Sprintf("has made %d invoices: %d documents", mistaken, len(d.documents)))
	return nil
}

// deleteByMistake deletes them all, as the application lets people do it: a third in the way that it audits.
func (d *deletion) deleteByMistake(ctx context.Context) error {
	d.began = time.Now()
	for n, batch := range slices.Collect(slices.Chunk(d.invoices, atOnce)) {
		path := "/api/invoices/bulk-delete"
		if n < audited/atOnce {
			path = "/api/invoices/purge"
		}
		if _, err := d.traffic.Call(ctx, d.claims, http.MethodPost, path, map[string]any{"invoice_ids": batch}); err != nil {
			return err
		}
	}
	d.tell(d.claims.Name, fmt.Sprintf("DELETES %d invoices by mistake, with their lines and their history; the audit log tells of %d", mistaken, audited))
	return nil
}

// goOnElsewhere lets the others work on, and the organization itself make something new, which must stay as it is.
func (d *deletion) goOnElsewhere(ctx context.Context) error {
	for range 3 {
		if _, err := d.traffic.Call(ctx, d.claims, http.MethodPost, "/api/invoices", map[string]any{
			"notes": "made after the mistake", "items": []map[string]any{{"name": "Labour", "quantity": 1, "rate": 650.0}},
		}); err != nil {
			return err
		}
	}
	return d.goOnWorking(ctx)
}

// start is the engineer on call, whom the organization has rung up.
func (d *deletion) start(ctx context.Context) error {
	d.alerted, d.written = time.Now(), d.traffic.Stats().Documents
	_, err := d.world.Client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: d.result.WorkflowID, TaskQueue: workflows.TaskQueue},
		"AccidentalDeletion", workflows.DeletionInput{
			Target: world.Target, Since: workflows.Since(d.began.UTC().Format(time.RFC3339)), By: engineer, Reason: "an organization misses its invoices",
		})
	if err != nil {
		return fmt.Errorf("start %s: %w", d.result.WorkflowID, err)
	}
	d.tell(engineer, "starts AccidentalDeletion")
	return nil
}

// narrow reads the table of what is missing, and says which of it is meant.
func (d *deletion) narrow(ctx context.Context) error {
	s, err := d.watch(ctx, func(s workflows.Status) bool { return s.Asked != "" })
	if err != nil {
		return err
	}
	if s.Missing == nil || len(s.Choices) > 0 {
		return fmt.Errorf("the playbook asks something else than to narrow: %s", s.Asked)
	}
	held, detail := false, "there is no such group"
	for _, g := range s.Missing.Groups {
		if g.Collection == "invoices" && g.Organization == d.claims.OrganizationID {
			held = g.Documents == mistaken && g.Audited == audited
			detail = fmt.Sprintf("%d invoices, audit entries tell of %d, between %s and %s", g.Documents, g.Audited,
				g.From.UTC().Format(time.TimeOnly), g.To.UTC().Format(time.TimeOnly))
		}
	}
	d.check("the table shows what that organization lost, and how much of it is audited", held, detail)
	d.tell(engineer, fmt.Sprintf("sees %d missing documents in %d groups; of that organization: %s", s.Missing.Documents, len(s.Missing.Groups)+s.Missing.More, detail))
	err = d.say(ctx, workflows.DoorNarrow, workflows.Answer{
		Narrowing: workflows.Narrowing{Collections: []string{"invoices"}, Organization: d.claims.OrganizationID,
			From: workflows.Since(d.began.UTC().Format(time.RFC3339))},
		By: engineer, Reason: "the customer named the day and the invoices",
	})
	if err != nil {
		return err
	}
	d.tell(engineer, "narrows it to that organization's invoices")
	_, err = d.watch(ctx, func(s workflows.Status) bool { return s.Plan != nil && s.Asked != "" })
	d.approved = time.Now()
	return err
}

func (d *deletion) say(ctx context.Context, door string, a workflows.Answer) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	h, err := d.world.Client.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: d.result.WorkflowID, UpdateName: door, WaitForStage: client.WorkflowUpdateStageCompleted, Args: []any{a},
	})
	if err == nil {
		err = h.Get(ctx, nil)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", door, err)
	}
	return nil
}

// lookAndKeep opens one of the invoices in the application, as the product asks, and says that all is well.
func (d *deletion) lookAndKeep(ctx context.Context) error {
	s, err := d.watch(ctx, func(s workflows.Status) bool { return len(s.Choices) > 0 })
	if err != nil {
		return err
	}
	if !slices.Contains(s.Choices, workflows.CarryOn) || !slices.Contains(s.Choices, workflows.RollBack) || s.Phase != "A person looks at it" {
		return fmt.Errorf("the playbook asks something else than to look: %s", s.Asked)
	}
	_, err = d.traffic.Call(ctx, d.claims, http.MethodGet, "/api/invoices/"+d.invoices[0], nil)
	d.check("the application shows an invoice that was deleted", err == nil, detailOf(err, d.invoices[0]))
	if err := d.say(ctx, workflows.DoorDecide, workflows.Answer{Choice: workflows.CarryOn, By: engineer, Reason: "the invoices are there again"}); err != nil {
		return err
	}
	d.tell(engineer, "opens an invoice in the application, and keeps what was put back")
	return nil
}

// awaitEnd waits for the playbook's end, and holds what it says against what was seen.
func (d *deletion) awaitEnd(ctx context.Context) error {
	if err := d.world.Client.GetWorkflow(ctx, d.result.WorkflowID, "").Get(ctx, &d.outcome); err != nil {
		return fmt.Errorf("%s: %w", d.result.WorkflowID, err)
	}
	if _, err := d.look(ctx); err != nil {
		return err
	}
	o, u, r := d.outcome, d.outcome.Undelete, &d.result
	if u == nil {
		return errors.New("the playbook does not say what it put back")
	}
	// The report names the plan of a restore there; this one's is the undelete's.
	if u.Plan != nil {
		d.outcome.Restore.Plan = u.Plan.Code
	}
	r.Incident, r.RTOSeconds = o.Incident, u.BackAt.Sub(d.alerted).Seconds()
	r.DocumentsRestored = u.PutBack.Insert
	r.Claimed = Claimed{Outcome: string(o.Outcome), RTOSeconds: o.RTOSeconds, DocumentsRestored: u.PutBack.Insert}
	d.check("the playbook says that the documents are back", o.Outcome == workflows.Recovered, o.Summary)
	d.check("exactly what was deleted by mistake was put back", u.PutBack.Insert == int64(len(d.documents)),
		fmt.Sprintf("%d documents put back, %d deleted", u.PutBack.Insert, len(d.documents)))
	d.check("the application was never away", len(d.traffic.Outages()) == 0, fmt.Sprintf("%d outages", len(d.traffic.Outages())))
	meanwhile := d.traffic.Stats().Documents - d.written
	d.check("others went on writing all the while", meanwhile > 0, fmt.Sprintf("%d documents written while the playbook ran", meanwhile))
	_, err := os.Stat(filepath.Join(d.incidentDir(), "undelete", "undo.jsonl"))
	d.check("the undo file lies in the incident's folder", err == nil, detailOf(err, "undelete/undo.jsonl"))
	return nil
}

// judge reads the whole database, with the deleted documents back in the ledger, while nobody writes.
func (d *deletion) judge(ctx context.Context) error {
	if err := d.traffic.Pause(ctx); err != nil {
		return err
	}
	for _, w := range d.documents {
		w.Begin, w.End, w.By = d.approved, d.outcome.Undelete.BackAt, "the undelete"
		d.ledger.Record(w)
	}
	now := time.Now()
	v, err := judge.Judge(ctx, d.world.DB, d.ledger.Expect(ledger.Cut{Window: ledger.Window{From: now, To: now}}))
	if err != nil {
		return err
	}
	d.result.Verdict = v
	d.result.DocumentsLost = int64(v.Lost.Total())
	detail := fmt.Sprintf("%s documents and %d indexes in %d collections read", words.Number(int64(v.Documents)), v.Indexes, v.Collections)
	if !v.Recovered {
		detail = fmt.Sprintf("%d differences, the first: %s", v.Differing, v.Differences[0])
	}
	d.check("the database is what the acknowledged writes and exactly those documents make of it, byte for byte", v.Recovered, detail)
	d.tell("judge", detail)
	return nil
}

// lookAtMails sees that nobody outside was written to.
func (d *deletion) lookAtMails(context.Context) error {
	outside, inside := 0, 0
	for _, m := range d.world.Mail.Mails() {
		for _, to := range m.To {
			if to == world.OnCall || to == world.Escalation {
				inside++
			} else {
				outside++
			}
		}
	}
	d.check("no organization was written to, and the people on call were", outside == 0 && inside > 0, fmt.Sprintf("%d mails outside, %d inside", outside, inside))
	return nil
}
