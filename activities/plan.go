package activities

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/config"
	"github.com/battwheels/runbook/internal/words"
)

// Plan is what a person approves: which backup replaces what, and what that costs, counted by document. The whole of
// it lies in the incident's folder as plan.json; what stands here is small enough for the history.
type Plan struct {
	Code     string    `json:"code"` // short code over backup, counts and the database's state
	Target   string    `json:"target"`
	Incident string    `json:"incident"`
	Backup   BackupRef `json:"backup"`
	// Emergency is the dump that the database's state was taken from; empty where nothing could be read.
	Emergency string `json:"emergency,omitempty"`

	// Radius is what the restore changes, against the database as it is: Added are documents that the database has and
	// the backup lacks (they would leave), Changed go back to the backup's version, Missing come back.
	Radius      backup.Counts `json:"radius"`
	RadiusKnown bool          `json:"radiusKnown"`
	// Uncounted is how many places of the database could not be read: what stands there is in no count, and lost with no
	// trace in it.
	Uncounted   int        `json:"uncounted,omitempty"`
	Collections []RadiusOf `json:"collections,omitempty"` // the most affected ones
	Tenants     []RadiusOf `json:"tenants,omitempty"`     // the most affected ones
	TenantsHit  int        `json:"tenantsHit"`
	ComeBack    []string   `json:"comeBack,omitempty"`  // collections that the database has lost
	MoveAside   []string   `json:"moveAside,omitempty"` // collections that the backup does not have
	LeftAlone   []string   `json:"leftAlone,omitempty"` // what this restore does not touch
	KeyCounts   []KeyCount `json:"keyCounts"`
	Writers     []string   `json:"writers"`
	Warnings    []string   `json:"warnings,omitempty"`
	DrawnAt     time.Time  `json:"drawnAt"`
	Expected    string     `json:"expected,omitempty"` // how long the application will be down, estimated from the past; one sentence
	// Undelete is set where single documents are put back, beside what is there. Backup is then empty.
	Undelete *UndeletePlan `json:"undelete,omitempty"`
	// Unread says what of the database could not be read; empty where all could. It stands among the warnings, too.
	Unread string `json:"unread,omitempty"`
	// Candidates are the backups that could be taken, newest first, where there is a choice.
	Candidates []Weighed `json:"candidates,omitempty"`
	// Newer is what the backup lacks because it is newer, of which merging back can bring back what users made; nil where there
	// is none, or it is not known.
	Newer *Newer `json:"newer,omitempty"`
	// Only are the collections that are restored, where it is not the whole database.
	Only []string `json:"only,omitempty"`
	// Told is who will be told afterwards; nil where nobody is.
	Told *Told `json:"told,omitempty"`
}

// RadiusOf is the blast radius in one collection or organization.
type RadiusOf struct {
	Name string `json:"name"`
	backup.Counts
}

// KeyCount is a count that people know, before and after. "collections" counts collections.
type KeyCount struct {
	Name   string `json:"name"`
	Backup int64  `json:"backup"`
	Now    int64  `json:"now"` // -1 where unknown
}

// Loss is how many of the database's documents would not survive the restore as they are.
func (p Plan) Loss() int64 { return p.Radius.Added + p.Radius.Changed }

// Whole says whether the blast radius counts everything: only then can a policy, or a second count, be held against it.
func (p Plan) Whole() bool { return p.RadiusKnown && p.Uncounted == 0 }

// Application says in which state the application is at each end of a restore that stops it.
func (p Plan) Application() string {
	return "The application runs until the plan is approved, and however it ends (restored, rolled back, rejected, aborted, cancelled, " +
		"given up) it is started again. It stays stopped only while a question waits for an answer, and where starting it fails."
}

// collectionsCount is the key count that counts collections instead of documents.
const collectionsCount = "collections"

// shown bounds the lists of a plan that go to the history; plan.json has them whole.
const shown = 10

// PlanInput asks for a plan: what restoring the attempt's backup would change against a dump of the database.
type PlanInput struct {
	Attempt
	Against  string   `json:"against,omitempty"` // id of the dump; empty where nothing could be read
	Warnings []string `json:"warnings,omitempty"`
	State    string   `json:"state,omitempty"` // of the backup, as its check has left it
	// Candidates are what ChooseBackup said of the backups that could be taken.
	Candidates []Weighed `json:"candidates,omitempty"`
}

// DrawPlan counts by document what a restore would change, and gives that plan a code.
func (a *Data) DrawPlan(ctx context.Context, in PlanInput) (Plan, error) {
	t, err := a.target(in.Target)
	if err != nil {
		return Plan{}, err
	}
	_, stop := beat(ctx)
	defer stop()
	c := a.catalog(in.Target)
	from, err := c.Source(ctx, in.Backup)
	if err != nil {
		return Plan{}, typed(ctx, err)
	}
	whole := from
	if from, err = only(from, in.Collections); err != nil {
		return Plan{}, badInput(err)
	}
	folder, err := a.folder(in.Target, in.Incident)
	if err != nil {
		return Plan{}, err
	}
	p := Plan{Only: in.Collections, Target: in.Target, Incident: in.Incident, Backup: refOf(from.Manifest), Emergency: in.Against, Warnings: in.Warnings, Candidates: in.Candidates}
	p.Backup.ID, p.Backup.State = in.Backup, cmp.Or(in.State, p.Backup.State)
	if p.Writers = writers(t); len(p.Writers) == 0 {
		p.Warnings = append(p.Warnings, "No application is configured: nothing will be stopped, only checked for quiet.")
	}
	var loss map[string]backup.Counts
	before := keyCounts(t, from.Manifest)
	now := map[string]int64{}
	state := "unread"
	if in.Against != "" {
		live, err := c.Source(ctx, in.Against)
		if err != nil {
			return Plan{}, typed(ctx, err)
		}
		// What the database has lost of them is what comes back.
		live, _ = only(live, in.Collections)
		diff, err := backup.Compare(ctx, from, live, backup.CompareOptions{TenantField: t.Tenants.Field, Parallel: t.Backup.Parallel})
		if err != nil {
			return Plan{}, typed(ctx, err)
		}
		p.Radius, p.RadiusKnown, loss = diff.Total, true, diff.Tenants
		p.Collections, p.Tenants = most(diff.Collections), most(diff.Tenants)
		for _, c := range diff.Tenants {
			if c.Added+c.Changed+c.Missing > 0 {
				p.TenantsHit++
			}
		}
		p.ComeBack, p.MoveAside = diff.GoneCollections, diff.NewCollections
		if !diff.Total.Differ() && len(p.ComeBack)+len(p.MoveAside) == 0 && len(live.Manifest.Unreadable) == 0 {
			p.Warnings = append(p.Warnings, "This plan would change nothing: every document is as the backup has it. Approving it stops the application for nothing.")
		}
		p.Newer = newerIn(t, live.Manifest, diff)
		now = keyCounts(t, live.Manifest)
		state = digestOf(live.Manifest)
		if p.Uncounted = len(live.Manifest.Unreadable); p.Uncounted > 0 {
			// It comes again with the warnings of a later plan.
			if p.Unread = unread(live.Manifest.Unreadable); !slices.Contains(p.Warnings, p.Unread) {
				p.Warnings = append(p.Warnings, p.Unread)
			}
		}
		if err := folder.PutJSON(radiusFile(in.Against), diff); err != nil {
			return Plan{}, err
		}
	}
	for _, name := range t.Verify.KeyCounts {
		if !in.restores(name) {
			continue
		}
		k := KeyCount{Name: name, Backup: before[name], Now: -1}
		if p.RadiusKnown {
			k.Now = now[name]
		}
		p.KeyCounts = append(p.KeyCounts, k)
	}
	p.LeftAlone = leftAlone(from.Manifest)
	p.DrawnAt = time.Now().UTC()
	p.Expected = a.afterApproval(ctx, in.Target, from.Manifest)
	if p.Told, err = a.previewMails(ctx, t, folder, previewInput{PlanInput: in, from: whole, loss: loss, at: p.DrawnAt}); err != nil {
		p.Warnings = append(p.Warnings, "Who will be told of it is not known: "+err.Error())
	}
	p.Code = codeOf(in.Target, in.Backup, digestOf(from.Manifest), state, fmt.Sprint(p.Radius), p.Told.counts())
	if err := folder.PutJSON("plan-"+p.Code+".json", p); err != nil {
		return Plan{}, err
	}
	p.ComeBack, p.MoveAside = p.ComeBack[:min(len(p.ComeBack), shown)], p.MoveAside[:min(len(p.MoveAside), shown)]
	return p, nil
}

// writers are what will be stopped.
func writers(t config.Target) []string {
	switch {
	case t.Application.Supervisor != nil:
		return t.Application.Supervisor.Programs
	case t.Application.Kubernetes != nil:
		return t.Application.Kubernetes.Workloads
	case t.Application.Command != nil:
		return []string{strings.Join(t.Application.Command.Stop, " ")}
	default:
		return nil
	}
}

// only narrows a backup to some of its collections; none means all. The error names those that it does not have.
func only(s backup.Source, names []string) (backup.Source, error) {
	if len(names) == 0 {
		return s, nil
	}
	m := *s.Manifest
	m.Collections = nil
	var missing []string
	for _, name := range names {
		if c := s.Manifest.Collection(name); c != nil {
			m.Collections = append(m.Collections, *c)
		} else {
			missing = append(missing, name)
		}
	}
	s.Manifest = &m
	if len(missing) > 0 {
		return s, fmt.Errorf("backup %s has no collection %s", m.Name, strings.Join(missing, ", "))
	}
	return s, nil
}

// unreadShown bounds the places of a database that a plan names; the dump's manifest has them all.
const unreadShown = 3

// clipped keeps what a server says short enough for a history.
func clipped(s string) string {
	const most = 120
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

// unread says what of the database could not be read.
func unread(places []backup.Unreadable) string {
	var named []string
	for _, u := range places[:min(len(places), unreadShown)] {
		// The range is not named: an _id may be a person's address.
		named = append(named, fmt.Sprintf("%s (%s)", u.Collection, clipped(u.Error)))
	}
	if more := len(places) - len(named); more > 0 {
		named = append(named, fmt.Sprintf("and %d more", more))
	}
	return fmt.Sprintf("%s of the database could not be read, and what stands there is not counted: %s.",
		words.Plural(int64(len(places)), "place", "places"), strings.Join(named, "; "))
}

// most lists the entries that a restore changes most, biggest first.
func most(all map[string]backup.Counts) []RadiusOf {
	var list []RadiusOf
	for name, c := range all {
		if c.Added+c.Changed+c.Missing > 0 {
			list = append(list, RadiusOf{name, c})
		}
	}
	slices.SortFunc(list, func(x, y RadiusOf) int {
		return cmp.Or(cmp.Compare(y.Added+y.Changed+y.Missing, x.Added+x.Changed+x.Missing), cmp.Compare(x.Name, y.Name))
	})
	return list[:min(len(list), shown)]
}

func keyCounts(t config.Target, m *backup.Manifest) map[string]int64 {
	counts := map[string]int64{}
	for _, name := range t.Verify.KeyCounts {
		if name == collectionsCount {
			counts[name] = int64(len(m.Collections))
		} else if c := m.Collection(name); c != nil {
			counts[name] = c.Digest.Documents
		}
	}
	return counts
}

func leftAlone(m *backup.Manifest) []string {
	var names []string
	for _, c := range m.Collections {
		if c.Type == backup.TypeTimeseries {
			names = append(names, c.Name+" (time series)")
		}
	}
	return names
}

// digestOf is one word for the content of a whole backup.
func digestOf(m *backup.Manifest) string {
	h := sha256.New()
	for _, c := range m.Collections {
		fmt.Fprintln(h, c.Name, c.Digest.Documents, c.Digest)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// codeOf makes the short code that an approval must repeat: letters and digits that are not mistaken for each other.
func codeOf(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\n")))
	const alphabet = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"
	code := make([]byte, 6)
	for i := range code {
		code[i] = alphabet[int(sum[i])%len(alphabet)]
	}
	return string(code[:3]) + "-" + string(code[3:])
}

// radiusFile holds a whole blast radius, counted against one dump.
func radiusFile(against string) string { return "radius-" + against + ".json" }
