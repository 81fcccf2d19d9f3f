package restore

// entry is one collection of a swap's plan. What was there when the plan was made is written down, so that every later
// look at the server tells how far the swap has come.
type entry struct {
	Name string `json:"name"`
	// Stage is where the proven copy waits. Empty where the backup does not have the collection: it is set aside only.
	Stage     string `json:"stage,omitempty"`
	StageUUID string `json:"stageUUID,omitempty"`
	Old       string `json:"old"`     // where the live one goes
	HadLive   bool   `json:"hadLive"` // there was one
	LiveUUID  string `json:"liveUUID,omitempty"`
	// Vanished says that the live one went away before it was set aside, and not by the swap.
	Vanished bool `json:"vanished,omitempty"`
	// Back is where a roll-back puts what the swap has placed. Spare is where it puts what somebody else has created in
	// the meantime under the live name.
	Back  string `json:"back,omitempty"`
	Spare string `json:"spare,omitempty"`
}

// place is one name, as it was seen last.
type place struct {
	there bool
	uuid  string // empty where the server gives none
}

// is says whether the collection with this UUID stands there. known is false where the server gives no UUIDs.
func (p place) is(uuid string) (yes, known bool) {
	if !p.there {
		return false, true
	}
	if p.uuid == "" || uuid == "" {
		return false, false
	}
	return p.uuid == uuid, true
}

// seen is what stands under the names of one entry.
type seen struct {
	stage, old, live, back, spare place
}

// move is what is to be done next with an entry: a rename, or one of the two verdicts.
type move struct {
	from, to string
	done     bool
	vanished bool // the live one is gone, and nobody of ours has taken it
}

// forward is the state table of a swap: live is set aside first, then the staged copy takes its place. Every crash leaves
// one of these states, and each has one way on.
func (e entry) forward(s seen) (move, error) {
	if e.Stage == "" {
		return e.asideOnly(s)
	}
	if e.placed(s) {
		return move{done: true}, nil
	}
	if !s.stage.there {
		return move{}, &MissingError{e.Name, e.Stage, "is not there: the staging was removed; roll back, then stage again"}
	}
	if ours, known := s.stage.is(e.StageUUID); known && !ours {
		return move{}, &MissingError{e.Name, e.Stage, "is not the copy that was proven; roll back, then stage again"}
	}
	hadLive := e.HadLive && !e.Vanished
	switch {
	case s.live.there && hadLive && e.original(s):
		if s.old.there {
			return move{}, &BlockedError{e.Name, "cannot be set aside: " + e.Old + " exists already"}
		}
		return move{from: e.Name, to: e.Old}, nil
	case s.live.there:
		return move{}, &LiveReappearedError{Collection: e.Name, Old: e.oldIf(s)}
	case hadLive && !s.old.there:
		return move{vanished: true}, nil
	default:
		return move{from: e.Stage, to: e.Name}, nil
	}
}

// asideOnly is the state table of a collection that the backup does not have.
func (e entry) asideOnly(s seen) (move, error) {
	switch {
	case !s.live.there && !s.old.there && !e.Vanished:
		return move{vanished: true}, nil
	case !s.live.there:
		return move{done: true}, nil
	case !e.original(s) || s.old.there:
		return move{}, &LiveReappearedError{Collection: e.Name, Old: e.oldIf(s)}
	default:
		return move{from: e.Name, to: e.Old}, nil
	}
}

// backward is the state table of a roll-back: what was placed leaves the live name, then the original returns to it. What
// somebody else has created there is moved aside as well, never dropped.
func (e entry) backward(s seen) (move, error) {
	hadLive := e.HadLive && !e.Vanished
	if !hadLive {
		if e.Stage != "" && s.live.there && e.leaves(s) {
			return move{from: e.Name, to: e.Back}, nil
		}
		return move{done: true}, nil
	}
	switch {
	case s.live.there && !s.old.there:
		return e.withoutOld(s)
	case s.live.there && e.original(s):
		return move{done: true}, nil
	case s.live.there && e.leaves(s):
		return move{from: e.Name, to: e.Back}, nil
	case s.live.there && !s.spare.there:
		return move{from: e.Name, to: e.Spare}, nil
	case s.live.there:
		return move{}, &LiveReappearedError{Collection: e.Name, Old: e.Old}
	case s.old.there:
		return move{from: e.Old, to: e.Name}, nil
	default:
		return move{}, e.oldIsGone()
	}
}

// withoutOld is the part of the table in which nothing is set aside, and something stands under the live name.
func (e entry) withoutOld(s seen) (move, error) {
	yes, known := s.live.is(e.LiveUUID)
	ours, knowOurs := s.live.is(e.StageUUID)
	switch {
	case yes, !known && (e.Stage == "" || s.stage.there || s.back.there):
		return move{done: true}, nil
	case known && e.Stage != "" && knowOurs && !ours && s.stage.there:
		// Somebody has dropped the live one and made it anew, before it was set aside.
		return move{vanished: true}, nil
	case known && e.Stage == "":
		return move{vanished: true}, nil
	default:
		return move{}, e.oldIsGone()
	}
}

func (e entry) oldIsGone() error {
	return &MissingError{e.Name, e.Old, "is not there: what was set aside is gone; its documents are in the safety dump"}
}

// placed says whether the proven copy stands under the live name. Without UUIDs that follows from its stage being empty.
func (e entry) placed(s seen) bool {
	if yes, known := s.live.is(e.StageUUID); known {
		return yes
	}
	return !s.stage.there && (s.old.there || !e.HadLive || e.Vanished)
}

// original says whether what stands under the live name is what stood there when the plan was made.
func (e entry) original(s seen) bool {
	if yes, known := s.live.is(e.LiveUUID); known {
		return yes
	}
	return !s.old.there
}

// leaves says whether a roll-back takes what stands under the live name for what the swap has placed, and has where to put it.
func (e entry) leaves(s seen) bool {
	if e.Stage == "" || s.back.there {
		return false
	}
	if yes, known := s.live.is(e.StageUUID); known {
		return yes
	}
	return !s.stage.there
}

func (e entry) oldIf(s seen) string {
	if s.old.there {
		return e.Old
	}
	return ""
}
