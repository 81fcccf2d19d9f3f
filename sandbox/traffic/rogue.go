package traffic

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/battwheels/runbook/sandbox/document"
	"github.com/battwheels/runbook/sandbox/ledger"
)

// Rogue is a second writer that nobody configured: a forgotten job that writes to the database past the application,
// and so goes on when the application is stopped. A restore must notice it and name it.
type Rogue struct {
	client *mongo.Client
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu      sync.Mutex
	written int
	err     error
}

// RogueCollection is what the rogue writes to.
const RogueCollection = "event_log"

// StartRogue lets a second writer insert one document at every interval, with a connection that names itself appName.
// The ledger may be nil.
func StartRogue(ctx context.Context, uri, database, appName string, every time.Duration, l *ledger.Ledger) (*Rogue, error) {
	client, err := mongo.Connect(options.Client().ApplyURI(uri).SetAppName(appName))
	if err != nil {
		return nil, fmt.Errorf("rogue writer: %w", err)
	}
	if l == nil {
		l = ledger.New()
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &Rogue{client: client, cancel: cancel}
	collection := client.Database(database).Collection(RogueCollection)
	r.done.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			if err := r.write(ctx, collection, appName, l); err != nil {
				r.mu.Lock()
				r.err = errors.Join(r.err, err)
				r.mu.Unlock()
				return
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	return r, nil
}

func (r *Rogue) write(ctx context.Context, c *mongo.Collection, appName string, l *ledger.Ledger) error {
	raw, err := bson.Marshal(document.Of("_id", bson.NewObjectID(), "event", "import", "source", appName, "at", time.Now().UTC()))
	if err != nil {
		return err
	}
	w := ledger.Write{Collection: c.Name(), ID: bson.Raw(raw).Lookup("_id"), Raw: raw, Begin: time.Now(), By: appName}
	_, err = c.InsertOne(context.WithoutCancel(ctx), bson.Raw(raw))
	w.End, w.Maybe = time.Now(), err != nil
	l.Record(w)
	if err != nil {
		return fmt.Errorf("rogue writer: %w", err)
	}
	r.mu.Lock()
	r.written++
	r.mu.Unlock()
	return nil
}

// Stop ends the writer, and returns how many documents it wrote.
func (r *Rogue) Stop(ctx context.Context) (int, error) {
	r.cancel()
	r.done.Wait()
	err := errors.Join(r.err, r.client.Disconnect(ctx))
	return r.written, err
}
