package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"
)

// small is the least that loads. Rows of tests change single lines of it.
const small = `storage:
  dir: /var/lib/runbook
mail:
  from: Shop <noreply@shop.example>
  brand: Shop
  apiKey: ${MAIL_KEY}
webhook:
  token: ${TOKEN}
targets:
  shop:
    database:
      uri: ${MONGO}
      name: shop
    application:
      none: true
    contacts:
      onCall: [oncall@shop.example]
`

func write(t *testing.T, content string) string {
	t.Helper()
	t.Setenv("MAIL_KEY", "re_123")
	t.Setenv("TOKEN", "t0ken")
	t.Setenv("MONGO", "mongodb://user:hunter2@127.0.0.1:27017")
	path := filepath.Join(t.TempDir(), "runbook.yaml")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func TestTheExampleLoads(t *testing.T) {
	t.Setenv("RESEND_API_KEY", "re_123")
	t.Setenv("RUNBOOK_WEBHOOK_TOKEN", "t0ken")
	t.Setenv("MONGO_URL", "mongodb://localhost:27017")
	c, err := Load("../../deploy/runbook.yaml")
	require.NoError(t, err)
	require.Equal(t, "mongodb://localhost:27017", c.Targets["battwheels"].Database.URI.Value())
	require.Equal(t, 218, c.Targets["battwheels"].Monitor.MinCollections)
	require.Equal(t, map[string]string{"status": "healthy", "mongodb": "connected"}, c.Targets["battwheels"].Application.Health.Expect)
	require.Equal(t, []Foreign{{
		Dir: "/var/backups/mongodb", Pattern: "{database}_{time}", Zone: "Local", Log: "/var/log/mongodb_backup.log",
	}}, c.Targets["battwheels"].Foreign)
	deletions := c.Targets["battwheels"].Deletions
	require.Contains(t, deletions.Dependants, Dependant{Collection: "invoice_line_items", Field: "invoice_id", Of: "invoices"})
	require.Equal(t, "invoice_id", deletions.KeyOf("invoices", "", "id"))
	require.Equal(t, `(\d+)\D*$`, deletions.Counters[0].Pattern)
	require.Contains(t, deletions.Actions, "delete")
	known, err := os.ReadFile("../../sandbox/seed/collections.txt")
	require.NoError(t, err)
	collections := strings.Fields(string(known))
	for _, d := range deletions.Dependants {
		require.Contains(t, collections, d.Collection)
		require.Contains(t, collections, d.Of)
	}
	require.Subset(t, collections, deletions.Volatile)
	require.Subset(t, collections, slices.Collect(maps.Keys(deletions.Keys)))
	for kind, list := range deletions.Resources {
		require.Subset(t, collections, list, kind)
	}
}

// What the example shows in comments is promised to be the default: taking the comments away must change nothing.
func TestTheExamplesCommentedDefaultsAreTheDefaults(t *testing.T) {
	t.Setenv("RESEND_API_KEY", "re_123")
	t.Setenv("RUNBOOK_WEBHOOK_TOKEN", "t0ken")
	t.Setenv("MONGO_URL", "mongodb://localhost:27017")
	b, err := os.ReadFile("../../deploy/runbook.yaml")
	require.NoError(t, err)
	plain, err := Load("../../deploy/runbook.yaml")
	require.NoError(t, err)
	lines := strings.Split(string(b), "\n")
	shown := 0
	for i, line := range lines {
		trimmed := strings.TrimLeft(line, " ")
		field, isComment := strings.CutPrefix(trimmed, "# ")
		key, _, isField := strings.Cut(field, ":")
		switch key {
		case "taskQueue", "baseURL", "timeout", "every", "jitter", "retention", "level", "parallel", "escalateAfter", "keepOld", "reportWithin", "quietFor", "observations":
			if isComment && isField {
				lines[i] = line[:len(line)-len(trimmed)] + field
				shown++
			}
		}
	}
	require.Equal(t, 16, shown)
	path := filepath.Join(t.TempDir(), "runbook.yaml")
	require.NoError(t, os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600))
	all, err := Load(path)
	require.NoError(t, err)
	require.Equal(t, plain, all)
}

func TestDefaults(t *testing.T) {
	c, err := Load(write(t, small))
	require.NoError(t, err)
	require.Equal(t, "runbook", c.Temporal.TaskQueue)
	require.Equal(t, "https://api.resend.com", c.Mail.BaseURL)
	require.Equal(t, "127.0.0.1:8088", c.Webhook.Listen)
	shop := c.Targets["shop"]
	require.Equal(t, Backup{
		Schedule: "0 2 * * *", Jitter: Duration(time.Minute), Retention: Duration(7 * 24 * time.Hour),
		Timeout: Duration(4 * time.Hour), Compression: "gzip", Level: 3, Parallel: 4, MemoryMB: 48, ReadPreference: "primary",
	}, shop.Backup)
	require.Equal(t, Monitor{Schedule: "0 6 * * *", RPO: Duration(24 * time.Hour), RTO: Duration(2 * time.Hour)}, shop.Monitor)
	require.Equal(t, PodLoss{Observations: 3, Every: Duration(30 * time.Second)}, shop.PodLoss)
	require.Equal(t, int64(1000), *shop.Policy.MoreLoss)
	require.Equal(t, Duration(15*time.Minute), shop.Policy.EscalateAfter)
	require.Equal(t, Duration(72*time.Hour), shop.Policy.KeepOld)
	require.Equal(t, Duration(48*time.Hour), shop.Policy.ReportWithin)
	require.Nil(t, shop.Policy.AutoApprove)
	require.Nil(t, shop.Application.Health)
}

func TestAGroupThatIsGivenInPartKeepsItsOtherDefaults(t *testing.T) {
	c, err := Load(write(t, small+`    backup:
      level: 9
    policy:
      autoApprove: {maxMissing: 0, maxChanged: 5}
      moreLoss: 0
    foreignBackups:
      - dir: /var/backups/mongodb
`))
	require.NoError(t, err)
	shop := c.Targets["shop"]
	require.Equal(t, 9, shop.Backup.Level)
	require.Equal(t, 4, shop.Backup.Parallel)
	require.Equal(t, int64(0), *shop.Policy.MoreLoss)
	require.Equal(t, &AutoApprove{MaxChanged: 5}, shop.Policy.AutoApprove)
	require.Equal(t, Foreign{Dir: "/var/backups/mongodb", Pattern: "{database}_{time}", Zone: "UTC"}, shop.Foreign[0])
}

func TestTargetsByName(t *testing.T) {
	one := &Config{Targets: map[string]Target{"battwheels": {Alerts: []string{"a"}}}}
	name, target, err := one.Target("")
	require.NoError(t, err)
	require.Equal(t, "battwheels", name)
	require.Equal(t, []string{"a"}, target.Alerts)
	_, _, err = one.Target("batwheels")
	require.EqualError(t, err, `no target is named "batwheels": did you mean battwheels? Configured: battwheels`)

	two := &Config{Targets: map[string]Target{"shop": {}, "battwheels": {}}}
	name, _, err = two.Target("shop")
	require.NoError(t, err)
	require.Equal(t, "shop", name)
	_, _, err = two.Target("")
	require.EqualError(t, err, "several targets are configured: name one of battwheels, shop")
	_, _, err = two.Target("garage")
	require.EqualError(t, err, `no target is named "garage"; configured: battwheels, shop`)
	unknown, ok := errors.AsType[*UnknownTargetError](err)
	require.True(t, ok)
	require.Equal(t, []string{"battwheels", "shop"}, unknown.Valid)
}

func TestASecretFromAFile(t *testing.T) {
	path := write(t, strings.Replace(small, "${MAIL_KEY}", "{file: secrets/mail}", 1))
	dir := filepath.Join(filepath.Dir(path), "secrets")
	require.NoError(t, os.Mkdir(dir, 0o700))

	_, err := Load(path)
	require.EqualError(t, err, fmt.Sprintf("%s:6: mail.apiKey: has no value: its file cannot be read: stat %s/mail: no such file or directory", path, dir))

	require.NoError(t, os.WriteFile(filepath.Join(dir, "mail"), []byte("\n"), 0o600))
	_, err = Load(path)
	require.EqualError(t, err, fmt.Sprintf("%s:6: mail.apiKey: has no value: %s/mail is empty", path, dir))

	require.NoError(t, os.WriteFile(filepath.Join(dir, "mail"), []byte("re_456\n"), 0o600))
	c, err := Load(path)
	require.NoError(t, err)
	require.Equal(t, "re_456", c.Mail.APIKey.Value())
}

func TestASecretOutOfReachCanWait(t *testing.T) {
	path := write(t, small)
	t.Setenv("MAIL_KEY", "")
	_, err := Load(path)
	require.EqualError(t, err, path+":6: mail.apiKey: has no value: the environment variable MAIL_KEY is not set or is empty")

	c, err := LoadLenient(path)
	require.NoError(t, err)
	require.EqualError(t, c.Mail.APIKey.Err(), "the environment variable MAIL_KEY is not set or is empty")
	require.Empty(t, c.Mail.APIKey.Value())
	require.NoError(t, c.Webhook.Token.Err())
	require.Equal(t, "t0ken", c.Webhook.Token.Value())
}

func TestASecretIsNeverPrinted(t *testing.T) {
	c := Database{URI: NewSecret("hunter2"), Name: "shop"}
	kept := struct{ password Secret }{c.URI}
	j, err := json.Marshal(c)
	require.NoError(t, err)
	y, err := yaml.Marshal(c)
	require.NoError(t, err)
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("loaded", "database", c, "uri", c.URI)
	slog.New(slog.NewTextHandler(&log, nil)).Info("loaded", "database", c, "uri", c.URI)
	for _, printed := range []string{
		string(j), string(y), log.String(), c.URI.String(),
		fmt.Sprintf("%v %+v %#v %s %q %x", c, c, c, c, c, c),
		fmt.Sprintf("%v %+v %#v secret", kept, kept, kept),
		fmt.Sprintf("%v %+v %#v %s %q", c.URI, c.URI, c.URI, c.URI, &c.URI),
		fmt.Sprintf("%v %+v", &c, []any{c.URI}),
	} {
		require.NotContains(t, printed, "hunter2")
		require.NotContains(t, printed, "68756e74657232")
		require.Contains(t, printed, "secret")
	}
}

func TestDurations(t *testing.T) {
	for _, row := range []struct {
		written string
		means   time.Duration
		printed string
	}{
		{"90s", 90 * time.Second, "1m30s"},
		{"15m", 15 * time.Minute, "15m"},
		{"4h", 4 * time.Hour, "4h"},
		{"24h", 24 * time.Hour, "24h"},
		{"1h30m", 90 * time.Minute, "1h30m"},
		{"7d", 7 * 24 * time.Hour, "7d"},
		{"1d12h", 36 * time.Hour, "36h"},
		{"250ms", 250 * time.Millisecond, "250ms"},
		{"0s", 0, "0s"},
		{"0d", 0, "0s"},
	} {
		d, err := ParseDuration(row.written)
		require.NoError(t, err, row.written)
		require.Equal(t, row.means, time.Duration(d), row.written)
		require.Equal(t, row.printed, d.String())
		again, err := ParseDuration(d.String())
		require.NoError(t, err)
		require.Equal(t, d, again)
	}
	for _, wrong := range []string{"", "0", "5", "d", "-4h", "1d-4h", "1d+4h", "-1d", "1.5d", "7 days", "4h 5m", "1h2d", "99999999d", "1w"} {
		_, err := ParseDuration(wrong)
		require.EqualError(t, err, "expected a duration such as 90s, 15m, 4h or 7d", wrong)
	}
}

// TestADirectoryOfMailTemplates may be given from this file on; one that is not there is told, except where it is not needed.
func TestADirectoryOfMailTemplates(t *testing.T) {
	with := func(value string) string {
		return write(t, strings.Replace(small, "  brand: Shop", "  brand: Shop\n  templates: "+value, 1))
	}
	path := with("own/mails")
	dir := filepath.Dir(path)
	_, err := Load(path)
	require.EqualError(t, err, fmt.Sprintf("%s:6: mail.templates: cannot be read: stat %s/own/mails: no such file or directory; "+
		"expected a directory of mail templates (runbook mails templates writes one to begin from)", path, dir))
	cfg, err := LoadLenient(path)
	require.NoError(t, err)
	require.Equal(t, dir+"/own/mails", cfg.Mail.Templates)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "own/mails"), 0o700))
	_, err = Load(path)
	require.NoError(t, err)

	path = with(path)
	_, err = Load(path)
	require.ErrorContains(t, err, "which is no directory; expected one of mail templates")
	_, err = Load(with(`""`))
	require.ErrorContains(t, err, "mail.templates: is empty; expected a directory of mail templates")
}
