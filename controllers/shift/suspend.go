package shift

import (
	"fmt"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// Suspended reports whether nothing at all is to be written for a shift. Handing the service back is the one thing that is done all the
// same: who deletes the TrafficShift must not wait for ever.
func Suspended(spec v1alpha1.TrafficShiftSpec, obs Observation) bool {
	return spec.Suspend && !obs.Intents.Detach
}

func (p *pass) suspended() bool { return Suspended(p.spec, p.obs) }

// suspend leaves everything as it stands, and says so to whoever asks for something: nobody is to find out later that it was kept. Only the
// deadline's clock stops, so that resuming does not find it run out.
func (p *pass) suspend() Decision {
	p.stopWaiting()
	p.next.WaitingSince = nil // others need not wait for it
	p.answer()
	what := "nothing is started"
	if c := p.next.Candidate; c != "" {
		what = fmt.Sprintf("%s stays at %s and is not taken back either, whatever it does and whoever aborts it", c, Share(p.next))
	}
	return Decision{
		Next: p.next, Current: current(p.next, p.obs.Template), Reason: v1alpha1.ReasonSuspended, Actions: p.actions,
		Message: fmt.Sprintf("suspended by its owner: nothing is written, and %s; it goes on from here when spec.suspend is unset", what),
	}
}
