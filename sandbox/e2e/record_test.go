package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"github.com/stretchr/testify/require"
	enums "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/temporalproto"
)

// recordTo names a directory into which finished workflows' histories are written, for the replay tests in worker/:
//
//	RUNBOOK_RECORD_HISTORIES=$PWD/worker/testdata/histories go test ./sandbox/e2e
const recordTo = "RUNBOOK_RECORD_HISTORIES"

// host is what an identity says of the machine that the history was recorded on.
var host = regexp.MustCompile(`"identity": "[^"]*"`)

// record writes a workflow's history, where that is asked for.
func (w *world) record(name, id, run string) {
	w.t.Helper()
	dir := os.Getenv(recordTo)
	if dir == "" {
		return
	}
	h := &historypb.History{}
	events := w.temporal.GetWorkflowHistory(w.t.Context(), id, run, false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		e, err := events.Next()
		require.NoError(w.t, err)
		h.Events = append(h.Events, e)
	}
	b, err := temporalproto.CustomJSONMarshalOptions{Indent: " "}.Marshal(h)
	require.NoError(w.t, err)
	b = host.ReplaceAll(b, []byte(`"identity": "worker"`))
	require.NoError(w.t, os.MkdirAll(dir, 0o755))
	require.NoError(w.t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s.json", name)), b, 0o600))
}
