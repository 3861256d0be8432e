package shift

import (
	"fmt"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

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
	// Current is whether one version has all the traffic, and is the one that the template asks for.
	Current bool
	// Reason and Message say why the shift is where it is; the message carries the numbers.
	Reason, Message string
	// Until is when what Message waits for is over by itself, or the candidate is given up; zero where no clock says so.
	Until time.Time
	// Verdicts are what the gates say of the evidence so far.
	Verdicts []analysis.Verdict
	// Ended is set when a release has just come to its end.
	Ended *v1alpha1.Outcome
	// Arrived is set when a step that the candidate has taken was just read back: what was decided before is so from now on.
	Arrived *Arrival
	// Actions are the requests that were just answered.
	Actions []v1alpha1.ActionRecord
	// RequeueAfter is when to look again if nothing happens before; 0 is never.
	RequeueAfter time.Duration
}

// Arrival is a step up: from a weight to a place, "5%", "5% and its match" or "its match".
type Arrival struct {
	From  v1alpha1.Permille
	Place string
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
	// Match sends the requests that its rules match to one version, whatever the weights say; nil sends none.
	Match *Match
	// Mirror copies requests to a version; nil copies none.
	Mirror *Mirror
	// Sessions are the cookies that keep users on versions; nil where nobody is kept, and cookies left over are taken away.
	Sessions *Sessions
	// Preview is the version that is shown to whoever asks for the preview: the candidate, once its address leads there, or else stable;
	// empty leaves the preview as it is.
	Preview string
	// Previews are the versions that their own preview hosts lead to, where each has one.
	Previews []string
	// Bare routes the service without subsets: it is being handed back.
	Bare bool
	// Unroute removes the VirtualServices that Sluice alone needs, and the DestinationRule.
	Unroute bool
	// Release takes every mark off the Deployment.
	Release bool
	// Undo is the version whose template the annotated Deployment should have again; empty leaves it alone.
	Undo string
	// Restart is a version whose pods are to be replaced; nil replaces none.
	Restart *Restart
	// Autoscaler is whether the TrafficShift is what is scaled now: an autoscaler that follows the Deployment's belongs there.
	Autoscaler bool
	// Still is whether what scales the Deployment by itself is to be kept from doing so: from when the Deployment is about to be held until
	// its own pods have all the traffic again.
	Still bool
	// Template is what the annotated Deployment should be scaled to; nil leaves it alone. Held is whether it bears the mark.
	Template *int32
	Held     bool
}

// Match is a group of requests and the version that answers them. Rules are Istio's own HTTPMatchRequests: any of them.
type Match struct {
	Version string
	Rules   []apiextensionsv1.JSON
}

// Mirror copies the share of requests that its weight says to its version: of those that its rules match, or of all where it has none.
type Mirror struct {
	Route
	Rules []apiextensionsv1.JSON
}

// Sessions are the cookies that were given out while a candidate is on its way. The value of one names the version that its bearer is
// kept on, the epoch, and the candidate's weight when it was given.
//
// With a weight raised from w to w2, bearers of a stable cookie given at w are drawn anew, and (w2-w)/(1-w) of them become the
// candidate's: so each user stays or moves once, and the candidate's share of the users is w2, whoever has come back how often. A
// weight lowered begins a new epoch, whose cookies alone count.
type Sessions struct {
	// Stable and Candidate are the versions that users are kept on.
	Stable, Candidate string
	Epoch             int32
	// Given are the weights of this epoch, in rising order, the present one last.
	Given []v1alpha1.Permille
}

// Restart replaces a version's pods. At tells it from the restart before.
type Restart struct{ Version, At string }

// Scale is the size of a version's Deployment.
type Scale struct {
	Version  string
	Replicas int32
}
