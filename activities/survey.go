package activities

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/appcontrol"
	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/internal/durable"
	"github.com/battwheels/runbook/internal/mail"
	"github.com/battwheels/runbook/internal/restore"
	"github.com/battwheels/runbook/internal/words"
)

// How a check came out.
const (
	CheckOK      = "ok"
	CheckProblem = "problem" // it would hinder a recovery
	CheckUnknown = "unknown" // it cannot be told by reading alone
)

// Check is one thing that a dry run looked at.
type Check struct {
	Name  string `json:"name"`
	State string `json:"state"`
	Text  string `json:"text"`         // what was seen
	Do    string `json:"do,omitempty"` // what a person should do about it
}

// SurveyInput asks what surrounds a target, for a playbook.
type SurveyInput struct {
	Target   string `json:"target"`
	Playbook string `json:"playbook"`
	// Backup would be restored; nil where there is none. Files is what it takes on disk, in bytes.
	Backup *BackupRef `json:"backup,omitempty"`
	Files  int64      `json:"files,omitempty"`
}

// Survey is what was seen.
type Survey struct {
	Checks []Check `json:"checks"`
}

// The playbooks with a survey of their own.
const (
	playbookPodLoss = "PodLoss"
	playbookBackup  = "Backup"
)

// within bounds one look.
const within = 20 * time.Second

// SurveyTarget looks at all that a recovery needs: the database's answers and rights, space, the application, health, whom it would
// write to. It changes and sends nothing; what cannot be told by reading is said to be unknown.
func (a *Simulation) SurveyTarget(ctx context.Context, in SurveyInput) (Survey, error) {
	t, err := a.target(in.Target)
	if err != nil {
		return Survey{}, err
	}
	_, stop := beat(ctx)
	defer stop()
	db, err := a.Databases(in.Target)
	if err != nil {
		return Survey{}, err
	}
	s := surveying{Base: a.Base, in: in, t: t, db: db}
	looks, more := []func(context.Context) Check{s.rights, s.lease, s.quiet, s.serverRoom}, []func(context.Context) Check{
		s.halfSwaps, s.storageRoom, s.application, s.health, s.age, s.organizations, s.mail, s.onCall, s.approval,
	}
	switch in.Playbook {
	case playbookPodLoss:
		more = append([]func(context.Context) Check{s.volumePath, s.offsite, s.support, s.verdict}, more...)
	case playbookBackup:
		looks, more = []func(context.Context) Check{s.rights, s.dumpRoom}, nil
		if s.Config.Storage.Offsite.URL != "" {
			more = append(more, s.offsite)
		}
	}
	if err := answers(ctx, db); err != nil {
		if ctx.Err() != nil {
			return Survey{}, ctx.Err()
		}
		s.silent = true
		looks = []func(context.Context) Check{func(context.Context) Check {
			return problem("database", why(err), "see that it runs and that database.uri is right; where it is gone, this is no rehearsal")
		}}
	}
	var out Survey
	for _, look := range append(looks, more...) {
		limited, cancel := context.WithTimeout(ctx, within)
		c := look(limited)
		cancel()
		if ctx.Err() != nil {
			return Survey{}, ctx.Err()
		}
		if c.Name != "" {
			out.Checks = append(out.Checks, c)
		}
	}
	return out, nil
}

type surveying struct {
	Base
	in     SurveyInput
	t      config.Target
	db     *mongo.Database
	silent bool // the database does not answer
}

func ok(name, format string, args ...any) Check {
	return Check{Name: name, State: CheckOK, Text: fmt.Sprintf(format, args...)}
}

func problem(name, text, do string) Check {
	return Check{Name: name, State: CheckProblem, Text: text, Do: do}
}

func unknown(name, text, do string) Check {
	return Check{Name: name, State: CheckUnknown, Text: text, Do: do}
}

func (s *surveying) rights(ctx context.Context) Check {
	const name = "rights"
	actions, what, roles := restore.Actions(), "a restore", "readWrite, and dbAdmin where collections have validators"
	if s.in.Playbook == playbookBackup {
		actions, what, roles = restore.DumpActions(), "a backup", "read"
	}
	r, err := restore.CheckRights(ctx, s.db, actions)
	switch {
	case err != nil:
		return unknown(name, brief(err), "")
	case r.Open:
		return ok(name, "the server asks for no login")
	case !r.Known:
		return unknown(name, "the server does not tell what its user may do", "a drill shows it")
	case len(r.Missing) > 0:
		return problem(name, "runbook's user may not: "+strings.Join(r.Missing, ", "), "give it "+roles+" on "+s.db.Name())
	case len(r.Series) > 0:
		return problem(name, "runbook's user may not read the time series "+strings.Join(r.Series, ", ")+" for a backup",
			"give it the role backup, or readAnyDatabase: rights on "+s.db.Name()+" alone leave their buckets out")
	}
	return ok(name, "runbook's user may do all that %s does", what)
}

func (s *surveying) lease(ctx context.Context) Check {
	const name = "lease"
	h, since, held, err := restore.HeldBy(ctx, s.db)
	switch {
	case err != nil:
		return unknown(name, brief(err), "")
	case held:
		return problem(name, fmt.Sprintf("%s works on the database since %s (%s)", h.Owner, words.When(since), h.Purpose), "wait until it is done; until then no other restore begins")
	}
	return ok(name, "nobody else restores into the database")
}

func (s *surveying) halfSwaps(context.Context) Check {
	const name = "earlier swaps"
	halves, err := restore.HalfSwaps(filepath.Join(s.Config.Storage.Dir, "incidents", s.in.Target))
	switch {
	case err != nil:
		return unknown(name, brief(err), "")
	case len(halves) > 0:
		return problem(name, "the swap of incident "+halves[0].Incident+" was cut off half-way", "the next restore asks to stop the application and rolls it back first: start Restore now")
	}
	return ok(name, "none was cut off half-way")
}

func (s *surveying) quiet(ctx context.Context) Check {
	const name = "quiet"
	c, err := restore.ListClients(ctx, s.db, restore.QuietOptions{Self: []string{AppName}, Ignore: s.t.Policy.IgnoreClients})
	switch {
	case err != nil:
		return unknown(name, brief(err), "")
	case !c.Listed:
		return ok(name, "the server does not list its clients: two readings of every document must be equal once the application is stopped")
	case len(c.Others) > 0:
		return ok(name, "provable by the list of clients; connected now, and to be gone after the stop: %s", list(c.Others))
	}
	return ok(name, "provable by the list of clients; nobody else is connected now")
}

func (s *surveying) serverRoom(ctx context.Context) Check {
	const name = "space on the database server"
	if s.in.Backup == nil {
		return Check{}
	}
	r, err := restore.RoomFor(ctx, s.db, s.in.Backup.Bytes)
	switch {
	case err != nil:
		return unknown(name, brief(err), "")
	case !r.Known:
		return unknown(name, fmt.Sprintf("about %s are needed beside the live data; the server does not tell what is free", words.Bytes(r.Need)), "look at its disk")
	case r.Need > r.Free:
		return problem(name, fmt.Sprintf("about %s are needed beside the live data, and %s are free", words.Bytes(r.Need), words.Bytes(r.Free)), "free space, or add a disk")
	}
	return ok(name, "about %s are needed beside the live data, and %s are free", words.Bytes(r.Need), words.Bytes(r.Free))
}

// storageRoom expects both dumps of an incident to be as large as the backup's files.
func (s *surveying) storageRoom(context.Context) Check {
	const name = "space in storage"
	if s.in.Backup == nil {
		return Check{}
	}
	size := s.in.Files
	free, err := durable.FreeBytes(s.Config.Storage.Dir)
	switch {
	case err != nil:
		return unknown(name, brief(err), "")
	case 2*size > free:
		return problem(name, fmt.Sprintf("the emergency and the safety dump take about %s, and %s are free", words.Bytes(2*size), words.Bytes(free)), "free space in "+s.Config.Storage.Dir)
	}
	return ok(name, "the emergency and the safety dump take about %s, and %s are free", words.Bytes(2*size), words.Bytes(free))
}

// dumpRoom expects what a dump itself expects: files no larger than what the server stores, or than the documents.
func (s *surveying) dumpRoom(ctx context.Context) Check {
	const name = "space in storage"
	r, err := restore.RoomFor(ctx, s.db, 0)
	if err != nil {
		return unknown(name, "the server does not tell how large the database is: "+brief(err), "")
	}
	need := r.Documents
	if r.Stored > 0 {
		need = min(need, r.Stored)
	}
	free, err := durable.FreeBytes(s.Config.Storage.Dir)
	switch {
	case err != nil:
		return unknown(name, brief(err), "")
	case need > free:
		return problem(name, fmt.Sprintf("a dump takes at most %s, and %s are free", words.Bytes(need), words.Bytes(free)), "free space in "+s.Config.Storage.Dir)
	}
	return ok(name, "a dump takes at most %s, and %s are free", words.Bytes(need), words.Bytes(free))
}

func (s *surveying) application(ctx context.Context) Check {
	const name = "application"
	if s.t.Application.None {
		return ok(name, "none is configured: nothing would be stopped")
	}
	control, err := appcontrol.New(s.t.Application)
	if err != nil {
		return problem(name, err.Error(), "")
	}
	state, err := control.State(ctx)
	if err != nil {
		return problem(name, brief(err), "a restore could not stop it: see application in the configuration")
	}
	var programs []string
	for _, p := range state.Programs {
		programs = append(programs, p.Name+" ("+p.State+")")
	}
	return ok(name, "would stop and start %s", strings.Join(programs, ", "))
}

func (s *surveying) health(ctx context.Context) Check {
	const name = "health"
	if s.t.Application.Health == nil {
		return unknown(name, "no health check is configured", "without one, a recovery ends when the programs run")
	}
	h, err := appcontrol.Healthy(ctx, *s.t.Application.Health)
	switch {
	case err != nil:
		return problem(name, brief(err), "see application.health in the configuration")
	case !h.Healthy:
		return problem(name, h.Detail, "a recovery would wait for it to become healthy: see why it is not")
	}
	return ok(name, "%s", h.Detail)
}

// age holds the loss of a restore now against what is allowed.
func (s *surveying) age(context.Context) Check {
	const name = "age of the backup"
	if s.in.Backup == nil {
		return Check{}
	}
	age, allowed := time.Since(s.in.Backup.Time), time.Duration(s.t.Monitor.RPO)
	text := fmt.Sprintf("%s: what was entered since %s would be gone", words.Brief(age), words.When(s.in.Backup.Time))
	if allowed > 0 && age > allowed {
		return problem(name, text+fmt.Sprintf("; %s are allowed (monitor.rpo)", words.Brief(allowed)), "see why there is no newer proven backup: runbook backups list "+s.in.Target)
	}
	return ok(name, "%s", text)
}

func (s *surveying) organizations(ctx context.Context) Check {
	const name = "organizations"
	if s.t.Tenants.Collection == "" {
		return ok(name, "none are configured: nobody outside would be written to")
	}
	from, reader := "the database", mail.FromDatabase(s.db)
	if s.silent {
		if s.in.Backup == nil {
			return unknown(name, "neither the database nor a backup can be asked", "")
		}
		_, source, err := s.catalog(s.in.Target).Known(ctx, s.in.Backup.ID)
		if err != nil || source.Dir == "" {
			return unknown(name, "neither the database nor a backup on this host can be asked", "")
		}
		from, reader = "the backup", mail.FromBackup(source)
	}
	active, without, err := mail.Recipients(ctx, reader, s.t.Tenants)
	if err != nil {
		return problem(name, brief(err), "see tenants in the configuration; a recovery asks the backup instead")
	}
	n := 0
	for _, c := range active {
		n += len(c.Organizations())
	}
	text := fmt.Sprintf("%d would be told, by %d mails, as %s has them", n, len(active), from)
	if len(without) > 0 {
		return problem(name, fmt.Sprintf("%s; %d have no address", text, len(without)), "find addresses for them now")
	}
	return ok(name, "%s; all have an address", text)
}

func (s *surveying) mail(context.Context) Check {
	const name = "mail service"
	if _, err := mail.New(s.Config.Mail, nil); err != nil {
		return problem(name, brief(err), "see mail in the configuration")
	}
	return unknown(name, "configured, with "+s.Config.Mail.From+"; a dry run sends nothing", "a drill or the monitor shows whether it delivers")
}

func (s *surveying) onCall(context.Context) Check {
	const name = "people on call"
	c := s.t.Contacts
	switch {
	case len(c.OnCall) == 0:
		return problem(name, "nobody would be asked", "set contacts.onCall")
	case len(c.Escalation) == 0:
		return problem(name, fmt.Sprintf("%d would be asked, and nobody when they do not answer", len(c.OnCall)), "set contacts.escalation")
	}
	return ok(name, "%d would be asked; after %s without an answer, %d more", len(c.OnCall), words.Brief(time.Duration(s.t.Policy.EscalateAfter)), len(c.Escalation))
}

func (s *surveying) approval(context.Context) Check {
	const name = "approval"
	if p := s.t.Policy.AutoApprove; p != nil {
		return ok(name, "by the policy, where at most %d documents leave and %d change; else by a person", p.MaxMissing, p.MaxChanged)
	}
	return ok(name, "by a person, always")
}

func (s *surveying) volumePath(context.Context) Check {
	const name = "volume"
	text, gone := s.volume(s.t.PodLoss.Volume.Path)
	switch {
	case text == "":
		return unknown(name, "no path of it is configured", "set podLoss.volume.path where a host sees it")
	case gone:
		return problem(name, text, "see whether this is the host that should see it")
	}
	return ok(name, "%s", text)
}

func (s *surveying) offsite(ctx context.Context) Check {
	const name = "offsite storage"
	if s.Config.Storage.Offsite.URL == "" {
		return problem(name, "none is configured: a lost host takes all backups with it", "set storage.offsite.url")
	}
	m, there, err := s.catalog(s.in.Target).NewestOffsite(ctx)
	switch {
	case err != nil:
		return problem(name, brief(err), "see storage.offsite and its credentials")
	case !there:
		return problem(name, "it answers, and holds no whole copy of a backup", "make a backup: runbook start Backup "+s.in.Target)
	}
	return ok(name, "the newest copy is %s: %s documents", m.Name, words.Number(m.Documents()))
}

func (s *surveying) support(context.Context) Check {
	const name = "the platform's support"
	if n := len(s.t.PodLoss.Support); n > 0 {
		return ok(name, "%s would be asked for the volume", words.Plural(int64(n), "address", "addresses"))
	}
	return problem(name, "nobody would be asked for the volume", "set podLoss.support")
}

func (s *surveying) verdict(context.Context) Check {
	const name = "volume recovered, or lost"
	p := s.t.PodLoss
	text := fmt.Sprintf("gone after %d bad looks in a row, %s apart; ", max(p.Observations, 1), time.Duration(p.Every))
	if p.Deadline > 0 {
		return ok(name, "%sthen a person says, and without an answer it is lost after %s", text, words.Brief(time.Duration(p.Deadline)))
	}
	return ok(name, "%sthen a person says, however long that takes", text)
}

func list(names []string) string {
	if len(names) > 5 {
		return strings.Join(names[:5], ", ") + fmt.Sprintf(" and %d more", len(names)-5)
	}
	return strings.Join(names, ", ")
}
