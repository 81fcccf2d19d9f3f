package workflows

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"github.com/battwheels/runbook/activities"
	"github.com/battwheels/runbook/internal/undelete"
)

// shop is a world in which somebody deleted 300 invoices of one organization by mistake.
type shop struct {
	*world
	missing  activities.Missing
	verified undelete.Verified
	narrowed []undelete.Filter // by the plans that were drawn
}

func newShop(t *testing.T) *shop {
	w := newIncident(t)
	s := &shop{world: w, missing: activities.Missing{Documents: 1311, Audited: 104, Folder: "/storage/incidents/battwheels/i/undelete"}}
	s.verified = undelete.Verified{File: "verified.jsonl", Same: 1200, Whole: true}
	for _, c := range []string{"invoices", "invoice_line_items", "invoice_history"} {
		s.missing.Groups = append(s.missing.Groups, undelete.Group{Collection: c, Organization: "org_1", Backup: "newest",
			From: damageBegan.Add(-time.Hour), To: damageBegan, Documents: 300, Audited: 100})
	}
	anything := mock.Anything
	w.OnActivity(lost.BackupsToCompare, anything, anything).Return(func(_ context.Context, in activities.ComparableInput) (activities.Comparable, error) {
		id := "newest"
		if in.Want != "" {
			id = in.Want
		}
		return activities.Comparable{Backups: []activities.BackupRef{{ID: id}}}, w.hit("BackupsToCompare")
	})
	w.OnActivity(lost.ReadDeletions, anything, anything).Return(func(context.Context, activities.SearchInput) (activities.DeletionsRead, error) {
		return activities.DeletionsRead{Entries: 900, Deletions: 104, Since: damageBegan}, w.hit("ReadDeletions")
	})
	w.OnActivity(lost.FindMissing, anything, anything).Return(func(context.Context, activities.SearchInput) (activities.Missing, error) {
		return s.missing, w.hit("FindMissing")
	})
	w.OnActivity(lost.PlanUndelete, anything, anything).Return(func(_ context.Context, in activities.PlanUndeleteInput) (activities.Plan, error) {
		s.narrowed = append(s.narrowed, in.Filter)
		p := activities.Plan{Code: "UND-001", Target: in.Target, Undelete: &activities.UndeletePlan{
			Selection: "digest-1", Documents: 1203, Dependants: 900, Backups: in.Backups, Outcomes: undelete.Outcomes{Insert: 1200, Recreated: 3},
		}}
		switch {
		case len(in.Filter.IDs) > 0:
			p.Code, p.Undelete.Selection, p.Undelete.Insert = "UND-002", "digest-2", 4
		case len(in.Filter.Collections) == 1 && in.Filter.Collections[0] == "tickets":
			p.Undelete.Documents, p.Undelete.Outcomes = 0, undelete.Outcomes{}
		}
		return p, w.hit("PlanUndelete")
	})
	w.OnActivity(lost.UndeleteDocuments, anything, anything).Return(func(_ context.Context, in activities.SelectedInput) (undelete.Undeleted, error) {
		require.NotZero(t, in.Token, "nothing is written without the lease")
		return undelete.Undeleted{Selection: in.Selection, Total: undelete.Outcomes{Insert: 1200, Recreated: 3}}, w.hit("UndeleteDocuments " + in.Selection)
	})
	w.OnActivity(lost.VerifyUndelete, anything, anything).Return(func(context.Context, activities.SelectedInput) (undelete.Verified, error) {
		return s.verified, w.hit("VerifyUndelete")
	})
	w.OnActivity(lost.UndoUndelete, anything, anything).Return(func(context.Context, activities.SelectedInput) (undelete.Undone, error) {
		return undelete.Undone{Removed: 1199, Changed: 1}, w.hit("UndoUndelete")
	})
	return s
}

func (s *shop) deletion(in DeletionInput) IncidentResult {
	s.t.Helper()
	s.ExecuteWorkflow(AccidentalDeletion, in)
	require.True(s.t, s.IsWorkflowCompleted())
	require.NoError(s.t, s.GetWorkflowError())
	var r IncidentResult
	require.NoError(s.t, s.GetWorkflowResult(&r))
	return r
}

var oneOrganization = DeletionInput{Collections: []string{"invoices"}, Organization: "org_1", Since: "2026-02-24T02:00:00Z"}

func (s *shop) approvesUndelete(after time.Duration) {
	s.at(after, func() { s.says(DoorApprove, Answer{Plan: "UND-001"}, "") })
}

func (s *shop) status() Status {
	s.t.Helper()
	v, err := s.QueryWorkflow(QueryStatus)
	require.NoError(s.t, err)
	var st Status
	require.NoError(s.t, v.Get(&st))
	return st
}

func TestDeletionPutsBackWhatWasNarrowedAndTellsNoOrganization(t *testing.T) {
	s := newShop(t)
	s.approvesUndelete(time.Minute)
	s.at(2*time.Minute, func() { s.says(DoorDecide, Answer{Choice: CarryOn}, "") })
	r := s.deletion(oneOrganization)
	require.Equal(t, Recovered, r.Outcome, r.Summary)
	require.Contains(t, r.Summary, "1,200 documents put back (left out: 3 made anew), while")
	require.EqualValues(t, 1200, r.Undelete.PutBack.Insert)
	require.Equal(t, "Asha", r.Undelete.ApprovedBy)
	require.Equal(t, []string{"org_1"}, s.narrowed[0].Organizations)
	require.Equal(t, damageBegan.Add(-72*time.Minute), s.narrowed[0].From)
	s.before("OpenIncident", "ReadDeletions")
	s.before("ReadDeletions", "FindMissing")
	s.before("PlanUndelete", "AcquireLease")
	s.before("AcquireLease", "UndeleteDocuments digest-1")
	s.before("UndeleteDocuments digest-1", "VerifyUndelete")
	s.before("VerifyUndelete", "ReleaseLease")
	for _, never := range []string{"StopApplication", "FreezeMails", "UndoUndelete", "Dump emergency"} {
		require.False(t, s.ran(never), never)
	}
	require.True(t, s.ran("TellPeople done"))
	require.Equal(t, "report/"+r.Incident, r.Report)
	require.Greater(t, r.RTOSeconds, 59.0)
}

func TestDeletionAsksToNarrowAndNarrowsAgain(t *testing.T) {
	s := newShop(t)
	s.at(time.Minute, func() {
		st := s.status()
		require.Contains(t, st.Asked, "runbook narrow battwheels")
		require.Contains(t, plain(st), "| invoices | org_1 |")
		require.False(t, s.ran("PlanUndelete"), "nothing is previewed before somebody says what is meant")
		s.says(DoorApprove, Answer{Plan: "UND-001"}, "no plan waits")
	})
	s.at(2*time.Minute, func() { s.says(DoorNarrow, Answer{}, "at least one of") })
	s.at(3*time.Minute, func() { s.says(DoorNarrow, Answer{Narrowing: Narrowing{Collections: []string{"tickets"}}}, "") })
	s.at(4*time.Minute, func() {
		require.Contains(t, s.status().Asked, "Nothing that fits can be put back")
		s.says(DoorNarrow, Answer{Narrowing: Narrowing{Organization: "org_1"}}, "")
	})
	s.at(5*time.Minute, func() {
		require.Contains(t, s.status().Markdown(), "Plan `UND-001`")
		s.says(DoorNarrow, Answer{Narrowing: Narrowing{IDs: []string{"inv_1"}}}, "")
	})
	s.at(6*time.Minute, func() { s.says(DoorApprove, Answer{Plan: "UND-001"}, "is not the one that waits") })
	s.at(7*time.Minute, func() { s.says(DoorApprove, Answer{Plan: "UND-002"}, "") })
	r := s.deletion(DeletionInput{})
	require.Equal(t, Recovered, r.Outcome)
	require.True(t, s.ran("UndeleteDocuments digest-2"))
	require.Len(t, s.narrowed, 3)
	require.Empty(t, s.narrowed[2].Organizations, "a narrowing replaces the one before it")
	require.Len(t, r.Undelete.Answers, 6, "denied answers are kept, malformed ones never reach the playbook")
}

func TestDeletionKeepsWhatNobodyObjectsTo(t *testing.T) {
	s := newShop(t)
	s.approvesUndelete(time.Minute)
	r := s.deletion(oneOrganization)
	require.Equal(t, Recovered, r.Outcome)
	require.False(t, s.ran("UndoUndelete"))
	require.Less(t, r.RTOSeconds, 600.0, "the review is no part of the recovery")
	require.GreaterOrEqual(t, s.Now().Sub(damageBegan), reviewFor)
}

func TestDeletionIsRolledBackByOneAnswer(t *testing.T) {
	s := newShop(t)
	s.approvesUndelete(time.Minute)
	s.at(2*time.Minute, func() { s.says(DoorDecide, Answer{Choice: RollBack}, "") })
	r := s.deletion(oneOrganization)
	require.Equal(t, RolledBack, r.Outcome)
	require.EqualValues(t, 1199, r.Undelete.Undone.Removed)
	require.Contains(t, strings.Join(r.Undelete.Warnings, " "), "1 of the documents that were put back have been changed since, and stay")
	require.NotEmpty(t, r.Report, "something was written, so there is something to report")
}

func TestDeletionRejectedOrNothingMissingChangesNothing(t *testing.T) {
	t.Run("rejected", func(t *testing.T) {
		s := newShop(t)
		s.at(time.Minute, func() { s.says(DoorReject, Answer{}, "") })
		r := s.deletion(oneOrganization)
		require.Equal(t, Rejected, r.Outcome)
		require.False(t, s.ran("AcquireLease"))
		require.Empty(t, r.Report)
	})
	t.Run("rejected before there is a plan", func(t *testing.T) {
		s := newShop(t)
		s.at(time.Minute, func() { s.says(DoorReject, Answer{}, "") })
		require.Equal(t, Rejected, s.deletion(DeletionInput{}).Outcome)
	})
	t.Run("nothing missing", func(t *testing.T) {
		s := newShop(t)
		s.missing = activities.Missing{}
		r := s.deletion(oneOrganization)
		require.Equal(t, NothingMissing, r.Outcome)
		require.False(t, s.ran("PlanUndelete"))
		require.True(t, s.ran("CloseIncident"))
	})
	t.Run("aborted while it searches", func(t *testing.T) {
		s := newShop(t)
		s.when["FindMissing"] = func() { s.SignalWorkflow(DoorAbort, Answer{By: "Asha", Reason: "found them in the bin"}) }
		s.fail["FindMissing"] = always(errors.New("still reading"))
		r := s.deletion(oneOrganization)
		require.Equal(t, Aborted, r.Outcome)
		require.Contains(t, r.Summary, "Aborted by Asha")
	})
}

func TestDeletionComparesWithAnotherBackup(t *testing.T) {
	s := newShop(t)
	s.at(time.Minute, func() { s.says(DoorChooseBackup, Answer{Backup: "older"}, "") })
	s.approvesUndelete(2 * time.Minute)
	r := s.deletion(oneOrganization)
	require.Equal(t, Recovered, r.Outcome)
	require.Equal(t, []string{"older"}, r.Undelete.Backups)
	require.Equal(t, 2, s.times("FindMissing"))
}

func TestDeletionGoesOnWithoutTheAuditLog(t *testing.T) {
	s := newShop(t)
	s.fail["ReadDeletions"] = always(errors.New("unauthorized"))
	s.approvesUndelete(10 * time.Minute)
	r := s.deletion(oneOrganization)
	require.Equal(t, Recovered, r.Outcome)
	require.Equal(t, 3, s.times("ReadDeletions"))
	require.Contains(t, strings.Join(r.Undelete.Warnings, " "), "The audit logs could not be read: unauthorized")
}

func TestDeletionAsksWhenAStepFailsForGood(t *testing.T) {
	t.Run("search, then given up", func(t *testing.T) {
		s := newShop(t)
		s.fail["FindMissing"] = always(final(activities.CorruptBackup, "invoices.bson.gz differs"))
		s.at(time.Minute, func() { s.says(DoorDecide, Answer{Choice: GiveUp}, "") })
		r := s.deletion(oneOrganization)
		require.Equal(t, GaveUp, r.Outcome)
		require.Contains(t, r.Summary, "nothing was changed")
		require.False(t, s.ran("AcquireLease"))
	})
	t.Run("insert, then tried again", func(t *testing.T) {
		s := newShop(t)
		s.fail["UndeleteDocuments digest-1"] = once(final(activities.NoSpace, "the disk is full"))
		s.approvesUndelete(time.Minute)
		s.at(2*time.Minute, func() { s.says(DoorDecide, Answer{Choice: Retry}, "") })
		r := s.deletion(oneOrganization)
		require.Equal(t, Recovered, r.Outcome)
		require.Equal(t, 1, s.times("AcquireLease"), "the lease is kept")
	})
	t.Run("insert, then rolled back", func(t *testing.T) {
		s := newShop(t)
		s.fail["UndeleteDocuments digest-1"] = always(final(activities.NoSpace, "the disk is full"))
		s.approvesUndelete(time.Minute)
		s.at(2*time.Minute, func() { s.says(DoorDecide, Answer{Choice: RollBack}, "") })
		r := s.deletion(oneOrganization)
		require.Equal(t, RolledBack, r.Outcome)
		s.before("UndoUndelete", "ReleaseLease")
	})
	t.Run("insert, then given up", func(t *testing.T) {
		s := newShop(t)
		s.fail["UndeleteDocuments digest-1"] = always(final(activities.NoSpace, "the disk is full"))
		s.approvesUndelete(time.Minute)
		s.at(2*time.Minute, func() { s.says(DoorDecide, Answer{Choice: GiveUp}, "") })
		r := s.deletion(oneOrganization)
		require.Equal(t, GaveUp, r.Outcome)
		require.Contains(t, r.Summary, "What was put back until then stays")
		require.NotEmpty(t, r.Report, "something may have been written")
	})
	t.Run("lease held by somebody else", func(t *testing.T) {
		s := newShop(t)
		s.fail["AcquireLease"] = once(final(activities.LeaseHeld, "offline host:7 holds the lease"))
		s.approvesUndelete(time.Minute)
		s.at(2*time.Minute, func() {
			require.Contains(t, s.status().Asked, "offline host:7")
			s.says(DoorDecide, Answer{Choice: Retry}, "")
		})
		require.Equal(t, Recovered, s.deletion(oneOrganization).Outcome)
	})
	t.Run("a swap was cut off half-way", func(t *testing.T) {
		s := newShop(t)
		s.halfSwap = "20260223T220000Z-aaaa1111"
		s.approvesUndelete(time.Minute)
		s.at(2*time.Minute, func() { s.says(DoorDecide, Answer{Choice: GiveUp}, "") })
		require.Equal(t, GaveUp, s.deletion(oneOrganization).Outcome)
		require.False(t, s.ran("UndeleteDocuments digest-1"))
	})
}

func TestDeletionLetsAPersonJudgeWhatChangedMeanwhile(t *testing.T) {
	for choice, want := range map[Choice]Outcome{CarryOn: Recovered, RollBack: RolledBack} {
		t.Run(string(choice), func(t *testing.T) {
			s := newShop(t)
			s.verified = undelete.Verified{Same: 1199, Changed: 1, File: "verified.jsonl"}
			s.approvesUndelete(time.Minute)
			s.at(2*time.Minute, func() {
				require.Contains(t, s.status().Asked, "1 have been changed since")
				s.says(DoorDecide, Answer{Choice: choice}, "")
			})
			require.Equal(t, want, s.deletion(oneOrganization).Outcome)
		})
	}
}

func TestAbortAfterTheFirstInsertIsAQuestion(t *testing.T) {
	for choice, want := range map[Choice]Outcome{CarryOn: Recovered, RollBack: RolledBack} {
		t.Run(string(choice), func(t *testing.T) {
			s := newShop(t)
			s.when["UndeleteDocuments digest-1"] = func() { s.SignalWorkflow(DoorAbort, Answer{By: "Asha", Reason: "the wrong ones"}) }
			s.approvesUndelete(time.Minute)
			s.at(3*time.Minute, func() {
				require.Contains(t, s.status().Asked, "You asked to stop")
				s.says(DoorDecide, Answer{Choice: choice}, "")
			})
			require.Equal(t, want, s.deletion(oneOrganization).Outcome)
		})
	}
}

// TestStoppingAnUndeleteWhileAPersonLooksTakesItOutAgain proves that abort and cancel undo what can be undone, and wait for no answer.
func TestStoppingAnUndeleteWhileAPersonLooksTakesItOutAgain(t *testing.T) {
	for name, stop := range map[string]func(*shop){
		"abort":  func(s *shop) { s.says(DoorAbort, Answer{}, "") },
		"cancel": func(s *shop) { s.CancelWorkflow() },
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t)
			s.approvesUndelete(time.Minute)
			s.at(2*time.Minute, func() { stop(s) })
			s.ExecuteWorkflow(AccidentalDeletion, oneOrganization)
			require.True(t, s.IsWorkflowCompleted())
			require.True(t, s.ran("UndoUndelete"))
			require.Less(t, s.Now().Sub(damageBegan), 10*time.Minute)
			s.before("UndoUndelete", "ReleaseLease")
		})
	}
}

func TestDeletionSaysLoudlyThatAnAlertStartedNothing(t *testing.T) {
	s := newShop(t)
	s.at(time.Minute, func() { s.SignalWorkflow(SignalAlert, Alert{Name: "MongoDBCorruption"}) })
	s.at(2*time.Minute, func() {
		require.Contains(t, s.status().Markdown(), "start DatabaseCorruption")
		s.says(DoorReject, Answer{}, "")
	})
	r := s.deletion(oneOrganization)
	require.Equal(t, Rejected, r.Outcome)
	require.True(t, s.ran("TellPeople escalate"))
	require.NotEmpty(t, r.Warnings)
}

func TestDryRunOfADeletionWritesNothingAndTellsNobody(t *testing.T) {
	for name, in := range map[string]DeletionInput{"narrowed": oneOrganization, "everything": {}} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t)
			s.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: DryRunID("battwheels"), TaskQueue: TaskQueue})
			in.DryRun = true
			r := s.deletion(in)
			require.Equal(t, Planned, r.Outcome)
			require.Equal(t, "UND-001", r.Undelete.Plan.Code)
			require.Contains(t, r.Summary, "1,200 of 1,311 missing documents")
			require.Len(t, r.Undelete.Groups, 3)
			require.Equal(t, []string{"LoadTarget", "BackupsToCompare", "ReadDeletions", "FindMissing", "PlanUndelete"}, s.calls)
		})
	}
	t.Run("never under the incident's id", func(t *testing.T) {
		s := newShop(t)
		s.ExecuteWorkflow(AccidentalDeletion, DeletionInput{DryRun: true})
		require.ErrorContains(t, s.GetWorkflowError(), "an alert would join it")
	})
}

func TestDeletionInputsRefuseWhatIsMisspelt(t *testing.T) {
	var in DeletionInput
	require.ErrorContains(t, json.Unmarshal([]byte(`{"organisation":"org_1"}`), &in), `no field "organisation"; the fields are: target, since, until`)
	var body UndeleteInput
	require.ErrorContains(t, json.Unmarshal([]byte(`{"orgs":1}`), &body), `collections, organization, from, to, ids, deletedBy, alone, earlier`)
	var a Answer
	require.NoError(t, json.Unmarshal([]byte(`{"collections":["invoices"],"from":"soon","by":"Asha","reason":"r"}`), &a))
	require.ErrorContains(t, a.validate(DoorNarrow), `"from" must be a moment`)
	s := newShop(t)
	s.ExecuteWorkflow(AccidentalDeletion, DeletionInput{Since: "yesterday"})
	require.ErrorContains(t, s.GetWorkflowError(), "must be a moment like")
}

func TestDeletionSaysWhatToDoAboutACollectionThatIsGone(t *testing.T) {
	for command, gone := range map[string][]string{
		"runbook start Restore battwheels --collection tickets":  {"tickets"},
		"restore the database: runbook start Restore battwheels": strings.Split(strings.Repeat("c ", 200), " "),
	} {
		s := newShop(t)
		s.missing.Gone = gone
		s.at(time.Minute, func() {
			require.Contains(t, s.status().Markdown(), "runbook start Restore TARGET")
			require.Contains(t, plain(s.status()), "| invoices | org_1 |", "the table is still there")
			s.says(DoorReject, Answer{}, "")
		})
		r := s.deletion(DeletionInput{})
		require.Contains(t, strings.Join(r.Undelete.Warnings, " "), command)
	}
}

func TestDeletionNamesResourceTypesThatNoCollectionIsKnownFor(t *testing.T) {
	s := newShop(t)
	s.missing.Unmapped = map[string]int64{"warranty": 3, "gadget": 1}
	s.approvesUndelete(time.Minute)
	r := s.deletion(oneOrganization)
	require.Contains(t, strings.Join(r.Undelete.Warnings, " "), "deletions of gadget, warranty, and no collection is known")
}

// TestTheTableOfGroupsFitsIntoAQueryString proves that the details keep their limit, and say what they leave out.
func TestTheTableOfGroupsFitsIntoAQueryString(t *testing.T) {
	m := activities.Missing{Documents: 9000, More: 50}
	for range 20 {
		m.Groups = append(m.Groups, undelete.Group{Collection: strings.Repeat("c", 60), Organization: strings.Repeat("o", 30), Documents: 7})
	}
	s := Status{Asked: strings.Repeat("narrow ", 80), Missing: &m}
	require.LessOrEqual(t, len(s.Markdown()), detailsLimit)
	require.Contains(t, s.Markdown(), "more groups, all in groups.json")
	s.Missing.Groups, s.Missing.More = s.Missing.Groups[:2], 0
	require.NotContains(t, s.Markdown(), "more groups")
}

func TestDeletionWhoseLeaseWasTakenOverTakesItAnew(t *testing.T) {
	s := newShop(t)
	s.fail["UndeleteDocuments digest-1"] = once(final(activities.LeaseLost, "the lease was taken over"))
	s.approvesUndelete(time.Minute)
	s.at(2*time.Minute, func() { s.says(DoorDecide, Answer{Choice: Retry}, "") })
	require.Equal(t, Recovered, s.deletion(oneOrganization).Outcome)
	require.Equal(t, 2, s.times("AcquireLease"))
}

func TestDeletionTakesAnotherBackupWhenOneIsCorrupt(t *testing.T) {
	s := newShop(t)
	s.fail["FindMissing"] = once(final(activities.CorruptBackup, "invoices.bson.gz differs"))
	s.at(time.Minute, func() { s.says(DoorDecide, Answer{Choice: OtherBackup, Backup: "older"}, "") })
	s.approvesUndelete(2 * time.Minute)
	r := s.deletion(oneOrganization)
	require.Equal(t, Recovered, r.Outcome)
	require.Equal(t, []string{"older"}, r.Undelete.Backups)
}

// TestDeletionStartedUnderATypedIDRunsAsTheIncident proves that answers sent to the typed id reach the incident.
func TestDeletionStartedUnderATypedIDRunsAsTheIncident(t *testing.T) {
	s := newShop(t)
	s.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: "my-own-id", TaskQueue: TaskQueue})
	var id string
	s.SetOnChildWorkflowStartedListener(func(info *workflow.Info, _ workflow.Context, _ converter.EncodedValues) {
		if id == "" {
			id = info.WorkflowExecution.ID
		}
	})
	s.fail["FindMissing"] = always(final(activities.CorruptBackup, "invoices.bson.gz differs"))
	s.at(time.Minute, func() { s.CancelWorkflow() })
	s.ExecuteWorkflow(AccidentalDeletion, oneOrganization)
	require.True(t, s.IsWorkflowCompleted())
	require.Equal(t, "incident/battwheels", id)
	require.False(t, s.ran("AcquireLease"))
}
