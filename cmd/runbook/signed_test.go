package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

// decisions are the command lines of every verb that decides something, whole but for --by.
var decisions = map[string]string{
	"approve":          "approve shop --plan K7Q-X2M --reason x",
	"reject":           "reject shop --reason x",
	"choose-backup":    "choose-backup shop --backup b --reason x",
	"decide":           "decide shop --choice retry --reason x",
	"abort":            "abort shop --reason x",
	"narrow":           "narrow shop --collection invoices --reason x",
	"volume recovered": "volume recovered shop --reason x",
	"volume lost":      "volume lost shop --reason x",
	"post-report":      "post-report inc1 --url https://example.com",
	"notify":           "notify inc1 --approve K7Q-X2M --reason x",
	"merge-back":       "merge-back shop --incident inc1 --reason x",
	"backups accept":   "backups accept shop b",
}

// TestNobodyDecidesWithoutAName proves that each verb that decides something refuses an empty name, before it tries anything: no
// Temporal answers here, so whatever got further would end with another code. A new verb must be added to the table.
func TestNobodyDecidesWithoutAName(t *testing.T) {
	t.Setenv("RUNBOOK_CONFIG", shopConfig(t))
	t.Setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
	for verb, line := range decisions {
		for name, by := range map[string]string{"empty": "", "blank": "  "} {
			t.Run(verb+" "+name, func(t *testing.T) {
				var out, errOut strings.Builder
				require.Equal(t, exitUsage, execute(t.Context(), append(strings.Fields(line), "--by", by), &out, &errOut), errOut.String())
				require.Equal(t, "runbook: --by is missing: your name, which is kept with what you decide\n", errOut.String())
				require.Empty(t, out.String())
			})
		}
	}
	var signing []string
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Flags().Lookup("by") != nil {
			signing = append(signing, strings.TrimPrefix(c.CommandPath(), "runbook "))
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(newRoot())
	want := []string{"start"} // which may be nobody's decision, as an alert's is
	for verb := range decisions {
		want = append(want, verb)
	}
	require.ElementsMatch(t, want, signing)
}

// shopConfig is the path of a small configuration whose one target is shop.
func shopConfig(t *testing.T) string {
	t.Helper()
	example, err := os.ReadFile("testdata/runbook.yaml")
	require.NoError(t, err)
	dir := t.TempDir()
	t.Setenv("MONGO_URL", "mongodb://127.0.0.1:1")
	t.Setenv("RESEND_API_KEY", "re_secret")
	text := strings.NewReplacer("${WORK}", dir, "${DB_NAME}", "shop", "  battwheels:", "  shop:").Replace(string(example))
	path := filepath.Join(dir, "runbook.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}
