package config

import (
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

func (c *checker) target(path string, t *Target) {
	c.database(path+".database", &t.Database)
	c.application(path+".application", &t.Application)
	c.tenants(path+".tenants", &t.Tenants)
	for i, l := range t.AuditLogs {
		at := fmt.Sprintf("%s.auditLogs[%d]", path, i)
		c.required(at+".collection", l.Collection, "the name of a collection, such as audit_logs")
		c.required(at+".time", l.Time, "the field of an entry's time, such as timestamp")
		for _, before := range t.AuditLogs[:i] {
			if before.Collection == l.Collection && l.Collection != "" {
				c.wrong(at+".collection", "is %q, which stands there already", l.Collection)
			}
		}
	}
	if len(t.Contacts.OnCall) == 0 {
		c.wrong(path+".contacts.onCall", "is missing; expected the e-mail address of at least one person who is asked to approve")
	}
	c.addresses(path+".contacts.onCall", t.Contacts.OnCall)
	c.addresses(path+".contacts.escalation", t.Contacts.Escalation)
	c.backup(path+".backup", &t.Backup)
	for i, f := range t.Foreign {
		c.foreign(fmt.Sprintf("%s.foreignBackups[%d]", path, i), &f)
	}
	c.monitor(path, t)
	c.drill(path+".drill", t)
	c.each(path+".verify.keyCounts", t.Verify.KeyCounts, "the name of a collection")
	c.queries(path+".verify.queries", t.Verify.Queries)
	c.policy(path+".policy", &t.Policy)
	c.each(path+".alerts", t.Alerts, "an alert's name")
	c.podLoss(path+".podLoss", t)
	c.deletions(path+".deletions", t)
}

func (c *checker) queries(path string, list []Query) {
	for i := range list {
		q := &list[i]
		at := fmt.Sprintf("%s[%d]", path, i)
		c.required(at+".name", q.Name, "what it finds, in words, such as invoices without an organization")
		c.required(at+".collection", q.Collection, "the name of a collection")
		q.Parsed = bson.D{}
		if q.Filter != "" {
			if err := bson.UnmarshalExtJSON([]byte(q.Filter), false, &q.Parsed); err != nil {
				c.wrong(at+".filter", `is not extended JSON (%v); expected a filter like '{"organization_id": null}'`, err)
			}
		}
		switch {
		case q.Min == nil && q.Max == nil:
			c.wrong(at, "has neither min nor max; expected how many documents it finds at least, or at most, in a sound database")
		case q.Min != nil && *q.Min < 0, q.Max != nil && *q.Max < 0, q.Min != nil && q.Max != nil && *q.Min > *q.Max:
			c.wrong(at, "can never hold; expected 0 <= min <= max")
		}
	}
}

func (c *checker) database(path string, d *Database) {
	if c.secret(path+".uri", d.URI, "the address of the database") {
		// The address itself is not repeated: it holds the password.
		if !mongoAddress(d.URI.Value()) {
			c.wrong(path+".uri", "refers to something that is no MongoDB address; expected one that begins with mongodb:// or mongodb+srv://")
		}
	}
	if c.required(path+".name", d.Name, "the name of the database") {
		c.databaseName(path+".name", d.Name)
	}
}

func (c *checker) databaseName(path, name string) {
	switch {
	case strings.ContainsAny(name, "/\\. \"$*<>:|?\x00") || len(name) > 63:
		c.wrong(path, "is %q; expected a name that MongoDB takes: at most 63 bytes, without spaces and any of / \\ . \" $ * < > : | ?", name)
	case name == "admin" || name == "local" || name == "config":
		c.wrong(path, "is %q, which belongs to the server; expected the application's database", name)
	}
}

func (c *checker) application(path string, a *Application) {
	var ways []string
	if a.Supervisor != nil {
		ways = append(ways, "supervisor")
	}
	if a.Kubernetes != nil {
		ways = append(ways, "kubernetes")
	}
	if a.Command != nil {
		ways = append(ways, "command")
	}
	if a.None {
		ways = append(ways, "none")
	}
	switch len(ways) {
	case 0:
		c.wrong(path, "does not say how the application is stopped; expected one of supervisor, kubernetes, command, or none: true where nothing is to be stopped")
	case 1:
	default:
		c.wrong(path, "has %s; expected exactly one of supervisor, kubernetes, command, none", strings.Join(ways, " and "))
	}
	if a.Supervisor != nil {
		c.supervisor(path+".supervisor", a.Supervisor)
	}
	if a.Kubernetes != nil {
		c.kubernetes(path+".kubernetes", a.Kubernetes)
	}
	if a.Command != nil {
		c.command(path+".command", a.Command)
	}
	if a.Health != nil {
		c.health(path+".health", a.Health)
	}
}

func (c *checker) supervisor(path string, s *Supervisor) {
	const example = "unix:///var/run/supervisor.sock or http://127.0.0.1:9001"
	if c.required(path+".url", s.URL, example) {
		u, err := url.Parse(s.URL)
		socket := err == nil && u.Scheme == "unix" && u.Host == "" && filepath.IsAbs(u.Path)
		inet := err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && validPort(u.Port())
		switch {
		case !socket && !inet:
			c.wrong(path+".url", "is %q; expected %s", s.URL, example)
		case u.User != nil:
			c.wrong(path+".url", "holds a user; expected it in username and password beside it")
		}
	}
	if (s.Username == "") != !c.there(path+".password") {
		c.wrong(path, "has one of username and password; expected both, or neither")
	}
	if len(s.Programs) == 0 {
		c.wrong(path+".programs", "is missing; expected the programs that write to the database, in the order in which they are stopped")
	}
	c.each(path+".programs", s.Programs, "the name of a program")
	c.positive(path+".timeout", s.Timeout)
}

// workloadForm is the kind of a workload and its name, which Kubernetes allows to be a DNS subdomain.
var workloadForm = regexp.MustCompile(`^(deployment|statefulset)/[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)

// namespaceForm is a DNS label.
var namespaceForm = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

func (c *checker) kubernetes(path string, k *Kubernetes) {
	if c.required(path+".namespace", k.Namespace, "the namespace of the workloads") && !namespaceForm.MatchString(k.Namespace) {
		c.wrong(path+".namespace", "is %q; expected the name of a namespace: small letters, digits and -, at most 63 of them", k.Namespace)
	}
	if len(k.Workloads) == 0 {
		c.wrong(path+".workloads", "is missing; expected the deployments and stateful sets that write to the database, in the order in which they are stopped")
	}
	const example = "deployment/backend or statefulset/worker"
	c.each(path+".workloads", k.Workloads, "a workload like "+example)
	for i, w := range k.Workloads {
		if !workloadForm.MatchString(w) {
			c.wrong(fmt.Sprintf("%s.workloads[%d]", path, i), "is %q; expected a workload like %s", w, example)
		}
	}
	switch {
	case c.there(path + ".kubeconfig"):
		c.path(path+".kubeconfig", k.Kubeconfig, "/etc/runbook/kubeconfig")
	case c.there(path + ".context"):
		c.wrong(path+".context", "is a context of no kubeconfig; expected kubeconfig beside it, or neither where the worker runs in the cluster")
	}
	c.positive(path+".timeout", k.Timeout)
}

func (c *checker) command(path string, cmd *Command) {
	for _, one := range []struct {
		name string
		argv []string
		what string
	}{
		{"stop", cmd.Stop, "the program that stops the application, and its arguments, as a list"},
		{"start", cmd.Start, "the program that starts the application, and its arguments, as a list"},
		{"state", cmd.State, "a program that exits 0 while the application runs and 3 when it is stopped, and its arguments, as a list"},
	} {
		if len(one.argv) == 0 || strings.TrimSpace(one.argv[0]) == "" {
			c.wrong(path+"."+one.name, "is missing; expected %s", one.what)
		}
	}
	c.positive(path+".timeout", cmd.Timeout)
}

func (c *checker) health(path string, h *Health) {
	if c.required(path+".url", h.URL, "an address like http://localhost:8001/api/health") {
		c.web(path+".url", h.URL, "http://localhost:8001/api/health")
	}
	if len(h.Expect) == 0 {
		c.wrong(path+".expect", "is missing; expected the words of the JSON answer that mean healthy, such as status: healthy")
	}
	c.positive(path+".timeout", h.Timeout)
	c.positive(path+".every", h.Every)
	if h.Every > h.Timeout {
		c.wrong(path+".every", "is %s; expected less than timeout, which is %s", h.Every, h.Timeout)
	}
}

func (c *checker) tenants(path string, t *Tenants) {
	if !c.there(path) {
		return
	}
	c.required(path+".field", t.Field, "the field that names the organization in every document, such as organization_id")
	c.required(path+".collection", t.Collection, "the collection of the organizations, such as organizations")
	c.required(path+".name", t.Name, "the field of an organization's name, such as name")
	c.required(path+".email", t.Email, "the field of an organization's e-mail address, such as email")
	if !c.there(path + ".owners") {
		return
	}
	c.required(path+".owners.collection", t.Owners.Collection, "the collection of the users, such as users")
	c.required(path+".owners.email", t.Owners.Email, "the field of a user's e-mail address, such as email")
	if len(t.Owners.Match) == 0 {
		c.wrong(path+".owners.match", "is missing; expected what makes a user the owner, such as role: owner")
	}
}

func (c *checker) backup(path string, b *Backup) {
	period := c.schedule(path+".schedule", b.Schedule)
	if time.Duration(b.Jitter) >= period && period > 0 {
		c.wrong(path+".jitter", "is %s; expected less than the schedule's period, which is %s", b.Jitter, Duration(period))
	}
	c.positive(path+".timeout", b.Timeout)
	if time.Duration(b.Timeout) >= period && period > 0 {
		c.wrong(path+".timeout", "is %s; expected less than the schedule's period, which is %s: a run must have ended before the next is due", b.Timeout, Duration(period))
	}
	c.positive(path+".retention", b.Retention)
	c.oneOf(path+".compression", b.Compression, "gzip", "zstd")
	c.between(path+".level", int64(b.Level), 1, 9, "a level of compression")
	c.between(path+".parallel", int64(b.Parallel), 1, 64, "a number of cursors")
	c.between(path+".memoryMB", int64(b.MemoryMB), 32, 64<<10, "a number of MiB")
	c.oneOf(path+".readPreference", b.ReadPreference, "primary", "primaryPreferred", "secondary", "secondaryPreferred", "nearest")
	c.notNegative(path+".documentsPerSecond", b.DocumentsPerSecond)
	c.notNegative(path+".bytesPerSecond", b.BytesPerSecond)
}

func (c *checker) foreign(path string, f *Foreign) {
	c.path(path+".dir", f.Dir, "/var/backups/mongodb")
	if strings.Count(f.Pattern, "{time}") != 1 || strings.Count(f.Pattern, "{database}") > 1 || strings.Contains(f.Pattern, "/") ||
		strings.ContainsAny(strings.NewReplacer("{time}", "", "{database}", "").Replace(f.Pattern), "{}") {
		c.wrong(path+".pattern", "is %q; expected the name of a backup's directory with {time} in it once, and {database} where that stands there, like {database}_{time}", f.Pattern)
	}
	if _, err := time.LoadLocation(f.Zone); err != nil || f.Zone == "" {
		c.wrong(path+".timezone", "is %q; expected a time zone like UTC or Asia/Kolkata, or Local for this host's own", f.Zone)
	}
	if c.there(path + ".log") {
		c.path(path+".log", f.Log, "/var/log/mongodb_backup.log")
	}
}

func (c *checker) monitor(path string, t *Target) {
	m := &t.Monitor
	c.schedule(path+".monitor.schedule", m.Schedule)
	c.positive(path+".monitor.rpo", m.RPO)
	c.positive(path+".monitor.rto", m.RTO)
	c.notNegative(path+".monitor.minCollections", int64(m.MinCollections))
	c.notNegative(path+".monitor.drillWithin", int64(m.DrillWithin))
	if t.Backup.Retention > 0 && t.Backup.Retention < m.RPO {
		c.wrong(path+".backup.retention", "is %s; expected at least monitor.rpo, which is %s", t.Backup.Retention, m.RPO)
	}
}

// NoDrill is the schedule of a target that is not drilled by itself.
const NoDrill = "never"

func (c *checker) drill(path string, t *Target) {
	d := &t.Drill
	if d.Schedule != NoDrill {
		c.schedule(path+".schedule", d.Schedule)
	}
	c.positive(path+".timeout", d.Timeout)
	if d.Database != "" {
		c.databaseName(path+".database", d.Database)
		if d.Database == t.Database.Name {
			c.wrong(path+".database", "is %q, the live database; expected a name that nothing else uses", d.Database)
		}
	}
	if c.there(path+".uri") && c.secret(path+".uri", d.URI, "the address of a scratch server") && !mongoAddress(d.URI.Value()) {
		c.wrong(path+".uri", "refers to something that is no MongoDB address; expected one that begins with mongodb:// or mongodb+srv://")
	}
}

func mongoAddress(s string) bool {
	return strings.HasPrefix(s, "mongodb://") || strings.HasPrefix(s, "mongodb+srv://")
}

func (c *checker) policy(path string, p *Policy) {
	if a := p.AutoApprove; a != nil {
		for name, v := range map[string]int64{"maxMissing": a.MaxMissing, "maxChanged": a.MaxChanged} {
			if at := path + ".autoApprove." + name; c.there(at) {
				c.notNegative(at, v)
			} else {
				c.wrong(at, "is missing; expected the number of documents up to which no person is asked")
			}
		}
	}
	c.positive(path+".escalateAfter", p.EscalateAfter)
	c.each(path+".ignoreClients", p.IgnoreClients, "the application name with which a client connects")
	c.positive(path+".reportWithin", p.ReportWithin)
	if p.MoreLoss != nil {
		c.notNegative(path+".moreLoss", *p.MoreLoss)
	}
}
