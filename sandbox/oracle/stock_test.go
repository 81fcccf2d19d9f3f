package oracle

import (
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/mongodb/mongo-tools/common/log"
	"github.com/mongodb/mongo-tools/mongodump"
	"github.com/mongodb/mongo-tools/mongorestore"
	"github.com/stretchr/testify/require"
)

// asMongodump, set in the environment, makes the test binary a mongodump: a process of its own, which can be killed.
const asMongodump = "RUNBOOK_ORACLE_AS_MONGODUMP"

func TestMain(m *testing.M) {
	if os.Getenv(asMongodump) != "" {
		if err := mongodumpWith(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// The tools have one log for the whole process. What matters of it comes back as errors and counts.
	log.SetWriter(io.Discard)
	os.Exit(m.Run())
}

// mongodumpWith is mongodump's own main, without its progress bars and signals.
func mongodumpWith(args []string) error {
	o, err := mongodump.ParseOptions(args, "oracle", "")
	if err != nil {
		return err
	}
	log.SetVerbosity(o.Verbosity)
	d := mongodump.MongoDump{ToolOptions: o.ToolOptions, InputOptions: o.InputOptions, OutputOptions: o.OutputOptions}
	if err := d.Init(); err != nil {
		return err
	}
	return d.Dump()
}

// stockDump makes a dump as the stock tool does, in the given directory.
func stockDump(t *testing.T, uri, database, dir string, more ...string) {
	t.Helper()
	require.NoError(t, mongodumpWith(dumpArgs(uri, database, dir, more...)))
}

func dumpArgs(uri, database, dir string, more ...string) []string {
	return append([]string{"--uri", uri, "--db", database, "--out", dir}, more...)
}

// stockRestore restores a dump, or an archive where dir is empty, as the stock tool does.
func stockRestore(t testing.TB, uri, dir string, more ...string) (documents int64) {
	t.Helper()
	args := append([]string{"--uri", uri}, more...)
	if dir != "" {
		args = append(args, dir)
	}
	o, err := mongorestore.ParseOptions(args, "oracle", "")
	require.NoError(t, err)
	r, err := mongorestore.New(o)
	require.NoError(t, err)
	defer r.Close()
	result := r.Restore()
	require.NoError(t, result.Err)
	require.Zero(t, result.Failures, "documents that mongorestore could not restore")
	return result.Successes
}
