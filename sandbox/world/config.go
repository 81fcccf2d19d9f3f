package world

import (
	"bytes"
	"crypto/rand"
	_ "embed" // for the configuration's template
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"text/template"

	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/sandbox/process"
)

// secrets are new ones for each start.
type secrets struct {
	mail, webhook, application string
}

func newSecrets() secrets {
	return secrets{mail: "re_" + rand.Text(), webhook: rand.Text(), application: rand.Text()}
}

//go:embed runbook.yaml.tmpl
var configurationText string

var configuration = template.Must(template.New("runbook.yaml").Funcs(template.FuncMap{
	// A JSON string is a YAML one.
	"quote": func(s string) (string, error) {
		b, err := json.Marshal(s)
		return string(b), err
	},
}).Parse(configurationText))

// configure writes the product's configuration and its secrets, and loads it like the product does.
func (w *World) configure() error {
	for name, value := range map[string]string{
		"mail-key": w.secrets.mail, "webhook-token": w.secrets.webhook, "token-secret": w.secrets.application, "mongo-url": w.Ferret.URI(),
	} {
		if err := write(w.path("secrets", name), []byte(value+"\n")); err != nil {
			return err
		}
	}
	// The product also reads the user's own profiles of Temporal, which are of other clusters.
	if err := write(w.path("temporal.toml"), nil); err != nil {
		return err
	}
	if err := w.chooseSocket(); err != nil {
		return err
	}
	w.ConfigPath = w.path("runbook.yaml")
	if err := w.writeConfig(w.ConfigPath, "sandbox", w.StorageDir()); err != nil {
		return err
	}
	if w.Bucket != nil {
		if err := w.writeConfig(w.path("elsewhere.yaml"), "elsewhere", w.path("elsewhere", "storage")); err != nil {
			return err
		}
	}
	var err error
	w.Config, err = config.Load(w.ConfigPath)
	return err
}

// writeConfig writes the configuration of the worker on one host.
func (w *World) writeConfig(path, host, storage string) error {
	offsite := ""
	if w.Bucket != nil {
		offsite = w.Bucket.URL()
	}
	var b bytes.Buffer
	err := configuration.Execute(&b, map[string]string{
		"Host": host, "Offsite": offsite, "GoneAlert": GoneAlert, "Support": Support, "Volume": w.path("ferretdb"),
		"UI": w.Temporal.UI(), "Storage": storage, "Mail": w.Mail.URL(), "Webhook": process.Address(w.ports.Webhook),
		"Target": Target, "Database": Database, "Socket": "unix://" + w.socket, "Program": Backend, "Health": w.Application() + "/api/health",
		"OnCall": OnCall, "Escalation": Escalation, "Alert": Alert,
	})
	if err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	return write(path, b.Bytes())
}

func write(path string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o600)
}

// longestSocket is how long the path of a unix socket may be on every system.
const longestSocket = 100

// chooseSocket settles where the supervisor listens. Where the directory's path is too long for a socket, it gets a short one.
func (w *World) chooseSocket() error {
	w.socket = w.path("supervisor.sock")
	if len(w.socket) <= longestSocket {
		return nil
	}
	dir, err := os.MkdirTemp("", "rb-")
	if err != nil {
		return err
	}
	w.socketDir, w.socket = dir, filepath.Join(dir, "s.sock")
	return nil
}
