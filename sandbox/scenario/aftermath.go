package scenario

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	enums "go.temporal.io/api/enums/v1"

	"github.com/battwheels/runbook/sandbox/ledger"
	"github.com/battwheels/runbook/sandbox/seed"
	"github.com/battwheels/runbook/sandbox/world"
	"github.com/battwheels/runbook/workflows"
)

// lookAtMails holds what the mail service received against the organizations that had to be told.
func (c *story) lookAtMails(context.Context) error {
	// An organization whose own address is none may be told through its owner, or be named as undeliverable.
	must, may := map[string]bool{}, map[string]bool{}
	active := 0
	for _, o := range c.world.Data.Organizations {
		if !o.Active {
			continue
		}
		active++
		switch o.Reach {
		case seed.Direct, seed.ViaOwner:
			must[o.Address()] = true
		case seed.BadAddress:
			may[o.Users[0].Email] = o.Users[0].Active
		}
	}
	if c.newcomer != "" { // it loses everything: nobody has more to be told
		must[c.newcomer] = true
		active++
	}
	got, sent := map[string]int{}, 0
	for _, m := range c.world.Mail.Mails() {
		for _, to := range m.To {
			if to != world.OnCall && to != world.Escalation && to != world.Support {
				got[to]++
				sent++
			}
		}
	}
	var wrong []string
	for to := range must {
		if got[to] == 0 {
			wrong = append(wrong, to+" was not written to")
		}
	}
	for to, n := range got {
		switch {
		case !must[to] && !may[to]:
			wrong = append(wrong, to+" was not to be written to")
		case n > 1:
			wrong = append(wrong, fmt.Sprintf("%s was written to %d times", to, n))
		}
	}
	slices.Sort(wrong)
	r := &c.result
	r.MailsSent, r.OrganizationsActive, r.MailsUndeliverable = sent, active, active-len(got)
	detail := fmt.Sprintf("%d of %d active organizations told, %d without a working address", sent, active, r.MailsUndeliverable)
	if len(wrong) > 0 {
		detail = fmt.Sprintf("%d differences, the first: %s", len(wrong), wrong[0])
	}
	c.check("every active organization was told once, and nobody else", len(wrong) == 0, detail)
	c.check("the playbook counts the mails right",
		r.Claimed.MailsSent == sent && r.Claimed.MailsUndeliverable == r.MailsUndeliverable && r.Claimed.OrganizationsActive == active,
		fmt.Sprintf("%d sent, %d undeliverable, %d active organizations", r.Claimed.MailsSent, r.Claimed.MailsUndeliverable, r.Claimed.OrganizationsActive))
	c.tell("sandbox", detail)
	return nil
}

// lookAtReport waits for the draft, and sees that the report stays open until somebody posts it.
func (c *story) lookAtReport(ctx context.Context) error {
	id := c.outcome.Report
	bounded, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := c.awaitDraft(bounded, id)
	path := filepath.Join(c.incidentDir(), "report.html")
	if err == nil {
		err = holds(path, c.outcome.Incident, c.outcome.Restore.Plan, engineer)
	}
	if err == nil {
		c.result.Report = path
		c.tell("runbook", "the incident report is drafted, and stays open until it is posted")
	}
	c.check("the report is drafted, and open until it is posted", err == nil, detailOf(err, id))
	return ctx.Err()
}

func (c *story) awaitDraft(ctx context.Context, id string) error {
	if id == "" {
		return errors.New("no report was opened")
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		v, err := c.world.Client.QueryWorkflow(ctx, id, "", workflows.QueryStatus)
		var s workflows.Status
		if err == nil {
			err = v.Get(&s)
		}
		if err == nil && s.Asked != "" {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%s asks nobody to post it: %w", id, ctx.Err()), err)
		}
	}
	d, err := c.world.Client.DescribeWorkflowExecution(ctx, id, "")
	if err != nil {
		return fmt.Errorf("describe %s: %w", id, err)
	}
	if status := d.GetWorkflowExecutionInfo().GetStatus(); status != enums.WORKFLOW_EXECUTION_STATUS_RUNNING {
		return fmt.Errorf("%s is %s", id, status)
	}
	return nil
}

// holds sees that a file has all of these words.
func holds(path string, all ...string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for _, s := range all {
		if !strings.Contains(string(b), s) {
			return fmt.Errorf("%s does not say %q", path, s)
		}
	}
	return nil
}

// checkSafetyDump sees that everything that was acknowledged after the damage, until the application stopped, lies in the final
// safety dump: what a restore takes away, it must be able to give back.
func (c *story) checkSafetyDump() error {
	last, err := lastWrites(c.ledger, c.result.Damage.Ended)
	if err != nil {
		return err
	}
	dir := filepath.Join(c.world.StorageDir(), "backups", world.Target, c.outcome.Restore.SafetyDump, world.Database)
	missing, written := 0, 0
	for collection, docs := range last {
		kept, err := dumped(filepath.Join(dir, collection+".bson.gz"))
		if err != nil {
			return fmt.Errorf("read the safety dump: %w", err)
		}
		for _, doc := range docs {
			written++
			if !kept[string(doc)] && !c.expected.Uncertain(collection, doc) {
				missing++
			}
		}
	}
	detail := fmt.Sprintf("%d documents written between the damage and the stop", written)
	if missing > 0 {
		detail = fmt.Sprintf("%d of %s are not in it", missing, detail)
	}
	c.check("every write until the stop lies in the final safety dump", missing == 0 && written > 0, detail)
	return nil
}

// lastWrites returns the last state of each document that was surely written after a moment, by collection.
func lastWrites(l *ledger.Ledger, after time.Time) (map[string]map[string][]byte, error) {
	var b bytes.Buffer
	if err := l.Save(&b); err != nil {
		return nil, err
	}
	all := map[string]map[string][]byte{}
	for d := json.NewDecoder(&b); d.More(); {
		var w struct {
			Begin      time.Time `json:"begin"`
			Collection string    `json:"collection"`
			ID         string    `json:"id"`
			Maybe      bool      `json:"maybe"`
			Document   []byte    `json:"document"`
		}
		if err := d.Decode(&w); err != nil {
			return nil, fmt.Errorf("read the ledger: %w", err)
		}
		if w.Begin.Before(after) {
			continue
		}
		if all[w.Collection] == nil {
			all[w.Collection] = map[string][]byte{}
		}
		// A deletion, and a write that nobody answered, leave nothing that must be there.
		if w.Document == nil || w.Maybe {
			delete(all[w.Collection], w.ID)
			continue
		}
		all[w.Collection][w.ID] = w.Document
	}
	return all, nil
}

// dumped reads a dump's file of documents with nothing of the product's.
func dumped(path string) (map[string]bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(bufio.NewReader(f))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	docs := map[string]bool{}
	for {
		var length [4]byte
		_, err := io.ReadFull(z, length[:])
		if errors.Is(err, io.EOF) {
			return docs, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		size := binary.LittleEndian.Uint32(length[:])
		if size < 5 || size > 16<<20 {
			return nil, fmt.Errorf("%s: a document of %d bytes", path, size)
		}
		doc := make([]byte, size)
		copy(doc, length[:])
		if _, err := io.ReadFull(z, doc[4:]); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		docs[string(doc)] = true
	}
}
