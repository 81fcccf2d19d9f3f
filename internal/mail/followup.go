package mail

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/battwheels/runbook/internal/incident"
)

// FollowUpKind is what a later word on an incident is.
type FollowUpKind string

// The kinds of later words.
const (
	Correction FollowUpKind = "correction"
	AllClear   FollowUpKind = "all-clear"
	Update     FollowUpKind = "update"
)

// FollowUpKinds are all of them.
var FollowUpKinds = []FollowUpKind{Correction, AllClear, Update}

// headlines stand where a person gives none.
var headlines = map[FollowUpKind]string{
	Correction: "A correction to our earlier mail",
	AllClear:   "All is well again",
	Update:     "More on our earlier mail",
}

// FollowUp is a later word on the same incident, in a person's own words.
type FollowUp struct {
	Kind       FollowUpKind
	Headline   string // default: the kind's own
	Paragraphs []string
}

// maxWords bounds a follow-up: mail programs cut what is longer than 100 kB, and its words stand in a history.
const maxWords = 10_000

// NewFollowUp makes a follow-up of what a person wrote: paragraphs are parted by empty lines. The error says what to write
// otherwise.
func NewFollowUp(kind FollowUpKind, headline, text string) (FollowUp, error) {
	headline = strings.Join(strings.Fields(headline), " ")
	f := FollowUp{Kind: kind, Headline: cmp.Or(headline, headlines[kind]), Paragraphs: paragraphs(text)}
	odd := func(r rune) bool { return unicode.IsControl(r) && !unicode.IsSpace(r) || r == unicode.ReplacementChar }
	switch {
	case !slices.Contains(FollowUpKinds, kind):
		return FollowUp{}, fmt.Errorf("there is no follow-up of kind %q: it is one of correction, all-clear, update", kind)
	case len(f.Paragraphs) == 0:
		return FollowUp{}, errors.New("the follow-up has no text: write what the organizations are to read")
	case len(text) > maxWords:
		return FollowUp{}, fmt.Errorf("the text is %d bytes long; at most %d: put the rest on a page, and link to it", len(text), maxWords)
	case len([]rune(headline)) > 120:
		return FollowUp{}, errors.New("the headline is longer than 120 characters: it is the mail's subject")
	case strings.ContainsFunc(headline+text, odd):
		return FollowUp{}, errors.New("the text holds characters that cannot be shown: write it as plain text in UTF-8")
	}
	return f, nil
}

// item begins a line of its own: an entry of a list.
var item = regexp.MustCompile(`^([-*•]|\d{1,2}[.)]) `)

// paragraphs parts a text at its empty lines. Lines that an editor broke are joined again; entries of a list stay lines of
// their own.
func paragraphs(text string) []string {
	var all []string
	var now strings.Builder
	end := func() {
		if now.Len() > 0 {
			all = append(all, now.String())
		}
		now.Reset()
	}
	for line := range strings.Lines(text) {
		line = strings.Join(strings.Fields(line), " ")
		switch {
		case line == "":
			end()
			continue
		case now.Len() > 0 && item.MatchString(line):
			now.WriteString("\n")
		case now.Len() > 0:
			now.WriteString(" ")
		}
		now.WriteString(line)
	}
	end()
	return all
}

// Badge names the kind in the mail's corner.
func (f FollowUp) Badge() string {
	return map[FollowUpKind]string{Correction: "Correction", AllClear: "All clear", Update: "Update"}[f.Kind]
}

// followUpView is a FollowUp to one contact.
type followUpView struct {
	FollowUp
	To      Contact
	Support string
}

// FollowUp renders a later word to one organization, in the thread of the notice.
func (t *Templates) FollowUp(n Notice, f FollowUp, c Contact) (Message, error) {
	tone := map[FollowUpKind]tone{Correction: toneWarn, AllClear: toneGood, Update: toneAsk}[f.Kind]
	m, err := t.render(mailFollowUp, view{Tone: tone, Brand: n.Brand, Incident: n.Incident,
		Mail: followUpView{FollowUp: f, To: c, Support: n.Support}}, c)
	m.ReplyTo = n.Support
	return m, err
}

// ErrNobodyTold says that no mail about an incident was frozen, so that there is nothing to follow up.
var ErrNobodyTold = errors.New("no organization was told of this incident from this host, so there is nobody to write to again")

// Follow drafts a follow-up to those to whom the first mail went, whoever the database names by now. Addresses that the mail
// service refused then are not tried again: they are among Without. The error is ErrNobodyTold where there was no first mail.
func Follow(folder incident.Folder, render func(Contact) (Message, error)) (Draft, error) {
	first, err := Load(folder, "")
	if errors.Is(err, fs.ErrNotExist) {
		return Draft{}, ErrNobodyTold
	}
	if err != nil {
		return Draft{}, err
	}
	outcome, err := first.Outcome(folder)
	if err != nil {
		return Draft{}, err
	}
	refused := map[string]string{}
	for _, f := range outcome.FailedMails {
		refused[f.Email] = f.Reason
	}
	d := Draft{From: first.From, Without: first.Without}
	for n := range first.Batches {
		messages, err := first.Read(folder, n)
		if err != nil {
			return Draft{}, err
		}
		for _, m := range messages {
			if why, bad := refused[m.Contact.Email]; bad {
				c := m.Contact
				c.Why = "its address was refused: " + why
				d.Without = append(d.Without, c)
				continue
			}
			next, err := render(m.Contact)
			if err != nil {
				return Draft{}, err
			}
			d.Messages = append(d.Messages, next)
		}
	}
	return d, nil
}
