package activities

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/catalog"
	"github.com/battwheels/runbook/internal/incident"
	"github.com/battwheels/runbook/internal/report"
)

// recorded reads a history that the product's tests recorded.
func recorded(t *testing.T, name string) told {
	t.Helper()
	f, err := os.Open("../worker/testdata/histories/" + name + ".json")
	require.NoError(t, err)
	defer f.Close()
	h, err := client.HistoryFromJSON(f, client.HistoryJSONOptions{})
	require.NoError(t, err)
	return timeline(name, h)
}

// A restore in which an old plan's code was denied and the right one approved: both statements cite their own event, and each
// dump is told by what it is, not by its turn.
func TestAReportCitesWhatPeopleSaidAndWhichDumpsWereKept(t *testing.T) {
	all := recorded(t, "corruption")
	require.Len(t, all.said, 2)
	answers := make([]report.Approval, len(all.said))
	for i, s := range all.said {
		answers[i] = report.Approval{At: s.at.Add(-20 * time.Millisecond), Action: s.door}
	}
	attribute(answers, all.said)
	for i, s := range all.said {
		require.Equal(t, s.event, answers[i].Event)
	}
	unheard := []report.Approval{{At: time.Now(), Action: "choose-backup"}}
	attribute(unheard, all.said)
	require.Empty(t, unheard[0].Event, "what no history holds is not cited")

	var f report.Facts
	cite(&f, DraftInput{}, recorded(t, "corruption-restore").spans)
	require.Contains(t, f.Kept[0].Text, "Safety dump of what stood there right before the swap: ")
	require.Contains(t, f.Kept[0].Text, "-safety-")
}

func TestAReportNamesTheNewerBackupsThatWereNotTaken(t *testing.T) {
	folder, err := incident.Open(t.TempDir(), "battwheels", "20260224T031200Z")
	require.NoError(t, err)
	over, err := passedOver(folder, "b")
	require.NoError(t, err, "an incident in which no backup was chosen")
	require.Empty(t, over)

	require.NoError(t, folder.PutJSON(candidatesFile, []catalog.Candidate{
		{Entry: catalog.Entry{ID: "a", Kind: backup.Scheduled}, Why: "It is half-written."},
		{Entry: catalog.Entry{ID: "b"}, Eligible: true},
		{Entry: catalog.Entry{ID: "c"}, Eligible: true},
	}))
	over, err = passedOver(folder, "b")
	require.NoError(t, err)
	require.Equal(t, []report.Candidate{{Backup: "a", Why: "It is half-written."}}, over)
}
