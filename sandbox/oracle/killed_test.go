package oracle

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/catalog"
	"github.com/battwheels/runbook/internal/mongotest"
)

// tables is how many collections the database has whose dump is killed.
const tables = 6

const (
	wholeDump  = "shop_20260224_020000"
	killedDump = "shop_20260225_020000"
)

// moments are the commands by which mongodump can be seen to go on to its next collection: it asks what the collection is before
// its file exists, and begins to read it when the file is there and empty.
var moments = []struct {
	name string
	is   func(command string, doc bson.Raw) bool
}{
	{name: "before its file exists", is: func(command string, doc bson.Raw) bool {
		_, err := doc.LookupErr("filter", "name")
		return command == "listCollections" && err == nil
	}},
	{name: "while its file is empty", is: func(command string, _ bson.Raw) bool { return command == "find" }},
}

// end is where a mongodump is killed.
type end struct {
	form   []string
	moment func(command string, doc bson.Raw) bool
	nth    int
	jobs   string // collections at a time
	// lastOpened says that each file is a whole one by itself: the last one is empty, as an empty collection's is. Only the dump
	// before it tells.
	lastOpened bool
}

// ends names every end that is tried.
func ends() map[string]end {
	all := map[string]end{}
	for _, form := range forms {
		for m, moment := range moments {
			for _, nth := range []int{1, 2, tables / 2, tables} {
				name := fmt.Sprintf("%s, collection %d, %s", form.name, nth, moment.name)
				all[name] = end{form: form.args, moment: moment.is, nth: nth, jobs: "1", lastOpened: m == 1 && form.args == nil && nth == tables}
				if m == 0 {
					all[name+", side by side"] = end{form: form.args, moment: moment.is, nth: nth, jobs: "4"}
				}
			}
		}
	}
	return all
}

// TestAStockDumpThatWasKilledIsNeverChosen kills a real mongodump, a process of its own, right when it goes on to another
// collection. The files are all there is to tell: no log says how the dump ended.
func TestAStockDumpThatWasKilledIsNeverChosen(t *testing.T) {
	for name, e := range ends() {
		t.Run(name, func(t *testing.T) {
			c := catalogOf(t, twoDumps(t, e))
			entries, newest := passedOver(t, c)
			if e.lastOpened {
				require.Contains(t, newest.Why, "held documents in foreign/"+wholeDump+" before it and not one now, and no log says that its dump finished")
				return
			}
			require.Equal(t, catalog.Incomplete, newest.Entry.State)
			require.Contains(t, newest.Why, "It is half-written and cannot be restored")
			_, err := c.Choose(entries, time.Time{}, newest.Entry.ID)
			require.ErrorContains(t, err, "it is half-written and cannot be restored", "not even when a person names it")
		})
	}
}

// TestAKilledStockDumpIsNeverChosenWhereTheLogDoesNotSayThatItFinished has the log of the script that called mongodump too.
func TestAKilledStockDumpIsNeverChosenWhereTheLogDoesNotSayThatItFinished(t *testing.T) {
	log := fmt.Sprintf(`[2026-02-24 02:00:00] Starting MongoDB backup
[2026-02-24 02:00:09] Backup complete: /backups/%s (%d collection files)
[2026-02-24 02:00:09] Backup job finished successfully
[2026-02-25 02:00:00] Starting MongoDB backup
`, wholeDump, tables)
	for name, e := range ends() {
		t.Run(name, func(t *testing.T) {
			c := catalogOf(t, twoDumps(t, e))
			c.Foreign[0].Log = filepath.Join(t.TempDir(), "backup.log")
			require.NoError(t, os.WriteFile(c.Foreign[0].Log, []byte(log), 0o600))
			_, newest := passedOver(t, c)
			if e.lastOpened {
				require.Contains(t, newest.Why, "the log does not say that the run that made it finished")
				return
			}
			require.Contains(t, newest.Why, "It is half-written and cannot be restored")
		})
	}
}

// twoDumps makes a directory with a whole dump, and with a newer one that was killed.
func twoDumps(t *testing.T, e end) (dumps string) {
	t.Helper()
	server := mongotest.Start(t)
	db := server.Client(t).Database(shop)
	for i := range tables {
		insert(t, db, fmt.Sprintf("table_%d", i), 50)
	}
	dumps = t.TempDir()
	stockDump(t, server.URI(), shop, filepath.Join(dumps, wholeDump), e.form...)
	killed := filepath.Join(dumps, killedDump)
	args := append(dumpArgs(server.URI(), shop, killed, e.form...), "--numParallelCollections", e.jobs)
	killedAt(t, server, e.moment, e.nth, args)
	require.DirExists(t, filepath.Join(killed, shop), "the dump had begun")
	return dumps
}

// passedOver makes sure that the older dump is chosen and can be trusted, and returns what was thought of the newer one.
func passedOver(t *testing.T, c *catalog.Catalog) ([]catalog.Entry, catalog.Candidate) {
	t.Helper()
	entries, err := c.List(t.Context())
	require.NoError(t, err)
	choice, err := c.Choose(entries, time.Time{}, "")
	require.NoError(t, err)
	require.Equal(t, wholeDump, choice.Entry.Name)
	require.Len(t, choice.Candidates, 2)
	newest := choice.Candidates[0]
	require.Equal(t, killedDump, newest.Entry.Name)
	require.False(t, newest.Eligible)
	verified, _, err := c.Verify(t.Context(), choice.Entry.ID, nil)
	require.NoError(t, err)
	require.Equal(t, catalog.Verified, verified.State)
	require.EqualValues(t, tables*50, verified.Documents)
	return entries, newest
}

// killedAt runs mongodump and kills it when the server sees the nth such command, which is never answered.
func killedAt(t *testing.T, server *mongotest.Server, is func(string, bson.Raw) bool, nth int, args []string) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	child := exec.Command(self, args...)
	child.Env = append(os.Environ(), asMongodump+"=1")
	var output bytes.Buffer
	child.Stdout, child.Stderr = &output, &output

	var seen atomic.Int64
	reached, gone := make(chan struct{}), make(chan struct{})
	remove := server.OnCommand(func(database, command string, doc bson.Raw) {
		if database == shop && is(command, doc) && seen.Add(1) == int64(nth) {
			close(reached)
			<-gone
		}
	})
	defer remove()
	require.NoError(t, child.Start())
	ended := make(chan error, 1)
	go func() {
		ended <- child.Wait()
		close(gone)
	}()
	select {
	case <-reached:
		require.NoError(t, child.Process.Kill())
		require.ErrorContains(t, <-ended, "signal: killed")
	case err := <-ended:
		require.FailNow(t, "mongodump ended before it came that far", "%v: %s", err, &output)
	}
}
