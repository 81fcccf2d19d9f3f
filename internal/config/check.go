package config

import (
	"fmt"
	"net"
	"net/mail"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // a static image has no time zones of its own

	"github.com/robfig/cron"
)

// checker checks values once all are read. Each check says what was expected.
type checker struct{ d *decoder }

// wrong notes what is wrong with a field, unless reading the field, or something in or around it, failed already.
func (c *checker) wrong(path, reason string, args ...any) {
	for _, e := range c.d.errs {
		if within(path, e.Field) || within(e.Field, path) {
			return
		}
	}
	for _, meant := range c.d.meant {
		if within(path, meant) {
			return
		}
	}
	c.d.fail(c.d.line(path), path, reason, args...)
}

// within says whether a field is the outer one, or stands in it.
func within(field, outer string) bool {
	rest, ok := strings.CutPrefix(field, outer)
	return ok && (outer == "" || rest == "" || rest[0] == '.' || rest[0] == '[')
}

// there says whether the file has this field.
func (c *checker) there(path string) bool {
	_, ok := c.d.lines[path]
	return ok
}

// required notes a field that is missing or empty, and says whether there is something to check further.
func (c *checker) required(path, value, expected string) bool {
	switch {
	case !c.there(path):
		c.wrong(path, "is missing; expected %s", expected)
	case strings.TrimSpace(value) == "":
		c.wrong(path, "is empty; expected %s", expected)
	default:
		return true
	}
	return false
}

func (c *checker) secret(path string, s Secret, expected string) bool {
	if s.err != nil {
		return false
	}
	if !c.there(path) {
		c.wrong(path, "is missing; expected %s: %s", expected, secretHint)
		return false
	}
	return s.Value() != ""
}

// web checks the address of something that speaks HTTP.
func (c *checker) web(path, value, example string) {
	u, err := url.Parse(value)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Fragment != "" || !validPort(u.Port()) {
		c.wrong(path, "is %q; expected an address like %s", value, example)
	} else if u.User != nil {
		c.wrong(path, "has a user's name in it, which does not belong into this file; expected an address like %s", example)
	}
}

func validPort(port string) bool {
	if port == "" {
		return true
	}
	n, err := strconv.Atoi(port)
	return err == nil && n > 0 && n < 1<<16
}

// directory checks the path of a directory or file on this host.
func (c *checker) path(path, value, example string) bool {
	if !c.required(path, value, "an absolute path like "+example) {
		return false
	}
	if !filepath.IsAbs(value) || filepath.Clean(value) == "/" {
		c.wrong(path, "is %q; expected an absolute path like %s", value, example)
		return false
	}
	return true
}

func (c *checker) positive(path string, d Duration) {
	if d <= 0 {
		c.wrong(path, "is %s; expected more than nothing", d)
	}
}

func (c *checker) between(path string, v, from, to int64, what string) {
	if v < from || v > to {
		c.wrong(path, "is %d; expected %s from %d to %d", v, what, from, to)
	}
}

func (c *checker) oneOf(path, value string, valid ...string) {
	if !slices.Contains(valid, value) {
		c.wrong(path, "is %q; expected one of %s", value, strings.Join(valid, ", "))
	}
}

func (c *checker) notNegative(path string, v int64) {
	if v < 0 {
		c.wrong(path, "is %d; expected 0 or more", v)
	}
}

// each checks a list of words: none empty, none twice.
func (c *checker) each(path string, list []string, what string) {
	for i, s := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		if strings.TrimSpace(s) == "" {
			c.wrong(at, "is empty; expected %s", what)
		} else if first := slices.Index(list, s); first < i {
			c.wrong(at, "is %q, which stands there already", s)
		}
	}
}

func (c *checker) addresses(path string, list []string) {
	c.each(path, list, "an e-mail address")
	for i, s := range list {
		if _, err := mail.ParseAddress(s); err != nil {
			c.wrong(fmt.Sprintf("%s[%d]", path, i), "is %q; expected an e-mail address like oncall@example.com", s)
		}
	}
}

// schedule checks a cron expression and returns its shortest period: zero where it is wrong.
func (c *checker) schedule(path, expression string) time.Duration {
	s, err := cron.ParseStandard(expression)
	if err != nil {
		c.wrong(path, `is %q; expected five cron fields (minute, hour, day of month, month, day of week), in UTC, like "0 2 * * *"`, expression)
		return 0
	}
	at := s.Next(time.Date(2023, 12, 31, 23, 59, 59, 0, time.UTC))
	if at.IsZero() {
		c.wrong(path, "is %q, which never comes", expression)
		return 0
	}
	// Two hundred runs in a row see every gap that a day or a week can have; rarer schedules have none that matters.
	shortest := 366 * day
	for range 200 {
		next := s.Next(at)
		if next.IsZero() {
			break
		}
		shortest, at = min(shortest, next.Sub(at)), next
	}
	return shortest
}

// names of targets become folders, workflow ids and parts of addresses.
var targetName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

func (c *checker) config(cfg *Config) {
	c.temporal(&cfg.Temporal)
	storage := c.path("storage.dir", cfg.Storage.Dir, "/var/lib/runbook")
	if c.there("storage.offsite") {
		c.offsite("storage.offsite", &cfg.Storage)
	}
	c.mail(&cfg.Mail)
	c.webhook(&cfg.Webhook)
	c.hasTargets(cfg)
	for _, name := range cfg.TargetNames() {
		path := "targets." + name
		c.targetName(path, name)
		t := cfg.Targets[name]
		c.target(path, &t)
		c.apart(path, storage, cfg.Storage.Dir, &t)
	}
}

// offline checks what a dump or a restore without Temporal uses.
func (c *checker) offline(cfg *Config, target string) {
	storage := c.path("storage.dir", cfg.Storage.Dir, "/var/lib/runbook")
	c.hasTargets(cfg)
	for _, name := range cfg.TargetNames() {
		if target != "" && target != name {
			continue
		}
		path := "targets." + name
		c.targetName(path, name)
		t := cfg.Targets[name]
		c.database(path+".database", &t.Database)
		c.backup(path+".backup", &t.Backup)
		for i, f := range t.Foreign {
			c.foreign(fmt.Sprintf("%s.foreignBackups[%d]", path, i), &f)
		}
		c.positive(path+".policy.quietFor", t.Policy.QuietFor)
		c.apart(path, storage, cfg.Storage.Dir, &t)
	}
}

func (c *checker) hasTargets(cfg *Config) {
	if len(cfg.Targets) == 0 {
		c.wrong("targets", "names no target; expected at least one application to protect, by name")
	}
}

func (c *checker) targetName(path, name string) {
	if !targetName.MatchString(name) {
		c.wrong(path, "is not a name that can be a folder and a workflow id; expected small letters, digits, - and _, such as battwheels")
	}
}

// apart makes sure that runbook's own storage and other tools' directories do not lie in each other.
func (c *checker) apart(path string, storage bool, dir string, t *Target) {
	for i, f := range t.Foreign {
		if storage && filepath.IsAbs(f.Dir) && nested(dir, f.Dir) {
			c.wrong(fmt.Sprintf("%s.foreignBackups[%d].dir", path, i),
				"is %s, and storage.dir is %s; expected neither to lie in the other", f.Dir, dir)
		}
	}
}

func (c *checker) offsite(path string, s *Storage) {
	const expected = "the address of a bucket, such as s3://my-backups?region=eu-central-1, gs://my-backups, azblob://my-backups or file:///mnt/backups"
	if !c.required(path+".url", s.Offsite.URL, expected) {
		return
	}
	u, err := url.Parse(s.Offsite.URL)
	switch {
	case err != nil || !slices.Contains([]string{"s3", "gs", "azblob", "file"}, u.Scheme) || u.Scheme != "file" && u.Host == "":
		c.wrong(path+".url", "is %q; expected %s", s.Offsite.URL, expected)
	case u.User != nil:
		c.wrong(path+".url", "has credentials in it, which do not belong into this file; set them as the service's own tools take them, such as AWS_ACCESS_KEY_ID")
	case u.Scheme == "file" && (!filepath.IsAbs(u.Path) || nested(s.Dir, u.Path)):
		c.wrong(path+".url", "is %q, and storage.dir is %s; expected a directory on another disk, neither in the other", s.Offsite.URL, s.Dir)
	}
	if c.there(path + ".keep") {
		c.positive(path+".keep", s.Offsite.Keep)
	}
}

func nested(a, b string) bool {
	a, b = filepath.Clean(a)+"/", filepath.Clean(b)+"/"
	return strings.HasPrefix(a, b) || strings.HasPrefix(b, a)
}

func (c *checker) temporal(t *Temporal) {
	if strings.TrimSpace(t.TaskQueue) == "" || strings.ContainsAny(t.TaskQueue, " \t\n@/") {
		c.wrong("temporal.taskQueue", "is %q; expected a name without spaces, @ and /, such as runbook", t.TaskQueue)
	}
	if c.there("temporal.host") && (t.Host == "" || strings.ContainsAny(t.Host, " \t\n@/")) {
		c.wrong("temporal.host", "is %q; expected a name without spaces, @ and /, such as db-1", t.Host)
	}
	if c.there("temporal.ui") {
		c.web("temporal.ui", t.UI, "http://127.0.0.1:8233")
	}
}

func (c *checker) mail(m *Mail) {
	const from = `an address like "Battwheels OS <noreply@example.com>"`
	if c.required("mail.from", m.From, from) {
		if _, err := mail.ParseAddress(m.From); err != nil {
			c.wrong("mail.from", "is %q; expected %s", m.From, from)
		}
	}
	c.required("mail.brand", m.Brand, "the product's name as its customers know it")
	c.secret("mail.apiKey", m.APIKey, "the key of the mail service")
	c.web("mail.baseURL", m.BaseURL, "https://api.resend.com")
	if c.there("mail.templates") && c.required("mail.templates", m.Templates, "a directory of mail templates") {
		c.templates(m)
	}
	if m.Support != "" {
		c.addresses("mail.support", []string{m.Support})
	}
}

// templates makes the path absolute and sees that there is such a directory; what is in it is package mail's to check.
func (c *checker) templates(m *Mail) {
	if !filepath.IsAbs(m.Templates) {
		m.Templates = filepath.Join(c.d.dir, m.Templates)
	}
	if abs, err := filepath.Abs(m.Templates); err == nil {
		m.Templates = abs
	}
	info, err := os.Stat(m.Templates)
	switch {
	case err != nil && c.d.lenient: // a shell on another host needs none
	case err != nil:
		c.wrong("mail.templates", "cannot be read: %s; expected a directory of mail templates (runbook mails templates writes one to begin from)", err)
	case !info.IsDir():
		c.wrong("mail.templates", "is %s, which is no directory; expected one of mail templates", m.Templates)
	}
}

func (c *checker) webhook(w *Webhook) {
	if _, port, err := net.SplitHostPort(w.Listen); err != nil || port == "" || !validPort(port) && port != "0" {
		c.wrong("webhook.listen", "is %q; expected host and port, like 127.0.0.1:8088", w.Listen)
	}
	if c.secret("webhook.token", w.Token, "the bearer token that every alert must carry") && strings.ContainsAny(w.Token.Value(), " \t\r\n") {
		c.wrong("webhook.token", "has a space in it, which no bearer token can have")
	}
}
