package simulation

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/controllers/shift"
	"github.com/sluice-dev/sluice/metrics/analysis"
)

// sluice is Sluice itself: shift.Decide, pass by pass, with its defaults.
type sluice struct {
	// ladder asks for the fixed ladder.
	ladder bool
	// serialized has the state go through JSON between two passes, as it goes through the status of a TrafficShift.
	serialized bool
	// watch, where set, sees every decision.
	watch func(second int, d shift.Decision)
}

const (
	stableVersion    = "v1"
	candidateVersion = "v2"
	// pastScrapes is an hour of them.
	pastScrapes = 240
	// prepare is more than a candidate needs to get its first weight: one that has none by then never gets one.
	prepare = 600
)

// decide is the one place where the product is called.
func decide(spec v1alpha1.TrafficShiftSpec, state v1alpha1.State, obs shift.Observation) (shift.Decision, error) {
	return shift.Decide(spec, state, obs)
}

// spec is what the owner of the service asks for: nothing but the defaults.
func (s sluice) spec() v1alpha1.TrafficShiftSpec {
	replicas := int32(pods)
	spec := v1alpha1.TrafficShiftSpec{Replicas: &replicas, Pacing: v1alpha1.PacingAuto}
	if s.ladder {
		spec.Pacing = v1alpha1.PacingLadder
	}
	spec.Default()
	return spec
}

// release lets Sluice find a new template on its Deployment, and watches it until nothing more can happen.
func (s sluice) release(w *world) (Result, error) {
	c := newCluster(w, s.spec())
	var promoted *Result
	for ; ; w.runTo(w.now + look) {
		switch {
		case w.origin < 0 && w.now > prepare:
			return Result{}, fmt.Errorf("%s: no first weight after %d seconds: %s", w.scenario, w.now, c.last.Message)
		case w.origin >= 0 && w.elapsed() >= Horizon:
			return ended(w, promoted), nil
		}
		d, err := c.pass(s.serialized)
		if err != nil {
			return Result{}, fmt.Errorf("%s: second %d: %w", w.scenario, w.now, err)
		}
		if s.watch != nil {
			s.watch(w.elapsed(), d)
		}
		switch {
		case d.Next.Phase == v1alpha1.PhaseRollingBack || d.Next.Phase == v1alpha1.PhaseFailed:
			return rollBack(w), nil
		case d.Next.Stage == v1alpha1.StageBaking && promoted == nil:
			promoted = &Result{Decision: Promoted, Seconds: w.elapsed(), Leaked: w.leaked}
		case d.Next.Stable == candidateVersion:
			return ended(w, promoted), nil
		}
		c.write(d.Desired)
	}
}

// ended is a release that nobody takes back any more.
func ended(w *world, promoted *Result) Result {
	if promoted == nil {
		return undecided(w)
	}
	promoted.Hour = w.leaked + w.rest()
	return *promoted
}

// cluster is what Sluice sees of the world: objects that are what it wrote last, pods that are ready at once, and a Prometheus that
// shows the counters as of the last scrape.
type cluster struct {
	world   *world
	spec    v1alpha1.TrafficShiftSpec
	state   v1alpha1.State
	history []analysis.Sample

	recorded bool
	replicas int32
	subsets  []string
	routes   []shift.Route

	last shift.Decision
}

func newCluster(w *world, spec v1alpha1.TrafficShiftSpec) *cluster {
	c := &cluster{
		world: w, spec: spec, subsets: []string{stableVersion}, routes: []shift.Route{{Version: stableVersion, Weight: v1alpha1.Whole}},
		state: v1alpha1.State{Phase: v1alpha1.PhaseStable, Stable: stableVersion, LastVersion: 1, TemplateUID: "template"},
	}
	for i, counts := range w.history(pastScrapes) {
		at := (i - pastScrapes) * scrape
		c.history = append(c.history, analysis.Sample{
			From: clock(at), To: clock(at + scrape), Newest: clock(at + scrape), Reporter: analysis.Source, Stable: counts,
		})
	}
	return c
}

// clock is a time on the wall.
func clock(second int) time.Time {
	return time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC).Add(time.Duration(second) * time.Second)
}

// pass lets Sluice look once.
func (c *cluster) pass(serialized bool) (shift.Decision, error) {
	d, err := decide(c.spec, c.state, c.observe())
	if err != nil {
		return d, err
	}
	c.state, c.last = d.Next, d
	if serialized {
		c.state, err = serialize(d.Next)
	}
	return d, err
}

// serialize takes a state through JSON and back.
func serialize(s v1alpha1.State) (v1alpha1.State, error) {
	raw, err := json.Marshal(s)
	if err != nil {
		return s, err
	}
	var back v1alpha1.State
	return back, json.Unmarshal(raw, &back)
}

func (c *cluster) observe() shift.Observation {
	template := shift.Template{Exists: true, UID: "template", Held: true, Settled: true, Generation: 1, HistoryLimit: 10}
	versions := []shift.Version{{
		Name: stableVersion, Recorded: true, Proven: true, Exists: true, Replicas: pods, Ready: pods, Available: pods,
	}}
	next := candidateVersion
	if c.recorded {
		template.Version, next = candidateVersion, "v3"
		versions = append(versions, shift.Version{
			Name: candidateVersion, Recorded: true, Exists: c.replicas > 0, Replicas: c.replicas, Ready: c.replicas, Available: c.replicas,
		})
	}
	return shift.Observation{
		Now:      clock(c.world.now),
		Timing:   shift.Timing{Settle: 5 * time.Second, Drain: 30 * time.Second, Scrape: scrape * time.Second},
		Template: template, NextVersion: next, Versions: versions, Replicas: pods,
		Tables: []shift.Table{{Name: "mesh", Exists: true, Routes: c.routes}}, Subsets: c.subsets, Rule: true,
		Evidence: c.evidence(),
	}
}

// evidence is what a collector that looks all the time has counted since the state's last count: the counters stand still between
// two scrapes.
func (c *cluster) evidence() shift.Evidence {
	if c.state.Candidate == "" || c.state.Phase != v1alpha1.PhaseProgressing {
		return shift.Evidence{Missing: "no candidate is being judged"}
	}
	now, from := c.world.now, c.world.now
	if to := c.state.Gate.CountedTo; to != nil {
		from = int(to.Sub(clock(0)) / time.Second)
	}
	latest := c.world.seen(now)
	counted := latest.count.minus(c.world.seen(from).count)
	e := shift.Evidence{Available: true, Sample: analysis.Sample{
		From: clock(from), To: clock(now), Newest: clock(latest.at), Reporter: analysis.Source,
		Candidate: counted.candidate, Stable: counted.stable,
	}}
	if c.state.Gate.Memory == nil {
		e.History = c.history
	}
	return e
}

// write does what a decision asks for. It is read back on the next pass.
func (c *cluster) write(d shift.Desired) {
	c.recorded = c.recorded || d.Record == candidateVersion
	for _, s := range d.Scales {
		if s.Version == candidateVersion && c.recorded {
			c.replicas = s.Replicas
		}
	}
	if d.Mesh {
		c.subsets = d.Subsets
	}
	if len(d.Routes) == 0 {
		return
	}
	before := c.weight()
	c.routes = d.Routes
	if after := c.weight(); after != before {
		c.world.route(float64(after) / float64(v1alpha1.Whole))
	}
}

// weight is what the routes give the candidate.
func (c *cluster) weight() v1alpha1.Permille {
	for _, r := range c.routes {
		if r.Version == candidateVersion {
			return r.Weight
		}
	}
	return 0
}
