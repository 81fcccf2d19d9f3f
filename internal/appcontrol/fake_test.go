package appcontrol

import (
	"encoding/xml"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/battwheels/runbook/internal/config"
)

// fakeSupervisord speaks the part of supervisor's XML-RPC that is used, with supervisor's own fault codes, so that states can be
// held that a real one passes through too fast.
type fakeSupervisord struct {
	mu    sync.Mutex
	procs []*fakeProc
	calls []string // "stopProcess web:web"
	// onStop and onStart say what becomes of a process; they run unlocked and may block.
	onStop, onStart func(p *fakeProc)
	shutdown        bool
	hang            chan struct{} // where set, no call is answered until it is closed
}

type fakeProc struct {
	group, name string
	state       int
	start       int
	pid         int
	spawnErr    string
}

func (p *fakeProc) full() string { return p.group + ":" + p.name }

var stateNames = map[int]string{
	0: "STOPPED", 10: "STARTING", 20: "RUNNING", 30: "BACKOFF", 40: "STOPPING", 100: "EXITED", 200: "FATAL", 1000: "UNKNOWN",
}

func newFake(procs ...*fakeProc) *fakeSupervisord {
	f := &fakeSupervisord{procs: procs}
	for i, p := range procs {
		if p.start == 0 {
			p.start = 1771898400 + i
		}
	}
	f.onStop = func(p *fakeProc) { f.set(p, stopped) }
	f.onStart = func(p *fakeProc) { f.set(p, running) }
	return f
}

func (f *fakeSupervisord) set(p *fakeProc, state int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p.state = state
}

// changes are the calls that were meant to change something.
func (f *fakeSupervisord) changes() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// onSocket serves on a unix socket, as supervisord does, and returns its URL.
func (f *fakeSupervisord) onSocket(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s.sock")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: f}}
	s.Start()
	t.Cleanup(s.Close)
	return "unix://" + path
}

// controller is the product's own, on a fake's socket.
func (f *fakeSupervisord) controller(t *testing.T, programs ...string) *supervisor {
	t.Helper()
	s, err := newSupervisor(config.Supervisor{URL: f.onSocket(t), Programs: programs})
	require.NoError(t, err)
	return s
}

func (f *fakeSupervisord) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f.hang != nil {
		select {
		case <-f.hang:
		case <-r.Context().Done():
		}
	}
	var call struct {
		Method string   `xml:"methodName"`
		Params []string `xml:"params>param>value>string"`
	}
	if r.URL.Path != "/RPC2" || r.Method != http.MethodPost {
		http.NotFound(w, r)
		return
	}
	if err := xml.NewDecoder(r.Body).Decode(&call); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/xml")
	value, code, text := f.answer(strings.TrimPrefix(call.Method, "supervisor."), call.Params)
	if code != 0 {
		fmt.Fprintf(w, `<?xml version='1.0'?><methodResponse><fault><value><struct>`+
			`<member><name>faultCode</name><value><int>%d</int></value></member>`+
			`<member><name>faultString</name><value><string>%s</string></value></member>`+
			`</struct></value></fault></methodResponse>`, code, text)
		return
	}
	fmt.Fprintf(w, `<?xml version='1.0'?><methodResponse><params><param><value>%s</value></param></params></methodResponse>`, value)
}

func (f *fakeSupervisord) answer(method string, params []string) (value string, code int, text string) {
	f.mu.Lock()
	if f.shutdown {
		f.mu.Unlock()
		return "", 6, "SHUTDOWN_STATE"
	}
	if method == "getAllProcessInfo" {
		defer f.mu.Unlock()
		var b strings.Builder
		for _, p := range f.procs {
			b.WriteString("<value>" + p.xml() + "</value>")
		}
		return "<array><data>" + b.String() + "</data></array>", 0, ""
	}
	if len(params) == 0 {
		f.mu.Unlock()
		return "", 3, "INCORRECT_PARAMETERS"
	}
	at := slices.IndexFunc(f.procs, func(p *fakeProc) bool { return p.full() == params[0] })
	if at < 0 {
		f.mu.Unlock()
		return "", 10, "BAD_NAME: " + params[0]
	}
	p := f.procs[at]
	runs := p.state == running || p.state == starting || p.state == backoff
	var then func(*fakeProc)
	switch method {
	case "getProcessInfo":
		defer f.mu.Unlock()
		return p.xml(), 0, ""
	case "stopProcess":
		then = f.onStop
		if !runs {
			code, text = 70, "NOT_RUNNING: "+p.full()
		}
	case "startProcess":
		then = f.onStart
		if runs {
			code, text = 60, "ALREADY_STARTED: "+p.full()
		}
	default:
		code, text = 1, "UNKNOWN_METHOD"
	}
	f.calls = append(f.calls, method+" "+p.full())
	f.mu.Unlock()
	if code != 0 {
		return "", code, text
	}
	then(p)
	f.mu.Lock()
	defer f.mu.Unlock()
	if method == "startProcess" {
		switch {
		case p.spawnErr != "":
			return "", 50, "SPAWN_ERROR: " + p.full()
		case p.state != running:
			return "", 40, "ABNORMAL_TERMINATION: " + p.full()
		}
	}
	return "<boolean>1</boolean>", 0, ""
}

func (p *fakeProc) xml() string {
	var b strings.Builder
	text := func(name, v string) {
		fmt.Fprintf(&b, "<member><name>%s</name><value><string>%s</string></value></member>", name, v)
	}
	number := func(name string, v int) {
		fmt.Fprintf(&b, "<member><name>%s</name><value><int>%d</int></value></member>", name, v)
	}
	text("name", p.name)
	text("group", p.group)
	number("start", p.start)
	number("stop", 0)
	number("now", p.start+60)
	number("state", p.state)
	text("statename", stateNames[p.state])
	text("spawnerr", p.spawnErr)
	number("exitstatus", 0)
	text("stdout_logfile", "/var/log/"+p.name+".out.log")
	text("stderr_logfile", "/var/log/"+p.name+".err.log")
	number("pid", p.pid)
	text("description", "pid "+fmt.Sprint(p.pid))
	return "<struct>" + b.String() + "</struct>"
}
