package workflows

import (
	"time"

	"github.com/battwheels/runbook/internal/estimate"
)

// phaseOf says which phase of a recovery a step of a restore is, for those whose duration tells something of the next one. People's
// time is in none of them.
var phaseOf = map[string]estimate.Phase{
	stepEmergency: estimate.Dump,
	stepChoose:    estimate.Check,
	stepStage:     estimate.Stage,
	stepProve:     estimate.Prove,
	stepApprove:   estimate.Plan, // the drawing of it
	stepStop:      estimate.Stop,
	stepSafety:    estimate.Safety,
	stepSwap:      estimate.Swap,
	stepVerify:    estimate.Verify,
	stepMerge:     estimate.Merge,
	stepStart:     estimate.Start,
}

// timed notes how long the attempt of a step took that succeeded, in place of an earlier one. The safety dump and the second count
// after it are one phase.
func timed(took []estimate.Took, step string, d time.Duration) []estimate.Took {
	phase, ok := phaseOf[step]
	if !ok {
		return took
	}
	for i := range took {
		switch {
		case took[i].Phase != phase:
		case phase == estimate.Safety:
			took[i].Seconds += d.Seconds()
			return took
		default:
			took[i].Seconds = d.Seconds()
			return took
		}
	}
	return append(took, estimate.Took{Phase: phase, Seconds: d.Seconds()})
}
