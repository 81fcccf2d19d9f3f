// Package activities holds the steps of the playbooks, a file for each concern. Each step may be run twice: its
// idempotency key comes from the incident and the step, never from the attempt. Steps call the engines in internal/
// and never each other; the order of things is the workflows'.
//
// What a step returns stands in the history for auditors: references and counts, never a document, an address or a
// secret. Big lists go to the incident's folder.
package activities

import (
	"context"
	"log/slog"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/config"
)

// Tool is what backups say wrote them.
const Tool = "runbook 0.1"

// AppName is how runbook names itself to the server, so that the proof of quiet can tell its own connections from
// foreign ones.
const AppName = "runbook"

// Base is what every group of steps needs: the configuration, and this host's own queue.
type Base struct {
	Config    *config.Config
	HostQueue string
	// Databases gives the target's database through a client that lives as long as the worker.
	Databases func(target string) (*mongo.Database, error)
	Temporal  client.Client
	Log       *slog.Logger
}

// heartbeatEvery is how often a long step tells that it lives, far below the heartbeat timeout of 30 s.
const heartbeatEvery = 5 * time.Second

// beat heartbeats the latest progress until stop is called, also while the step itself is silent: a crashed worker
// is then noticed within the heartbeat timeout, and a cancelled workflow reaches the step.
func beat(ctx context.Context) (report func(backup.Progress), stop func()) {
	latest := make(chan backup.Progress, 1)
	done := make(chan struct{})
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		tick := time.NewTicker(heartbeatEvery)
		defer tick.Stop()
		var p backup.Progress
		for {
			select {
			case <-done:
				activity.RecordHeartbeat(ctx, p)
				return
			case p = <-latest:
				activity.RecordHeartbeat(ctx, p)
			case <-tick.C:
				activity.RecordHeartbeat(ctx, p)
			}
		}
	}()
	report = func(p backup.Progress) {
		select {
		case <-latest:
		default:
		}
		select {
		case latest <- p:
		default:
		}
	}
	return report, func() { close(done); <-finished }
}
