package appcontrol

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/kolo/xmlrpc"

	"github.com/battwheels/runbook/internal/config"
)

// Faults of supervisor's XML-RPC, as its documentation numbers them.
const (
	faultShutdownState       = 6
	faultBadName             = 10
	faultNoFile              = 20
	faultNotExecutable       = 21
	faultAbnormalTermination = 40
	faultSpawnError          = 50
	faultAlreadyStarted      = 60
	faultNotRunning          = 70
)

// maxAnswer bounds what is read of one answer. A process takes about 1 kB in it.
const maxAnswer = 4 << 20

// rpc speaks supervisor's XML-RPC over its unix socket or TCP.
type rpc struct {
	where    string // as configured, for people
	endpoint string
	username string
	password config.Secret
	patience time.Duration // for an answer to a question
	client   *http.Client
}

func newRPC(s config.Supervisor) (*rpc, error) {
	wrong := &ControlError{
		Action: "reach supervisord", Reason: fmt.Sprintf("application.supervisor.url %q is not an address of it", s.URL),
		Do: "write unix:///var/run/supervisor.sock or http://127.0.0.1:9001, as the [unix_http_server] or [inet_http_server] section of supervisord.conf has it",
	}
	u, err := url.Parse(s.URL)
	if err != nil {
		return nil, wrong
	}
	// One connection for each call: calls are few, and an idle one would outlive the step.
	transport := &http.Transport{DisableKeepAlives: true}
	c := &rpc{
		where: u.Redacted(), username: s.Username, password: s.Password, patience: 15 * time.Second,
		client: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	switch {
	case u.Scheme == "unix" && u.Host == "" && strings.HasPrefix(u.Path, "/"):
		path := u.Path
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		}
		c.endpoint = "http://supervisor/RPC2"
	case (u.Scheme == "http" || u.Scheme == "https") && u.Host != "":
		if u.Path == "" || u.Path == "/" {
			u.Path = "/RPC2"
		}
		c.endpoint = u.String()
	default:
		return nil, wrong
	}
	return c, nil
}

// call calls a method and decodes its result into out, where out is not nil. A fault comes back as an xmlrpc.FaultError,
// for the caller to judge.
func (c *rpc) call(ctx context.Context, action, method string, out any, args ...any) error {
	req, err := xmlrpc.NewRequest(c.endpoint, "supervisor."+method, args)
	if err != nil {
		return fmt.Errorf("%s: encode %s: %w", action, method, err)
	}
	if c.username != "" {
		req.SetBasicAuth(c.username, c.password.Value())
	}
	resp, err := c.client.Do(req.WithContext(ctx))
	if err != nil {
		return c.unreachable(ctx, action, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return c.unreachable(ctx, action, err)
	}
	if err := c.refused(action, resp.StatusCode); err != nil {
		return err
	}
	answer := xmlrpc.Response(body)
	if err := answer.Err(); err != nil {
		fault, ok := errors.AsType[xmlrpc.FaultError](err)
		if !ok {
			return c.strange(action, err)
		}
		if fault.Code == faultShutdownState {
			return &UnavailableError{Action: action, Where: "supervisord at " + c.where, Err: errors.New("it is shutting down or restarting")}
		}
		return fault
	}
	if out == nil {
		return nil
	}
	if err := answer.Unmarshal(out); err != nil {
		return c.strange(action, err)
	}
	return nil
}

func (c *rpc) unreachable(ctx context.Context, action string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, fs.ErrPermission) {
		return &ControlError{
			Action: action, Reason: "no permission to use supervisord's socket " + c.where,
			Do: "run the worker as the socket's owner (root, where its mode is 0700), or set chmod and chown in [unix_http_server]",
		}
	}
	// The client's own error repeats method and address, which are ours and mean nothing to people.
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	return &UnavailableError{Action: action, Where: "supervisord at " + c.where, Err: err}
}

func (c *rpc) refused(action string, status int) error {
	switch {
	case status == http.StatusOK:
		return nil
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return &ControlError{
			Action: action, Reason: fmt.Sprintf("supervisord at %s refuses the user name or password", c.where),
			Do: "set application.supervisor.username and password to those of supervisord.conf",
		}
	case status >= 500:
		return &UnavailableError{Action: action, Where: "supervisord at " + c.where, Err: fmt.Errorf("it answered HTTP %d", status)}
	default:
		return &ControlError{
			Action: action, Reason: fmt.Sprintf("%s answers HTTP %d to a call of XML-RPC", c.where, status),
			Do: "see that application.supervisor.url is supervisord's address, and that its [rpcinterface:supervisor] section is there",
		}
	}
}

func (c *rpc) strange(action string, err error) error {
	return &ControlError{
		Action: action, Reason: fmt.Sprintf("the answer of %s is not supervisord's: %v", c.where, err),
		Do: "see that application.supervisor.url is supervisord's address",
	}
}

// info is what supervisord tells of a process. It has more fields than these.
type info struct {
	Name      string `xmlrpc:"name"`
	Group     string `xmlrpc:"group"`
	State     int    `xmlrpc:"state"`
	StateName string `xmlrpc:"statename"`
	Start     int    `xmlrpc:"start"` // seconds since 1970; 0: never started
	PID       int    `xmlrpc:"pid"`
	SpawnErr  string `xmlrpc:"spawnerr"`
	ErrorLog  string `xmlrpc:"stderr_logfile"`
	Log       string `xmlrpc:"stdout_logfile"`
}

func (i info) full() string { return i.Group + ":" + i.Name }

func (c *rpc) all(ctx context.Context, action string) ([]info, error) {
	var is []info
	err := c.ask(ctx, action, "getAllProcessInfo", &is)
	return is, c.judge(action, "", err)
}

func (c *rpc) info(ctx context.Context, action, program string) (info, error) {
	var i info
	err := c.ask(ctx, action, "getProcessInfo", &i, program)
	return i, c.judge(action, program, err)
}

// ask is call for methods that answer at once: a supervisord that hangs is told from one that waits for a program.
func (c *rpc) ask(ctx context.Context, action, method string, out any, args ...any) error {
	bounded, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	err := c.call(bounded, action, method, out, args...)
	if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return &UnavailableError{Action: action, Where: "supervisord at " + c.where, Err: fmt.Errorf("nothing within %s", c.patience)}
	}
	return err
}

// judge turns a fault that nobody expected into the error that people read.
func (c *rpc) judge(action, program string, err error) error {
	fault, ok := errors.AsType[xmlrpc.FaultError](err)
	if !ok {
		return err
	}
	e := &ControlError{Action: action, Program: program, Reason: "supervisord says " + fault.String, Do: "read supervisord's log"}
	switch fault.Code {
	case faultBadName:
		e.Reason = "supervisord has no such program any more"
		e.Do = "see application.supervisor.programs and what \"supervisorctl status\" lists"
	case faultNoFile, faultNotExecutable:
		e.Do = "see the command of this program in supervisord.conf"
	}
	return e
}

// isFault says whether err is one of these faults.
func isFault(err error, codes ...int) bool {
	fault, ok := errors.AsType[xmlrpc.FaultError](err)
	if !ok {
		return false
	}
	for _, c := range codes {
		if fault.Code == c {
			return true
		}
	}
	return false
}
