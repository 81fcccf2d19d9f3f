package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/battwheels/runbook/sandbox/rehearsal"
)

func TestRehearseTellsAWrongCommandLineFromABadBackup(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	half := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(half, "shop"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(half, "shop", "invoices.bson"), nil, 0o600))
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no backup":          {nil, exitUsage, "--backup DIR"},
		"no such directory":  {[]string{"--backup", filepath.Join(half, "gone")}, exitUsage, "does not exist"},
		"no address":         {[]string{"--backup", half, "--mongodb", "localhost"}, exitUsage, "--mongodb is no MongoDB address"},
		"a backup cut short": {[]string{"--backup", half}, exitFailed, "not recovered"},
	} {
		t.Run(name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			require.Equal(t, c.code, execute(t.Context(), append([]string{"rehearse"}, c.args...), &out, &errOut))
			require.Contains(t, errOut.String(), c.says)
		})
	}
}

func TestARehearsalFitsTheScreen(t *testing.T) {
	var out bytes.Buffer
	p := &page{out: &out, began: time.Now()}
	p.rehearsed(rehearsal.Result{
		Backup: "/var/backups/mongodb/shop_20260224_020000", Database: "shop", Server: "FerretDB v1, embedded", Recovered: true, RTOSeconds: 3.1,
		Damage: "invoices dropped (60 documents), a document of tickets ruined", Suspicious: []string{strings.Repeat("few documents ", 12)},
		LeftOut: []string{"tickets: its index expiry (expireAfterSeconds)"}, Mend: []string{strings.Repeat("make a new one ", 12)},
	})
	for line := range strings.Lines(out.String()) {
		require.LessOrEqual(t, utf8.RuneCountInString(strings.TrimSuffix(line, "\n")), columns, line)
	}
	for _, want := range []string{"RECOVERED", "Your RTO", "3.1 s", "Suspicious in the backup", "expireAfterSeconds", "To mend"} {
		require.Contains(t, out.String(), want)
	}
}
