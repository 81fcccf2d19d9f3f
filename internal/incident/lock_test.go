package incident

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOneAttemptAtATime(t *testing.T) {
	f := open(t)
	release, err := f.Lock("outbox")
	require.NoError(t, err)

	_, err = f.Lock("outbox")
	var busy *BusyError
	require.ErrorAs(t, err, &busy)

	other, err := f.Lock("outbox-all-clear")
	require.NoError(t, err, "another directory is another lock")
	require.NoError(t, other())

	require.NoError(t, release())
	release, err = f.Lock("outbox")
	require.NoError(t, err)
	require.NoError(t, release())

	_, err = f.Lock("../elsewhere")
	var bad *NameError
	require.ErrorAs(t, err, &bad)
}
