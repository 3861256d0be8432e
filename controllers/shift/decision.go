package shift

import (
	"fmt"
	"time"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/metrics/analysis"
)

// Decision is what to do and why. Next must be persisted before anything of Desired is written: a process that dies between the
// two converges to Desired when it reads Next again.
type Decision struct {
	// Next is the state from here on.
	Next v1alpha1.State
	// Desired is the world that Next asks for.
	Desired Desired
	// Reason and Message say why the shift is where it is; the message carries the numbers.
	Reason, Message string
	// Verdicts are what the gates say of the evidence so far.
	Verdicts []analysis.Verdict
	// Ended is set when a release has just come to its end.
	Ended *v1alpha1.Outcome
	// RequeueAfter is when to look again if nothing happens before; 0 is never.
	RequeueAfter time.Duration
}

// String is for logs and transcripts.
func (d Decision) String() string {
	return fmt.Sprintf("%s/%s stable=%s candidate=%s weight=%s %s: %s",
		d.Next.Phase, d.Next.Stage, d.Next.Stable, d.Next.Candidate, d.Next.Weight, d.Reason, d.Message)
}

// Desired is the world that a state asks for. controllers/plan turns it into objects, in the order that the mesh needs.
type Desired struct {
	// Record is a version whose template is still to be recorded from the live Deployment.
	Record string
	// Verdicts are what the records of versions should say of how they fared.
	Verdicts map[string]string
	// Scales are the versions whose Deployments should exist, with their replicas.
	Scales []Scale
	// Prune are old versions whose record and Deployment may go.
	Prune []string
	// Mesh is whether the DestinationRule, and the Gateway and Service where needed, should exist.
	Mesh bool
	// Subsets are the versions that the DestinationRule names.
	Subsets []string
	// Routes are the destinations of every VirtualService; empty leaves the VirtualServices as they are.
	Routes []Route
	// Bare routes the service without subsets: it is being handed back.
	Bare bool
	// Unroute removes the VirtualServices that Sluice alone needs, and the DestinationRule.
	Unroute bool
	// Release takes every mark off the Deployment.
	Release bool
	// Template is what the annotated Deployment should be scaled to; nil leaves it alone. Held is whether it bears the mark.
	Template *int32
	Held     bool
}

// Scale is the size of a version's Deployment.
type Scale struct {
	Version  string
	Replicas int32
}
