// Package rehearsal recovers a user's own backup where nothing can be harmed: it copies the backup, fills a scratch database with it,
// damages that, and has the product's corruption playbook bring it back. The sandbox's command line runs it. Everything that it makes
// lies in a temporary directory and in one scratch database, and goes at the end.
package rehearsal

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.temporal.io/sdk/client"
	tlog "go.temporal.io/sdk/log"
	sdk "go.temporal.io/sdk/worker"

	"github.com/battwheels/runbook/activities"
	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/internal/restore"
	"github.com/battwheels/runbook/sandbox/ferret"
	"github.com/battwheels/runbook/sandbox/mailbox"
	"github.com/battwheels/runbook/sandbox/temporal"
	"github.com/battwheels/runbook/worker"
	"github.com/battwheels/runbook/workflows"
)

// Options say what is rehearsed, and where.
type Options struct {
	Backup string // directory of the dump
	// MongoURI is of a scratch server; "" starts a FerretDB. One database is made there, and dropped at the end.
	MongoURI string
	Tell     func(string) // told what is being done; may be nil
}

// Result is what came of a rehearsal.
type Result struct {
	Backup    string `json:"backup"`
	Database  string `json:"database"`
	Server    string `json:"server"`
	Recovered bool   `json:"recovered"`
	// Found is why the backup was not recovered; empty where it was.
	Found           string   `json:"found,omitempty"`
	RTOSeconds      float64  `json:"rtoSeconds"`      // from the start of the playbook until all was back and verified
	DowntimeSeconds float64  `json:"downtimeSeconds"` // of it, the time in which an application would have stood still
	Collections     int      `json:"collections"`
	Documents       int64    `json:"documents"`
	Indexes         int      `json:"indexes"`
	Bytes           int64    `json:"bytes"` // of BSON
	Damage          string   `json:"damage,omitempty"`
	Suspicious      []string `json:"suspicious,omitempty"`
	LeftOut         []string `json:"leftOut,omitempty"` // what the sandbox's FerretDB does not hold, and so was not rehearsed
	Mend            []string `json:"mend,omitempty"`    // what to do
}

const (
	target  = "rehearsal"
	patient = 30 * time.Minute
	owner   = "rehearsal"
)

// rehearsal is one run.
type rehearsal struct {
	options Options
	work    string
	began   time.Time
	result  Result
	asked   string // the question that ended the playbook
}

// Run rehearses. A backup that cannot be recovered is a result; an error means that the rehearsal itself could not be held, and a
// *UsageError that what was named is no backup.
func Run(ctx context.Context, o Options) (_ Result, err error) {
	from, err := find(o.Backup)
	if err != nil {
		return Result{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, patient)
	defer cancel()
	work, err := os.MkdirTemp("", "runbook-rehearsal-")
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	r := &rehearsal{options: o, work: work, began: time.Now().UTC()}
	r.result = Result{Backup: from.dir, Database: from.database, Server: "FerretDB v1, embedded"}
	if o.MongoURI != "" {
		r.result.Server = "the scratch server given"
	}
	err = r.run(ctx, from)
	return r.result, err
}

func (r *rehearsal) tell(format string, args ...any) {
	if r.options.Tell != nil {
		r.options.Tell(fmt.Sprintf(format, args...))
	}
}

func (r *rehearsal) mend(format string, args ...any) {
	r.result.Mend = append(r.result.Mend, fmt.Sprintf(format, args...))
}

func (r *rehearsal) run(ctx context.Context, from original) (err error) {
	r.tell("copying %s, which is only read", from.dir)
	r.tell("checking every byte of the copy")
	source, found, err := r.check(ctx, from)
	if err != nil {
		return err
	}
	if found != "" {
		r.result.Found = found
		r.mend("Make a new backup, and see that it ends: mongodump's exit code must be 0. Rehearse that one.")
		r.mend("Keep an older backup until then; a half-written one must never replace it.")
		return nil
	}
	m := source.Manifest
	r.result.Collections, r.result.Documents, r.result.Bytes = len(m.Collections), m.Documents(), m.Bytes()
	if m.Documents() == 0 {
		r.suspect("It holds not one document%s.", "", true)
	}

	uri := r.options.MongoURI
	if uri == "" {
		r.tell("starting FerretDB")
		f, err := ferret.Start(ctx, ferret.Config{Dir: filepath.Join(r.work, "ferretdb")})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Stop(context.WithoutCancel(ctx))) }()
		uri = f.URI()
	}
	name := fmt.Sprintf("runbook_rehearsal_%d", r.began.UnixMilli())
	c, err := worker.Connect(config.Database{URI: config.NewSecret(uri), Name: name})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Disconnect(context.WithoutCancel(ctx))) }()
	db := c.Database(name)
	holder := restore.Holder{Owner: owner, Run: name, Purpose: "rehearsal"}
	lease, err := restore.ClaimScratch(ctx, db, holder)
	if err != nil {
		return err
	}
	defer func() {
		_, dropErr := restore.DropScratch(context.WithoutCancel(ctx), db, owner)
		err = errors.Join(err, dropErr)
	}()

	dump := name + "_" + r.began.Add(-time.Minute).Format("20060102_150405")
	dir := filepath.Join(r.work, "dumps", dump)
	if err := r.prepare(ctx, source, filepath.Join(dir, name), r.options.MongoURI == ""); err != nil {
		return err
	}
	copied, err := backup.Adopt(ctx, dir, backup.AdoptOptions{Name: dump, Target: target, Database: name, Time: r.began.Add(-time.Minute)}, nil)
	if err != nil {
		return fmt.Errorf("read the copy: %w", err)
	}
	source = backup.Source{Dir: dir, Manifest: copied}
	r.tell("loading it into the scratch database %s", name)
	_, err = restore.Direct(ctx, restore.StageOptions{DB: db, Source: source, Lease: lease, Dir: filepath.Join(r.work, "seed")})
	err = errors.Join(err, lease.Release(context.WithoutCancel(ctx)))
	if err != nil {
		return r.refused(ctx, err)
	}
	if err := r.damage(ctx, db, copied); err != nil {
		return err
	}
	out, err := r.playbook(ctx, c, name, uri, "foreign/"+dump)
	if err != nil {
		r.result.Found = err.Error()
		return ctx.Err()
	}
	r.result.RTOSeconds, r.result.DowntimeSeconds = out.RTOSeconds, out.Restore.DowntimeSeconds
	if out.Outcome != workflows.Recovered {
		r.result.Found = strings.TrimSpace(out.Summary + " " + r.asked)
		r.mend("Answer what the playbook asked, then rehearse again.")
		return nil
	}
	// Not the product's word: everything is read once more.
	v, err := restore.VerifyDatabase(ctx, db, source, nil)
	if err != nil {
		return err
	}
	r.result.Documents, r.result.Collections, r.result.Indexes = v.Documents, v.Collections, v.Indexes
	if len(v.Differences) > 0 {
		r.result.Found = "The database is not what the backup holds: " + v.Differences[0].String()
		return nil
	}
	r.result.Recovered = true
	return nil
}

// refused takes what a server refuses of a backup for a result.
func (r *rehearsal) refused(ctx context.Context, err error) error {
	index, isIndex := errors.AsType[*restore.IndexError](err)
	refusal, isRefusal := errors.AsType[*restore.RefusedError](err)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case isIndex:
		r.suspect("Index %s cannot be built.", index.Collection+"."+index.Index, true)
		r.mend("Mend the documents that index %s of %s refuses (%s), or drop the index; then make a new backup.", index.Index, index.Collection, index.Reason)
	case isRefusal:
		r.mend("See whether the server is of the kind that the backup was made on: it refuses %s of %s (%s).", refusal.What, refusal.Collection, refusal.Reason)
	default:
		return err
	}
	r.result.Found = err.Error()
	return nil
}

// damage drops the largest collection, and ruins documents of the next.
func (r *rehearsal) damage(ctx context.Context, db *mongo.Database, m *backup.Manifest) error {
	var first, second *backup.Collection
	for i := range m.Collections {
		c := &m.Collections[i]
		switch {
		case c.Type != backup.TypeCollection || strings.HasPrefix(c.Name, "system."):
		case first == nil || c.Digest.Documents > first.Digest.Documents:
			first, second = c, first
		case second == nil || c.Digest.Documents > second.Digest.Documents:
			second = c
		}
	}
	if first == nil {
		return errors.New("the backup has no collection that could be damaged")
	}
	if err := db.Collection(first.Name).Drop(ctx); err != nil {
		return fmt.Errorf("damage %s: %w", first.Name, err)
	}
	r.result.Damage = fmt.Sprintf("%s dropped (%d documents)", first.Name, first.Digest.Documents)
	if second != nil && second.Digest.Documents > 0 {
		var gone struct {
			ID bson.RawValue `bson:"_id"`
		}
		if err := db.Collection(second.Name).FindOneAndDelete(ctx, bson.D{}).Decode(&gone); err != nil {
			return fmt.Errorf("damage %s: %w", second.Name, err)
		}
		if _, err := db.Collection(second.Name).InsertOne(ctx, bson.D{{Key: "_id", Value: gone.ID}, {Key: "garbage", Value: "\x00\x01"}}); err != nil && !mongo.IsDuplicateKeyError(err) {
			return fmt.Errorf("damage %s: %w", second.Name, err)
		}
		r.result.Damage += ", a document of " + second.Name + " ruined"
	}
	r.tell("DISASTER: %s", r.result.Damage)
	return nil
}

// playbook runs DatabaseCorruption to its end, and approves its plan.
func (r *rehearsal) playbook(ctx context.Context, mongod *mongo.Client, database, uri, id string) (out workflows.IncidentResult, err error) {
	r.tell("starting Temporal and the product's worker")
	s, err := temporal.Start(ctx, temporal.Config{Keywords: activities.Attributes()})
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	t, err := client.DialContext(ctx, client.Options{HostPort: s.Address(), Namespace: temporal.Namespace, Logger: tlog.NewStructuredLogger(quiet)})
	if err != nil {
		return out, err
	}
	defer t.Close()
	box, err := mailbox.Start(mailbox.Config{Listen: "127.0.0.1:0", APIKey: "re_rehearsal"})
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, box.Close(context.WithoutCancel(ctx))) }()
	cfg, err := r.configure(database, uri, box.URL())
	if err != nil {
		return out, err
	}
	of := cfg.Targets[target]
	of.Policy.IgnoreClients = connected(ctx, mongod)
	cfg.Targets[target] = of
	base := activities.Base{
		Config: cfg, HostQueue: workflows.TaskQueue, Temporal: t, Log: quiet,
		Databases: func(string) (*mongo.Database, error) { return mongod.Database(database), nil },
	}
	w := sdk.New(t, workflows.TaskQueue, sdk.Options{DisableRegistrationAliasing: true})
	worker.RegisterWorkflows(w)
	worker.RegisterActivities(w, base, nil)
	if err := w.Start(); err != nil {
		return out, err
	}
	defer w.Stop()
	run, err := t.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: workflows.IncidentID(target), TaskQueue: workflows.TaskQueue}, "DatabaseCorruption",
		workflows.CorruptionInput{Target: target, Backup: id, By: "rehearsal", Reason: "rehearsal"})
	if err != nil {
		return out, err
	}
	watching, stop := context.WithCancel(ctx)
	watched := make(chan error, 1)
	go func() { watched <- r.answer(watching, t, run.GetID()) }()
	err = run.Get(ctx, &out)
	stop()
	return out, errors.Join(err, <-watched)
}

// answer tells the playbook's steps, approves its plan, and gives up where it asks for more: nobody is there to decide.
func (r *rehearsal) answer(ctx context.Context, t client.Client, id string) error {
	told, answered := map[string]bool{}, ""
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		var s workflows.Status
		v, err := t.QueryWorkflow(ctx, id, "", workflows.QueryStatus)
		if err != nil || v.Get(&s) != nil {
			continue // it has not begun, or is at its end
		}
		for _, step := range s.Steps {
			if step.State == workflows.Done && !told[step.Name] {
				told[step.Name] = true
				r.tell("%s: %s", step.Name, step.Note)
			}
		}
		if s.Asked == "" || s.Asked == answered {
			continue
		}
		answered = s.Asked
		door, a := workflows.DoorApprove, workflows.Answer{By: "rehearsal", Reason: "rehearsal"}
		if s.Plan == nil || len(s.Choices) > 0 {
			r.asked = "It had asked: " + strings.NewReplacer("**", "", "`", "").Replace(s.Asked)
			door, a.Choice = workflows.DoorDecide, workflows.GiveUp
		} else {
			a.Plan = s.Plan.Code
		}
		h, err := t.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
			WorkflowID: id, UpdateName: door, WaitForStage: client.WorkflowUpdateStageCompleted, Args: []any{a},
		})
		if err == nil {
			err = h.Get(ctx, nil)
		}
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("answer the playbook: %w", err)
		}
	}
}

// connected lists who else is connected to the server, by their application names. They have business of their own there: nobody but us
// knows the scratch database, and its documents are read twice to see that they do not change. A client without a name cannot be
// told apart: the playbook asks, and what it asks is told.
func connected(ctx context.Context, c *mongo.Client) []string {
	var names []string
	found, err := restore.Primary(c.Database("admin")).Aggregate(ctx, mongo.Pipeline{
		{{Key: "$currentOp", Value: bson.D{{Key: "allUsers", Value: true}, {Key: "idleConnections", Value: true}}}},
	})
	if err != nil {
		return names // it lists its clients to the playbook no more than to us
	}
	var all []struct {
		AppName string `bson:"appName"`
	}
	if found.All(ctx, &all) != nil {
		return names
	}
	for _, one := range all {
		if one.AppName != "" && one.AppName != activities.AppName && !slices.Contains(names, one.AppName) {
			names = append(names, one.AppName)
		}
	}
	return names
}

const configuration = `
storage: {dir: %q}
mail: {from: "Rehearsal <noreply@rehearsal.example>", brand: Rehearsal, apiKey: {file: key}, baseURL: %q}
webhook: {token: {file: key}}
targets:
  %s:
    database: {uri: {file: uri}, name: %s}
    application: {none: true}
    contacts: {onCall: [on-call@rehearsal.example]}
    foreignBackups: [{dir: %q}]
    verify: {keyCounts: [collections]}
    alerts: [Rehearsal]
`

func (r *rehearsal) configure(database, uri, mail string) (*config.Config, error) {
	text := fmt.Sprintf(configuration, filepath.Join(r.work, "storage"), mail, target, database, filepath.Join(r.work, "dumps"))
	for name, content := range map[string]string{"runbook.yaml": text, "key": "re_rehearsal\n", "uri": uri + "\n"} {
		if err := os.WriteFile(filepath.Join(r.work, name), []byte(content), 0o600); err != nil {
			return nil, err
		}
	}
	return config.Load(filepath.Join(r.work, "runbook.yaml"))
}

func pack(text []byte) ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(text); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
