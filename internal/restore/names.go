package restore

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/battwheels/runbook/internal/backup"
)

const (
	stagePrefix = backup.ReservedPrefix + "stage."
	oldPrefix   = backup.ReservedPrefix + "old."
)

// maxNamespace is how long "database.collection" may be on every server: sharded collections and compatible servers
// allow 235 bytes where others allow 255.
const maxNamespace = 235

// nameHash is how many hex digits stand for the rest of a name that is too long.
const nameHash = 24

var incidentName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,79}$`)

// StageName returns where an attempt stages a collection.
func StageName(database string, token int64, collection string) string {
	return fit(database, stageOf(token), collection)
}

// OldName returns where an incident sets a live collection aside.
func OldName(database, incident, collection string) string {
	return fit(database, oldOf(incident), collection)
}

func stageOf(token int64) string { return stagePrefix + strconv.FormatInt(token, 10) + "." }

func oldOf(incident string) string { return oldPrefix + incident + "." }

// fit appends a collection's name to a prefix. What would grow past the server's limit is cut and completed with a hash
// of the whole name; the journals keep which name stands for which collection.
func fit(database, prefix, collection string) string {
	room := maxNamespace - len(database) - 1 - len(prefix)
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

// stageToken returns the token in a staged collection's name.
func stageToken(name string) (int64, bool) {
	rest, ok := strings.CutPrefix(name, stagePrefix)
	if !ok {
		return 0, false
	}
	digits, _, ok := strings.Cut(rest, ".")
	if !ok {
		return 0, false
	}
	token, err := strconv.ParseInt(digits, 10, 64)
	return token, err == nil && token > 0
}

// oldIncident returns the incident in the name of a collection that was set aside.
func oldIncident(name string) (string, bool) {
	rest, ok := strings.CutPrefix(name, oldPrefix)
	if !ok {
		return "", false
	}
	incident, _, ok := strings.Cut(rest, ".")
	return incident, ok && incident != ""
}

func reserved(name string) bool { return strings.HasPrefix(name, backup.ReservedPrefix) }

// system says whether a collection belongs to the server. Its content is not an application's data, or, as with
// system.js, cannot be renamed.
func system(name string) bool { return strings.HasPrefix(name, "system.") }

func checkIncident(incident string) error {
	if !incidentName.MatchString(incident) {
		return fmt.Errorf("incident %q: want 1 to 80 letters, digits, - or _, because it becomes part of collections' names", incident)
	}
	return nil
}
