// Package config is runbook.yaml: its shape, its strict loading, and its secrets by reference. It knows no server
// and starts nothing.
package config

import (
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Config is the whole of runbook.yaml.
type Config struct {
	Temporal Temporal          `yaml:"temporal"`
	Storage  Storage           `yaml:"storage"`
	Mail     Mail              `yaml:"mail"`
	Webhook  Webhook           `yaml:"webhook"`
	Targets  map[string]Target `yaml:"targets"`
}

// Temporal says where workflows run. Address, namespace, TLS and keys come from the standard TEMPORAL_*
// environment and profile files.
type Temporal struct {
	TaskQueue string `yaml:"taskQueue"` // default "runbook"
	Host      string `yaml:"host"`      // names this host's own queue; default the host's name
	UI        string `yaml:"ui"`        // base URL of the Web UI, for links in mails and reports
}

// Storage is where runbook keeps what it writes on this host.
type Storage struct {
	Dir     string  `yaml:"dir"` // holds backups/TARGET, foreign/TARGET and incidents/TARGET
	Offsite Offsite `yaml:"offsite"`
}

// Offsite is the bucket to which proven backups are copied. Its zero value means that there is none.
type Offsite struct {
	URL  string   `yaml:"url"`  // s3://BUCKET?region=…, gs://BUCKET, azblob://CONTAINER or file:///DIRECTORY
	Keep Duration `yaml:"keep"` // older copies are deleted; default: none is
}

// Mail is the mail service.
type Mail struct {
	From    string `yaml:"from"`  // "Battwheels OS <noreply@…>"
	Brand   string `yaml:"brand"` // the product's name as its customers know it
	APIKey  Secret `yaml:"apiKey"`
	BaseURL string `yaml:"baseURL"` // of Resend's API; default https://api.resend.com
	Support string `yaml:"support"` // address that customers may ask; where empty, they are asked to answer the mail
	// Templates is a directory of templates that replace runbook's own, by their names; empty: none. Absolute once loaded.
	Templates string `yaml:"templates"`
}

// Webhook is the receiver of alerts.
type Webhook struct {
	Listen string `yaml:"listen"` // default 127.0.0.1:8088
	Token  Secret `yaml:"token"`  // bearer token that every request must carry
}

// Target is one protected application.
type Target struct {
	Database    Database    `yaml:"database"`
	Application Application `yaml:"application"`
	Tenants     Tenants     `yaml:"tenants"`
	AuditLogs   []AuditLog  `yaml:"auditLogs"`
	Contacts    Contacts    `yaml:"contacts"`
	Backup      Backup      `yaml:"backup"`
	Foreign     []Foreign   `yaml:"foreignBackups"`
	Monitor     Monitor     `yaml:"monitor"`
	Drill       Drill       `yaml:"drill"`
	Verify      Verify      `yaml:"verify"`
	Policy      Policy      `yaml:"policy"`
	Alerts      []string    `yaml:"alerts"` // values of alertname that mean corruption of this target
	PodLoss     PodLoss     `yaml:"podLoss"`
	Deletions   Deletions   `yaml:"deletions"`
}

// Database is the target's database.
type Database struct {
	URI  Secret `yaml:"uri"`
	Name string `yaml:"name"`
}

// Application says how to stop, start and check what writes to the database.
type Application struct {
	Supervisor *Supervisor `yaml:"supervisor"`
	Kubernetes *Kubernetes `yaml:"kubernetes"`
	Command    *Command    `yaml:"command"`
	None       bool        `yaml:"none"` // nothing to stop: said out loud, never assumed
	Health     *Health     `yaml:"health"`
}

// Supervisor drives programs through supervisord's XML-RPC.
type Supervisor struct {
	URL      string   `yaml:"url"` // unix:///var/run/supervisor.sock or http://127.0.0.1:9001
	Username string   `yaml:"username"`
	Password Secret   `yaml:"password"`
	Programs []string `yaml:"programs"` // stopped in this order, started in the reverse
	Timeout  Duration `yaml:"timeout"`  // for each program to stop or start; default 60s
}

// Kubernetes scales deployments and stateful sets to 0 and back.
type Kubernetes struct {
	Namespace  string   `yaml:"namespace"`
	Workloads  []string `yaml:"workloads"`  // deployment/NAME or statefulset/NAME; stopped in this order, started in the reverse
	Kubeconfig string   `yaml:"kubeconfig"` // path; default: the service account of the pod that the worker runs in
	Context    string   `yaml:"context"`    // of the kubeconfig; default its current one
	Timeout    Duration `yaml:"timeout"`    // for each workload to stop or start; default 5m
}

// Command drives an application by commands, run without a shell. State answers 0 for running, 3 for stopped.
type Command struct {
	Stop    []string `yaml:"stop"`
	Start   []string `yaml:"start"`
	State   []string `yaml:"state"`
	Timeout Duration `yaml:"timeout"`
}

// Health is a check by the words of a JSON answer, whatever the HTTP status says.
type Health struct {
	URL     string            `yaml:"url"`
	Expect  map[string]string `yaml:"expect"`  // dotted path → expected value
	Timeout Duration          `yaml:"timeout"` // until healthy after a start; default 2m
	Every   Duration          `yaml:"every"`   // default 2s
}

// Tenants says how the database tells its organizations apart, and whom to write to.
type Tenants struct {
	Field      string `yaml:"field"`      // of every tenant's documents: organization_id
	Collection string `yaml:"collection"` // organizations
	Name       string `yaml:"name"`       // field of the organization's name
	Email      string `yaml:"email"`      // field of its address
	Active     string `yaml:"active"`     // boolean field
	Owners     Owners `yaml:"owners"`     // where an organization has no address of its own
}

// Owners finds the address of an organization's owner.
type Owners struct {
	Collection string            `yaml:"collection"` // users
	Email      string            `yaml:"email"`
	Match      map[string]string `yaml:"match"`  // role: owner
	Active     string            `yaml:"active"` // boolean field
}

// AuditLog is a collection whose entries newer than the backup must survive a restore.
type AuditLog struct {
	Collection string `yaml:"collection"`
	Time       string `yaml:"time"` // field: a date, or an ISO 8601 string that means UTC where it has no zone
	// Fields names the others, where deletions are looked for in it and its names are not the known ones.
	Fields AuditFields `yaml:"fields"`
}

// Contacts are the people inside who are told.
type Contacts struct {
	OnCall     []string `yaml:"onCall"`     // approval asked for, done
	Escalation []string `yaml:"escalation"` // when nobody answers
}

// Backup is the policy of the target's own backups.
type Backup struct {
	Schedule  string   `yaml:"schedule"`  // cron, UTC; default "0 2 * * *"
	Jitter    Duration `yaml:"jitter"`    // default 1m
	Retention Duration `yaml:"retention"` // default 7d
	Timeout   Duration `yaml:"timeout"`   // of one run; below the period; default 4h
	// Compression is gzip, the default, or zstd, which the stock tools cannot read.
	Compression string `yaml:"compression"`
	Level       int    `yaml:"level"`    // of compression, 1 to 9; default 3
	Parallel    int    `yaml:"parallel"` // cursors at a time when dumping, collections when restoring; default 4
	MemoryMB    int    `yaml:"memoryMB"` // MiB of documents on their way from the server to the disk; default 48
	// ReadPreference says which members a backup reads: primary, the default, or another of MongoDB's modes. Dumps in an
	// incident always read the primary, and know no limit of speed.
	ReadPreference     string `yaml:"readPreference"`
	DocumentsPerSecond int64  `yaml:"documentsPerSecond"` // default 0: no limit
	BytesPerSecond     int64  `yaml:"bytesPerSecond"`     // of BSON; default 0: no limit
}

// Foreign is a directory of dumps that another tool makes.
type Foreign struct {
	Dir       string `yaml:"dir"`
	Pattern   string `yaml:"pattern"`  // default {database}_{time}
	Zone      string `yaml:"timezone"` // of the time in the name; default UTC
	Log       string `yaml:"log"`      // the script's log, where there is one
	Retention bool   `yaml:"retention"`
}

// Monitor is what BackupMonitor expects.
type Monitor struct {
	Schedule       string   `yaml:"schedule"`       // default "0 6 * * *"
	RPO            Duration `yaml:"rpo"`            // default 24h
	RTO            Duration `yaml:"rto"`            // default 2h
	MinCollections int      `yaml:"minCollections"` // 218
	// DrillWithin is how old the last drill that passed may be; default 0: it is not watched.
	DrillWithin Duration `yaml:"drillWithin"`
}

// Drill restores the newest proven backup into a scratch database, to see that it can be.
type Drill struct {
	Schedule string   `yaml:"schedule"` // default "never": a drill loads a second copy onto the server
	Database string   `yaml:"database"` // of the scratch; default runbook_drill_TARGET
	URI      Secret   `yaml:"uri"`      // of another server for it; default: the database's own
	Timeout  Duration `yaml:"timeout"`  // of one step; default 12h
}

// Verify names the collections whose counts people know: shown in plan, result and mail. Queries hold on a database that is sound.
type Verify struct {
	KeyCounts []string `yaml:"keyCounts"`
	Queries   []Query  `yaml:"queries"`
}

// Query counts documents. Fewer or more than these say that the data is damaged.
type Query struct {
	Name       string `yaml:"name"` // in words, for people
	Collection string `yaml:"collection"`
	Filter     string `yaml:"filter"` // extended JSON; empty: every document
	Min        *int64 `yaml:"min"`
	Max        *int64 `yaml:"max"`

	Parsed bson.D `yaml:"-"` // Filter
}

// Policy is what a playbook may do by itself, and how long it waits.
type Policy struct {
	AutoApprove   *AutoApprove `yaml:"autoApprove"`
	EscalateAfter Duration     `yaml:"escalateAfter"` // an unanswered request; default 15m
	KeepOld       Duration     `yaml:"keepOld"`       // replaced collections; default 72h
	ReportWithin  Duration     `yaml:"reportWithin"`  // default 48h
	QuietFor      Duration     `yaml:"quietFor"`      // between two equal digests; default 2s
	// IgnoreClients are application names of clients that do not count as writers although they are connected.
	IgnoreClients []string `yaml:"ignoreClients"`
	// MoreLoss is how many documents the loss may grow, between approval and the final safety dump, without asking
	// again. Default 1000.
	MoreLoss *int64 `yaml:"moreLoss"`
}

// AutoApprove lets a plan through without a person, while its blast radius stays within all of these.
type AutoApprove struct {
	MaxMissing int64 `yaml:"maxMissing"` // documents that would be lost: in the database, not in the backup
	MaxChanged int64 `yaml:"maxChanged"`
}

// Secret is a value given by reference only: ${ENV}, or a file. It prints as <secret>.
type Secret struct {
	// A pointer, because fmt prints unexported fields of structs around it without asking Secret's methods.
	value *string
	err   error
}

// NewSecret wraps a value.
func NewSecret(v string) Secret { return Secret{value: &v} }

// Duration is a time.Duration written like 90s, 4h or 7d.
type Duration time.Duration
