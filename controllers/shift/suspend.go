package shift

import (
	"fmt"
	"time"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// Suspended reports whether nothing at all is to be written for a shift. Handing the service back is the one thing that is done all the
// same: who deletes the TrafficShift must not wait for ever.
func Suspended(spec v1alpha1.TrafficShiftSpec, obs Observation) bool {
	return spec.Suspend && !obs.Intents.Detach
}

// suspend leaves everything as it stands. Only the deadline's clock stops, so that resuming does not find it run out.
func suspend(state v1alpha1.State, now time.Time) Decision {
	p := &pass{next: *state.DeepCopy(), obs: Observation{Now: now}}
	p.stopWaiting()
	p.next.WaitingSince = nil // others need not wait for it
	what := "nothing is started"
	if c := state.Candidate; c != "" {
		what = fmt.Sprintf("%s stays at %s and is not taken back either, whatever it does and whoever aborts it", c, state.Weight)
	}
	return Decision{
		Next: p.next, Reason: v1alpha1.ReasonSuspended,
		Message: fmt.Sprintf("suspended by its owner: nothing is written, and %s; it goes on from here when spec.suspend is unset", what),
	}
}
