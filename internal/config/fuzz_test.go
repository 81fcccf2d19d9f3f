package config

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whatever stands in runbook.yaml, it is either refused with the lines and fields that are wrong, or loads the same each time;
// and no secret is ever told.
func FuzzLoad(f *testing.F) {
	example, err := os.ReadFile("../../deploy/runbook.yaml")
	require.NoError(f, err)
	f.Add(example)
	for _, seed := range []string{
		small, "", "---\n", "a: &a [*a]\n", "targets: {shop: {database: {uri: ${MONGO}}}}\n", "storage: {dir: 1}\nstorage: {dir: 2}\n",
		"mail:\n  apiKey: {file: ../x}\n", "? [a, b]\n: c\n", "a: |\n  text\n b: !!binary x\n", "targets:\n  shop:\n\tbad: tab\n", "- 1\n- 2\n", "<<: *x\n", "{", "a: !<!>", "\xff\xfe",
	} {
		f.Add([]byte(seed))
	}
	f.Setenv("MAIL_KEY", "re_hunter2")
	f.Setenv("TOKEN", "t0ken_hunter2")
	f.Setenv("MONGO", "mongodb://user:hunter2@127.0.0.1:27017")
	path := filepath.Join(f.TempDir(), "runbook.yaml")
	f.Fuzz(func(t *testing.T, content []byte) {
		require.NoError(t, os.WriteFile(path, content, 0o600))
		c, err := Load(path)
		if err != nil {
			var all Errors
			require.ErrorAs(t, err, &all)
			require.NotEmpty(t, all)
			require.NotContains(t, fmt.Sprintf("%v %+v", err, all), "hunter2")
			return
		}
		require.NotEmpty(t, c.TargetNames())
		require.NotContains(t, fmt.Sprintf("%v %+v %#v", c, c, *c), "hunter2")
		again, err := Load(path)
		require.NoError(t, err)
		require.Equal(t, c, again)
	})
}
