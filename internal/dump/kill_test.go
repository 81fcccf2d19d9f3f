package dump

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
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
)

func TestMain(m *testing.M) {
	if uri := os.Getenv(childURI); uri != "" {
		if err := child(uri); err != nil {
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
	_, err = Run(context.Background(), client.Database("shop"), o)
	return err
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
	encoded, err := json.Marshal(struct {
		Root, Name, Target, Tool string
		Parallel                 int
	}{o.Root, o.Name, o.Target, o.Tool, o.Parallel})
	require.NoError(t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childURI+"="+server.URI(), childOptions+"="+string(encoded))
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	<-reached
	_, err = Run(t.Context(), db, o)
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
