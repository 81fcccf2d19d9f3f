package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Load reads runbook.yaml, applies the defaults, reads the secrets that it refers to, and checks every field. What is wrong
// comes back as Errors, all of it at once; a file that cannot be read comes back as its own error.
func Load(path string) (*Config, error) { return load(path, false, (*checker).config) }

// LoadLenient is Load for commands that must work where secrets they do not use are out of reach: a secret that cannot be
// read is no error here, but has no value and tells why by its Err.
func LoadLenient(path string) (*Config, error) { return load(path, true, (*checker).config) }

// LoadOffline is LoadLenient for commands that reach nothing but one target's database and its backups. What they do not
// use (mail, webhook, Temporal, how the application is stopped, other targets) is read but not checked. Where target is
// "" all of them are looked at.
func LoadOffline(path, target string) (*Config, error) {
	return load(path, true, func(c *checker, cfg *Config) { c.offline(cfg, target) })
}

func load(path string, lenient bool, check func(*checker, *Config)) (*Config, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read the configuration: %w; name it with --config or RUNBOOK_CONFIG (deploy/runbook.yaml is one to copy)", err)
		}
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	d := &decoder{file: path, dir: filepath.Dir(path), lenient: lenient, lines: map[string]int{}}
	cfg := new(Config)
	setDefaults(reflect.ValueOf(cfg).Elem())
	if body, ok := d.parse(b); ok {
		d.decode(body, reflect.ValueOf(cfg).Elem(), "")
		check(&checker{d}, cfg)
	}
	if len(d.errs) > 0 {
		return nil, d.errs.sorted()
	}
	return cfg, nil
}

// parse returns the one document of the file.
func (d *decoder) parse(b []byte) (ast.Node, bool) {
	// Duplicate keys are found by the decoder, which can tell where the first one stands.
	file, err := parser.ParseBytes(b, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		line, reason := 0, err.Error()
		if at, ok := errors.AsType[yaml.Error](err); ok {
			reason = at.GetMessage()
			if at.GetToken() != nil {
				line = at.GetToken().Position.Line
			}
		}
		d.fail(line, "", "is not YAML: %s", reason)
		return nil, false
	}
	var bodies []ast.Node
	for _, doc := range file.Docs {
		if doc.Body != nil && doc.Body.Type() != ast.CommentType {
			bodies = append(bodies, doc.Body)
		}
	}
	switch len(bodies) {
	case 0:
		d.fail(0, "", "is empty; deploy/runbook.yaml of the project is an example to start from")
		return nil, false
	case 1:
		return bodies[0], true
	default:
		d.fail(lineOf(bodies[1]), "", "holds a second document; expected one")
		return nil, false
	}
}

// Target returns the target of that name. Where exactly one is configured, "" means that one. The error is an
// *UnknownTargetError.
func (c *Config) Target(name string) (string, Target, error) {
	names := c.TargetNames()
	if name == "" && len(names) == 1 {
		name = names[0]
	}
	t, ok := c.Targets[name]
	if !ok {
		return "", Target{}, &UnknownTargetError{Name: name, Valid: names}
	}
	return name, t, nil
}

// TargetNames returns the names of all targets in order.
func (c *Config) TargetNames() []string { return slices.Sorted(maps.Keys(c.Targets)) }

func (t *Temporal) defaults() { t.TaskQueue = "runbook" }

func (m *Mail) defaults() { m.BaseURL = "https://api.resend.com" }

func (w *Webhook) defaults() { w.Listen = "127.0.0.1:8088" }

func (s *Supervisor) defaults() { s.Timeout = Duration(time.Minute) }

func (k *Kubernetes) defaults() { k.Timeout = Duration(5 * time.Minute) }

func (c *Command) defaults() { c.Timeout = Duration(time.Minute) }

func (h *Health) defaults() {
	h.Timeout, h.Every = Duration(2*time.Minute), Duration(2*time.Second)
}

func (b *Backup) defaults() {
	*b = Backup{
		Schedule: "0 2 * * *", Jitter: Duration(time.Minute), Retention: Duration(7 * day), Timeout: Duration(4 * time.Hour),
		Compression: "gzip", Level: 3, Parallel: 4, MemoryMB: 48, ReadPreference: "primary",
	}
}

func (f *Foreign) defaults() { f.Pattern, f.Zone = "{database}_{time}", "UTC" }

func (m *Monitor) defaults() {
	*m = Monitor{Schedule: "0 6 * * *", RPO: Duration(day), RTO: Duration(2 * time.Hour)}
}

func (d *Drill) defaults() { d.Schedule, d.Timeout = NoDrill, Duration(12*time.Hour) }

func (p *Policy) defaults() {
	loss := int64(1000)
	*p = Policy{
		EscalateAfter: Duration(15 * time.Minute), KeepOld: Duration(3 * day), ReportWithin: Duration(2 * day),
		QuietFor: Duration(2 * time.Second), MoreLoss: &loss,
	}
}
