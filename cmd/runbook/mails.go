package main

import (
	"fmt"
	"html/template"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/battwheels/runbook/internal/mail"
	"github.com/battwheels/runbook/internal/words"
)

func (a *app) mails() *cobra.Command {
	c := &cobra.Command{
		Use: "mails", Short: "Look at the mails, and begin templates of your own",
		Long:    "Look at the mails that runbook sends, and begin templates of your own for mail.templates.\n\n" + exitHelp,
		Example: "  runbook mails templates --out /etc/runbook/mails\n  runbook mails preview --out /tmp/mails",
	}
	c.AddCommand(a.mailsPreview(), a.mailsTemplates())
	return c
}

func (a *app) mailsPreview() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use: "preview", Short: "Write every mail with made-up facts into a directory, to look at",
		Long: `Check the templates of mail.templates, and write every mail with made-up facts into a directory: each as HTML and as text,
and index.html, which shows them all. Nothing is sent.

` + exitHelp,
		Example: "  runbook mails preview --out /tmp/mails",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.loadLenient()
			if err != nil {
				return err
			}
			if err := mail.CheckTemplates(cfg.Mail.Templates); err != nil {
				return usage(err)
			}
			templates, err := mail.LoadTemplates(cfg.Mail.Templates)
			if err != nil {
				return usage(err)
			}
			samples, err := templates.Samples(cfg.Mail.Brand, cfg.Mail.Support)
			if err != nil {
				return usage(err)
			}
			if err := writeSamples(out, samples); err != nil {
				return err
			}
			index := filepath.Join(out, "index.html")
			return a.print(cmd.OutOrStdout(), map[string]any{"mails": len(samples), "index": index}, func(w io.Writer) {
				fmt.Fprintf(w, "%s; open %s\n", words.Plural(int64(len(samples)), "mail", "mails"), index)
			})
		},
	}
	c.Flags().StringVar(&out, "out", "", "directory to write to; files of the same names are replaced")
	must(c.MarkFlagRequired("out"))
	return c
}

func (a *app) mailsTemplates() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use: "templates", Short: "Write runbook's own templates into a directory, to begin from",
		Long: `Write the templates that come with runbook into a directory. Keep the ones that you change, delete the others, and name the
directory as mail.templates. They are Go templates; what stands in an HTML template's values is escaped by itself. No file that
is there already is replaced.

` + exitHelp,
		Example: "  runbook mails templates --out /etc/runbook/mails",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := os.MkdirAll(out, 0o755); err != nil { //nolint:gosec // holds no secret
				return err
			}
			if err := mail.WriteTemplates(out); err != nil {
				return err
			}
			return a.print(cmd.OutOrStdout(), map[string]string{"directory": out}, func(w io.Writer) {
				fmt.Fprintf(w, "the templates are in %s\n", out)
			})
		},
	}
	c.Flags().StringVar(&out, "out", "", "directory to write to")
	must(c.MarkFlagRequired("out"))
	return c
}

// samplesPage shows all mails beside their subjects. A mail gets a frame without scripts.
var samplesPage = template.Must(template.New("index").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Mails</title><style>
body { margin: 0; padding: 24px; font: 15px/22px system-ui, sans-serif; background: #e9ece8; color: #17211c }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(430px, 1fr)); gap: 28px }
h2 { margin: 0; font-size: 15px } p { margin: 2px 0 8px; color: #5d6a62 }
iframe { width: 100%; height: 620px; border: 1px solid #cdd4cd; border-radius: 8px; background: #fff }
</style></head><body><main>
{{range .}}<section><h2>{{.Name}} <a href="{{.Name}}.html">html</a> <a href="{{.Name}}.txt">text</a></h2><p>{{.Message.Subject}}</p>
<iframe sandbox src="{{.Name}}.html" title="{{.Name}}" loading="lazy"></iframe></section>
{{end}}</main></body></html>
`))

func writeSamples(dir string, samples []mail.Sample) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // made-up facts
		return err
	}
	write := func(name, text string) error {
		return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644) //nolint:gosec // likewise
	}
	for _, s := range samples {
		if err := write(s.Name+".html", s.Message.HTML); err != nil {
			return err
		}
		if err := write(s.Name+".txt", "Subject: "+s.Message.Subject+"\n\n"+s.Message.Text); err != nil {
			return err
		}
	}
	var page strings.Builder
	if err := samplesPage.Execute(&page, samples); err != nil {
		return err
	}
	return write("index.html", page.String())
}
