package activities

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/durable"
	"github.com/battwheels/runbook/internal/estimate"
	"github.com/battwheels/runbook/internal/restore"
)

// Simulation is what a dry run does: it reads the target, its backups and what surrounds them. Nothing of it writes to the
// database, takes the lease, stops anything or sends anything; in storage it writes below dry-runs/TARGET only.
type Simulation struct{ Base }

// ExamineInput names the backup that a dry run reads whole.
type ExamineInput struct {
	Target string `json:"target"`
	Backup string `json:"backup"`
}

// Examined is a backup of which every byte is as it should be.
type Examined struct {
	Backup  BackupRef `json:"backup"`
	Away    bool      `json:"away,omitempty"` // only the offsite copy is left: its manifest alone was read
	Bytes   int64     `json:"bytes"`          // of its files
	Seconds float64   `json:"seconds"`
}

// SimulatedCode stands in place of the code of a plan that only a dry run has drawn: no approval is ever asked for it.
const SimulatedCode = "dry-run"

// SimulateInput asks what restoring a backup would change in the database as it is.
type SimulateInput struct {
	Target      string   `json:"target"`
	ID          string   `json:"id"` // of the dry run
	Backup      string   `json:"backup"`
	Collections []string `json:"collections,omitempty"`
	// Empty says that the restore would be into an empty database, so that the one that is there is not read.
	Empty    bool     `json:"empty,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
}

// Simulated is the plan that a dry run has drawn.
type Simulated struct {
	Plan Plan   `json:"plan"`
	File string `json:"file,omitempty"` // the whole blast radius, by collection and organization
}

// ExamineBackup reads a backup whole, as CheckBackup does, and keeps nothing of what it finds.
func (a *Simulation) ExamineBackup(ctx context.Context, in ExamineInput) (Examined, error) {
	report, stop := beat(ctx)
	defer stop()
	began := time.Now()
	e, source, err := a.catalog(in.Target).Examine(ctx, in.Backup, report)
	if err != nil {
		return Examined{}, typed(ctx, err)
	}
	out := Examined{Backup: refOf(source.Manifest), Away: source.Dir == "", Seconds: time.Since(began).Seconds()}
	out.Backup.ID, out.Backup.State, out.Backup.Suspect = e.ID, string(e.State), e.Suspect
	for _, f := range source.Manifest.Files() {
		out.Bytes += f.Size
	}
	return out, nil
}

// SimulatePlan reads the database, compares it with a backup document by document, and draws the plan that a restore would ask an
// approval for. A database that cannot be read is said in the plan. No dump is made: what is kept meanwhile is some nine bytes for
// each document of the collections in hand.
func (a *Simulation) SimulatePlan(ctx context.Context, in SimulateInput) (Simulated, error) {
	t, err := a.target(in.Target)
	if err != nil {
		return Simulated{}, err
	}
	report, stop := beat(ctx)
	defer stop()
	c := a.catalog(in.Target)
	_, from, err := c.Known(ctx, in.Backup)
	if err != nil {
		return Simulated{}, typed(ctx, err)
	}
	if from, err = only(from, in.Collections); err != nil {
		return Simulated{}, badInput(err)
	}
	p := Plan{
		Code: SimulatedCode, Target: in.Target, Only: in.Collections, Backup: refOf(from.Manifest), Warnings: in.Warnings,
		Writers: writers(t), LeftAlone: leftAlone(from.Manifest), DrawnAt: time.Now().UTC(),
	}
	p.Backup.ID = in.Backup
	before := keyCounts(t, from.Manifest)
	now := map[string]int64{}
	out := Simulated{}
	work := filepath.Join(a.dryRunsDir(in.Target), in.ID)
	switch {
	case in.Empty:
		p.RadiusKnown, p.Radius.Missing = true, from.Manifest.Documents()
	case from.Dir == "":
		p.Warnings = append(p.Warnings, "The backup is offsite only, so the database was compared with nothing: a restore fetches it first.")
	default:
		db, err := a.Databases(in.Target)
		if err != nil {
			return Simulated{}, err
		}
		if err := answers(ctx, db); err != nil {
			if ctx.Err() != nil {
				return Simulated{}, ctx.Err()
			}
			p.Warnings = append(p.Warnings, "The database could not be read: "+why(err))
			break
		}
		// Whatever comes of it, only the result stays.
		defer func() { _ = os.RemoveAll(work) }()
		r, err := restore.CountRadius(ctx, db, from, restore.RadiusOptions{
			Collections: in.Collections, TenantField: t.Tenants.Field, Dir: work, Parallel: t.Backup.Parallel, Progress: report,
			DocumentsPerSecond: t.Backup.DocumentsPerSecond, BytesPerSecond: t.Backup.BytesPerSecond,
		})
		if err != nil {
			return Simulated{}, typed(ctx, err)
		}
		fill(&p, r)
		now = r.Documents
		now[collectionsCount] = int64(r.Live)
		out.File = work + ".json"
		if err := keep(out.File, p, r); err != nil {
			return Simulated{}, err
		}
	}
	for _, name := range t.Verify.KeyCounts {
		if !(Attempt{Collections: in.Collections}).restores(name) {
			continue
		}
		k := KeyCount{Name: name, Backup: before[name], Now: -1}
		if p.RadiusKnown {
			k.Now = now[name]
		}
		p.KeyCounts = append(p.KeyCounts, k)
	}
	p.ComeBack, p.MoveAside = p.ComeBack[:min(len(p.ComeBack), shown)], p.MoveAside[:min(len(p.MoveAside), shown)]
	out.Plan = p
	return out, nil
}

// fill puts the radius into the plan.
func fill(p *Plan, r restore.Radius) {
	p.Radius, p.RadiusKnown, p.Uncounted = r.Total, true, len(r.Unread)
	p.Collections, p.Tenants = most(r.Collections), most(r.Tenants)
	for _, c := range r.Tenants {
		if c.Differ() {
			p.TenantsHit++
		}
	}
	p.ComeBack, p.MoveAside = r.GoneCollections, r.NewCollections
	if p.Uncounted > 0 {
		names := make([]string, 0, len(r.Unread))
		for name := range r.Unread {
			names = append(names, name)
		}
		slices.Sort(names)
		p.Warnings = append(p.Warnings, fmt.Sprintf("%d collections could not be read, and are not counted: %s", len(names), strings.Join(names[:min(len(names), shown)], ", ")))
	}
	if len(r.Untold) > 0 {
		p.Warnings = append(p.Warnings, "So many documents differ that they are not counted by organization: "+strings.Join(r.Untold[:min(len(r.Untold), shown)], ", "))
	}
}

// keep writes the whole radius.
func keep(file string, p Plan, r restore.Radius) error {
	b, err := json.MarshalIndent(map[string]any{"simulation": true, "plan": p, "radius": r.Diff, "unread": r.Unread}, "", "  ")
	if err != nil {
		return fmt.Errorf("keep what the dry run counted: %w", err)
	}
	return durable.WriteFile(file, append(b, '\n'), 0o600)
}

func (b *Base) dryRunsDir(target string) string {
	return filepath.Join(b.Config.Storage.Dir, "dry-runs", target)
}

// answers fails where the database does not answer soon.
func answers(ctx context.Context, db *mongo.Database) error {
	limited, cancel := context.WithTimeout(ctx, longestLook)
	defer cancel()
	return db.Client().Ping(limited, nil)
}

// EstimateInput asks how long a recovery from a backup would take.
type EstimateInput struct {
	Target    string           `json:"target"`
	Phases    []estimate.Phase `json:"phases"`
	Documents int64            `json:"documents"`
	Bytes     int64            `json:"bytes"`
	Measured  []estimate.Past  `json:"measured,omitempty"` // by this dry run itself
}

// Estimated is how long a recovery would take, phase by phase.
type Estimated struct {
	Phases []estimate.Estimate `json:"phases"`
	Sum    estimate.Sum        `json:"sum"`
}

// EstimateRecovery estimates from what storage keeps of past drills, recoveries and backups.
func (a *Simulation) EstimateRecovery(ctx context.Context, in EstimateInput) (Estimated, error) {
	past, err := a.past(ctx, in.Target)
	if err != nil {
		return Estimated{}, err
	}
	list := estimate.Of(in.Phases, append(past, in.Measured...), estimate.Size{Documents: in.Documents, Bytes: in.Bytes})
	return Estimated{Phases: list, Sum: estimate.Add(list)}, nil
}
