package mail

import (
	"fmt"
	htmltemplate "html/template"
	"strings"
	"time"

	"github.com/battwheels/runbook/internal/words"
)

// functions are what templates may call. All times are shown in UTC.
var functions = map[string]any{
	"when":   words.When,
	"window": words.Window,
	"dates":  dates,
	"dur":    words.Duration,
	"num":    words.Number,
	"plural": pluralAny,
	"names":  names,
	"lines":  func(s string) []string { return strings.Split(s, "\n") },
	"num64":  func(n int) string { return words.Number(int64(n)) },
	"action": func(label, command string) Action { return Action{label, command} },

	"mailTrouble": mailTrouble,
	"records":     records,
	"ownRecords":  ownRecords,
	"fact":        newFact,
}

// styles are the inline styles of the HTML mails: mail programs know no other. The class lets dark mode in.
var styles = map[string]string{
	"h2":    `class="ink" style="margin:30px 0 10px;font-size:17px;line-height:24px;font-weight:600;color:#17211c"`,
	"p":     `class="ink" style="margin:0 0 14px;font-size:16px;line-height:25px;color:#2b3630"`,
	"small": `class="dim" style="margin:0 0 10px;font-size:14px;line-height:21px;color:#5d6a62"`,
	"list":  `class="ink" style="margin:0 0 14px;padding:0 0 0 22px;font-size:16px;line-height:25px;color:#2b3630"`,
	"li":    `style="margin:0 0 8px;padding:0 0 0 4px"`,
	"table": `role="presentation" width="100%" cellpadding="0" cellspacing="0" border="0" class="line" style="margin:4px 0 22px;border-collapse:collapse;border-top:1px solid #e2e6e1"`,
	"label": `class="dim line fact" valign="top" width="38%" style="padding:10px 14px 10px 0;border-bottom:1px solid #e2e6e1;font-size:14px;line-height:21px;color:#5d6a62"`,
	"value": `class="ink line fact" valign="top" style="padding:10px 0;border-bottom:1px solid #e2e6e1;font-size:15px;line-height:21px;color:#17211c"`,
	"th":    `class="dim line" align="left" style="padding:8px 10px 8px 0;border-bottom:1px solid #e2e6e1;font-size:13px;line-height:18px;font-weight:400;color:#5d6a62"`,
	"td":    `class="ink line" valign="top" style="padding:8px 10px 8px 0;border-bottom:1px solid #e2e6e1;font-size:15px;line-height:21px;color:#17211c"`,
	"thr":   `class="dim line" align="right" style="padding:8px 0 8px 10px;border-bottom:1px solid #e2e6e1;font-size:13px;line-height:18px;font-weight:400;color:#5d6a62"`,
	"tdr":   `class="ink line" align="right" valign="top" style="padding:8px 0 8px 10px;border-bottom:1px solid #e2e6e1;font-size:15px;line-height:21px;color:#17211c"`,
	"note":  `class="dim" style="font-size:13px;line-height:19px;color:#5d6a62"`,
	"code":  `class="code" style="margin:0 0 14px;padding:12px 14px;background:#f3f5f2;border-radius:6px;font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:13px;line-height:20px;color:#17211c;white-space:pre-wrap;word-break:break-word;overflow-wrap:anywhere"`,
	"link":  `class="link" style="color:#1f5fa6;text-decoration:underline"`,
}

var htmlFunctions = htmltemplate.FuncMap{
	"style": func(name string) (htmltemplate.HTMLAttr, error) {
		s, ok := styles[name]
		if !ok {
			return "", fmt.Errorf("there is no style %q", name)
		}
		return htmltemplate.HTMLAttr(s), nil //nolint:gosec // from the table above only
	},
}

// fact is one row of a mail's table.
type fact struct{ Label, Value, Note string }

// newFact takes a note that may be missing: what "and" yields in a template where its condition does not hold.
func newFact(label, value string, note ...any) fact {
	f := fact{Label: label, Value: value}
	for _, n := range note {
		if s, ok := n.(string); ok {
			f.Note += s
		}
	}
	return f
}

// mailTrouble says who was not reached, in a few words.
func mailTrouble(t *Tally) string {
	var parts []string
	for _, p := range []struct {
		n    int
		what string
	}{
		{t.Failed, "refused"}, {t.Unknown, "unknown, listed for a person"}, {t.Pending, "waiting"}, {t.Without, "without an address"},
	} {
		if p.n > 0 {
			parts = append(parts, words.Number(int64(p.n))+" "+p.what)
		}
	}
	return strings.Join(parts, ", ")
}

// records says how much an organization has to enter again. Damage counts as a change too, hence "up to".
func records(l Loss) string {
	var parts []string
	if l.New > 0 {
		parts = append(parts, words.Number(l.New)+" new")
	}
	if l.Changed > 0 {
		parts = append(parts, "up to "+words.Number(l.Changed)+" changed")
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// ownRecords is the label of records: it names the organization where one address stands for several.
func ownRecords(organizations int, name string) string {
	if organizations > 1 {
		return "Records of " + name
	}
	return "Records of yours in it"
}

// dates is a window for a subject line.
func dates(from, to time.Time) string {
	from, to = from.UTC(), to.UTC()
	if words.SameDay(from, to) {
		return from.Format("15:04") + " and " + to.Format("15:04 MST, 2 January")
	}
	return from.Format("2 January, 15:04") + " and " + to.Format("2 January, 15:04 MST")
}

// pluralAny is plural for templates, which hold ints of either size.
func pluralAny(n any, one, many string) (string, error) {
	switch n := n.(type) {
	case int:
		return words.Plural(int64(n), one, many), nil
	case int64:
		return words.Plural(n, one, many), nil
	}
	return "", fmt.Errorf("plural of %T: want a whole number", n)
}

// names lists organizations in a sentence.
func names(list []Organization) string {
	var all []string
	for _, o := range list {
		if o.Name != "" {
			all = append(all, o.Name)
		}
	}
	switch len(all) {
	case 0:
		return ""
	case 1:
		return all[0]
	}
	return strings.Join(all[:len(all)-1], ", ") + " and " + all[len(all)-1]
}

const textWidth = 74

// wrap breaks the long lines of a plain text mail at spaces, and leaves at most one line empty. Lines that begin with a
// space are left as they are: commands and tables. Lines of a list are continued under their text.
func wrap(s string) string {
	var out []string
	empty := true
	for line := range strings.Lines(s) {
		line = strings.TrimRight(line, " \t\r\n")
		if line == "" {
			if !empty {
				out = append(out, "")
			}
			empty = true
			continue
		}
		empty = false
		if strings.HasPrefix(line, " ") {
			out = append(out, line)
			continue
		}
		indent := ""
		if i := strings.Index(line, " "); i > 0 && (line[:i] == "-" || strings.HasSuffix(line[:i], ".") && i <= 3) {
			indent = strings.Repeat(" ", i+1)
		}
		current := ""
		for _, word := range strings.Fields(line) {
			switch {
			case current == "":
				current = word
			case len([]rune(current))+1+len([]rune(word)) > textWidth:
				out = append(out, current)
				current = indent + word
			default:
				current += " " + word
			}
		}
		out = append(out, current)
	}
	return strings.TrimSpace(strings.Join(out, "\n")) + "\n"
}
