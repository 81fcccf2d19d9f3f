package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/battwheels/runbook/internal/mongotest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"runbook": func() { os.Exit(run()) }})
}

// TestCommands runs the scripts in testdata: what a person types, what they read, and the exit code. Each has a database of its
// own on a server that is really spoken to, or on the one that RUNBOOK_TEST_MONGODB_URI names.
func TestCommands(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			uri := os.Getenv("RUNBOOK_TEST_MONGODB_URI")
			if uri == "" {
				server, err := mongotest.New()
				if err != nil {
					return err
				}
				e.Defer(func() { _ = server.Close() })
				uri = server.URI()
			}
			name := fmt.Sprintf("runbook_cli_%d", time.Now().UnixNano())
			e.Defer(func() { dropDatabase(t, uri, name) })
			e.Setenv("MONGO_URL", uri)
			e.Setenv("DB_NAME", name)
			e.Setenv("RESEND_API_KEY", "re_secret")
			config, err := os.ReadFile("testdata/runbook.yaml")
			if err != nil {
				return err
			}
			path := filepath.Join(e.WorkDir, "runbook.yaml")
			e.Setenv("RUNBOOK_CONFIG", path)
			return os.WriteFile(path, []byte(os.Expand(string(config), func(key string) string {
				switch key {
				case "WORK":
					return e.WorkDir
				case "DB_NAME":
					return name
				}
				return "${" + key + "}"
			})), 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// insert COLLECTION N: really inserts N documents into the script's database.
			"insert": func(ts *testscript.TestScript, _ bool, args []string) {
				var n int
				_, err := fmt.Sscan(args[1], &n)
				ts.Check(err)
				ts.Check(insert(ts.Getenv("MONGO_URL"), ts.Getenv("DB_NAME"), args[0], n))
			},
		},
	})
}

func insert(uri, database, collection string, n int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := mongo.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		return err
	}
	defer func() { _ = c.Disconnect(ctx) }()
	var docs []any
	for i := range n {
		docs = append(docs, bson.D{{Key: "organization_id", Value: "org_1"}, {Key: "n", Value: int32(i)}})
	}
	_, err = c.Database(database).Collection(collection).InsertMany(ctx, docs)
	return err
}

func dropDatabase(t *testing.T, uri, name string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := mongo.Connect(options.Client().ApplyURI(uri))
	require.NoError(t, err)
	// The script's own server is gone by now; a real one keeps the database until this.
	_ = c.Database(name).Drop(ctx)
	_ = c.Disconnect(ctx)
}
