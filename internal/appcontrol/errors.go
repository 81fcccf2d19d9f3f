package appcontrol

import "fmt"

// ControlError is a failure that comes again until a person changes something: the configuration, a permission, the program.
type ControlError struct {
	Action  string // what was tried: "stop", "start", "look at", …
	Program string // empty where it concerns all of them
	Reason  string
	Do      string // what a person can do about it
}

// Error says what was tried, why it failed, and what to do.
func (e *ControlError) Error() string {
	s := e.Action
	if e.Program != "" {
		s += " " + e.Program
	}
	s += ": " + e.Reason
	if e.Do != "" {
		s += "; " + e.Do
	}
	return s
}

// UnavailableError says that what supervises the programs did not answer, or not now. Trying again is safe.
type UnavailableError struct {
	Action string
	Where  string // the address that was asked
	Err    error
}

// Error says who did not answer.
func (e *UnavailableError) Error() string {
	return fmt.Sprintf("%s: no answer from %s: %v; see that it runs and that this address is its own", e.Action, e.Where, e.Err)
}

// Unwrap gives the cause.
func (e *UnavailableError) Unwrap() error { return e.Err }
