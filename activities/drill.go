package activities

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/durable"
	"github.com/battwheels/runbook/internal/restore"
)

// Drill restores a backup into a scratch database, only to see that it can be done. What lies in a target's own database it
// neither reads nor writes.
type Drill struct {
	Base
	// Server gives a client of the server that the scratch database is made on; nil: the target's own.
	Server func(target string) (*mongo.Client, error)
}

// DrillAttempt names one run of a drill, and the scratch database that it works in.
type DrillAttempt struct {
	Target  string `json:"target"`
	ID      string `json:"id"` // of the drill and its folder in storage; another one for each run
	Scratch string `json:"scratch,omitempty"`
	Token   int64  `json:"token,omitempty"`
	Backup  string `json:"backup,omitempty"`
}

// Claimed is the scratch database that a drill may fill.
type Claimed struct {
	Scratch string `json:"scratch"`
	Token   int64  `json:"token"`
}

// Loaded is what was loaded into the scratch database.
type Loaded struct {
	Collections int   `json:"collections"`
	Documents   int64 `json:"documents"`
	Bytes       int64 `json:"bytes"`
	// IndexSeconds is how long the building of indexes took, within the loading; several are built at a time, and all are counted.
	IndexSeconds float64 `json:"indexSeconds"`
}

// DrillPhase is one part of a drill, and how long it took.
type DrillPhase struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
	Note    string  `json:"note,omitempty"`
}

// DrillRecord is the dated result of a drill, as it is kept in STORAGE/drills/TARGET/ID.json.
type DrillRecord struct {
	ID        string       `json:"id"`
	Target    string       `json:"target"`
	At        time.Time    `json:"at"`
	Passed    bool         `json:"passed"`
	Summary   string       `json:"summary"`
	Found     string       `json:"found,omitempty"`     // what was wrong
	FoundType string       `json:"foundType,omitempty"` // its type, where it has one
	Backup    *BackupRef   `json:"backup,omitempty"`
	Scratch   string       `json:"scratch,omitempty"`
	Dropped   bool         `json:"dropped"` // the scratch is gone
	Phases    []DrillPhase `json:"phases"`
	// Seconds runs from the choice of the backup to the end of the proof: what a recovery would wait for. Within says whether that
	// is below the target's RTO.
	Seconds   float64       `json:"seconds"`
	RTO       time.Duration `json:"rto"`
	Within    bool          `json:"within"`
	Documents int64         `json:"documents"`
	Indexes   int           `json:"indexes"`
	KeyCounts []KeyCount    `json:"keyCounts,omitempty"`
	Warnings  []string      `json:"warnings,omitempty"`
}

// scratchPrefix begins the name of a scratch database that the configuration does not name.
const scratchPrefix = "runbook_drill_"

// ClaimScratch makes the scratch database this drill's own. Leftovers of a drill that was killed are dropped; a database that holds
// anything else is left alone, and fails with ScratchTaken.
func (a *Drill) ClaimScratch(ctx context.Context, at DrillAttempt) (Claimed, error) {
	t, err := a.target(at.Target)
	if err != nil {
		return Claimed{}, err
	}
	_, stop := beat(ctx)
	defer stop()
	name := cmp.Or(at.Scratch, t.Drill.Database, scratchPrefix+at.Target)
	for of, other := range a.Config.Targets {
		if other.Database.Name == name {
			return Claimed{}, typed(ctx, &restore.ScratchRefusedError{Database: name, Why: "it is the live database of target " + of})
		}
	}
	if slices.Contains([]string{"admin", "local", "config"}, name) {
		return Claimed{}, typed(ctx, &restore.ScratchRefusedError{Database: name, Why: "it belongs to the server"})
	}
	if strings.ContainsAny(name, "/\\. \"$*<>:|?\x00") || len(name) > 63 {
		return Claimed{}, typed(ctx, &restore.ScratchRefusedError{Database: name, Why: "the server takes no such name"})
	}
	at.Scratch = name
	db, err := a.scratch(at)
	if err != nil {
		return Claimed{}, err
	}
	l, err := restore.ClaimScratch(ctx, db, at.holder())
	return Claimed{Scratch: name, Token: l.Token}, typed(ctx, err)
}

// LoadScratch loads the backup into the scratch database and builds its indexes.
func (a *Drill) LoadScratch(ctx context.Context, at DrillAttempt) (Loaded, error) {
	o, stop, err := a.staging(ctx, at)
	if err != nil {
		return Loaded{}, err
	}
	defer stop()
	if err := os.MkdirAll(o.Dir, 0o750); err != nil {
		return Loaded{}, err
	}
	// Retention leaves the backup alone while it is read.
	if err := durable.WriteFile(filepath.Join(o.Dir, usingFile), []byte(at.Backup), 0o600); err != nil {
		return Loaded{}, err
	}
	var building atomic.Int64
	o.Indexed = func(d time.Duration) { building.Add(int64(d)) }
	s, err := restore.Stage(ctx, o)
	if err != nil {
		return Loaded{}, typed(ctx, err)
	}
	return Loaded{
		Collections: len(s.Collections), Documents: s.Documents, Bytes: s.Bytes, IndexSeconds: time.Duration(building.Load()).Seconds(),
	}, nil
}

// ProveScratch puts what was loaded in its place, as a recovery would, loads what cannot be renamed, and compares all of it with the
// backup: every document, every index, every option.
func (a *Drill) ProveScratch(ctx context.Context, at DrillAttempt) (Verified, error) {
	t, err := a.target(at.Target)
	if err != nil {
		return Verified{}, err
	}
	o, stop, err := a.staging(ctx, at)
	if err != nil {
		return Verified{}, err
	}
	defer stop()
	v, err := restore.Direct(ctx, o)
	if err != nil {
		return Verified{}, typed(ctx, err)
	}
	if len(v.Differences) > 0 {
		return Verified{}, notVerified(v)
	}
	out := Verified{Collections: v.Collections, Documents: v.Documents, Indexes: v.Indexes, Expired: v.TTLExpired}
	of := keyCounts(t, o.Source.Manifest)
	for _, name := range t.Verify.KeyCounts {
		k := KeyCount{Name: name, Backup: of[name], Now: int64(v.Collections)}
		if name != collectionsCount {
			k.Now = v.Counts[name]
		}
		out.KeyCounts = append(out.KeyCounts, k)
	}
	return out, nil
}

// DropScratch drops the scratch database, if it is a drill's, and this drill's working files. A database that is
// somebody else's stays.
func (a *Drill) DropScratch(ctx context.Context, at DrillAttempt) error {
	_, stop := beat(ctx)
	defer stop()
	db, err := a.scratch(at)
	if err != nil {
		return err
	}
	if _, err := restore.DropScratch(ctx, db, at.holder().Owner); err != nil {
		return typed(ctx, err)
	}
	if err := os.RemoveAll(a.workDir(at)); err != nil {
		return fmt.Errorf("remove the drill's working files: %w", err)
	}
	return nil
}

// KeepDrill keeps the dated result.
func (a *Drill) KeepDrill(_ context.Context, r DrillRecord) error {
	dir := a.drillsDir(r.Target)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("keep the result of the drill: %w", err)
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("keep the result of the drill: %w", err)
	}
	return durable.WriteFile(filepath.Join(dir, r.ID+".json"), append(b, '\n'), 0o640)
}

// staging says what is loaded where. Nothing of it touches the live database.
func (a *Drill) staging(ctx context.Context, at DrillAttempt) (restore.StageOptions, func(), error) {
	nothing := func() {}
	t, err := a.target(at.Target)
	if err != nil {
		return restore.StageOptions{}, nothing, err
	}
	db, err := a.scratch(at)
	if err != nil {
		return restore.StageOptions{}, nothing, err
	}
	source, err := a.catalog(at.Target).Source(ctx, at.Backup)
	if err != nil {
		return restore.StageOptions{}, nothing, typed(ctx, err)
	}
	report, stop := beat(ctx)
	return restore.StageOptions{
		DB: db, Source: source, Lease: restore.Held(db, at.holder(), at.Token), Dir: a.workDir(at), Parallel: t.Backup.Parallel,
		Progress: func(p backup.Progress) { report(p) },
	}, stop, nil
}

func (a *Drill) scratch(at DrillAttempt) (*mongo.Database, error) {
	if a.Server != nil {
		c, err := a.Server(at.Target)
		if err != nil {
			return nil, err
		}
		return c.Database(at.Scratch), nil
	}
	db, err := a.Databases(at.Target)
	if err != nil {
		return nil, err
	}
	return db.Client().Database(at.Scratch), nil
}

func (at DrillAttempt) holder() restore.Holder {
	return restore.Holder{Owner: "drill/" + at.Target, Run: at.ID, Purpose: "drill " + at.ID}
}

func (b *Base) drillsDir(target string) string {
	return filepath.Join(b.Config.Storage.Dir, "drills", target)
}

// workDir is where a run keeps its journals until the scratch is dropped.
func (a *Drill) workDir(at DrillAttempt) string { return filepath.Join(a.drillsDir(at.Target), at.ID) }

// drilling lists the backups that a drill reads now, or was reading when it was killed.
func (b *Base) drilling(target string) ([]string, error) {
	paths, err := filepath.Glob(filepath.Join(b.drillsDir(target), "*", usingFile))
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, path := range paths {
		id, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it has just ended
		}
		if err != nil {
			return nil, err
		}
		ids = append(ids, string(id))
	}
	return ids, nil
}

// lastDrill is the newest drill that passed; nil where there is none. A record that cannot be read proves nothing.
func (b *Base) lastDrill(target string) (*DrillRecord, error) {
	paths, err := filepath.Glob(filepath.Join(b.drillsDir(target), "*.json"))
	if err != nil {
		return nil, err
	}
	var last *DrillRecord
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		var r DrillRecord
		if json.Unmarshal(text, &r) == nil && r.Passed && (last == nil || r.At.After(last.At)) {
			last = &r
		}
	}
	return last, nil
}

// drillOverdue says that the last good drill is older than allowed.
func (b *Base) drillOverdue(target string, within time.Duration, now time.Time) (*Problem, error) {
	if within <= 0 {
		return nil, nil
	}
	last, err := b.lastDrill(target)
	if err != nil {
		return nil, err
	}
	days := func(d time.Duration) string { return fmt.Sprintf("%.0f days", d.Hours()/24) }
	p := &Problem{Code: ProblemDrill}
	switch {
	case last == nil:
		p.Text = "No drill has ever proven that a backup of " + target + " can be restored; run: runbook start RestoreDrill " + target
	case now.Sub(last.At) > within:
		p.Text = fmt.Sprintf("The last drill that passed is %s old, and %s are allowed; run: runbook start RestoreDrill %s", days(now.Sub(last.At)), days(within), target)
	default:
		return nil, nil
	}
	return p, nil
}

// ProblemDrill is the code of what a drill, or the lack of one, has found.
const ProblemDrill = "drill"
