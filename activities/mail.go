package activities

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/internal/incident"
	"github.com/battwheels/runbook/internal/mail"
)

// Mail tells the organizations and the people inside.
type Mail struct {
	Base
	// Link makes the address of a workflow's run in the Temporal UI; empty where there is none.
	Link func(workflowID, runID string) string
}

// mendAfter is when a refused request is tried again: a person must mend the key or the sender's address first.
const mendAfter = 10 * time.Minute

// FreezeMails finds the recipients and writes every mail down, word for word, before the first is sent. Where that was done
// before, it only counts.
func (a *Mail) FreezeMails(ctx context.Context, in FreezeInput) (Outbox, error) {
	_, stop := beat(ctx)
	defer stop()
	t, err := a.target(in.Target)
	if err != nil {
		return Outbox{}, err
	}
	folder, err := a.folder(in.Target, in.Incident)
	if err != nil {
		return Outbox{}, err
	}
	box, err := mail.Load(folder, "")
	if errors.Is(err, fs.ErrNotExist) {
		var draft mail.Draft
		if draft, err = a.draft(ctx, t, in); err == nil {
			box, err = mail.Freeze(folder, draft)
		}
	}
	if err != nil {
		return Outbox{}, mailError(ctx, err)
	}
	out, err := counted(folder, box)
	return out, mailError(ctx, err)
}

// counted is a frozen outbox in numbers.
func counted(folder incident.Folder, box mail.Outbox) (Outbox, error) {
	out := Outbox{Mails: box.Messages, WithoutAddress: len(box.Without), Batches: len(box.Batches), BatchSize: mail.BatchSize}
	for _, c := range box.Without {
		out.Organizations += len(c.Organizations())
	}
	for n := range box.Batches {
		messages, err := box.Read(folder, n)
		if err != nil {
			return Outbox{}, err
		}
		for _, m := range messages {
			out.Organizations += len(m.Contact.Organizations())
		}
	}
	return out, nil
}

// draft renders the mail to each active organization: from the live database, or from the backup if that cannot be read.
func (a *Mail) draft(ctx context.Context, t config.Target, in FreezeInput) (mail.Draft, error) {
	active, without, err := a.recipients(ctx, t, in)
	if err != nil {
		return mail.Draft{}, err
	}
	notice := mail.Notice{
		Brand: a.Config.Mail.Brand, Support: a.Config.Mail.Support, Incident: in.Incident, Detected: in.DetectedAt, Stopped: in.StoppedAt,
		Back: in.HealthyAt, BackupAt: in.BackupAt, Since: in.Since, NotKept: in.SafetyDump == "",
	}
	if in.GoneAt.IsZero() {
		if notice.Loss, err = a.loss(in); err != nil {
			return mail.Draft{}, err
		}
	} else {
		// What had been entered since the backup went with the database: no copy has it, and nobody can count it.
		notice.Gone, notice.NotKept, notice.Since, notice.Stopped = true, true, time.Time{}, in.GoneAt
		notice.Until = in.Until
	}
	templates, err := a.templates()
	if err != nil {
		return mail.Draft{}, err
	}
	draft := mail.Draft{ID: in.Target + "/" + in.Incident, From: a.Config.Mail.From, Without: without}
	for _, c := range active {
		m, err := templates.Notice(notice, c)
		if err != nil {
			return mail.Draft{}, err
		}
		draft.Messages = append(draft.Messages, m)
	}
	return draft, nil
}

// recipients are those in the live database, and those who only stood in the copy made right before the restore: who signed up
// after the backup has lost most. Where the database cannot be read, they are the backup's.
func (a *Mail) recipients(ctx context.Context, t config.Target, in FreezeInput) (active, without []mail.Contact, err error) {
	db, err := a.Databases(in.Target)
	if err != nil {
		return nil, nil, err
	}
	c := a.catalog(in.Target)
	live, safety := mail.FromDatabase(db), stored(c, in.SafetyDump)
	try := []mail.Reader{live, stored(c, in.Backup)}
	if in.SafetyDump != "" {
		try = append([]mail.Reader{mail.Also(live, safety)}, try...)
	}
	_, active, without, err = firstRecipients(ctx, t.Tenants, try...)
	return active, without, err
}

// loss is what each organization has to enter again, as it was counted against the final safety dump. It is nil where that
// was not made.
func (a *Mail) loss(in FreezeInput) (map[string]mail.Loss, error) {
	if in.SafetyDump == "" {
		return nil, nil
	}
	folder, err := a.folder(in.Target, in.Incident)
	if err != nil {
		return nil, err
	}
	var radius backup.Diff
	if err := folder.GetJSON(radiusFile(in.SafetyDump), &radius); err != nil {
		return nil, err
	}
	return losses(radius.Tenants), nil
}

// SendBatch sends one batch of the frozen mails. A batch whose outcome is in the ledger is never sent again.
func (a *Mail) SendBatch(ctx context.Context, in SendInput) (Sent, error) {
	_, stop := beat(ctx)
	defer stop()
	folder, err := a.folder(in.Target, in.Incident)
	if err != nil {
		return Sent{}, err
	}
	box, err := mail.Load(folder, in.Outbox)
	if err != nil {
		return Sent{}, err
	}
	sender, err := mail.New(a.Config.Mail, nil)
	if err != nil {
		return Sent{}, badInput(err)
	}
	r, err := sender.SendBatch(ctx, folder, box, in.Batch)
	if err != nil {
		return Sent{}, mailError(ctx, err)
	}
	return Sent{Sent: len(r.Sent), Refused: len(r.Failed), Unknown: len(r.Unknown)}, nil
}

// TellPeople sends one mail to each of the people inside whom it concerns.
func (a *Mail) TellPeople(ctx context.Context, in TellInput) error {
	_, stop := beat(ctx)
	defer stop()
	t, err := a.target(in.Target)
	if err != nil {
		return err
	}
	sender, err := mail.New(a.Config.Mail, nil)
	if err != nil {
		return badInput(err)
	}
	templates, err := a.templates()
	if err != nil {
		return err
	}
	to := t.Contacts.OnCall
	if in.Kind == MailEscalate || in.Kind == MailOverdue {
		to = append(append([]string{}, t.Contacts.Escalation...), to...)
	}
	if in.Kind == MailSupport {
		to = t.PodLoss.Support
	}
	_, refused, err := sender.SendEach(ctx, in.Key, mail.Inside(to), func(c mail.Contact) (mail.Message, error) {
		return a.inside(templates, in, c)
	})
	if len(refused) > 0 && err == nil {
		activity.GetLogger(ctx).Warn("some of the people inside have addresses that are refused: mend contacts in the configuration", "refused", len(refused))
	}
	return mailError(ctx, err)
}

func (a *Mail) inside(t *mail.Templates, in TellInput, c mail.Contact) (mail.Message, error) {
	link := ""
	if a.Link != nil {
		link = a.Link(in.WorkflowID, "")
	}
	escalated := in.Kind == MailEscalate
	switch in.Kind {
	case MailAsk, MailEscalate:
		if len(in.Choices) > 0 || in.Plan == nil || in.Plan.Undelete != nil {
			d := mail.Decision{Target: in.Target, Incident: in.Incident, Question: in.Question, Link: link, Escalated: escalated, Asked: in.Asked}
			if in.Narrow {
				askToNarrow(&d, in.Plan)
			}
			for _, name := range in.Choices {
				choice := mail.Choice{Name: name}
				if state, ok := strings.CutPrefix(name, "volume-"); ok {
					choice.Command, d.Update = fmt.Sprintf("runbook volume %s %s", state, in.Target), VolumeRecovered+" or "+VolumeLost
				}
				d.Choices = append(d.Choices, choice)
			}
			return t.Decision(d, c)
		}
		p := in.Plan
		m := mail.Approval{
			Target: in.Target, Incident: in.Incident, Plan: p.Code, Link: link, Escalated: escalated, Asked: in.Asked,
			Backup: p.Backup.ID, BackupAt: p.Backup.Time, BackupState: p.Backup.State, Collections: p.Backup.Collections, Documents: p.Backup.Documents,
			Counted: p.RadiusKnown, Added: p.Radius.Added, Changed: p.Radius.Changed, Missing: p.Radius.Missing,
			Organizations: p.TenantsHit, Warnings: p.Warnings,
		}
		if slices.ContainsFunc(p.Candidates, func(c Weighed) bool { return c.Doubtful }) {
			for _, c := range p.Candidates {
				m.Candidates = append(m.Candidates, mail.Candidate{Backup: c.ID, At: c.Time, Documents: c.Documents, Doubtful: c.Doubtful, Why: c.Why})
			}
		}
		if p.Told != nil {
			m.Tells, m.Preview = &p.Told.Audience, p.Told.Preview
		}
		for _, k := range p.KeyCounts {
			m.KeyCounts = append(m.KeyCounts, mail.KeyCount{Name: k.Name, Now: k.Now, Backup: k.Backup})
		}
		return t.Approval(m, c)
	case MailMonitor:
		f := mail.Findings{Target: in.Target, Link: link, Checked: time.Now().UTC(), By: "BackupMonitor"}
		if in.Findings != nil {
			f.By = cmp.Or(in.Findings.By, f.By)
			f.Healthy, f.Newest, f.Age = in.Findings.Healthy, in.Findings.Newest, in.Findings.AgeOfNewest
			for _, p := range in.Findings.Problems {
				f.Problems = append(f.Problems, mail.Problem{Code: p.Code, Text: p.Text})
			}
		}
		return t.Monitor(f, c)
	case MailRemind, MailOverdue:
		return t.ReportDue(mail.ReportDue{
			Target: in.Target, Incident: in.Incident, Due: in.Deadline, Left: in.Left, Draft: in.Draft, Link: link,
		}, c)
	case MailDone:
		d := done(in, link)
		if folder, err := a.folder(in.Target, in.Incident); err == nil && !d.ReportDue.IsZero() {
			d.Report = folder.Path(reportHTML)
		}
		return t.Done(d, c)
	case MailSupport:
		return a.supportRequest(t, in, c)
	}
	return mail.Message{}, badInput(errors.New("no mail of kind " + string(in.Kind)))
}

func (a *Mail) supportRequest(t *mail.Templates, in TellInput, c mail.Contact) (mail.Message, error) {
	target, err := a.target(in.Target)
	if err != nil {
		return mail.Message{}, err
	}
	volume := target.PodLoss.Volume
	return t.SupportRequest(mail.SupportRequest{
		Target: in.Target, Database: target.Database.Name, Incident: in.Incident, Volume: volume.Name, Path: volume.Path,
		Since: in.Since, Asked: in.Asked, Seen: in.Seen, Answer: target.Contacts.OnCall,
	}, c)
}

func done(in TellInput, link string) mail.Done {
	d := mail.Done{Target: in.Target, Incident: in.Incident, Outcome: in.Outcome, Summary: in.Summary, Link: link, Recovered: in.Ended != nil}
	d.Whole, d.Warnings = in.Whole, in.Warnings
	e := in.Ended
	if e == nil {
		return d
	}
	if d.Beside = e.Beside; d.Beside {
		d.Restored, d.RTO, d.RTOTarget, d.Warnings, d.ReportDue = e.Restored, e.RTO, e.RTOTarget, e.Warnings, e.ReportDue
		return d
	}
	d.Backup, d.BackupAt, d.Restored, d.Left, d.SafetyDump = e.Backup, e.BackupAt, e.Restored, e.Lost, e.SafetyDump
	d.Downtime, d.RTO, d.RTOTarget, d.RPO, d.RPOTarget = e.Downtime, e.RTO, e.RTOTarget, e.RPO, e.RPOTarget
	if e.Newer != nil {
		d.Newer = e.Newer.inWords(e.SafetyDump)
		d.MergeBack = e.Newer.Documents > 0
	}
	d.Mails = &mail.Tally{Sent: e.MailsSent, Failed: e.MailsUndeliverable, Unknown: e.MailsUnknown}
	d.Warnings, d.ReportDue, d.Report = e.Warnings, e.ReportDue, in.Draft
	for _, k := range e.KeyCounts {
		d.KeyCounts = append(d.KeyCounts, mail.KeyCount{Name: k.Name, Now: k.Now, Backup: k.Backup})
	}
	return d
}

// mailError says when to try again: as the service asks, or when a person may have mended what it refuses.
func mailError(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	later := func(kind string, after time.Duration) error {
		return temporal.NewApplicationErrorWithOptions(err.Error(), kind, temporal.ApplicationErrorOptions{NextRetryDelay: after, Cause: err})
	}
	if limited, ok := errors.AsType[*mail.RateLimitedError](err); ok {
		activity.GetLogger(ctx).Info("the mail service asks to wait", "for", limited.RetryAfter)
		return later("RateLimited", limited.RetryAfter)
	}
	if as[*mail.RefusedError](err) {
		return later("MailRefused", mendAfter)
	}
	if as[*mail.FrozenError](err) {
		return temporal.NewNonRetryableApplicationError(err.Error(), "MailsChanged", err)
	}
	return err
}
