package mailbox

import (
	_ "embed"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

//go:embed page.html
var pageSource string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"join": func(s []string) string { return strings.Join(s, ", ") },
}).Parse(pageSource))

// list answers with all mails as JSON, oldest first.
func (b *Box) list(w http.ResponseWriter, _ *http.Request) {
	mails := b.Mails()
	if mails == nil {
		mails = []Mail{}
	}
	writeJSON(w, map[string]any{"total": len(mails), "counts": b.Counts(), "mails": mails})
}

// clear forgets the mails; idempotency keys are remembered on.
func (b *Box) clear(w http.ResponseWriter, _ *http.Request) {
	b.mu.Lock()
	b.mails = nil
	b.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

// view is what the page shows.
type view struct {
	Mails    []Mail // newest first, those found
	Total    int
	Query    string
	Selected *Mail
	Text     bool
	Mode     Mode
}

// Link is the page's own address with another mail selected.
func (v view) Link(id string, text bool) string {
	q := url.Values{"mail": {id}}
	if v.Query != "" {
		q.Set("q", v.Query)
	}
	if text {
		q.Set("as", "text")
	}
	return "/?" + q.Encode()
}

// page shows the mails. A mail's HTML gets a frame without scripts, forms or an origin, and the page's own policy
// keeps it from loading anything from elsewhere.
func (b *Box) page(w http.ResponseWriter, r *http.Request) {
	mails := b.Mails()
	v := view{Total: len(mails), Query: r.URL.Query().Get("q"), Text: r.URL.Query().Get("as") == "text"}
	for _, m := range slices.Backward(mails) {
		if matches(m, v.Query) {
			v.Mails = append(v.Mails, m)
		}
	}
	for i, m := range v.Mails {
		if m.ID == r.URL.Query().Get("mail") {
			v.Selected = &v.Mails[i]
		}
	}
	if v.Selected == nil && len(v.Mails) > 0 {
		v.Selected = &v.Mails[0]
	}
	if v.Selected != nil && v.Selected.HTML == "" {
		v.Text = true
	}
	b.mu.Lock()
	v.Mode = b.failure.Mode
	b.mu.Unlock()
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; connect-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	if err := pageTemplate.Execute(w, v); err != nil {
		http.Error(w, "the page cannot be shown: "+err.Error(), http.StatusInternalServerError)
	}
}

func matches(m Mail, query string) bool {
	query = strings.ToLower(query)
	return query == "" || strings.Contains(strings.ToLower(m.Subject+"\n"+strings.Join(m.To, " ")), query)
}
