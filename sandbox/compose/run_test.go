package compose

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/battwheels/runbook/activities"
	"github.com/battwheels/runbook/internal/alert"
	"github.com/battwheels/runbook/internal/mongotest"
	"github.com/battwheels/runbook/sandbox/mailbox"
	"github.com/battwheels/runbook/sandbox/process"
	"github.com/battwheels/runbook/sandbox/temporal"
	"github.com/battwheels/runbook/workflows"
)

// host stands for the containers: the same program with the same arguments and environment. Only where things are differs.
type host struct {
	binary string
	places map[string]string // what the file says, to what it is here
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(b)
}

// replace replaces every key, each of which must be there.
func replace(t *testing.T, text string, with map[string]string) string {
	t.Helper()
	for old, here := range with {
		require.Contains(t, text, old)
		text = strings.ReplaceAll(text, old, here)
	}
	return text
}

func build(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "runbook")
	c := exec.CommandContext(t.Context(), "go", "build", "-o", path, "./cmd/runbook")
	c.Dir = "../.."
	c.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
	out, err := c.CombinedOutput()
	require.NoError(t, err, string(out))
	return path
}

// command is what a container of the service runs, or another program in it.
func (h *host) command(ctx context.Context, t *testing.T, s types.ServiceConfig, args []string) *exec.Cmd {
	t.Helper()
	here := func(v string) string {
		if other, ok := h.places[v]; ok {
			return other
		}
		return v
	}
	c := exec.CommandContext(ctx, h.binary)
	for _, a := range args {
		c.Args = append(c.Args, here(a))
	}
	// Nothing of this test's own environment, as in a container; HOME is the image's own.
	c.Dir = t.TempDir()
	c.Env = []string{"HOME=" + c.Dir}
	for name, value := range s.Environment {
		require.NotNil(t, value, name)
		c.Env = append(c.Env, name+"="+here(*value))
	}
	return c
}

// start starts a service, and returns what stops it as Compose does and says how it ended.
func (h *host) start(t *testing.T, s types.ServiceConfig) func() {
	t.Helper()
	var log bytes.Buffer
	// It ends by the signal of the test, not by the end of a context.
	c := h.command(context.Background(), t, s, s.Command)
	c.Stdout, c.Stderr = &log, &log
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, c.Start())
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	over := false
	t.Cleanup(func() {
		if !over {
			_ = c.Process.Kill()
			<-ended //nolint:errcheck // it was told to stop; that is its error
		}
		if t.Failed() {
			t.Logf("%s said:\n%s", s.Name, log.String())
		}
	})
	return func() {
		t.Helper()
		require.NotNil(t, s.StopGracePeriod)
		require.Empty(t, s.StopSignal, "Compose sends SIGTERM where nothing is said")
		require.NoError(t, c.Process.Signal(syscall.SIGTERM))
		select {
		case err := <-ended:
			over = true
			require.NoError(t, err, "%s ended with an error", s.Name)
			require.Zero(t, c.ProcessState.ExitCode())
		case <-time.After(time.Duration(*s.StopGracePeriod)):
			require.Fail(t, "Compose would have killed it", "%s has not stopped within %s", s.Name, s.StopGracePeriod)
		}
	}
}

// check runs the service's health check once, within its own time.
func (h *host) check(t *testing.T, s types.ServiceConfig) error {
	t.Helper()
	require.Equal(t, binary, s.HealthCheck.Test[1])
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(*s.HealthCheck.Timeout))
	defer cancel()
	out, err := h.command(ctx, t, s, s.HealthCheck.Test[2:]).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// post sends one alert of a name as Alertmanager does.
func post(t *testing.T, url, token, name string) (int, alert.Answer) {
	t.Helper()
	body := fmt.Sprintf(`{"version": "4", "status": "firing", "receiver": "runbook", "groupKey": "{}", "truncatedAlerts": 0,
		"externalURL": "http://127.0.0.1:9093", "groupLabels": {}, "commonLabels": {"alertname": %[1]q}, "commonAnnotations": {},
		"alerts": [{"status": "firing", "labels": {"alertname": %[1]q}, "annotations": {"summary": "Checksum errors"},
		"startsAt": %[2]q, "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "", "fingerprint": "c4a7f2b8a1d09e33"}]}`,
		name, time.Now().UTC().Format(time.RFC3339))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	var said alert.Answer
	require.NoError(t, json.Unmarshal(b, &said), string(b))
	return resp.StatusCode, said
}

// TestTheComposedServicesRunAsTheFileSays runs the worker and the receiver with the arguments and the environment of
// docker-compose.yml, the secrets that its script makes, and its configuration.
func TestTheComposedServicesRunAsTheFileSays(t *testing.T) {
	p := project(t)
	worker, serve := p.Services["worker"], p.Services["serve"]

	server, err := temporal.Start(t.Context(), temporal.Config{Keywords: []string{activities.AttributeTarget, activities.AttributePhase}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Stop() })
	c, err := client.DialContext(t.Context(), client.Options{HostPort: server.Address(), Namespace: temporal.Namespace})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	mongo := mongotest.Start(t, mongotest.WithReplicaSet("rs0"))
	_, err = mongo.Client(t).Database("example").Collection("invoices").InsertOne(t.Context(), bson.D{{Key: "number", Value: 1}})
	require.NoError(t, err)

	dir := t.TempDir()
	secrets := filepath.Join(dir, "secrets")
	out, err := exec.CommandContext(t.Context(), "sh", "../../deploy/compose/secrets.sh", secrets).CombinedOutput()
	require.NoError(t, err, string(out))
	uri := replace(t, read(t, filepath.Join(secrets, "mongo_url")), map[string]string{"mongodb:27017": mongo.Address()})
	require.NoError(t, os.Remove(filepath.Join(secrets, "mongo_url"))) // it is read-only
	require.NoError(t, os.WriteFile(filepath.Join(secrets, "mongo_url"), []byte(uri), 0o400))
	token := read(t, filepath.Join(secrets, "webhook_token"))
	mail, err := mailbox.Start(mailbox.Config{Listen: "127.0.0.1:0", APIKey: read(t, filepath.Join(secrets, "resend_api_key"))})
	require.NoError(t, err)
	t.Cleanup(func() { _ = mail.Close(context.WithoutCancel(t.Context())) })
	ports, err := process.FreePorts(1)
	require.NoError(t, err)
	listen := process.Address(ports[0])

	// The configuration is the one that is mounted where the command looks for it.
	var mounted string
	for _, v := range worker.Volumes {
		if v.Target == worker.Command[2] {
			mounted = v.Source
			require.True(t, v.ReadOnly)
		}
	}
	require.NotEmpty(t, mounted)
	config := filepath.Join(dir, "runbook.yaml")
	require.NoError(t, os.WriteFile(config, []byte(replace(t, read(t, mounted), map[string]string{
		"/run/secrets":     secrets,
		"/var/lib/runbook": filepath.Join(dir, "storage"),
		"0.0.0.0:8088":     listen,
		"\nmail:\n":        "\nmail:\n  baseURL: " + mail.URL() + "\n",
	})), 0o600))
	h := &host{binary: build(t), places: map[string]string{
		worker.Command[2]: config, *worker.Environment["TEMPORAL_ADDRESS"]: server.Address(),
	}}

	require.Error(t, h.check(t, worker), "healthy before anything runs")
	require.Error(t, h.check(t, serve), "healthy before anything runs")
	stopWorker, stopServe := h.start(t, worker), h.start(t, serve)
	for _, s := range []types.ServiceConfig{worker, serve} {
		require.Eventually(t, func() bool { return h.check(t, s) == nil }, time.Minute, 200*time.Millisecond, s.Name)
		require.NoError(t, h.check(t, s))
	}

	url := "http://" + listen + "/alerts"
	incident := workflows.IncidentID("example")
	for _, a := range []struct {
		name, alert, token string
		status             int
		starts             bool
	}{
		{"without the token", "MongoDBCorruption", "wrong", http.StatusUnauthorized, false},
		{"for no target", "DiskAlmostFull", token, http.StatusOK, false},
		{"for the target", "MongoDBCorruption", token, http.StatusAccepted, true},
	} {
		status, said := post(t, url, a.token, a.alert)
		require.Equal(t, a.status, status, a.name)
		d, err := c.DescribeWorkflowExecution(t.Context(), incident, "")
		if !a.starts {
			require.Empty(t, said.Incidents, a.name)
			require.Error(t, err, a.name)
			continue
		}
		require.NoError(t, err, a.name)
		require.Equal(t, []alert.Incident{{Target: "example", Alert: a.alert, WorkflowID: incident}}, said.Incidents, a.name)
		require.Equal(t, enums.WORKFLOW_EXECUTION_STATUS_RUNNING, d.GetWorkflowExecutionInfo().GetStatus(), a.name)
	}
	// The composed worker, and nobody else, works on it.
	require.Eventually(t, func() bool {
		v, err := c.QueryWorkflow(t.Context(), incident, "", workflows.QueryStatus)
		var s workflows.Status
		return err == nil && v.Get(&s) == nil && s.Phase != ""
	}, 30*time.Second, 100*time.Millisecond)

	stopServe()
	stopWorker()
	d, err := c.DescribeWorkflowExecution(t.Context(), incident, "")
	require.NoError(t, err)
	require.Equal(t, enums.WORKFLOW_EXECUTION_STATUS_RUNNING, d.GetWorkflowExecutionInfo().GetStatus(), "it waits for the next worker")
}
