package activities

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/estimate"
)

// durationsFile holds, in an incident's folder, how long the phases of its restore took.
const durationsFile = "durations.json"

// durations is what durations.json holds.
type durations struct {
	Backup    string          `json:"backup"`
	At        time.Time       `json:"at"`
	Documents int64           `json:"documents"`
	Bytes     int64           `json:"bytes"`
	Phases    []estimate.Took `json:"phases"`
}

// RestoredInput says that an attempt has restored a backup, and how long that took.
type RestoredInput struct {
	Attempt
	Took []estimate.Took `json:"took,omitempty"`
}

// keepDurations keeps how long a restore took, so that later ones can be estimated.
func (b *Base) keepDurations(ctx context.Context, in RestoredInput) error {
	if in.Incident == "" || len(in.Took) == 0 {
		return nil
	}
	source, err := b.catalog(in.Target).Source(ctx, in.Backup)
	if err != nil {
		return err
	}
	folder, err := b.folder(in.Target, in.Incident)
	if err != nil {
		return err
	}
	return folder.PutJSON(durationsFile, durations{
		Backup: in.Backup, At: time.Now().UTC(), Documents: source.Manifest.Documents(), Bytes: source.Manifest.Bytes(), Phases: in.Took,
	})
}

// drilled says which phase of a recovery a phase of a drill is.
var drilled = map[string]estimate.Phase{"check": estimate.Check, "load": estimate.Stage, "prove": estimate.Prove}

// lookedAt bounds the backups that are asked how long they took.
const lookedAt = 5

// past is what storage knows of how long things took: drills that passed, restores, and the latest backups. A record that cannot be
// read tells nothing, and hinders nothing.
func (b *Base) past(ctx context.Context, target string) ([]estimate.Past, error) {
	var past []estimate.Past
	drills, err := filepath.Glob(filepath.Join(b.drillsDir(target), "*.json"))
	if err != nil {
		return nil, err
	}
	for _, path := range drills {
		var r DrillRecord
		if !read(path, &r) || !r.Passed || r.Backup == nil {
			continue
		}
		for _, p := range r.Phases {
			if phase, ok := drilled[p.Name]; ok {
				past = append(past, estimate.Past{Phase: phase, Kind: estimate.Drill, At: r.At, Documents: r.Documents, Bytes: r.Backup.Bytes, Seconds: p.Seconds})
			}
		}
	}
	restores, err := filepath.Glob(filepath.Join(b.Config.Storage.Dir, "incidents", target, "*", durationsFile))
	if err != nil {
		return nil, err
	}
	for _, path := range restores {
		var d durations
		if !read(path, &d) {
			continue
		}
		for _, p := range d.Phases {
			past = append(past, estimate.Past{Phase: p.Phase, Kind: estimate.Recovery, At: d.At, Documents: d.Documents, Bytes: d.Bytes, Seconds: p.Seconds})
		}
	}
	dumps, err := b.dumped(ctx, target)
	return append(past, dumps...), err
}

// dumped is how long the latest backups took, the newest first.
func (b *Base) dumped(ctx context.Context, target string) ([]estimate.Past, error) {
	root := b.catalog(target).Root
	dirs, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var past []estimate.Past
	for _, d := range slices.Backward(dirs) { // their names begin with the time
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if len(past) == lookedAt {
			break
		}
		if !d.IsDir() || strings.HasSuffix(d.Name(), backup.IncompleteSuffix) {
			continue
		}
		m, err := backup.ReadManifest(filepath.Join(root, d.Name()))
		if err != nil || m.FinishedAt.Before(m.StartedAt) {
			continue
		}
		past = append(past, estimate.Past{
			Phase: estimate.Dump, Kind: estimate.Backup, At: m.StartedAt, Documents: m.Documents(), Bytes: m.Bytes(), Seconds: m.FinishedAt.Sub(m.StartedAt).Seconds(),
		})
	}
	return past, nil
}

func read(path string, into any) bool {
	text, err := os.ReadFile(path)
	return err == nil && json.Unmarshal(text, into) == nil
}

// afterApproval is one sentence on how long the application will be down once a plan is approved; empty where nothing is known of
// it. An estimate hinders no plan.
func (b *Base) afterApproval(ctx context.Context, target string, of *backup.Manifest) string {
	past, err := b.past(ctx, target)
	if err != nil {
		b.Log.Warn("how long the restore will take was not estimated", "target", target, "error", err)
		return ""
	}
	list := estimate.Of(estimate.Down(), past, estimate.Size{Documents: of.Documents(), Bytes: of.Bytes()})
	return estimate.Add(list).AfterApproval()
}
