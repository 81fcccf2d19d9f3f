package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/battwheels/runbook/activities"
	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/catalog"
	"github.com/battwheels/runbook/internal/dump"
	"github.com/battwheels/runbook/internal/restore"
	"github.com/battwheels/runbook/internal/words"
)

// restoring is what the flags of offline restore say.
type restoring struct {
	id          string
	collections []string
	maps        []string
	filter      string
	mode        string
	into        string
	another     bool
	dryRun      bool
	yes         bool
	takeOver    bool
	noSafety    bool

	chosen  restore.Filter
	renamed map[string]string
}

func (a *app) offlineRestore() *cobra.Command {
	var r restoring
	c := &cobra.Command{
		Use:   "restore [TARGET] --backup ID --yes",
		Short: "Put a target's database back to a backup: stage, prove, swap; or only some of its documents",
		Long: `Put a target's database back to a backup: it is checked, staged beside the live data and proven, a safety dump of what is
there is made, and only then the two are swapped by renaming. What was there stays in runbook.old.*, until policy.keepOld
has passed, and in the safety dump; "runbook offline roll-back" brings it back.
Stop the application first: a database in which something writes is refused.

Without --yes everything up to the proof is done, the staged copy is removed, and nothing live is changed. With --dry-run
documents are compared one by one instead, and counted, and nothing at all is written.

With --collection only these collections are replaced. With --filter or another --mode documents are put back among those
that are there:
  insert-missing  inserts what is not there, and touches nothing that is
  overwrite       also replaces documents that differ from the backup's
  replace         also removes documents that the filter chooses and the backup does not have
What is overwritten or removed is kept first, in an undo folder of mongodump's format; its path is printed, and it is put back
with --backup PATH --mode overwrite. A collection that exists keeps its indexes. A document whose unique key another one has
by now is left out and named, and the exit code is 3.

A filter is extended JSON: values, $eq, $in, $gt, $gte, $lt and $lte on fields or dotted paths, all of which must hold. @FILE
reads it from a file.

` + exitHelp,
		Example: `  runbook offline restore battwheels --backup 20260224T020000Z-scheduled-3f9a2c --yes
  runbook offline restore battwheels --backup ID --collection invoices --filter '{"organization_id": "org_1"}' --mode insert-missing --dry-run
  runbook offline restore battwheels --backup ID --collection invoices --map invoices=invoices_of_then --mode insert-missing --yes
  runbook offline restore battwheels --backup ID --into rehearsal --yes`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := r.check(); err != nil {
				return usage(err)
			}
			return a.withDatabase(cmd, args, func(ctx context.Context, o offline) error {
				done, err := o.restore(ctx, r, cmd.ErrOrStderr())
				if done.Counts == nil && err != nil {
					return err
				}
				return errors.Join(err, a.print(cmd.OutOrStdout(), done, done.tell))
			})
		},
	}
	c.Flags().StringVar(&r.id, "backup", "", `id of the backup, as "runbook backups list" shows it, or the path of a folder with a manifest (default the newest proven one)`)
	c.Flags().StringArrayVar(&r.collections, "collection", nil, "only this collection; may be given several times")
	c.Flags().StringVar(&r.filter, "filter", "", "only documents that match, in extended JSON, or @FILE")
	c.Flags().StringVar(&r.mode, "mode", "", "insert-missing, overwrite or replace (default replace, where there is no filter)")
	c.Flags().StringVar(&r.into, "into", "", "another database on the same server")
	c.Flags().StringArrayVar(&r.maps, "map", nil, "FROM=TO: restore a collection under another name; may be given several times")
	c.Flags().BoolVar(&r.dryRun, "dry-run", false, "count what would be done, and write nothing")
	c.Flags().BoolVar(&r.another, "of-another-database", false, "yes, the backup is of another target or database")
	c.Flags().BoolVar(&r.yes, "yes", false, "really do it")
	c.Flags().BoolVar(&r.takeOver, "take-over", false, "take the lease from a holder that is surely dead")
	c.Flags().BoolVar(&r.noSafety, "without-safety-dump", false, "go on without a safety dump, where there is no space for one")
	return c
}

// check reads what the flags say, before anything is tried.
func (r *restoring) check() (err error) {
	if r.dryRun && r.yes {
		return errors.New("--dry-run and --yes: name one of them")
	}
	if r.filter != "" {
		text := r.filter
		if path, isFile := strings.CutPrefix(text, "@"); isFile {
			b, err := os.ReadFile(path)
			if err != nil {
				return fmt.Errorf("--filter: %w", err)
			}
			text = string(b)
		}
		if r.chosen, err = restore.ParseFilter(text); err != nil {
			return fmt.Errorf("--filter: %w", err)
		}
		if r.mode == "" {
			return errors.New("--filter: say by --mode what becomes of documents that are there: insert-missing, overwrite or replace")
		}
	}
	switch restore.Mode(r.mode) {
	case "", restore.InsertMissing, restore.Overwrite, restore.Replace:
	default:
		return fmt.Errorf("--mode is %q; expected insert-missing, overwrite or replace", r.mode)
	}
	r.renamed = map[string]string{}
	for _, m := range r.maps {
		from, to, ok := strings.Cut(m, "=")
		if _, twice := r.renamed[from]; !ok || from == "" || to == "" || twice {
			return fmt.Errorf("--map is %q; expected FROM=TO, each FROM once", m)
		}
		r.renamed[from] = to
	}
	if slices.Contains([]string{"admin", "local", "config"}, r.into) || strings.ContainsAny(r.into, "/\\. \"$*<>:|?\x00") || len(r.into) > 63 {
		return fmt.Errorf("--into is %q; expected the name of a database of applications", r.into)
	}
	return nil
}

// inPart says whether documents are put back among others, instead of whole collections being swapped.
func (r *restoring) inPart() bool {
	return !r.chosen.All() || r.mode != "" && restore.Mode(r.mode) != restore.Replace
}

// names returns the chosen collections by their names in the renamed backup; nil: all.
func (r *restoring) names() []string {
	var names []string
	for _, name := range r.collections {
		if to, ok := r.renamed[name]; ok {
			name = to
		}
		names = append(names, name)
	}
	return names
}

// source finds the backup and checks every byte of it.
func (o offline) source(ctx context.Context, id string) (string, backup.Source, error) {
	if filepath.IsAbs(id) {
		m, err := backup.ReadManifest(id)
		if err != nil {
			return "", backup.Source{}, err
		}
		s := backup.Source{Dir: id, Manifest: m}
		if err := backup.Verify(ctx, s, nil); err != nil {
			return "", s, found("%v", err)
		}
		return id, s, nil
	}
	e, s, err := o.catalog.Verify(ctx, id, nil)
	if err != nil {
		return "", s, found("%v", err)
	}
	return e.ID, s, nil
}

// newest is the backup that is taken where none is named: the newest that does not seem to hold the damage, too.
func (o offline) newest(ctx context.Context, only []string, say func(string, ...any)) (string, error) {
	entries, err := o.catalog.List(ctx)
	if err != nil {
		return "", err
	}
	choice, err := o.catalog.Choose(entries, time.Time{}, "")
	if err != nil {
		return "", err
	}
	evidence, err := o.catalog.Evidence(ctx, choice.Candidates, catalog.EvidenceOptions{Key: o.Verify.KeyCounts, Volatile: o.Deletions.Volatile, Only: only})
	if err != nil {
		return "", err
	}
	for _, v := range choice.Weigh(evidence) {
		say("passing over %s, which may hold the damage, too: %s", v.ID, v.Why)
	}
	return choice.Entry.ID, nil
}

// foreignTo says in words that a backup is not of this target's database; empty where it is.
func (o offline) foreignTo(m *backup.Manifest, into string) string {
	ofTarget, ofDatabase := m.Target != "" && m.Target != o.target, m.Database != o.Database.Name && m.Database != into
	if !ofTarget && !ofDatabase {
		return ""
	}
	target := m.Target
	if target == "" {
		target = "unknown"
	}
	return fmt.Sprintf("backup %s is of database %q of target %s; you are about to restore it for target %s, whose database is %q", m.Name, m.Database, target, o.target, o.Database.Name)
}

// restore is the playbook's restore without its questions.
func (o offline) restore(ctx context.Context, how restoring, log io.Writer) (r restored, err error) {
	say := func(format string, args ...any) { fmt.Fprintf(log, format+"\n", args...) }
	if how.id == "" {
		if how.id, err = o.newest(ctx, how.collections, say); err != nil {
			return r, err
		}
	}
	say("checking every byte of %s", how.id)
	id, source, err := o.source(ctx, how.id)
	if err != nil {
		return r, err
	}
	r = restored{Backup: id, Incident: stamped("offline"), DryRun: !how.yes, target: o.target, ofTarget: o.Database.Name}
	if why := o.foreignTo(source.Manifest, how.into); why != "" {
		say("WARNING: %s", why)
		r.Warnings = append(r.Warnings, why)
		if how.yes && !how.another {
			return r, usage(fmt.Errorf("%s. Nothing was changed; where you mean it, repeat with --of-another-database", why))
		}
	}
	if source, err = source.Renamed(how.renamed); err != nil {
		return r, usage(err)
	}
	for _, name := range how.names() {
		if source.Manifest.Collection(name) == nil {
			return r, usage(fmt.Errorf("backup %s has no collection %q", id, name))
		}
	}
	if how.into != "" {
		o.db = o.db.Client().Database(how.into)
	}
	r.Database = o.db.Name()
	part := restore.PartialOptions{
		DB: o.db, Source: source, Collections: how.names(), Filter: how.chosen, Mode: restore.Mode(how.mode), Parallel: min(o.Backup.Parallel, 2),
	}
	if part.Mode == "" {
		part.Mode = restore.Replace
	}
	if how.dryRun || how.inPart() && !how.yes {
		say("comparing it with %s", o.db.Name())
		part.DryRun = true
		counts, err := restore.Partial(ctx, part)
		if err != nil {
			return r, err
		}
		r.Counts = &counts
		return r, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return r, err
	}
	holder := restore.Holder{Owner: fmt.Sprintf("offline %s:%d", host, os.Getpid()), Run: r.Incident, Purpose: "offline restore of " + id}
	empty, err := o.empty(ctx)
	if err != nil {
		return r, err
	}
	lease, err := restore.Acquire(ctx, o.db, holder, how.takeOver)
	if err != nil {
		return r, err
	}
	defer func() {
		err = errors.Join(err, lease.Release(context.WithoutCancel(ctx)))
	}()
	incidents := filepath.Join(o.cfg.Storage.Dir, "incidents", o.target)
	if how.into == "" {
		if err := o.undoHalfSwaps(ctx, lease, incidents, how, say); err != nil {
			return r, err
		}
	}
	dir := filepath.Join(incidents, r.Incident, fmt.Sprintf("staging-%d", lease.Token))
	if !how.inPart() {
		return o.whole(ctx, restore.StageOptions{
			DB: o.db, Source: source, Lease: lease, Dir: dir, Collections: how.names(), Parallel: o.Backup.Parallel,
		}, how, empty, r, say)
	}
	if !empty {
		if err := o.quiet(ctx, say); err != nil {
			return r, err
		}
	}
	say("keeping what will be overwritten, then writing")
	part.Lease, part.Dir = lease, dir
	counts, err := restore.Partial(ctx, part)
	if err != nil {
		return r, err
	}
	r.Counts = &counts
	r.Collections, r.Documents = len(counts.Collections), counts.Total().Matched
	if n := counts.Total().Conflicts; n > 0 {
		return r, found("not restored, because others hold their unique keys: %s", words.Plural(n, "document", "documents"))
	}
	return r, nil
}

// empty says whether the database holds nothing of an application's.
func (o offline) empty(ctx context.Context) (bool, error) {
	names, err := o.db.ListCollectionNames(ctx, bson.D{})
	if err != nil {
		return false, fmt.Errorf("list the collections of %s: %w", o.db.Name(), err)
	}
	return !slices.ContainsFunc(names, func(name string) bool { return !backup.Reserved(name) && !strings.HasPrefix(name, "system.") }), nil
}

func (o offline) quiet(ctx context.Context, say func(string, ...any)) error {
	say("seeing that nobody writes")
	_, err := restore.Quiet(ctx, o.db, restore.QuietOptions{For: time.Duration(o.Policy.QuietFor), Self: []string{activities.AppName}, Ignore: o.Policy.IgnoreClients})
	return err
}

// undoHalfSwaps sees that no swap is left half-way, a playbook's or one of our own that was killed. To swap on top of one would
// keep the wrong data: what was live before it lies in runbook.old.*, where no dump looks.
func (o offline) undoHalfSwaps(ctx context.Context, lease restore.Lease, incidents string, how restoring, say func(string, ...any)) error {
	halves, err := restore.HalfSwaps(incidents)
	if err != nil || len(halves) == 0 {
		return err
	}
	if !how.yes {
		return found("the swap of incident %s was cut off half-way: with --yes it is rolled back first", halves[0].Incident)
	}
	if err := o.quiet(ctx, say); err != nil {
		return err
	}
	undone, err := restore.UndoHalfSwaps(ctx, o.db, lease, incidents)
	for _, of := range undone {
		say("rolled back the swap of incident %s, which was cut off", of)
	}
	return err
}

// whole replaces whole collections: stage, prove, swap.
func (o offline) whole(ctx context.Context, stage restore.StageOptions, how restoring, empty bool, r restored, say func(string, ...any)) (restored, error) {
	if empty && how.into != "" && how.yes && stage.Collections == nil {
		say("loading it into %s, which is empty", o.db.Name())
		v, err := restore.Direct(ctx, stage)
		if err != nil {
			return r, err
		}
		r.Collections, r.Documents = v.Collections, v.Documents
		if len(v.Differences) > 0 {
			return r, found("the restored database differs from the backup: %v", v.Differences)
		}
		return r, nil
	}
	say("staging it beside the live data")
	staged, err := restore.Stage(ctx, stage)
	if err != nil {
		return r, err
	}
	say("proving the staged copy")
	if _, err := restore.Prove(ctx, stage); err != nil {
		return r, err
	}
	r.Documents, r.Collections = staged.Documents, len(staged.Collections)
	if !how.yes {
		_, err := restore.Unstage(ctx, o.db, stage.Lease.Token)
		return r, err
	}
	if err := o.quiet(ctx, say); err != nil {
		return r, err
	}
	if !how.noSafety {
		say("dumping what is there now")
		safety := activities.DumpOptions(o.Backup, backup.Safety)
		safety.Root, safety.Name = o.catalog.Root, stamped("safety")
		safety.Target, safety.Salvage = o.target, true
		m, err := dump.Run(ctx, o.db, safety)
		if err != nil {
			return r, err
		}
		r.SafetyDump = m.Name
	}
	say("swapping")
	swapped, err := restore.Swap(ctx, restore.SwapOptions{DB: o.db, Lease: stage.Lease, Incident: r.Incident, Dir: stage.Dir})
	if err != nil {
		return r, err
	}
	r.Aside = swapped.Aside
	say("verifying in place")
	v, err := restore.VerifyInPlace(ctx, stage)
	if err != nil {
		return r, err
	}
	if len(v.Differences) > 0 {
		return r, found("the restored database differs from the backup: %v", v.Differences)
	}
	if how.into != "" {
		return r, nil
	}
	// From now on the keep time of what was set aside runs.
	incidents := activities.Incident{Base: activities.Base{Config: o.cfg}}
	return r, incidents.CloseIncident(ctx, activities.CloseInput{Target: o.target, Incident: r.Incident, Outcome: "restored offline", Summary: "restored " + r.Backup})
}
