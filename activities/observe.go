package activities

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/battwheels/runbook/internal/backup"
	"github.com/battwheels/runbook/internal/config"
)

// What an observation finds of a database.
const (
	DatabaseSilent = "silent" // it does not answer, or refuses us
	DatabaseEmpty  = "empty"
	DatabaseYoung  = "young"  // everything in it is younger than the last backup: it was made anew
	DatabaseFallen = "fallen" // a count that people know is less than half of the last backup's
	DatabaseWhole  = "whole"
)

// ObserveInput asks what is left of a target's database.
type ObserveInput struct {
	Target string    `json:"target"`
	Before time.Time `json:"before,omitzero"` // only backups from before the loss are compared with
}

// Observation is what was seen of a database at one moment.
type Observation struct {
	At          time.Time  `json:"at"`
	State       string     `json:"state"`
	What        string     `json:"what"` // one sentence
	Collections int        `json:"collections"`
	Documents   int64      `json:"documents"`
	Newest      time.Time  `json:"newest,omitzero"` // by the _id of the documents whose counts people know
	KeyCounts   []KeyCount `json:"keyCounts,omitempty"`
	Backup      string     `json:"backup,omitempty"` // the proven one that it was compared with
	Volume      string     `json:"volume,omitempty"` // whether the configured path is there, as which host sees it
	VolumeGone  bool       `json:"volumeGone,omitempty"`
}

// A look may take as long as the pause between two, within these bounds: what has not answered by then does not answer.
const (
	shortestLook = 5 * time.Second
	longestLook  = 15 * time.Second
)

// ObserveDatabase looks at what is left of a database, and compares it with the newest proven backup. It fails only where the
// question makes no sense: a database that is not there is an observation.
func (a *Data) ObserveDatabase(ctx context.Context, in ObserveInput) (Observation, error) {
	t, err := a.target(in.Target)
	if err != nil {
		return Observation{}, err
	}
	db, err := a.Databases(in.Target)
	if err != nil {
		return Observation{}, err
	}
	_, stop := beat(ctx)
	defer stop()
	o := Observation{At: time.Now().UTC()}
	limited, cancel := context.WithTimeout(ctx, min(max(time.Duration(t.PodLoss.Every), shortestLook), longestLook))
	defer cancel()
	oldest, err := o.look(limited, db, t)
	o.Volume, o.VolumeGone = a.volume(t.PodLoss.Volume.Path)
	switch {
	case ctx.Err() != nil:
		return Observation{}, ctx.Err()
	case err != nil:
		o.State, o.What = DatabaseSilent, why(err)
		return o, nil
	case o.Documents == 0:
		o.State, o.What = DatabaseEmpty, fmt.Sprintf("it answers, and is empty: %d collections without a document", o.Collections)
		return o, nil
	}
	o.State, o.What = DatabaseWhole, fmt.Sprintf("it answers, with %d documents in %d collections", o.Documents, o.Collections)
	last, err := a.lastProven(ctx, in)
	if ctx.Err() != nil {
		return Observation{}, ctx.Err()
	}
	if err != nil || last == nil {
		o.What += "; there is no proven backup to compare it with"
		return o, nil
	}
	o.compare(t, last, oldest)
	return o, nil
}

// look counts what is there, and returns when the oldest of the known documents was made; zero where no _id tells.
func (o *Observation) look(ctx context.Context, db *mongo.Database, t config.Target) (oldest time.Time, err error) {
	specs, err := db.ListCollectionSpecifications(ctx, bson.D{})
	if err != nil {
		return oldest, err
	}
	counts := map[string]int64{}
	for _, s := range specs {
		if s.Type == string(backup.TypeView) || strings.HasPrefix(s.Name, "system.") || strings.HasPrefix(s.Name, "runbook.") {
			continue
		}
		n, err := db.Collection(s.Name).EstimatedDocumentCount(ctx)
		if err != nil {
			return oldest, err
		}
		o.Collections++
		o.Documents += n
		counts[s.Name] = n
	}
	counts[collectionsCount] = int64(o.Collections)
	for _, name := range t.Verify.KeyCounts {
		o.KeyCounts = append(o.KeyCounts, KeyCount{Name: name, Now: counts[name], Backup: -1})
		if name == collectionsCount || counts[name] == 0 {
			continue
		}
		first, err := made(ctx, db.Collection(name), 1)
		if err != nil {
			return oldest, err
		}
		last, err := made(ctx, db.Collection(name), -1)
		if err != nil {
			return oldest, err
		}
		if oldest.IsZero() || !first.IsZero() && first.Before(oldest) {
			oldest = first
		}
		if last.After(o.Newest) {
			o.Newest = last
		}
	}
	return oldest, nil
}

// made is when the first document in the order of _id was made; zero where its _id does not tell.
func made(ctx context.Context, c *mongo.Collection, order int) (time.Time, error) {
	only := options.FindOne().SetSort(bson.D{{Key: "_id", Value: order}}).SetProjection(bson.D{{Key: "_id", Value: 1}})
	doc, err := c.FindOne(ctx, bson.D{}, only).Raw()
	if errors.Is(err, mongo.ErrNoDocuments) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	id, ok := doc.Lookup("_id").ObjectIDOK()
	if !ok {
		return time.Time{}, nil
	}
	return id.Timestamp().UTC(), nil
}

// lastProven is the manifest of the newest backup that could be restored; nil where it cannot be read.
func (a *Data) lastProven(ctx context.Context, in ObserveInput) (*backup.Manifest, error) {
	c := a.catalog(in.Target)
	entries, err := c.List(ctx)
	if err != nil {
		return nil, err
	}
	choice, err := c.Choose(entries, in.Before, "")
	if err != nil {
		return nil, err
	}
	return choice.Entry.Manifest(), nil
}

// compare says whether this can be the database that the backup was made of.
func (o *Observation) compare(t config.Target, last *backup.Manifest, oldest time.Time) {
	o.Backup = last.Name
	before := keyCounts(t, last)
	var fallen []string
	for i := range o.KeyCounts {
		k := &o.KeyCounts[i]
		k.Backup = before[k.Name]
		if k.Now*2 < k.Backup {
			fallen = append(fallen, fmt.Sprintf("%s (%d, the backup has %d)", k.Name, k.Now, k.Backup))
		}
	}
	switch {
	case !oldest.IsZero() && oldest.After(last.StartedAt):
		o.State = DatabaseYoung
		o.What += fmt.Sprintf(", and all that is known of them is younger than backup %s: it was made anew", last.Name)
	case len(fallen) > 0:
		o.State = DatabaseFallen
		o.What += fmt.Sprintf(", and far less than backup %s: %s", last.Name, strings.Join(fallen, ", "))
	}
}

// volume says whether the directory of the database's files is there. Another host may rightly not have it, so the host is named.
func (b *Base) volume(path string) (text string, gone bool) {
	if path == "" {
		return "", false
	}
	_, host, _ := strings.Cut(b.HostQueue, "@")
	state := "is there"
	entries, err := os.ReadDir(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		state, gone = "is not there", true
	case err != nil:
		state = "cannot be looked into"
	case len(entries) == 0:
		state, gone = "is empty", true
	}
	return fmt.Sprintf("%s %s, as %s sees it", path, state, host), gone
}

// why says in one line what an error of the driver means for the database.
func why(err error) string {
	// A server that was made anew has no users: the first that is seen of it is that it refuses the login.
	if e, ok := errors.AsType[mongo.CommandError](err); ok && e.Code == unauthorized || strings.Contains(err.Error(), "auth error") {
		return "it answers, and refuses us: does its user exist? " + brief(err)
	}
	return "it does not answer: " + brief(err)
}

// unauthorized is the server's code for a login without the rights.
const unauthorized = 13

// brief is an error as one short line. A driver that finds no server lists all of them, each with its last error: the first of
// those says most.
func brief(err error) string {
	const most = 160
	text := strings.Join(strings.Fields(err.Error()), " ")
	if _, last, ok := strings.Cut(text, "Last error: "); ok {
		text, _, _ = strings.Cut(last, " }")
	}
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// CompareInput asks in what a database differs from a backup, by a dump of it.
type CompareInput struct {
	Target   string `json:"target"`
	Incident string `json:"incident"`
	Backup   string `json:"backup"`
	Against  string `json:"against"` // id of the dump
}

// Compared is in what a database differs from a backup: Added and Changed stand in the database, and are newer; Missing stand in
// the backup only.
type Compared struct {
	Radius      backup.Counts `json:"radius"`
	Collections []RadiusOf    `json:"collections,omitempty"` // that differ most
	Gone        []string      `json:"gone,omitempty"`        // collections that the database has not
	Unread      int           `json:"unread,omitempty"`      // places that could not be read
	KeyCounts   []KeyCount    `json:"keyCounts,omitempty"`
}

// CompareWithBackup compares a dump of the database with a backup, document by document. The whole of it goes to the incident's
// folder.
func (a *Data) CompareWithBackup(ctx context.Context, in CompareInput) (Compared, error) {
	t, err := a.target(in.Target)
	if err != nil {
		return Compared{}, err
	}
	_, stop := beat(ctx)
	defer stop()
	c := a.catalog(in.Target)
	from, err := c.Source(ctx, in.Backup)
	if err != nil {
		return Compared{}, typed(ctx, err)
	}
	live, err := c.Source(ctx, in.Against)
	if err != nil {
		return Compared{}, typed(ctx, err)
	}
	diff, err := backup.Compare(ctx, from, live, backup.CompareOptions{TenantField: t.Tenants.Field, Parallel: t.Backup.Parallel})
	if err != nil {
		return Compared{}, typed(ctx, err)
	}
	folder, err := a.folder(in.Target, in.Incident)
	if err != nil {
		return Compared{}, err
	}
	if err := folder.PutJSON(radiusFile(in.Against), diff); err != nil {
		return Compared{}, err
	}
	out := Compared{
		Radius: diff.Total, Collections: most(diff.Collections), Unread: len(live.Manifest.Unreadable),
		Gone: slices.Clone(diff.GoneCollections[:min(len(diff.GoneCollections), shown)]),
	}
	before, now := keyCounts(t, from.Manifest), keyCounts(t, live.Manifest)
	for _, name := range t.Verify.KeyCounts {
		out.KeyCounts = append(out.KeyCounts, KeyCount{Name: name, Backup: before[name], Now: now[name]})
	}
	return out, nil
}
