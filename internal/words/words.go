// Package words writes numbers, moments and spans of time the way people read them: in mails, reports and on the
// terminal. It is not for machines: what is parsed again is written as RFC 3339 and plain digits elsewhere.
package words

import (
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// When is a moment in UTC, to the minute: 24 February 2026, 03:12 UTC.
func When(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04 MST") }

// Window is a span in UTC; its day is said once where that is enough: 24 February 2026, 02:00 to 03:13 UTC.
func Window(from, to time.Time) string {
	from, to = from.UTC(), to.UTC()
	if SameDay(from, to) {
		return from.Format("2 January 2006, 15:04") + " to " + to.Format("15:04 MST")
	}
	return from.Format("2 January 2006, 15:04") + " to " + to.Format("2 January 2006, 15:04 MST")
}

// SameDay says whether two moments fall on one day in UTC.
func SameDay(a, b time.Time) bool {
	return a.UTC().Format(time.DateOnly) == b.UTC().Format(time.DateOnly)
}

// Duration is a span in its two biggest units: 1 hour 13 minutes.
func Duration(d time.Duration) string {
	return span(d, "less than a second", func(n int64, u unit) string { return Plural(n, u.name, u.name+"s") })
}

// Brief is Duration where space is short: 1 h 13 min.
func Brief(d time.Duration) string {
	return span(d, "< 1 s", func(n int64, u unit) string { return Number(n) + " " + u.brief })
}

type unit struct {
	name, brief string
	size        time.Duration
}

var units = []unit{
	{"day", "d", 24 * time.Hour}, {"hour", "h", time.Hour}, {"minute", "min", time.Minute}, {"second", "s", time.Second},
}

func span(d time.Duration, nothing string, say func(int64, unit) string) string {
	if d < 0 {
		d = -d
	}
	if d < time.Second {
		return nothing
	}
	d = d.Round(time.Second)
	for i, u := range units {
		if d < u.size {
			continue
		}
		s := say(int64(d/u.size), u)
		if i+1 < len(units) {
			if rest := d % u.size / units[i+1].size; rest > 0 {
				s += " " + say(int64(rest), units[i+1])
			}
		}
		return s
	}
	return nothing
}

// Number has its thousands separated: 48,210.
func Number(n int64) string {
	s := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}

// Plural is a number with its noun: 1 document, 48,210 documents.
func Plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return Number(n) + " " + many
}

// Title is a code word as the start of a line: rolled-back becomes Rolled back.
func Title(s string) string {
	s = strings.ReplaceAll(s, "-", " ")
	first, size := utf8.DecodeRuneInString(s)
	if size == 0 {
		return s
	}
	return string(unicode.ToUpper(first)) + s[size:]
}

// Bytes is a size in the unit that suits it: 11.8 MB.
func Bytes(n int64) string {
	const units = "kMGTPE"
	if n < 1000 {
		return Plural(n, "byte", "bytes")
	}
	v, i := float64(n)/1000, 0
	for v >= 999.95 && i < len(units)-1 {
		v /= 1000
		i++
	}
	return strconv.FormatFloat(v, 'f', 1, 64) + " " + units[i:i+1] + "B"
}
