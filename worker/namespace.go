package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/battwheels/runbook/activities"
)

// retention is how long a namespace that we make keeps the histories of closed workflows. They are the audit trail of every
// incident; a server's default is often 3 days or less.
const retention = 90 * 24 * time.Hour

// shortRetention is what is too short to look into an incident of last month.
const shortRetention = 30 * 24 * time.Hour

// PrepareNamespace makes what playbooks need of Temporal, where it is missing and may be made: the namespace of Temporal's
// standard environment, and the search attributes by which incidents are found. On Temporal Cloud, and wherever an administrator
// makes these things, it only says what is missing: the playbooks run without search attributes.
func PrepareNamespace(ctx context.Context, c client.Client, log *slog.Logger) error {
	name := Namespace()
	log = log.With("namespace", name)
	if err := ensureNamespace(ctx, c, name, log); err != nil {
		return err
	}
	if err := ensureSearchAttributes(ctx, c, name); err != nil {
		log.Info("playbooks cannot be found by target and phase in the Temporal Web UI, and run all the same: "+
			"the namespace's search attributes could not be made",
			"error", err, "command", "temporal operator search-attribute create --namespace "+name+
				" --type Keyword --name "+strings.Join(activities.Attributes(), " --type Keyword --name "))
	}
	return nil
}

func ensureNamespace(ctx context.Context, c client.Client, name string, log *slog.Logger) error {
	d, err := c.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: name})
	switch {
	case err == nil:
		if kept := d.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration(); kept < shortRetention {
			log.Info("histories of closed incidents are deleted early; each incident's folder keeps its own copy",
				"retention", kept, "command", "temporal operator namespace update --namespace "+name+" --retention 90d")
		}
		return nil
	case is[*serviceerror.PermissionDenied](err), is[*serviceerror.Unimplemented](err):
		return nil // Who may not look may well work.
	case !is[*serviceerror.NamespaceNotFound](err):
		return fmt.Errorf("look at the namespace %s: %w", name, err)
	}
	_, err = c.WorkflowService().RegisterNamespace(ctx, &workflowservice.RegisterNamespaceRequest{
		Namespace: name, Description: "Recovery playbooks of runbook.", WorkflowExecutionRetentionPeriod: durationpb.New(retention),
	})
	switch {
	case err == nil:
		log.Info("made the namespace", "retention", retention)
	case is[*serviceerror.NamespaceAlreadyExists](err): // by another worker, this moment
	default:
		return fmt.Errorf("the namespace %s does not exist, and could not be made (set TEMPORAL_NAMESPACE, or make it): %w", name, err)
	}
	return awaitNamespace(ctx, c, name)
}

// awaitNamespace waits until a new namespace can be used: servers hear of it one after the other.
func awaitNamespace(ctx context.Context, c client.Client, name string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := c.WorkflowService().ListOpenWorkflowExecutions(ctx, &workflowservice.ListOpenWorkflowExecutionsRequest{
			Namespace: name, MaximumPageSize: 1,
		})
		if !is[*serviceerror.NamespaceNotFound](err) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the new namespace %s cannot be used yet: %w", name, err)
		}
	}
}

func ensureSearchAttributes(ctx context.Context, c client.Client, namespace string) error {
	have, err := c.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: namespace})
	if err != nil {
		return err
	}
	missing := map[string]enums.IndexedValueType{}
	for _, name := range activities.Attributes() {
		switch kind, there := have.GetCustomAttributes()[name]; {
		case !there:
			missing[name] = enums.INDEXED_VALUE_TYPE_KEYWORD
		case kind != enums.INDEXED_VALUE_TYPE_KEYWORD:
			return fmt.Errorf("%s exists with the type %s, and Keyword is needed", name, kind)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	_, err = c.OperatorService().AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{
		Namespace: namespace, SearchAttributes: missing,
	})
	if is[*serviceerror.AlreadyExists](err) {
		return nil
	}
	return err
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
