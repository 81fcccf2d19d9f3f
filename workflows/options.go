package workflows

import (
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// hostWait is how long a step that needs a host's disk waits for a worker there before a person is asked.
const hostWait = 10 * time.Minute

// retries bounds a step's attempts: with its backoff, about half an hour of a database or disk that does not answer.
// After that a person is asked, who may say retry.
var retries = temporal.RetryPolicy{
	InitialInterval:    time.Second,
	BackoffCoefficient: 2,
	MaximumInterval:    2 * time.Minute,
	MaximumAttempts:    20,
}

// quick is for steps that read or write little, on any worker.
func quick(ctx workflow.Context, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: time.Minute,
		RetryPolicy:         &retries,
		Summary:             summary,
	})
}

// onHost is for steps that read or write little, on the host that has the backups.
func onHost(ctx workflow.Context, queue, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:              queue,
		ScheduleToStartTimeout: hostWait,
		StartToCloseTimeout:    time.Minute,
		RetryPolicy:            &retries,
		Summary:                summary,
	})
}

// long is for steps that move data, on the host that has the backups.
func long(ctx workflow.Context, queue, summary string, most time.Duration) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:              queue,
		ScheduleToStartTimeout: hostWait,
		StartToCloseTimeout:    most,
		HeartbeatTimeout:       30 * time.Second,
		WaitForCancellation:    true,
		RetryPolicy:            &retries,
		Summary:                summary,
	})
}

// patient is for the mail service, which may be down for hours: the recovery does not wait for it.
func patient(ctx workflow.Context, queue, summary string) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		TaskQueue:              queue,
		ScheduleToCloseTimeout: 24 * time.Hour, // as long as the service remembers an idempotency key
		StartToCloseTimeout:    2 * time.Minute,
		HeartbeatTimeout:       10 * time.Second, // a killed worker holds up everybody who has not been told
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval:    2 * time.Second,
			BackoffCoefficient: 2,
			MaximumInterval:    5 * time.Minute,
			MaximumAttempts:    1000, // the 24 hours end first
		},
		Summary: summary,
	})
}

// longest bounds one attempt of a step that moves the whole database.
const longest = 12 * time.Hour

// One attempt at stopping or starting an application. Each of its programs has a bound of its own in the configuration, which tells
// better what is the matter; a pod may be given long to end, and have a large image to fetch.
const (
	stopWithin  = time.Hour
	startWithin = 2 * time.Hour
)
