package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// FieldError is one thing that is wrong in the file, with the place where a person finds it.
type FieldError struct {
	File   string
	Line   int    // 0 where the file as a whole is meant
	Field  string // dotted path, such as targets.battwheels.backup.level; empty where no field is meant
	Reason string // what is wrong, what was expected, and what to do
}

// Error is one line: file, line, field, reason.
func (e *FieldError) Error() string {
	where := e.File
	if e.Line > 0 {
		where = fmt.Sprintf("%s:%d", e.File, e.Line)
	}
	if e.Field == "" {
		return where + ": " + e.Reason
	}
	return where + ": " + e.Field + ": " + e.Reason
}

// Errors is everything that is wrong in one file, in the order of its lines: a person mends them all at once.
type Errors []*FieldError

// Error is a line for each.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As find a single one.
func (e Errors) Unwrap() []error {
	all := make([]error, len(e))
	for i, one := range e {
		all[i] = one
	}
	return all
}

func (e Errors) sorted() Errors {
	slices.SortStableFunc(e, func(a, b *FieldError) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Field, b.Field))
	})
	return e
}

// UnknownTargetError says that no target of that name is configured, or that a name is needed.
type UnknownTargetError struct {
	Name  string // as asked for; empty where none was given
	Valid []string
}

// Error lists the names that there are.
func (e *UnknownTargetError) Error() string {
	valid := strings.Join(e.Valid, ", ")
	if e.Name == "" {
		return fmt.Sprintf("several targets are configured: name one of %s", valid)
	}
	if near := nearest(e.Name, e.Valid); near != "" {
		return fmt.Sprintf("no target is named %q: did you mean %s? Configured: %s", e.Name, near, valid)
	}
	return fmt.Sprintf("no target is named %q; configured: %s", e.Name, valid)
}

// nearest returns the candidate that differs from the word by the fewest letters, where that is few enough to be a slip of
// the hand; the case of letters does not count.
func nearest(word string, candidates []string) string {
	best, least := "", len(word)/3+2
	for _, c := range candidates {
		if d := distance(strings.ToLower(word), strings.ToLower(c)); d < least {
			best, least = c, d
		}
	}
	return best
}

// distance is the number of letters to insert, delete, replace or swap with their neighbour.
func distance(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
