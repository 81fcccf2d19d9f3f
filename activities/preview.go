package activities

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/catalog"
	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/internal/incident"
	"github.com/battwheels/runbook/internal/mail"
)

// Told is who will be told after a restore, in numbers, and where a preview of the mail lies: part of what is approved.
type Told struct {
	mail.Audience
	Preview string `json:"preview"` // path of the mail to one of them
}

// counts is what of it the plan's code stands for.
func (t *Told) counts() string {
	if t == nil {
		return ""
	}
	return t.String()
}

// The files of a preview in the incident's folder.
const (
	previewMail       = "preview-mail" // .html and .txt
	previewRecipients = "preview-recipients.json"
)

// withoutShown bounds the list of those who cannot be reached.
const withoutShown = 1000

// previewed is preview-recipients.json: no addresses.
type previewed struct {
	mail.Audience
	Example string        `json:"example"` // the organization whose mail is the preview
	Without []unreachable `json:"without,omitempty"`
}

type unreachable struct {
	OrganizationID string `json:"organizationId"`
	Why            string `json:"why"`
}

// tellsOrganizations says after which playbooks every organization is told.
func tellsOrganizations(playbook string) bool {
	return playbook == "DatabaseCorruption" || playbook == "PodLoss"
}

type previewInput struct {
	PlanInput
	from backup.Source // the backup, with all its collections
	loss map[string]backup.Counts
	at   time.Time
}

// previewMails counts who will be told of a restore, and renders the mail to one of them: to the organization that it touches
// most. The times that lie ahead are that of the plan. It returns nil where nobody is told.
func (b *Base) previewMails(ctx context.Context, t config.Target, folder incident.Folder, in previewInput) (*Told, error) {
	var opened OpenInput
	err := folder.GetJSON(incidentFile, &opened)
	if errors.Is(err, fs.ErrNotExist) || t.Tenants.Collection == "" || err == nil && !tellsOrganizations(opened.Playbook) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	kept := mail.FromBackup(in.from)
	try := []mail.Reader{kept}
	if in.Against != "" {
		db, err := b.Databases(in.Target)
		if err != nil {
			return nil, err
		}
		live := mail.FromDatabase(db)
		// The backup comes first: it is what will stand there, and the damage may have made anything of the database's.
		try = []mail.Reader{mail.Also(kept, live), kept, live}
	}
	took, active, without, err := firstRecipients(ctx, t.Tenants, try...)
	if err != nil {
		return nil, err
	}
	told := &Told{Audience: mail.Count(active, without)}
	told.FromBackup = in.Against == "" || took == 1
	list := previewed{Audience: told.Audience}
	for _, c := range without[:min(len(without), withoutShown)] {
		list.Without = append(list.Without, unreachable{c.OrganizationID, c.Why})
	}
	if len(active) > 0 {
		notice := mail.Notice{
			Brand: b.Config.Mail.Brand, Support: b.Config.Mail.Support, Incident: in.Incident, Detected: opened.DetectedAt,
			Stopped: in.at, Back: in.at, BackupAt: in.from.Manifest.StartedAt,
		}
		if opened.Playbook == "PodLoss" {
			notice.Gone, notice.NotKept, notice.Stopped = true, true, opened.DetectedAt
		} else if in.loss != nil {
			notice.Loss = losses(in.loss)
		}
		example := mostHit(active, notice.Loss)
		list.Example = example.OrganizationID
		templates, err := b.templates()
		if err != nil {
			return nil, err
		}
		m, err := templates.Notice(notice, example)
		if err != nil {
			return nil, err
		}
		if told.Preview, err = writePreview(folder, previewMail, m); err != nil {
			return nil, err
		}
	}
	return told, folder.PutJSON(previewRecipients, list)
}

// writePreview writes one mail into NAME.html and NAME.txt, and returns the path of the first.
func writePreview(folder incident.Folder, name string, m mail.Message) (string, error) {
	if err := folder.WriteFile(name+".txt", fmt.Appendf(nil, "Subject: %s\n\n%s", m.Subject, m.Text)); err != nil {
		return "", err
	}
	return folder.Path(name + ".html"), folder.WriteFile(name+".html", []byte(m.HTML))
}

func losses(tenants map[string]backup.Counts) map[string]mail.Loss {
	loss := map[string]mail.Loss{}
	for id, c := range tenants {
		loss[id] = mail.Loss{New: c.Added, Changed: c.Changed}
	}
	return loss
}

// mostHit is the contact that has most to enter again; the first where nothing is counted.
func mostHit(active []mail.Contact, loss map[string]mail.Loss) mail.Contact {
	best, most := active[0], int64(0)
	for _, c := range active {
		var n int64
		for _, o := range c.Organizations() {
			n += loss[o.ID].New + loss[o.ID].Changed
		}
		if n > most {
			best, most = c, n
		}
	}
	return best
}

// firstRecipients returns the recipients of the first reader that can be read to its end, and which one that was.
func firstRecipients(ctx context.Context, t config.Tenants, try ...mail.Reader) (took int, active, without []mail.Contact, err error) {
	var failed []error
	for i, docs := range try {
		if active, without, err = mail.Recipients(ctx, docs, t); err == nil {
			return i, active, without, nil
		}
		failed = append(failed, err)
	}
	return 0, nil, nil, errors.Join(failed...)
}

// stored reads from a backup by its id.
func stored(c *catalog.Catalog, id string) mail.Reader {
	return func(ctx context.Context, collection string) iter.Seq2[bson.Raw, error] {
		source, err := c.Source(ctx, id)
		if err != nil {
			return func(yield func(bson.Raw, error) bool) { yield(nil, err) }
		}
		return mail.FromBackup(source)(ctx, collection)
	}
}

// templates are the mails' templates, those of mail.templates in the place of ours.
func (b *Base) templates() (*mail.Templates, error) {
	return mail.LoadTemplates(b.Config.Mail.Templates)
}
