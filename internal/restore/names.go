package restore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/battwheels/runbook/internal/backup"
)

// maxNamespace is how long "database.collection" may be on every server: sharded collections and compatible servers
// allow 235 bytes where others allow 255.
const maxNamespace = 235

// nameHash is how many hex digits stand for the rest of a name that is too long.
const nameHash = 24

var incidentName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,79}$`)

// The marks between the parts of our names. Some compatible servers (FerretDB v1) do not rename collections with a dot in
// their names: there the parts are joined by a tilde instead.
const (
	dot   = "."
	tilde = "~"
)

// reservedWord is what all our names begin with, before the first mark.
var reservedWord = strings.TrimSuffix(backup.ReservedPrefix, dot)

// naming makes the names of collections in one database.
type naming struct {
	database string
	mark     string
}

// StageName returns where an attempt stages a collection, on servers that rename any collection.
func StageName(database string, token int64, collection string) string {
	return naming{database, dot}.stage(token, collection)
}

// OldName returns where an incident sets a live collection aside, on servers that rename any collection.
func OldName(database, incident, collection string) string {
	return naming{database, dot}.old(incident, collection)
}

func (n naming) stage(token int64, collection string) string {
	return n.fit("stage", strconv.FormatInt(token, 10), collection)
}

func (n naming) old(incident, collection string) string { return n.fit("old", incident, collection) }

// fit joins the parts of a name. What would grow past the server's limit is cut and completed with a hash of the whole
// name; the journals keep which name stands for which collection.
func (n naming) fit(kind, of, collection string) string {
	prefix := strings.Join([]string{reservedWord, kind, of, ""}, n.mark)
	room := maxNamespace - len(n.database) - 1 - len(prefix)
	if len(collection) <= room {
		return prefix + collection
	}
	sum := sha256.Sum256([]byte(collection))
	cut := max(room-nameHash-1, 0)
	for cut > 0 && !utf8.RuneStart(collection[cut]) {
		cut--
	}
	return prefix + collection[:cut] + "~" + hex.EncodeToString(sum[:])[:nameHash]
}

// partsOf returns for a name of ours what kind it is, and whose: the token or the incident.
func partsOf(name string) (kind, of string, ok bool) {
	for _, mark := range []string{dot, tilde} {
		parts := strings.SplitN(name, mark, 4)
		if len(parts) == 4 && parts[0] == reservedWord && parts[2] != "" {
			return parts[1], parts[2], true
		}
	}
	return "", "", false
}

// stageToken returns the token in a staged collection's name.
func stageToken(name string) (int64, bool) {
	kind, of, ok := partsOf(name)
	if !ok || kind != "stage" {
		return 0, false
	}
	token, err := strconv.ParseInt(of, 10, 64)
	return token, err == nil && token > 0
}

// oldIncident returns the incident in the name of a collection that was set aside.
func oldIncident(name string) (string, bool) {
	kind, of, ok := partsOf(name)
	return of, ok && kind == "old"
}

// reserved says whether a collection belongs to runbook itself.
func reserved(name string) bool { return backup.Reserved(name) }

// system says whether a collection belongs to the server. Its content is not an application's data, or, as with
// system.js, cannot be renamed.
func system(name string) bool { return strings.HasPrefix(name, "system.") }

func checkIncident(incident string) error {
	if !incidentName.MatchString(incident) {
		return fmt.Errorf("incident %q: want 1 to 80 letters, digits, - or _, because it becomes part of collections' names", incident)
	}
	return nil
}

// namingFor finds out how collections must be named in this database, so that the server renames them. It asks to rename
// one that does not exist.
func namingFor(ctx context.Context, db *mongo.Database) (naming, error) {
	for _, mark := range []string{dot, tilde} {
		n := naming{db.Name(), mark}
		from, to := n.fit("probe", "0", "from"), n.fit("probe", "0", "to")
		err := persist(ctx, func() error { return rename(ctx, db, from, to) })
		switch c := code(err); {
		case c == codeNamespaceNotFound:
			return n, nil
		case c == codeInvalidNamespace && mark == dot:
		case c == codeUnauthorized:
			return naming{}, fmt.Errorf("runbook may not rename collections in %s: give its user the role readWrite there: %w", db.Name(), err)
		case err == nil:
			return naming{}, fmt.Errorf("the server claims to have renamed a collection that does not exist: %s", from)
		case c != 0:
			return naming{}, &RefusedError{Collection: from, What: "the renaming", Code: c, Reason: err.Error()}
		default:
			return naming{}, fmt.Errorf("ask whether the server renames collections: %w", err)
		}
	}
	return naming{}, errors.New("the server renames no collection at all")
}

// renames says whether the server renames a collection of this name.
func (n naming) renames(collection string) bool {
	return n.mark == dot || !strings.Contains(collection, dot)
}

// whyNot is said of a collection that the server does not rename.
const whyNot = "this server does not rename collections with a dot in their names"
