// Package deploy_test holds what lies beside it against the programs that read it: the shell, the configuration's own loader,
// a real supervisord. What needs the Compose project's loader is tested in the sandbox.
package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/battwheels/runbook/internal/appcontrol"
	"github.com/battwheels/runbook/internal/config"
)

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(b)
}

func makeSecrets(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "secrets")
	out, err := exec.CommandContext(t.Context(), "sh", "compose/secrets.sh", dir).CombinedOutput()
	require.NoError(t, err, string(out))
	return dir
}

func TestSecretsAreMadeOnceAndHiddenFromOthers(t *testing.T) {
	dir := makeSecrets(t)
	info, err := os.Stat(dir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	token := read(t, filepath.Join(dir, "webhook_token"))
	require.Len(t, token, 48)
	require.NotEqual(t, token, read(t, filepath.Join(dir, "postgres_password")))

	require.NoError(t, exec.CommandContext(t.Context(), "sh", "compose/secrets.sh", dir).Run())
	require.Equal(t, token, read(t, filepath.Join(dir, "webhook_token")), "what exists is left as it is")
}

// Every secret that docker-compose.yml mounts is made by the script, and every one that the configuration names is mounted.
func TestTheComposedConfigurationLoadsWithTheSecretsThatTheScriptMakes(t *testing.T) {
	dir := makeSecrets(t)
	compose := read(t, "../docker-compose.yml")
	for _, m := range regexp.MustCompile(`\{file: \./deploy/compose/secrets/(\w+)\}`).FindAllStringSubmatch(compose, -1) {
		require.FileExists(t, filepath.Join(dir, m[1]))
	}
	text := read(t, "compose/runbook.yaml")
	for _, m := range regexp.MustCompile(`/run/secrets/(\w+)`).FindAllStringSubmatch(text, -1) {
		require.Contains(t, compose, "\n  "+m[1]+": {file:")
	}
	path := filepath.Join(t.TempDir(), "runbook.yaml")
	require.NoError(t, os.WriteFile(path, []byte(strings.ReplaceAll(text, "/run/secrets", dir)), 0o600))
	cfg, err := config.Load(path)
	require.NoError(t, err)
	require.Equal(t, "mongodb://mongodb:27017/?replicaSet=rs0", cfg.Targets["example"].Database.URI.Value())
}

// The composed system runs the very versions that the sandbox embeds and every test has seen.
func TestImagesArePinnedToTheVersionsThatAreTested(t *testing.T) {
	compose, dockerfile := read(t, "../docker-compose.yml"), read(t, "../Dockerfile")
	for _, m := range regexp.MustCompile(`(?m)^\s+image: (\S+)$`).FindAllStringSubmatch(compose, -1) {
		if m[1] != "battwheels/runbook:local" {
			require.Regexp(t, `:\d+\.\d+(\.\d+)?(-\w+)?$`, m[1], "an image needs an exact version")
		}
	}
	sandbox := read(t, "../sandbox/go.mod")
	for module, images := range map[string][]string{
		"go.temporal.io/server":              {"temporalio/server", "temporalio/admin-tools"},
		"github.com/temporalio/ui-server/v2": {"temporalio/ui"},
	} {
		m := regexp.MustCompile(regexp.QuoteMeta(module) + ` v(\S+)`).FindStringSubmatch(sandbox)
		require.NotNil(t, m, module)
		for _, image := range images {
			require.Contains(t, compose, "image: "+image+":"+m[1]+"\n")
		}
	}
	m := regexp.MustCompile(`(?m)^go (\S+)$`).FindStringSubmatch(read(t, "../go.work"))
	require.NotNil(t, m)
	require.Contains(t, dockerfile, "golang:"+m[1]+"-")
}

// The program sections are what supervisord takes; only what they run is another program here.
func TestARealSupervisordTakesTheProgramSections(t *testing.T) {
	bin, err := exec.LookPath("supervisord")
	if err != nil {
		t.Skip("supervisord is not installed (Debian: apt-get install supervisor)")
	}
	if os.Getuid() != 0 {
		t.Skip("the sections run their programs as root, which only root's supervisord can")
	}
	dir := t.TempDir()
	socket := filepath.Join(dir, "s.sock")
	sections := read(t, "supervisord/runbook.conf")
	sections = regexp.MustCompile(`(?m)^command=.*$`).ReplaceAllString(sections, "command=/bin/sleep 600")
	sections = strings.ReplaceAll(sections, "/var/log/", dir+"/")
	sections = strings.ReplaceAll(sections, "startsecs=5", "startsecs=1")
	conf := filepath.Join(dir, "supervisord.conf")
	require.NoError(t, os.WriteFile(conf, []byte("[supervisord]\nnodaemon=true\nuser=root\nlogfile="+dir+"/s.log\npidfile="+dir+"/s.pid\n"+
		"[unix_http_server]\nfile="+socket+"\n[rpcinterface:supervisor]\n"+
		"supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"+sections), 0o600))
	cmd := exec.Command(bin, "-c", conf)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		_ = cmd.Wait()
	})
	require.Eventually(t, func() bool {
		_, err := os.Stat(socket)
		return err == nil
	}, 20*time.Second, 20*time.Millisecond)

	control, err := appcontrol.New(config.Application{Supervisor: &config.Supervisor{
		URL: "unix://" + socket, Programs: []string{"runbook-worker", "runbook-serve"},
	}})
	require.NoError(t, err)
	require.NoError(t, control.Start(t.Context()))
	require.NoError(t, control.Stop(t.Context()))
}
