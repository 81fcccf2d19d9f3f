package config

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// change is one edit of the small configuration: old is replaced by new; an empty old appends.
type change struct{ old, new string }

func TestWhatIsWrongIsNamedWithItsLine(t *testing.T) {
	targets := small[strings.Index(small, "targets:"):]
	t.Setenv("UNSET", "")
	t.Setenv("SPACED", "to ken")
	t.Setenv("HTTP", "http://127.0.0.1:27017/hunter2")
	for _, row := range []struct {
		name string
		change
		want string // FILE stands for the path
	}{
		{"an empty file", change{small, ""},
			"FILE: is empty; deploy/runbook.yaml of the project is an example to start from"},
		{"only comments", change{small, "# nothing yet\n"},
			"FILE: is empty; deploy/runbook.yaml of the project is an example to start from"},
		{"not YAML: a tab", change{"  brand: Shop", "\tbrand: Shop"},
			"FILE:5: is not YAML: found character '\t' that cannot start any token"},
		{"not YAML: a quote left open", change{"  brand: Shop", `  brand: "Shop`},
			"FILE:5: is not YAML: could not find end character of double-quoted text"},
		{"a second document", change{"", "---\nmail: {}\n"},
			"FILE:19: holds a second document; expected one"},
		{"a list instead of the file's fields", change{small, "- storage\n"},
			"FILE:1: is a list; expected a group of fields"},
		{"a field misspelt", change{"  brand: Shop", "  brnad: Shop"},
			"FILE:5: mail.brnad: there is no such field; did you mean brand? valid here: apiKey, baseURL, brand, from, support, templates"},
		{"a field that is nothing like a valid one", change{"  brand: Shop", "  brand: Shop\n  dkimSelector: x"},
			"FILE:6: mail.dkimSelector: there is no such field; valid here: apiKey, baseURL, brand, from, support, templates"},
		{"a section misspelt", change{"storage:", "storge:"},
			"FILE:1: storge: there is no such field; did you mean storage? valid here: mail, storage, targets, temporal, webhook"},
		{"a field of a target misspelt", change{"    application:", "    aplication:"},
			"FILE:14: targets.shop.aplication: there is no such field; did you mean application? valid here: alerts, application, auditLogs, backup, contacts, database, deletions, drill, foreignBackups, monitor, podLoss, policy, tenants, verify"},
		{"a field twice", change{"  brand: Shop", "  brand: Shop\n  brand: Store"},
			"FILE:6: mail.brand: stands here a second time; the first is on line 5"},
		{"a target twice", change{"", "  shop:\n    database: {}\n"},
			"FILE:18: targets.shop: stands here a second time; the first is on line 10"},
		{"a field without a value", change{"  brand: Shop", "  brand:"},
			"FILE:5: mail.brand: is empty; expected text. Remove the line where it is not wanted"},
		{"a group without fields", change{"    database:\n      uri: ${MONGO}\n      name: shop", "    database:"},
			"FILE:11: targets.shop.database: is empty; expected a group of fields. Remove the line where it is not wanted"},
		{"an anchor", change{"  brand: Shop", "  brand: &b Shop"},
			"FILE:5: mail.brand: anchors, aliases and tags are not read here; write the value out"},
		{"an alias", change{"  brand: Shop", "  brand: *b"},
			"FILE:5: mail.brand: anchors, aliases and tags are not read here; write the value out"},
		{"a merge", change{"    database:\n      uri: ${MONGO}", "    database:\n      <<: {a: b}\n      uri: ${MONGO}"},
			"FILE:12: targets.shop.database: anchors, aliases and tags are not read here; write the value out"},
		{"text instead of a group", change{"    database:\n      uri: ${MONGO}\n      name: shop", "    database: shop"},
			`FILE:11: targets.shop.database: is "shop"; expected a group of fields`},
		{"text instead of a list", change{"[oncall@shop.example]", "oncall@shop.example"},
			`FILE:17: targets.shop.contacts.onCall: is "oncall@shop.example"; expected a list`},
		{"a group instead of text", change{"  brand: Shop", "  brand: {name: Shop}"},
			"FILE:5: mail.brand: is a group of fields; expected text"},
		{"a number instead of text", change{"  brand: Shop", "  brand: 360"},
			"FILE:5: mail.brand: is 360; expected text: put it in quotes"},
		{"text instead of true", change{"none: true", `none: "yes"`},
			`FILE:15: targets.shop.application.none: is "yes"; expected true or false`},
		{"text instead of a number", change{"", "    backup: {level: best}\n"},
			`FILE:18: targets.shop.backup.level: is "best"; expected a whole number`},
		{"a fraction instead of a whole number", change{"", "    backup: {level: 2.5}\n"},
			"FILE:18: targets.shop.backup.level: is 2.5; expected a whole number"},
		{"a number beyond all bounds", change{"", "    policy: {moreLoss: 99999999999999999999}\n"},
			`FILE:18: targets.shop.policy.moreLoss: is "99999999999999999999"; expected a whole number`},
		{"a duration without a unit", change{"", "    backup: {timeout: 90}\n"},
			"FILE:18: targets.shop.backup.timeout: is 90; expected a duration such as 90s, 15m, 4h or 7d"},
		{"a duration in words", change{"", "    backup: {timeout: 2 hours}\n"},
			`FILE:18: targets.shop.backup.timeout: is "2 hours"; expected a duration such as 90s, 15m, 4h or 7d`},
		{"a secret written out", change{"${MONGO}", "mongodb://user:hunter2@127.0.0.1"},
			"FILE:12: targets.shop.database.uri: is a secret and must not stand in this file; write ${NAME} to take it from the environment, or {file: /path} to take it from a file"},
		{"a secret from an unset variable", change{"${MAIL_KEY}", "${UNSET}"},
			"FILE:6: mail.apiKey: has no value: the environment variable UNSET is not set or is empty"},
		{"a secret with something around the reference", change{"${MAIL_KEY}", "re_${MAIL_KEY}"},
			"FILE:6: mail.apiKey: is a secret and must not stand in this file; write ${NAME} to take it from the environment, or {file: /path} to take it from a file"},
		{"a secret's file that is not there", change{"${MAIL_KEY}", "{file: /nonexistent/key}"},
			"FILE:6: mail.apiKey: has no value: its file cannot be read: stat /nonexistent/key: no such file or directory"},
		{"a secret's file that is a directory", change{"${MAIL_KEY}", "{file: /}"},
			"FILE:6: mail.apiKey: has no value: / is not a file"},
		{"a secret from something else", change{"${MAIL_KEY}", "{vault: x}"},
			"FILE:6: mail.apiKey.vault: there is no such field; valid here: file"},
		{"a secret that names no file", change{"${MAIL_KEY}", "{}"},
			"FILE:6: mail.apiKey: names no file; write ${NAME} to take it from the environment, or {file: /path} to take it from a file"},
		{"a secret as a list", change{"${MAIL_KEY}", "[a]"},
			"FILE:6: mail.apiKey: is a secret; write ${NAME} to take it from the environment, or {file: /path} to take it from a file"},
		{"no secret at all", change{"  apiKey: ${MAIL_KEY}\n", ""},
			"FILE:3: mail.apiKey: is missing; expected the key of the mail service: write ${NAME} to take it from the environment, or {file: /path} to take it from a file"},
		{"no storage", change{"storage:\n  dir: /var/lib/runbook\n", ""},
			"FILE:1: storage.dir: is missing; expected an absolute path like /var/lib/runbook"},
		{"a relative directory", change{"/var/lib/runbook", "var/lib"},
			`FILE:2: storage.dir: is "var/lib"; expected an absolute path like /var/lib/runbook`},
		{"the root directory", change{"/var/lib/runbook", "/"},
			`FILE:2: storage.dir: is "/"; expected an absolute path like /var/lib/runbook`},
		{"no sender", change{"  from: Shop <noreply@shop.example>\n", ""},
			`FILE:3: mail.from: is missing; expected an address like "Battwheels OS <noreply@example.com>"`},
		{"a sender that is no address", change{"Shop <noreply@shop.example>", "Shop"},
			`FILE:4: mail.from: is "Shop"; expected an address like "Battwheels OS <noreply@example.com>"`},
		{"an empty brand", change{"  brand: Shop", `  brand: " "`},
			"FILE:5: mail.brand: is empty; expected the product's name as its customers know it"},
		{"a mail service without http", change{"  brand: Shop", "  brand: Shop\n  baseURL: api.resend.com"},
			`FILE:6: mail.baseURL: is "api.resend.com"; expected an address like https://api.resend.com`},
		{"a mail service with a user in its address", change{"  brand: Shop", "  brand: Shop\n  baseURL: https://u:p@api.resend.com"},
			"FILE:6: mail.baseURL: has a user's name in it, which does not belong into this file; expected an address like https://api.resend.com"},
		{"no token for alerts", change{"webhook:\n  token: ${TOKEN}\n", ""},
			"FILE:1: webhook.token: is missing; expected the bearer token that every alert must carry: write ${NAME} to take it from the environment, or {file: /path} to take it from a file"},
		{"a token with a space", change{"${TOKEN}", "${SPACED}"},
			"FILE:8: webhook.token: has a space in it, which no bearer token can have"},
		{"an address to listen on without a port", change{"  token: ${TOKEN}", "  token: ${TOKEN}\n  listen: localhost"},
			`FILE:9: webhook.listen: is "localhost"; expected host and port, like 127.0.0.1:8088`},
		{"a port that is none", change{"  token: ${TOKEN}", "  token: ${TOKEN}\n  listen: :99999"},
			`FILE:9: webhook.listen: is ":99999"; expected host and port, like 127.0.0.1:8088`},
		{"a queue with a space", change{"", "temporal: {taskQueue: run book}\n"},
			`FILE:18: temporal.taskQueue: is "run book"; expected a name without spaces, @ and /, such as runbook`},
		{"a host with a slash", change{"", "temporal: {host: a/b}\n"},
			`FILE:18: temporal.host: is "a/b"; expected a name without spaces, @ and /, such as db-1`},
		{"a UI without http", change{"", "temporal: {ui: localhost:8233}\n"},
			`FILE:18: temporal.ui: is "localhost:8233"; expected an address like http://127.0.0.1:8233`},
		{"no target", change{targets, "targets: {}\n"},
			"FILE:9: targets: names no target; expected at least one application to protect, by name"},
		{"no targets at all", change{targets, ""},
			"FILE:1: targets: names no target; expected at least one application to protect, by name"},
		{"a target's name with a slash", change{"  shop:\n", "  shop/eu:\n"},
			"FILE:10: targets.shop/eu: is not a name that can be a folder and a workflow id; expected small letters, digits, - and _, such as battwheels"},
		{"a target's name in capitals", change{"  shop:\n", "  Shop:\n"},
			"FILE:10: targets.Shop: is not a name that can be a folder and a workflow id; expected small letters, digits, - and _, such as battwheels"},
		{"an address that is not MongoDB's", change{"${MONGO}", "${HTTP}"},
			"FILE:12: targets.shop.database.uri: refers to something that is no MongoDB address; expected one that begins with mongodb:// or mongodb+srv://"},
		{"no database name", change{"      name: shop\n", ""},
			"FILE:11: targets.shop.database.name: is missing; expected the name of the database"},
		{"a database name that MongoDB refuses", change{"name: shop", "name: shop.eu"},
			`FILE:13: targets.shop.database.name: is "shop.eu"; expected a name that MongoDB takes: at most 63 bytes, without spaces and any of / \ . " $ * < > : | ?`},
		{"a database of the server's own", change{"name: shop", "name: admin"},
			`FILE:13: targets.shop.database.name: is "admin", which belongs to the server; expected the application's database`},
		{"nothing said of how to stop", change{"      none: true", "      health: {url: http://localhost/health, expect: {status: ok}}"},
			"FILE:14: targets.shop.application: does not say how the application is stopped; expected one of supervisor, kubernetes, command, or none: true where nothing is to be stopped"},
		{"none: false", change{"none: true", "none: false"},
			"FILE:14: targets.shop.application: does not say how the application is stopped; expected one of supervisor, kubernetes, command, or none: true where nothing is to be stopped"},
		{"two ways to stop", change{"none: true", "none: true\n      command: {stop: [a], start: [b], state: [c]}"},
			"FILE:14: targets.shop.application: has command and none; expected exactly one of supervisor, kubernetes, command, none"},
		{"a command without a state", change{"none: true", "command: {stop: [a], start: [b]}"},
			"FILE:15: targets.shop.application.command.state: is missing; expected a program that exits 0 while the application runs and 3 when it is stopped, and its arguments, as a list"},
		{"a command that is a line of shell", change{"none: true", "command: {stop: systemctl stop shop, start: [b], state: [c]}"},
			`FILE:15: targets.shop.application.command.stop: is "systemctl stop shop"; expected a list`},
		{"a command without time", change{"none: true", "command: {stop: [a], start: [b], state: [c], timeout: 0s}"},
			"FILE:15: targets.shop.application.command.timeout: is 0s; expected more than nothing"},
		{"supervisor without its address", change{"none: true", "supervisor: {programs: [backend]}"},
			"FILE:15: targets.shop.application.supervisor.url: is missing; expected unix:///var/run/supervisor.sock or http://127.0.0.1:9001"},
		{"supervisor by a path", change{"none: true", "supervisor: {url: /var/run/supervisor.sock, programs: [backend]}"},
			`FILE:15: targets.shop.application.supervisor.url: is "/var/run/supervisor.sock"; expected unix:///var/run/supervisor.sock or http://127.0.0.1:9001`},
		{"supervisor with a user in its address", change{"none: true", "supervisor: {url: 'http://a:b@127.0.0.1:9001', programs: [backend]}"},
			"FILE:15: targets.shop.application.supervisor.url: holds a user; expected it in username and password beside it"},
		{"supervisor with half a login", change{"none: true", "supervisor: {url: 'http://127.0.0.1:9001', username: a, programs: [backend]}"},
			"FILE:15: targets.shop.application.supervisor: has one of username and password; expected both, or neither"},
		{"supervisor without programs", change{"none: true", "supervisor: {url: 'unix:///run/s.sock', programs: []}"},
			"FILE:15: targets.shop.application.supervisor.programs: is missing; expected the programs that write to the database, in the order in which they are stopped"},
		{"a program twice", change{"none: true", "supervisor: {url: 'unix:///run/s.sock', programs: [backend, backend]}"},
			`FILE:15: targets.shop.application.supervisor.programs[1]: is "backend", which stands there already`},
		{"a program without a name", change{"none: true", "supervisor: {url: 'unix:///run/s.sock', programs: [backend, '']}"},
			"FILE:15: targets.shop.application.supervisor.programs[1]: is empty; expected the name of a program"},
		{"kubernetes without anything", change{"none: true", "kubernetes: {}"},
			"FILE:15: targets.shop.application.kubernetes.namespace: is missing; expected the namespace of the workloads\n" +
				"FILE:15: targets.shop.application.kubernetes.workloads: is missing; expected the deployments and stateful sets that write to the database, in the order in which they are stopped"},
		{"a workload that cannot be scaled", change{"none: true", "kubernetes: {namespace: shop, workloads: [deployment/backend, cronjob/nightly]}"},
			`FILE:15: targets.shop.application.kubernetes.workloads[1]: is "cronjob/nightly"; expected a workload like deployment/backend or statefulset/worker`},
		{"a workload without its kind", change{"none: true", "kubernetes: {namespace: shop, workloads: [backend]}"},
			`FILE:15: targets.shop.application.kubernetes.workloads[0]: is "backend"; expected a workload like deployment/backend or statefulset/worker`},
		{"a workload twice", change{"none: true", "kubernetes: {namespace: shop, workloads: [deployment/backend, deployment/backend]}"},
			`FILE:15: targets.shop.application.kubernetes.workloads[1]: is "deployment/backend", which stands there already`},
		{"a namespace that is none", change{"none: true", "kubernetes: {namespace: Shop, workloads: [deployment/backend]}"},
			`FILE:15: targets.shop.application.kubernetes.namespace: is "Shop"; expected the name of a namespace: small letters, digits and -, at most 63 of them`},
		{"a kubeconfig that is relative", change{"none: true", "kubernetes: {namespace: shop, workloads: [deployment/backend], kubeconfig: .kube/config}"},
			`FILE:15: targets.shop.application.kubernetes.kubeconfig: is ".kube/config"; expected an absolute path like /etc/runbook/kubeconfig`},
		{"a context of no kubeconfig", change{"none: true", "kubernetes: {namespace: shop, workloads: [deployment/backend], context: production}"},
			"FILE:15: targets.shop.application.kubernetes.context: is a context of no kubeconfig; expected kubeconfig beside it, or neither where the worker runs in the cluster"},
		{"workloads with no time to stop", change{"none: true", "kubernetes: {namespace: shop, workloads: [deployment/backend], timeout: 0s}"},
			"FILE:15: targets.shop.application.kubernetes.timeout: is 0s; expected more than nothing"},
		{"a field of kubernetes misspelt", change{"none: true", "kubernetes: {namespace: shop, workload: [deployment/backend]}"},
			"FILE:15: targets.shop.application.kubernetes.workload: there is no such field; did you mean workloads? valid here: context, kubeconfig, namespace, timeout, workloads"},
		{"health without an address", change{"none: true", "none: true\n      health: {expect: {status: ok}}"},
			"FILE:16: targets.shop.application.health.url: is missing; expected an address like http://localhost:8001/api/health"},
		{"health at no address", change{"none: true", "none: true\n      health: {url: 'localhost:8001/api', expect: {status: ok}}"},
			`FILE:16: targets.shop.application.health.url: is "localhost:8001/api"; expected an address like http://localhost:8001/api/health`},
		{"health without words", change{"none: true", "none: true\n      health: {url: 'http://localhost:8001/api'}"},
			"FILE:16: targets.shop.application.health.expect: is missing; expected the words of the JSON answer that mean healthy, such as status: healthy"},
		{"health asked more rarely than its time", change{"none: true", "none: true\n      health: {url: 'http://localhost:8001/api', expect: {status: ok}, timeout: 1s}"},
			"FILE:16: targets.shop.application.health.every: is 2s; expected less than timeout, which is 1s"},
		{"tenants in part", change{"", "    tenants: {collection: organizations}\n"},
			"FILE:18: targets.shop.tenants.email: is missing; expected the field of an organization's e-mail address, such as email\n" +
				"FILE:18: targets.shop.tenants.field: is missing; expected the field that names the organization in every document, such as organization_id\n" +
				"FILE:18: targets.shop.tenants.name: is missing; expected the field of an organization's name, such as name"},
		{"owners in part", change{"", "    tenants: {field: organization_id, collection: organizations, name: name, email: email, owners: {collection: users}}\n"},
			"FILE:18: targets.shop.tenants.owners.email: is missing; expected the field of a user's e-mail address, such as email\n" +
				"FILE:18: targets.shop.tenants.owners.match: is missing; expected what makes a user the owner, such as role: owner"},
		{"an audit log without its time", change{"", "    auditLogs: [{collection: audit_logs}]\n"},
			"FILE:18: targets.shop.auditLogs[0].time: is missing; expected the field of an entry's time, such as timestamp"},
		{"an audit log twice", change{"", "    auditLogs: [{collection: a, time: t}, {collection: a, time: t}]\n"},
			`FILE:18: targets.shop.auditLogs[1].collection: is "a", which stands there already`},
		{"nobody to ask", change{"    contacts:\n      onCall: [oncall@shop.example]\n", ""},
			"FILE:10: targets.shop.contacts.onCall: is missing; expected the e-mail address of at least one person who is asked to approve"},
		{"a contact that is no address", change{"oncall@shop.example", "oncall"},
			`FILE:17: targets.shop.contacts.onCall[0]: is "oncall"; expected an e-mail address like oncall@example.com`},
		{"an escalation that is no address", change{"[oncall@shop.example]", "[oncall@shop.example]\n      escalation: [a@b.example, '@slack']"},
			`FILE:18: targets.shop.contacts.escalation[1]: is "@slack"; expected an e-mail address like oncall@example.com`},
		{"a schedule that is none", change{"", "    backup: {schedule: daily}\n"},
			`FILE:18: targets.shop.backup.schedule: is "daily"; expected five cron fields (minute, hour, day of month, month, day of week), in UTC, like "0 2 * * *"`},
		{"a schedule that never comes", change{"", "    backup: {schedule: 0 2 30 2 *}\n"},
			`FILE:18: targets.shop.backup.schedule: is "0 2 30 2 *", which never comes`},
		{"a backup that may run into the next", change{"", "    backup: {schedule: 0 * * * *}\n"},
			"FILE:18: targets.shop.backup.timeout: is 4h; expected less than the schedule's period, which is 1h: a run must have ended before the next is due"},
		{"a jitter beyond the period", change{"", "    backup: {jitter: 25h}\n"},
			"FILE:18: targets.shop.backup.jitter: is 25h; expected less than the schedule's period, which is 24h"},
		{"a level beyond the highest", change{"", "    backup: {level: 10}\n"},
			"FILE:18: targets.shop.backup.level: is 10; expected a level of compression from 1 to 9"},
		{"no collection at a time", change{"", "    backup: {parallel: 0}\n"},
			"FILE:18: targets.shop.backup.parallel: is 0; expected a number of cursors from 1 to 64"},
		{"a compression that runbook does not know", change{"", "    backup: {compression: lz4}\n"},
			`FILE:18: targets.shop.backup.compression: is "lz4"; expected one of gzip, zstd`},
		{"an old word for a read preference", change{"", "    backup: {readPreference: slave}\n"},
			`FILE:18: targets.shop.backup.readPreference: is "slave"; expected one of primary, primaryPreferred, secondary, secondaryPreferred, nearest`},
		{"less memory than the largest document takes", change{"", "    backup: {memoryMB: 8}\n"},
			"FILE:18: targets.shop.backup.memoryMB: is 8; expected a number of MiB from 32 to 65536"},
		{"a speed below zero", change{"", "    backup: {bytesPerSecond: -1}\n"},
			"FILE:18: targets.shop.backup.bytesPerSecond: is -1; expected 0 or more"},
		{"a retention of nothing", change{"", "    backup: {retention: 0s}\n"},
			"FILE:18: targets.shop.backup.retention: is 0s; expected more than nothing"},
		{"a retention below the RPO", change{"", "    backup: {retention: 12h}\n"},
			"FILE:18: targets.shop.backup.retention: is 12h; expected at least monitor.rpo, which is 24h"},
		{"a foreign directory that is relative", change{"", "    foreignBackups: [{dir: backups}]\n"},
			`FILE:18: targets.shop.foreignBackups[0].dir: is "backups"; expected an absolute path like /var/backups/mongodb`},
		{"a foreign directory inside our storage", change{"", "    foreignBackups: [{dir: /var/lib/runbook/dumps}]\n"},
			"FILE:18: targets.shop.foreignBackups[0].dir: is /var/lib/runbook/dumps, and storage.dir is /var/lib/runbook; expected neither to lie in the other"},
		{"a pattern without a time", change{"", "    foreignBackups: [{dir: /b, pattern: nightly}]\n"},
			`FILE:18: targets.shop.foreignBackups[0].pattern: is "nightly"; expected the name of a backup's directory with {time} in it once, and {database} where that stands there, like {database}_{time}`},
		{"a pattern with an unknown part", change{"", "    foreignBackups: [{dir: /b, pattern: '{host}_{time}'}]\n"},
			`FILE:18: targets.shop.foreignBackups[0].pattern: is "{host}_{time}"; expected the name of a backup's directory with {time} in it once, and {database} where that stands there, like {database}_{time}`},
		{"a time zone that is none", change{"", "    foreignBackups: [{dir: /b, timezone: India}]\n"},
			`FILE:18: targets.shop.foreignBackups[0].timezone: is "India"; expected a time zone like UTC or Asia/Kolkata, or Local for this host's own`},
		{"a log that is relative", change{"", "    foreignBackups: [{dir: /b, log: backup.log}]\n"},
			`FILE:18: targets.shop.foreignBackups[0].log: is "backup.log"; expected an absolute path like /var/log/mongodb_backup.log`},
		{"a monitor's schedule that is none", change{"", "    monitor: {schedule: 61 * * * *}\n"},
			`FILE:18: targets.shop.monitor.schedule: is "61 * * * *"; expected five cron fields (minute, hour, day of month, month, day of week), in UTC, like "0 2 * * *"`},
		{"an RPO of nothing", change{"", "    monitor: {rpo: 0s}\n"},
			"FILE:18: targets.shop.monitor.rpo: is 0s; expected more than nothing"},
		{"fewer than no collections", change{"", "    monitor: {minCollections: -1}\n"},
			"FILE:18: targets.shop.monitor.minCollections: is -1; expected 0 or more"},
		{"a key count without a name", change{"", "    verify: {keyCounts: ['']}\n"},
			"FILE:18: targets.shop.verify.keyCounts[0]: is empty; expected the name of a collection"},
		{"a query that asks for nothing", change{"", "    verify: {queries: [{name: lost, collection: invoices}]}\n"},
			"FILE:18: targets.shop.verify.queries[0]: has neither min nor max; expected how many documents it finds at least, or at most, in a sound database"},
		{"a query that can never hold", change{"", "    verify: {queries: [{name: lost, collection: invoices, min: 2, max: 1}]}\n"},
			"FILE:18: targets.shop.verify.queries[0]: can never hold; expected 0 <= min <= max"},
		{"a query without a name", change{"", "    verify: {queries: [{collection: invoices, max: 0}]}\n"},
			"FILE:18: targets.shop.verify.queries[0].name: is missing; expected what it finds, in words, such as invoices without an organization"},
		{"half an automatic approval", change{"", "    policy: {autoApprove: {maxMissing: 5}}\n"},
			"FILE:18: targets.shop.policy.autoApprove.maxChanged: is missing; expected the number of documents up to which no person is asked"},
		{"a negative automatic approval", change{"", "    policy: {autoApprove: {maxMissing: -5, maxChanged: 0}}\n"},
			"FILE:18: targets.shop.policy.autoApprove.maxMissing: is -5; expected 0 or more"},
		{"no time until escalation", change{"", "    policy: {escalateAfter: 0s}\n"},
			"FILE:18: targets.shop.policy.escalateAfter: is 0s; expected more than nothing"},
		{"no time for the report", change{"", "    policy: {reportWithin: 0s}\n"},
			"FILE:18: targets.shop.policy.reportWithin: is 0s; expected more than nothing"},
		{"a negative loss", change{"", "    policy: {moreLoss: -1}\n"},
			"FILE:18: targets.shop.policy.moreLoss: is -1; expected 0 or more"},
		{"an alert that means two things", change{"", "    alerts: [Gone]\n    podLoss: {alerts: [Gone]}\n"},
			`FILE:19: targets.shop.podLoss.alerts[0]: is "Gone", which stands under alerts of the target, too; expected it in one of them`},
		{"no observation of a lost pod", change{"", "    podLoss: {observations: 0}\n"},
			"FILE:18: targets.shop.podLoss.observations: is 0; expected a number of observations from 1 to 100"},
		{"observations without a pause", change{"", "    podLoss: {every: 0s}\n"},
			"FILE:18: targets.shop.podLoss.every: is 0s; expected more than nothing"},
		{"a platform that is no address", change{"", "    podLoss: {support: [Emergent]}\n"},
			`FILE:18: targets.shop.podLoss.support[0]: is "Emergent"; expected an e-mail address like oncall@example.com`},
		{"a volume's path that is relative", change{"", "    podLoss: {volume: {path: data/db}}\n"},
			`FILE:18: targets.shop.podLoss.volume.path: is "data/db"; expected an absolute path like /var/lib/mongodb`},
		{"a volume without a name", change{"", "    podLoss: {volume: {name: ''}}\n"},
			"FILE:18: targets.shop.podLoss.volume.name: is empty; expected the volume in the platform's words, such as namespace/claim"},
		{"a database user twice", change{"", "    podLoss: {users: [shop, shop]}\n"},
			`FILE:18: targets.shop.podLoss.users[1]: is "shop", which stands there already`},
		{"an alert twice", change{"", "    alerts: [Corrupt, Corrupt]\n"},
			`FILE:18: targets.shop.alerts[1]: is "Corrupt", which stands there already`},
		{"a key without a field", change{"", "    deletions: {keys: {invoices: ''}}\n"},
			"FILE:18: targets.shop.deletions.keys.invoices: is empty; expected the field by which the application knows a document, such as invoice_id"},
		{"a volatile collection twice", change{"", "    deletions: {volatile: [sessions, sessions]}\n"},
			`FILE:18: targets.shop.deletions.volatile[1]: is "sessions", which stands there already`},
		{"dependants of nothing", change{"", "    deletions: {dependants: [{collection: lines, field: invoice_id}]}\n"},
			"FILE:18: targets.shop.deletions.dependants[0].of: is missing; expected the collection of the other documents, such as invoices"},
		{"dependants of themselves", change{"", "    deletions: {dependants: [{collection: lines, field: invoice_id, of: lines}]}\n"},
			`FILE:18: targets.shop.deletions.dependants[0].of: is "lines", the collection itself; expected another one`},
		{"a reference to nowhere", change{"", "    deletions: {references: [{collection: invoices, field: contact_id}]}\n"},
			"FILE:18: targets.shop.deletions.references[0].to: is missing; expected the collection of the other documents, such as contacts"},
		{"a counter without its value", change{"", "    deletions: {counters: [{collection: sequences, of: invoices, number: n}]}\n"},
			"FILE:18: targets.shop.deletions.counters[0].value: is missing; expected the field of the last number, such as current_value"},
		{"a counter's pattern without a group", change{"", "    deletions: {counters: [{collection: s, value: v, of: i, number: n, pattern: '[0-9]+'}]}\n"},
			`FILE:18: targets.shop.deletions.counters[0].pattern: is "[0-9]+"; expected a regular expression with one group around the digits, like (\d+)$`},
		{"a counter for each of no organizations", change{"", "    deletions: {counters: [{collection: s, value: v, of: i, number: n, match: {o: '{organization}'}}]}\n"},
			"FILE:18: targets.shop.deletions.counters[0].match.o: names {organization}; expected tenants.field to say which field that is"},
		{"a resource type of no collection", change{"", "    deletions: {resources: {invoice: []}}\n"},
			"FILE:18: targets.shop.deletions.resources.invoice: names no collection; expected a list like [invoices, invoices_enhanced]"},
		{"no action that deletes", change{"", "    deletions: {actions: []}\n"},
			"FILE:18: targets.shop.deletions.actions: is empty; expected the actions that mean a deletion, such as delete"},
		{"an audit log over HTTP without a token", change{"", "    deletions: {api: {url: 'http://localhost/api/audit-logs'}}\n"},
			"FILE:18: targets.shop.deletions.api.token: is missing; expected the bearer token of somebody who may read the audit log: write ${NAME} to take it from the environment, or {file: /path} to take it from a file"},
		{"an audit log over HTTP with a query", change{"", "    deletions: {api: {url: 'http://localhost/logs?limit=5', token: '${TOKEN}'}}\n"},
			"FILE:18: targets.shop.deletions.api.url: has a query in it; expected an address like http://localhost:8001/api/audit-logs"},
		{"a field of deletions misspelt", change{"", "    deletions: {dependents: []}\n"},
			"FILE:18: targets.shop.deletions.dependents: there is no such field; did you mean dependants? valid here: actions, api, counters, dependants, keys, references, resources, volatile"},
	} {
		t.Run(row.name, func(t *testing.T) {
			content := small + row.new
			if row.old != "" {
				require.Equal(t, 1, strings.Count(small, row.old))
				content = strings.Replace(small, row.old, row.new, 1)
			}
			path := write(t, content)
			_, err := Load(path)
			require.Error(t, err)
			require.Equal(t, row.want, strings.ReplaceAll(err.Error(), path, "FILE"))
			_, ok := errors.AsType[*FieldError](err)
			require.True(t, ok)
		})
	}
}

func TestAMissingFileIsSaid(t *testing.T) {
	path := filepath.Join(t.TempDir(), "runbook.yaml")
	_, err := Load(path)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.EqualError(t, err, "read the configuration: open "+path+": no such file or directory; name it with --config or RUNBOOK_CONFIG (deploy/runbook.yaml is one to copy)")
}

func TestEveryMistakeIsToldAtOnceInTheOrderOfLines(t *testing.T) {
	path := write(t, `storage:
  dri: /var/lib/runbook
targets:
  shop:
    database:
      name: 5
    backup: {level: 12, timeout: 2days}
`)
	_, err := Load(path)
	var all Errors
	require.ErrorAs(t, err, &all)
	var got []string
	for _, e := range all {
		got = append(got, e.Field)
	}
	require.Equal(t, []string{
		"mail.apiKey", "mail.brand", "mail.from", "webhook.token", "storage.dri",
		"targets.shop.application", "targets.shop.contacts.onCall", "targets.shop.database.uri",
		"targets.shop.database.name", "targets.shop.backup.level", "targets.shop.backup.timeout",
	}, got)
}
