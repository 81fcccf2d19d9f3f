package mail

import "time"

// SupportRequest asks the platform's support to recover a lost volume. It goes outside: it says what they need to find the
// volume, and nothing of what is in it.
type SupportRequest struct {
	Target, Database, Incident string
	Volume                     string    // in the platform's words; empty where unknown
	Path                       string    // of the database's files
	Since                      time.Time // when it was first seen gone
	Asked                      time.Time
	Seen                       []string // what was observed
	Answer                     []string // addresses of those who wait for the answer
}

// SupportRequest renders the request.
func (t *Templates) SupportRequest(r SupportRequest, c Contact) (Message, error) {
	m, err := t.inside(mailSupport, toneUrgent, r.Incident, r, c)
	if len(r.Answer) > 0 {
		m.ReplyTo = r.Answer[0]
	}
	return m, err
}
