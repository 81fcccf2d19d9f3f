package scenario

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/battwheels/runbook/sandbox/mailbox"
	"github.com/battwheels/runbook/sandbox/world"
	"github.com/battwheels/runbook/workflows"
)

const (
	// engineer is who is on call.
	engineer = "Asha Rao"
	// lookEvery is how often the playbook's status is asked for.
	lookEvery = 200 * time.Millisecond
	// answerWithin bounds one answer of the product.
	answerWithin = 30 * time.Second
)

// execute runs a playbook to its end.
func (c *story) execute(ctx context.Context, id, playbook string, in, out any) error {
	run, err := c.world.Client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: id, TaskQueue: workflows.TaskQueue}, playbook, in)
	if err != nil {
		return fmt.Errorf("start %s: %w", id, err)
	}
	if err := run.Get(ctx, out); err != nil {
		return fmt.Errorf("%s: %w", id, err)
	}
	return nil
}

// postAlert sends what a Prometheus Alertmanager would, and returns the id of the workflow that it started.
func (c *story) postAlert(ctx context.Context, name, summary string, since time.Time) (string, error) {
	labels := map[string]string{"alertname": name, "severity": "critical", "target": world.Target, "job": "mongodb"}
	notes := map[string]string{"summary": summary}
	body, err := json.Marshal(map[string]any{
		"version": "4", "groupKey": `{}:{alertname="` + name + `"}`, "truncatedAlerts": 0, "status": "firing", "receiver": "runbook",
		"groupLabels": map[string]string{"alertname": name}, "commonLabels": labels, "commonAnnotations": notes,
		"externalURL": "http://alertmanager.example:9093",
		"alerts": []any{map[string]any{
			"status": "firing", "labels": labels, "annotations": notes, "startsAt": since.UTC(), "endsAt": time.Time{},
			"generatorURL": "http://prometheus.example:9090/graph", "fingerprint": "c4a7f2b8a1d09e33",
		}},
	})
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.world.Webhook(), bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+c.world.WebhookToken())
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", fmt.Errorf("post the alert: %w", err)
	}
	defer response.Body.Close()
	said, err := io.ReadAll(response.Body)
	if err != nil {
		return "", fmt.Errorf("post the alert: %w", err)
	}
	var answer struct {
		Incidents []struct {
			WorkflowID string `json:"workflowId"`
		} `json:"incidents"`
	}
	if err := json.Unmarshal(said, &answer); err != nil || response.StatusCode >= 300 || len(answer.Incidents) != 1 {
		return "", fmt.Errorf("the webhook answers %s: %s", response.Status, said)
	}
	return answer.Incidents[0].WorkflowID, nil
}

// approve waits for the mail that asks, reads the plan, and approves it, as the engineer on call would.
func (c *story) approve(ctx context.Context) error {
	s, err := c.watch(ctx, func(s workflows.Status) bool { return s.Asked != "" })
	if err != nil {
		return err
	}
	if s.Plan == nil || len(s.Choices) > 0 {
		return fmt.Errorf("the playbook asks something else than to approve a plan: %s", s.Asked)
	}
	plan := *s.Plan
	bounded, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	mail, err := c.world.Mail.Await(bounded, func(m mailbox.Mail) bool {
		return slices.Contains(m.To, world.OnCall) && strings.Contains(m.Text, plan.Code)
	})
	if err != nil {
		return fmt.Errorf("no mail asks the engineer on call to approve plan %s: %w", plan.Code, err)
	}
	c.tell(engineer, fmt.Sprintf("reads the mail %q", mail.Subject))
	c.result.Plan = &plan
	if c.options.Ask != nil {
		c.options.Ask(plan)
	}
	h, err := c.world.Client.UpdateWorkflow(bounded, client.UpdateWorkflowOptions{
		WorkflowID: c.result.WorkflowID, UpdateName: workflows.DoorApprove, WaitForStage: client.WorkflowUpdateStageCompleted,
		Args: []any{workflows.Answer{Plan: plan.Code, By: engineer, Reason: "The backup is older than the damage, and the plan's numbers fit"}},
	})
	if err == nil {
		err = h.Get(bounded, nil)
	}
	if err != nil {
		return fmt.Errorf("approve plan %s: %w", plan.Code, err)
	}
	c.tell(engineer, "approves plan "+plan.Code)
	return nil
}

// awaitRecovery waits until the playbook is at its end, and the application is seen healthy from outside.
func (c *story) awaitRecovery(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() { ended <- c.world.Client.GetWorkflow(ctx, c.result.WorkflowID, "").Get(ctx, &c.outcome) }()
	watching, stop := context.WithCancel(ctx)
	defer stop()
	asked := make(chan error, 1)
	go func() {
		s, err := c.watch(watching, func(s workflows.Status) bool { return s.Asked != "" })
		if err == nil {
			err = fmt.Errorf("the playbook asks once more: %s", s.Asked)
		}
		asked <- err
	}()
	select {
	case err := <-asked:
		return err
	case err := <-ended:
		stop()
		<-asked //nolint:errcheck // it was told to stop; that is its error
		if err != nil {
			return fmt.Errorf("%s: %w", c.result.WorkflowID, err)
		}
	}
	if _, err := c.look(ctx); err != nil {
		return err
	}
	c.claim()
	bounded, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	if err := c.traffic.AwaitBack(bounded); err != nil {
		return err
	}
	return c.measure()
}

// watch follows the playbook until its status is as wanted, and tells what is new in it.
func (c *story) watch(ctx context.Context, wanted func(workflows.Status) bool) (workflows.Status, error) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		s, err := c.look(ctx)
		if err == nil && wanted(s) {
			return s, nil
		}
		c.still(s.Phase)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return s, errors.Join(fmt.Errorf("watch %s: %w", c.result.WorkflowID, ctx.Err()), err)
		}
	}
}

// look asks once, and tells what is new.
func (c *story) look(ctx context.Context) (workflows.Status, error) {
	var s workflows.Status
	bounded, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	v, err := c.world.Client.QueryWorkflow(bounded, c.result.WorkflowID, "", workflows.QueryStatus)
	if err == nil {
		err = v.Get(&s)
	}
	if err != nil {
		return s, fmt.Errorf("ask %s: %w", c.result.WorkflowID, err)
	}
	for _, step := range s.Steps {
		before := c.seen[step.Name]
		if before == step.State {
			continue
		}
		c.seen[step.Name] = step.State
		switch step.State {
		case workflows.Done, workflows.Failed, workflows.Skipped:
			text := step.Name
			if step.State == workflows.Failed {
				text += " FAILED"
			}
			if step.Note != "" {
				text += ": " + step.Note
			}
			c.tell("runbook", text)
		}
	}
	return s, nil
}
