package dump

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.uber.org/goleak"

	"github.com/battwheels/runbook/internal/mongotest"
)

// The test program becomes the dumping process when it is started with these.
const (
	childURI     = "RUNBOOK_TEST_DUMP_URI"
	childOptions = "RUNBOOK_TEST_DUMP_OPTIONS"
	childFine    = "RUNBOOK_TEST_DUMP_FINE"   // read in small ranges
	childWhole   = "RUNBOOK_TEST_DUMP_WHOLE"  // read each collection by one cursor
	childStatus  = "RUNBOOK_TEST_DUMP_STATUS" // where the process tells what it needed
	childZstd    = "RUNBOOK_TEST_DUMP_ZSTD"
)

func TestMain(m *testing.M) {
	if uri := os.Getenv(childURI); uri != "" {
		err := child(uri)
		if told := os.Getenv(childStatus); told != "" && err == nil {
			var status []byte
			if status, err = os.ReadFile("/proc/self/status"); err == nil {
				err = os.WriteFile(told, status, 0o600)
			}
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

func child(uri string) error {
	var o Options
	if err := json.Unmarshal([]byte(os.Getenv(childOptions)), &o); err != nil {
		return err
	}
	client, err := mongo.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		return err
	}
	if os.Getenv(childMinimal) != "" {
		return minimal(context.Background(), client.Database("shop"))
	}
	if os.Getenv(childZstd) != "" {
		o.Compression = Zstd
	}
	around := quick
	if os.Getenv(childWhole) != "" {
		around.splitting.above = math.MaxInt64
	}
	if os.Getenv(childFine) != "" {
		around = fine
	}
	_, err = start(context.Background(), client.Database("shop"), o, around)
	return err
}

// process starts a dump in a process of its own.
func process(t *testing.T, server *mongotest.Server, o Options, env ...string) *exec.Cmd {
	t.Helper()
	encoded, err := json.Marshal(struct {
		Root, Name, Target, Tool string
		Parallel                 int
	}{o.Root, o.Name, o.Target, o.Tool, o.Parallel})
	require.NoError(t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), childURI+"="+server.URI(), childOptions+"="+string(encoded)), env...)
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	return cmd
}

func TestKilledDumpCarriesOn(t *testing.T) {
	server, db := inMemory(t)
	want := map[string][]bson.Raw{}
	for i := range 12 {
		name := fmt.Sprintf("collection_%02d", i)
		want[name] = fill(t, db, name, numbered(t, 3000)...)
	}
	// The process is killed while it waits for the ninth collection: eight are whole by then, as it reads one at a time.
	reached, hold := make(chan struct{}), make(chan struct{})
	server.Fail(mongotest.Fault{Command: "find", Namespace: "shop.collection_08", Times: 1, Hold: hold})
	remove := server.OnCommand(func(_, cmd string, doc bson.Raw) {
		if name, _ := doc.Lookup(cmd).StringValueOK(); cmd == "find" && name == "collection_08" {
			close(reached)
		}
	})
	o := opts(t)
	o.Parallel = 1
	cmd := process(t, server, o)
	<-reached
	_, err := Run(t.Context(), db, o)
	require.ErrorAs(t, err, new(*BusyError), "while the process lives, nobody else writes")
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	close(hold)
	remove()

	read := finds(server)
	s := proven(t, db, o)
	for i := range 12 {
		name := fmt.Sprintf("collection_%02d", i)
		requireSame(t, want[name], contents(t, s, name))
		if i < 8 {
			require.Zero(t, read(name), name)
		} else {
			require.Equal(t, 1, read(name), name)
		}
	}
}

// TestDumpKilledAtAnyMomentCarriesOn kills the dumping process while the server holds its nth read, for fifty different n. The next attempt gives
// the same digests, and reads at most one range for each cursor again.
func TestDumpKilledAtAnyMomentCarriesOn(t *testing.T) {
	const cursors = 3
	server, db := inMemory(t)
	large := []string{"invoices", "payments", "tickets"}
	fill(t, db, large[0], numbered(t, 2000)...)
	fill(t, db, large[1], tenTypes(t, 150)...)
	fill(t, db, large[2], numbered(t, 1000)...)
	for i := range 10 {
		fill(t, db, fmt.Sprintf("small_%d", i), numbered(t, 20)...)
	}
	var reads, ranges atomic.Int64 // of documents; of those, the ones that begin a range
	moment := make(chan int64, 1)
	reached, hold := make(chan struct{}), make(chan struct{})
	server.OnCommand(func(_, cmd string, doc bson.Raw) {
		if cmd != "find" && cmd != "getMore" || doc.Lookup("projection").Type != 0 {
			return
		}
		if doc.Lookup("filter").Type != 0 {
			ranges.Add(1)
		}
		n := reads.Add(1)
		select {
		case at := <-moment:
			if n < at {
				moment <- at
				return
			}
			close(reached)
			<-hold
		default:
		}
	})
	o := opts(t)
	o.Parallel = cursors
	whole := provenIn(t, db, o, fine).Manifest
	total, inRanges := reads.Load(), ranges.Load()
	for _, name := range large {
		require.NotEmpty(t, whole.Collection(name).Ranges)
	}
	random := rand.New(rand.NewPCG(3, 14))
	for round := range 50 {
		reads.Store(0)
		ranges.Store(0)
		reached, hold = make(chan struct{}), make(chan struct{})
		moment <- 1 + random.Int64N(total-cursors)
		o.Name = fmt.Sprintf("killed-%02d", round)
		cmd := process(t, server, o, childFine+"=yes")
		<-reached
		require.NoError(t, cmd.Process.Kill())
		require.Error(t, cmd.Wait())
		close(hold)

		m := provenIn(t, db, o, fine).Manifest
		require.LessOrEqual(t, ranges.Load(), inRanges+cursors, "round %d", round)
		for _, c := range whole.Collections {
			require.Equal(t, c.Digest, m.Collection(c.Name).Digest, "round %d: %s", round, c.Name)
			require.Equal(t, c.Ranges != nil, m.Collection(c.Name).Ranges != nil)
		}
	}
}
