package bench

import (
	"context"
	"io"
	"log/slog"
	"os"
	"runtime"
	"time"

	"github.com/battwheels/runbook/internal/mongotest"
	"github.com/battwheels/runbook/internal/restore"
	"github.com/battwheels/runbook/sandbox/ferret"
	"github.com/battwheels/runbook/sandbox/process"
)

// server is a kind of server to measure on.
type server struct {
	name   string
	shapes []Shape
	works  []Work
	start  func(ctx context.Context, work Work, dir string) (running, error)
	// more are further arguments that the stock mongorestore needs here.
	more []string
	// bare databases have no indexes of their own: for servers to which mongorestore cannot bring any.
	bare bool
}

// running is a server that runs.
type running struct {
	uri  string
	stop func()
}

// The servers. Nothing that is measured depends on a disk but FerretDB's.
var servers = []server{
	{name: "in memory", shapes: full, works: []Work{DumpWork, RestoreWork}, start: inMemory(mongotest.WithDiscard(restore.LeaseCollection))},
	{
		name: "30 µs a document", shapes: full, works: []Work{RestoreWork},
		start: inMemory(mongotest.WithDiscard(restore.LeaseCollection), mongotest.WithInsertCost(30*time.Microsecond)),
	},
	{name: "FerretDB", shapes: small, works: []Work{DumpWork, RestoreWork}, start: onFerret, more: []string{"--noIndexRestore"}, bare: true},
}

func (s server) measures(work Work) bool {
	for _, w := range s.works {
		if w == work {
			return true
		}
	}
	return false
}

// inMemory starts a server that holds what is dumped, and throws away what is restored: what is then measured is the client.
func inMemory(restoring ...mongotest.Option) func(context.Context, Work, string) (running, error) {
	return func(_ context.Context, work Work, _ string) (running, error) {
		var o []mongotest.Option
		if work == RestoreWork {
			o = restoring
		}
		s, err := mongotest.New(o...)
		if err != nil {
			return running{}, err
		}
		return running{s.URI(), func() {
			_ = s.Close()
			// The next server's documents need the place of this one's.
			runtime.GC()
		}}, nil
	}
}

func onFerret(ctx context.Context, _ Work, dir string) (running, error) {
	ports, err := process.FreePorts(1)
	if err != nil {
		return running{}, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return running{}, err
	}
	f, err := ferret.Start(ctx, ferret.Config{Dir: dir, Port: ports[0], Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		return running{}, err
	}
	return running{f.URI(), func() {
		_ = f.Stop(context.WithoutCancel(ctx))
	}}, nil
}

// cores is how many the tools and the server share.
func cores() int { return runtime.GOMAXPROCS(0) }
