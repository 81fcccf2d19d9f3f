package activities

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/internal/incident"
)

// Incident keeps an incident's folder and drafts its report.
type Incident struct {
	Base
	// Link makes the address of a workflow's run in the Temporal UI; empty where there is none.
	Link func(workflowID, runID string) string
}

// OpenInput opens an incident.
type OpenInput struct {
	Target     string    `json:"target"`
	Incident   string    `json:"incident"`
	Playbook   string    `json:"playbook"`
	DetectedAt time.Time `json:"detectedAt"`
	Cause      string    `json:"cause,omitempty"`
}

// CloseInput closes an incident.
type CloseInput struct {
	Target   string `json:"target"`
	Incident string `json:"incident"`
	Outcome  string `json:"outcome"`
	Summary  string `json:"summary"`
}

const (
	incidentFile = "incident.json"
	closedFile   = "closed.json"
)

// closed is what closed.json holds: from its time on the collections set aside may go, once their keep time has passed.
type closed struct {
	CloseInput
	ClosedAt time.Time `json:"closedAt"`
}

// OpenIncident makes the incident's folder. While it is open, retention is frozen.
func (a *Incident) OpenIncident(_ context.Context, in OpenInput) error {
	folder, err := a.folder(in.Target, in.Incident)
	if err != nil {
		return err
	}
	return folder.PutJSON(incidentFile, in)
}

// CloseIncident notes that the target is recovered and those affected are told.
func (a *Incident) CloseIncident(_ context.Context, in CloseInput) error {
	folder, err := a.folder(in.Target, in.Incident)
	if err != nil {
		return err
	}
	var before closed
	if err := folder.GetJSON(closedFile, &before); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return folder.PutJSON(closedFile, closed{CloseInput: in, ClosedAt: time.Now().UTC()})
}

func (b *Base) folder(target, id string) (incident.Folder, error) {
	return incident.Open(b.Config.Storage.Dir, target, id)
}

// openIncidents lists the target's incidents that are not closed, newest first.
func (b *Base) openIncidents(target string) ([]string, error) {
	dir := filepath.Join(b.Config.Storage.Dir, "incidents", target)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var open []string
	for _, e := range entries {
		if _, err := os.Stat(filepath.Join(dir, e.Name(), incidentFile)); err != nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, e.Name(), closedFile)); errors.Is(err, fs.ErrNotExist) {
			open = append(open, e.Name())
		}
	}
	slices.Reverse(open)
	return open, nil
}

func (b *Base) target(name string) (config.Target, error) {
	_, t, err := b.Config.Target(name)
	if err != nil {
		return config.Target{}, badInput(err)
	}
	return t, nil
}
