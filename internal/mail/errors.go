package mail

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// RateLimitedError says that the mail service wants us to wait. Nothing of the request was accepted.
type RateLimitedError struct {
	RetryAfter time.Duration // what the service asks for; a guess where it says nothing
	Quota      string        // daily_quota_exceeded or monthly_quota_exceeded, where that is the reason
}

// Error says what to wait for, or what to raise.
func (e *RateLimitedError) Error() string {
	if e.Quota != "" {
		return fmt.Sprintf("the mail service's quota is used up (%s): raise it there, or wait; next try in %s", e.Quota, e.RetryAfter)
	}
	return fmt.Sprintf("the mail service asks to wait %s before the next request", e.RetryAfter)
}

// RefusedError says that the mail service refuses the request as it is, and would do so for ever. Nothing of it was
// accepted. Once the cause is mended, sending again is safe.
type RefusedError struct {
	Status int    // of HTTP
	Name   string // of the error in Resend's terms
	Reason string // with addresses and key blanked out
}

// Error says what the service said, and where to look.
func (e *RefusedError) Error() string {
	hint := "read what it says of the request"
	switch {
	case e.Name == "validation_error" && e.Status == 403, strings.Contains(e.Reason, "domain"):
		hint = "verify the domain of mail.from with the mail service"
	case e.Status == 401 || e.Status == 403:
		hint = "check mail.apiKey"
	case e.Status == 404 || e.Status == 405 || e.Status/100 == 3:
		hint = "check mail.baseURL"
	case strings.Contains(e.Reason, "from"):
		hint = "check mail.from"
	}
	return fmt.Sprintf("the mail service refuses the request (HTTP %d %s: %s): %s, then try again", e.Status, e.Name, e.Reason, hint)
}

// UnavailableError says that the request failed on the way or at the service. Try again with the same key.
type UnavailableError struct {
	Status int // of HTTP; 0 where no answer came
	// Left says whether the request left this host, so that it may have been accepted although no answer says so.
	Left   bool
	Reason string
}

// Error says what is known of the outcome.
func (e *UnavailableError) Error() string {
	known := "nothing was sent"
	if e.Left {
		known = "it may have been accepted; the same key keeps it from being sent twice"
	}
	if e.Status != 0 {
		return fmt.Sprintf("the mail service answered HTTP %d (%s): %s", e.Status, e.Reason, known)
	}
	return fmt.Sprintf("the mail service did not answer (%s): %s", e.Reason, known)
}

// FrozenError says that a frozen outbox is not what it was when it was frozen.
type FrozenError struct{ Path, Reason string }

// Error says that nothing is sent from it.
func (e *FrozenError) Error() string {
	return fmt.Sprintf("the frozen mails in %s are damaged (%s): nothing more is sent from them; "+
		"the ledger beside them says who has been told already", e.Path, e.Reason)
}

var address = regexp.MustCompile(`[^\s<>"'(),;:]+@[^\s<>"'(),;:]+`)

// blank takes addresses and the key out of a text that goes to logs and histories.
func blank(s, key string) string {
	if key != "" {
		s = strings.ReplaceAll(s, key, "<secret>")
	}
	return address.ReplaceAllString(s, "<address>")
}
