package undelete

import (
	"fmt"
	"net/http"
	"strings"
)

// BackupError says that a backup does not give what was found in it before.
type BackupError struct {
	Backup string
	Why    string
}

// Error names the backup and says what to do.
func (e *BackupError) Error() string {
	return fmt.Sprintf("backup %s %s: search for what is missing again, with the backups that there are", e.Backup, e.Why)
}

// ChangedError says that the selection in the folder is not the one that is asked for, or that another one was begun there.
type ChangedError struct {
	Want, Have string // digests
}

// Error says what to do.
func (e *ChangedError) Error() string {
	return fmt.Sprintf("the selection in the folder (%s) is not the one that was asked for (%s): preview it and ask for approval again", e.Have, e.Want)
}

// NoCollectionError says that documents cannot be put back because their collections are gone: inserting would make
// them anew, without their options and indexes.
type NoCollectionError struct {
	Collections []string
}

// Error names the collections and says what to do.
func (e *NoCollectionError) Error() string {
	return fmt.Sprintf("not in the database any more: %s; restore these whole from a backup, or leave them out of the selection", some(e.Collections))
}

// UndoneError says that what is to be put back, or looked at, was taken back by Undo.
type UndoneError struct{}

// Error says what to do.
func (*UndoneError) Error() string {
	return "this undelete was undone: to put the documents back after all, search again with a folder of its own"
}

// SpaceError says that the database server has no disk space.
type SpaceError struct{}

// Error says what to do.
func (*SpaceError) Error() string {
	return "the database server ran out of disk space while documents were put back: free space and run it again, or undo it"
}

// APIError is an answer of the application's audit log that is no page of it.
type APIError struct {
	Status int
	Reason string
}

// Error says what to do.
func (e *APIError) Error() string {
	switch e.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Sprintf("the application refuses its audit log (HTTP %d): give deletions.api.token the token of an owner or admin that has not expired", e.Status)
	default:
		return fmt.Sprintf("the application's audit log cannot be read (HTTP %d): %s", e.Status, e.Reason)
	}
}

// Temporary says whether trying again may help.
func (e *APIError) Temporary() bool {
	return e.Status >= 500 || e.Status == http.StatusTooManyRequests || e.Status == http.StatusRequestTimeout
}

// some joins the first few of a list.
func some(list []string) string {
	const few = 5
	text := strings.Join(list[:min(len(list), few)], ", ")
	if more := len(list) - few; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
