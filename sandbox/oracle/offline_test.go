package oracle

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/battwheels/runbook/internal/backup"
)

// configuration is a runbook.yaml with two targets on one server, and nothing to stop.
const configuration = `storage:
  dir: %s
mail:
  from: Battwheels OS <noreply@example.com>
  brand: Battwheels OS
  apiKey: ${ORACLE_SECRET}
webhook:
  token: ${ORACLE_SECRET}
targets:
  first:
    database: {uri: "${ORACLE_URI}", name: shop}
    application: {none: true}
    contacts: {onCall: [oncall@example.com]}
    monitor: {minCollections: 1}
    policy: {quietFor: 100ms}
  second:
    database: {uri: "${ORACLE_URI}", name: branch}
    application: {none: true}
    contacts: {onCall: [oncall@example.com]}
    monitor: {minCollections: 1}
    policy: {quietFor: 100ms}
`

// TestOfflineDumpAndRestoreCarryADatabaseOver dumps one database of a FerretDB with the command line and restores it into
// another one. A backup of another database is never taken by itself: a person puts it among the target's own, and names it.
func TestOfflineDumpAndRestoreCarryADatabaseOver(t *testing.T) {
	uri := startFerret(t)
	client := connect(t, uri)
	origin, branch := client.Database(shop), client.Database("branch")
	fill(t, origin, false)
	insert(t, branch, "customers", 12)
	insert(t, branch, "of the branch alone", 3)
	before, replaced := contents(t, origin), contents(t, branch)
	storage := t.TempDir()
	runbook := commandLine(t, uri, storage)

	var made struct {
		ID        string
		State     string
		Documents int64
	}
	runbook.prints(t, &made, "offline", "dump", "first")
	require.Equal(t, "verified", made.State)
	require.Equal(t, count(before), made.Documents)

	backups := filepath.Join(storage, "backups")
	require.NoError(t, os.MkdirAll(filepath.Join(backups, "second"), 0o750))
	require.NoError(t, os.CopyFS(filepath.Join(backups, "second", made.ID), os.DirFS(filepath.Join(backups, "first", made.ID))))
	require.Contains(t, runbook.fails(t, "offline", "restore", "second", "--yes"), "it is a backup of the target first")
	require.Equal(t, replaced, contents(t, branch), "nothing was changed")

	var restored struct {
		Backup, SafetyDump string
		Documents          int64
		Aside              int
	}
	require.Contains(t, runbook.fails(t, "offline", "restore", "second", "--backup", made.ID, "--yes"), "where you mean it, repeat with --of-another-database")
	require.Equal(t, replaced, contents(t, branch), "nothing was changed")
	runbook.prints(t, &restored, "offline", "restore", "second", "--backup", made.ID, "--yes", "--of-another-database")
	require.Equal(t, made.ID, restored.Backup)
	require.Equal(t, count(before), restored.Documents)
	require.Equal(t, len(replaced), restored.Aside)
	require.Equal(t, before, contents(t, branch))
	require.Equal(t, before, contents(t, origin), "where it came from is as it was")
	var verified struct{ Documents int64 }
	runbook.prints(t, &verified, "offline", "verify", "second", "--backup", made.ID)
	require.Equal(t, count(before), verified.Documents)

	// What stood there is in the safety dump, and comes back the same way.
	safety, err := backup.ReadManifest(filepath.Join(backups, "second", restored.SafetyDump))
	require.NoError(t, err)
	require.Equal(t, count(replaced), safety.Documents())
	runbook.prints(t, &restored, "offline", "restore", "second", "--backup", safety.Name, "--yes")
	require.Equal(t, replaced, contents(t, branch))
}

// program is the command line, built, with its environment.
type program struct {
	path string
	env  []string
}

// commandLine builds cmd/runbook as it is deployed, from its own module alone.
func commandLine(t *testing.T, uri, storage string) program {
	t.Helper()
	dir := t.TempDir()
	p := program{path: filepath.Join(dir, "runbook")}
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", p.path, "./cmd/runbook")
	build.Dir = filepath.Join("..", "..")
	build.Env = append(os.Environ(), "GOWORK=off")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	path := filepath.Join(dir, "runbook.yaml")
	require.NoError(t, os.WriteFile(path, fmt.Appendf(nil, configuration, storage), 0o600))
	p.env = append(os.Environ(), "RUNBOOK_CONFIG="+path, "ORACLE_URI="+uri, "ORACLE_SECRET=re_secret")
	return p
}

// prints runs a command that must succeed, and reads what it prints as JSON.
func (p program) prints(t *testing.T, into any, args ...string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), p.path, append(args, "--json")...)
	c.Env = p.env
	out, err := c.Output()
	require.NoError(t, err, "%v: %s%s", args, out, stderrOf(err))
	require.NoError(t, json.Unmarshal(out, into), "%s", out)
}

// fails runs a command that must not succeed, and returns what it says.
func (p program) fails(t *testing.T, args ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), p.path, args...)
	c.Env = p.env
	out, err := c.CombinedOutput()
	require.Error(t, err, "%s", out)
	return string(out)
}

func stderrOf(err error) string {
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(e.Stderr)
	}
	return ""
}
