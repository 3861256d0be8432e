// Package shift decides. It is the state machine of a TrafficShift: given what the owner asks for, what must not be forgotten and
// what the world looks like, Decide says what comes next and why.
//
// The package is pure: no client, context, logger, recorder, goroutine, global, clock or randomness. The present time is part of
// the observation. Where a weight is decided: progress.go and rollback.go. Where the objects that carry it are made:
// controllers/plan. Where they are written: controllers/trafficshift.
package shift

import (
	"slices"
	"time"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/metrics/analysis"
)

// Observation is the world as read in one pass, detached from every cache.
type Observation struct {
	// Now is when the world was read.
	Now time.Time
	// Timing are the mesh's own delays.
	Timing Timing
	// Problems stand in the way of touching any traffic. They come from preflight, most blocking first.
	Problems []Problem
	// Template is the annotated Deployment.
	Template Template
	// NextVersion is the first version name that is free ("v4").
	NextVersion string
	// Versions are the recorded or running versions.
	Versions []Version
	// Tables are the VirtualServices that must carry the weights: one for the mesh, one more where hosts are asked for.
	Tables []Table
	// Subsets are the versions that the DestinationRule names. Rule is whether it exists.
	Subsets []string
	Rule    bool
	// Replicas is how many pods carry all of the traffic.
	Replicas int32
	// Connections says that users are counted by the connections that they make: no port of the service is HTTP, and nothing is known of what
	// is said in a connection, or of how long that takes.
	Connections bool
	// Evidence is what Prometheus counted since state.gate.countedTo.
	Evidence Evidence
	// Checks are the latest readings of the owner's own gates that are asked outside: queries and webhooks.
	Checks []Check
	// Intents and Requests are what a person asks for. ResumedBy is who last wrote a field that pauses, by where it stands, where that is
	// known.
	Intents   Intents
	Requests  []Request
	ResumedBy map[v1alpha1.Source]string
	// Turn is what the ShiftPolicy says of this moment.
	Turn Turn
}

// Timing are the mesh's own delays, the same for every shift of a cluster.
type Timing struct {
	// Settle is how long a written route or subset takes to reach every proxy.
	Settle time.Duration
	// Drain is how long requests in flight may take to end after a version's weight became 0.
	Drain time.Duration
	// Scrape is Prometheus' scrape interval: evidence never comes faster.
	Scrape time.Duration
}

// Problem is something that stands in the way, with its remedy in the message.
type Problem struct{ Reason, Message string }

// Template is the annotated Deployment.
type Template struct {
	// Exists is whether it is there and not being deleted.
	Exists bool
	// UID tells it from one of the same name that was there before.
	UID string
	// Replicas is spec.replicas; Available are its own pods; Settled is whether its own rollout has ended.
	Replicas, Available int32
	Settled             bool
	// Held is whether it carries the mark sluice.dev/held.
	Held bool
	// Paused is whether its own spec.paused is set (kubectl rollout pause), which pauses the shift. Name is for who is to resume it.
	Paused bool
	Name   string
	// Generation tells one write of it from the next.
	Generation int64
	// HistoryLimit is how many versions that are out of use are kept.
	HistoryLimit int
	// Version is the recorded version whose template it equals, or empty.
	Version string
	// Changed is what of its configuration ("ConfigMap/settings") has changed under the stable version, where that is tracked.
	Changed []string
}

// Version is one recorded or running version.
type Version struct {
	Name string
	// Recorded is whether its template is kept in a ControllerRevision; Verdict is how that says it fared, and Proven whether that is that it
	// was the stable version once.
	Recorded, Proven bool
	Verdict          string
	// RestartedAt is when its pods were last replaced, as its Deployment says.
	RestartedAt string
	// Unaddressed is whether the Service of its own, which it is to have while it has a subset, is not there.
	Unaddressed bool
	// Previewed is whether a preview's host of its own leads to it.
	Previewed bool
	// Exists is whether its Deployment does; Replicas, Ready and Available are that Deployment's. Its template never changes, so its
	// counts speak of this version even while it is being scaled.
	Exists                     bool
	Replicas, Ready, Available int32
	// Restarts is the highest restart count of its pods.
	Restarts int32
	// Waiting is why a container of it cannot start ("ImagePullBackOff"), or empty.
	Waiting string
}

// Table is the routes of one VirtualService.
type Table struct {
	Name   string
	Exists bool
	// Unread is whether it could not be read: its Routes are then nearly everything for any version that has a subset, which nobody has seen.
	Unread bool
	// Routes are its destinations, the same for every port; Bare is set where it names the service without a subset.
	Routes []Route
	Bare   bool
	// Matched is the version that the requests of a match rule go to, Mirrored the one that gets copies and of what share; empty where
	// there is no such rule.
	Matched  string
	Mirrored Copies
}

// Copies are what a version gets of requests that another one answers: a share of all of them, or of those that match.
type Copies struct {
	Route
	Matching bool
}

// Route is one weighted destination.
type Route struct {
	Version string
	Weight  v1alpha1.Permille
}

// Evidence is a sample, or why there is none.
type Evidence struct {
	// Available is whether Sample holds anything. Missing says why not, and Reason in one word.
	Available       bool
	Sample          analysis.Sample
	Missing, Reason string
	// History is the stable version's last hour, a scrape apart, oldest first: what the gates learn its usual rate and its bursts from.
	// It is read once, before the first weight.
	History []analysis.Sample
}

// Check is the latest reading of one gate that is asked outside.
type Check struct {
	// Gate is its name; ReadAt tells one reading from the next.
	Gate   string
	ReadAt time.Time
	// Outcome is what the reading says: Pass, Fail (out of bounds, or refused) or Inconclusive (no data, or told to wait).
	Outcome analysis.Outcome
	// Value and Limit are the numbers compared, NaN where there is none.
	Value, Limit float64
	// Message says what was read: "0.93, below the least of 0.95".
	Message string
}

// Intents are what a person asks for on the TrafficShift for as long as it stands there. What is asked for once is a Request.
type Intents struct {
	// Detach hands the service back; Force does so although the template is not the stable version.
	Detach, Force bool
}

// version returns what is known of a version; the zero Version where nothing is.
func (o *Observation) version(name string) Version {
	for _, v := range o.Versions {
		if v.Name == name {
			return v
		}
	}
	return Version{Name: name}
}

// weights returns a version's weight in every table, lowest and highest; listed is whether any table names it, routed whether
// every table exists and names it.
func (o *Observation) weights(name string) (low, high v1alpha1.Permille, listed, routed bool) {
	low, routed = v1alpha1.Whole, len(o.Tables) > 0
	for _, t := range o.Tables {
		i := slices.IndexFunc(t.Routes, func(r Route) bool { return r.Version == name })
		if i < 0 {
			low, routed = 0, false
			continue
		}
		listed = true
		low, high = min(low, t.Routes[i].Weight), max(high, t.Routes[i].Weight)
	}
	if !listed {
		low = 0
	}
	return low, high, listed, routed
}

// unread names the tables that could not be read.
func (o *Observation) unread() []string {
	var names []string
	for _, t := range o.Tables {
		if t.Unread {
			names = append(names, t.Name)
		}
	}
	return names
}

// has is the most that a version is known to have: what the tables say that were read, and where one was not, what the state says.
func (o *Observation) has(version string, s v1alpha1.State) v1alpha1.Permille {
	read := Observation{Tables: slices.DeleteFunc(slices.Clone(o.Tables), func(t Table) bool { return t.Unread })}
	_, high, _, _ := read.weights(version)
	if len(read.Tables) < len(o.Tables) && version == s.Candidate {
		high = max(high, s.Weight)
	}
	return high
}

// lowest is the least weight that a version has in the tables that exist; the whole where none does: a table that is gone, or one
// that a new host has just asked for, is written, and speaks of nobody's wish.
func (o *Observation) lowest(name string) v1alpha1.Permille {
	low := v1alpha1.Whole
	for _, t := range o.Tables {
		if !t.Exists {
			continue
		}
		w := v1alpha1.Permille(0)
		for _, r := range t.Routes {
			if r.Version == name {
				w = r.Weight
			}
		}
		low = min(low, w)
	}
	return low
}

// carries reports whether every table gives the candidate exactly weight w, and stable the rest.
func (o *Observation) carries(stable, candidate string, w v1alpha1.Permille) bool {
	low, high, _, routed := o.weights(stable)
	if !routed || low != high || high != v1alpha1.Whole-w {
		return false
	}
	low, high, _, routed = o.weights(candidate)
	return w == 0 && high == 0 || routed && low == w && high == w
}

// without names the tables that do not give the candidate exactly weight w, and stable the rest.
func (o *Observation) without(stable, candidate string, w v1alpha1.Permille) []string {
	var names []string
	for _, t := range o.Tables {
		one := Observation{Tables: []Table{t}}
		if !one.carries(stable, candidate, w) {
			names = append(names, t.Name)
		}
	}
	return names
}

// shows reports whether every table sends matching requests to one version and copies to another, and to no others; an empty one is nobody.
func (o *Observation) shows(matched string, mirrored Copies) bool {
	return !slices.ContainsFunc(o.Tables, func(t Table) bool { return t.Matched != matched || t.Mirrored != mirrored })
}

// reaches reports whether any table sends matching requests, or copies, to a version.
func (o *Observation) reaches(name string) bool {
	return name != "" && slices.ContainsFunc(o.Tables, func(t Table) bool { return t.Matched == name || t.Mirrored.Version == name })
}

// hides reports whether a table that exists has lost the rule that sends matching requests, or copies, to a version; nobody has none to lose.
func (o *Observation) hides(matched, mirrored string) bool {
	return slices.ContainsFunc(o.Tables, func(t Table) bool {
		return t.Exists && (matched != "" && t.Matched != matched || mirrored != "" && t.Mirrored.Version != mirrored)
	})
}

// noTables reports whether no VirtualService of ours is left, and no route of anybody's that names a version, or may.
func (o *Observation) noTables() bool {
	return !slices.ContainsFunc(o.Tables, func(t Table) bool { return t.Exists || len(t.Routes) > 0 })
}

// bare reports whether every VirtualService names the service without subsets.
func (o *Observation) bare() bool {
	return !slices.ContainsFunc(o.Tables, func(t Table) bool { return !t.Exists || !t.Bare })
}
