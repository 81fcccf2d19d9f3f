package temporal_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	sdk "go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/battwheels/runbook/sandbox/temporal"
)

const keyword = "RunbookTarget"

func start(t *testing.T, c temporal.Config) *temporal.Server {
	t.Helper()
	c.Keywords = []string{keyword, "RunbookPhase"}
	s, err := temporal.Start(t.Context(), c)
	require.NoError(t, err)
	return s
}

func dial(t *testing.T, s *temporal.Server) client.Client {
	t.Helper()
	c, err := client.DialContext(t.Context(), client.Options{HostPort: s.Address(), Namespace: temporal.Namespace})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// waiting tags itself, shows details, and waits for an Update's word.
func waiting(ctx workflow.Context) (string, error) {
	word := ""
	err := workflow.SetUpdateHandler(ctx, "say", func(_ workflow.Context, w string) (string, error) {
		word = w
		return "heard " + w, nil
	})
	if err != nil {
		return "", err
	}
	workflow.SetCurrentDetails(ctx, "waiting for a word")
	if err := workflow.UpsertTypedSearchAttributes(ctx, sdk.NewSearchAttributeKeyKeyword(keyword).ValueSet("battwheels")); err != nil {
		return "", err
	}
	err = workflow.Await(ctx, func() bool { return word != "" && workflow.AllHandlersFinished(ctx) })
	return word, err
}

func work(t *testing.T, c client.Client) (stop func()) {
	t.Helper()
	w := worker.New(c, "words", worker.Options{})
	w.RegisterWorkflowWithOptions(waiting, workflow.RegisterOptions{Name: "Waiting"})
	require.NoError(t, w.Start())
	return w.Stop
}

func say(t *testing.T, c client.Client, word string) {
	t.Helper()
	h, err := c.UpdateWorkflow(t.Context(), client.UpdateWorkflowOptions{
		WorkflowID: "waiting/1", UpdateName: "say", Args: []any{word}, WaitForStage: client.WorkflowUpdateStageCompleted})
	require.NoError(t, err)
	var reply string
	require.NoError(t, h.Get(t.Context(), &reply))
	require.Equal(t, "heard "+word, reply)
}

func TestAWorkflowRunsAndShowsInTheWebUI(t *testing.T) {
	s := start(t, temporal.Config{Log: filepath.Join(t.TempDir(), "temporal.log")})
	c := dial(t, s)
	stop := work(t, c)
	run, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "waiting/1", TaskQueue: "words"}, "Waiting")
	require.NoError(t, err)

	require.Eventually(t, func() bool {
		r, err := c.ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{Query: keyword + ` = "battwheels"`})
		return err == nil && len(r.GetExecutions()) == 1
	}, 10*time.Second, 20*time.Millisecond, "the search attribute works at once")
	require.Contains(t, get(t, s.UI()+"/api/v1/namespaces/default/workflows/waiting%2F1"), `"Waiting"`)
	require.Contains(t, strings.ToLower(get(t, s.UI()+"/namespaces/default/workflows")), "<!doctype html>")

	say(t, c, "done")
	var word string
	require.NoError(t, run.Get(t.Context(), &word))
	require.Equal(t, "done", word)
	stop()
	require.NoError(t, s.Stop())
	_, err = http.Get(s.UI())
	require.Error(t, err, "nothing answers after the stop")
}

func TestAFileCarriesOnWhereItWasOnOtherPorts(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state", "temporal.db")
	first := start(t, temporal.Config{File: file})
	c := dial(t, first)
	_, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "waiting/1", TaskQueue: "words"}, "Waiting")
	require.NoError(t, err)
	require.NoError(t, first.Stop())

	second := start(t, temporal.Config{File: file})
	defer func() { require.NoError(t, second.Stop()) }()
	require.NotEqual(t, first.Address(), second.Address())
	c = dial(t, second)
	defer work(t, c)()
	say(t, c, "again")
	var word string
	require.NoError(t, c.GetWorkflow(t.Context(), "waiting/1", "").Get(t.Context(), &word))
	require.Equal(t, "again", word)
}

func TestTwoServersKnowNothingOfEachOther(t *testing.T) {
	a, b := start(t, temporal.Config{}), start(t, temporal.Config{})
	_, err := dial(t, a).ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "waiting/1", TaskQueue: "words"}, "Waiting")
	require.NoError(t, err)
	_, err = dial(t, b).DescribeWorkflowExecution(t.Context(), "waiting/1", "")
	require.ErrorContains(t, err, "not found")
	require.NoError(t, a.Stop())
	require.NoError(t, b.Stop())
}

func TestAPortThatIsTakenIsAnError(t *testing.T) {
	s := start(t, temporal.Config{})
	defer func() { require.NoError(t, s.Stop()) }()
	var port int
	_, err := fmt.Sscanf(s.Address(), "127.0.0.1:%d", &port)
	require.NoError(t, err)
	_, err = temporal.Start(t.Context(), temporal.Config{Port: port})
	require.ErrorContains(t, err, "choose another one")
	_, err = temporal.Start(t.Context(), temporal.Config{UIPort: port})
	require.ErrorContains(t, err, "choose another one")
}

func get(t *testing.T, url string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode, string(body))
	return string(body)
}
