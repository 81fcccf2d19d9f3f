package mail

import "time"

// Notice is what every organization is told after a restore.
type Notice struct {
	Brand    string // the product as its customers know it
	Incident string
	Support  string // whom to ask; where empty, people are asked to answer the mail

	Since    time.Time // when the damage began; zero where nobody knows
	Detected time.Time
	Stopped  time.Time // the application's stop: nothing was entered after it
	// Gone says that the database itself was lost, not damaged. Then Stopped is when that was seen.
	Gone bool
	// Until is the end of what has to be entered again, where that is not Stopped: a new database took entries meanwhile, which
	// are not in the restored one either.
	Until    time.Time
	Back     time.Time // seen healthy
	BackupAt time.Time // every entry acknowledged before it is there

	// Loss counts, by organization, the records entered or changed between backup and stop, which must be entered
	// again. Nil where it was not counted; then nothing is said of numbers.
	Loss map[string]Loss

	// NotKept says that no copy was made of what stood there before the restore, so that none may be promised.
	NotKept bool
}

// Loss is what one organization has to enter again.
type Loss struct {
	New     int64 `json:"new"`     // records that the backup did not have
	Changed int64 `json:"changed"` // records that stood otherwise in the backup
}

// noticeView is a Notice to one contact.
type noticeView struct {
	Notice
	To       Contact
	Counted  bool
	Nothing  bool // counted, and nothing of theirs is missing
	New      int64
	Changed  int64
	Each     []organizationLoss // where one address stands for several
	End      time.Time          // of what has to be entered again
	Window   time.Duration
	Downtime time.Duration
}

type organizationLoss struct {
	Organization
	Loss
}

// Notice renders the mail to one organization.
func (t *Templates) Notice(n Notice, c Contact) (Message, error) {
	v := noticeView{Notice: n, To: c, Counted: n.Loss != nil, End: n.Stopped}
	if v.End.IsZero() {
		v.End = n.Back
	}
	if n.Until.After(v.End) {
		v.End = n.Until
	}
	v.Window = v.End.Sub(n.BackupAt)
	if !n.Stopped.IsZero() && n.Back.After(n.Stopped) {
		v.Downtime = n.Back.Sub(n.Stopped)
	}
	for _, o := range c.Organizations() {
		l := n.Loss[o.ID]
		v.New += l.New
		v.Changed += l.Changed
		v.Each = append(v.Each, organizationLoss{o, l})
	}
	v.Nothing = v.Counted && v.New == 0 && v.Changed == 0
	m, err := t.render(mailNotice, view{Tone: toneGood, Brand: n.Brand, Incident: n.Incident, Mail: v}, c)
	m.ReplyTo = n.Support
	return m, err
}
