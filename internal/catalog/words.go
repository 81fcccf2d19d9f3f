package catalog

import (
	"fmt"
	"strings"
	"time"

	"github.com/battwheels/runbook/internal/backup"
)

// why says in one sentence what a backup is good for.
func (e *Entry) why() string {
	switch {
	case e.unreadable && e.Origin == Offsite:
		return sentence(e.broken + "; backups of which the only copy is there are missing from this list")
	case e.archive:
		return sentence(e.broken)
	case e.unreadable:
		return sentence(e.broken + "; if runbook has no right to read it, run the worker as a user who has")
	case e.writing:
		return "It is being written now and cannot be restored yet."
	case e.broken != "":
		return sentence("it is half-written and cannot be restored: " + e.broken)
	case e.damaged:
		return sentence("it is damaged and must not be restored: " + strings.Join(e.Suspect, "; "))
	case len(e.Suspect) > 0:
		return sentence("it is suspect and never chosen by itself: " + strings.Join(e.Suspect, "; "))
	case e.Kind == backup.Emergency:
		return "It is what could still be read when an incident began, and is never chosen by itself."
	case e.Kind == backup.Safety:
		return "It is what stood in the database right before a restore replaced it, and is never chosen by itself."
	case e.DuringIncident != "":
		return fmt.Sprintf("It was made while the incident %s was open, may hold its damage, and is never chosen by itself.", e.DuringIncident)
	case e.State == Restored:
		return fmt.Sprintf("It was restored%s, and every document was proven there.", since(e.RestoredAt))
	case e.Origin == Offsite:
		return "It is not on this host; its copy is whole, and a restore fetches and verifies it first."
	case e.State == Verified && e.Origin == Own:
		return fmt.Sprintf("It was verified%s: every file and every document is as it was written.", since(e.VerifiedAt))
	case e.State == Verified:
		return fmt.Sprintf("It was verified%s: every document in it can be read, and it is as complete as expected.", since(e.VerifiedAt))
	default:
		return "It looks whole on disk and has not been verified yet; a restore verifies it first."
	}
}

func since(at *time.Time) string {
	if at == nil {
		return ""
	}
	return " on " + stamp(*at)
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// sentence begins with a capital letter and ends with a stop.
func sentence(s string) string {
	s = strings.ToUpper(s[:1]) + s[1:]
	if strings.HasSuffix(s, ".") {
		return s
	}
	return s + "."
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func size(n int64) string {
	const unit = 1000
	if n < unit {
		return plural(int(n), "byte", "bytes")
	}
	value, name := float64(n), ""
	for _, name = range []string{"kB", "MB", "GB", "TB"} {
		if value /= unit; value < unit {
			break
		}
	}
	return fmt.Sprintf("%.1f %s", value, name)
}

// age is a length of time as a person says it.
func age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return "less than a minute"
	case d < 2*time.Hour:
		return plural(int(d/time.Minute), "minute", "minutes")
	case d < 48*time.Hour:
		return plural(int(d/time.Hour), "hour", "hours")
	default:
		return plural(int(d/(24*time.Hour)), "day", "days")
	}
}
