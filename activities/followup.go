package activities

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/battwheels/runbook/internal/mail"
)

// FollowUpInput is a later word to the organizations that were told of an incident. Name tells its outbox from the incident's
// others.
type FollowUpInput struct {
	Target   string `json:"target"`
	Incident string `json:"incident"`
	Name     string `json:"name"`
	Kind     string `json:"kind"` // correction, all-clear, update
	Headline string `json:"headline,omitempty"`
	Text     string `json:"text"`
}

// FollowUp counts the mails of a follow-up that are frozen and wait for approval.
type FollowUp struct {
	Outbox
	Name     string `json:"name"`
	Headline string `json:"headline"`
	Code     string `json:"code"`    // of exactly these mails: an approval must repeat it
	Preview  string `json:"preview"` // path of the mail to one of them
}

// FollowUpSaid is a follow-up that went out, for the report.
type FollowUpSaid struct {
	Name          string    `json:"name"`
	Kind          string    `json:"kind"`
	Headline      string    `json:"headline"`
	By            string    `json:"by"`
	Reason        string    `json:"reason"`
	ApprovedBy    string    `json:"approvedBy"`
	At            time.Time `json:"at"` // when the last batch was out
	Sent          int       `json:"sent"`
	Undeliverable int       `json:"undeliverable"`
	Unknown       int       `json:"unknown,omitempty"`
}

// FreezeFollowUp writes the mails of a follow-up down, to those who got the first mail, and gives them a code. Nothing is sent.
// Where that was done before under this name, it only counts.
func (a *Mail) FreezeFollowUp(ctx context.Context, in FollowUpInput) (FollowUp, error) {
	_, stop := beat(ctx)
	defer stop()
	folder, err := a.folder(in.Target, in.Incident)
	if err != nil {
		return FollowUp{}, err
	}
	words, err := mail.NewFollowUp(mail.FollowUpKind(in.Kind), in.Headline, in.Text)
	if err != nil {
		return FollowUp{}, badInput(err)
	}
	templates, err := a.templates()
	if err != nil {
		return FollowUp{}, err
	}
	notice := mail.Notice{Brand: a.Config.Mail.Brand, Support: a.Config.Mail.Support, Incident: in.Incident}
	box, err := mail.Load(folder, in.Name)
	if errors.Is(err, fs.ErrNotExist) {
		var draft mail.Draft
		draft, err = mail.Follow(folder, func(c mail.Contact) (mail.Message, error) { return templates.FollowUp(notice, words, c) })
		if errors.Is(err, mail.ErrNobodyTold) || err == nil && len(draft.Messages) == 0 {
			return FollowUp{}, badInput(mail.ErrNobodyTold)
		}
		if err == nil {
			draft.Name, draft.ID = in.Name, in.Target+"/"+in.Incident+"/"+in.Name
			box, err = mail.Freeze(folder, draft)
		}
	}
	if err != nil {
		return FollowUp{}, mailError(ctx, err)
	}
	if before, err := box.Outcome(folder); err != nil || before.Pending < before.Messages {
		if err == nil {
			err = badInput(fmt.Errorf("these very words went out already, as %s; nobody gets them twice", in.Name))
		}
		return FollowUp{}, err
	}
	out, err := counted(folder, box)
	if err != nil {
		return FollowUp{}, mailError(ctx, err)
	}
	sums := []string{box.ID}
	for _, b := range box.Batches {
		sums = append(sums, b.SHA256)
	}
	messages, err := box.Read(folder, 0)
	if err != nil {
		return FollowUp{}, mailError(ctx, err)
	}
	preview, err := writePreview(folder, "preview-"+in.Name, messages[0])
	return FollowUp{Outbox: out, Name: in.Name, Headline: words.Headline, Code: codeOf(sums...), Preview: preview}, err
}

// text is what the report says of a follow-up.
func (f FollowUpSaid) text() string {
	s := fmt.Sprintf("%s %q, written by %s (%s) and approved by %s, went to the same organizations: %d mails were accepted by the mail service, %d could not be delivered.",
		map[string]string{"correction": "The correction", "all-clear": "The all-clear", "update": "The update"}[f.Kind], f.Headline, f.By, f.Reason, f.ApprovedBy, f.Sent, f.Undeliverable)
	if f.Unknown > 0 {
		s += fmt.Sprintf(" Of %d the outcome is unknown.", f.Unknown)
	}
	return s
}
