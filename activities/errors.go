package activities

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.temporal.io/sdk/temporal"

	"github.com/battwheels/runbook/internal/appcontrol"
	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/catalog"
	"github.com/battwheels/runbook/internal/dump"
	"github.com/battwheels/runbook/internal/restore"
	"github.com/battwheels/runbook/internal/undelete"
)

// The types of the errors that trying again cannot mend: a person decides, or the playbook takes another way.
const (
	BadInput      = "BadInput"
	NoBackup      = "NoBackup"
	CorruptBackup = "CorruptBackup"
	ProofFailed   = "ProofFailed"
	NotVerified   = "NotVerified"
	IndexRefused  = "IndexRefused"
	LeaseHeld     = "LeaseHeld"
	LeaseLost     = "LeaseLost"
	HalfSwapped   = "HalfSwapped"
	WriterFound   = "WriterFound"
	Reappeared    = "CollectionReappeared"
	NoSpace       = "NoSpace"
	Refused       = "Refused"
	Unreadable    = "Unreadable"
	SelectionGone = "SelectionGone"
	ScratchTaken  = "ScratchTaken"
)

func badInput(err error) error {
	return temporal.NewNonRetryableApplicationError(err.Error(), BadInput, err)
}

// typed gives an engine's error the name under which the playbooks know it. An error that it does not know is retried.
func typed(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		// A cancelled step returns its context's error as it is: Temporal knows it.
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return nil
	}
	for _, t := range types {
		if t.match(err) {
			return temporal.NewNonRetryableApplicationError(err.Error(), t.name, err)
		}
	}
	return err
}

func as[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

var types = []struct {
	name  string
	match func(error) bool
}{
	{CorruptBackup, as[*backup.CorruptError]},
	{NoBackup, as[*catalog.NoBackupError]},
	{NoSpace, as[*dump.SpaceError]},
	{Unreadable, as[*dump.NothingReadableError]},
	{LeaseHeld, as[*restore.LeaseHeldError]},
	{LeaseLost, as[*restore.LeaseLostError]},
	{ProofFailed, as[*restore.ProofError]},
	{IndexRefused, as[*restore.IndexError]},
	{WriterFound, as[*restore.WriterError]},
	{Reappeared, as[*restore.LiveReappearedError]},
	{Reappeared, as[*restore.MissingError]},
	{NoSpace, as[*restore.SpaceError]},
	{Refused, as[*restore.RefusedError]},
	{Refused, as[*restore.BlockedError]},
	{Refused, as[*restore.NotEmptyError]},
	{CorruptBackup, as[*backup.OplogError]},
	{CorruptBackup, as[*backup.ArchiveError]},
	{CorruptBackup, as[*backup.FormatError]},
	{ScratchTaken, as[*restore.ScratchTakenError]},
	{BadInput, as[*restore.ScratchRefusedError]},
	{Refused, as[*appcontrol.ControlError]},
	{SelectionGone, as[*undelete.BackupError]},
	{SelectionGone, as[*undelete.ChangedError]},
	{SelectionGone, as[*undelete.UndoneError]},
	{Refused, as[*undelete.NoCollectionError]},
	{NoSpace, as[*undelete.SpaceError]},
}

// notVerified says in what a restored database differs from its backup. The _ids of single documents stay out of it: they
// may be personal data.
func notVerified(v restore.Verification) error {
	var texts []string
	for _, d := range v.Differences[:min(len(v.Differences), 5)] {
		texts = append(texts, d.Collection+": "+d.What)
	}
	text := fmt.Sprintf("the restored database differs from the backup in %d places: %s", len(v.Differences), strings.Join(texts, "; "))
	return temporal.NewNonRetryableApplicationError(text, NotVerified, nil)
}
