package incident

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func open(t *testing.T) Folder {
	t.Helper()
	f, err := Open(t.TempDir(), "battwheels", "20260224T031200Z-3f9a2c")
	require.NoError(t, err)
	return f
}

func TestOpenRefusesNamesThatLeadElsewhere(t *testing.T) {
	for name, tc := range map[string]struct{ target, id string }{
		"empty target":                {"", "a"},
		"empty incident":              {"a", ""},
		"parent as target":            {"..", "a"},
		"separator in the incident":   {"a", "incident/a"},
		"backslash":                   {"a", `a\b`},
		"hidden folder":               {"a", ".a"},
		"looks like a flag":           {"a", "-rf"},
		"line break":                  {"a", "a\nb"},
		"longer than a file system's": {"a", string(make([]byte, 300))},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			_, err := Open(dir, tc.target, tc.id)
			var bad *NameError
			require.ErrorAs(t, err, &bad)
			entries, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Empty(t, entries, "nothing is made for a refused name")
		})
	}
	_, err := Open("", "a", "b")
	require.ErrorContains(t, err, "storage.dir")
}

func TestOpenTwiceIsTheSameFolder(t *testing.T) {
	storage := t.TempDir()
	first, err := Open(storage, "battwheels", "i1")
	require.NoError(t, err)
	require.NoError(t, first.WriteFile("plan.json", []byte("{}")))
	second, err := Open(storage, "battwheels", "i1")
	require.NoError(t, err)
	require.Equal(t, first, second)
	data, err := second.ReadFile("plan.json")
	require.NoError(t, err)
	require.Equal(t, "{}", string(data))
}

func TestFilesArePrivate(t *testing.T) {
	f := open(t)
	require.NoError(t, f.PutJSON("outbox/notice/000.json", map[string]string{"to": "a@b.example"}))
	require.NoError(t, f.Append("ledger.jsonl", 1))
	for _, name := range []string{"outbox/notice/000.json", "ledger.jsonl"} {
		info, err := os.Stat(f.Path(name))
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o600), info.Mode().Perm(), name)
	}
	info, err := os.Stat(f.Dir)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o700), info.Mode().Perm())
}

func TestJSONComesBack(t *testing.T) {
	f := open(t)
	type plan struct{ Code string }
	require.NoError(t, f.PutJSON("plan.json", plan{"7F3K"}))
	var got plan
	require.NoError(t, f.GetJSON("plan.json", &got))
	require.Equal(t, "7F3K", got.Code)

	require.ErrorIs(t, f.GetJSON("swap.json", &got), fs.ErrNotExist)

	require.NoError(t, f.WriteFile("plan.json", []byte(`{"Code":`)))
	err := f.GetJSON("plan.json", &got)
	require.ErrorContains(t, err, f.Path("plan.json"))
	require.False(t, errors.Is(err, fs.ErrNotExist), "damaged is not missing: nothing may be made anew by itself")
}

func TestNoFileOutsideTheFolder(t *testing.T) {
	f := open(t)
	for _, name := range []string{"../x", "/etc/x", "a/../../x", "", ".", "a//b"} {
		var bad *NameError
		require.ErrorAs(t, f.WriteFile(name, nil), &bad, name)
		require.ErrorAs(t, f.Append(name, 1), &bad, name)
		_, err := f.ReadFile(name)
		require.ErrorAs(t, err, &bad, name)
	}
}

func TestLedgerSurvivesALineCutShort(t *testing.T) {
	f := open(t)
	require.NoError(t, f.Append("ledger.jsonl", map[string]int{"batch": 1}))
	file, err := os.OpenFile(f.Path("ledger.jsonl"), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = file.WriteString(`{"batch":2,"se`)
	require.NoError(t, err)
	require.NoError(t, file.Close())

	require.NoError(t, f.Append("ledger.jsonl", map[string]int{"batch": 3}))

	var batches []int
	for line, err := range Lines[struct{ Batch int }](f, "ledger.jsonl") {
		require.NoError(t, err)
		batches = append(batches, line.Batch)
	}
	require.Equal(t, []int{1, 3}, batches)
}

func TestLedgerThatWasNeverWrittenIsEmpty(t *testing.T) {
	for line, err := range Lines[int](open(t), "ledger.jsonl") {
		t.Fatal("a line from nowhere", line, err)
	}
}

func TestLedgerOfAnotherShapeIsAnError(t *testing.T) {
	f := open(t)
	require.NoError(t, f.Append("ledger.jsonl", "text"))
	for _, err := range Lines[struct{ Batch int }](f, "ledger.jsonl") {
		require.ErrorContains(t, err, "ledger.jsonl")
	}
}

func TestSumsCheckWithSha256sum(t *testing.T) {
	tool, err := exec.LookPath("sha256sum")
	if err != nil {
		t.Skip("sha256sum is not installed")
	}
	f := open(t)
	require.NoError(t, f.WriteFile("report.md", []byte("# Report\n")))
	require.NoError(t, f.WriteFile("staging/a\\b.json", []byte("{}")))
	require.NoError(t, f.WriteFile("staging/two\nlines.json", []byte("[]")))

	first, err := f.Sum(t.Context())
	require.NoError(t, err)
	require.Equal(t, 3, first.Files)
	require.Equal(t, int64(13), first.Bytes)

	check := func() (string, error) {
		cmd := exec.CommandContext(t.Context(), tool, "--strict", "-c", SumsName)
		cmd.Dir = f.Dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := check()
	require.NoError(t, err, out)

	again, err := f.Sum(t.Context())
	require.NoError(t, err)
	require.Equal(t, first, again, "the list does not list itself")

	require.NoError(t, os.WriteFile(filepath.Join(f.Dir, "report.md"), []byte("# Repork\n"), 0o600))
	out, err = check()
	require.Error(t, err)
	require.Contains(t, out, "report.md: FAILED")
}
