package mail

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/battwheels/runbook/internal/incident"
)

func filesOf(f incident.Folder, see func(name string, data []byte)) error {
	return filepath.WalkDir(f.Dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		see(path, data)
		return err
	})
}

func TestWhatIsFrozenStaysAsItWas(t *testing.T) {
	f := folder(t)
	_, err := Load(f, "")
	require.ErrorIs(t, err, fs.ErrNotExist)

	d := draft(101)
	d.Without = []Contact{{OrganizationID: "org_x", OrganizationName: "No Address", Why: "it has no address"}}
	first := freeze(t, f, d)
	require.Equal(t, 101, first.Messages)

	second := freeze(t, f, draft(3))
	require.Equal(t, first, second, "a later draft with other recipients changes nothing")

	var got []Message
	for n := range second.Batches {
		m, err := second.Read(f, n)
		require.NoError(t, err)
		got = append(got, m...)
	}
	require.Equal(t, d.Messages, got)
}

func TestFrozenMailsArePrivate(t *testing.T) {
	f := folder(t)
	freeze(t, f, draft(1))
	for _, name := range []string{"outbox.json", "outbox/001.json"} {
		info, err := os.Stat(f.Path(name))
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o600), info.Mode().Perm(), name)
	}
}

func TestOutboxesOfOneIncidentAreApart(t *testing.T) {
	s, f := newService(t), folder(t)
	notice := freeze(t, f, draft(2))
	d := draft(2)
	d.Name, d.ID = "all-clear", d.ID+"/all-clear"
	clear := freeze(t, f, d)
	require.NotEqual(t, notice.Batches[0].Key, clear.Batches[0].Key)
	for _, o := range []Outbox{notice, clear} {
		r, err := s.sender(t).SendBatch(t.Context(), f, o, 0)
		require.NoError(t, err)
		require.False(t, r.Already)
	}
	_, accepted := s.seen()
	require.Equal(t, 2, accepted["owner0000@garage.example"], "the notice and the all-clear")
}

func TestACrashBeforeTheIndexLeavesNothingFrozen(t *testing.T) {
	f := folder(t)
	require.NoError(t, f.WriteFile("outbox/001.json", []byte("half of a draft that nobody sent")))
	o := freeze(t, f, draft(1))
	_, err := o.Read(f, 0)
	require.NoError(t, err)
}

func TestDamagedMailsAreNotSent(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"one byte differs": func(path string) error { return os.WriteFile(path, []byte("[]"), 0o600) },
		"file gone":        os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			s, f := newService(t), folder(t)
			o := freeze(t, f, draft(1))
			require.NoError(t, damage(f.Path("outbox/001.json")))
			_, err := s.sender(t).SendBatch(t.Context(), f, o, 0)
			var damaged *FrozenError
			require.ErrorAs(t, err, &damaged)
			require.ErrorContains(t, err, "001.json")
			requests, _ := s.seen()
			require.Zero(t, requests)
		})
	}
}

func TestNobodyToTellIsAnEmptyOutbox(t *testing.T) {
	f := folder(t)
	o := freeze(t, f, draft(0))
	require.Empty(t, o.Batches)
	out, err := o.Outcome(f)
	require.NoError(t, err)
	require.Equal(t, Tally{}, out.Tally)
}

func TestFreezeRefusesADraftThatCouldBeSentTwice(t *testing.T) {
	d := draft(1)
	d.ID = ""
	_, err := Freeze(folder(t), d)
	require.ErrorContains(t, err, "no ID")
	d = draft(1)
	d.From = "nobody"
	_, err = Freeze(folder(t), d)
	require.ErrorContains(t, err, "mail.from")
}
