package mail

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	texttemplate "text/template"
)

//go:embed templates
var builtin embed.FS

// The mails that there are, by the name of their template files.
const (
	mailNotice   = "notice"
	mailFollowUp = "followup"
	mailApproval = "approval"
	mailDecision = "decision"
	mailDone     = "done"
	mailMonitor  = "monitor"
	mailReport   = "report"
	mailSupport  = "support"
)

var mailNames = []string{mailNotice, mailFollowUp, mailApproval, mailDecision, mailDone, mailMonitor, mailReport, mailSupport}

// Templates renders mails, each as HTML and as plain text.
type Templates struct {
	html map[string]*htmltemplate.Template
	text map[string]*texttemplate.Template
}

// LoadTemplates is NewTemplates with the templates of a directory; "" means none.
func LoadTemplates(dir string) (*Templates, error) {
	if dir == "" {
		return NewTemplates(nil)
	}
	t, err := NewTemplates(os.DirFS(dir))
	if err != nil {
		return nil, fmt.Errorf("mail.templates, %s: %w", dir, err)
	}
	return t, nil
}

// CheckTemplates loads the templates of a directory and renders every mail with them: what is wrong in them is found before a
// mail must go out. A file that is no template of a mail is refused: it may be one whose name is misspelt.
func CheckTemplates(dir string) error {
	t, err := LoadTemplates(dir)
	if err != nil || dir == "" {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("mail.templates: %w", err)
	}
	for _, e := range entries {
		if name := e.Name(); name[0] != '.' && !slices.Contains(templateNames(), name) {
			return fmt.Errorf("mail.templates, %s: no mail has a template %s; there are %s", dir, name, strings.Join(templateNames(), ", "))
		}
	}
	samples, err := t.Samples("Brand", "help@brand.example")
	if err != nil {
		return fmt.Errorf("mail.templates, %s: %w", dir, err)
	}
	for _, s := range samples {
		m := s.Message
		switch {
		case m.Subject == "":
			return fmt.Errorf("mail.templates, %s: the mail %s has no subject: its text template must define the block \"subject\"", dir, s.Name)
		case strings.TrimSpace(m.Text) == "":
			return fmt.Errorf("mail.templates, %s: the mail %s has no text", dir, s.Name)
		case s.Name == "approval" && !(strings.Contains(m.Text, sampleApproval().Plan) && strings.Contains(m.HTML, sampleApproval().Plan)):
			return fmt.Errorf("mail.templates, %s: the mail %s leaves out {{.Mail.Plan}}, the code that an approval must repeat", dir, s.Name)
		}
	}
	return nil
}

// templateNames are the files that there are.
func templateNames() []string {
	names := []string{"layout.html"}
	for _, name := range mailNames {
		names = append(names, name+".html", name+".txt")
	}
	return names
}

// WriteTemplates writes the templates that come with runbook into a directory, to begin from. What stands there already is not
// overwritten: the error is then fs.ErrExist.
func WriteTemplates(dir string) error {
	for _, name := range templateNames() {
		data, err := fs.ReadFile(builtin, "templates/"+name)
		if err != nil {
			return err
		}
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // holds no secret
		if err != nil {
			return err
		}
		if _, err := f.Write(data); err != nil {
			return errors.Join(err, f.Close())
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

// NewTemplates parses the templates that come with runbook. A file of the same name in own replaces one of them:
// layout.html, NAME.html, NAME.txt; nil replaces none.
func NewTemplates(own fs.FS) (*Templates, error) {
	shared, err := fs.Sub(builtin, "templates")
	if err != nil {
		return nil, err
	}
	read := func(name string) (string, error) {
		if own != nil {
			data, err := fs.ReadFile(own, name)
			if err == nil || !errors.Is(err, fs.ErrNotExist) {
				return string(data), err
			}
		}
		data, err := fs.ReadFile(shared, name)
		return string(data), err
	}
	layout, err := read("layout.html")
	if err != nil {
		return nil, err
	}
	t := &Templates{html: map[string]*htmltemplate.Template{}, text: map[string]*texttemplate.Template{}}
	for _, name := range mailNames {
		html, err := read(name + ".html")
		if err != nil {
			return nil, err
		}
		text, err := read(name + ".txt")
		if err != nil {
			return nil, err
		}
		h := htmltemplate.New("layout.html").Funcs(htmltemplate.FuncMap(functions)).Funcs(htmlFunctions).Option("missingkey=error")
		if _, err := h.Parse(layout); err != nil {
			return nil, fmt.Errorf("mail template layout.html: %w", err)
		}
		if t.html[name], err = h.New(name + ".html").Parse(html); err != nil {
			return nil, fmt.Errorf("mail template %s.html: %w", name, err)
		}
		x := texttemplate.New(name + ".txt").Funcs(texttemplate.FuncMap(functions)).Option("missingkey=error")
		if t.text[name], err = x.Parse(text); err != nil {
			return nil, fmt.Errorf("mail template %s.txt: %w", name, err)
		}
	}
	return t, nil
}

// tone is the colour of a mail: what its reader should feel before reading.
type tone struct{ Strong, Soft string }

var (
	toneGood   = tone{"#1c7c54", "#e6f3ec"}
	toneAsk    = tone{"#1f5fa6", "#e7effa"}
	toneUrgent = tone{"#b3261e", "#fbeae8"}
	toneWarn   = tone{"#9a5b00", "#fdf1dd"}
)

// view is what every template is given.
type view struct {
	Tone     tone
	Brand    string
	Incident string
	Mail     any // the mail's own facts
}

// render makes the message. The subject is the text template's block "subject".
func (t *Templates) render(name string, v view, c Contact) (Message, error) {
	var html, text, subject bytes.Buffer
	if err := t.html[name].ExecuteTemplate(&html, "layout.html", v); err != nil {
		return Message{}, fmt.Errorf("render mail %s: %w", name, err)
	}
	if err := t.text[name].Execute(&text, v); err != nil {
		return Message{}, fmt.Errorf("render mail %s: %w", name, err)
	}
	if err := t.text[name].ExecuteTemplate(&subject, "subject", v); err != nil {
		return Message{}, fmt.Errorf("render mail %s: %w", name, err)
	}
	m := Message{
		Contact: c,
		Subject: strings.Join(strings.Fields(subject.String()), " "),
		HTML:    strings.TrimSpace(html.String()) + "\n",
		Text:    wrap(text.String()),
		Headers: map[string]string{"Auto-Submitted": "auto-generated"},
	}
	if v.Incident != "" {
		// The common ancestor makes mail programs show all mails of one incident as one thread.
		thread := "<" + v.Incident + "@runbook>"
		m.Headers["References"], m.Headers["In-Reply-To"] = thread, thread
	}
	return m, nil
}
